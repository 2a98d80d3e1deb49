//! The steps of one partition's explanation, causes first.

use serde::Serialize;

use super::super::verdict::lasted;
use super::super::{Group, Page, Survey};
use super::{Replica, Scene};

/// One step on a record's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Nothing stands in the way here.
    pub ok: bool,
    pub broker: Option<i32>,
    /// A clause that can follow "because".
    pub text: String,
}

/// What a step is about, while it is built.
#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn well(&mut self, broker: Option<i32>, text: String) {
        self.0.push(Step { ok: true, broker, text });
    }

    fn stuck(&mut self, broker: Option<i32>, text: String) {
        self.0.push(Step { ok: false, broker, text });
    }
}

pub fn steps(scene: &Scene, survey: &Survey) -> Vec<Step> {
    let mut steps = Steps::default();
    placed(scene, &mut steps);
    let still = |leader: &&Replica| stall_of(leader.broker, survey).is_some();
    match scene.leader() {
        // What such a broker says of its groups is from before it stood still.
        Some(leader) if still(&leader) => {
            let text = format!(
                "broker {} led it in term {} when it last said so",
                leader.broker, leader.group.term
            );
            steps.well(Some(leader.broker), text);
            leaderless(scene, survey, &mut steps);
        }
        None => leaderless(scene, survey, &mut steps),
        Some(leader) => {
            leads(scene, leader, survey, &mut steps);
            followers(scene, leader, survey, &mut steps);
            outcome(scene, leader, &mut steps);
        }
    }
    steps.0
}

/// Whether anything was appended between the two looks.
pub fn pace(scene: &Scene) -> String {
    let Some(leader) = scene.leader() else { return "nobody leads it".to_owned() };
    let group = &leader.group;
    let new = scene.earlier.map(|earlier| group.last_index.saturating_sub(earlier));
    let at = format!("readers are at offset {}", group.high_watermark);
    match new {
        Some(0) if group.pending + group.queued == 0 => {
            format!("nobody writes to it just now; {at}")
        }
        Some(new) if new > 0 => format!("{new} entries came between two looks; {at}"),
        _ => at,
    }
}

fn majority(scene: &Scene) -> usize {
    scene.placed.len() / 2 + 1
}

fn placed(scene: &Scene, steps: &mut Steps) {
    let brokers: Vec<String> = scene.placed.iter().map(|(_, broker)| broker.to_string()).collect();
    let text = format!(
        "it is raft group {}, with replicas on brokers {}; {} of them are a majority",
        scene.group,
        brokers.join(", "),
        majority(scene)
    );
    steps.well(None, text);
}

/// Why a broker with a replica is of no use now.
fn absent(broker: i32, survey: &Survey) -> Option<String> {
    let answer = survey.brokers.iter().find(|answer| answer.broker == Some(broker));
    match answer {
        Some(answer) if answer.answered => None,
        Some(answer) => {
            let why = answer.error.as_deref().unwrap_or("no answer");
            Some(format!("broker {broker} does not answer ({why})"))
        }
        None => Some(format!("nobody knows of broker {broker}")),
    }
}

/// A loop of a broker that stands still and through which every one of its groups goes.
fn stall_of(broker: i32, survey: &Survey) -> Option<String> {
    let page = survey.page_of(broker)?;
    let on_the_way = |name: &str| name.starts_with("shard") || name.starts_with("journal");
    let stall = page.lasting_stalls().find(|stall| on_the_way(&stall.stalled.name))?;
    Some(format!("broker {broker} stands still: {}", stall.says))
}

