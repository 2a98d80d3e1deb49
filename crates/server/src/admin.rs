//! Admin HTTP: `/metrics`, `/metrics/partitions`, `/healthz`, `/readyz`, `/debug/broker`,
//! `/debug/cluster`, `/debug/why`, `/debug/groups`, `/debug/consumers`, `/debug/elections`, `/debug/loops`, `/debug/stalls`, `/debug/requests`, `/debug/crash`,
//! on an OS thread and a runtime of their own.
//!
//! Invariants: a handler reads what others have published and never asks a shard, a
//! connection or another runtime; what may meet a held lock is asked on a spare thread and
//! given up in bounded time. So this answers while every broker thread hangs. Only POST below
//! `/admin` changes anything. Who asks by a foreign name is refused ([`hosts`]).

mod hosts;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use model::BrokerId;
use node::{ConsumersPage, Crash, ElectionsPage, GroupView, NodeStatus, PlacementView};
use serde::Serialize;
use serde_json::{Value, json};
use telemetry::beat::LoopView;
use telemetry::trace::RequestsPage;
use telemetry::watchdog::Stall;
use telemetry::{logging, openmetrics};

use crate::error::ServerError;
use crate::survey;
use crate::survey::digest::{self, Hot};
use crate::{console, consumers};
pub use hosts::Hosts;

/// Where the boot stands; the words of `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootPhase {
    /// Opening the data directory, the journal, the listeners.
    Starting,
    /// Runs, and waits for what `waiting_for` names.
    Waiting,
    Ready,
    /// Drains.
    Stopping,
}

impl BootPhase {
    pub fn as_str(self) -> &'static str {
        match self {
            BootPhase::Starting => "starting",
            BootPhase::Waiting => "waiting",
            BootPhase::Ready => "ready",
            BootPhase::Stopping => "stopping",
        }
    }
}

/// What the broker publishes about itself. Methods may meet a lock that a hung thread holds;
/// they are called where that costs nothing but the answer.
pub trait Source: Send + Sync + 'static {
    /// Never waits.
    fn broker(&self) -> i32;
    fn state(&self) -> NodeState;
    /// `None` before the node runs.
    fn groups(&self) -> Option<NodeStatus>;
    /// `None` before the node runs.
    fn elections(&self) -> Option<ElectionsPage>;
    /// Where the replicas of a topic's partitions, or of one partition, are wanted.
    fn placements(&self, name: &str) -> Vec<PlacementView>;
    /// Lag of the consumer groups coordinated here. `None` before the node runs.
    fn consumers(&self) -> Option<Arc<ConsumersPage>>;
    /// How the life before this one ended, if not in order.
    fn last_crash(&self) -> Option<Crash>;
    /// Does what an operator asks; where it stands, or why it cannot be.
    fn operate(&self, order: Order) -> Result<Value, String>;
}

/// What an operator can ask of a broker. Each may be repeated, to see how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Move every replica off a broker, then forget it.
    Decommission(BrokerId),
    /// Hand every leadership over and take none.
    Drain,
    Undrain,
}

/// `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    pub phase: BootPhase,
    /// What keeps the broker from being ready, in words. Empty when it is.
    pub waiting_for: Vec<String>,
}

impl Default for NodeState {
    fn default() -> Self {
        NodeState { phase: BootPhase::Starting, waiting_for: vec!["its own start".into()] }
    }
}

/// All groups of a broker in four numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GroupsSummary {
    pub groups: usize,
    /// Groups this broker leads.
    pub leads: usize,
    /// Groups it leads and serves clients of.
    pub serving: usize,
    /// Groups that need a person: suspect, held or quarantined.
    pub troubled: usize,
}

impl GroupsSummary {
    pub fn of(status: &NodeStatus) -> GroupsSummary {
        let count = |wanted: fn(&GroupView) -> bool| {
            status.groups.iter().filter(|group| wanted(group)).count()
        };
        GroupsSummary {
            groups: status.groups.len(),
            leads: count(|group| group.status.role == "leader"),
            serving: count(|group| group.status.serving),
            troubled: count(|group| group.status.suspect || group.status.held.is_some())
                + status.quarantined.len(),
        }
    }
}

/// Threads that may wait for the broker's own state at a time, and how long an answer waits
/// for one of them.
const ASKING_MAX: usize = 4;
const ASK_MAX: Duration = Duration::from_secs(1);
/// How long an order may take to be answered; its end is not waited for.
const ORDER_MAX: Duration = Duration::from_secs(15);

