//! The journal's writer.
use super::{JournalConfig, JournalEvent, JournalWrite, Recovered, SyncedState};
use crate::disk::{Completion, Disk};
use model::{GroupId, Lsn};

/// The writer. Feed it `enqueue`, then `submit` and `complete` in turn.
pub struct Journal {}

#[allow(unused_variables)]
impl Journal {
    /// `file_key` is random: it seeds the checksums of this run's files.
    pub fn open(recovered: &Recovered, config: JournalConfig, file_key: u64) -> Journal {
        unreachable!("lands with the journal's body")
    }
    pub fn enqueue(&mut self, write: JournalWrite) {
        unreachable!("lands with the journal's body")
    }
    /// Hands over whatever may run now. Call after `enqueue` and after every `complete`.
    pub fn submit(&mut self, disk: &mut dyn Disk) -> Vec<JournalEvent> {
        unreachable!("lands with the journal's body")
    }
    /// Takes one of its own completions.
    pub fn complete(&mut self, completion: Completion) -> Vec<JournalEvent> {
        unreachable!("lands with the journal's body")
    }
    /// Nothing was enqueued for a while: a sync mark is written if records lie unmarked.
    pub fn idle(&mut self) {
        unreachable!("lands with the journal's body")
    }
    /// `SyncPolicy::Interval`: the interval is over.
    pub fn sync_due(&mut self) {
        unreachable!("lands with the journal's body")
    }
    /// A checkpoint is synced: (group, applied index, as-of LSN) of every group in it.
    pub fn checkpointed(&mut self, groups: &[(GroupId, u64, Lsn)]) {
        unreachable!("lands with the journal's body")
    }
    /// Room may be there again: tries what the disk refused.
    pub fn retry_space(&mut self) {
        unreachable!("lands with the journal's body")
    }
    /// For the checkpoint: every living group's synced promises.
    pub fn synced_states(&self) -> Vec<SyncedState> {
        unreachable!("lands with the journal's body")
    }
    pub fn durable_lsn(&self) -> Lsn {
        unreachable!("lands with the journal's body")
    }
    pub fn synced_lsn(&self) -> Lsn {
        unreachable!("lands with the journal's body")
    }
    pub fn last_lsn_of(&self, group: GroupId) -> Option<Lsn> {
        unreachable!("lands with the journal's body")
    }
    pub fn queued_bytes(&self) -> usize {
        unreachable!("lands with the journal's body")
    }
    /// Bytes of the files in use.
    pub fn bytes(&self) -> u64 {
        unreachable!("lands with the journal's body")
    }
    /// True when nothing is queued or under way.
    pub fn is_quiet(&self) -> bool {
        unreachable!("lands with the journal's body")
    }
    pub fn oldest_pinning_groups(&self) -> Vec<GroupId> {
        unreachable!("lands with the journal's body")
    }
}
