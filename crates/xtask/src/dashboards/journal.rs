//! Journal and apply: from an entry to the disk, and from the commit to the segment.

use super::board::{Board, INTERVAL, Row, here, lines, max, mean, quantile, rate, row, sum};
use super::unit::Unit;

pub fn board() -> Board {
    Board {
        id: "journal",
        title: "Journal and apply",
        about: "From an entry to the disk, and from its commit to the segment that \
                 consumers read.",
        rows: vec![journal(), apply_and_segments(), disk()],
    }
}

fn journal() -> Row {
    let written = rate("glasslog_journal_write_bytes_total", "instance");
    let payload = rate("glasslog_journal_payload_bytes_total", "instance");
    row(
        "Journal",
        vec![
            lines(
                "Disk operations, 99th percentile",
                "Time of the journal's disk operations: sync bounds every \
                 acknowledgement.",
            )
            .of("{{op}}", quantile(99, "glasslog_journal_op_seconds", "op")),
            lines(
                "Operation in flight",
                "Age of the operation that the disk has now: above 2 s pages.",
            )
            .of(
                "{{instance}} {{op}}",
                format!("{} > 0", max("glasslog_journal_inflight_seconds", "instance, op")),
            ),
            lines(
                "Writes that one sync made durable",
                "Mean number of groups' writes in one sync: it rises under load.",
            )
            .of("{{instance}}", mean("glasslog_journal_group_commit_batches", "instance")),
            lines(
                "Bytes written",
                "Records, what is written with padding, and what is moved to free old \
                 files: moved as much as records is a journal that is too small.",
            )
            .of("records", rate("glasslog_journal_payload_bytes_total", ""))
            .of("written", rate("glasslog_journal_write_bytes_total", ""))
            .of("moved", rate("glasslog_journal_moved_bytes_total", "")),
            lines(
                "Written for each byte of records",
                "What padding costs: above 4 the batches are tiny.",
            )
            .of("{{instance}}", format!("{written} / {payload}"))
            .unit(Unit::Count),
            lines(
                "Size and limit",
                "Size of the journal's files and its cap: at the cap writes wait for a \
                 checkpoint.",
            )
            .of("{{instance}}", max("glasslog_journal_bytes", "instance"))
            .of("{{instance}} limit", max("glasslog_journal_limit_bytes", "instance")),
            lines(
                "Waiting for the journal",
                "Bytes that wait to be written: a rising line is a disk that does not \
                 keep up.",
            )
            .of("{{instance}}", sum("glasslog_journal_queue_bytes", "instance")),
            lines(
                "Full",
                "1 while the journal, or the disk, is full: new records wait or are \
                 refused.",
            )
            .of("{{instance}} journal", max("glasslog_journal_full", "instance"))
            .of("{{instance}} disk", max("glasslog_disk_full", "instance")),
            lines(
                "Durable position",
                "How fast the durable position moves: 0 while clients write means that \
                 nothing is acknowledged.",
            )
            .of(
                "{{instance}}",
                format!("deriv({}[{INTERVAL}])", here("glasslog_journal_durable_lsn")),
            ),
            lines(
                "Files",
                "Journal files made anew and used again: new ones all the time cost a \
                 sync of the directory each.",
            )
            .of("created", rate("glasslog_journal_files_created_total", ""))
            .of("recycled", rate("glasslog_journal_files_recycled_total", "")),
        ],
    )
}

fn apply_and_segments() -> Row {
    row(
        "Apply and segments",
        vec![
            lines(
                "Entries applied",
                "Entries through the state machines: it should follow what is written.",
            )
            .of("{{instance}}", rate("glasslog_apply_entries_total", "instance")),
            lines(
                "Apply backlog",
                "Committed and not yet applied entries of the group that is farthest \
                 behind: it should fall back to 0.",
            )
            .of("{{instance}}", max("glasslog_apply_backlog_entries_max", "instance")),
            lines(
                "Bytes to segments",
                "Bytes written to segments, off the way of acknowledgements.",
            )
            .of("{{instance}}", rate("glasslog_segment_write_bytes_total", "instance")),
            lines(
                "Checkpoints, duration",
                "Time of a checkpoint, which syncs segments so that journal files can be \
                 used again.",
            )
            .of("{{instance}} p99", quantile(99, "glasslog_checkpoint_seconds", "instance")),
            lines("Checkpoints", "Checkpoints by outcome: failed ones end the broker.")
                .of("{{outcome}}", rate("glasslog_checkpoints_total", "outcome")),
            lines(
                "Age of the last checkpoint",
                "The older, the longer the next start reads the journal.",
            )
            .of("{{instance}}", max("glasslog_checkpoint_age_seconds", "instance")),
        ],
    )
}

fn disk() -> Row {
    row(
        "Disk",
        vec![
            lines(
                "Free space",
                "Free space of the data directory: below the reserve new records are \
                 refused.",
            )
            .of("{{instance}}", max("glasslog_disk_free_bytes", "instance")),
            lines(
                "Recovery at the start",
                "Time the last start took to read journal, checkpoint and segments.",
            )
            .of("{{instance}}", max("glasslog_recovery_seconds", "instance")),
            lines("Snapshots, duration", "From a leader's word to a replica that is filled.")
                .of("{{instance}} p99", quantile(99, "glasslog_raft_snapshot_seconds", "instance")),
        ],
    )
}
