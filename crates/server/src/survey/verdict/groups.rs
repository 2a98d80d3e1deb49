//! Groups: broken invariants, no leader, not trusted, starved, behind, elected again and again,
//! filled.

use std::collections::BTreeMap;

use super::super::{Election, Page};
use super::{Case, Severity, Verdict, counted, lasted};

/// Elections count when they ended within this time.
const RECENT_MS: i64 = 60_000;
/// So many elections of one group in that time are not a failover any more.
const CHURN: usize = 3;
/// Names in one line.
const NAMES_SHOWN: usize = 5;
/// Invariants that say nothing about records.
const OF_THE_CODE: [&str; 3] = ["conf_change_inapplicable", "lock_order", "other"];
/// A transfer that moved nothing for so long is named.
const FILLING_MS: u64 = 30_000;

/// What must never happen.
pub fn broken_invariants(case: &Case, verdicts: &mut Vec<Verdict>) {
    for page in case.now.pages() {
        let name = "glasslog_invariant_violations_total";
        for (invariant, count) in page.series(name, "invariant") {
            let title = format!(
                "broker {}: {invariant} was seen ({count} times): what must never happen",
                page.broker
            );
            let (severity, next) = match OF_THE_CODE.contains(&invariant) {
                true => (
                    Severity::Warning,
                    "a bug to report, with its log and flight recorder; no record is at risk. \
                     alerts/README.md#invariantbroken",
                ),
                false => (
                    Severity::Critical,
                    "keep the data directories and flight recorders of all brokers before any \
                     restart. alerts/README.md#brokerdurabilityviolation",
                ),
            };
            let verdict = Verdict::new(severity, "invariant_broken", title);
            verdicts.push(verdict.of(page.broker).next(next));
        }
        let ahead = page.number("glasslog_acked_beyond_durable_groups");
        if ahead > 0.0 {
            let title = format!(
                "broker {}: in {ahead} groups more is acknowledged than is safe",
                page.broker
            );
            let verdict = Verdict::new(Severity::Critical, "acked_beyond_durable", title);
            let next = "acknowledged records are at risk: keep every disk as it is";
            verdicts.push(verdict.of(page.broker).next(next));
        }
    }
}

/// Partitions nobody leads, as most brokers that answer see it.
pub fn leaderless(case: &Case, verdicts: &mut Vec<Verdict>) {
    let told = || case.now.pages().filter(|page| case.moves(page));
    let Some(worst) = told().max_by_key(|page| page.unled.count) else { return };
    // A broker that has just started, or is cut off, knows the least; the best informed counts.
    let Some(best) = told().min_by_key(|page| page.unled.count) else { return };
    let (count, page) = match best.unled.count {
        0 if worst.unled.count == 0 => return,
        0 => {
            let title = format!(
                "broker {} knows no leader of {}, others do",
                worst.broker,
                counted(worst.unled.count as f64, "partition")
            );
            let verdict = Verdict::new(Severity::Warning, "leaders_unknown", title);
            let next = "it has just started, or is cut off: its links";
            verdicts.push(verdict.of(worst.broker).next(next));
            return;
        }
        count => (count, best),
    };
    let partitions = counted(count as f64, "partition");
    let title = format!("{partitions} without a leader: no writes, no reads");
    let mut verdict = Verdict::new(Severity::Critical, "no_leader", title);
    verdict = verdict.seen(format!("among them {}", page.unled.names.join(", ")));
    let down: Vec<String> =
        case.silent().filter_map(|a| a.broker).map(|broker| broker.to_string()).collect();
    if !down.is_empty() {
        verdict = verdict.seen(format!("brokers that do not answer: {}", down.join(", ")));
    }
    for group in case.now.pages().flat_map(|page| &page.elections.under_way).take(NAMES_SHOWN) {
        verdict = verdict.seen(format!(
            "{}: an election is under way for {} ({}), round {}",
            group.name,
            lasted(group.attempt.ms),
            group.attempt.reason,
            group.attempt.rounds
        ));
    }
    let name = page.unled.names.first().cloned().unwrap_or_default();
    verdicts.push(verdict.next(format!("bring brokers back; `glasslog why {name}`")));
}

/// Replicas that do not trust themselves, stand still on purpose, or were given up.
pub fn untrusted(case: &Case, verdicts: &mut Vec<Verdict>) {
    for page in case.now.pages() {
        for group in &page.quarantined {
            let title =
                format!("broker {}: group {} is out of service there", page.broker, group.group);
            let verdict = Verdict::new(Severity::Critical, "quarantined", title).of(page.broker);
            let next = "the other replicas serve; alerts/README.md#replicaintrouble";
            verdicts.push(verdict.seen(group.why.clone()).next(next));
        }
        for group in page.troubled.iter().filter(|group| group.held.is_some()) {
            let why = group.held.clone().unwrap_or_default();
            let title =
                format!("broker {}: {} is held and applies nothing", page.broker, group.name);
            let verdict = Verdict::new(Severity::Critical, "held", title).of(page.broker);
            let next = format!("`glasslog why {}`; alerts/README.md#replicaintrouble", group.name);
            verdicts.push(verdict.seen(why).next(next));
        }
        let suspects = page.troubled.iter().filter(|group| group.suspect);
        let suspects: Vec<&str> = suspects.map(|group| group.name.as_str()).collect();
        if let Some(first) = suspects.first() {
            let title = format!(
                "broker {}: {} replicas do not trust their memory; they neither vote nor lead",
                page.broker,
                suspects.len()
            );
            let verdict = Verdict::new(Severity::Warning, "suspect", title).of(page.broker);
            let next = format!(
                "they are healed from their leaders by themselves; if not: `glasslog why {first}`"
            );
            verdicts.push(verdict.seen(some_of(&suspects)).next(next));
        }
    }
}

