//! Durability, told only by journals and recoveries: what is durable stays, and what is committed
//! is durable on a majority.
//!
//! A journal's "durable" is a promise that the next recovery must keep, except where a later
//! write, handed over but not yet durable, truncated it.

use std::collections::{BTreeMap, VecDeque};

use model::{GroupId, HardState};
use storage::{JournalWrite, Recovered};

use super::OneValue;

struct Pending {
    token: u64,
    /// (index, term), in order.
    entries: Vec<(u64, u64)>,
    hard_state: Option<HardState>,
}

/// One group's log on one disk.
#[derive(Default)]
struct DiskLog {
    /// Term of entry i at position i - 1.
    terms: Vec<u64>,
    promise: HardState,
    pending: VecDeque<Pending>,
}

impl DiskLog {
    fn take(&mut self, write: Pending) {
        if let Some((first, _)) = write.entries.first() {
            self.terms.truncate(*first as usize - 1);
            self.terms.extend(write.entries.iter().map(|(_, term)| *term));
        }
        if let Some(hard_state) = write.hard_state {
            self.promise = hard_state;
        }
    }
}

#[derive(Default)]
pub struct Durable {
    logs: BTreeMap<(usize, GroupId), DiskLog>,
}

impl Durable {
    pub fn enqueued(&mut self, b: usize, write: &JournalWrite) {
        let log = self.logs.entry((b, write.group)).or_default();
        log.pending.push_back(Pending {
            token: write.token,
            entries: write.entries.iter().map(|entry| (entry.index, entry.term)).collect(),
            hard_state: write.hard_state,
        });
    }

    /// The journal says that this write and all before it are durable.
    pub fn durable(&mut self, b: usize, group: GroupId, token: u64) {
        let log = self.logs.entry((b, group)).or_default();
        while log.pending.front().is_some_and(|write| write.token <= token) {
            let write = log.pending.pop_front().expect("looked at");
            log.take(write);
        }
    }

    /// Disks that hold that entry of that term.
    pub fn copies(&self, group: GroupId, index: u64, term: u64) -> usize {
        (0..crate::world::BROKERS).filter(|b| self.holds(*b, group, index, term)).count()
    }

    /// That entry of that term is durable on `b`.
    pub fn holds(&self, b: usize, group: GroupId, index: u64, term: u64) -> bool {
        let log = self.logs.get(&(b, group));
        log.is_some_and(|log| log.terms.get(index as usize - 1) == Some(&term))
    }

    /// A start found this. Entries below the checkpoint are in segments: they must be the
    /// chosen ones.
    pub fn recovered(
        &mut self,
        b: usize,
        recovered: &Recovered,
        values: &OneValue,
    ) -> Result<(), String> {
        let mut result = Ok(());
        let known: Vec<GroupId> =
            self.logs.keys().filter(|(broker, _)| *broker == b).map(|(_, group)| *group).collect();
        for group in known {
            let log = self.logs.get_mut(&(b, group)).expect("listed just now");
            let kept = recovered.checkpoint.as_ref().and_then(|c| c.groups.get(&group));
            let applied = kept.map_or(0, |kept| kept.applied_index);
            let found = recovered.groups.get(&group);
            let mut terms: Vec<u64> = (1..=applied)
                .map(|index| values.get(group, index).map_or(0, |chosen| chosen.term))
                .collect();
            terms.extend(found.into_iter().flat_map(|f| &f.entries).map(|entry| entry.term));
            let promise = found.map(|f| f.hard_state).unwrap_or_default();
            if let Err(text) = log.compare(&terms, promise) {
                result = Err(format!("group {group} on b{}: {text}", b + 1));
            }
            (log.terms, log.promise) = (terms, promise);
            log.pending.clear();
        }
        result
    }
}

impl DiskLog {
    fn compare(&self, terms: &[u64], promise: HardState) -> Result<(), String> {
        let firsts = self.pending.iter().filter_map(|write| write.entries.first());
        let cut = firsts.map(|(first, _)| *first).min().unwrap_or(u64::MAX);
        for (at, term) in self.terms.iter().enumerate() {
            let index = at as u64 + 1;
            if index < cut && terms.get(at) != Some(term) {
                let now = terms.get(at);
                return Err(format!("entry {index} of term {term} was durable, now {now:?}"));
            }
        }
        let (was, now) = (self.promise, promise);
        let forgotten =
            now.term < was.term || (now.term == was.term && was.vote != 0 && now.vote != was.vote);
        match forgotten {
            true => Err(format!("promised {was:?}, recovered {now:?}")),
            false => Ok(()),
        }
    }
}
