//! The whole cluster as its brokers tell it: each one's own page, and why a broker has none.
//!
//! `doctor`, `why`, `top` and the web console look at this. They are used when a broker is dead and
//! another stands still, so: every broker is asked at the same time, an answer takes bounded time
//! and memory, and one that does not come is an answer too. Where brokers are is learnt from
//! those that answer ([`node::PeerView::admin`]).
//!
//! Invariant: asking changes nothing.

pub mod digest;
mod page;
pub mod verdict;
pub mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use model::limits;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;

pub use page::{Election, Group, Page, Stall};

use crate::http;

/// How a broker did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// Its machine refuses: nothing listens there, so the process is gone.
    Refused,
    /// Its machine does not answer: off, or packets are lost.
    Unreachable,
    /// It takes connections and does not answer: stopped, or starved.
    Mute,
    /// It answers with something else.
    Odd,
    /// Nobody who answers knows where its admin HTTP is.
    Unknown,
}

/// One broker, asked.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Answer {
    /// `None`: an address that was given and where nobody said who it is.
    pub broker: Option<i32>,
    pub admin: Option<String>,
    pub answered: bool,
    pub silence: Option<Silence>,
    /// Why there is no page.
    pub error: Option<String>,
    pub took_ms: u64,
    /// How far its wall clock is ahead of the asker's, as well as the answer's way allows to say.
    pub clock_ahead_ms: Option<i64>,
    /// As it came.
    #[serde(rename = "page")]
    pub raw: Option<Value>,
    /// What is understood of it.
    #[serde(skip)]
    pub page: Option<Page>,
}

/// All brokers that are known of, at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Survey {
    /// Milliseconds since 1970, by the asker's clock.
    pub at_ms: i64,
    /// By id; those without one last.
    pub brokers: Vec<Answer>,
}

impl Survey {
    /// Pages of those that answered.
    pub fn pages(&self) -> impl Iterator<Item = &Page> {
        self.brokers.iter().filter_map(|answer| answer.page.as_ref())
    }

    pub fn page_of(&self, broker: i32) -> Option<&Page> {
        self.pages().find(|page| page.broker == broker)
    }
}

/// A survey with its verdicts, as `/debug/cluster` and the web console have it. `asked`: the broker
/// that looked.
pub fn document(asked: Option<i32>, now: &Survey, earlier: Option<&Survey>) -> Value {
    let verdicts = verdict::judge(now, earlier);
    json!({ "at_ms": now.at_ms, "asked": asked, "brokers": now.brokers, "verdicts": verdicts })
}

/// One admin address, asked for a page.
struct Asked {
    admin: String,
    took: Duration,
    clock_ahead_ms: Option<i64>,
    outcome: Result<Value, (Silence, String)>,
}

/// Asks the brokers at `seeds`, then everyone they know of.
pub async fn survey(seeds: &[String]) -> Survey {
    let mut asked: BTreeMap<String, Asked> = BTreeMap::new();
    let mut next: BTreeSet<String> = seeds.iter().cloned().collect();
    while !next.is_empty() {
        for answer in ask_all(&next, "/debug/broker").await {
            asked.insert(answer.admin.clone(), answer);
        }
        let pages = asked.values().filter_map(|asked| asked.outcome.as_ref().ok());
        let told = pages.flat_map(admins_of);
        next = told.filter(|admin| !asked.contains_key(admin)).collect();
        // Brokers that contradict each other cannot keep this going.
        if asked.len() + next.len() > limits::SURVEY_BROKERS_MAX {
            break;
        }
    }
    collect(asked)
}

/// Where a page says that others are.
fn admins_of(page: &Value) -> Vec<String> {
    let peers = page["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
    peers.iter().filter_map(|peer| Some(peer["admin"].as_str()?.to_owned())).collect()
}

/// The same path at all of them at once.
async fn ask_all(admins: &BTreeSet<String>, path: &str) -> Vec<Asked> {
    join_all(admins.iter().map(|admin| ask(admin.clone(), path))).await
}

const CONNECT_MAX: Duration = Duration::from_millis(1_000);
/// Longer than a broker waits for its own state, so that one that hangs in part still answers.
const ANSWER_MAX: Duration = Duration::from_millis(2_500);

async fn ask(admin: String, path: &str) -> Asked {
    let (begun, begun_ms) = (Instant::now(), telemetry::clock::wall_ms());
    let outcome = fetch(&admin, path).await;
    let took = begun.elapsed();
    let middle_ms = begun_ms + took.as_millis() as i64 / 2;
    let told = outcome.as_ref().ok().and_then(|page| page["at_ms"].as_i64());
    Asked { admin, took, clock_ahead_ms: told.map(|at_ms| at_ms - middle_ms), outcome }
}

/// A JSON page, or how it was refused. A connection of its own tells a process that is gone from
/// one that stands still.
async fn fetch(admin: &str, path: &str) -> Result<Value, (Silence, String)> {
    match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(admin)).await {
        Err(_) => {
            let why = format!("its machine takes no connection within {CONNECT_MAX:?}");
            return Err((Silence::Unreachable, why));
        }
        Ok(Err(error)) => {
            let refused = error.kind() == std::io::ErrorKind::ConnectionRefused;
            let kind = if refused { Silence::Refused } else { Silence::Unreachable };
            return Err((kind, crate::error::plain(&error)));
        }
        Ok(Ok(_)) => {}
    }
    let answer = http::get_within(ANSWER_MAX, admin, path).await;
    let (status, body) = answer.map_err(|why| (Silence::Mute, why))?;
    let page = serde_json::from_slice::<Value>(&body);
    match (status, page) {
        (200, Ok(page)) => Ok(page),
        (status, Ok(page)) => {
            let why = page["error"].as_str().unwrap_or("no reason given");
            Err((Silence::Odd, format!("HTTP {status}: {why}")))
        }
        (status, Err(_)) => {
            let why = format!("HTTP {status} and no JSON: is this the admin HTTP of a Glasslog?");
            Err((Silence::Odd, why))
        }
    }
}

