//! Tear or corruption? The judgement over what a journal's records say of each other.
//!
//! Every record carries the LSN known to be synced when it was written, so the highest of them
//! (and every recorded cut) divides the log: what is missing above it is a tear, and the log
//! is cut there; what is missing below it is corruption. A record with a readable header names
//! its group. An unreadable one may have been anyone's: a group is cleared only if its next
//! record continues its sequence, or a mark shows that its sequence did not go on.
//!
//! Invariants: one pass, memory by groups and damage, not by records; evidence counts only
//! within one run, for a later run cannot know what an earlier one lost.

use std::collections::BTreeMap;

use model::{GroupId, Lsn};

use super::Damage;
use super::files::Run;
use super::frame::{Header, Kind, OWN};
use super::scan::Mark;
use crate::checkpoint::Checkpoint;
use crate::disk::DiskPath;

/// A record whose header is readable and whose payload is not.
#[derive(Clone, Debug)]
pub(super) struct Corrupt {
    pub path: DiskPath,
    pub at: u64,
    pub header: Header,
}

/// What is known of one group's sequence.
#[derive(Debug)]
struct Track {
    sequence: u64,
    last_lsn: u64,
    /// The first unreadable LSN behind which nothing was heard of it.
    unproven: Option<u64>,
    /// Unreadable LSNs that no evidence of their run covered.
    never_proven: Vec<u64>,
    /// Its sequence jumped between these LSNs.
    jumps: Vec<(u64, u64)>,
}

/// Collects evidence in the order of files and records.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    run: Option<Run>,
    /// A record that lives was read.
    begun: bool,
    /// Highest LSN that a record or cut says is synced.
    synced: u64,
    last_lsn: u64,
    pub max_lsn: u64,
    /// A mark of all groups was read in this run.
    baseline: bool,
    missing: Vec<(u64, u64)>,
    corrupt: Vec<Corrupt>,
    tracks: BTreeMap<GroupId, Track>,
}

/// The judgement.
#[derive(Debug)]
pub(super) struct Verdict {
    pub cut: Lsn,
    /// Up to here records are on the disk for certain: one written later says so.
    pub synced: Lsn,
    /// Synced LSNs that cannot be read, inclusive.
    pub unreadable: Vec<(Lsn, Lsn)>,
    /// Synced records that fail their checksum.
    pub corrupt: Vec<Corrupt>,
    pub suspects: BTreeMap<GroupId, Damage>,
}

impl Evidence {
    /// A file of `run` exists, with or without records.
    pub fn saw_run(&mut self, run: Run) {
        // Recovery syncs whatever it keeps before the next run begins.
        self.synced = self.synced.max(run.cut_lsn.0);
        self.max_lsn = self.max_lsn.max(run.cut_lsn.0).max(run.first_lsn.0 - 1);
    }

    /// The next file with records follows; `dead_above` is the cut of later runs.
    pub fn enter(&mut self, run: Run) {
        if self.run == Some(run) {
            return;
        }
        if self.run.is_some() {
            self.end_run(run.cut_lsn.0);
            self.last_lsn = run.first_lsn.0 - 1;
        }
        self.run = Some(run);
        self.baseline = false;
    }

    /// The run before ended at `cut`: what is missing up to there stays missing.
    fn end_run(&mut self, cut: u64) {
        if self.last_lsn < cut {
            self.miss(self.last_lsn + 1, cut);
        }
        for track in self.tracks.values_mut() {
            track.never_proven.extend(track.unproven.take());
        }
    }

    /// A record, dead or alive, says what was synced when it was written.
    pub fn vouch(&mut self, header: &Header) {
        self.synced = self.synced.max(header.synced_lsn.0);
        self.max_lsn = self.max_lsn.max(header.lsn.0);
    }

    /// A record with a readable header; `false`: it is out of order and to be ignored.
    pub fn record(&mut self, header: &Header) -> bool {
        let lsn = header.lsn.0;
        if !self.begun {
            // The oldest file must begin with its start record, whatever that one's LSN.
            self.begun = true;
            self.last_lsn = lsn - 1;
            if header.kind != Kind::Start {
                let run_first = self.run.map_or(1, |run| run.first_lsn.0);
                self.missing.push((run_first.min(lsn - 1), lsn - 1));
            }
        }
        if lsn <= self.last_lsn {
            return false;
        }
        if lsn > self.last_lsn + 1 {
            self.miss(self.last_lsn + 1, lsn - 1);
        }
        self.last_lsn = lsn;
        if header.group != OWN {
            if header.is_first() {
                // Another life of the group: what was before it has no part in it.
                self.tracks.remove(&header.group);
            }
            self.hear(header.group, header.sequence, lsn);
        }
        true
    }

    pub fn corrupt(&mut self, corrupt: Corrupt) {
        self.corrupt.push(corrupt);
    }

