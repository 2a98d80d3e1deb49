//! Brokers: gone, silent, ending, hung, cut off from each other, not ready, with another clock.

use super::super::{Answer, Page, Silence};
use super::{Case, Severity, Verdict, lasted};

/// Clocks further apart than this are named.
const CLOCK_MS: i64 = 1_000;
/// A crash is worth a word for so long after the start.
const CRASH_TOLD_MS: u64 = 3_600_000;

/// A process that is ending itself because it may not go on.
pub fn ending(case: &Case, verdicts: &mut Vec<Verdict>) {
    for page in case.now.pages() {
        let Some(crash) = &page.crash.ending else { continue };
        let title = format!("broker {} is ending itself: {}", page.broker, crash.reason);
        let verdict = Verdict::new(Severity::Critical, "broker_fatal", title).of(page.broker);
        let next = "what it says first; it starts again only if its supervisor starts it. \
                    alerts/README.md#brokerfatal";
        verdicts.push(verdict.seen(crash.why.clone()).next(next));
    }
}

/// Those that do not answer.
pub fn silent(case: &Case, verdicts: &mut Vec<Verdict>) {
    let all = case.now.brokers.iter().filter(|answer| answer.broker.is_some()).count();
    for answer in case.silent() {
        let who = match (answer.broker, &answer.admin) {
            (Some(broker), _) => format!("broker {broker}"),
            (None, Some(admin)) => format!("whoever should be at {admin}"),
            (None, None) => continue,
        };
        let silence = answer.silence.unwrap_or(Silence::Odd);
        let error = answer.error.clone().unwrap_or_default();
        let (kind, title, next) = words(silence, &who, answer);
        // What only cannot be asked may well work.
        let works = answer.broker.is_some_and(|broker| connected_to(case, broker));
        let severity = match silence {
            Silence::Unknown | Silence::Odd if works => Severity::Warning,
            _ => Severity::Critical,
        };
        let mut verdict = Verdict::new(severity, kind, title).next(next);
        verdict.broker = answer.broker;
        if let Some(admin) = &answer.admin {
            verdict = verdict.seen(format!("{admin}: {error}"));
        }
        let peers = answer.broker.into_iter().flat_map(|broker| told_of(case, broker));
        verdict.evidence.extend(peers);
        if answer.broker.is_some() {
            let left = case.now.pages().count();
            let majority = if left * 2 > all { "they are" } else { "they are not" };
            verdict =
                verdict.seen(format!("{left} of {all} brokers answer; {majority} a majority"));
        }
        verdicts.push(verdict);
    }
}

fn words(silence: Silence, who: &str, answer: &Answer) -> (&'static str, String, String) {
    let id = answer.broker.map_or("ID".to_owned(), |broker| broker.to_string());
    match silence {
        Silence::Refused => (
            "broker_down",
            format!("{who} is down: nothing listens there"),
            format!(
                "start it; its last words are in its log and data directory (`glasslog \
                     blackbox DATA_DIR`). If it is gone for good: `glasslog decommission --broker {id}`"
            ),
        ),
        Silence::Unreachable => (
            "broker_unreachable",
            format!("{who} is out of reach"),
            "look at its machine and the network to it".to_owned(),
        ),
        Silence::Mute => (
            "broker_mute",
            format!("{who} takes connections and says nothing: stopped, or it gets no CPU"),
            "on its machine: `ps -o pid,stat,wchan` of the process (T is stopped, D waits for a \
             disk), then its CPU quota"
                .to_owned(),
        ),
        Silence::Odd => (
            "broker_odd",
            format!("{who} answers, but not as a broker of this version does"),
            "see whether this is its admin HTTP, and its version".to_owned(),
        ),
        Silence::Unknown => (
            "broker_unknown",
            format!("{who} cannot be asked: its admin HTTP is not known"),
            "name it with --admin HOST:PORT; admin.listener decides who can reach it".to_owned(),
        ),
    }
}

/// Whether one that answers has a link to it.
fn connected_to(case: &Case, broker: i32) -> bool {
    let mut peers = case.now.pages().flat_map(|page| &page.peers);
    peers.any(|peer| peer.broker == broker && peer.connected)
}

/// What the others know of a broker.
fn told_of(case: &Case, broker: i32) -> Vec<String> {
    let told = case.now.pages().filter_map(|page| {
        let peer = page.peers.iter().find(|peer| peer.broker == broker)?;
        let state = match (peer.connected, peer.dead) {
            (true, _) => "is connected to it".to_owned(),
            (false, true) => "knows that its process is gone".to_owned(),
            (false, false) => format!(
                "has no link to it: {}",
                peer.last_error.as_deref().unwrap_or("no attempt has ended yet")
            ),
        };
        Some(format!("broker {} {state}", page.broker))
    });
    told.collect()
}

/// Brokers that answer and whose own state does not.
pub fn hung(case: &Case, verdicts: &mut Vec<Verdict>) {
    for page in case.now.pages() {
        // A stall that is told explains it.
        let stalled = page.lasting_stalls().next().is_some();
        let Some(error) = page.error.as_ref().filter(|_| !stalled) else { continue };
        let title = format!("broker {}: its own state cannot be read", page.broker);
        let verdict = Verdict::new(Severity::Critical, "state_held", title).of(page.broker);
        let next = format!("`curl {}/debug/loops`: a thread holds a lock", admin_of(case, page));
        verdicts.push(verdict.seen(error.clone()).next(next));
    }
}

