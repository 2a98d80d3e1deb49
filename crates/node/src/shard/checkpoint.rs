//! What a group contributes to a checkpoint, at exactly one point of its log.

use bytes::Bytes;
use model::GroupId;
use storage::GroupBirth;

use super::member::Member;
use super::{Out, SegmentWork};

/// A group as of the last entry sent to the segment thread before this mark.
#[derive(Debug)]
pub struct GroupMark {
    pub group: GroupId,
    pub birth: GroupBirth,
    pub conf_state: Bytes,
    pub applied_index: u64,
    pub applied_term: u64,
    pub machine: Bytes,
}

impl<R> Member<R> {
    /// Emits a mark if something was applied since the last one. A held machine emits none: its
    /// journal stays pinned, and a restart replays from what was marked before.
    pub(super) fn mark(&mut self, checkpoint: u64, out: &mut Out<R>) {
        let applied_index = self.group.applied_index();
        if self.held.is_some() || applied_index == self.marked || !self.in_journal() {
            return;
        }
        self.marked = applied_index;
        let mark = GroupMark {
            group: self.spec.group,
            birth: self.spec.birth(),
            conf_state: super::spec::conf_state_bytes(&self.group.conf_state()),
            applied_index,
            applied_term: self.applied_term,
            machine: self.machine.snapshot().into(),
        };
        out.segments.push(SegmentWork::Mark { checkpoint, mark: Box::new(mark) });
    }
}
