//! Snapshots on their way into this broker: one task per group that fetches what its leader
//! offers, chunk by chunk, into a directory of its own, and hands it to the group's shard.
//!
//! Invariants: one transfer per group, from the leader's message until the snapshot is installed
//! or given up, so that nothing writes to a home that is in use; a few fetch at a time, together
//! no faster than the limit; what was fetched is kept for the next attempt, in this life or a
//! later one; a transfer that ends without the snapshot says so to the leader, or falls silent.
//! A failed write or sync ends the broker as everywhere; a full disk only the transfer.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use consensus::eraftpb::SnapshotMetadata;
use model::{GroupId, limits};
use serde::Serialize;
use storage::{Disk, DiskError, DiskPath, Manifest, Op, Outcome, RealDisk, StorageError, Transfer};
use telemetry::labels::{Direction, FatalReason, LockClass, LogEvent, SnapshotOutcome};
use telemetry::{Lock, log_limited, metrics};
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::datadir::layout;
use crate::peer::{CallError, SnapshotRead};
use crate::plumbing::Plumbing;
use crate::question::{self, Question, SnapshotFailed};
use crate::shard::{Answer, Input, SnapshotIn, conf_state_from};

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

/// What one step may end in, apart from [`Stop`].
enum Failed {
    Stop(Stop),
    /// Worth another try.
    Again(String),
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Failed {
        Failed::Stop(stop)
    }
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
        let running = Running { wish, news: news.clone(), cancelled: false, began, view };
        all.insert(group, running);
        Some(news)
    }

    fn wish(&self, group: GroupId) -> Option<SnapshotIn> {
        let mut all = self.running.lock();
        let running = all.get_mut(&group).filter(|running| !running.cancelled)?;
        (running.began, running.view) = (Instant::now(), Progress::default());
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
            change(&mut running.view);
        }
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
            self.runtime.spawn(async move { this.fill_group(group, &news).await });
        }
    }

    async fn fill_group(self: &Arc<Self>, group: GroupId, news: &Notify) {
        while let Some(wish) = self.transfers.wish(group) {
            let began = Instant::now();
            let outcome =
                Fill { plumbing: self, wish: &wish, news, begun: false, kept: None }.run().await;
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

/// What an installed snapshot took.
struct Ended {
    bytes: u64,
    fetched: u64,
    resumed: u64,
}

/// One attempt at one snapshot.
struct Fill<'a> {
    plumbing: &'a Arc<Plumbing>,
    wish: &'a SnapshotIn,
    news: &'a Notify,
    begun: bool,
    /// What a failed read interrupted, and of which manifest it was.
    kept: Option<(u32, Work)>,
}

/// A transfer and its own door to the disk; they go to a thread that may block and come back.
type Work = (Transfer, RealDisk);

impl Fill<'_> {
    async fn run(&mut self) -> Result<Ended, Stop> {
        self.stage("waiting");
        let slots = self.plumbing.transfers.slots.clone();
        let slot = self.living(slots.acquire_owned()).await?;
        let _slot = slot.map_err(|_| Stop::Cancelled)?;
        let (mut failures, mut pause) = (0, limits::SNAPSHOT_BACKOFF_MS_MIN);
        loop {
            let before = self.plumbing.transfers.fetched(self.wish.group);
            let why = match self.attempt().await {
                Ok(ended) => return Ok(ended),
                Err(Failed::Stop(stop)) => return Err(stop),
                Err(Failed::Again(why)) => why,
            };
            if self.plumbing.transfers.fetched(self.wish.group) > before {
                (failures, pause) = (0, limits::SNAPSHOT_BACKOFF_MS_MIN);
            }
            failures += 1;
            if failures >= limits::SNAPSHOT_FAILURES_MAX {
                return Err(Stop::GaveUp(format!("{why}; {failures} failures in a row")));
            }
            self.plumbing.transfers.progress(self.wish.group, |it| {
                (it.stage, it.failures, it.last_error) = ("waiting", failures, Some(why));
            });
            let pausing = tokio::time::sleep(Duration::from_millis(pause));
            self.living(pausing).await?;
            pause = (pause * 2).min(limits::SNAPSHOT_BACKOFF_MS_MAX);
        }
    }

    async fn attempt(&mut self) -> Result<Ended, Failed> {
        self.stage("manifest");
        let (manifest, crc) = self.manifest().await?;
        let (group, total) = (self.wish.group, manifest.bytes());
        let manifest = Arc::new(manifest);
        let (base, home) = (base_of(group), self.plumbing.transfers.home(group));
        if manifest.index() <= home {
            return Err(Stop::GaveUp("its entries are in this log already".into()).into());
        }
        let mut work: Work = match self.kept.take().filter(|(kept, _)| *kept == crc) {
            Some((_, work)) => work,
            None => {
                self.stage("looking");
                let mut disk = RealDisk::new(self.plumbing.data_dir());
                let (wanted, reserve) = (manifest.clone(), self.plumbing.transfers.reserve);
                let begin = move || {
                    let transfer = Transfer::begin(&mut disk, &base, home, &wanted)?;
                    let missing = wanted.bytes().saturating_sub(transfer.resumed);
                    match free_bytes(&mut disk)? < missing.saturating_add(reserve) {
                        true => Err(full()),
                        false => Ok((transfer, disk)),
                    }
                };
                self.blocking(begin).await?
            }
        };
        let resumed = work.0.resumed;
        if !std::mem::replace(&mut self.begun, true) {
            let label = SnapshotOutcome::Begun;
            metrics().raft_snapshots_total.at(Direction::Received, label).inc();
            metrics().raft_snapshot_resumed_bytes_total.add(resumed);
            let (name, peer, index) = (&self.wish.name, self.wish.broker.0, manifest.index());
            log_limited!(
                info, LogEvent::Snapshot, group = group.0, %name, peer, index, bytes = total,
                resumed, "fetches a snapshot"
            );
        }
        self.plumbing.transfers.progress(group, |it| {
            (it.stage, it.total, it.resumed) = ("fetching", total, resumed);
            it.bytes = it.bytes.max(resumed);
        });
        while let Some(wanted) = work.0.wanted() {
            self.plumbing.transfers.check(self.wish)?;
            self.pace(wanted.len as u64).await?;
            let file = Some((crc, wanted.file as u32));
            let bytes = match self.read(file, wanted.at, wanted.len).await {
                Ok(bytes) => bytes,
                Err(failed) => {
                    self.kept = Some((crc, work));
                    return Err(failed);
                }
            };
            let (mut transfer, mut disk) = work;
            work = self
                .blocking(move || {
                    transfer.took(&mut disk, bytes)?;
                    Ok((transfer, disk))
                })
                .await?;
            let here = work.0.resumed + work.0.fetched;
            self.plumbing.transfers.progress(group, |it| it.bytes = here);
        }
        self.stage("syncing");
        let (transfer, mut disk) = work;
        let transfer = self
            .blocking(move || {
                transfer.finish(&mut disk)?;
                Ok(transfer)
            })
            .await?;
        self.stage("installing");
        self.install(&manifest).await?;
        Ok(Ended { bytes: total, fetched: transfer.fetched, resumed })
    }

    /// The manifest, which says what the message said, and its checksum.
    async fn manifest(&self) -> Result<(Manifest, u32), Failed> {
        let mut bytes = BytesMut::new();
        loop {
            let len = limits::TRANSFER_READ_BYTES;
            let chunk = self.read(None, bytes.len() as u64, len).await?;
            bytes.extend_from_slice(&chunk);
            if bytes.len() > limits::SNAPSHOT_MANIFESTS_BYTES_MAX {
                return Err(Stop::GaveUp("its manifest is too large".into()).into());
            }
            if chunk.len() < len {
                break;
            }
        }
        let bytes = bytes.freeze();
        let crc = crc32c::crc32c(&bytes);
        let manifest = Manifest::decode(bytes);
        let manifest = manifest.ok_or_else(|| Failed::Again("no manifest came".into()))?;
        match fits(&manifest, self.wish) {
            true => Ok((manifest, crc)),
            false => {
                let why = "its manifest is of something else than its message";
                Err(Stop::GaveUp(why.into()).into())
            }
        }
    }

    async fn read(&self, file: Option<(u32, u32)>, at: u64, len: usize) -> Result<Bytes, Failed> {
        let Some(peers) = self.plumbing.peers() else { return Err(Stop::Cancelled.into()) };
        let ask = self.ask(file, at, len);
        let within = Duration::from_millis(limits::SNAPSHOT_READ_MS_MAX);
        let reading = peers.read(self.wish.broker, ask, within);
        let bytes = match self.unless_news(reading).await? {
            Ok(bytes) => bytes,
            Err(CallError::Gone(why)) => return Err(Stop::GaveUp(why).into()),
            Err(error) => return Err(Failed::Again(error.to_string())),
        };
        if bytes.len() > len || (bytes.is_empty() && file.is_some()) {
            return Err(Failed::Again("not the bytes that were asked for".into()));
        }
        metrics().raft_snapshot_bytes_total.at(Direction::Received).add(bytes.len() as u64);
        Ok(bytes)
    }

    fn ask(&self, file: Option<(u32, u32)>, at: u64, len: usize) -> SnapshotRead {
        let SnapshotIn { group, replica, .. } = *self.wish;
        SnapshotRead { group, replica, index: metadata(self.wish).index, file, at, len }
    }

    async fn pace(&self, bytes: u64) -> Result<(), Stop> {
        let wait = self.plumbing.transfers.pace.lock().take(Instant::now(), bytes);
        if wait.is_zero() { Ok(()) } else { self.living(tokio::time::sleep(wait)).await }
    }

    /// The shard lets raft take it, and answers when it is installed.
    async fn install(&self, manifest: &Arc<Manifest>) -> Result<(), Failed> {
        let group = self.wish.group;
        let mut manifest = Manifest::clone(manifest);
        manifest.position.home = manifest.index();
        let SnapshotIn { sender, message, .. } = self.plumbing.transfers.newest(self.wish);
        let (reply, answer) = oneshot::channel();
        let manifest = Box::new(manifest);
        let fetched = Input::Fetched { group, sender, message, manifest, reply };
        if !self.plumbing.shards.of(group).tell(fetched).await {
            return Err(Stop::Cancelled.into());
        }
        // From here on the home may be in use: whatever happens, nothing more is written to it.
        let signs = async {
            loop {
                tokio::time::sleep(Duration::from_millis(limits::SNAPSHOT_SIGN_MS)).await;
                self.sign_of_life().await;
            }
        };
        let cancelled = async {
            while self.plumbing.transfers.check(self.wish) != Err(Stop::Cancelled) {
                self.news.notified().await;
            }
        };
        let why = tokio::select! {
            answer = answer => match answer {
                Ok(Answer::Done) => return Ok(()),
                Ok(Answer::Refused(refusal)) => refusal.why,
                Ok(other) => format!("an answer to nothing: {other:?}"),
                Err(_) => "the replica is out of service".into(),
            },
            () = cancelled => return Err(Stop::Cancelled.into()),
            () = signs => unreachable!("they do not end"),
        };
        Err(Stop::GaveUp(why).into())
    }

    async fn sign_of_life(&self) {
        if let Some(peers) = self.plumbing.peers() {
            let within = Duration::from_millis(limits::SNAPSHOT_SIGN_MS);
            // Not heard is like silence: the leader gives up, and sends it again.
            let _ = peers.read(self.wish.broker, self.ask(None, 0, 0), within).await;
        }
    }

    /// Runs `f`, telling the leader that this transfer lives; stops for news.
    async fn living<T>(&self, f: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::pin!(f);
        let every = Duration::from_millis(limits::SNAPSHOT_SIGN_MS);
        let mut sign_at = tokio::time::Instant::now() + every;
        loop {
            self.plumbing.transfers.check(self.wish)?;
            tokio::select! {
                done = &mut f => return Ok(done),
                () = self.news.notified() => {}
                () = tokio::time::sleep_until(sign_at) => {
                    self.sign_of_life().await;
                    sign_at = tokio::time::Instant::now() + every;
                }
            }
        }
    }

    /// The same without signs: what is asked for is one.
    async fn unless_news<T>(&self, f: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::pin!(f);
        loop {
            self.plumbing.transfers.check(self.wish)?;
            tokio::select! {
                done = &mut f => return Ok(done),
                () = self.news.notified() => {}
            }
        }
    }

    /// Runs `f` where it may block, to its end, and judges how it failed.
    async fn blocking<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, Failed> {
        let mut running = tokio::task::spawn_blocking(f);
        let every = Duration::from_millis(limits::SNAPSHOT_SIGN_MS);
        // Never left alone: what it writes to must not be another's before it has ended.
        let done = loop {
            match tokio::time::timeout(every, &mut running).await {
                Ok(done) => break done,
                Err(_) => self.sign_of_life().await,
            }
        };
        match done {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(StorageError::Disk(error))) if error.poisons() => self
                .plumbing
                .fatal(FatalReason::SegmentFailed, &format!("writing a snapshot failed: {error}")),
            Ok(Err(StorageError::Disk(error @ DiskError::Full { .. }))) => {
                let why = format!("{error}; free some in the log directory");
                Err(Stop::GaveUp(why).into())
            }
            Ok(Err(error)) => Err(Failed::Again(error.to_string())),
            Err(error) => Err(Stop::GaveUp(error.to_string()).into()),
        }
    }

    fn stage(&self, stage: &'static str) {
        self.plumbing.transfers.progress(self.wish.group, |it| it.stage = stage);
    }
}

impl Transfers {
    fn fetched(&self, group: GroupId) -> u64 {
        self.running.lock().get(&group).map_or(0, |running| running.view.bytes)
    }
}

fn base_of(group: GroupId) -> DiskPath {
    DiskPath::new(layout::PARTITIONS).join(&group.to_string())
}

fn fits(manifest: &Manifest, wish: &SnapshotIn) -> bool {
    let named = metadata(wish);
    manifest.group == wish.group
        && (manifest.index(), manifest.term) == (named.index, named.term)
        && conf_state_from(&manifest.conf_state).is_ok_and(|it| it == *named.get_conf_state())
}

fn free_bytes(disk: &mut RealDisk) -> Result<u64, StorageError> {
    match storage::call(disk as &mut dyn Disk, Op::FreeSpace)? {
        Outcome::Free(free) => Ok(free),
        other => unreachable!("free space was asked for, not {other:?}"),
    }
}

/// There is no room for all of it.
fn full() -> StorageError {
    let (op, path) = (storage::OpKind::Write, DiskPath::new(layout::PARTITIONS));
    StorageError::Disk(DiskError::Full { op, path })
}
