//! Admin HTTP over a real socket, before a broker that answers and one that hangs.

use super::*;
use crate::http;
use node::{ConsumersPage, MemberStatus};

struct Fake {
    phase: BootPhase,
    hangs: bool,
}

impl Source for Fake {
    fn broker(&self) -> i32 {
        1
    }

    fn placements(&self, _: &str) -> Vec<PlacementView> {
        Vec::new()
    }

    fn state(&self) -> NodeState {
        let ready = self.phase == BootPhase::Ready;
        let waiting_for = if ready { Vec::new() } else { vec!["broker 2".into()] };
        NodeState { phase: self.phase, waiting_for }
    }

    fn consumers(&self) -> Option<Arc<ConsumersPage>> {
        None
    }

    fn elections(&self) -> Option<ElectionsPage> {
        None
    }

    fn last_crash(&self) -> Option<Crash> {
        let (reason, why) = ("panic".to_owned(), "thread shard-0".to_owned());
        Some(Crash { reason, why, at_ms: 5 })
    }

    fn groups(&self) -> Option<NodeStatus> {
        if self.hangs {
            std::thread::sleep(Duration::from_secs(3));
        }
        let group = |role, serving, suspect| GroupView {
            group: 1,
            high_watermark: 7,
            status: MemberStatus { role, serving, suspect, ..MemberStatus::default() },
        };
        Some(NodeStatus {
            broker: 1,
            cluster: None,
            ready: true,
            waiting_for: Vec::new(),
            journal_full: None,
            unled: node::Unled::default(),
            peers: Vec::new(),
            groups: vec![group("leader", true, false), group("follower", false, true)],
            quarantined: Vec::new(),
            transfers: Vec::new(),
            offers: Vec::new(),
        })
    }

    fn operate(&self, order: Order) -> Result<Value, String> {
        match order {
            Order::Decommission(BrokerId(1)) => Err("add a broker first".into()),
            order => Ok(json!({ "order": format!("{order:?}") })),
        }
    }
}

fn served(phase: BootPhase, hangs: bool) -> String {
    let listener = bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    serve(listener, Arc::new(Fake { phase, hangs }), Hosts::default()).unwrap();
    address
}

#[tokio::test]
async fn readyz_says_what_it_waits_for() {
    let address = served(BootPhase::Waiting, false);
    let (status, body) = http::get(&address, "/readyz").await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 503);
    let told = json!({"ready": false, "state": "waiting", "waiting_for": ["broker 2"]});
    assert_eq!(body, told);

    let address = served(BootPhase::Ready, false);
    assert_eq!(http::get(&address, "/readyz").await.unwrap().0, 200);
}

#[tokio::test]
async fn pages_have_their_shapes() {
    let address = served(BootPhase::Ready, false);
    let page = async |path: &str| http::get(&address, path).await.unwrap();
    let (status, text) = page("/metrics").await;
    assert!(status == 200 && text.starts_with(b"# HELP "));
    assert_eq!(page("/healthz").await, (200, "ok\n".into()));
    assert_eq!(page("/nowhere").await.0, 404);
    let short: Value = serde_json::from_slice(&page("/debug/groups?summary").await.1).unwrap();
    let told = json!({"groups": 2, "leads": 1, "serving": 1, "troubled": 1});
    assert_eq!(short["summary"], told);
    assert!(short.get("groups").is_none());
    let long: Value = serde_json::from_slice(&page("/debug/groups").await.1).unwrap();
    assert_eq!(long["groups"][0]["high_watermark"], 7);
    let loops: Value = serde_json::from_slice(&page("/debug/loops").await.1).unwrap();
    assert!(loops["loops"].is_array());
    let stalls: Value = serde_json::from_slice(&page("/debug/stalls").await.1).unwrap();
    assert!(stalls["stalls"].is_array());
    let crash: Value = serde_json::from_slice(&page("/debug/crash").await.1).unwrap();
    assert!(crash["ending"].is_null() && crash["last"]["reason"] == "panic");
}

#[tokio::test]
async fn orders_are_answered_or_refused_and_never_given_by_a_get() {
    let address = served(BootPhase::Ready, false);
    let post = async |path: &str| http::post(&address, path).await.unwrap();
    let (status, body) = post("/admin/decommission?broker=1").await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, body), (409, json!({"error": "add a broker first"})));
    let (status, body) = post("/admin/drain").await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, body), (200, json!({"order": "Drain"})));
    assert_eq!(post("/admin/decommission").await.0, 400);
    assert_eq!(http::get(&address, "/admin/drain").await.unwrap().0, 405);
}

#[tokio::test]
async fn the_rest_answers_while_the_brokers_state_is_held() {
    let address = served(BootPhase::Ready, true);
    let many = (0..ASKING_MAX + 2).map(|_| {
        let address = address.clone();
        telemetry::task::spawn("test", async move { http::get(&address, "/debug/groups").await })
    });
    let asked: Vec<_> = many.collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = std::time::Instant::now();
    assert_eq!(http::get(&address, "/metrics").await.unwrap().0, 200);
    assert_eq!(http::get(&address, "/debug/loops").await.unwrap().0, 200);
    assert!(before.elapsed() < Duration::from_millis(900), "{:?}", before.elapsed());
    asked.iter().for_each(tokio::task::JoinHandle::abort);
}

/// The answer's first line, to whoever asks for `host`.
async fn asked_as(address: &str, path: &str, host: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_foreign_name_gets_metrics_and_nothing_else() {
    let address = served(BootPhase::Ready, false);
    for path in ["/", "/console", "/console/main.js", "/console/events", "/debug/loops", "/nowhere"]
    {
        let answer = asked_as(&address, path, "evil.example.org").await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{path}: {answer}");
        assert!(answer.contains("admin.allowed.hosts"), "{path}: {answer}");
    }
    let answer = asked_as(&address, "/metrics", "glasslog.svc").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = asked_as(&address, "/debug/loops", "localhost:9292").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn a_taken_admin_port_is_one_clear_line() {
    let taken = bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = bind(&address).unwrap_err().to_string();
    let start = format!("admin.listener cannot listen on {address}: the port is in use");
    assert!(error.starts_with(&start), "{error}");
}
