//! What shards, disk threads, peers and connections share: views, leaderships, the metadata
//! image, the way to peers, and the way out when the broker must end.
//!
//! Invariant: publishing never waits for a reader.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use consensus::EntryFetch;
use machine::metadata::Image;
use model::{BrokerId, GroupId, ReplicaId, limits};
use storage::{RealReader, SegmentList};
use telemetry::labels::{DropKind, FatalReason, Invariant, LockClass, LogEvent};
use telemetry::{Lock, RwLock, log_limited, metrics, task};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

use crate::boot;
use crate::ending;
use crate::gauges::Gauges;
use crate::leadership::{self, Leaderships, News};
use crate::mailbox::{JournalQueue, Shards};
use crate::offers::Offers;
use crate::peer::{Peers, RaftItem};
use crate::postmortem::Postmortems;
use crate::settings::NodeConfig;
use crate::shard::{Departed, Input, MemberStatus, RaftOut, ViewUpdate};
use crate::tenants::Tenants;
use crate::transfers::Transfers;
use crate::view::{PartitionView, TailBudget};

/// Segment reads for lagging followers at a time.
const FETCHES_MAX: usize = 4;

/// A group that a start could not put together: out of service here until it is healed.
#[derive(Debug, Clone)]
pub struct Unopened {
    /// Whose remains they are. `None`: not known, until metadata of this life says it.
    pub replica: Option<ReplicaId>,
    pub why: String,
}

pub struct Plumbing {
    pub own: BrokerId,
    data_dir: PathBuf,
    admin_port: Option<u16>,
    pub shards: Shards,
    pub reader: RealReader,
    pub runtime: tokio::runtime::Handle,
    views: RwLock<BTreeMap<GroupId, Arc<PartitionView>>>,
    cached: Arc<TailBudget>,
    pub journal_queue: JournalQueue,
    pub leaderships: Leaderships,
    pub gauges: Gauges,
    pub postmortems: Postmortems,
    pub tenants: Tenants,
    pub image: watch::Sender<Arc<Image>>,
    peers: OnceLock<Peers>,
    news: mpsc::Sender<News>,
    departed: Lock<Vec<Departed>>,
    /// Groups of which nothing is on this disk any more, until the reconciling task took them.
    forgotten: Lock<BTreeSet<GroupId>>,
    forgot: Notify,
    fetches: Arc<Semaphore>,
    pub offers: Offers,
    pub transfers: Transfers,
    quarantined: Lock<BTreeMap<usize, BTreeMap<GroupId, String>>>,
    unopened: Lock<BTreeMap<GroupId, Unopened>>,
    journal_full: Lock<Option<&'static str>>,
    draining: AtomicBool,
}

impl Plumbing {
    pub fn new(
        cfg: &NodeConfig,
        shards: Shards,
        reader: RealReader,
        runtime: tokio::runtime::Handle,
        image: Arc<Image>,
        news: mpsc::Sender<News>,
    ) -> Plumbing {
        Plumbing {
            own: cfg.broker,
            data_dir: cfg.data_dir.clone(),
            admin_port: cfg.admin_port,
            shards,
            reader,
            runtime,
            views: RwLock::new(LockClass::Views, BTreeMap::new()),
            cached: Arc::new(TailBudget::of(cfg.memory_budget_bytes)),
            journal_queue: JournalQueue::default(),
            leaderships: Leaderships::default(),
            gauges: Gauges::default(),
            postmortems: Postmortems::default(),
            tenants: Tenants::default(),
            image: watch::Sender::new(image),
            peers: OnceLock::new(),
            news,
            departed: Lock::new(LockClass::Debug, Vec::new()),
            forgotten: Lock::new(LockClass::Debug, BTreeSet::new()),
            forgot: Notify::new(),
            fetches: Arc::new(Semaphore::new(FETCHES_MAX)),
            offers: Offers::default(),
            transfers: Transfers::new(cfg.snapshot_bytes_per_second, cfg.disk_reserve_bytes),
            quarantined: Lock::new(LockClass::Debug, BTreeMap::new()),
            unopened: Lock::new(LockClass::Debug, BTreeMap::new()),
            journal_full: Lock::new(LockClass::Debug, None),
            draining: AtomicBool::new(false),
        }
    }

