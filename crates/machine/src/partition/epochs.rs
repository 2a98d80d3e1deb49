//! Which leader epoch wrote which offsets (KIP-101), for OffsetForLeaderEpoch and fencing.
//!
//! Invariants: epochs and start offsets ascend; an epoch that wrote nothing has no line; the
//! list is bounded, the oldest lines go first.

use model::limits::LEADER_EPOCHS_PER_PARTITION_MAX;

/// Answer to "where does epoch e end": the largest known epoch not above the one asked for,
/// and the offset after its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    pub leader_epoch: i32,
    pub end_offset: i64,
}

/// (epoch, offset of its first record), ascending in both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Epochs {
    pub(super) starts: Vec<(i32, i64)>,
}

impl Epochs {
    /// A batch of `epoch` begins at `offset`.
    pub(super) fn append(&mut self, epoch: i32, offset: i64) {
        if self.starts.last().is_some_and(|(last, _)| *last >= epoch) {
            return;
        }
        // An epoch whose records are all gone yields its place to the one that follows it.
        while self.starts.last().is_some_and(|(_, start)| *start >= offset) {
            self.starts.pop();
        }
        if self.starts.len() == LEADER_EPOCHS_PER_PARTITION_MAX {
            self.starts.remove(0);
        }
        self.starts.push((epoch, offset));
    }

    pub(super) fn last(&self) -> Option<i32> {
        self.starts.last().map(|(epoch, _)| *epoch)
    }

    /// The log now starts at `offset`: lines that lie wholly below it go, the one it falls
    /// into (the newest, if nothing is left of the log) is moved up to it.
    pub(super) fn truncate_start(&mut self, offset: i64) {
        let covering = self.starts.partition_point(|(_, start)| *start <= offset);
        if covering > 0 {
            self.starts.drain(..covering - 1);
            self.starts[0].1 = offset;
        }
    }

    /// Epoch of the record at `offset`, if there is one.
    pub(super) fn at(&self, offset: i64) -> Option<i32> {
        let after = self.starts.partition_point(|(_, start)| *start <= offset);
        (after > 0).then(|| self.starts[after - 1].0)
    }

    /// KIP-101 as Kafka answers it: an epoch above all known ones is unknown (`None`), as is
    /// one below; between two, the older one's end.
    pub(super) fn end_of(&self, epoch: i32, next_offset: i64) -> Option<EpochEnd> {
        let after = self.starts.partition_point(|(known, _)| *known <= epoch);
        if after == 0 {
            return None;
        }
        let leader_epoch = self.starts[after - 1].0;
        match self.starts.get(after) {
            Some((_, start)) => Some(EpochEnd { leader_epoch, end_offset: *start }),
            None if leader_epoch == epoch => {
                Some(EpochEnd { leader_epoch, end_offset: next_offset })
            }
            None => None,
        }
    }
}