/// Links that are missing between two brokers that both answer.
pub fn links(case: &Case, verdicts: &mut Vec<Verdict>) {
    // A broker that stands still answers no handshake either: its stall is told already.
    let moves = |broker| case.now.page_of(broker).is_some_and(|page| case.moves(page));
    for page in case.now.pages().filter(|page| case.moves(page)) {
        for peer in page.peers.iter().filter(|peer| !peer.connected && moves(peer.broker)) {
            let back = case.now.page_of(peer.broker);
            let mut back = back.iter().flat_map(|other| &other.peers);
            let way_back = back.any(|other| other.broker == page.broker && other.connected);
            let title = match way_back {
                true => format!(
                    "broker {} does not reach broker {}, which reaches it: one way is cut",
                    page.broker, peer.broker
                ),
                false => format!(
                    "brokers {} and {} are cut off from each other",
                    page.broker, peer.broker
                ),
            };
            let told = |other: &Verdict| other.title == mirrored(page.broker, peer.broker);
            if !way_back && verdicts.iter().any(told) {
                continue;
            }
            let why = peer.last_error.as_deref().unwrap_or("no attempt has ended yet");
            let verdict = Verdict::new(Severity::Critical, "link_down", title).of(page.broker);
            let verdict = verdict.seen(format!("to {}: {why}", peer.address));
            let next = format!(
                "the network from broker {} to {} (peer.listener): firewall, routes, names",
                page.broker, peer.address
            );
            verdicts.push(verdict.next(next));
        }
    }
}

fn mirrored(one: i32, other: i32) -> String {
    format!("brokers {other} and {one} are cut off from each other")
}

/// Not ready for clients, and not for one of the reasons above.
pub fn unready(case: &Case, verdicts: &mut Vec<Verdict>) {
    for page in case.now.pages() {
        let told = verdicts
            .iter()
            .any(|v| v.broker == Some(page.broker) && v.severity == Severity::Critical);
        if told || page.state.is_empty() || page.state == "ready" || page.error.is_some() {
            continue;
        }
        let title = format!("broker {} is {}", page.broker, page.state);
        let mut verdict = Verdict::new(Severity::Warning, "not_ready", title).of(page.broker);
        verdict.evidence.extend(page.waiting_for.iter().map(|what| format!("waits for {what}")));
        verdicts.push(verdict.next(format!("`curl {}/readyz`", admin_of(case, page))));
    }
}

/// Wall clocks that differ. Against each other: the asker's may be the wrong one.
pub fn clocks(case: &Case, verdicts: &mut Vec<Verdict>) {
    let told =
        case.now.brokers.iter().filter_map(|a| Some((a.broker?, a.clock_ahead_ms?, a.took_ms)));
    let told: Vec<(i32, i64, u64)> = told.collect();
    let mut sorted: Vec<i64> = told.iter().map(|(_, ahead, _)| *ahead).collect();
    sorted.sort_unstable();
    let Some(middle) = sorted.get(sorted.len() / 2).copied() else { return };
    for (broker, ahead, took_ms) in told {
        let off = ahead - middle;
        if off.abs() < CLOCK_MS + took_ms as i64 {
            continue;
        }
        let side = if off > 0 { "ahead of" } else { "behind" };
        let by = lasted(off.unsigned_abs());
        let title = format!("broker {broker}: its wall clock is {by} {side} the others'");
        let verdict = Verdict::new(Severity::Warning, "clock_off", title).of(broker);
        let verdict = verdict
            .seen("timestamps of records and retention follow it; leases and elections do not");
        verdicts.push(verdict.next("its time service (chronyc tracking, timedatectl)"));
    }
}

/// A life that ended badly, not long ago.
pub fn crashed(case: &Case, verdicts: &mut Vec<Verdict>) {
    for page in case.now.pages().filter(|page| page.uptime_ms < CRASH_TOLD_MS) {
        let Some(crash) = &page.crash.last else { continue };
        let ago = lasted(page.uptime_ms);
        let title = format!(
            "broker {} started {ago} ago after its last life ended badly: {}",
            page.broker, crash.reason
        );
        let verdict = Verdict::new(Severity::Info, "crashed_before", title).of(page.broker);
        let next = "its data directory's flight/previous: `glasslog blackbox DATA_DIR`";
        verdicts.push(verdict.seen(crash.why.clone()).next(next));
    }
}

/// Panics that were contained.
pub fn panics(case: &Case, verdicts: &mut Vec<Verdict>) {
    for page in case.now.pages() {
        let rooms = page.series("glasslog_panics_total", "room");
        let rooms: Vec<String> = rooms.map(|(room, count)| format!("{count} in {room}")).collect();
        if rooms.is_empty() {
            continue;
        }
        let title = format!("broker {} contained panics since it started", page.broker);
        let verdict = Verdict::new(Severity::Warning, "panic_contained", title).of(page.broker);
        let next = "its log has each with its place in the code: a bug to report";
        verdicts.push(verdict.seen(rooms.join(", ")).next(next));
    }
}

/// Where a broker that answered was asked.
pub fn admin_of(case: &Case, page: &Page) -> String {
    let answer = case.now.brokers.iter().find(|answer| answer.broker == Some(page.broker));
    answer.and_then(|answer| answer.admin.clone()).unwrap_or_else(|| "ADMIN".to_owned())
}
