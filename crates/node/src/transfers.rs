//! Snapshots on their way into this broker: one task per group that fetches what its leader
//! offers, chunk by chunk, into a directory of its own, and hands it to the group's shard.
//!
//! Invariants: one transfer per group, from the leader's message until the snapshot is installed
//! or given up, so that nothing writes to a home that is in use; a few fetch at a time, together
//! no faster than the limit; what was fetched is kept for the next attempt, in this life or a
//! later one; a transfer that ends without the snapshot says so to the leader, or falls silent.
//! A failed write or sync ends the broker as everywhere; a full disk only the transfer.

mod fill;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use consensus::eraftpb::SnapshotMetadata;
use model::{GroupId, limits};
use serde::Serialize;
use telemetry::labels::{Direction, LockClass, LogEvent, SnapshotOutcome};
use telemetry::{Lock, log_limited, metrics};
use tokio::sync::{Notify, Semaphore};

use crate::plumbing::Plumbing;
use crate::question::{self, Question, SnapshotFailed};
use crate::shard::SnapshotIn;
use fill::{Ended, Fill};

/// After it gave up a transfer waits so long before it tries again, if its leader still wants to.
const REST: Duration = Duration::from_millis(limits::SNAPSHOT_REST_MS);

/// One transfer for people.
#[derive(Debug, Clone, Serialize)]
pub struct TransferView {
    pub group: u64,
    pub name: String,
    pub from_broker: i32,
    pub index: u64,
    pub stage: &'static str,
    /// Of `total` bytes of files so many are here, so many of them from an earlier attempt.
    pub bytes: u64,
    pub total: u64,
    pub resumed: u64,
    pub since_ms: u64,
    pub failures: u32,
    pub last_error: Option<String>,
}

/// One group's transfer, as long as its task runs.
struct Running {
    /// The leader's newest word.
    wish: SnapshotIn,
    news: Arc<Notify>,
    cancelled: bool,
    began: Instant,
    /// When it got its last byte, or began.
    moved: Instant,
    view: Progress,
}

#[derive(Debug, Clone, Default)]
struct Progress {
    stage: &'static str,
    bytes: u64,
    total: u64,
    resumed: u64,
    failures: u32,
    last_error: Option<String>,
}

/// All of a broker's; see the module.
pub struct Transfers {
    running: Lock<BTreeMap<GroupId, Running>>,
    /// In which home each group's segments are, where that is not the plain one.
    homes: Lock<BTreeMap<GroupId, u64>>,
    slots: Arc<Semaphore>,
    pace: Lock<Pace>,
    /// Bytes that a transfer leaves free on the disk.
    reserve: u64,
    stopped: AtomicBool,
}

/// Spreads bytes over time.
struct Pace {
    per_second: u64,
    /// When all bytes so far are paid for.
    free_at: Instant,
}

impl Pace {
    /// How long to wait before so many bytes.
    fn take(&mut self, now: Instant, bytes: u64) -> Duration {
        let wait = self.free_at.saturating_duration_since(now);
        let cost =
            Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.per_second.max(1));
        self.free_at = self.free_at.max(now) + cost;
        wait
    }
}

/// Why a transfer ends without its snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stop {
    /// The leader, or another one, sent another snapshot: that one is fetched.
    Superseded,
    /// The group goes, or the broker.
    Cancelled,
    GaveUp(String),
}

impl Transfers {
    pub fn new(bytes_per_second: u64, reserve: u64) -> Transfers {
        Transfers {
            running: Lock::new(LockClass::Debug, BTreeMap::new()),
            homes: Lock::new(LockClass::Debug, BTreeMap::new()),
            slots: Arc::new(Semaphore::new(limits::SNAPSHOT_TRANSFERS_MAX)),
            pace: Lock::new(
                LockClass::Debug,
                Pace { per_second: bytes_per_second, free_at: Instant::now() },
            ),
            reserve,
            stopped: AtomicBool::new(false),
        }
    }

    /// The group's segments are there from now on.
    pub fn set_home(&self, group: GroupId, home: u64) {
        self.homes.lock().insert(group, home);
    }

