//! Committed work of a shard's turns on its way to the segment thread, gathered so that the
//! thread wakes up once per wheel slot and not once per turn, and writes once per group.
//!
//! Invariants: work leaves in order, per group and around everything that is not an append;
//! nothing stays longer than until the next tick; what is gathered is bounded in bytes and in
//! number. Nobody waits for it: the tail cache holds a batch until it is written, and a record
//! is acknowledged for the journal's sake alone.

use std::collections::BTreeMap;

use model::{GroupId, limits};

use crate::shard::SegmentWork;

/// See the module.
#[derive(Default)]
pub struct Gather {
    work: Vec<SegmentWork>,
    /// Where the append of a group is in `work`.
    appends: BTreeMap<GroupId, usize>,
    bytes: usize,
    /// Something in `work` is no append: it goes at once.
    urgent: bool,
}

impl Gather {
    pub fn push(&mut self, work: SegmentWork) {
        let SegmentWork::Append { group, entries } = work else {
            self.urgent = true;
            self.appends.clear();
            self.work.push(work);
            return;
        };
        self.bytes += entries.iter().map(|entry| entry.entry.data.len()).sum::<usize>();
        if let Some(at) = self.appends.get(&group)
            && let SegmentWork::Append { entries: before, .. } = &mut self.work[*at]
        {
            before.extend(entries);
            return;
        }
        self.appends.insert(group, self.work.len());
        self.work.push(SegmentWork::Append { group, entries });
    }

    /// Everything, if it is time: a tick, enough of it, or something that cannot wait.
    pub fn take(&mut self, ticked: bool) -> Option<Vec<SegmentWork>> {
        let enough = self.bytes >= limits::SEGMENT_GATHER_BYTES
            || self.work.len() >= limits::SEGMENT_GATHER_GROUPS;
        if self.work.is_empty() || !(ticked || enough || self.urgent) {
            return None;
        }
        self.appends.clear();
        self.bytes = 0;
        self.urgent = false;
        Some(std::mem::take(&mut self.work))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::{EntryKind, LogEntry, RaftEntryType};
    use storage::SegmentEntry;

    use super::*;

    fn append(group: u64, index: u64, bytes: usize) -> SegmentWork {
        let data = Bytes::from(vec![0; bytes]);
        let entry = SegmentEntry {
            entry: LogEntry {
                index,
                term: 1,
                entry_type: RaftEntryType::Normal,
                context: Bytes::new(),
                data,
            },
            kind: EntryKind::Batch,
            base_offset: 0,
            last_offset: 0,
            max_timestamp: 0,
        };
        SegmentWork::Append { group: GroupId(group), entries: vec![entry] }
    }

    fn shape(work: &[SegmentWork]) -> Vec<(u64, Vec<u64>)> {
        let of = |work: &SegmentWork| match work {
            SegmentWork::Append { group, entries } => {
                (group.0, entries.iter().map(|entry| entry.entry.index).collect())
            }
            SegmentWork::LogStart { group, .. } => (group.0, Vec::new()),
            other => panic!("{other:?}"),
        };
        work.iter().map(of).collect()
    }

    #[test]
    fn turns_are_joined_by_group_until_the_tick() {
        let mut gather = Gather::default();
        for (group, index) in [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)] {
            gather.push(append(group, index, 10));
            assert!(gather.take(false).is_none());
        }
        let taken = gather.take(true).unwrap();
        assert_eq!(shape(&taken), [(1, vec![1, 2, 3]), (2, vec![1, 2])]);
        assert!(gather.take(true).is_none());
        gather.push(append(1, 4, 10));
        assert_eq!(shape(&gather.take(true).unwrap()), [(1, vec![4])]);
    }

    #[test]
    fn nothing_is_carried_past_work_that_is_no_append() {
        let mut gather = Gather::default();
        gather.push(append(1, 1, 10));
        gather.push(SegmentWork::LogStart { group: GroupId(1), offset: 1 });
        gather.push(append(2, 1, 10));
        let taken = gather.take(false).expect("a log start does not wait");
        assert_eq!(shape(&taken), [(1, vec![1]), (1, vec![]), (2, vec![1])]);
    }

    #[test]
    fn an_append_after_urgent_work_does_not_join_one_before_it() {
        let mut gather = Gather::default();
        gather.push(append(1, 1, 10));
        gather.push(SegmentWork::LogStart { group: GroupId(1), offset: 1 });
        gather.push(append(1, 2, 10));
        let taken = gather.take(true).unwrap();
        assert_eq!(shape(&taken), [(1, vec![1]), (1, vec![]), (1, vec![2])]);
    }

    #[test]
    fn what_is_gathered_is_bounded() {
        let mut gather = Gather::default();
        gather.push(append(1, 1, limits::SEGMENT_GATHER_BYTES));
        assert!(gather.take(false).is_some());
        for group in 0..limits::SEGMENT_GATHER_GROUPS as u64 {
            assert!(gather.take(false).is_none());
            gather.push(append(group, 1, 1));
        }
        assert!(gather.take(false).is_some());
    }
}
