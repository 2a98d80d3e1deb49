//! From a configuration to a running broker and back: the one file that knows node and broker.
//!
//! Order in: log and watchdog, a look at the ports, admin HTTP, node, Kafka listeners. Order
//! out: stop accepting, hand leadership over, drain connections, sync, write down where it ends. Threads: the main
//! thread waits for signals on a runtime of its own, so that a broker whose every other thread
//! hangs still hears SIGTERM; connections run on half the cores; admin HTTP is elsewhere.
//!
//! Invariant: a request to stop ends the process within `shutdown.timeout.ms`; a second one skips
//! what is not needed for safety, a third ends it as it stands.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use broker::{BrokerConfig, ListenerConfig};
use model::{BrokerId, SyncPolicy};
use node::groups::GroupsConfig;
use node::metadata::Listener;
use node::{Crash, Hurry, InitialBroker, Node, NodeConfig};
use serde_json::Value;
use telemetry::flight::{self, DumpReason};
use telemetry::labels::{LogEvent, Loop, Phase};
use telemetry::logging;
use telemetry::watchdog::Finding;
use telemetry::{Beat, log_limited, trace};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{self, BootPhase, Hosts, NodeState, Order, Source};
use crate::cli::ServerOptions;
use crate::config::Config;
use crate::config::keys::Settings;
use crate::error::ServerError;
use crate::lifeline;

/// Between the orderly end and the last resort.
const LAST_RESORT_MS: u64 = 1_000;
/// How often the runtime's probe runs; the watchdog reports it when it does not.
const PROBE: Duration = Duration::from_millis(200);

/// Runs one broker until it is told to stop.
pub fn run(options: &ServerOptions) -> Result<(), ServerError> {
    if let Some(parent) = options.parent_pid {
        lifeline::tie_to(parent)?;
    }
    let config = Config::load(&options.config)?;
    // Last out, so that every line is written.
    #[cfg(feature = "console")]
    logging::serve_console(options.console);
    let _log = logging::init(config.settings.log_format);
    telemetry::export::started();
    telemetry::panics::install();
    let broker = config.settings.node_id;
    let state =
        Arc::new(Published { broker, node: OnceLock::new(), stopping: AtomicBool::new(false) });
    let watched = state.clone();
    let _watchdog = telemetry::watchdog::spawn(move |finding| protect(&watched, finding))
        .map_err(ServerError::system("start the watchdog"))?;
    lifeline::raise_file_limit();
    announce(&config);
    check_ports(&config)?;

    keep_traces(&config)?;
    let admin = admin::bind(&config.settings.admin_listener.to_bind())?;
    let admin_port = admin.local_addr().ok().map(|address| address.port());
    let hosts = Hosts::of(&config, &crate::config::machine_name());
    admin::serve(admin, state.clone(), hosts)?;
    let main = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServerError::system("start the main runtime"))?;
    // Heard from here on: a SIGTERM during recovery waits for its end.
    let mut signals = Signals::listen(&main)?;
    let connections = connection_runtime()?;

    let node = Node::start(node_config(&config, admin_port))
        .map_err(|e| ServerError::Start(e.to_string()))?;
    let kafka = {
        let _inside = connections.enter();
        broker::serve(broker_config(&config), node.clone())
            .map_err(|error| ServerError::Start(error.to_string()))?
    };
    state.node.set(node.clone()).ok().expect("the node is published once");
    let broker = node.broker_id().0;
    log_limited!(info, LogEvent::BrokerStarted, broker, "listening; waiting for the cluster");

    main.block_on(signals.next());
    if let Some(crash) = node::ending::begun() {
        // It was going to end anyway, and in order it cannot.
        return Err(ServerError::Fatal(crash.why.clone()));
    }
    state.stopping.store(true, Ordering::Release);
    let within = Duration::from_millis(config.settings.shutdown_timeout_ms);
    last_resort(within);
    let clean = main.block_on(stop(&kafka, &node, &mut signals, within));
    // Tasks and handlers may still hold the node; its end is the process's end.
    std::mem::forget(node);
    connections.shutdown_background();
    if clean {
        log_limited!(info, LogEvent::BrokerStopped, broker, "drained and stopped");
        return Ok(());
    }
    Err(ServerError::Fatal("not everything could be drained in time; see the log".into()))
}

