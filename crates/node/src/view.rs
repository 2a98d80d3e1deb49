//! What readers of a partition see: published by the shard's driver, read by every connection.
//!
//! Invariants: a fetch never asks a shard; the high watermark only rises; the tail cache and
//! the segment list overlap or meet, so every offset below the high watermark is in one of
//! them; the locks are leaves, held for a few pointer moves.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use model::{GroupId, limits};
use storage::SegmentList;
use telemetry::Lock;
use telemetry::labels::LockClass;
use tokio::sync::Notify;

use crate::shard::{MemberStatus, ViewUpdate};
use crate::tenants::Traffic;

/// One long poll, subscribed to any number of views.
#[derive(Default)]
pub struct Waiter {
    notify: Notify,
}

impl Waiter {
    pub fn new() -> Arc<Waiter> {
        Arc::new(Waiter::default())
    }

    /// Returns after any publication of a subscribed view since [`PartitionView::subscribe`].
    pub async fn wait(&self) {
        self.notify.notified().await;
    }
}

/// A partition at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewState {
    pub serving: bool,
    /// The leader epoch (raft term) served, or last known.
    pub epoch: i32,
    pub high_watermark: i64,
    pub log_start: i64,
}

struct CachedBatch {
    base_offset: i64,
    last_offset: i64,
    bytes: Bytes,
}

/// What all tail caches of a broker hold together, and may hold.
pub struct TailBudget {
    used: AtomicUsize,
    max: usize,
}

