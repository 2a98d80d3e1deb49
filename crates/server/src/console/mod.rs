//! The web console: a page for an engineer on call, at `/console` of every broker's admin port.
//! It shows the whole cluster as this broker sees it, live.
//!
//! Invariants: it changes nothing. The page comes whole from this binary and asks nobody else for
//! anything, and its policy does not let it; nor does that let text of the cluster (topics, client
//! ids, errors) become markup. See [`events`] for what watching costs.

mod events;
mod looks;
mod seats;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use events::{Gather, Viewers, events};
pub use looks::gather;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

const PAGE: &str = include_str!("page.html");

/// What the page is made of: file, type, text.
const FILES: [(&str, &str, &str); 12] = [
    ("style.css", CSS, include_str!("style.css")),
    ("main.js", JS, include_str!("main.js")),
    ("dom.js", JS, include_str!("dom.js")),
    ("format.js", JS, include_str!("format.js")),
    ("stream.js", JS, include_str!("stream.js")),
    ("verdicts.js", JS, include_str!("verdicts.js")),
    ("brokers.js", JS, include_str!("brokers.js")),
    ("groups.js", JS, include_str!("groups.js")),
    ("stalls.js", JS, include_str!("stalls.js")),
    ("elections.js", JS, include_str!("elections.js")),
    ("requests.js", JS, include_str!("requests.js")),
    ("way.js", JS, include_str!("way.js")),
];

/// Nothing from elsewhere, nothing inline, no markup made of strings. The icon is a `data:` URL.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Its routes; `gather` asks the whole cluster.
pub fn router(gather: Gather) -> Router {
    Router::new()
        .route("/console", get(async || served(HTML, PAGE)))
        // Relative links of the page would lead one level down.
        .route("/console/", get(async || Redirect::to("../console")))
        .route("/console/events", get(events))
        .route("/console/{file}", get(file))
        .with_state(Viewers::new(gather))
}

/// Whether whoever asks for `/` is a browser, and no `curl`.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// Where a browser that asked for `/` goes on.
pub fn redirect() -> Response {
    Redirect::to("console").into_response()
}

async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(file, ..)| *file == name) {
        Some((_, kind, text)) => served(kind, text),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Asked for again each time: the next binary's page may be another.
fn served(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