    fn miss(&mut self, first: u64, last: u64) {
        self.missing.push((first, last));
        for track in self.tracks.values_mut() {
            track.unproven.get_or_insert(first);
        }
    }

    fn hear(&mut self, group: GroupId, sequence: u64, lsn: u64) {
        let first = sequence == 1;
        let track = self.tracks.entry(group).or_insert_with(|| Track {
            sequence: sequence - 1,
            last_lsn: 0,
            unproven: None,
            never_proven: Vec::new(),
            // Not its first record, and no mark listed it: where is the rest?
            jumps: if first { Vec::new() } else { vec![(0, lsn)] },
        });
        if sequence != track.sequence + 1 {
            track.jumps.push((track.last_lsn, lsn));
        }
        track.unproven = None;
        (track.sequence, track.last_lsn) = (sequence, lsn);
    }

    /// A readable mark at `lsn`.
    pub fn mark(&mut self, lsn: Lsn, mark: &Mark) {
        let (lsn, known) = (lsn.0, self.baseline);
        for (group, sequence) in &mark.sequences {
            let track = self.tracks.entry(*group).or_insert_with(|| Track {
                sequence: *sequence,
                last_lsn: lsn,
                unproven: None,
                never_proven: Vec::new(),
                jumps: if known && *sequence > 0 { vec![(0, lsn)] } else { Vec::new() },
            });
            if *sequence != track.sequence {
                track.jumps.push((track.last_lsn, lsn));
                track.sequence = *sequence;
            }
            track.unproven = None;
        }
        for track in self.tracks.values_mut() {
            if track.unproven.is_some_and(|first| mark.since.0 < first) {
                track.unproven = None;
            }
        }
        self.baseline |= mark.since == Lsn(0);
    }

    /// Judges. `checkpoint` tells which corrupt records are needed at all.
    pub fn judge(mut self, checkpoint: Option<&Checkpoint>) -> Verdict {
        let synced = self.synced;
        if self.begun && self.last_lsn < synced {
            self.miss(self.last_lsn + 1, synced);
        }
        let mut cut = self.last_lsn.max(synced);
        for (first, last) in &self.missing {
            if *last > synced {
                cut = cut.min((*first - 1).max(synced));
            }
        }
        let torn = self.corrupt.iter().map(|corrupt| corrupt.header.lsn.0);
        cut = torn.filter(|lsn| *lsn > synced).map(|lsn| lsn - 1).fold(cut, u64::min);
        #[cfg(test)]
        if super::crash_test::planted::keep_beyond_tears() {
            cut = self.last_lsn;
        }
        self.corrupt.retain(|corrupt| corrupt.header.lsn.0 <= synced);
        let mut suspects = BTreeMap::new();
        for (group, track) in &self.tracks {
            if let Some(damage) = self.judge_track(track) {
                suspects.insert(*group, damage);
            }
        }
        for corrupt in self.corrupt.iter().filter(|corrupt| is_needed(&corrupt.header, checkpoint))
        {
            suspects.insert(corrupt.header.group, Damage::RecordCorrupt);
        }
        let unreadable = self.missing.iter().filter(|(first, _)| *first <= synced);
        Verdict {
            cut: Lsn(cut),
            synced: Lsn(synced),
            unreadable: unreadable.map(|(a, b)| (Lsn(*a), Lsn((*b).min(synced)))).collect(),
            corrupt: self.corrupt,
            suspects,
        }
    }

    fn judge_track(&self, track: &Track) -> Option<Damage> {
        let lost = track.jumps.iter().any(|(from, to)| {
            let mut between = self.missing.iter().filter(|(a, b)| a < to && b > from).peekable();
            // A jump that no missing record explains is damage of another kind (unless only
            // the mark that would have listed the group is gone); a jump over records that
            // were never synced is a tear.
            let unexplained = between.peek().is_none() && *from > 0;
            unexplained || between.any(|(first, _)| *first <= self.synced)
        });
        let heard_nothing = track.unproven.iter().chain(&track.never_proven);
        if lost {
            Some(Damage::RecordLost)
        } else if heard_nothing.into_iter().any(|first| *first <= self.synced) {
            Some(Damage::RecordMaybeLost)
        } else {
            None
        }
    }
}

/// False when the checkpoint covers what the corrupt record said, or no group said it.
fn is_needed(header: &Header, checkpoint: Option<&Checkpoint>) -> bool {
    let covered = checkpoint.and_then(|checkpoint| checkpoint.groups.get(&header.group));
    match header.kind {
        Kind::Start | Kind::Mark => false,
        Kind::Append | Kind::Moved => covered.is_none_or(|it| header.index > it.applied_index),
        Kind::HardState | Kind::Birth | Kind::Remove | Kind::Suspect | Kind::Truncate => {
            covered.is_none_or(|it| header.lsn > it.as_of_lsn)
        }
    }
}