/// Asks the broker for its state on a thread that may hang, and gives up in bounded time.
async fn ask<T: Send + 'static>(
    source: Arc<dyn Source>,
    question: impl FnOnce(&dyn Source) -> T + Send + 'static,
) -> Option<T> {
    let asked =
        telemetry::task::spawn_blocking("admin question", move || question(source.as_ref()));
    tokio::time::timeout(ASK_MAX, asked).await.ok()?.ok()
}

const NO_ANSWER: &str = "the broker does not say: a thread holds its state, see /debug/loops";

/// Binds the admin listener; serving begins with [`serve`].
pub fn bind(address: &str) -> Result<TcpListener, ServerError> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|error: io::Error| ServerError::listen("admin.listener", address, &error))
}

/// Serves until the process ends.
pub fn serve(
    listener: TcpListener,
    source: Arc<dyn Source>,
    hosts: Hosts,
) -> Result<(), ServerError> {
    let failed = ServerError::system("start admin HTTP");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(ASKING_MAX)
        .build()
        .map_err(&failed)?;
    let run = move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let own = own_address(&listener)?;
            axum::serve(listener, router(source, &own, hosts)).await
        });
        if let Err(error) = served {
            tracing::error!(%error, "admin HTTP ended");
        }
    };
    std::thread::Builder::new().name("admin".into()).spawn(run).map_err(&failed)?;
    Ok(())
}

/// What handlers share.
#[derive(Clone)]
struct Admin {
    source: Arc<dyn Source>,
    hot: Arc<Hot>,
    /// Where this broker's own admin HTTP answers to itself.
    own: Arc<str>,
}

impl FromRef<Admin> for Arc<dyn Source> {
    fn from_ref(admin: &Admin) -> Arc<dyn Source> {
        admin.source.clone()
    }
}

/// A wildcard is no address to ask.
fn own_address(listener: &tokio::net::TcpListener) -> io::Result<String> {
    let mut address = listener.local_addr()?;
    if address.ip().is_unspecified() {
        let loopback: IpAddr = match address.is_ipv4() {
            true => Ipv4Addr::LOCALHOST.into(),
            false => Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(loopback);
    }
    Ok(address.to_string())
}

fn router(source: Arc<dyn Source>, own: &str, hosts: Hosts) -> Router {
    let own: Arc<str> = own.into();
    let watched = console::gather(source.broker(), own.clone());
    let router = Router::new();
    #[cfg(feature = "planted")]
    let router = router.route("/admin/plant", post(plant));
    router
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/metrics/partitions", get(partitions))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/debug/broker", get(broker))
        .route("/debug/cluster", get(cluster))
        .route("/debug/why", get(why))
        .route("/debug/groups", get(groups))
        .route("/debug/consumers", get(consumers))
        .route("/debug/elections", get(elections))
        .route("/debug/loops", get(loops))
        .route("/debug/stalls", get(stalls))
        .route("/debug/crash", get(crash))
        .route("/debug/requests", get(requests))
        .route("/admin/log", get(log_filter).post(set_log_level))
        .route("/admin/decommission", post(decommission))
        .route("/admin/drain", post(drain))
        .route("/admin/undrain", post(undrain))
        .with_state(Admin { source, hot: Arc::default(), own })
        .merge(console::router(watched))
        .layer(axum::middleware::from_fn_with_state(hosts, hosts::guard))
}

type Shared = State<Arc<dyn Source>>;

/// A list for `curl`; browsers go on to the console.
async fn index(headers: HeaderMap) -> Response {
    if console::is_wanted(&headers) { console::redirect() } else { INDEX.into_response() }
}

const INDEX: &str = "glasslog\n/console  (for browsers)\n/metrics\n/metrics/partitions\n/healthz\n/readyz\n/debug/broker\n/debug/cluster\n/debug/why?partition=TOPIC-N\n/debug/groups  (?summary, ?name=TOPIC)\n/debug/consumers  (?group=NAME)\n/debug/elections\n/debug/loops\n/debug/stalls\n/debug/requests\n/debug/crash\n\
      /admin/log\nPOST /admin/log?room=ROOM&level=LEVEL\nPOST /admin/decommission?broker=ID\nPOST /admin/drain\nPOST /admin/undrain\n";