impl TailBudget {
    /// At most three eighths of the memory budget: frames and proposals need the rest.
    pub fn of(memory_budget_bytes: usize) -> TailBudget {
        let max = limits::TAIL_CACHE_BYTES_MAX.min(memory_budget_bytes / 8 * 3);
        TailBudget { used: AtomicUsize::new(0), max }
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// The published face of one replica.
pub struct PartitionView {
    group: GroupId,
    serving: AtomicBool,
    epoch: AtomicU64,
    high_watermark: AtomicI64,
    log_start: AtomicI64,
    tail: Lock<VecDeque<CachedBatch>>,
    cached: Arc<TailBudget>,
    segments: Lock<Option<Arc<SegmentList>>>,
    waiters: Lock<Vec<Weak<Waiter>>>,
    traffic: Arc<Traffic>,
    status: Lock<MemberStatus>,
}

/// Where a read finds its bytes.
pub(crate) enum Found {
    /// In memory: whole batches.
    Cached(Vec<Bytes>),
    Segments(Arc<SegmentList>),
    Nothing,
}

impl PartitionView {
    pub(crate) fn new(group: GroupId, cached: Arc<TailBudget>) -> PartitionView {
        PartitionView {
            group,
            serving: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
            high_watermark: AtomicI64::new(0),
            log_start: AtomicI64::new(0),
            tail: Lock::new(LockClass::TailCache, VecDeque::new()),
            cached,
            segments: Lock::new(LockClass::SegmentList, None),
            waiters: Lock::new(LockClass::Waiters, Vec::new()),
            traffic: Arc::default(),
            status: Lock::new(LockClass::Debug, MemberStatus::default()),
        }
    }

    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Serving is read first: a lost leadership is seen before anything newer.
    pub fn state(&self) -> ViewState {
        ViewState {
            serving: self.serving.load(Ordering::Acquire),
            epoch: self.epoch.load(Ordering::Acquire) as i32,
            high_watermark: self.high_watermark.load(Ordering::Acquire),
            log_start: self.log_start.load(Ordering::Acquire),
        }
    }

    /// Wakes `waiter` at the next publication. Forgotten when the waiter is dropped.
    pub fn subscribe(&self, waiter: &Arc<Waiter>) {
        let mut waiters = self.waiters.lock();
        if waiters.len() >= 64 && waiters.len().is_power_of_two() {
            waiters.retain(|waiter| waiter.strong_count() > 0);
        }
        waiters.push(Arc::downgrade(waiter));
    }

    /// What clients brought here and took from here.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    pub fn status(&self) -> MemberStatus {
        self.status.lock().clone()
    }

    pub(crate) fn set_status(&self, status: MemberStatus) {
        *self.status.lock() = status;
    }

    /// Publishes a turn's outcome, then wakes who waits for it.
    /// False: the high watermark that readers were shown is above the new one, which a leader
    /// must never say.
    pub(crate) fn publish(&self, update: ViewUpdate) -> bool {
        if update.serving.is_none() {
            self.serving.store(false, Ordering::Release);
        }
        self.traffic.took(update.took);
        if !update.batches.is_empty() {
            let mut added = 0;
            let mut tail = self.tail.lock();
            for (base_offset, last_offset, bytes) in update.batches {
                added += bytes.len();
                tail.push_back(CachedBatch { base_offset, last_offset, bytes });
            }
            drop(tail);
            self.cached.used.fetch_add(added, Ordering::Relaxed);
        }
        self.log_start.fetch_max(update.log_start, Ordering::AcqRel);
        let shown = self.high_watermark.fetch_max(update.high_watermark, Ordering::AcqRel);
        let fell = update.serving.is_some() && update.high_watermark < shown;
        self.epoch.store(update.term, Ordering::Release);
        if update.serving.is_some() {
            self.serving.store(true, Ordering::Release);
        }
        let waiters = std::mem::take(&mut *self.waiters.lock());
        for waiter in waiters.iter().filter_map(Weak::upgrade) {
            waiter.notify.notify_one();
        }
        !fell
    }

    pub(crate) fn segments(&self) -> Option<Arc<SegmentList>> {
        self.segments.lock().clone()
    }

    /// Bytes of the batches in this replica's segments.
    pub fn segment_bytes(&self) -> u64 {
        let list = self.segments();
        list.map_or(0, |list| list.segments().iter().map(|segment| segment.log_bytes).sum())
    }

    /// The segment thread has written up to `list.next_offset()`: the cache gives back what the
    /// budget no longer allows.
    pub(crate) fn set_segments(&self, list: Arc<SegmentList>) {
        let written = list.next_offset();
        *self.segments.lock() = Some(list);
        // A replica that serves nobody needs no cache once its bytes are in segments.
        let keep = self.serving.load(Ordering::Acquire);
        let mut freed = 0;
        let mut tail = self.tail.lock();
        while let Some(front) = tail.front() {
            let over = self.cached.used() - freed > self.cached.max;
            if front.last_offset >= written || (keep && !over) {
                break;
            }
            freed += front.bytes.len();
            tail.pop_front();
        }
        drop(tail);
        self.cached.used.fetch_sub(freed, Ordering::Relaxed);
    }

    /// A snapshot took the place of the log: what is cached lies below it, or was never in it.
    /// Nobody is served meanwhile: a replica that is filled does not lead.
    pub(crate) fn replace_segments(&self, list: Arc<SegmentList>) {
        *self.segments.lock() = Some(list);
        let freed: usize = self.tail.lock().drain(..).map(|batch| batch.bytes.len()).sum();
        self.cached.used.fetch_sub(freed, Ordering::Relaxed);
    }

    /// Whole batches from the one that holds `offset`, below the high watermark: the first one
    /// however large, then as many as fit.
    pub(crate) fn find(&self, offset: i64, max_bytes: usize) -> Found {
        let high_watermark = self.high_watermark.load(Ordering::Acquire);
        if offset >= high_watermark {
            return Found::Nothing;
        }
        let tail = self.tail.lock();
        if tail.front().is_some_and(|front| front.base_offset <= offset) {
            let from = tail.partition_point(|batch| batch.last_offset < offset);
            let mut batches = Vec::new();
            let mut bytes = 0;
            for batch in tail.range(from..) {
                let full = !batches.is_empty() && bytes + batch.bytes.len() > max_bytes;
                if full || batch.last_offset >= high_watermark {
                    break;
                }
                bytes += batch.bytes.len();
                batches.push(batch.bytes.clone());
            }
            return Found::Cached(batches);
        }
        drop(tail);
        match self.segments() {
            Some(list) if offset < list.next_offset() => Found::Segments(list),
            _ => Found::Nothing,
        }
    }

    /// Cached batches from `from` on, for look-ups by time.
    pub(crate) fn cached_from(&self, from: i64) -> Vec<Bytes> {
        let tail = self.tail.lock();
        tail.iter().filter(|batch| batch.last_offset >= from).map(|b| b.bytes.clone()).collect()
    }
}

impl Drop for PartitionView {
    fn drop(&mut self) {
        let held: usize = self.tail.get_mut().iter().map(|batch| batch.bytes.len()).sum();
        self.cached.used.fetch_sub(held, Ordering::Relaxed);
    }
}