/// What is done about what the watchdog finds; called on its thread.
fn protect(state: &Published, finding: &Finding) {
    // Before the node runs nothing is promised: recovery may take its time.
    let Some(node) = state.node.get() else { return };
    match finding {
        Finding::DiskSlow(io) => node.step_aside(format!("journal: {io}")),
        Finding::DiskAgain => node.step_back(),
        Finding::DiskStuck(io) => node.fence(&format!("journal: {io}")),
        Finding::Began(_) | Finding::Ended(_) | Finding::HostPaused { .. } => {}
    }
}

/// The way out, in order and in bounded time. Leaderships go first, while connections are still
/// served: clients hear who leads now, instead of finding a closed door.
async fn stop(
    kafka: &broker::Handle,
    node: &Node,
    signals: &mut Signals,
    within: Duration,
) -> bool {
    let (begun, hurry) = (Instant::now(), Hurry::default());
    // A step in the log, never dropped by its rate limit.
    let told = |line: String| {
        let ms = begun.elapsed().as_millis() as u64;
        telemetry::tracing::info!(ms, "stopping: {line}");
    };
    let orderly = async {
        kafka.stop_accepting();
        let third = tokio::time::Instant::from_std(begun + within / 3);
        node.hand_over(third, &hurry, &told).await;
        told(format!("draining {} connections", kafka.connections()));
        let cut = tokio::select! {
            cut = kafka.drain(within / 3) => cut,
            () = hurry.asked() => kafka.drain(Duration::ZERO).await,
        };
        told(format!("connections drained, {cut} cut off"));
        let ends = begun + within.saturating_sub(Duration::from_millis(LAST_RESORT_MS));
        node.close(tokio::time::Instant::from_std(ends), &hurry, &told).await
    };
    tokio::pin!(orderly);
    loop {
        tokio::select! {
            clean = &mut orderly => return clean,
            () = signals.next() => {}
        }
        if hurry.is_asked() {
            log_limited!(warn, LogEvent::BrokerStopping, "asked a third time: ended as it stands");
            return false;
        }
        log_limited!(warn, LogEvent::BrokerStopping, "asked again: no hand-over, no checkpoint");
        hurry.ask();
    }
}

/// Ends the process when the orderly way hangs, whatever hangs.
fn last_resort(within: Duration) {
    let end = move || {
        std::thread::sleep(within + Duration::from_millis(LAST_RESORT_MS));
        eprintln!("glasslog: the shutdown hung for {} ms; ended", within.as_millis());
        flight::settle();
        std::process::exit(i32::from(crate::EXIT_FAILED));
    };
    // Without a thread to spare there is still the orderly way.
    let _ = std::thread::Builder::new().name("last-resort".into()).spawn(end);
}

/// Requests to stop.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    /// Not to stop: set the flight recorder's rings aside.
    user1: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen(runtime: &Runtime) -> Result<Signals, ServerError> {
        let _inside = runtime.enter();
        let listen = |kind| signal(kind).map_err(ServerError::system("listen for signals"));
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            user1: listen(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.user1.recv() => flight::dump(DumpReason::Operator),
            }
        }
    }
}

/// Where connections run, with a probe that shows whether it still schedules.
fn connection_runtime() -> Result<Runtime, ServerError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(half_the_cores())
        .thread_name("kafka")
        .enable_all()
        .build()
        .map_err(ServerError::system("start the connections' runtime"))?;
    telemetry::task::spawn_on(runtime.handle(), "runtime probe", async {
        let beat = Beat::task(Loop::Runtime, 0);
        loop {
            beat.idle();
            tokio::time::sleep(PROBE).await;
            beat.phase(Phase::Tick);
        }
    });
    Ok(runtime)
}