    fn home(&self, group: GroupId) -> u64 {
        self.homes.lock().get(&group).copied().unwrap_or(0)
    }

    /// The group goes: its transfer ends as soon as it can.
    pub fn cancel(&self, group: GroupId) {
        self.homes.lock().remove(&group);
        if let Some(running) = self.running.lock().get_mut(&group) {
            running.cancelled = true;
            running.news.notify_one();
        }
    }

    /// True while something may still be written for the group.
    pub fn is_running(&self, group: GroupId) -> bool {
        self.running.lock().contains_key(&group)
    }

    /// Every transfer ends as soon as it can, and none begins; true once none is left.
    pub fn stop(&self) -> bool {
        self.stopped.store(true, Ordering::Release);
        let mut running = self.running.lock();
        for running in running.values_mut().filter(|running| !running.cancelled) {
            running.cancelled = true;
            running.news.notify_one();
        }
        running.is_empty()
    }

    pub fn status(&self) -> Vec<TransferView> {
        let running = self.running.lock();
        let view = |(group, running): (&GroupId, &Running)| TransferView {
            group: group.0,
            name: running.wish.name.clone(),
            from_broker: running.wish.broker.0,
            index: metadata(&running.wish).index,
            stage: running.view.stage,
            bytes: running.view.bytes,
            total: running.view.total,
            resumed: running.view.resumed,
            since_ms: running.began.elapsed().as_millis() as u64,
            failures: running.view.failures,
            last_error: running.view.last_error.clone(),
        };
        running.iter().map(view).collect()
    }

    /// Takes a leader's word. `Some`: a task is to be begun for it.
    fn take(&self, wish: SnapshotIn) -> Option<Arc<Notify>> {
        let group = wish.group;
        let mut all = self.running.lock();
        if self.stopped.load(Ordering::Acquire) {
            return None;
        }
        if let Some(running) = all.get_mut(&group) {
            running.wish = wish;
            running.news.notify_one();
            return None;
        }
        let news = Arc::new(Notify::new());
        let view = Progress { stage: "waiting", ..Progress::default() };
        let began = Instant::now();
        let (news_of, moved) = (news.clone(), began);
        let running = Running { wish, news: news_of, cancelled: false, began, moved, view };
        all.insert(group, running);
        Some(news)
    }

    fn wish(&self, group: GroupId) -> Option<SnapshotIn> {
        let mut all = self.running.lock();
        let running = all.get_mut(&group).filter(|running| !running.cancelled)?;
        (running.began, running.view) = (Instant::now(), Progress::default());
        running.moved = running.began;
        Some(running.wish.clone())
    }

    /// Whether `wish` is still what is wanted.
    fn check(&self, wish: &SnapshotIn) -> Result<(), Stop> {
        match self.running.lock().get(&wish.group) {
            Some(running) if running.cancelled => Err(Stop::Cancelled),
            None => Err(Stop::Cancelled),
            Some(running) if !is_same(&running.wish, wish) => Err(Stop::Superseded),
            Some(_) => Ok(()),
        }
    }

    /// The leader's last message of this snapshot: its term may be newer than the first one's.
    fn newest(&self, wish: &SnapshotIn) -> SnapshotIn {
        let all = self.running.lock();
        let known = all.get(&wish.group).map(|running| &running.wish);
        known.filter(|newest| is_same(newest, wish)).unwrap_or(wish).clone()
    }

    fn progress(&self, group: GroupId, change: impl FnOnce(&mut Progress)) {
        if let Some(running) = self.running.lock().get_mut(&group) {
            let before = running.view.bytes;
            change(&mut running.view);
            if running.view.bytes != before {
                running.moved = Instant::now();
            }
        }
    }

    /// For how long the transfer that fetches and waits longest has got no byte.
    pub fn stuck(&self) -> Duration {
        let running = self.running.lock();
        // Each attempt begins with the manifest again.
        let stages = ["manifest", "fetching"];
        let fetching = running.values().filter(|it| stages.contains(&it.view.stage));
        fetching.map(|it| it.moved.elapsed()).max().unwrap_or_default()
    }

