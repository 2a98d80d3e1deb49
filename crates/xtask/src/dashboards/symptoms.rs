//! Symptoms: a row for each thing that somebody complains of.

use super::board::{Board, Row, here, lines, max, mean, quantile, rate, row, sum};
use super::unit::Unit;

pub fn board() -> Board {
    Board {
        id: "symptoms",
        title: "Symptoms",
        about: "What somebody complains of, and for each the few curves that tell why.",
        rows: vec![
            writes_fail(),
            writes_are_slow(),
            nothing_moves(),
            leaders_change(),
            a_broker_is_behind(),
            a_promise_is_broken(),
            consumers_are_slow(),
            something_runs_out(),
        ],
    }
}

fn writes_fail() -> Row {
    let failed = rate("glasslog_kafka_requests_total{api=\"Produce\", outcome!=\"ok\"}", "");
    let all = rate("glasslog_kafka_requests_total{api=\"Produce\"}", "");
    row(
        "Writes fail",
        vec![
            lines(
                "Share of produce requests that failed",
                "Of all produce requests those not answered well: the month's budget is \
                 0.1 %.",
            )
            .of("now", format!("{failed} / {all}"))
            .of("last hour", "glasslog:produce_errors:ratio_rate1h{cluster=~\"$cluster\"}")
            .unit(Unit::Share),
            lines(
                "Errors, by code",
                "What clients are told: NOT_ENOUGH_REPLICAS is a missing replica, \
                 KAFKA_STORAGE_ERROR a disk, NOT_LEADER_OR_FOLLOWER a change of leaders.",
            )
            .of("{{code}}", format!("{} > 0", rate("glasslog_kafka_errors_total", "code"))),
            lines(
                "Partitions below min.insync.replicas",
                "Partitions in which acks=all is refused: more than 0 means that brokers \
                 are missing or behind.",
            )
            .of("{{instance}}", max("glasslog_under_min_isr_partitions", "instance")),
        ],
    )
}

fn writes_are_slow() -> Row {
    row(
        "Writes are slow",
        vec![
            lines(
                "Produce, mean time by stage",
                "Where the time goes: the highest line is where to look.",
            )
            .of("{{stage}}", mean("glasslog_produce_stage_seconds", "stage")),
            lines(
                "Sync of the journal, 99th percentile",
                "What the disk needs: no acknowledgement is faster.",
            )
            .of(
                "{{instance}}",
                quantile(99, "glasslog_journal_op_seconds{op=\"sync\"}", "instance"),
            ),
            lines(
                "CPU",
                "CPU time of each broker, 100 % is one core: what is slow at the cores' \
                 end is everything.",
            )
            .of("{{instance}}", rate("glasslog_process_cpu_time_seconds_total", "instance")),
        ],
    )
}

fn nothing_moves() -> Row {
    row(
        "Nothing moves",
        vec![
            lines(
                "Oldest request in flight",
                "Age of the oldest request that is no long poll: a slope of 45 degrees \
                 names the stage that hangs.",
            )
            .of(
                "{{instance}} {{stage}}",
                max("glasslog_inflight_oldest_seconds{stage!=\"fetch_wait\"}", "instance, stage"),
            ),
            lines(
                "Stalls that last",
                "Loops that stand still and why; `Why is it stuck` has the places.",
            )
            .of(
                "{{instance}} {{loop}} {{cause}}",
                max("glasslog_stall_active_seconds", "instance, loop, cause"),
            ),
            lines(
                "Groups without a leader",
                "Groups that know no leader: for longer than two seconds, a majority is \
                 missing.",
            )
            .of("{{instance}}", max("glasslog_leaderless_groups", "instance")),
        ],
    )
}

fn leaders_change() -> Row {
    row(
        "Leaders change",
        vec![
            lines(
                "Elections, by reason",
                "Why elections began: after formation every one has a cause.",
            )
            .of("{{reason}}", rate("glasslog_raft_elections_total", "reason")),
            lines(
                "Late ticks, by what used the time",
                "A leader whose ticks are late is replaced: this says what held them \
                 up.",
            )
            .of(
                "{{instance}} {{blocked_by}}",
                rate("glasslog_raft_ticks_late_total", "instance, blocked_by"),
            ),
            lines(
                "Brokers seen to die, and refused",
                "Processes of peers that were seen to be gone, new links, and \
                 connections that were refused.",
            )
            .of("deaths seen by {{instance}}", rate("glasslog_peer_deaths_total", "instance"))
            .of(
                "{{instance}} linked to {{peer}}",
                rate("glasslog_peer_connects_total", "instance, peer"),
            )
            .of("refused: {{why}}", rate("glasslog_peer_refused_total", "why")),
        ],
    )
}

fn a_broker_is_behind() -> Row {
    row(
        "A broker is behind",
        vec![
            lines(
                "Partitions that miss replicas",
                "Partitions led here of which a replica is behind: it should fall back \
                 to 0 within a minute of a restart.",
            )
            .of("{{instance}}", max("glasslog_under_replicated_partitions", "instance")),
            lines(
                "Links between brokers",
                "1 while the link is up: 0 for a broker that runs is the network.",
            )
            .of("{{instance}} to {{peer}}", max("glasslog_peer_connected", "instance, peer")),
        ],
    )
}

fn a_promise_is_broken() -> Row {
    row(
        "A promise is broken",
        vec![
            lines(
                "Acknowledged and not durable",
                "Groups in which more was acknowledged than is durable: never above 0.",
            )
            .of("{{instance}}", max("glasslog_acked_beyond_durable_groups", "instance")),
            lines("Broken invariants", "What must never happen, counted: never above 0.").of(
                "{{instance}} {{invariant}}",
                format!(
                    "{} > 0",
                    sum("glasslog_invariant_violations_total", "instance, invariant")
                ),
            ),
        ],
    )
}

fn consumers_are_slow() -> Row {
    row(
        "Consumers are slow",
        vec![
            lines(
                "Fetch, mean time by stage",
                "read is the disk, send the consumer or the network; wait is a long poll \
                 and no fault.",
            )
            .of("{{stage}}", mean("glasslog_fetch_stage_seconds", "stage")),
            lines(
                "Rebalances, by why",
                "Groups stand still while they rebalance: session_expired is a member \
                 that died or is too slow.",
            )
            .of("{{why}}", rate("glasslog_group_rebalances_total", "why")),
        ],
    )
}

fn something_runs_out() -> Row {
    let used = max("glasslog_memory_budget_used_bytes", "instance, pool");
    let limit = max("glasslog_memory_budget_limit_bytes", "instance, pool");
    row(
        "Something runs out",
        vec![
            lines(
                "Share of the memory budget",
                "At 100 % connections stop reading until there is room.",
            )
            .of("{{instance}} {{pool}}", format!("{used} / {limit}"))
            .unit(Unit::Share),
            lines("Free disk", "Below the reserve new records are refused.").of(
                "{{instance}}",
                format!("min by (instance) ({})", here("glasslog_disk_free_bytes")),
            ),
        ],
    )
}
