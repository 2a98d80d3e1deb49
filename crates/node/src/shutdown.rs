//! The way out: leaderships handed over, everything synced and checkpointed, what was promised
//! written down, in bounded time and with progress told.
//!
//! Invariants: the manifest is written after the journal's last sync and says what that sync
//! made durable; the life is marked clean only if nothing that was promised is missing there;
//! being asked again skips what only makes things smoother (hand-over, checkpoint), never the
//! sync and the manifest.

use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use model::{GroupId, limits};
use telemetry::labels::Invariant;
use telemetry::metrics;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::boot::Threads;
use crate::journal_thread::JournalMail;
use crate::manifest::{GroupEnd, Manifest};
use crate::node::Node;
use crate::segment_thread::SegmentMail;

const LOOK: Duration = Duration::from_millis(5);
/// Progress is told at least this often while something is waited for.
const TELL: Duration = Duration::from_secs(1);

/// Set when somebody asks a second time: what is not needed for safety is skipped.
#[derive(Debug)]
pub struct Hurry(watch::Sender<bool>);

impl Default for Hurry {
    fn default() -> Self {
        Hurry(watch::Sender::new(false))
    }
}

impl Hurry {
    pub fn ask(&self) {
        self.0.send_replace(true);
    }

    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once somebody asked.
    pub async fn asked(&self) {
        let mut seen = self.0.subscribe();
        if seen.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Node {
    /// The whole way out, for whoever has no listener to drain in between.
    pub async fn shutdown(&self, deadline: Duration, progress: impl Fn(String)) -> bool {
        let (ends, hurry) = (Instant::now() + deadline, Hurry::default());
        self.hand_over(ends, &hurry, &progress).await;
        self.close(ends, &hurry, &progress).await
    }

    /// Leaderships of groups that another replica can lead go there; clients are served
    /// meanwhile and told where to go. This broker takes none any more.
    pub async fn hand_over(&self, ends: Instant, hurry: &Hurry, progress: &impl Fn(String)) {
        self.stepped_aside.store(false, Ordering::Release);
        self.give_leaderships_away().await;
        let started = Instant::now();
        let ends = ends.min(started + Duration::from_millis(limits::HAND_OVER_MS_MAX));
        let first = self.leaderships_to_give();
        let mut told_at: Option<Instant> = None;
        while Instant::now() < ends && !hurry.is_asked() {
            let left = self.leaderships_to_give();
            if left == 0 || self.heirs() == 0 {
                let (took, given) = (started.elapsed().as_millis(), first.saturating_sub(left));
                progress(format!("handed {given} leaderships over in {took} ms, kept {left}"));
                return;
            }
            if told_at.is_none_or(|at| at.elapsed() >= TELL) {
                progress(format!("handing {left} leaderships over"));
                told_at = Some(Instant::now());
            }
            tokio::time::sleep(LOOK).await;
        }
        progress(format!("{} leaderships were not handed over", self.leaderships_to_give()));
    }

    /// Checkpoints, syncs, ends the threads, writes the manifest. True: everything is on disk
    /// and the next start is a clean one.
    pub async fn close(&self, ends: Instant, hurry: &Hurry, progress: &impl Fn(String)) -> bool {
        let Some(threads) = self.threads.lock().take() else { return false };
        if !hurry.is_asked() {
            let took = Instant::now();
            match checkpoint(&threads, ends, hurry).await {
                true => progress(format!("checkpoint in {} ms", took.elapsed().as_millis())),
                false => progress("no checkpoint: the next start replays the journal".into()),
            }
        }
        // Before the directory's lock is released nothing may write to it any more.
        while !self.plumbing.transfers.stop() && Instant::now() < ends {
            tokio::time::sleep(LOOK).await;
        }
        let clean = match end_threads(threads, ends, progress).await {
            Some(groups) => self.sign_off(groups, progress),
            None => false,
        };
        if clean {
            telemetry::flight::stopped();
        }
        // Released, and with it the directory's lock.
        drop(self.data_dir.lock().take());
        if let Some(peers) = self.plumbing.peers() {
            peers.shutdown().await;
        }
        drop(self.host.lock().take());
        progress(if clean { "all is on disk" } else { "not everything ended in time" }.into());
        clean
    }

    /// Writes down where every group ends, and marks the life clean if nothing is missing.
    fn sign_off(&self, groups: Vec<GroupEnd>, progress: &impl Fn(String)) -> bool {
        let data_dir = self.data_dir.lock();
        let Some(data_dir) = data_dir.as_ref() else { return false };
        let manifest = Manifest {
            broker: self.cfg.broker.0,
            boot_id: data_dir.boot_id().to_owned(),
            incarnation: self.identity.incarnation().0,
            groups,
        };
        let undurable = manifest.undurable();
        for end in &undurable {
            metrics().invariant_violations_total.at(Invariant::ShutdownManifest).inc();
            let GroupEnd { name, acked, durable, last_index, .. } = end;
            progress(format!(
                "{name}: durable up to {durable}, the log ends at {last_index}, \
                 acknowledged up to {acked}"
            ));
        }
        if let Err(error) = data_dir.write_manifest(&manifest) {
            progress(format!("cannot write the shutdown manifest: {error}"));
            return false;
        }
        let groups = manifest.groups.len();
        progress(format!("manifest of {groups} groups, {} not durable", undurable.len()));
        if !undurable.is_empty() {
            return false;
        }
        // Behind the journal's last sync: what was kept out is on disk as such.
        if self.hole_settled.load(Ordering::Acquire)
            && let Err(error) = data_dir.settle_hole()
        {
            progress(format!("cannot settle the hole in the journal: {error}"));
        }
        if let Err(error) = data_dir.mark_clean() {
            progress(format!("cannot mark the shutdown clean: {error}"));
            return false;
        }
        true
    }

    /// Connected brokers that still take leaderships.
    pub(crate) fn heirs(&self) -> usize {
        let connected = self.plumbing.peers().map(|peers| peers.connected()).unwrap_or_default();
        let leaving = |broker: &&model::BrokerId| self.plumbing.leaderships.is_draining(**broker);
        connected.iter().filter(|broker| !leaving(broker)).count()
    }

    /// Groups served here that have another replica.
    pub(crate) fn leaderships_to_give(&self) -> usize {
        let image = self.image();
        let lonely = |group| {
            image.partition_of(group).is_some_and(|(_, partition)| partition.replicas.len() < 2)
        };
        let led = self.plumbing.leaderships.told_by(self.cfg.broker);
        led.iter().filter(|news| !lonely(GroupId(news.group))).count()
    }
}

/// True when a checkpoint of everything applied is synced.
async fn checkpoint(threads: &Threads, ends: Instant, hurry: &Hurry) -> bool {
    let (tell, told) = sync_channel(1);
    if threads.segment_mail.try_send(SegmentMail::CheckpointNow(tell)).is_err() {
        return false;
    }
    while Instant::now() < ends && !hurry.is_asked() {
        match told.try_recv() {
            Ok(synced) => return synced,
            Err(std::sync::mpsc::TryRecvError::Disconnected) => return false,
            Err(std::sync::mpsc::TryRecvError::Empty) => tokio::time::sleep(LOOK).await,
        }
    }
    false
}

/// Ends shards, then segments and journal, which syncs all it was given. Where every group
/// ended, or `None` if a thread did not end in time or ended badly.
async fn end_threads(
    threads: Threads,
    ends: Instant,
    progress: &impl Fn(String),
) -> Option<Vec<GroupEnd>> {
    let Threads { shards, journal, segments, stop, journal_mail, segment_mail } = threads;
    stop.store(true, Ordering::Release);
    let shards = join("shards", shards, ends, progress).await?;
    let started = Instant::now();
    let mut stop_disks = (false, false);
    // A full queue empties: nobody fills it any more.
    while stop_disks != (true, true) && Instant::now() < ends {
        stop_disks.0 = stop_disks.0 || segment_mail.try_send(SegmentMail::Stop).is_ok();
        stop_disks.1 = stop_disks.1 || journal_mail.try_send(JournalMail::Stop).is_ok();
        if stop_disks != (true, true) {
            tokio::time::sleep(LOOK).await;
        }
    }
    drop((segment_mail, journal_mail));
    join("segments", vec![segments], ends, progress).await?;
    let journal = join("journal", vec![journal], ends, progress).await?.pop()?;
    progress(format!("journal synced in {} ms", started.elapsed().as_millis()));
    if !journal.quiet {
        progress("the journal could not write all it was given".into());
    }
    let mut groups: Vec<GroupEnd> =
        shards.iter().flat_map(|s| s.closing(&journal.durable)).collect();
    groups.sort_by_key(|end| end.group);
    Some(groups)
}

/// What the threads return, or `None`: one panicked, or time is up.
async fn join<T>(
    what: &str,
    threads: Vec<std::thread::JoinHandle<T>>,
    ends: Instant,
    progress: &impl Fn(String),
) -> Option<Vec<T>> {
    let mut told_at = Instant::now();
    while !threads.iter().all(std::thread::JoinHandle::is_finished) {
        if Instant::now() >= ends {
            progress(format!("the {what} did not end in time"));
            return None;
        }
        if told_at.elapsed() >= TELL {
            progress(format!("waiting for the {what}"));
            told_at = Instant::now();
        }
        tokio::time::sleep(LOOK).await;
    }
    threads.into_iter().map(|thread| thread.join().ok()).collect()
}
