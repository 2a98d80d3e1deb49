//! Raft: who leads, why that changed, and who is behind.

use super::board::{Board, Row, lines, max, quantile, rate, row, sum};

pub fn board() -> Board {
    Board {
        id: "raft",
        title: "Raft",
        about: "Who leads, why that changed, and who is behind.",
        rows: vec![leaders(), heartbeats(), followers()],
    }
}

fn leaders() -> Row {
    row(
        "Leaders",
        vec![
            lines(
                "Elections, by reason",
                "Elections that began: timeout means that a leader was not heard, \
                 death_evidence that its process is gone.",
            )
            .of(
                "{{group_kind}} {{reason}}",
                rate("glasslog_raft_elections_total", "group_kind, reason"),
            ),
            lines(
                "Elections, by outcome",
                "How elections ended: many refused or superseded ones are brokers that \
                 cannot agree.",
            )
            .of("{{outcome}}", rate("glasslog_raft_elections_ended_total", "outcome")),
            lines(
                "Elections, duration",
                "How long elections took: above 2 s a partition was deaf for clients.",
            )
            .of("p50", quantile(50, "glasslog_raft_election_seconds", ""))
            .of("p99", quantile(99, "glasslog_raft_election_seconds", "")),
            lines("Changes of leaders", "Times the leader that a replica follows changed, by why.")
                .of("{{reason}}", rate("glasslog_raft_leader_changes_total", "reason")),
            lines(
                "Changes of roles",
                "Role changes by the new role: candidates without leaders are elections \
                 that fail.",
            )
            .of("{{role}}", rate("glasslog_raft_role_changes_total", "role")),
            lines(
                "Highest term",
                "Highest term of any group: steps are elections, a slope is a group that \
                 cannot settle.",
            )
            .of("{{instance}}", max("glasslog_raft_term_max", "instance")),
            lines(
                "Replicas, by role",
                "Replicas of each broker by role: leaders should be spread evenly.",
            )
            .of("{{instance}} {{role}}", sum("glasslog_raft_groups", "instance, role")),
        ],
    )
}

fn heartbeats() -> Row {
    row(
        "Heartbeats",
        vec![
            lines(
                "Ticks",
                "Ticks given to shards, 20 a second each: fewer is a shard that stands \
                 still.",
            )
            .of("{{instance}}", rate("glasslog_raft_ticks_total", "instance")),
            lines(
                "Late ticks, by what used the time",
                "Ticks late by more than half a heartbeat: elections follow when this \
                 lasts.",
            )
            .of(
                "{{instance}} {{blocked_by}}",
                rate("glasslog_raft_ticks_late_total", "instance, blocked_by"),
            ),
            lines(
                "Shortest lease",
                "What is left of the shortest lease of 450 ms: at 0 for long, reads must \
                 ask a majority first.",
            )
            .of("{{instance}}", max("glasslog_lease_remaining_seconds_min", "instance")),
            lines(
                "Leases that ran out",
                "Leases that ended while their leader still led: a majority did not \
                 answer in time.",
            )
            .of("{{instance}}", rate("glasslog_lease_expiries_total", "instance")),
            lines(
                "Messages sent, by type",
                "raft messages: appends that are all empty while clients write are \
                 followers that receive nothing.",
            )
            .of("{{type}}", rate("glasslog_raft_messages_total{dir=\"sent\"}", "type")),
            lines(
                "Messages that got nowhere",
                "Messages dropped or refused, and the guard's reason: any lasting level \
                 is a peer that is gone, or two brokers that contradict each other.",
            )
            .of(
                "{{dir}} {{outcome}}",
                rate("glasslog_raft_messages_total{outcome!=\"ok\"}", "dir, outcome"),
            )
            .of(
                "guard: {{why}}",
                format!("{} > 0", rate("glasslog_raft_messages_refused_total", "why")),
            ),
        ],
    )
}

fn followers() -> Row {
    row(
        "Followers",
        vec![
            lines(
                "Largest lag",
                "Entries that the farthest follower of any group lacks: it should fall \
                 back to 0 after every burst.",
            )
            .of("{{instance}}", max("glasslog_raft_peer_lag_entries_max", "instance")),
            lines(
                "Follower that does not move",
                "How long the worst follower has not moved though it is behind, or \
                 contradicts its leader: above 5 s pages.",
            )
            .of(
                "{{instance}} to {{peer}}",
                max("glasslog_raft_peer_starved_seconds", "instance, peer"),
            )
            .of(
                "{{instance}}: a snapshot without a byte",
                max("glasslog_raft_snapshot_stuck_seconds", "instance"),
            ),
            lines(
                "Entries sent, and read again",
                "Entries sent to followers, and reads of older ones from segments: the \
                 second is a follower that catches up.",
            )
            .of("sent", rate("glasslog_raft_entries_sent_total", ""))
            .of("read again", rate("glasslog_raft_catch_up_reads_total", "")),
            lines(
                "Conflicts and dropped proposals",
                "Entries that later leaders replaced, and proposals that raft dropped: \
                 some come with a lost leader, more never.",
            )
            .of("conflicts", rate("glasslog_raft_log_conflicts_total", ""))
            .of("entries replaced", rate("glasslog_raft_log_truncated_entries_total", ""))
            .of("proposals dropped", rate("glasslog_raft_proposals_dropped_total", "")),
            lines(
                "Snapshots",
                "Followers behind the log start, and what became of the snapshots for \
                 them: failed and timed_out ones are tried again.",
            )
            .of("{{dir}} {{outcome}}", rate("glasslog_raft_snapshots_total", "dir, outcome"))
            .of("needed", rate("glasslog_raft_snapshots_needed_total", "")),
            lines(
                "Bytes to catch up with",
                "Bytes of snapshots and of older entries for those who lag: they compete \
                 with clients for disk and network.",
            )
            .of("snapshots {{dir}}", rate("glasslog_raft_snapshot_bytes_total", "dir"))
            .of("resumed", rate("glasslog_raft_snapshot_resumed_bytes_total", ""))
            .of("older entries", rate("glasslog_raft_catch_up_bytes_total", "")),
            lines(
                "Membership",
                "Steps of leaders towards the placement that metadata wants: not_leader \
                 and busy are tried again.",
            )
            .of(
                "{{step}} {{outcome}}",
                format!("{} > 0", rate("glasslog_raft_membership_steps_total", "step, outcome")),
            ),
        ],
    )
}
