//! What the groups of all shards add up to: gauges of one broker.
//!
//! Invariant: a gauge is the sum (or the extreme) over every shard's newest look at its groups,
//! never one shard's alone.

use std::collections::BTreeMap;

use model::BrokerId;
use telemetry::labels::{LockClass, RaftRole};
use telemetry::{Label, Lock, Peer, metrics};

use crate::shard::MemberStatus;

/// One shard's share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardGauges {
    roles: Vec<i64>,
    serving: i64,
    suspect: i64,
    held: i64,
    quarantined: i64,
    leaderless: i64,
    under_replicated: i64,
    under_min_isr: i64,
    acked_beyond_durable: i64,
    term_max: i64,
    backlog_max: i64,
    peer_lag_max: i64,
    /// Milliseconds, the longest of each broker's.
    starved_ms: BTreeMap<i32, u64>,
    /// Milliseconds; `None`: no lease here.
    lease_ms_min: Option<u64>,
}

impl ShardGauges {
    pub fn of<'a>(
        all: impl Iterator<Item = &'a MemberStatus> + Clone,
        quarantined: usize,
    ) -> ShardGauges {
        let count = |f: fn(&MemberStatus) -> bool| all.clone().filter(|s| f(s)).count() as i64;
        let most = |f: fn(&MemberStatus) -> u64| all.clone().map(f).max().unwrap_or(0) as i64;
        let role = |role: &RaftRole| {
            all.clone().filter(|status| status.role == role.as_str()).count() as i64
        };
        ShardGauges {
            roles: RaftRole::ALL.iter().map(role).collect(),
            serving: count(|s| s.serving),
            suspect: count(|s| s.suspect),
            held: count(|s| s.held.is_some()),
            quarantined: quarantined as i64,
            leaderless: count(|s| s.leader.is_none()),
            under_replicated: count(|s| s.partition && s.serving && s.isr < s.replicas),
            under_min_isr: count(|s| s.partition && s.serving && s.isr < s.min_insync_replicas),
            acked_beyond_durable: count(|s| s.acked > s.durable.max(s.commit)),
            term_max: most(|s| s.term),
            backlog_max: most(|s| s.commit.saturating_sub(s.applied)),
            peer_lag_max: most(|s| s.peer_lag),
            starved_ms: starved(all.clone()),
            lease_ms_min: all.clone().filter_map(|s| s.lease_remaining_ms).min(),
        }
    }

    fn add(&mut self, other: &ShardGauges) {
        self.roles.resize(other.roles.len().max(self.roles.len()), 0);
        self.roles.iter_mut().zip(&other.roles).for_each(|(own, other)| *own += other);
        self.serving += other.serving;
        self.suspect += other.suspect;
        self.held += other.held;
        self.quarantined += other.quarantined;
        self.leaderless += other.leaderless;
        self.under_replicated += other.under_replicated;
        self.under_min_isr += other.under_min_isr;
        self.acked_beyond_durable += other.acked_beyond_durable;
        self.term_max = self.term_max.max(other.term_max);
        self.backlog_max = self.backlog_max.max(other.backlog_max);
        self.peer_lag_max = self.peer_lag_max.max(other.peer_lag_max);
        for (broker, ms) in &other.starved_ms {
            let longest = self.starved_ms.entry(*broker).or_default();
            *longest = (*ms).max(*longest);
        }
        let leases = self.lease_ms_min.into_iter().chain(other.lease_ms_min);
        self.lease_ms_min = leases.min();
    }

    fn publish(&self) {
        for (role, groups) in RaftRole::ALL.iter().zip(&self.roles) {
            metrics().raft_groups.at(*role).set(*groups);
        }
        metrics().groups_serving.set(self.serving);
        metrics().groups_suspect.set(self.suspect);
        metrics().groups_held.set(self.held);
        metrics().groups_quarantined.set(self.quarantined);
        metrics().leaderless_groups.set(self.leaderless);
        metrics().under_replicated_partitions.set(self.under_replicated);
        metrics().under_min_isr_partitions.set(self.under_min_isr);
        metrics().acked_beyond_durable_groups.set(self.acked_beyond_durable);
        metrics().raft_term_max.set(self.term_max);
        metrics().apply_backlog_entries_max.set(self.backlog_max);
        metrics().raft_peer_lag_entries_max.set(self.peer_lag_max);
        publish_starved(&self.starved_ms);
        let lease_ms = self.lease_ms_min.unwrap_or(0);
        // The lease of a group's only replica never ends.
        let lease_ns = i64::try_from(lease_ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        metrics().lease_remaining_seconds_min.set(lease_ns);
    }
}

fn publish_starved(longest: &BTreeMap<i32, u64>) {
    let all = &metrics().raft_peer_starved_seconds;
    Peer::ALL.iter().for_each(|peer| all.at(*peer).set(0));
    for (broker, ms) in longest.iter().filter(|(broker, _)| **broker >= 0) {
        all.at(Peer::of(BrokerId(*broker))).set((ms * 1_000_000) as i64);
    }
}

/// The longest any follower of each broker has starved, milliseconds.
fn starved<'a>(all: impl Iterator<Item = &'a MemberStatus>) -> BTreeMap<i32, u64> {
    let mut longest: BTreeMap<i32, u64> = BTreeMap::new();
    for starved in all.flat_map(|status| &status.starved) {
        let ms = longest.entry(starved.broker).or_default();
        *ms = starved.ms.max(*ms);
    }
    longest
}

/// The shares of all shards of a broker.
pub struct Gauges(Lock<BTreeMap<usize, ShardGauges>>);

impl Default for Gauges {
    fn default() -> Self {
        Gauges(Lock::new(LockClass::Debug, BTreeMap::new()))
    }
}

impl Gauges {
    /// Replicas here that do not trust their own memory.
    pub fn suspects(&self) -> i64 {
        self.0.lock().values().map(|share| share.suspect).sum()
    }

    /// Takes one shard's newest share and publishes the whole.
    pub fn set(&self, shard: usize, share: ShardGauges) {
        let mut shares = self.0.lock();
        shares.insert(shard, share);
        total(&shares).publish();
    }
}

fn total(shares: &BTreeMap<usize, ShardGauges>) -> ShardGauges {
    let mut total = ShardGauges::default();
    shares.values().for_each(|share| total.add(share));
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(serving: bool, isr: usize) -> MemberStatus {
        MemberStatus {
            role: if serving { "leader" } else { "follower" },
            serving,
            partition: true,
            isr,
            replicas: 3,
            min_insync_replicas: 2,
            leader: Some(1),
            ..MemberStatus::default()
        }
    }

    #[test]
    fn shards_add_up_and_only_what_is_led_here_is_under_replicated() {
        let first = [status(true, 3), status(true, 2), status(false, 0)];
        let mut second = [status(true, 1), status(false, 0)];
        second[0].lease_remaining_ms = Some(40);
        second[1].leader = None;
        (second[1].acked, second[1].durable, second[1].commit) = (9, 8, 7);
        let shares =
            [(0, ShardGauges::of(first.iter(), 1)), (1, ShardGauges::of(second.iter(), 0))];
        let total = total(&shares.into_iter().collect());
        assert_eq!((total.serving, total.leaderless, total.quarantined), (3, 1, 1));
        assert_eq!((total.under_replicated, total.under_min_isr), (2, 1));
        assert_eq!(total.acked_beyond_durable, 1);
        assert_eq!(total.lease_ms_min, Some(40));
    }
}
