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
    truncate_from: Option<u64>,
    hard_state: Option<HardState>,
}

/// One group's log on one disk.
#[derive(Default)]
struct DiskLog {
    /// Term of entry i at position i - 1; 0: not here.
    terms: Vec<u64>,
    promise: HardState,
    pending: VecDeque<Pending>,
}

impl DiskLog {
    fn holds(&self, index: u64, term: u64) -> bool {
        self.terms.get(index as usize - 1) == Some(&term)
    }

    fn take(&mut self, write: Pending) {
        if let Some(from) = write.truncate_from {
            self.terms.truncate(from as usize - 1);
        }
        if let Some((first, _)) = write.entries.first() {
            self.terms.resize(*first as usize - 1, 0);
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
    /// Logs of replicas whose disk was lost or no longer trusted. What they acknowledged before,
    /// their leader counts, and may: it was durable when they said so.
    lost: BTreeMap<(usize, GroupId), Vec<DiskLog>>,
}

impl Durable {
    pub fn enqueued(&mut self, b: usize, write: &JournalWrite) {
        let log = self.logs.entry((b, write.group)).or_default();
        log.pending.push_back(Pending {
            token: write.token,
            entries: write.entries.iter().map(|entry| (entry.index, entry.term)).collect(),
            truncate_from: write.truncate_from,
            hard_state: write.hard_state,
        });
    }

    /// A broker ended cleanly: all that its journal was given is on the disk.
    pub fn signed_off(&mut self, b: usize) {
        for (_, log) in self.logs.iter_mut().filter(|((broker, _), _)| *broker == b) {
            while let Some(write) = log.pending.pop_front() {
                log.take(write);
            }
        }
    }

    pub fn expelled(&mut self, b: usize, group: GroupId) {
        if let Some(log) = self.logs.remove(&(b, group)) {
            self.lost.entry((b, group)).or_default().push(log);
        }
    }

    /// All up to `index` is in segments that a synced checkpoint names.
    pub fn installed(&mut self, b: usize, group: GroupId, index: u64, values: &OneValue) {
        let log = self.logs.entry((b, group)).or_default();
        log.terms.resize(log.terms.len().max(index as usize), 0);
        for at in 1..=index {
            log.terms[at as usize - 1] = values.get(group, at).map_or(0, |chosen| chosen.term);
        }
    }

    /// The journal says that this write and all before it are durable.
    pub fn durable(&mut self, b: usize, group: GroupId, token: u64) {
        let log = self.logs.entry((b, group)).or_default();
        while log.pending.front().is_some_and(|write| write.token <= token) {
            let write = log.pending.pop_front().expect("looked at");
            log.take(write);
        }
    }

    /// Brokers whose disk holds that entry of that term, or did until it was lost.
    pub fn copies(&self, group: GroupId, index: u64, term: u64) -> usize {
        let held = |b: &usize| {
            let lost = self.lost.get(&(*b, group));
            self.holds(*b, group, index, term)
                || lost.is_some_and(|all| all.iter().any(|log| log.holds(index, term)))
        };
        (0..crate::world::BROKERS).filter(held).count()
    }

    /// That entry of that term is durable on `b`.
    pub fn holds(&self, b: usize, group: GroupId, index: u64, term: u64) -> bool {
        let log = self.logs.get(&(b, group));
        log.is_some_and(|log| log.holds(index, term))
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
            if found.is_some_and(|found| found.removed) {
                // Only its files are left.
                self.logs.remove(&(b, group));
                continue;
            }
            // What is named as lost is not promised any more; it neither votes nor leads.
            let hidden = recovered.damage.may_hide_groups();
            let named = found.map_or(hidden, |found| found.suspect.is_some());
            let was = std::mem::replace(log, DiskLog { terms, promise, pending: VecDeque::new() });
            if named {
                self.lost.entry((b, group)).or_default().push(was);
            } else if let Err(text) = was.compare(log) {
                result = Err(format!("group {group} on b{}: {text}", b + 1));
            }
        }
        result
    }
}

impl DiskLog {
    /// What was durable is in what a start `found`.
    fn compare(&self, found: &DiskLog) -> Result<(), String> {
        let (terms, promise) = (&found.terms, found.promise);
        let firsts = self.pending.iter().filter_map(|write| write.entries.first());
        let firsts = firsts.map(|(first, _)| *first);
        let cuts = self.pending.iter().filter_map(|write| write.truncate_from);
        let cut = firsts.chain(cuts).min().unwrap_or(u64::MAX);
        for (at, term) in self.terms.iter().enumerate() {
            let index = at as u64 + 1;
            if *term != 0 && index < cut && terms.get(at) != Some(term) {
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
