//! How the rooms of one broker hand work to each other: bounded queues, and never a shard that
//! waits.
//!
//! Waiting is a DAG: connections, peers and the disk threads may wait for a shard; a shard
//! waits for nobody. What it cannot hand over at once stays in its [`Outlet`], and while one is
//! backed up the shard takes no client input.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use model::{GroupId, limits};
use storage::JournalWrite;
use tokio::sync::{mpsc, oneshot};

use crate::shard::{Answer, Input};

/// Where a shard's answer goes.
pub type Reply = oneshot::Sender<Answer>;

/// The two lanes into one shard.
#[derive(Clone)]
pub struct ShardHandle {
    raft: mpsc::Sender<Input<Reply>>,
    client: mpsc::Sender<Input<Reply>>,
}

/// The shard's ends of the lanes.
pub struct Inbox {
    pub raft: mpsc::Receiver<Input<Reply>>,
    pub client: mpsc::Receiver<Input<Reply>>,
}

impl ShardHandle {
    pub fn new() -> (ShardHandle, Inbox) {
        let (raft, raft_inbox) = mpsc::channel(limits::SHARD_RAFT_QUEUE_MAX);
        let (client, client_inbox) = mpsc::channel(limits::SHARD_CLIENT_QUEUE_MAX);
        (ShardHandle { raft, client }, Inbox { raft: raft_inbox, client: client_inbox })
    }

    /// Client work: waits for room, which is what slows a client down. `false`: shutting down.
    pub async fn ask(&self, input: Input<Reply>) -> bool {
        self.client.send(input).await.is_ok()
    }

    /// Work of the raft lane from a thread that may wait. `false`: shutting down.
    pub fn tell_blocking(&self, input: Input<Reply>) -> bool {
        self.raft.blocking_send(input).is_ok()
    }

    /// Work of the raft lane that must not be lost, from a task.
    pub async fn tell(&self, input: Input<Reply>) -> bool {
        self.raft.send(input).await.is_ok()
    }

    /// Raft messages: when the lane is full they are lost, as on a network.
    pub fn try_tell(&self, input: Input<Reply>) -> bool {
        self.raft.try_send(input).is_ok()
    }
}

/// The shards of a broker; a group never changes shard.
#[derive(Clone)]
pub struct Shards(std::sync::Arc<[ShardHandle]>);

impl Shards {
    pub fn new(handles: Vec<ShardHandle>) -> Shards {
        assert!(!handles.is_empty(), "a broker has at least one shard");
        Shards(handles.into())
    }

    pub fn index_of(&self, group: GroupId) -> usize {
        (group.0 % self.0.len() as u64) as usize
    }

    pub fn of(&self, group: GroupId) -> &ShardHandle {
        &self.0[self.index_of(group)]
    }

    pub fn all(&self) -> &[ShardHandle] {
        &self.0
    }
}

/// A bounded queue out of a shard that never makes it wait and never loses anything.
pub struct Outlet<T> {
    queue: SyncSender<T>,
    held: VecDeque<T>,
}

impl<T> Outlet<T> {
    pub fn new(queue: SyncSender<T>) -> Outlet<T> {
        Outlet { queue, held: VecDeque::new() }
    }

    pub fn push(&mut self, work: T) {
        self.held.push_back(work);
        self.drain();
    }

    /// Hands over what room there is for.
    pub fn drain(&mut self) {
        while let Some(work) = self.held.pop_front() {
            match self.queue.try_send(work) {
                Ok(()) => {}
                Err(TrySendError::Full(work)) => {
                    self.held.push_front(work);
                    return;
                }
                // The receiver ended first: the broker is going down.
                Err(TrySendError::Disconnected(_)) => return self.held.clear(),
            }
        }
    }

    pub fn is_backed_up(&self) -> bool {
        !self.held.is_empty()
    }
}

/// Bytes of entries on their way to the journal. Counted apart from its thread, which may be what
/// stands still.
#[derive(Debug, Default)]
pub struct JournalQueue {
    /// Handed over by shards, and not taken yet.
    handed: AtomicU64,
    /// Taken, and not given to the disk yet.
    taken: AtomicU64,
}

impl JournalQueue {
    /// A shard hands these over.
    pub fn hand(&self, writes: &[JournalWrite]) {
        self.handed.fetch_add(bytes_of(writes), Ordering::Relaxed);
    }

    /// The journal's thread takes these.
    pub fn take(&self, writes: &[JournalWrite]) {
        self.handed.fetch_sub(bytes_of(writes), Ordering::Relaxed);
    }

    /// So much of what it took has not been given to the disk.
    pub fn keep(&self, bytes: u64) {
        self.taken.store(bytes, Ordering::Relaxed);
    }

    pub fn bytes(&self) -> u64 {
        self.handed.load(Ordering::Relaxed) + self.taken.load(Ordering::Relaxed)
    }
}

fn bytes_of(writes: &[JournalWrite]) -> u64 {
    writes.iter().flat_map(|write| &write.entries).map(|entry| entry.data.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_the_journal_is_counted_though_its_thread_stands_still() {
        let write = |length: usize| {
            let entry = model::LogEntry {
                index: 1,
                term: 1,
                entry_type: model::RaftEntryType::Normal,
                context: bytes::Bytes::new(),
                data: vec![0; length].into(),
            };
            JournalWrite { entries: vec![entry], ..JournalWrite::default() }
        };
        let (queue, first, second) = (JournalQueue::default(), [write(100)], [write(20), write(3)]);
        queue.hand(&first);
        queue.hand(&second);
        assert_eq!(queue.bytes(), 123);
        queue.take(&first);
        queue.keep(100);
        assert_eq!(queue.bytes(), 123);
        queue.keep(0);
        assert_eq!(queue.bytes(), 23);
    }

    #[test]
    fn an_outlet_keeps_what_does_not_fit_and_its_order() {
        let (queue, taken) = std::sync::mpsc::sync_channel(2);
        let mut outlet = Outlet::new(queue);
        (0..5).for_each(|n| outlet.push(n));
        assert!(outlet.is_backed_up());
        let mut seen = vec![taken.recv().unwrap(), taken.recv().unwrap()];
        outlet.drain();
        seen.extend([taken.recv().unwrap(), taken.recv().unwrap()]);
        outlet.drain();
        seen.push(taken.recv().unwrap());
        assert!(!outlet.is_backed_up());
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }
}