/// Nobody leads: who could vote, and what became of it.
fn leaderless(scene: &Scene, survey: &Survey, steps: &mut Steps) {
    let mut voters = 0;
    let mut missing = Vec::new();
    for (replica, broker) in &scene.placed {
        let known = scene.replicas.iter().find(|known| known.group.replica == *replica);
        let reason = absent(*broker, survey).or_else(|| stall_of(*broker, survey));
        let reason = reason.or_else(|| match known {
            None => Some(format!("broker {broker} has no replica of it yet, or gave it up")),
            Some(known) if known.group.suspect => {
                Some(format!("broker {broker} does not trust its memory of it and does not vote"))
            }
            Some(_) => None,
        });
        match reason {
            Some(reason) => missing.push((*broker, reason)),
            None => voters += 1,
        }
    }
    let all: Vec<String> = missing.iter().map(|(_, why)| why.clone()).collect();
    if voters < majority(scene) {
        let text = format!(
            "nobody can be elected, {voters} of {} replicas can vote: {}",
            scene.placed.len(),
            all.join("; ")
        );
        steps.stuck(None, text);
    } else {
        steps.stuck(None, "it has no leader at this moment".to_owned());
        for (broker, why) in missing {
            steps.stuck(Some(broker), why);
        }
    }
    for replica in &scene.replicas {
        let Some(attempt) = &replica.group.attempt else { continue };
        let ballots = attempt.ballots.iter().map(|(voter, answer)| {
            let broker = scene.broker_of(*voter);
            format!(
                "{}: {answer}",
                broker.map_or("?".to_owned(), |broker| format!("broker {broker}"))
            )
        });
        let text = format!(
            "broker {} stands for election since {} ({}), round {}; {}",
            replica.broker,
            lasted(attempt.ms),
            attempt.reason,
            attempt.rounds,
            ballots.collect::<Vec<_>>().join(", ")
        );
        steps.stuck(Some(replica.broker), text);
    }
}

/// The leader: does it serve, work, take records, get them onto its disk?
fn leads(scene: &Scene, leader: &Replica, survey: &Survey, steps: &mut Steps) {
    let (broker, group) = (leader.broker, &leader.group);
    let at = Some(broker);
    let rivals = scene.replicas.iter().filter(|r| r.group.role == "leader" && r.broker != broker);
    for rival in rivals {
        let text = format!(
            "broker {} believes to lead it too, in the older term {}: it has not heard",
            rival.broker, rival.group.term
        );
        steps.well(Some(rival.broker), text);
    }
    if let Some(why) = &group.held {
        steps
            .stuck(at, format!("the state machine of its leader, broker {broker}, is held: {why}"));
    }
    match (group.serving, group.lease_remaining_ms) {
        (true, _) => {
            steps
                .well(at, format!("broker {broker} leads it in term {} and serves it", group.term));
        }
        (false, lease) => {
            let why = match lease {
                None | Some(0) => "it has no lease: a majority does not answer it in time",
                Some(_) => "it has not applied what earlier leaders left, or steps aside",
            };
            let text = format!(
                "broker {broker} leads it in term {} and does not serve: {why}",
                group.term
            );
            steps.stuck(at, text);
        }
    }
    if let Some(page) = survey.page_of(broker) {
        refusals(page, steps);
        own_disk(page, group, steps);
    }
}

/// Why a leader takes no new records.
fn refusals(page: &Page, steps: &mut Steps) {
    let at = Some(page.broker);
    if page.number("glasslog_disk_full") > 0.0 {
        steps.stuck(at, format!("the disk of its leader, broker {}, is full", page.broker));
    }
    if let Some(why) = &page.journal_full {
        steps.stuck(
            at,
            format!("the journal of its leader, broker {}, is full: {why}", page.broker),
        );
    }
}

fn own_disk(page: &Page, group: &Group, steps: &mut Steps) {
    let (broker, lacks) = (page.broker, group.last_index.saturating_sub(group.durable));
    if lacks == 0 {
        let text = format!("all {} entries are on broker {broker}'s disk", group.last_index);
        return steps.well(Some(broker), text);
    }
    let io = page.loops.iter().filter(|l| l.name == "journal").find_map(|l| l.io.as_ref());
    match io {
        Some(io) if io.age_ms >= 500 => {
            let text = format!(
                "the last {lacks} entries are not on broker {broker}'s disk: its journal's {} is \
                 there for {}",
                io.op,
                lasted(io.age_ms)
            );
            steps.stuck(Some(broker), text);
        }
        _ => {
            let text = format!("{lacks} entries are on their way to broker {broker}'s disk");
            steps.well(Some(broker), text);
        }
    }
}

