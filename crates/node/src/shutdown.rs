//! The way out: leaderships handed over, everything synced and checkpointed, in bounded time
//! and with progress told.

use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::journal_thread::JournalMail;
use crate::node::Node;
use crate::segment_thread::SegmentMail;
use crate::shard::{Input, MemberStatus};

const HAND_OVER_MAX: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

/// Whether clients can be served, and if not, what this broker waits for.
#[derive(Debug, Clone, Serialize)]
pub struct Readiness {
    pub ready: bool,
    pub waiting_for: Vec<String>,
}

/// One peer for people.
#[derive(Debug, Clone, Serialize)]
pub struct PeerView {
    pub broker: i32,
    pub address: String,
    pub connected: bool,
    pub dead: bool,
    pub last_error: Option<String>,
    pub queued_bytes: usize,
}

/// One group for people.
#[derive(Debug, Clone, Serialize)]
pub struct GroupView {
    pub group: u64,
    pub high_watermark: i64,
    #[serde(flatten)]
    pub status: MemberStatus,
}

/// A group that is out of service here, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Trouble {
    pub group: u64,
    pub why: String,
}

/// Everything `/debug/groups` shows, from published state only.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    pub broker: i32,
    pub cluster: Option<String>,
    pub ready: bool,
    pub waiting_for: Vec<String>,
    pub journal_full: Option<&'static str>,
    pub peers: Vec<PeerView>,
    pub groups: Vec<GroupView>,
    pub quarantined: Vec<Trouble>,
}

impl Node {
    pub fn readiness(&self) -> Readiness {
        let mut waiting_for = self.waiting_for.lock().clone();
        let ready = self.registered.get().is_some();
        if !ready && waiting_for.is_empty() {
            waiting_for.push("a leader of the metadata group".into());
        }
        Readiness { ready, waiting_for: if ready { Vec::new() } else { waiting_for } }
    }

    /// Asks no shard: what they published last.
    pub fn status(&self) -> NodeStatus {
        let Readiness { ready, waiting_for } = self.readiness();
        let peers = self.plumbing.peers().map(|peers| peers.status()).unwrap_or_default();
        let peers = peers.into_iter().map(|peer| PeerView {
            broker: peer.broker.0,
            address: peer.address,
            connected: peer.connected,
            dead: peer.dead,
            last_error: peer.last_error,
            queued_bytes: peer.queued_bytes,
        });
        let groups = self.plumbing.views().into_iter().map(|view| GroupView {
            group: view.group().0,
            high_watermark: view.state().high_watermark,
            status: view.status(),
        });
        let trouble = self.plumbing.quarantined().into_iter().chain(self.broken.iter().cloned());
        NodeStatus {
            broker: self.cfg.broker.0,
            cluster: self.cluster_id().map(|id| id.to_string()),
            ready,
            waiting_for,
            journal_full: self.plumbing.journal_full(),
            peers: peers.collect(),
            groups: groups.collect(),
            quarantined: trouble.map(|(group, why)| Trouble { group: group.0, why }).collect(),
        }
    }

    /// Hands leaderships over, syncs, checkpoints, ends the threads. Bounded by `deadline`;
    /// what it does is told line by line. True: everything is on disk and the next start is
    /// a clean one.
    pub async fn shutdown(&self, deadline: Duration, progress: impl Fn(String)) -> bool {
        let ends = Instant::now() + deadline;
        let Some(threads) = self.threads.lock().take() else { return false };
        self.hand_over(ends.min(Instant::now() + HAND_OVER_MAX), &progress).await;
        let (tell, told) = sync_channel(1);
        progress("writing a checkpoint".into());
        let mut clean = threads.segment_mail.try_send(SegmentMail::CheckpointNow(tell)).is_ok();
        while clean && Instant::now() < ends {
            match told.try_recv() {
                Ok(synced) => {
                    clean = synced;
                    break;
                }
                Err(std::sync::mpsc::TryRecvError::Disconnected) => clean = false,
                Err(std::sync::mpsc::TryRecvError::Empty) => tokio::time::sleep(LOOK).await,
            }
        }
        clean &= Instant::now() < ends;
        threads.stop.store(true, Ordering::Release);
        clean &= join(threads.shards, ends).await;
        progress("syncing the journal".into());
        let stopped = threads.segment_mail.try_send(SegmentMail::Stop).is_ok()
            && threads.journal_mail.try_send(JournalMail::Stop).is_ok();
        drop((threads.segment_mail, threads.journal_mail));
        clean &= stopped && join(vec![threads.segments, threads.journal], ends).await;
        let data_dir = self.data_dir.lock().take();
        if clean && let Some(Err(error)) = data_dir.map(|dir| dir.mark_clean()) {
            progress(format!("cannot mark the shutdown clean: {error}"));
            clean = false;
        }
        if let Some(peers) = self.plumbing.peers() {
            peers.shutdown().await;
        }
        if let Some(runtime) = self.runtime.lock().take() {
            // Its tasks hold this node; nobody waits for them any more.
            runtime.shutdown_background();
        }
        progress(if clean {
            "all is on disk".into()
        } else {
            "not everything ended in time".into()
        });
        clean
    }

    /// Connected brokers that still take leaderships.
    fn heirs(&self) -> usize {
        let connected = self.plumbing.peers().map(|peers| peers.connected()).unwrap_or_default();
        let leaving = |broker: &&model::BrokerId| self.plumbing.leaderships.is_draining(**broker);
        connected.iter().filter(|broker| !leaving(broker)).count()
    }

    /// Leaderships of groups that another replica can lead.
    async fn hand_over(&self, ends: Instant, progress: &impl Fn(String)) {
        self.plumbing.set_draining();
        for shard in self.plumbing.shards.all() {
            shard.tell(Input::HandOver).await;
        }
        let mut told = usize::MAX;
        while Instant::now() < ends {
            let own = self.cfg.broker;
            let image = self.image();
            let lonely = |group| {
                image.partition_of(group).is_some_and(|(_, partition)| partition.replicas.len() < 2)
            };
            let left = self.plumbing.leaderships.told_by(own);
            let left = left.iter().filter(|news| !lonely(model::GroupId(news.group))).count();
            if left == 0 || self.heirs() == 0 {
                return;
            }
            if left != told {
                progress(format!("handing {left} leaderships over"));
                told = left;
            }
            tokio::time::sleep(LOOK).await;
        }
        progress(format!("{told} leaderships could not be handed over in time"));
    }
}

async fn join(threads: Vec<std::thread::JoinHandle<()>>, ends: Instant) -> bool {
    while Instant::now() < ends {
        if threads.iter().all(|thread| thread.is_finished()) {
            return threads.into_iter().all(|thread| thread.join().is_ok());
        }
        tokio::time::sleep(LOOK / 5).await;
    }
    false
}