fn some_of(names: &[&str]) -> String {
    let shown = names.iter().take(NAMES_SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len() > NAMES_SHOWN {
        true => format!("{shown}, ..."),
        false => shown,
    }
}

/// Followers that answer their leader and do not move.
pub fn starved(case: &Case, verdicts: &mut Vec<Verdict>) {
    for page in case.now.pages() {
        for group in &page.troubled {
            for starved in group.starved.iter().filter(|starved| starved.ms >= 1_000) {
                let title = format!(
                    "{}: its follower on broker {} has not moved for {} though it is behind: {}",
                    group.name,
                    starved.broker,
                    lasted(starved.ms),
                    starved.why
                );
                let verdict = Verdict::new(Severity::Critical, "follower_starved", title);
                let verdict = verdict.of(starved.broker);
                let verdict = verdict.seen(format!("told by its leader, broker {}", page.broker));
                let next =
                    format!("`glasslog why {}`; alerts/README.md#followerstarved", group.name);
                verdicts.push(verdict.next(next));
            }
        }
    }
}

/// Partitions with fewer replicas in sync than they should have, and how many brokers explain it.
pub fn behind(case: &Case, verdicts: &mut Vec<Verdict>) {
    let sum = |name: &str| case.now.pages().map(|page| page.number(name)).sum::<f64>();
    let under_min = sum("glasslog_under_min_isr_partitions");
    let under = sum("glasslog_under_replicated_partitions");
    let explained = case.silent().next().is_some();
    let names = || {
        let all = case.now.pages().flat_map(|page| &page.troubled);
        let behind = all.filter(|group| group.serving && group.isr < group.replicas);
        some_of(&behind.map(|group| group.name.as_str()).collect::<Vec<_>>())
    };
    if under_min > 0.0 {
        let title = format!(
            "acks=all is refused in {}: fewer replicas in sync than min.insync.replicas",
            counted(under_min, "partition")
        );
        let verdict = Verdict::new(Severity::Critical, "under_min_isr", title).seen(names());
        verdicts.push(verdict.next("bring the missing brokers back; alerts/README.md#underminisr"));
    } else if under > 0.0 {
        let severity = if explained { Severity::Info } else { Severity::Warning };
        let title = format!("a replica is not in sync in {}", counted(under, "partition"));
        let verdict = Verdict::new(severity, "under_replicated", title).seen(names());
        let next = match explained {
            true => "the brokers that do not answer are the reason",
            false => "a follower catches up, or is starved; alerts/README.md#underreplicated",
        };
        verdicts.push(verdict.next(next));
    }
}

/// Groups whose leader changes again and again.
pub fn elections(case: &Case, verdicts: &mut Vec<Verdict>) {
    let mut recent: BTreeMap<&str, Vec<(&Page, &Election)>> = BTreeMap::new();
    for page in case.now.pages() {
        let fresh = page.elections.elections.iter();
        let fresh = fresh.filter(|e| {
            e.outcome.as_deref() == Some("won") && case.now.at_ms - e.at_ms < RECENT_MS
        });
        for election in fresh {
            recent.entry(&election.name).or_default().push((page, election));
        }
    }
    recent.retain(|_, elections| elections.len() >= CHURN);
    let Some((name, worst)) = recent.iter().max_by_key(|(_, elections)| elections.len()) else {
        return;
    };
    let title = format!(
        "{} groups elect again and again: {name} {} times within a minute",
        recent.len(),
        worst.len()
    );
    let mut verdict = Verdict::new(Severity::Warning, "election_churn", title);
    let newest = worst.iter().rev().take(NAMES_SHOWN);
    verdict.evidence.extend(newest.map(|(page, e)| format!("broker {}: {}", page.broker, e.says)));
    let next = "the reasons above; timed out: links or stalls of the old leader. \
                alerts/README.md#electionchurn";
    verdicts.push(verdict.next(next));
}

/// Snapshots that do not arrive.
pub fn transfers(case: &Case, verdicts: &mut Vec<Verdict>) {
    for page in case.now.pages() {
        let stuck = |t: &&super::super::page::Transfer| t.failures > 0 || t.since_ms > FILLING_MS;
        for transfer in page.transfers.iter().filter(stuck) {
            let title = format!(
                "broker {}: {} is filled from broker {} since {}: {} of {} bytes, {} failures",
                page.broker,
                transfer.name,
                transfer.from_broker,
                lasted(transfer.since_ms),
                transfer.bytes,
                transfer.total,
                transfer.failures
            );
            let verdict = Verdict::new(Severity::Warning, "filling", title).of(page.broker);
            let error = transfer.last_error.clone();
            let verdict =
                verdict.seen(error.unwrap_or_else(|| format!("stage {}", transfer.stage)));
            let next = "replica.fill.bytes.per.second bounds it; failures name the reason";
            verdicts.push(verdict.next(next));
        }
    }
}