    /// The transport starts after what it talks to.
    pub fn set_peers(&self, peers: Peers) {
        assert!(self.peers.set(peers).is_ok(), "the transport starts once");
    }

    pub fn peers(&self) -> Option<&Peers> {
        self.peers.get()
    }

    pub fn view(&self, group: GroupId) -> Option<Arc<PartitionView>> {
        self.views.read().get(&group).cloned()
    }

    pub fn views(&self) -> Vec<Arc<PartitionView>> {
        self.views.read().values().cloned().collect()
    }

    pub fn cached_bytes(&self) -> usize {
        self.cached.used()
    }

    fn view_or_new(&self, group: GroupId) -> Arc<PartitionView> {
        if let Some(view) = self.view(group) {
            return view;
        }
        let mut views = self.views.write();
        let new = || Arc::new(PartitionView::new(group, self.cached.clone()));
        views.entry(group).or_insert_with(new).clone()
    }

    pub fn publish(&self, mut update: ViewUpdate) {
        let (group, isr) = (update.group, update.isr.take());
        let serving = update.serving;
        if let (Some(epoch), Some(isr)) = (serving, isr) {
            self.tell(News {
                group: group.0,
                epoch,
                serving: true,
                isr: isr.iter().map(|b| b.0).collect(),
            });
        } else if serving.is_none() {
            let mine = self.leaderships.of(group).filter(|known| known.broker == self.own);
            if let Some(known) = mine {
                let epoch = known.epoch as u64;
                self.tell(News { group: group.0, epoch, serving: false, isr: Vec::new() });
            }
        }
        if !self.view_or_new(group).publish(update) {
            metrics().invariant_violations_total.at(Invariant::HighWatermarkMovedBack).inc();
            log_limited!(
                error,
                LogEvent::InvariantViolated,
                group = group.0,
                "a high watermark moved back"
            );
        }
    }

    /// Own news: into the table at once, to the others as soon as the gossip task runs.
    fn tell(&self, news: News) {
        if self.leaderships.hear(self.own, &news) && self.news.try_send(news).is_err() {
            // The gossip task is behind; peers hear it when they ask or connect again.
            metrics().telemetry_dropped_total.at(DropKind::LogQueue).inc();
        }
    }

    /// Sends everything this broker serves to one peer.
    pub fn tell_all(&self, peer: BrokerId) {
        let news = self.leaderships.told_by(self.own);
        if let Some(peers) = self.peers() {
            peers.gossip(peer, leadership::encode(self.is_draining(), &news));
        }
    }

    /// This broker takes no leadership any more; everybody hears of it at once.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
        if let Some(peers) = self.peers() {
            peers.broadcast(leadership::encode(true, &[]));
        }
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// A group's leader says who left it; a task tells metadata. What does not fit is said again.
    pub fn departed(&self, departed: Departed) {
        let mut all = self.departed.lock();
        if all.len() < limits::DEPARTED_MAX {
            all.push(departed);
        }
    }

    pub fn take_departed(&self) -> Vec<Departed> {
        std::mem::take(&mut *self.departed.lock())
    }

    /// Takes back [`Plumbing::set_draining`].
    pub fn set_undrained(&self) {
        self.draining.store(false, Ordering::Release);
        if let Some(peers) = self.peers() {
            peers.broadcast(leadership::encode(false, &[]));
        }
    }

    pub fn publish_image(&self, image: Arc<Image>) {
        self.image.send_replace(image);
    }

    pub fn set_segments(&self, group: GroupId, list: Arc<SegmentList>) {
        self.view_or_new(group).set_segments(list);
    }

    /// A snapshot took the place of the group's segments.
    pub fn replace_segments(&self, group: GroupId, list: Arc<SegmentList>) {
        self.view_or_new(group).replace_segments(list);
    }

    pub fn data_dir(&self) -> &std::path::Path {
        &self.data_dir
    }

    pub fn set_status(&self, group: GroupId, status: MemberStatus) {
        self.view_or_new(group).set_status(status);
    }

