//! A replica of a partition that cannot be trusted or used any more is replaced, on the same disk,
//! by one with a new id: this broker asks for it, carries it out like any change of placement
//! ([`crate::tasks`]), and says when it is done.
//!
//! Healed are a *suspect* replica, which forgot what it had acknowledged or voted, and one that
//! this start could not put together: the next start would find the same. Not healed are: a held
//! machine, since a new replica would meet the same entry; a group quarantined after panics in
//! this life, since its log may be sound and a restart reads it back; the metadata group.
//!
//! Invariants: nothing is asked of metadata before the group's leader said that a majority is
//! sound without this replica, so with a majority suspect nothing is thrown away; only so many
//! replicas of a broker are replaced at a time; every ask may be repeated, and asks grow rarer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use machine::metadata::{Image, Partition, Placing, Request};
use model::{DirectoryId, GroupId, ReplicaId, limits};
use telemetry::labels::LogEvent;
use telemetry::{log_limited, metrics};
use tokio::time::Instant;

use crate::node::Node;
use crate::shard::AdminAsk;

const LOOK: Duration = Duration::from_secs(1);
/// Asked again after this time, then after twice as long, up to the bound.
const AGAIN: Duration = Duration::from_secs(2);
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// One question to the group's leader, and one to the metadata's.
const ASK_MAX: Duration = Duration::from_secs(2);

/// A replica on its way to be replaced.
struct Case {
    replica: ReplicaId,
    name: String,
    since: Instant,
    ask_at: Instant,
    wait: Duration,
    /// Why it is not replaced yet, as told last.
    told: String,
}

impl Case {
    fn new(replica: ReplicaId, name: String) -> Case {
        let now = Instant::now();
        Case { replica, name, since: now, ask_at: now, wait: AGAIN, told: String::new() }
    }
}

pub(crate) async fn heal(node: Arc<Node>) {
    let mut cases: BTreeMap<GroupId, Case> = BTreeMap::new();
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // Before that the image may be of another life.
        if node.registered.get().is_none() {
            continue;
        }
        let image = node.image();
        let ailing = ailing(&node, &image);
        for (group, (replica, why)) in &ailing {
            if cases.get(group).is_none_or(|case| case.replica != *replica) {
                let name = name_of(&image, *group);
                log_limited!(
                    error,
                    LogEvent::GroupSuspect,
                    group = group.0,
                    name,
                    replica = replica.0,
                    why,
                    "replica cannot be trusted or used: asks for a new one"
                );
                cases.insert(*group, Case::new(*replica, name));
            }
        }
        let under_way = under_way(&node, &image);
        for (group, replica) in &under_way {
            // Begun by an earlier life.
            let new = || Case::new(*replica, name_of(&image, *group));
            cases.entry(*group).or_insert_with(new);
        }
        let now = Instant::now();
        let asks = |group: &GroupId, case: &Case| {
            let ails = ailing.get(group).is_some_and(|(replica, _)| *replica == case.replica);
            ails && case.ask_at <= now
        };
        let due = cases.iter_mut().filter(|(group, case)| asks(group, case));
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|(_, case)| case.ask_at);
        due.truncate(limits::RENEWALS_MAX.saturating_sub(under_way.len()));
        for (group, case) in due {
            ask(&node, *group, case).await;
        }
        let image = node.image();
        cases.retain(|group, case| !is_over(&node, &image, *group, case));
    }
}

