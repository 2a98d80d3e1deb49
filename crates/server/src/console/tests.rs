//! The console as a browser's sockets see it; how it looks is the story of `cargo xtask test admin`.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use flate2::read::GzDecoder;
use model::limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::events::{Gather, Viewers, events};
use super::{FILES, PAGE, POLICY, is_wanted, router};

const PACE: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(10);

fn counting() -> (Gather, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let gather: Gather = Box::new(move || {
        let number = counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { format!("{{\"number\":{number}}}") })
    });
    (gather, count)
}

async fn listen(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    telemetry::task::spawn("test", async move { axum::serve(listener, router).await });
    address
}

async fn streaming() -> (SocketAddr, Arc<AtomicUsize>) {
    let (gather, count) = counting();
    let viewers = Viewers::with_pace(gather, PACE);
    let router = Router::new().route("/console/events", get(events)).with_state(viewers);
    (listen(router).await, count)
}

async fn ask(address: SocketAddr, path: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // 1.0: a body without chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads until `enough` says so.
async fn read(stream: &mut TcpStream, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading =
        async { while !enough(&bytes) && stream.read_buf(&mut bytes).await.unwrap() > 0 {} };
    tokio::time::timeout(LIMIT, reading).await.expect("it comes");
    bytes
}

async fn whole(address: SocketAddr, path: &str) -> String {
    let bytes = read(&mut ask(address, path, "").await, |_| false).await;
    String::from_utf8(bytes).unwrap()
}

async fn wait_until(what: &str, done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(PACE).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, waiting).await.is_ok(), "{what}");
}

#[tokio::test]
async fn the_page_and_its_files_come_with_a_policy_and_from_nowhere_else() {
    let address = listen(router(counting().0)).await;
    for (name, kind, text) in FILES {
        let answer = whole(address, &format!("/console/{name}")).await;
        assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with(text), "{name}");
        assert!(answer.contains(kind) && answer.contains(POLICY), "{name}");
        for foreign in ["innerHTML", "insertAdjacentHTML", "document.write", "eval(", "//cdn"] {
            assert!(!text.contains(foreign), "{foreign} in {name}");
        }
    }
    assert!(whole(address, "/console").await.ends_with(PAGE));
    assert!(PAGE.contains("console/main.js") && PAGE.contains("console/style.css"));
    assert!(!PAGE.contains("style=\"") && !PAGE.contains("<script>") && !PAGE.contains("onclick"));
    assert!(whole(address, "/console/nothing").await.starts_with("HTTP/1.0 404"));
}

#[test]
fn browsers_are_led_here_and_curl_is_not() {
    let asks = |accept: &'static str| {
        let value = axum::http::HeaderValue::from_static(accept);
        is_wanted(&[(axum::http::header::ACCEPT, value)].into_iter().collect())
    };
    assert!(asks("text/html,application/xhtml+xml,*/*;q=0.8"));
    assert!(!asks("*/*") && !is_wanted(&axum::http::HeaderMap::new()));
}

#[tokio::test]
async fn all_viewers_share_one_gatherer_that_ends_with_the_last() {
    let (address, count) = streaming().await;
    assert_eq!(count.load(Ordering::Relaxed), 0, "nobody watches");
    let mut one = ask(address, "/console/events", "").await;
    let text = read(&mut one, |bytes| bytes.windows(6).filter(|w| w == b"number").count() > 2);
    let text = String::from_utf8(text.await).unwrap();
    assert!(text.contains("text/event-stream") && text.contains("retry: 1000\n\n"), "{text}");
    assert!(text.contains("event: cluster\ndata: {\"number\":0}\n\n"), "{text}");
    let mut two = ask(address, "/console/events", "").await;
    let text = read(&mut two, |bytes| bytes.windows(6).any(|w| w == b"number")).await;
    assert!(!String::from_utf8(text).unwrap().contains("\"number\":0}"), "its own gatherer");
    drop((one, two));
    let seen = Arc::new(AtomicUsize::new(usize::MAX));
    wait_until("the gatherer ends", || {
        let now = count.load(Ordering::Relaxed);
        seen.swap(now, Ordering::Relaxed) == now
    })
    .await;
    let ended = count.load(Ordering::Relaxed);
    tokio::time::sleep(10 * PACE).await;
    assert!(count.load(Ordering::Relaxed) <= ended + 1, "it goes on");
    let mut again = ask(address, "/console/events", "").await;
    read(&mut again, |bytes| bytes.windows(6).any(|w| w == b"number")).await;
}

#[tokio::test]
async fn who_finds_no_seat_is_told_why() {
    let (address, _) = streaming().await;
    let mut watching = Vec::new();
    for _ in 0..limits::CONSOLE_VIEWERS_MAX {
        let mut stream = ask(address, "/console/events", "").await;
        read(&mut stream, |bytes| bytes.windows(6).any(|w| w == b"number")).await;
        watching.push(stream);
    }
    let refused = whole(address, "/console/events").await;
    assert!(refused.starts_with("HTTP/1.0 503") && refused.contains("another broker's console"));
    watching.pop();
    let mut taken = Vec::new();
    for _ in 0..100 {
        let mut stream = ask(address, "/console/events", "").await;
        taken = read(&mut stream, |bytes| bytes.len() > 12).await;
        if taken.starts_with(b"HTTP/1.0 200") {
            break;
        }
        tokio::time::sleep(PACE).await;
    }
    assert!(taken.starts_with(b"HTTP/1.0 200"), "a seat that was left is given again");
}

#[tokio::test]
async fn a_browser_gets_it_compressed_and_each_event_as_it_comes() {
    let (address, _) = streaming().await;
    let mut stream = ask(address, "/console/events", "Accept-Encoding: gzip, br\r\n").await;
    let body = |bytes: &[u8]| {
        let at = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let mut text = Vec::new();
        // It has no end, which is an error here and none to a browser.
        let _ = GzDecoder::new(&bytes[at..]).read_to_end(&mut text);
        String::from_utf8(text).ok()
    };
    let third = |bytes: &[u8]| body(bytes).is_some_and(|text| text.contains("\"number\":2}"));
    let bytes = read(&mut stream, third).await;
    let text = body(&bytes).unwrap();
    assert!(text.starts_with("retry: 1000\n\n"), "{text}");
    assert_eq!(text.matches("event: cluster\n").count(), 3, "{text}");
    let head = String::from_utf8_lossy(&bytes).to_lowercase();
    assert!(head.contains("content-encoding: gzip"), "{head}");
}

#[tokio::test]
async fn a_slow_viewer_misses_documents() {
    const BIG: usize = 1 << 20;
    const MANY: usize = 60;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let gather: Gather = Box::new(move || {
        let number = counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            if number > MANY {
                std::future::pending::<()>().await;
            }
            format!("{}{number}", " ".repeat(BIG))
        })
    });
    let viewers = Viewers::with_pace(gather, Duration::from_millis(1));
    let router = Router::new().route("/console/events", get(events)).with_state(viewers);
    let mut stream = ask(listen(router).await, "/console/events", "").await;
    wait_until("many documents", || count.load(Ordering::Relaxed) > MANY).await;
    let newest = format!(" {MANY}\n\n");
    let told = read(&mut stream, |bytes| bytes.ends_with(newest.as_bytes())).await;
    // What the sockets held, and then the newest: the rest was never kept for it.
    let documents = told.len() / BIG;
    assert!(documents < MANY / 2, "{documents} of {MANY}");
}
