//! What a group contributes to a checkpoint, at exactly one point of its log.

use bytes::Bytes;
use consensus::eraftpb::Snapshot;
use model::GroupId;
use storage::{Checkpoint, GroupBirth, GroupCheckpoint, Manifest, SegmentPosition, SyncedState};

use super::member::Member;
use super::spec::conf_state_from;
use super::{Out, SegmentWork};

/// A group as of the last entry sent to the segment thread before this mark.
#[derive(Debug, Clone)]
pub struct GroupMark {
    pub group: GroupId,
    pub birth: GroupBirth,
    pub conf_state: Bytes,
    pub applied_index: u64,
    pub applied_term: u64,
    pub machine: Bytes,
}

/// A mark, and where the group's segments stood behind exactly its entries.
pub type PlacedMark = (GroupMark, SegmentPosition, Vec<(u64, u64)>);

impl GroupMark {
    /// A new checkpoint out of the one before, what the groups said since, and the promises the
    /// journal has synced. The segments of every mark must be synced already.
    pub fn merge(checkpoint: &mut Checkpoint, marks: Vec<PlacedMark>, states: Vec<SyncedState>) {
        for (mark, position, term_starts) in marks {
            let kept = checkpoint.groups.entry(mark.group).or_default();
            *kept = GroupCheckpoint {
                replica: mark.birth.replica,
                birth: mark.birth.body,
                hard_state: kept.hard_state,
                as_of_lsn: kept.as_of_lsn,
                suspect: kept.suspect,
                conf_state: mark.conf_state,
                applied_index: mark.applied_index,
                applied_term: mark.applied_term,
                start_index: position.start_index,
                machine: mark.machine,
                machine_applied: mark.applied_index,
                segments: position,
                term_starts,
            };
        }
        for state in states {
            if let Some(kept) = checkpoint.groups.get_mut(&state.group) {
                kept.hard_state = state.hard_state;
                kept.as_of_lsn = state.as_of_lsn;
                kept.suspect = state.suspect;
            }
        }
    }
}

impl GroupMark {
    /// This point as a snapshot that a follower can be filled from, and what raft is told of it.
    /// `sums` are the checksums of the segments that stand at `position`. `Err`: in one line.
    pub fn manifest(
        self,
        position: SegmentPosition,
        sums: Vec<u32>,
    ) -> Result<(Manifest, Snapshot), String> {
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (position.last_index, self.applied_term);
        metadata.set_conf_state(conf_state_from(&self.conf_state)?);
        let manifest = Manifest {
            group: self.group,
            term: self.applied_term,
            conf_state: self.conf_state,
            machine: self.machine,
            // Its receiver chooses a home of its own.
            position: SegmentPosition { home: 0, ..position },
            sums,
        };
        Ok((manifest, snapshot))
    }
}

impl<R> Member<R> {
    /// Emits a mark if something was applied since the last one. A held machine emits none: its
    /// journal stays pinned, and a restart replays from what was marked before. Nor does one that
    /// is being replaced: what it says would go back behind the snapshot.
    pub(super) fn mark(&mut self, checkpoint: u64, out: &mut Out<R>) {
        let applied_index = self.group.applied_index();
        let apart = self.held.is_some() || self.installing.is_some();
        if apart || applied_index == self.marked || !self.in_journal() {
            return;
        }
        self.marked = applied_index;
        let mark = self.mark_here();
        out.segments.push(SegmentWork::Mark { checkpoint, mark: Box::new(mark) });
    }
}
