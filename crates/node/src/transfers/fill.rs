//! One attempt at one snapshot: manifest, files, installation, with signs of life to the leader
//! all the while.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use model::{GroupId, limits};
use storage::{Disk, DiskError, DiskPath, Manifest, Op, Outcome, RealDisk, StorageError, Transfer};
use telemetry::labels::{Direction, FatalReason, LogEvent, SnapshotOutcome};
use telemetry::{log_limited, metrics};
use tokio::sync::{Notify, oneshot};

use super::{Stop, metadata};
use crate::datadir::layout;
use crate::peer::{CallError, SnapshotRead};
use crate::plumbing::Plumbing;
use crate::shard::{Answer, Input, SnapshotIn, conf_state_from};

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

/// What an installed snapshot took.
pub(super) struct Ended {
    pub bytes: u64,
    pub fetched: u64,
    pub resumed: u64,
}

/// One attempt at one snapshot.
pub(super) struct Fill<'a> {
    plumbing: &'a Arc<Plumbing>,
    wish: &'a SnapshotIn,
    news: &'a Notify,
    begun: bool,
    /// What a failed read interrupted, and of which manifest it was.
    kept: Option<(u32, Work)>,
}

impl<'a> Fill<'a> {
    pub fn new(plumbing: &'a Arc<Plumbing>, wish: &'a SnapshotIn, news: &'a Notify) -> Fill<'a> {
        Fill { plumbing, wish, news, begun: false, kept: None }
    }
}

/// A transfer and its own door to the disk; they go to a thread that may block and come back.
type Work = (Transfer, RealDisk);

impl Fill<'_> {
    pub async fn run(&mut self) -> Result<Ended, Stop> {
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
            never = self.signs_of_life() => match never {},
        };
        Err(Stop::GaveUp(why).into())
    }

    async fn signs_of_life(&self) -> Infallible {
        loop {
            tokio::time::sleep(Duration::from_millis(limits::SNAPSHOT_SIGN_MS)).await;
            self.sign_of_life().await;
        }
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
        let mut running = telemetry::task::spawn_blocking("write snapshot", f);
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
