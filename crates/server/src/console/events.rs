//! What the viewers of the console are sent: the whole cluster once a second, as server-sent
//! events.
//!
//! Invariants: the cluster is asked once for all viewers, and only while somebody watches. A
//! document is written and compressed once, and lies here once: a viewer that reads slowly misses
//! documents, it does not heap them up.

use std::convert::Infallible;
use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use model::limits;
use telemetry::clock;
use tokio::sync::watch;

use super::seats::{Seats, Ticket};

/// The document of one second, as JSON without a line break.
pub type Gathered = Pin<Box<dyn Future<Output = String> + Send>>;
/// Asks the whole cluster.
pub type Gather = Box<dyn Fn() -> Gathered + Send + Sync>;

const EVERY: Duration = Duration::from_millis(limits::CONSOLE_EVERY_MS);
const FULL: &str = "as many people watch this broker's console as it has seats for; another \
    broker's console shows the same\n";
/// After a break the browser tries again by itself, this soon.
const RETRY: &str = "retry: 1000\n\n";
/// A gzip header without name or time (RFC 1952); the deflated blocks of [`Frame`] follow it.
const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// One event, plain and deflated. The deflated bytes end at a whole byte and refer to nothing
/// before them, so that the same ones follow whatever a viewer got last.
#[derive(Clone, Default)]
struct Frame {
    plain: Bytes,
    deflated: Bytes,
}

fn deflated(plain: &[u8]) -> Bytes {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail; dropped without `finish`, which would end the stream.
    let _ = encoder.write_all(plain).and_then(|()| encoder.flush());
    Bytes::copy_from_slice(encoder.get_ref())
}

impl Frame {
    fn of(document: &str) -> Frame {
        let plain = Bytes::from(format!("event: cluster\ndata: {document}\n\n"));
        Frame { deflated: deflated(&plain), plain }
    }
}

/// Everybody who watches, and what they are shown.
pub struct Viewers {
    gather: Gather,
    every: Duration,
    seats: Seats,
    /// `None`: nobody watched lately.
    shown: watch::Sender<Option<Frame>>,
    gathering: AtomicBool,
}

impl Viewers {
    pub fn new(gather: Gather) -> Arc<Viewers> {
        Viewers::with_pace(gather, EVERY)
    }

    pub(super) fn with_pace(gather: Gather, every: Duration) -> Arc<Viewers> {
        let (shown, _) = watch::channel(None);
        let gathering = AtomicBool::new(false);
        Arc::new(Viewers { gather, every, seats: Seats::default(), shown, gathering })
    }

    /// Sees to it that somebody gathers.
    fn wake(self: &Arc<Viewers>) {
        if !self.gathering.swap(true, Ordering::AcqRel) {
            let shift = Shift(self.clone());
            telemetry::task::spawn("console", async move { shift.run().await });
        }
    }
}

/// The one who gathers. However it ends, the next viewer can begin another.
struct Shift(Arc<Viewers>);

impl Shift {
    async fn run(self) {
        let viewers = &self.0;
        let mut beat = tokio::time::interval(viewers.every);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while viewers.seats.is_watched(clock::mono_ns()) {
            beat.tick().await;
            let document = (viewers.gather)().await;
            viewers.shown.send_replace(Some(Frame::of(&document)));
        }
    }
}

impl Drop for Shift {
    fn drop(&mut self) {
        // What is old is shown to nobody as if it were new.
        self.0.shown.send_replace(None);
        self.0.gathering.store(false, Ordering::Release);
    }
}

/// One who watches.
struct Viewer {
    viewers: Arc<Viewers>,
    ticket: Ticket,
    news: watch::Receiver<Option<Frame>>,
    hello: Option<Bytes>,
    gzip: bool,
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.viewers.seats.leave(self.ticket);
    }
}

impl Viewer {
    /// What comes next; `None`: its seat was given away.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(hello) = self.hello.take() {
            return Some(hello);
        }
        loop {
            if !self.viewers.seats.seen(self.ticket, clock::mono_ns()) {
                return None;
            }
            self.viewers.wake();
            self.news.changed().await.ok()?;
            if let Some(frame) = self.news.borrow_and_update().as_ref() {
                return Some(if self.gzip { frame.deflated.clone() } else { frame.plain.clone() });
            }
        }
    }
}

fn hello(gzip: bool) -> Bytes {
    if !gzip {
        return Bytes::from_static(RETRY.as_bytes());
    }
    Bytes::from([&GZIP[..], &deflated(RETRY.as_bytes())].concat())
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|text| text.split(',').any(|one| one.trim() == "gzip"))
}

/// The stream of one viewer, or why there is none.
pub async fn events(State(viewers): State<Arc<Viewers>>, headers: HeaderMap) -> Response {
    let Some(ticket) = viewers.seats.take(clock::mono_ns()) else {
        return (StatusCode::SERVICE_UNAVAILABLE, FULL).into_response();
    };
    let mut news = viewers.shown.subscribe();
    if viewers.shown.borrow().is_some() {
        news.mark_changed();
    }
    let gzip = takes_gzip(&headers);
    let viewer = Viewer { viewers, ticket, news, hello: Some(hello(gzip)), gzip };
    let stream = futures_util::stream::unfold(viewer, |mut viewer| async move {
        let bytes = viewer.next().await?;
        Some((Ok::<Bytes, Infallible>(bytes), viewer))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let answered = response.headers_mut();
    answered.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
    answered.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    answered.insert(header::VARY, header::HeaderValue::from_static("accept-encoding"));
    if gzip {
        answered.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
    }
    response
}
