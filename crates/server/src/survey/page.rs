//! What is understood of a broker's own page. A broker of another version may say less or more:
//! what is missing is as if nothing were wrong there, what is unknown is left alone.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `/debug/broker`, as far as verdicts and screens need it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Page {
    pub broker: i32,
    pub version: String,
    pub uptime_ms: u64,
    pub state: String,
    pub waiting_for: Vec<String>,
    /// Why the rest of the page is empty: a thread holds the broker's state.
    pub error: Option<String>,
    pub summary: Summary,
    pub peers: Vec<Peer>,
    pub journal_full: Option<String>,
    pub unled: Unled,
    pub quarantined: Vec<Quarantined>,
    pub troubled: Vec<Group>,
    pub hottest: Vec<Hot>,
    pub transfers: Vec<Transfer>,
    pub loops: Vec<LoopState>,
    pub stalls: Vec<Stall>,
    pub elections: Elections,
    pub requests: Requests,
    pub crash: CrashPage,
    pub numbers: BTreeMap<String, f64>,
}

impl Page {
    /// A counter or gauge with all its labels; 0 unless told.
    pub fn number(&self, name: &str) -> f64 {
        self.numbers.get(name).copied().unwrap_or(0.0)
    }

    /// All series of a metric: the value of `label` in each, and its number.
    pub fn series<'a>(
        &'a self,
        name: &'a str,
        label: &'a str,
    ) -> impl Iterator<Item = (&'a str, f64)> {
        let all =
            self.numbers.range(name.to_owned()..).take_while(move |(key, _)| key.starts_with(name));
        all.filter_map(move |(key, value)| {
            let labels = key[name.len()..].strip_prefix('{')?.strip_suffix('}')?;
            // Values come from closed sets of plain words.
            let mut pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
            let (_, found) = pairs.find(|(known, _)| *known == label)?;
            Some((found.trim_matches('"'), *value))
        })
    }

    /// The sum of all series of a metric.
    pub fn total(&self, name: &str) -> f64 {
        let all =
            self.numbers.range(name.to_owned()..).take_while(|(key, _)| key.starts_with(name));
        let own =
            all.filter(|(key, _)| matches!(key.as_bytes().get(name.len()), None | Some(b'{')));
        own.map(|(_, value)| value).sum()
    }

    pub fn lasting_stalls(&self) -> impl Iterator<Item = &Stall> {
        self.stalls.iter().filter(|stall| stall.ended_ms.is_none())
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Summary {
    pub groups: usize,
    pub leads: usize,
    pub serving: usize,
    pub troubled: usize,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Peer {
    pub broker: i32,
    pub address: String,
    pub admin: Option<String>,
    pub connected: bool,
    pub dead: bool,
    pub last_error: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Unled {
    pub count: usize,
    pub names: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Quarantined {
    pub group: u64,
    pub why: String,
}

/// A replica, as its broker publishes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Group {
    pub group: u64,
    pub name: String,
    pub high_watermark: i64,
    pub replica: u64,
    pub role: String,
    pub term: u64,
    pub leader: Option<u64>,
    pub serving: bool,
    pub commit: u64,
    pub applied: u64,
    pub last_index: u64,
    pub acked: u64,
    pub durable: u64,
    pub quorum_durable: Option<u64>,
    pub isr: usize,
    pub replicas: usize,
    pub min_insync_replicas: usize,
    pub partition: bool,
    pub peer_lag: u64,
    pub suspect: bool,
    pub held: Option<String>,
    pub pending: usize,
    pub queued: usize,
    pub lease_remaining_ms: Option<u64>,
    pub voters: Vec<u64>,
    pub outgoing: Vec<u64>,
    pub starved: Vec<Starved>,
    pub attempt: Option<Attempt>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Starved {
    pub broker: i32,
    pub ms: u64,
    pub why: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Attempt {
    pub reason: String,
    pub ms: u64,
    pub rounds: u32,
    /// Replica and answer.
    pub ballots: Vec<(u64, String)>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Hot {
    pub name: String,
    pub group: u64,
    pub records_per_s: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Transfer {
    pub name: String,
    pub from_broker: i32,
    pub stage: String,
    pub bytes: u64,
    pub total: u64,
    pub since_ms: u64,
    pub failures: u32,
    pub last_error: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LoopState {
    #[serde(rename = "loop")]
    pub name: String,
    pub index: u64,
    pub phase: String,
    pub age_ms: u64,
    pub io: Option<Io>,
    pub says: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Io {
    pub op: String,
    pub bytes: u64,
    pub age_ms: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Stall {
    pub began_ms: i64,
    pub ended_ms: Option<i64>,
    pub cause: String,
    pub stalled: Stalled,
    pub chain: Vec<Link>,
    pub root_thread: Option<String>,
    pub says: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Stalled {
    #[serde(rename = "loop")]
    pub name: String,
    pub phase: String,
    pub age_ms: u64,
    pub group: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Link {
    pub waiter: String,
    pub lock: String,
    pub waited_ms: u64,
    pub waits_at: Option<String>,
    pub holder: Option<String>,
    pub taken_at: Option<String>,
    pub held_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Elections {
    pub under_way: Vec<UnderWay>,
    pub elections: Vec<Election>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct UnderWay {
    pub name: String,
    pub term: u64,
    #[serde(flatten)]
    pub attempt: Attempt,
}

/// A post-mortem.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Election {
    pub at_ms: i64,
    pub name: String,
    pub outcome: Option<String>,
    pub says: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Requests {
    pub produce: Waterfall,
    pub fetch: Waterfall,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Waterfall {
    pub count: u64,
    pub p50: Option<Fall>,
    pub p99: Option<Fall>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Fall {
    pub ms: f64,
    pub stages: Vec<StageMs>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct StageMs {
    pub stage: String,
    pub ms: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CrashPage {
    pub ending: Option<Crash>,
    pub last: Option<Crash>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Crash {
    pub reason: String,
    pub why: String,
    pub at_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_version_is_read_as_far_as_it_goes() {
        let page: Page =
            serde_json::from_str(r#"{"broker": 2, "new": [1], "peers": [{}]}"#).unwrap();
        assert_eq!((page.broker, page.peers.len(), page.state.as_str()), (2, 1, ""));
    }

    #[test]
    fn series_are_told_apart_from_longer_names() {
        let numbers = [("a_total", 1.0), ("a_total{xy=\"u\",y=\"v\"}", 2.0), ("a_total_more", 4.0)];
        let numbers = numbers.map(|(name, value)| (name.to_owned(), value)).into();
        let page = Page { numbers, ..Page::default() };
        assert_eq!(page.total("a_total"), 3.0);
        assert_eq!(page.series("a_total", "y").collect::<Vec<_>>(), [("v", 2.0)]);
        assert_eq!((page.number("a_total_more"), page.number("b")), (4.0, 0.0));
    }
}