/// At least one.
fn half_the_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

/// Finds a taken port before recovery and before any peer hears of this life.
fn check_ports(config: &Config) -> Result<(), ServerError> {
    let settings = &config.settings;
    let kafka = settings.listeners.iter().map(|l| (format!("listener {}", l.name), &l.address));
    for (what, address) in kafka.chain([("peer.listener".to_owned(), &settings.peer_listener)]) {
        let address = address.to_bind();
        TcpListener::bind(&address).map_err(|error| ServerError::listen(what, &address, &error))?;
    }
    Ok(())
}

/// What an operator should read first, and what is weaker than it looks.
fn announce(config: &Config) {
    let settings = &config.settings;
    let (broker, data) = (settings.node_id, config.data_dir.display());
    let version = env!("CARGO_PKG_VERSION");
    let listeners: Vec<_> = config.advertised.iter().map(ToString::to_string).collect();
    let (listeners, peers) = (listeners.join(","), settings.peer_listener.to_bind());
    log_limited!(info, LogEvent::BrokerStarted, broker, version, %data, listeners, peers, "starting");
    if settings.journal_sync == SyncPolicy::Interval {
        let interval_ms = settings.journal_sync_interval_ms;
        log_limited!(
            warn,
            LogEvent::ConfigWeak,
            interval_ms,
            "journal.sync = interval is weaker: a power cut on a majority of brokers may lose \
             acknowledged records"
        );
    }
    if config.replication_factor() == 2 {
        log_limited!(
            warn,
            LogEvent::ConfigWeak,
            "default.replication.factor = 2 survives nothing: both replicas are the majority"
        );
    }
}

/// Before any request is served: what was kept from then on is shown at `/debug/requests`.
fn keep_traces(config: &Config) -> Result<(), ServerError> {
    let settings = &config.settings;
    let setup = trace::Setup {
        broker: settings.node_id,
        endpoint: settings.tracing_otlp_endpoint.clone(),
        slow_ns: settings.tracing_slow_ms * 1_000_000,
        one_in: settings.tracing_sample_one_in,
    };
    trace::start(&setup).map_err(ServerError::Start)
}

fn node_config(config: &Config, admin_port: Option<u16>) -> NodeConfig {
    let settings = &config.settings;
    let peer = |broker: &crate::config::endpoint::InitialBroker| InitialBroker {
        id: broker.id,
        address: broker.address.to_string(),
    };
    let advertised = |listener: &crate::config::endpoint::Listener| Listener {
        name: listener.name.clone(),
        host: listener.address.host.clone(),
        port: listener.address.port,
    };
    NodeConfig {
        broker: BrokerId(settings.node_id),
        data_dir: config.data_dir.clone(),
        rack: settings.broker_rack.clone(),
        peer_listen: settings.peer_listener.to_bind(),
        peers: config.initial_brokers.iter().map(peer).collect(),
        listeners: config.advertised.iter().map(advertised).collect(),
        shards: if settings.shards == 0 { half_the_cores() } else { settings.shards },
        memory_budget_bytes: settings.memory_budget_bytes,
        journal_sync: settings.journal_sync,
        journal_sync_interval_ms: settings.journal_sync_interval_ms,
        journal_bytes_max: settings.journal_max_bytes,
        defaults: config.given.clone(),
        cluster_id: settings.cluster_id,
        replica_lag_ms_max: settings.replica_lag_time_max_ms,
        leader_rebalance: settings.auto_leader_rebalance_enable,
        leader_rebalance_ms: settings.leader_imbalance_check_interval_seconds * 1_000,
        retention_check_ms: settings.log_retention_check_interval_ms,
        postmortem_topics: settings.postmortem_topics_enable,
        retention_waits_ms: settings.log_retention_replica_wait_ms,
        snapshot_bytes_per_second: settings.replica_fill_bytes_per_second,
        producer_expiration_ms: settings.producer_id_expiration_ms,
        groups: groups_config(settings),
        disk_reserve_bytes: settings.disk_reserve_bytes,
        recorded_threads: u16::try_from(half_the_cores()).ok(),
        admin_port,
        admin: advertised_admin(settings, admin_port),
    }
}