/// Each follower: what it has, and if it lacks something, why.
fn followers(scene: &Scene, leader: &Replica, survey: &Survey, steps: &mut Steps) {
    let last = leader.group.last_index;
    let mut good = 1;
    let mut reasons = Vec::new();
    let others = scene.placed.iter().filter(|(_, broker)| *broker != leader.broker);
    for (replica, broker) in others {
        let known = scene.replicas.iter().find(|known| known.group.replica == *replica);
        let reason = absent(*broker, survey)
            .or_else(|| stall_of(*broker, survey))
            .or_else(|| cut_off(leader.broker, *broker, survey))
            .or_else(|| ailing(known, &leader.group, *broker));
        match (reason, known) {
            (Some(reason), _) => reasons.push((*broker, reason)),
            (None, known) => {
                good += 1;
                let has = known.map_or(0, |known| known.group.durable);
                let lacks = last.saturating_sub(has);
                let text = match lacks {
                    0 => format!("broker {broker} has all of it on its disk"),
                    lacks => {
                        format!("broker {broker} follows, {lacks} entries behind at this moment")
                    }
                };
                steps.well(Some(*broker), text);
            }
        }
    }
    let enough = good >= majority(scene);
    if !enough {
        let all: Vec<String> = reasons.iter().map(|(_, why)| why.clone()).collect();
        let text = format!("nothing new can be committed without a majority: {}", all.join("; "));
        return steps.stuck(None, text);
    }
    for (broker, why) in reasons {
        steps.well(Some(broker), format!("{why}; the others are a majority without it"));
    }
}

fn cut_off(leader: i32, follower: i32, survey: &Survey) -> Option<String> {
    let page = survey.page_of(leader)?;
    let peer = page.peers.iter().find(|peer| peer.broker == follower)?;
    let why = peer.last_error.as_deref().unwrap_or("no attempt has ended yet");
    (!peer.connected)
        .then(|| format!("its leader, broker {leader}, does not reach broker {follower} ({why})"))
}

/// A follower that is there and does not follow.
fn ailing(known: Option<&Replica>, leader: &Group, broker: i32) -> Option<String> {
    if let Some(starved) = leader.starved.iter().find(|starved| starved.broker == broker) {
        return Some(format!(
            "broker {broker} answers and has not moved for {} ({})",
            lasted(starved.ms),
            starved.why
        ));
    }
    let Some(known) = known else {
        return Some(format!("broker {broker} has no replica of it yet, or gave it up"));
    };
    if known.group.suspect {
        return Some(format!(
            "broker {broker} does not trust its memory of it and is being healed"
        ));
    }
    let held = known.group.held.as_ref();
    // Its log goes on: it counts for the majority, and may not lead.
    held.filter(|_| known.group.durable < leader.commit)
        .map(|why| format!("broker {broker} is held ({why})"))
}

/// What became of it: committed, applied, readable, acknowledged.
fn outcome(scene: &Scene, leader: &Replica, steps: &mut Steps) {
    let (group, at) = (&leader.group, Some(leader.broker));
    if let Some(safe) = group.quorum_durable {
        let text = format!(
            "{safe} of {} entries are on a majority's disks, {} are committed, {} applied",
            group.last_index, group.commit, group.applied
        );
        steps.well(at, text);
    }
    if group.isr < group.min_insync_replicas && group.serving {
        let text = format!(
            "only {} of {} replicas are in sync and min.insync.replicas is {}: acks=all is refused",
            group.isr, group.replicas, group.min_insync_replicas
        );
        steps.stuck(at, text);
    }
    let waiting = group.pending + group.queued;
    let stands = scene.earlier.is_some_and(|earlier| earlier >= group.last_index);
    if waiting > 0 && stands && group.commit < group.last_index {
        let text = format!("{waiting} produce requests wait for what is not committed");
        steps.stuck(at, text);
    }
}
