//! Write waterfall: where the time of a request goes, stage by stage.

use super::board::{Board, Row, lines, max, mean, observed, quantile, rate, row, stacked, sum};

pub fn board() -> Board {
    Board {
        id: "waterfall",
        title: "Write waterfall",
        about: "Where the time of a produce or fetch request goes, from its last byte \
                 in to its reply's last byte out.",
        rows: vec![produce(), below_it(), to_the_other_brokers(), fetch()],
    }
}

fn produce() -> Row {
    row(
        "Produce",
        vec![
            stacked(
                "Produce, mean time by stage",
                "The stages of a produce request, which add up to its whole: the \
                 thickest is where to look.",
            )
            .of("{{stage}}", mean("glasslog_produce_stage_seconds", "stage")),
            lines(
                "Produce, 99th percentile by stage",
                "The slow ones, stage by stage: fsync is the disk, replicate the network \
                 or a follower, queue an overloaded shard.",
            )
            .of("{{stage}}", quantile(99, "glasslog_produce_stage_seconds", "stage")),
            lines(
                "Produce, whole",
                "Half of the requests, and 99 of 100, are faster than this: the points \
                 lead to traces.",
            )
            .of("p50", quantile(50, "glasslog_kafka_request_seconds{api=\"Produce\"}", ""))
            .of("p99", quantile(99, "glasslog_kafka_request_seconds{api=\"Produce\"}", "")),
            lines(
                "Produce in flight",
                "Produce requests by the stage they are in: they pile up before whatever \
                 is slow.",
            )
            .of("{{stage}}", sum("glasslog_inflight{stage=~\"produce_.*\"}", "stage")),
            lines(
                "Oldest produce in flight",
                "Age of the oldest: a slope of 45 degrees is a request that hangs.",
            )
            .of(
                "{{stage}}",
                max("glasslog_inflight_oldest_seconds{stage=~\"produce_.*\"}", "stage"),
            ),
            lines(
                "Batches sent twice",
                "Batches that were answered from memory since their producer had sent \
                 them before: retries after slow or lost replies.",
            )
            .of("{{instance}}", rate("glasslog_duplicate_batches_total", "instance")),
        ],
    )
}

fn below_it() -> Row {
    row(
        "Below it",
        vec![
            lines("Sync of the journal", "Time of an fdatasync: what acks=all can at best be.")
                .of(
                    "{{instance}} p50",
                    quantile(50, "glasslog_journal_op_seconds{op=\"sync\"}", "instance"),
                )
                .of(
                    "{{instance}} p99",
                    quantile(99, "glasslog_journal_op_seconds{op=\"sync\"}", "instance"),
                ),
            lines(
                "Writes that one sync made durable",
                "Mean number of groups' writes in one sync: it rises under load, which \
                 is what keeps latency flat.",
            )
            .of("{{instance}}", mean("glasslog_journal_group_commit_batches", "instance")),
            lines(
                "A shard's steps, 99th percentile",
                "Time of one input through a shard, by kind: above some milliseconds \
                 everything behind it waits.",
            )
            .of("{{input}}", quantile(99, "glasslog_step_seconds", "input")),
            lines(
                "Inputs a turn",
                "Mean number of inputs that a shard took at once: at 256 it is full.",
            )
            .of("{{instance}}", mean("glasslog_turn_inputs", "instance")),
            lines("Turns", "Turns of the shards a second.")
                .of("{{instance}}", observed("glasslog_turn_inputs", "instance")),
        ],
    )
}

fn to_the_other_brokers() -> Row {
    row(
        "To the other brokers",
        vec![
            lines(
                "Bytes between brokers",
                "Bytes sent and received by lane: bulk without control is a lane that is \
                 blocked.",
            )
            .of("sent {{lane}}", rate("glasslog_peer_sent_bytes_total", "lane"))
            .of("received {{lane}}", rate("glasslog_peer_received_bytes_total", "lane")),
            lines(
                "Envelopes between brokers",
                "Envelopes sent by lane: each is one write to a socket.",
            )
            .of("{{lane}}", rate("glasslog_peer_envelopes_sent_total", "lane")),
            lines(
                "Waiting for other brokers",
                "Bytes that wait for a peer: they rise when it, or the network to it, is \
                 slow.",
            )
            .of("{{instance}} {{lane}}", sum("glasslog_peer_queue_bytes", "instance, lane")),
            lines(
                "Messages dropped",
                "Messages to peers that were dropped and will be sent again: a lasting \
                 level is a peer that is gone or too slow.",
            )
            .of(
                "{{instance}} {{lane}} {{why}}",
                format!("{} > 0", rate("glasslog_peer_dropped_total", "instance, lane, why")),
            ),
        ],
    )
}

fn fetch() -> Row {
    row(
        "Fetch",
        vec![
            stacked(
                "Fetch, mean time by stage",
                "The stages of a fetch request: wait is a long poll and no fault.",
            )
            .of("{{stage}}", mean("glasslog_fetch_stage_seconds", "stage")),
            lines(
                "Fetch, 99th percentile by stage",
                "The slow ones: read is the disk, send the client or the network.",
            )
            .of("{{stage}}", quantile(99, "glasslog_fetch_stage_seconds", "stage")),
            lines(
                "Long polls that wait",
                "Fetches that wait for bytes or their deadline: as many as there are \
                 idle consumers.",
            )
            .of("{{instance}}", sum("glasslog_fetch_waiters", "instance")),
            lines(
                "Fetch reads, by source",
                "Reads for fetches: segment instead of tail_cache means that consumers \
                 are behind.",
            )
            .of("{{source}}", rate("glasslog_fetch_reads_total", "source")),
            lines(
                "Fetch bytes, by source",
                "Bytes read for fetches: what comes from segments competes with the \
                 journal for the disk.",
            )
            .of("{{source}}", rate("glasslog_fetch_read_bytes_total", "source")),
        ],
    )
}
