//! Restart, death and silence: real processes, killed and stopped.

use super::super::proto::peer_client::PeerClient;
use super::*;
use eraftpb::MessageType::MsgHeartbeat;
use std::process::{Child, Command, Stdio};

const CHILD_AT: &str = "GLASSLOG_TEST_PEER_AT";

/// A broker process of its own: this test binary, running only `child_broker`.
struct Process(Child);

impl Process {
    fn start(at: &str) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "peer::tests::death::child_broker"]);
        command.env(CHILD_AT, at).stdout(Stdio::null()).stderr(Stdio::null());
        Process(command.spawn().unwrap())
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: the child is ours and not yet waited for, so its id is not reused.
        #[allow(unsafe_code)]
        let sent = unsafe { libc::kill(self.0.id() as libc::pid_t, signal) };
        assert_eq!(sent, 0);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: broker 2 in a process of its own, until it is killed. Does nothing unless the
/// tests beside it ask for it.
#[tokio::test]
async fn child_broker() {
    let Ok(at) = std::env::var(CHILD_AT) else { return };
    let life = u64::from(std::process::id());
    let mut broker = TestBroker::start(identity(2, life, Some(CLUSTER)), &at, &[]).await;
    broker.watch(Duration::from_secs(60)).await;
}

async fn watcher(at: &str) -> TestBroker {
    TestBroker::start(identity(1, 11, Some(CLUSTER)), "127.0.0.1:0", &[(2, at)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_is_dead_at_once_and_alive_when_it_is_back() {
    let at = free_address();
    let mut broker = watcher(&at).await;
    let early = broker.watch(Duration::from_millis(300)).await;
    assert_eq!(early, [], "a peer that was never up is absent, not dead");

    let mut took = Vec::new();
    for _ in 0..5 {
        let mut process = Process::start(&at);
        let life = broker.until_connected(2).await.incarnation;
        assert_eq!(life.0, u64::from(process.0.id()));
        let killed = Instant::now();
        process.0.kill().unwrap();
        let mut ends = Vec::new();
        broker
            .until("its death", |seen| {
                ends.push(seen.clone());
                (*seen == Seen::Died(BrokerId(2))).then_some(())
            })
            .await;
        took.push(killed.elapsed());
        ends.retain(|seen| !matches!(seen, Seen::Hello(_)));
        assert_eq!(ends, [Seen::Disconnected(BrokerId(2)), Seen::Died(BrokerId(2))]);
        assert!(broker.peers.status()[0].dead);
        let after = broker.watch(Duration::from_millis(250)).await;
        assert_eq!(after, [], "a death is said once");
    }
    took.sort();
    println!("kill -9 to died(): {took:?}");
    // Milliseconds on a quiet machine; far below any election time-out on every machine.
    assert!(took[2] < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_process_is_not_dead() {
    let at = free_address();
    let mut broker = watcher(&at).await;
    let process = Process::start(&at);
    broker.until_connected(2).await;
    process.signal(libc::SIGSTOP);
    broker.peers.send(BrokerId(2), item(MsgHeartbeat, 1, 0)).unwrap();
    let seen = broker.watch(Duration::from_secs(1)).await;
    assert_eq!(seen, []);
    // A second observer finds its port open and its process silent: absent, not dead.
    let mut second = watcher(&at).await;
    let seen = second.watch(Duration::from_millis(limits::PEER_HANDSHAKE_MS_MAX + 500)).await;
    assert_eq!(seen, []);
    assert_eq!(second.peers.status()[0].last_error.as_deref(), Some("no answer to our handshake"));
    process.signal(libc::SIGCONT);
    second.until_connected(2).await;
}

/// What a [`Proxy`] does with connections.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Forward,
    /// Accepts, and never says a word.
    Mute,
    /// Accepts and closes, as a kernel does while it tears a process down.
    Slam,
}

/// Stands before a broker and can cut its connections without closing its port.
struct Proxy {
    at: String,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Proxy {
    async fn before(target: String) -> Proxy {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let (mode, modes) = watch::channel(Mode::Forward);
        let task = telemetry::task::spawn("test", async move {
            let mut held = Vec::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let mut modes = modes.clone();
                let now = *modes.borrow_and_update();
                match now {
                    Mode::Slam => {}
                    Mode::Mute => held.push(near),
                    Mode::Forward => {
                        let target = target.clone();
                        telemetry::task::spawn("test", async move {
                            let Ok(mut far) = tokio::net::TcpStream::connect(target).await else {
                                return;
                            };
                            tokio::select! {
                                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                                _ = modes.changed() => {}
                            }
                        });
                    }
                }
            }
        });
        Proxy { at, mode, task }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_link_to_a_machine_that_falls_silent_is_not_death() {
    let two = TestBroker::start(identity(2, 21, Some(CLUSTER)), "127.0.0.1:0", &[]).await;
    let proxy = Proxy::before(two.peers.listen_address().to_string()).await;
    let mut broker = watcher(&proxy.at).await;
    broker.until_connected(2).await;
    // Lanes that open over a connection closed this instant would open over a new, silent one,
    // and only the keepalive would find that out.
    assert_eq!(broker.watch(Duration::from_millis(200)).await, []);
    proxy.mode.send_replace(Mode::Mute);
    let seen = broker.watch(Duration::from_millis(2 * limits::PEER_HANDSHAKE_MS_MAX)).await;
    assert_eq!(seen, [Seen::Disconnected(BrokerId(2))]);
    assert!(!broker.peers.status()[0].dead);
    proxy.mode.send_replace(Mode::Forward);
    broker.until_connected(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_outlives_its_connections_delays_death_by_a_moment_only() {
    let two = TestBroker::start(identity(2, 21, Some(CLUSTER)), "127.0.0.1:0", &[]).await;
    let proxy = Proxy::before(two.peers.listen_address().to_string()).await;
    let mut broker = watcher(&proxy.at).await;
    broker.until_connected(2).await;
    assert_eq!(broker.watch(Duration::from_millis(200)).await, [], "both lanes stand");
    proxy.mode.send_replace(Mode::Slam);
    let closed = |seen: &Seen| {
        assert_ne!(*seen, Seen::Died(BrokerId(2)), "its port is open");
        (*seen == Seen::Disconnected(BrokerId(2))).then_some(())
    };
    broker.until("the end of the lanes", closed).await;
    assert_eq!(broker.watch(Duration::from_millis(100)).await, []);
    proxy.task.abort();
    broker.until("its death", |seen| (*seen == Seen::Died(BrokerId(2))).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_peer_is_found_again_and_starts_with_empty_lanes() {
    let at = free_address();
    let mut broker = watcher(&at).await;
    for life in 1..=3 {
        let own = identity(2, life, Some(CLUSTER));
        let mut two = TestBroker::start(own, &at, &[]).await;
        let peer = broker.until_connected(2).await;
        assert_eq!(peer.incarnation, Incarnation(life));
        assert_eq!(broker.peers.connected(), [BrokerId(2)]);
        broker.peers.send(BrokerId(2), item(MsgHeartbeat, life, 0)).unwrap();
        two.until("this life's heartbeat", |seen| match seen {
            Seen::Raft(_, items) => {
                assert_eq!(items[0].message.index, life);
                Some(())
            }
            _ => None,
        })
        .await;
        two.peers.shutdown().await;
        let gone = |seen: &Seen| (*seen == Seen::Disconnected(BrokerId(2))).then_some(());
        broker.until("the end", gone).await;
        assert!(broker.peers.send(BrokerId(2), item(MsgHeartbeat, 0, 0)).is_err());
        assert!(broker.peers.connected().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_lets_queued_messages_leave_and_frees_the_port() {
    let (one, mut two) = pair().await;
    let at = one.peers.listen_address().to_string();
    for index in 1..=500 {
        one.peers.send(BrokerId(2), item(MsgHeartbeat, index, 100)).unwrap();
    }
    one.peers.shutdown().await;
    let mut last = 0;
    two.until("the last message", |seen| {
        if let Seen::Raft(_, items) = seen {
            last = items.last().unwrap().message.index;
        }
        (last == 500).then_some(())
    })
    .await;
    let next = tokio::net::TcpListener::bind(&at).await;
    assert!(next.is_ok(), "{next:?}");
    assert!(PeerClient::connect("http://127.0.0.1:1").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_transport_ends_its_tasks() {
    let (one, mut two) = pair().await;
    let at = one.peers.listen_address().to_string();
    drop(one);
    two.until("the end", |seen| (*seen == Seen::Disconnected(BrokerId(1))).then_some(())).await;
    for _ in 0..200 {
        if TcpListener::bind(&at).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the listener outlived its transport");
}
