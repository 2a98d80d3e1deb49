//! One running broker: how it starts, and what its listener and its operator can see of it without
//! asking a shard. What they ask of it is in `requests.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use machine::config::TopicDefaults;
use machine::metadata::Image;
use model::{BrokerId, ClusterId, GroupId};
use telemetry::Lock;
use telemetry::clock;
use telemetry::flight::Setup;
use telemetry::labels::{FatalReason, LockClass, LogEvent};
use telemetry::{log_limited, metrics};
use tokio::sync::{Semaphore, mpsc};

use crate::boot::{self, Threads};
use crate::budget::Budget;
use crate::datadir::{DataDir, LastShutdown};
use crate::ending::Crash;
use crate::host::{HostStop, Hosted};
use crate::inbound::Receiver;
use crate::leadership::Leadership;
use crate::mailbox::{ShardHandle, Shards};
use crate::peer::{Identity, PeerConfig, Peers};
use crate::peer_news::PeerNews;
use crate::plumbing::Plumbing;
use crate::settings::{NodeConfig, StartError};
use crate::status::{ElectionsPage, UnderWay};
use crate::tasks;
use crate::view::PartitionView;

/// News that wait for the gossip task.
const NEWS_MAX: usize = 16_384;
const HELLOS_MAX: usize = 256;

/// A running broker; see the module.
pub struct Node {
    pub(crate) cfg: NodeConfig,
    pub(crate) defaults: TopicDefaults,
    pub(crate) plumbing: Arc<Plumbing>,
    pub(crate) identity: Identity,
    /// Released, and with it the directory's lock, by the shutdown.
    pub(crate) data_dir: Lock<Option<DataDir>>,
    pub(crate) threads: Lock<Option<Threads>>,
    pub(crate) waiting_for: Lock<Vec<String>>,
    pub(crate) registered: OnceLock<()>,
    /// Registered, and every partition was led or given up on.
    pub(crate) ready: OnceLock<()>,
    budget: Budget,
    /// Compressed batches that may be opened now.
    pub(crate) openers: Arc<Semaphore>,
    /// (next, end) of the producer ids this broker may hand out.
    pub(crate) producer_ids: Lock<(i64, i64)>,
    /// Ends the tasks when it is dropped.
    pub(crate) host: Lock<Option<HostStop>>,
    /// It handed its leaderships over because of its disk, and not because anybody asked.
    pub(crate) stepped_aside: AtomicBool,
    /// Every group that a hole in the journal may have hidden was kept out, or there was none.
    pub(crate) hole_settled: AtomicBool,
    last_crash: Option<Crash>,
}

impl Node {
    /// Post-mortems of elections, newest last, and the elections under way.
    pub fn elections(&self) -> ElectionsPage {
        let views = self.plumbing.views();
        let under_way = views.iter().filter_map(|view| {
            let status = view.status();
            let attempt = status.attempt?;
            Some(UnderWay { group: view.group().0, name: status.name, term: status.term, attempt })
        });
        ElectionsPage {
            broker: self.cfg.broker.0,
            under_way: under_way.collect(),
            elections: self.plumbing.postmortems.after(0).0,
        }
    }

    /// Opens the data directory, recovers, starts threads and the peer listener, and returns;
    /// formation and elections go on by themselves.
    pub fn start(cfg: NodeConfig) -> Result<Arc<Node>, StartError> {
        let defaults = TopicDefaults::new(&cfg.defaults)?;
        let fresh = model::DirectoryId(rand::random());
        let data_dir = DataDir::open(&cfg.data_dir, cfg.broker, fresh)?;
        let directory = data_dir.directory();
        if let Some(connection_threads) = cfg.recorded_threads {
            let (data_dir, broker) = (data_dir.path(), cfg.broker.0);
            telemetry::flight::start(&Setup { data_dir, broker, connection_threads });
        }
        let last_crash = last_crash(&data_dir);
        let manifest = data_dir.read_manifest()?;
        let begun = clock::mono_ns();
        let (last, born) = (data_dir.last_shutdown(), data_dir.birth().is_some());
        let hole = data_dir.has_hole();
        let loaded = boot::load(&cfg, &defaults, directory, last, manifest.as_ref(), born, hole)?;
        if loaded.hides_groups && !hole {
            data_dir.mark_hole()?;
        }
        metrics().recovery_seconds.set((clock::mono_ns() - begun) as i64);
        metrics().journal_limit_bytes.set(cfg.journal_bytes_max as i64);
        data_dir.mark_running()?;
        // Not before: a start that dies in between compares again, with what still holds.
        data_dir.remove_manifest()?;
        let birth = data_dir.birth().cloned();
        let offered = birth.as_ref().map(|birth| (birth.cluster, Bytes::from(birth.encode())));
        let incarnation = model::Incarnation(rand::random());
        let identity = Identity::new(cfg.broker, directory, incarnation, offered)
            .with_admin(cfg.admin.clone());
        let (hosted, host) = Hosted::new().map_err(StartError::Thread)?;
        let runtime = hosted.handle();
        let (handles, inboxes) = (0..cfg.shards.max(1)).map(|_| ShardHandle::new()).unzip();
        let (news, news_inbox) = mpsc::channel(NEWS_MAX);
        let plumbing = Arc::new(Plumbing::new(
            &cfg,
            Shards::new(handles),
            storage::RealReader::new(&cfg.data_dir),
            runtime.clone(),
            loaded.image.clone(),
            news,
        ));
        for (group, log) in &loaded.logs {
            plumbing.set_segments(*group, log.view());
            plumbing.transfers.set_home(*group, log.home());
        }
        plumbing.set_unopened(loaded.broken.clone());
        // A group that cannot be put together is known all the same: it made promises, and
        // must not be formed anew.
        let restored = loaded.restored.iter().map(|g| (g.spec.group, Some(g.spec.replica)));
        let broken_ones = loaded.broken.iter().map(|(group, found)| (*group, found.replica));
        let known: Vec<_> = restored.chain(broken_ones).collect();
        let found = tasks::Found {
            known,
            removed: loaded.removed.clone(),
            hides_groups: loaded.hides_groups,
        };
        let threads = boot::start_threads(&cfg, directory, loaded, inboxes, &plumbing, hosted)?;
        let (hellos, hello_inbox) = mpsc::channel(HELLOS_MAX);
        let budget = Budget::new(cfg.memory_budget_bytes);
        let node = Arc::new(Node {
            defaults,
            plumbing,
            identity,
            data_dir: Lock::new(LockClass::Lifecycle, Some(data_dir)),
            threads: Lock::new(LockClass::Lifecycle, Some(threads)),
            waiting_for: Lock::new(LockClass::Debug, Vec::new()),
            registered: OnceLock::new(),
            ready: OnceLock::new(),
            budget,
            openers: Arc::new(Semaphore::new(model::limits::OPENED_AT_ONCE_MAX)),
            producer_ids: Lock::new(LockClass::ProducerIds, (0, 0)),
            host: Lock::new(LockClass::Lifecycle, Some(host)),
            stepped_aside: AtomicBool::new(false),
            hole_settled: AtomicBool::new(false),
            last_crash,
            cfg,
        });
        let peers = runtime.block_on(node.start_peers(hellos))?;
        node.plumbing.set_peers(peers);
        tasks::spawn_all(&node, &runtime, birth, hello_inbox, news_inbox, found);
        Ok(node)
    }