    fn fetched(&self, group: GroupId) -> u64 {
        self.running.lock().get(&group).map_or(0, |running| running.view.bytes)
    }

    /// The task ends, unless another snapshot is wanted by now. True: it ends.
    fn end(&self, wish: &SnapshotIn) -> bool {
        let mut all = self.running.lock();
        let running = all.get(&wish.group);
        let ends = running.is_none_or(|it| it.cancelled || is_same(&it.wish, wish));
        if ends {
            all.remove(&wish.group);
        }
        ends
    }
}

fn metadata(wish: &SnapshotIn) -> &SnapshotMetadata {
    wish.message.get_snapshot().get_metadata()
}

fn is_same(a: &SnapshotIn, b: &SnapshotIn) -> bool {
    let point = |wish: &SnapshotIn| (metadata(wish).index, metadata(wish).term);
    a.sender == b.sender && a.broker == b.broker && point(a) == point(b)
}

impl Plumbing {
    /// A leader named a snapshot that this broker's replica needs.
    pub fn fill(self: &Arc<Self>, wish: SnapshotIn) {
        let group = wish.group;
        if let Some(news) = self.transfers.take(wish) {
            let this = self.clone();
            let fill = async move { this.fill_group(group, &news).await };
            telemetry::task::spawn_on(&self.runtime, "fill replica", fill);
        }
    }

    async fn fill_group(self: &Arc<Self>, group: GroupId, news: &Notify) {
        while let Some(wish) = self.transfers.wish(group) {
            let began = Instant::now();
            let outcome = Fill::new(self, &wish, news).run().await;
            let (name, peer, index) = (&wish.name, wish.broker.0, metadata(&wish).index);
            let seconds = &metrics().raft_snapshot_seconds;
            let count = |end| metrics().raft_snapshots_total.at(Direction::Received, end).inc();
            match outcome {
                Ok(end) => {
                    count(SnapshotOutcome::Finished);
                    seconds.observe(began.elapsed().as_nanos() as u64);
                    let Ended { bytes, fetched, resumed } = end;
                    let ms = began.elapsed().as_millis() as u64;
                    log_limited!(
                        info, LogEvent::Snapshot, group = group.0, %name, peer, index, bytes,
                        fetched, resumed, ms, "replica filled by a snapshot"
                    );
                }
                Err(Stop::GaveUp(why)) => {
                    count(SnapshotOutcome::Failed);
                    log_limited!(
                        warn, LogEvent::Snapshot, group = group.0, %name, peer, index, %why,
                        "gave a snapshot up; what was fetched is kept"
                    );
                    self.transfers.progress(group, |it| {
                        (it.stage, it.last_error) = ("gave up", Some(why.clone()));
                    });
                    self.report_failed(&wish, why).await;
                    self.rest(&wish, news).await;
                }
                Err(Stop::Superseded) => {
                    count(SnapshotOutcome::Superseded);
                    log_limited!(
                        info, LogEvent::Snapshot, group = group.0, %name, peer, index,
                        "another snapshot takes the place of this one"
                    );
                }
                Err(Stop::Cancelled) => {}
            }
            if self.transfers.end(&wish) {
                return;
            }
        }
        // Cancelled before it began.
        self.transfers.running.lock().remove(&group);
    }

    /// So that its leader need not wait for our silence.
    async fn report_failed(&self, wish: &SnapshotIn, why: String) {
        let failed = SnapshotFailed {
            group: wish.group.0,
            replica: wish.replica.0,
            index: metadata(wish).index,
            why,
        };
        let body = question::encode(&Question::SnapshotFailed(failed));
        let within = Duration::from_millis(limits::SNAPSHOT_READ_MS_MAX);
        if let Some(peers) = self.peers()
            && let Err(error) = peers.call(wish.broker, body, within).await
        {
            telemetry::tracing::debug!(%error, "a failed transfer was not reported");
        }
    }

    async fn rest(&self, wish: &SnapshotIn, news: &Notify) {
        let ends = tokio::time::Instant::now() + REST;
        while self.transfers.check(wish).is_ok() {
            if tokio::time::timeout_at(ends, news.notified()).await.is_err() {
                return;
            }
        }
    }
}