/// Replicas that are placed on this disk and cannot be trusted or used, and why.
fn ailing(node: &Node, image: &Image) -> BTreeMap<GroupId, (ReplicaId, String)> {
    let unopened = node.plumbing.unopened();
    if unopened.is_empty() && node.plumbing.gauges.suspects() == 0 {
        return BTreeMap::new();
    }
    let directory = node.identity.directory();
    let mut all = BTreeMap::new();
    for (_, partition) in image.partitions() {
        let group = partition.group;
        let own = partition.replicas.iter().find(|r| r.directory == directory);
        let Some(own) = own.map(|own| own.replica) else { continue };
        if let Some(found) = unopened.get(&group) {
            if found.replica == Some(own) {
                all.insert(group, (own, found.why.clone()));
            }
        } else if let Some(view) = node.plumbing.view(group) {
            let status = view.status();
            if status.suspect && status.held.is_none() && status.replica == own.0 {
                all.insert(group, (own, "it is suspect".to_owned()));
            }
        }
    }
    all
}

/// The old replica, of this broker, of each group in which a new one takes its place.
fn under_way(node: &Node, image: &Image) -> Vec<(GroupId, ReplicaId)> {
    let own = node.cfg.broker;
    let renewed = image.partitions().filter_map(|(_, partition)| {
        let lost = |r: &&machine::metadata::Replica| r.directory == DirectoryId::LOST;
        let old = partition.removing.iter().filter(lost).find(|r| r.broker == own)?;
        Some((partition.group, old.replica))
    });
    renewed.collect()
}

fn name_of(image: &Image, group: GroupId) -> String {
    let found = image.partition_of(group);
    found.map_or_else(String::new, |(topic, partition)| {
        format!("{}-{}", topic.name, partition.index)
    })
}

/// First the group's leader, then metadata. What comes of it is seen in the image.
async fn ask(node: &Node, group: GroupId, case: &mut Case) {
    let replica = case.replica;
    let outcome = match node.leader(group) {
        None => Err("nobody leads it; if a majority is lost for good: glasslog recover".to_owned()),
        Some(leader) if leader.broker == node.cfg.broker => Err("this broker leads it".to_owned()),
        Some(_) => {
            let ask = AdminAsk::Replace { replica: replica.0 };
            node.admin(group, ask, ASK_MAX).await.map_err(|refusal| refusal.why)
        }
    };
    let outcome = match outcome {
        Err(why) => Err(why),
        Ok(_) => {
            let renew = Request::Place(Placing::Renew { group, replica });
            match node.metadata(renew, ASK_MAX).await {
                Ok(answer) => match answer.rejection() {
                    None => Ok(()),
                    Some((_, why)) => Err(why.to_owned()),
                },
                Err(refusal) => Err(refusal.why),
            }
        }
    };
    case.ask_at = Instant::now() + case.wait;
    case.wait = (case.wait * 2).min(AGAIN_MAX);
    if let Err(why) = outcome
        && why != case.told
    {
        let name = &case.name;
        log_limited!(
            warn, LogEvent::GroupSuspect, group = group.0, name, replica = replica.0, %why,
            "replica is not replaced yet"
        );
        case.told = why;
    }
}

/// The old replica has left its group, and the new one, if there is one, votes.
fn is_over(node: &Node, image: &Image, group: GroupId, case: &Case) -> bool {
    let Some((_, partition)) = image.partition_of(group) else { return true };
    let old = |r: &machine::metadata::Replica| r.replica == case.replica;
    if partition.replicas.iter().chain(&partition.removing).any(old) {
        return false;
    }
    let Some(own) = own_of(node, partition) else { return true };
    let status = node.plumbing.view(group).map(|view| view.status()).unwrap_or_default();
    let votes = status.replica == own.0 && status.voters.contains(&own.0);
    if votes && !status.suspect {
        metrics().groups_healed_total.inc();
        let (name, seconds) = (&case.name, case.since.elapsed().as_secs());
        log_limited!(
            info,
            LogEvent::GroupHealed,
            group = group.0,
            name,
            replica = own.0,
            instead_of = case.replica.0,
            seconds,
            "healed: a new replica took its place"
        );
    }
    votes
}

fn own_of(node: &Node, partition: &Partition) -> Option<ReplicaId> {
    let directory = node.identity.directory();
    let own = partition.replicas.iter().find(|r| r.directory == directory);
    own.map(|own| own.replica)
}
