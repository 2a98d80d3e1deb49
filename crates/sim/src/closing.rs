//! The end of a process that is allowed to end: what its journal was given is on the disk, and is
//! what raft saw.

use model::GroupId;
use storage::{Disk, DiskError, JournalEvent, OpId};

use crate::broker::{Process, TurnState};
use crate::faults::recover_copy;
use crate::oracle::Invariant;
use crate::world::{World, groups};

impl World {
    /// Drives the journal until nothing is left to write or sync. `false`: the disk is full or
    /// failed; if it failed, the process is gone.
    pub fn flush_journal(&mut self, b: usize) -> bool {
        loop {
            let Some(process) = &mut self.brokers[b].process else { return false };
            let worker = &mut process.journal;
            let mut events = worker.journal.submit(&mut worker.disk);
            let next: Option<OpId> = worker.disk.held().map(|(id, _)| id).next();
            let mut crashed = false;
            if let Some(id) = next {
                worker.under_way.remove(&id);
                worker.disk.release(id);
                let done = worker.disk.complete().expect("released just now");
                crashed = done.result == Err(DiskError::Crashed);
                if !crashed {
                    events.extend(worker.journal.complete(done));
                }
            }
            let quiet = worker.journal.is_quiet();
            if crashed {
                self.die_at_op(b);
                return false;
            }
            for event in events {
                match event {
                    JournalEvent::Durable { done, .. } => {
                        for (group, token) in done {
                            self.oracle.durable.durable(b, group, token);
                        }
                    }
                    JournalEvent::Poisoned { op, .. } => {
                        self.die_of_disk(b, op.as_str());
                        return false;
                    }
                    _ => {}
                }
            }
            if quiet || next.is_none() {
                return quiet;
            }
        }
    }

    /// Each group's log as raft sees it, and as a start would find it. To be asked when the journal
    /// is quiet.
    pub fn disk_is_as_seen(&mut self, b: usize) {
        // What a turn has taken in and not handed out yet is in raft's log, and nowhere else.
        let amid = |process: &Process| process.turn == TurnState::Stepped || process.has_work();
        if self.brokers[b].process.as_deref().is_some_and(amid) {
            return;
        }
        let recovered = match recover_copy(&self.brokers[b].disk.world()) {
            Ok(recovered) => recovered,
            // The bad disk of this life.
            Err(_) if self.faults.has_rotted(b) => return,
            Err(error) => {
                let text = format!("b{}: its disk cannot be read: {error}", b + 1);
                return self.oracle.broken(self.now_ns, Invariant::LogView, text);
            }
        };
        for group in groups() {
            if let Err(text) = self.compare(b, group, &recovered) {
                let text = format!("group {group} on b{}: {text}", b + 1);
                self.oracle.broken(self.now_ns, Invariant::LogView, text);
            }
        }
    }

    fn compare(&self, b: usize, group: GroupId, disk: &storage::Recovered) -> Result<(), String> {
        let Some(process) = &self.brokers[b].process else { return Ok(()) };
        let Some(member) = process.shard.member(group) else { return Ok(()) };
        let raft = &member.group;
        let Some(found) = disk.groups.get(&group) else { return Ok(()) };
        // Raft took a snapshot that no synced checkpoint names yet: by design a start would find the
        // old log, and nobody was told otherwise.
        if raft.is_installing() {
            return Ok(());
        }
        if raft.is_suspect() || found.suspect.is_some() || found.removed {
            return Ok(());
        }
        let kept = disk.checkpoint.as_ref().and_then(|c| c.groups.get(&group));
        let applied = kept.map_or(0, |kept| kept.applied_index);
        let last = found.entries.last().map_or(applied, |entry| entry.index.max(applied));
        if last != raft.last_index() {
            return Err(format!("raft's log ends at {}, the disk's at {last}", raft.last_index()));
        }
        let (seen, now) = (raft.hard_state(), found.hard_state);
        if (seen.term, seen.vote) != (now.term, now.vote) {
            return Err(format!("raft promised {seen:?}, the disk says {now:?}"));
        }
        for entry in found.entries.iter().filter(|entry| entry.index > raft.applied_index()) {
            let here = raft.memory_entries(entry.index, entry.index + 1, u64::MAX);
            if here.first() != Some(entry) {
                let (index, term) = (entry.index, entry.term);
                return Err(format!("entry {index} of term {term} is another one in memory"));
            }
        }
        Ok(())
    }
}
