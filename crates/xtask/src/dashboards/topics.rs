//! Topics and groups: what clients made, what it costs, and which replicas need somebody.

use super::board::{Board, Row, lines, max, rate, row, stacked, sum};
use super::unit::Unit;

/// Requests that change what there is.
const ADMINISTRATORS: &str = "glasslog_kafka_requests_total{api=~\"CreateTopics|DeleteTopics|\
                              CreatePartitions|IncrementalAlterConfigs|DeleteRecords\"}";

pub fn board() -> Board {
    Board {
        id: "topics",
        title: "Topics and groups",
        about: "Partitions, consumer groups, and which replicas need somebody. Topics and \
                 groups without a series of their own are together in __other__.",
        rows: vec![
            partitions(),
            by_name(),
            consumer_groups(),
            replicas_in_trouble(),
            clients_at_the_door(),
        ],
    }
}

fn partitions() -> Row {
    let records = rate("glasslog_records_in_total", "instance");
    let batches = rate("glasslog_batches_in_total", "instance");
    row(
        "Partitions",
        vec![
            lines(
                "Partitions",
                "Partitions that the cluster's metadata knows: brokers that differ for \
                 long have not heard the news.",
            )
            .of("{{instance}}", max("glasslog_partitions", "instance")),
            stacked(
                "Groups served",
                "Groups that each broker leads and serves: they should be spread \
                 evenly.",
            )
            .of("{{instance}}", sum("glasslog_groups_serving", "instance")),
            stacked(
                "Bytes in, by broker",
                "Bytes of batches that each broker took: one far above the others leads \
                 the busiest partitions.",
            )
            .of("{{instance}}", rate("glasslog_bytes_in_total", "instance")),
            stacked("Bytes out, by broker", "Bytes of batches that each broker sent to consumers.")
                .of("{{instance}}", rate("glasslog_bytes_out_total", "instance")),
            lines(
                "Records in a batch",
                "Mean number of records of a batch: near 1, clients should linger.",
            )
            .of("{{instance}}", format!("{records} / {batches}"))
            .unit(Unit::Count),
            lines(
                "Requests of administrators",
                "Topics and configurations that are made and changed.",
            )
            .of("{{api}}", rate(ADMINISTRATORS, "api")),
        ],
    )
}

/// Lines of one panel: as many as somebody can tell apart.
fn top(expr: String) -> String {
    format!("topk(10, {expr})")
}

fn by_name() -> Row {
    row(
        "By name",
        vec![
            lines(
                "Lag of consumer groups",
                "Records that the groups with most of them have not committed: a line that \
                 only rises is a group that stands still or is too slow. Partitions whose end \
                 nobody tells are missing in it.",
            )
            .of("{{group}}", top(max("glasslog_consumer_group_lag_records", "group")))
            .of(
                "{{group}}, worst partition",
                top(max("glasslog_consumer_group_lag_records_max", "group")),
            )
            .of(
                "{{instance}} partitions without an end",
                format!("{} > 0", max("glasslog_consumer_group_unknown_partitions", "instance")),
            ),
            lines(
                "Bytes of the busiest topics",
                "Bytes of batches that producers brought and consumers took.",
            )
            .of("{{topic}} in", top(rate("glasslog_topic_bytes_in_total", "topic")))
            .of("{{topic}} out", top(rate("glasslog_topic_bytes_out_total", "topic"))),
            lines(
                "Records and errors of the busiest topics",
                "Records that producers brought, and error codes in replies: errors of one \
                 topic only are its clients'.",
            )
            .of("{{topic}}", top(rate("glasslog_topic_records_in_total", "topic")))
            .of(
                "{{topic}} errors",
                format!("{} > 0", top(rate("glasslog_topic_errors_total", "topic"))),
            ),
        ],
    )
}

fn consumer_groups() -> Row {
    row(
        "Consumer groups",
        vec![
            lines(
                "Rebalances, by why",
                "Rebalances that began: session_expired and not_synced are members that \
                 died or are too slow.",
            )
            .of("{{why}}", rate("glasslog_group_rebalances_total", "why")),
            lines(
                "Rebalances begun and ended",
                "A gap between the two is a group that does not come to rest.",
            )
            .of("begun", rate("glasslog_group_rebalances_total", ""))
            .of("ended", rate("glasslog_group_rebalances_ended_total", "")),
            lines(
                "Members that fell silent",
                "Members whose session ran out: their consumers died, or work longer \
                 than they said.",
            )
            .of("{{instance}}", rate("glasslog_group_sessions_expired_total", "instance")),
            lines(
                "Offsets",
                "Offsets committed, and forgotten after their retention: no commits \
                 while consumers read will be read again after a restart.",
            )
            .of("committed", rate("glasslog_group_offsets_committed_total", ""))
            .of("expired", rate("glasslog_group_offsets_expired_total", "")),
        ],
    )
}

fn replicas_in_trouble() -> Row {
    row(
        "Replicas in trouble",
        vec![
            lines(
                "Replicas that need somebody",
                "Suspect replicas neither vote nor lead, quarantined ones were given up, \
                 held ones stopped before an entry: never above 0 for long.",
            )
            .of("{{instance}} suspect", max("glasslog_groups_suspect", "instance"))
            .of("{{instance}} quarantined", max("glasslog_groups_quarantined", "instance"))
            .of("{{instance}} held", max("glasslog_groups_held", "instance")),
            lines(
                "Turned suspect, by reason",
                "Why replicas stopped trusting their memory, since the broker's start, where \
                 most of it is found: damage is a disk.",
            )
            .of(
                "{{instance}} {{reason}}",
                format!("{} > 0", sum("glasslog_groups_suspected_total", "instance, reason")),
            ),
            lines(
                "Healed and rebuilt",
                "Replicas replaced by new ones, and groups rebuilt from the journal \
                 after a panic, since their brokers' starts.",
            )
            .of("healed", sum("glasslog_groups_healed_total", ""))
            .of("rebuilt", sum("glasslog_groups_rebuilt_total", "")),
            lines(
                "Panics that were contained",
                "Panics since the start, by where they were stopped: each is a bug, and its \
                 line names the place.",
            )
            .of(
                "{{instance}} {{room}}",
                format!("{} > 0", sum("glasslog_panics_total", "instance, room")),
            ),
        ],
    )
}

fn clients_at_the_door() -> Row {
    row(
        "Clients at the door",
        vec![
            lines(
                "Frames refused, by why",
                "What was refused before a handler saw it: a client that speaks \
                 something else, or attacks.",
            )
            .of("{{why}}", rate("glasslog_frames_refused_total", "why")),
            lines(
                "Connections that stopped reading",
                "Times a connection was not read from since the memory budget was spent: \
                 clients send faster than the disks take it.",
            )
            .of("{{instance}}", rate("glasslog_reads_paused_total", "instance")),
            stacked(
                "Bytes that wait, by place",
                "Bytes in queues and in the cache of newest batches: queues should be \
                 empty but for moments.",
            )
            .of("{{stage}}", sum("glasslog_buffer_bytes", "stage")),
        ],
    )
}