/// Prometheus' own text, or OpenMetrics with exemplars for whoever asks for it.
async fn metrics(headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(openmetrics::is_wanted) {
        return ([(header::CONTENT_TYPE, openmetrics::CONTENT_TYPE)], openmetrics::render());
    }
    ([(header::CONTENT_TYPE, telemetry::export::CONTENT_TYPE)], telemetry::render())
}

/// A scrape that is wanted; see [`crate::partitions`].
async fn partitions(State(source): Shared) -> Response {
    let Some(status) = ask(source, |source| source.groups()).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, NO_ANSWER).into_response();
    };
    let groups = status.map(|status| status.groups).unwrap_or_default();
    let header = [(header::CONTENT_TYPE, telemetry::export::CONTENT_TYPE)];
    (header, crate::partitions::render(&groups)).into_response()
}

/// The process lives and its observers answer. What hangs is the watchdog's to say: a restart
/// would destroy the evidence.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(source): Shared) -> Response {
    if let Some(crash) = node::ending::begun() {
        let waiting_for = [format!("its end: {}", crash.why)];
        let body = json!({ "ready": false, "state": "ending", "waiting_for": waiting_for });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    let state = ask(source, |source| source.state()).await;
    let NodeState { phase, waiting_for } = state.unwrap_or_else(|| NodeState {
        phase: BootPhase::Waiting,
        waiting_for: vec![NO_ANSWER.into()],
    });
    let ready = phase == BootPhase::Ready;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ready": ready, "state": phase.as_str(), "waiting_for": waiting_for });
    (status, Json(body)).into_response()
}

#[derive(Debug, serde::Deserialize)]
struct GroupsQuery {
    /// Present: numbers only.
    summary: Option<String>,
    /// A topic, or one of its partitions: only these, and where their replicas should be.
    name: Option<String>,
}

#[derive(Default, Serialize)]
struct GroupsPage {
    summary: GroupsSummary,
    #[serde(flatten)]
    status: Option<NodeStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    placements: Option<Vec<PlacementView>>,
}

async fn groups(State(source): Shared, Query(query): Query<GroupsQuery>) -> Response {
    let page = move |source: &dyn Source| {
        let status = source.groups();
        let summary = status.as_ref().map(GroupsSummary::of).unwrap_or_default();
        let mut status = status.filter(|_| query.summary.is_none());
        let placements = query.name.as_ref().map(|name| source.placements(name));
        if let (Some(status), Some(wanted)) = (&mut status, &placements) {
            status.groups.retain(|group| wanted.iter().any(|placed| placed.group == group.group));
        }
        GroupsPage { summary, status, placements }
    };
    match ask(source, page).await {
        Some(page) => Json(page).into_response(),
        None => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": NO_ANSWER }))).into_response()
        }
    }
}

/// Consumer groups that lag, or one of them by partition; see [`crate::consumers`].
async fn consumers(State(source): Shared, Query(query): Query<consumers::Wanted>) -> Response {
    match ask(source, |source| source.consumers()).await {
        Some(page) => consumers::answer(&page.unwrap_or_default(), &query),
        None => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": NO_ANSWER }))).into_response()
        }
    }
}

/// This broker for a look at the whole cluster; see [`crate::survey`].
async fn broker(State(admin): State<Admin>) -> Json<Value> {
    let number = admin.source.broker();
    let inside = ask(admin.source, digest::Inside::ask).await;
    Json(digest::page(number, inside, &admin.hot, NO_ANSWER))
}

/// All brokers this one knows of, and what is wrong, most important first.
async fn cluster(State(admin): State<Admin>) -> Json<Value> {
    let survey = survey::survey(&[admin.own.to_string()]).await;
    Json(survey::document(Some(admin.source.broker()), &survey, None))
}

#[derive(Debug, serde::Deserialize)]
struct WhyQuery {
    partition: String,
}

/// Why a partition does not move, or that it does.
async fn why(State(admin): State<Admin>, Query(query): Query<WhyQuery>) -> Response {
    match survey::why::ask(&[admin.own.to_string()], &query.partition).await {
        Ok(told) => Json(told).into_response(),
        Err(why) => (StatusCode::NOT_FOUND, Json(json!({ "error": why }))).into_response(),
    }
}

/// Elections under way, then post-mortems of those that ended, newest last.
async fn elections(State(source): Shared) -> Response {
    match ask(source, |source| source.elections()).await {
        Some(page) => Json(page).into_response(),
        None => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": NO_ANSWER }))).into_response()
        }
    }
}