/// One answer per broker; of two addresses of the same broker the one that answered.
fn collect(asked: BTreeMap<String, Asked>) -> Survey {
    let mut named: BTreeMap<i32, Answer> = BTreeMap::new();
    let mut peers: BTreeMap<i32, Option<String>> = BTreeMap::new();
    let mut silent = Vec::new();
    for asked in asked.into_values() {
        let mut answer = Answer {
            admin: Some(asked.admin),
            answered: asked.outcome.is_ok(),
            took_ms: asked.took.as_millis() as u64,
            clock_ahead_ms: asked.clock_ahead_ms,
            ..Answer::default()
        };
        match asked.outcome {
            Ok(raw) => match serde_json::from_value::<Page>(raw.clone()) {
                Ok(page) => {
                    for peer in &page.peers {
                        let known = peers.entry(peer.broker).or_default();
                        *known = known.take().or_else(|| peer.admin.clone());
                    }
                    answer.broker = Some(page.broker);
                    named
                        .insert(page.broker, Answer { raw: Some(raw), page: Some(page), ..answer });
                }
                Err(error) => {
                    (answer.answered, answer.silence) = (false, Some(Silence::Odd));
                    answer.error = Some(format!("its page is not understood: {error}"));
                    silent.push(answer);
                }
            },
            Err((silence, why)) => {
                (answer.silence, answer.error) = (Some(silence), Some(why));
                silent.push(answer);
            }
        }
    }
    for (broker, admin) in peers {
        if named.contains_key(&broker) {
            continue;
        }
        let at = silent.iter().position(|answer| admin.is_some() && answer.admin == admin);
        let found = at.map(|at| silent.swap_remove(at));
        named.insert(broker, Answer { broker: Some(broker), ..found.unwrap_or_else(unknown) });
    }
    let brokers = named.into_values().chain(silent).collect();
    Survey { at_ms: telemetry::clock::wall_ms(), brokers }
}

/// A broker of which only the id is known.
fn unknown() -> Answer {
    Answer {
        silence: Some(Silence::Unknown),
        error: Some("nobody who answers knows where its admin HTTP is".to_owned()),
        ..Answer::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(admin: &str, outcome: Result<Value, (Silence, String)>) -> (String, Asked) {
        let took = Duration::from_millis(2);
        (admin.to_owned(), Asked { admin: admin.into(), took, clock_ahead_ms: Some(0), outcome })
    }

    #[test]
    fn a_broker_that_does_not_answer_is_named_by_those_who_know_it() {
        let page = json!({"broker": 1, "peers": [
            {"broker": 2, "admin": "b:2", "connected": false},
            {"broker": 3, "admin": null, "connected": false}]});
        let gone = (Silence::Refused, "connection refused".to_owned());
        let survey = collect([asked("a:1", Ok(page)), asked("b:2", Err(gone))].into());
        let told: Vec<_> =
            survey.brokers.iter().map(|b| (b.broker, b.answered, b.silence)).collect();
        let expected = [
            (Some(1), true, None),
            (Some(2), false, Some(Silence::Refused)),
            (Some(3), false, Some(Silence::Unknown)),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn two_addresses_of_one_broker_are_one_broker() {
        let page = || json!({"broker": 1, "peers": []});
        let survey = collect([asked("a:1", Ok(page())), asked("localhost:1", Ok(page()))].into());
        assert_eq!(survey.brokers.len(), 1);
    }

    #[tokio::test]
    async fn gone_mute_and_odd_are_told_apart() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(fetch(&address, "/").await.unwrap_err().0, Silence::Mute);
        drop(listener);
        assert_eq!(fetch(&address, "/").await.unwrap_err().0, Silence::Refused);
    }
}