/// Where peers' tools find admin HTTP: they know this machine's address better than a wildcard.
fn advertised_admin(settings: &Settings, port: Option<u16>) -> String {
    let listener = &settings.admin_listener;
    let host = if listener.is_wildcard() { "" } else { &listener.host };
    let port = port.unwrap_or(listener.port);
    crate::config::endpoint::Address { host: host.to_owned(), port }.to_string()
}

fn groups_config(settings: &Settings) -> GroupsConfig {
    GroupsConfig {
        session_ms_min: settings.group_min_session_timeout_ms,
        session_ms_max: settings.group_max_session_timeout_ms,
        initial_delay_ms: settings.group_initial_rebalance_delay_ms,
        members_max: settings.group_max_size,
        metadata_bytes_max: settings.offset_metadata_max_bytes,
        retention_ms: settings.offsets_retention_minutes * 60_000,
    }
}

fn broker_config(config: &Config) -> BrokerConfig {
    let settings = &config.settings;
    let bind = |listener: &crate::config::endpoint::Listener| ListenerConfig {
        name: listener.name.clone(),
        bind: listener.address.to_bind(),
    };
    let factor = config.replication_factor();
    BrokerConfig {
        listeners: settings.listeners.iter().map(bind).collect(),
        request_bytes_max: settings.socket_request_max_bytes,
        connections_max: settings.max_connections,
        connections_max_per_ip: settings.max_connections_per_ip,
        idle_ms: settings.connections_max_idle_ms,
        auto_create_topics: settings.auto_create_topics_enable,
        num_partitions: settings.num_partitions,
        default_replication_factor: i16::try_from(factor).expect("bounded by its check"),
        offsets_partitions: settings.offsets_topic_num_partitions,
        offsets_segment_bytes: settings.offsets_topic_segment_bytes,
        initial_brokers: config.initial_brokers.len(),
    }
}

/// What admin HTTP reads; filled as the boot goes on.
struct Published {
    broker: i32,
    node: OnceLock<Arc<Node>>,
    stopping: AtomicBool,
}

impl Source for Published {
    fn broker(&self) -> i32 {
        self.broker
    }

    fn placements(&self, name: &str) -> Vec<node::PlacementView> {
        self.node.get().map(|node| node.placements(name)).unwrap_or_default()
    }

    fn state(&self) -> NodeState {
        let stopping = self.stopping.load(Ordering::Acquire);
        let Some(node) = self.node.get() else { return NodeState::default() };
        let readiness = node.readiness();
        let phase = match readiness.ready {
            _ if stopping => BootPhase::Stopping,
            true => BootPhase::Ready,
            false => BootPhase::Waiting,
        };
        NodeState { phase, waiting_for: readiness.waiting_for }
    }

    fn groups(&self) -> Option<node::NodeStatus> {
        self.node.get().map(|node| node.status())
    }

    fn consumers(&self) -> Option<Arc<node::ConsumersPage>> {
        self.node.get().map(|node| node.consumers())
    }

    fn elections(&self) -> Option<node::ElectionsPage> {
        self.node.get().map(|node| node.elections())
    }

    fn last_crash(&self) -> Option<Crash> {
        self.node.get().and_then(|node| node.last_crash().cloned())
    }

    fn operate(&self, order: Order) -> Result<Value, String> {
        let node = self.node.get().ok_or("the broker is starting")?;
        let page = match order {
            Order::Decommission(broker) => {
                serde_json::to_value(node.wait_for(node.decommission(broker))?)
            }
            Order::Drain => serde_json::to_value(node.wait_for(node.drain())),
            Order::Undrain => serde_json::to_value(node.wait_for(node.undrain())),
        };
        page.map_err(|error| error.to_string())
    }
}