    async fn start_peers(
        self: &Arc<Self>,
        hellos: mpsc::Sender<crate::peer::PeerHello>,
    ) -> Result<Peers, StartError> {
        let peers = self.cfg.peers.iter().map(|peer| (peer.id, peer.address.clone())).collect();
        let config = PeerConfig {
            listen: self.cfg.peer_listen.clone(),
            peers,
            identity: self.identity.clone(),
        };
        let (plumbing, node) = (self.plumbing.clone(), Arc::downgrade(self));
        let news = PeerNews::new(plumbing.runtime.clone(), &plumbing.shards);
        let inbound = Arc::new(Receiver { plumbing, hellos, news, node });
        Ok(Peers::start(config, inbound).await?)
    }

    /// How the life before this one ended, if not in order.
    pub fn last_crash(&self) -> Option<&Crash> {
        self.last_crash.as_ref()
    }

    pub fn broker_id(&self) -> BrokerId {
        self.cfg.broker
    }

    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.identity.cluster()
    }

    /// Applied metadata; any broker answers from it.
    pub fn image(&self) -> Arc<Image> {
        #[cfg(feature = "planted")]
        crate::planted::metadata_query();
        self.plumbing.image.borrow().clone()
    }

    /// The Kafka-ready leader; `None` while nobody serves.
    pub fn leader(&self, group: GroupId) -> Option<Leadership> {
        self.plumbing.leaderships.of(group).filter(|leader| self.is_alive(leader.broker))
    }

    /// This broker, or one we are connected to.
    pub fn is_alive(&self, broker: BrokerId) -> bool {
        let connected = || self.plumbing.peers().is_some_and(|peers| peers.is_connected(broker));
        broker == self.cfg.broker || connected()
    }

    /// `None`: no replica here.
    pub fn view(&self, group: GroupId) -> Option<Arc<PartitionView>> {
        self.plumbing.view(group)
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What topics without configs of their own get from this broker, now.
    pub fn topic_defaults(&self) -> TopicDefaults {
        self.topic_defaults_in(&self.image())
    }

    pub(crate) fn topic_defaults_in(&self, image: &Image) -> TopicDefaults {
        let own = image.broker_configs(Some(self.cfg.broker));
        self.defaults.under(image.broker_configs(None), own)
    }

    /// Where the data directory is.
    pub fn data_dir(&self) -> &std::path::Path {
        &self.cfg.data_dir
    }

    /// (total, usable) bytes of the volume below the data directory.
    pub fn volume_bytes(&self) -> Option<(u64, u64)> {
        tasks::volume_bytes(&self.cfg.data_dir)
    }

    /// Kafka's broker configs this broker was given.
    pub fn broker_configs(&self) -> &BTreeMap<String, String> {
        &self.cfg.defaults
    }
}

/// What is known of a life that did not end in order; becomes a metric and a line of the log.
fn last_crash(data_dir: &DataDir) -> Option<Crash> {
    let noted = data_dir.take_crash();
    let LastShutdown::Unclean { boot_id_changed } = data_dir.last_shutdown() else { return None };
    let crash = noted.unwrap_or_else(|| Crash {
        reason: FatalReason::Killed.as_str().to_owned(),
        why: if boot_id_changed { "the machine died" } else { "it was killed" }.to_owned(),
        at_ms: telemetry::flight::last_life_ms().unwrap_or(0),
    });
    let reason = FatalReason::ALL.iter().find(|reason| reason.as_str() == crash.reason);
    metrics().last_crash_info.at(reason.copied().unwrap_or(FatalReason::Killed)).set(1);
    let Crash { reason, why, at_ms } = &crash;
    log_limited!(
        warn,
        LogEvent::LastCrash,
        reason,
        why,
        at_ms,
        "the last life did not end in order"
    );
    Some(crash)
}