    /// Nothing of the group is on this disk any more. Who leads it elsewhere is remembered,
    /// unless it is deleted.
    pub fn forget(&self, group: GroupId) {
        self.views.write().remove(&group);
        self.offers.let_go(group);
        if self.image.borrow().deleted_groups().contains(group) {
            self.leaderships.forget(group);
        }
        self.forgotten.lock().insert(group);
        self.forgot.notify_one();
    }

    /// Waits until a group was forgotten; one task asks.
    pub async fn forgotten(&self) {
        self.forgot.notified().await;
    }

    pub fn take_forgotten(&self) -> BTreeSet<GroupId> {
        std::mem::take(&mut *self.forgotten.lock())
    }

    pub fn set_quarantined(&self, shard: usize, groups: &BTreeMap<GroupId, String>) {
        self.quarantined.lock().insert(shard, groups.clone());
    }

    pub fn quarantined(&self) -> Vec<(GroupId, String)> {
        let by_shard = self.quarantined.lock();
        by_shard.values().flatten().map(|(group, why)| (*group, why.clone())).collect()
    }

    pub fn set_unopened(&self, groups: impl IntoIterator<Item = (GroupId, Unopened)>) {
        self.unopened.lock().extend(groups);
    }

    pub fn unopened(&self) -> BTreeMap<GroupId, Unopened> {
        self.unopened.lock().clone()
    }

    /// What is there of the group are this replica's remains, if nobody knows better.
    pub fn unopened_is(&self, group: GroupId, replica: ReplicaId) {
        if let Some(found) = self.unopened.lock().get_mut(&group) {
            found.replica.get_or_insert(replica);
        }
    }

    /// What could not be opened is on its way out.
    pub fn expel(&self, group: GroupId) {
        self.unopened.lock().remove(&group);
    }

    pub fn set_journal_full(&self, reason: Option<&'static str>) {
        *self.journal_full.lock() = reason;
    }

    pub fn journal_full(&self) -> Option<&'static str> {
        *self.journal_full.lock()
    }

    /// Queues a raft message. `false`: it is lost, raft should know.
    pub fn send(&self, message: RaftOut) -> bool {
        let Some(peers) = self.peers.get() else { return false };
        let RaftOut { broker, group, from, to, message } = message;
        peers.send(broker, RaftItem::new(group, from, to, message)).is_ok()
    }

    /// Reads older entries for a lagging follower, off every shard.
    pub fn fetch_entries(self: &Arc<Self>, group: GroupId, ask: EntryFetch) {
        let this = self.clone();
        let list = self.view(group).and_then(|view| view.segments());
        task::spawn_on(&self.runtime, "entries for a follower", async move {
            let EntryFetch { fetch, lo, hi, max_bytes } = ask;
            let permit = this.fetches.clone().acquire_owned().await;
            let reader = this.reader.clone();
            let read = task::spawn_blocking("read entries", move || {
                let _permit = permit;
                list.ok_or(())
                    .and_then(|list| list.entries(&reader, lo, hi, max_bytes).map_err(|_| ()))
            });
            let entries = read.await.unwrap_or(Err(()));
            metrics().raft_catch_up_reads_total.inc();
            let bytes: usize = entries.iter().flatten().map(|entry| entry.data.len()).sum();
            metrics().raft_catch_up_bytes_total.add(bytes as u64);
            this.shards.of(group).tell(Input::Entries { group, fetch, entries }).await;
        });
    }

    /// Reads a panicked group back from the journal once all it wrote is on disk.
    pub fn rebuild(self: &Arc<Self>, group: GroupId, quiet: oneshot::Receiver<()>) {
        let this = self.clone();
        task::spawn_on(&self.runtime, "rebuild group", async move {
            let read = match quiet.await {
                Err(_) => Err("the broker is shutting down".to_owned()),
                Ok(()) => {
                    let data_dir = this.data_dir.clone();
                    let read = move || boot::log_of(&data_dir, group);
                    let read = task::spawn_blocking("read journal", read).await;
                    read.unwrap_or_else(|error| Err(error.to_string()))
                }
            };
            this.shards.of(group).tell(Input::Rebuild { group, log: read.map(Box::new) }).await;
        });
    }

    /// The broker may not go on; see [`crate::ending`].
    pub fn fatal(&self, reason: FatalReason, why: &str) -> ! {
        ending::end(&self.data_dir, self.admin_port, reason, why)
    }
}