/// What stands still and because of whom, then what stood still lately.
async fn stalls() -> Json<Value> {
    Json(json!({ "stalls": telemetry::stall::records() }))
}

/// Why this process is ending itself, if it is, and how the life before it ended, if badly.
async fn crash(State(source): Shared) -> Json<Value> {
    Json(json!({ "ending": node::ending::begun(), "last": source.last_crash() }))
}

/// Where the time of produces and fetches goes, and the slowest of the last minute.
async fn requests() -> Json<RequestsPage> {
    Json(telemetry::trace::page())
}

async fn log_filter() -> Json<Value> {
    Json(json!({ "filter": logging::filter(), "rooms": logging::ROOMS }))
}

#[derive(Debug, serde::Deserialize)]
struct LogQuery {
    /// Absent: all of them.
    room: Option<String>,
    /// Absent: as at the start.
    level: Option<String>,
}

async fn set_log_level(Query(query): Query<LogQuery>) -> Response {
    match logging::set_level(query.room.as_deref(), query.level.as_deref()) {
        Ok(filter) => {
            tracing::info!(filter, "what is logged was changed");
            Json(json!({ "filter": filter })).into_response()
        }
        Err(why) => (StatusCode::BAD_REQUEST, Json(json!({ "error": why }))).into_response(),
    }
}

#[cfg(feature = "planted")]
#[derive(Debug, serde::Deserialize)]
struct PlantQuery {
    fault: String,
    value: u64,
}

/// A fault, for tests; see `node::planted`.
#[cfg(feature = "planted")]
async fn plant(Query(query): Query<PlantQuery>) -> Response {
    match node::planted::plant(&query.fault, query.value) {
        Ok(()) => {
            tracing::warn!(fault = query.fault, value = query.value, "a fault is planted");
            Json(json!({ "planted": query.fault, "value": query.value })).into_response()
        }
        Err(why) => (StatusCode::BAD_REQUEST, Json(json!({ "error": why }))).into_response(),
    }
}

#[derive(Debug, serde::Deserialize)]
struct DecommissionQuery {
    broker: i32,
}

async fn decommission(source: Shared, Query(query): Query<DecommissionQuery>) -> Response {
    operate(source, Order::Decommission(BrokerId(query.broker))).await
}

async fn drain(source: Shared) -> Response {
    operate(source, Order::Drain).await
}

async fn undrain(source: Shared) -> Response {
    operate(source, Order::Undrain).await
}

/// 200 and where it stands, 409 and why it cannot be, 503 when nobody answers in time.
async fn operate(State(source): Shared, order: Order) -> Response {
    let asked = telemetry::task::spawn_blocking("admin order", move || source.operate(order));
    match tokio::time::timeout(ORDER_MAX, asked).await {
        Ok(Ok(Ok(page))) => Json(page).into_response(),
        Ok(Ok(Err(why))) => (StatusCode::CONFLICT, Json(json!({ "error": why }))).into_response(),
        Ok(Err(_)) | Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": NO_ANSWER }))).into_response()
        }
    }
}

async fn loops() -> Json<Value> {
    Json(json!({ "loops": loops_json() }))
}

/// Every loop of this process.
pub fn loops_json() -> Vec<Value> {
    telemetry::beat::loops(telemetry::clock::mono_ns()).iter().map(loop_json).collect()
}

/// One loop: what it does, since when, and what it waits for. Times in milliseconds.
fn loop_json(view: &LoopView) -> Value {
    let ms = |ns: u64| ns / 1_000_000;
    let io = view
        .io
        .as_ref()
        .map(|io| json!({ "op": io.op.as_str(), "bytes": io.bytes, "age_ms": ms(io.age_ns) }));
    let lock = view.lock.as_ref().map(|wait| {
        json!({ "site": wait.site.map(|site| site.to_string()), "waited_ms": ms(wait.waited_ns) })
    });
    json!({
        "loop": view.kind.as_str(),
        "index": view.index,
        "thread": view.thread,
        "phase": view.phase.as_str(),
        "input": view.input.as_str(),
        "age_ms": ms(view.age_ns),
        "group": view.group.map(|group| group.0),
        "io": io,
        "waits_for_lock": lock,
        // In the watchdog's words, the holder of that lock included.
        "says": Stall { view: view.clone() }.to_string(),
    })
}

#[cfg(test)]
mod tests;
