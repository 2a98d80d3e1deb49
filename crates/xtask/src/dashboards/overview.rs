//! Overview: is it well, and if not, which page next.

use super::board::{
    Board, Row, here, lines, max, number, quantile, rate, row, stacked, sum, table,
};
use super::unit::Unit;

pub fn board() -> Board {
    Board {
        id: "overview",
        title: "Overview",
        about: "Is the cluster well, and if not, which page next.",
        rows: vec![now(), clients(), brokers()],
    }
}

fn now() -> Row {
    row(
        "Now",
        vec![
            number(
                "Brokers that answer",
                "Brokers whose metrics can be read: fewer than there should be means \
                 that one is down or stopped.",
            )
            .of("", format!("sum({})", here("up{job=\"glasslog\"}"))),
            number(
                "Brokers that are ready",
                "Brokers that accept clients: fewer than answer means that one still \
                 starts, drains or waits for leaders (/readyz says for what).",
            )
            .of("", format!("sum({})", here("glasslog_ready"))),
            number(
                "Loops that stand still",
                "Loops beyond their threshold now: more than 0 is explained on the page \
                 `Why is it stuck`.",
            )
            .of("", format!("sum({})", here("glasslog_stalls_active")))
            .red_from(1.0),
            number(
                "Groups without a leader",
                "Groups of which some broker knows no leader: more than 0 for over two \
                 seconds means that partitions take no records.",
            )
            .of("", format!("max({})", here("glasslog_leaderless_groups")))
            .red_from(1.0),
            number(
                "Partitions that miss replicas",
                "Partitions with a replica that is behind: one more loss may stop their \
                 writes.",
            )
            .of("", format!("sum({})", here("glasslog_under_replicated_partitions")))
            .red_from(1.0),
            number(
                "Partitions",
                "Partitions that the cluster's metadata knows: a sudden change is a \
                 topic that was made or deleted.",
            )
            .of("", format!("max({})", here("glasslog_partitions"))),
            table(
                "Alerts that fire",
                "Every alert of this cluster that fires now: an empty table is a good \
                 one.",
            )
            .of("", "ALERTS{alertstate=\"firing\", alertname!=\"DeadMan\", cluster=~\"$cluster\"}")
            .unit(Unit::Count),
        ],
    )
}

fn clients() -> Row {
    row(
        "Clients",
        vec![
            lines(
                "Requests, by API",
                "Kafka requests a second: a sudden drop means that clients cannot, or no \
                 longer want to.",
            )
            .of("{{api}}", rate("glasslog_kafka_requests_total", "api")),
            lines(
                "Requests that did not end well",
                "Requests answered with an error, refused, or given up by their client: \
                 some come with every change of leaders, a lasting level is trouble.",
            )
            .of("{{outcome}}", rate("glasslog_kafka_requests_total{outcome!=\"ok\"}", "outcome")),
            lines(
                "Errors, by code",
                "Error codes in replies: NOT_LEADER_OR_FOLLOWER is normal while leaders \
                 change, KAFKA_STORAGE_ERROR is a disk.",
            )
            .of("{{code}}", format!("{} > 0", rate("glasslog_kafka_errors_total", "code"))),
            lines(
                "Requests, 99th percentile",
                "Time from the last byte of a request to the last of its reply, by API: \
                 Fetch includes its long poll, so judge the others.",
            )
            .of("{{api}}", quantile(99, "glasslog_kafka_request_seconds", "api")),
            lines(
                "Bytes in and out",
                "Record batches accepted and sent, and whole frames received: in without \
                 out means that nobody reads.",
            )
            .of("in", rate("glasslog_bytes_in_total", ""))
            .of("out", rate("glasslog_bytes_out_total", ""))
            .of("frames in", rate("glasslog_received_bytes_total", "")),
            lines(
                "Records and batches in",
                "Records and batches that leaders took: many batches with few records \
                 each cost far more CPU.",
            )
            .of("records", rate("glasslog_records_in_total", ""))
            .of("batches", rate("glasslog_batches_in_total", "")),
            lines(
                "Connections",
                "Open client connections: a staircase upwards is a client that does not \
                 close.",
            )
            .of("{{instance}}", sum("glasslog_connections", "instance")),
            lines(
                "Connections, by what became of them",
                "What became of connections: refused, not_reading and protocol_error are \
                 clients to look for.",
            )
            .of("{{outcome}}", rate("glasslog_connections_total", "outcome")),
        ],
    )
}

fn brokers() -> Row {
    row(
        "Brokers",
        vec![
            lines(
                "Elections, by reason",
                "Elections a second: after formation every one has a cause, which \
                 /debug/elections tells.",
            )
            .of("{{reason}}", rate("glasslog_raft_elections_total", "reason")),
            lines(
                "CPU",
                "CPU time of each broker, 100 % is one core: at the cores' end \
                 everything below gets slow.",
            )
            .of("{{instance}}", rate("glasslog_process_cpu_time_seconds_total", "instance")),
            stacked(
                "Memory budget in use",
                "Bytes charged to the memory budget: at its limit connections stop \
                 reading.",
            )
            .of(
                "{{instance}} {{pool}}",
                sum("glasslog_memory_budget_used_bytes", "instance, pool"),
            ),
            lines("Time since the start", "Uptime: a saw is a broker that dies and starts again.")
                .of("{{instance}}", max("glasslog_process_uptime_seconds", "instance")),
            table(
                "Builds",
                "What runs where: more than one version is an upgrade that has not \
                 ended.",
            )
            .of("", sum("glasslog_build_info", "instance, version, revision")),
        ],
    )
}
