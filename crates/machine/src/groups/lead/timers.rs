//! What happens because time passes: sessions end, rebalances go on without those who are
//! missing, offsets nobody needs are forgotten.

use std::collections::BTreeSet;

use model::{Now, limits};

use super::group::GroupState;
use super::tombstones::Tombstones;
use super::{Done, Effects, GroupsLead, MS, Observed, RebalanceReason};
use crate::groups::record::Record;
use crate::groups::state::Groups;
use crate::metadata::Image;

impl<R> GroupsLead<R> {
    /// Called at every tick; looks at groups that changed or whose deadline has come.
    pub fn tick(&mut self, now: Now, groups: &Groups, image: &Image, out: &mut Effects<R>) {
        for group_id in self.alarms.due(now.boot_ns) {
            self.expire_members(now, &group_id, out);
            self.expire_rebalance(now, &group_id, out);
            self.forget_if_idle(&group_id);
            if let Some(live) = self.live.get(&group_id) {
                self.alarms.set(group_id, live.next_deadline_ns());
            }
        }
        if image.version() != self.image_version {
            self.image_version = image.version();
            self.wake_ns = self.wake_ns.min(self.sweep_at_ns);
        }
        if now.boot_ns < self.wake_ns {
            return;
        }
        if now.boot_ns >= self.expire_at_ns {
            self.expire_at_ns = now.boot_ns + limits::OFFSETS_EXPIRE_EVERY_MS * MS;
            self.expire_offsets(now, groups, out);
        }
        self.sweep(now, groups, image, out);
        self.wake_ns = self.expire_at_ns;
        if self.swept != *image.deleted_groups() {
            self.wake_ns = self.wake_ns.min(self.sweep_at_ns);
        }
    }

    fn expire_members(&mut self, now: Now, group_id: &str, out: &mut Effects<R>) {
        let Some(live) = self.live.get_mut(group_id) else { return };
        let before = live.expected.len();
        live.expected.retain(|_, ends_ns| now.boot_ns < *ends_ns);
        let left = live.expected.len() < before;
        // Whoever is parked waits for us, not we for them.
        let silent = live.members.iter().filter(|(_, member)| {
            member.join.is_none() && member.sync.is_none() && now.boot_ns >= member.session_ends_ns
        });
        let silent: Vec<String> = silent.map(|(id, _)| id.clone()).collect();
        for member_id in silent {
            out.observed.push(Observed::SessionExpired);
            self.remove(now, group_id, &member_id, RebalanceReason::SessionExpired, out);
        }
        if left {
            self.complete_join_if_all(now, group_id, out);
        }
    }

    fn expire_rebalance(&mut self, now: Now, group_id: &str, out: &mut Effects<R>) {
        let Some(live) = self.live.get_mut(group_id) else { return };
        match live.state {
            GroupState::PreparingRebalance if now.boot_ns >= live.join_ends_ns => {
                live.expected.clear();
                self.complete_join(now, group_id, out);
            }
            GroupState::CompletingRebalance if now.boot_ns >= live.sync_ends_ns => {
                let late = live.members.iter().filter(|(_, member)| member.sync.is_none());
                let late: Vec<String> = late.map(|(id, _)| id.clone()).collect();
                if live.storing || late.is_empty() {
                    // The log is slow, not the members.
                    live.sync_ends_ns = now.boot_ns + live.rebalance_ms() * MS;
                    return;
                }
                for member_id in late {
                    self.remove(now, group_id, &member_id, RebalanceReason::NotSynced, out);
                }
            }
            _ => {}
        }
    }

    /// `offsets.retention.minutes` after its last member left (or, of a group that never had
    /// members, after its commit) an offset is forgotten; the group goes with its last one.
    fn expire_offsets(&mut self, now: Now, groups: &Groups, out: &mut Effects<R>) {
        let oldest_ms = now.wall_ms.saturating_sub(self.config.retention_ms);
        // What is on its way into the log is newer than what is applied.
        let moving: BTreeSet<&str> = self.pending.values().map(|p| p.group.as_str()).collect();
        let idle = |id: &&str| !self.live.contains_key(*id) && !moving.contains(*id);
        let idle: Vec<&str> = groups.ids().filter(idle).collect();
        let mut gone = Tombstones::new();
        for id in idle {
            let emptied_ms = groups.group(id).map_or(i64::MIN, |group| group.state_ms);
            let mut kept = 0;
            for (topic, partition, offset) in groups.offsets(id) {
                if offset.commit_ms.max(emptied_ms) < oldest_ms {
                    gone.push(Record::offset(id, topic, partition, None));
                } else {
                    kept += 1;
                }
            }
            if kept == 0 && emptied_ms < oldest_ms && groups.group(id).is_some() {
                gone.push(Record::group(id, None));
            }
            if gone.is_full() || gone.len() >= limits::OFFSETS_EXPIRED_AT_ONCE {
                break;
            }
        }
        self.bury_unasked(gone, out);
    }

    /// Offsets of topics that were deleted go, as in Kafka. Nobody is told of them meanwhile, so
    /// there is no hurry. They are looked through until nothing is found: what was proposed may
    /// have been dropped.
    fn sweep(&mut self, now: Now, groups: &Groups, image: &Image, out: &mut Effects<R>) {
        if now.boot_ns < self.sweep_at_ns || self.swept == *image.deleted_groups() {
            return;
        }
        self.sweep_at_ns = now.boot_ns + limits::OFFSETS_SWEEP_EVERY_MS * MS;
        let moving: BTreeSet<&str> = self.pending.values().map(|p| p.group.as_str()).collect();
        let orphans = groups.ids().flat_map(|id| {
            let offsets = groups.offsets(id).filter(|(.., offset)| offset.is_orphan(image));
            offsets.map(move |(topic, partition, _)| (id, topic, partition))
        });
        let mut orphans = orphans.peekable();
        if orphans.peek().is_none() {
            self.swept = image.deleted_groups().clone();
            return;
        }
        // A commit on its way may be of the topic's namesake; a tombstone behind it would take it.
        let orphans = orphans.filter(|(id, ..)| !moving.contains(id));
        let mut gone = Tombstones::new();
        for (id, topic, partition) in orphans.take(limits::OFFSETS_EXPIRED_AT_ONCE) {
            gone.push(Record::offset(id, topic, partition, None));
        }
        self.bury_unasked(gone, out);
    }

    fn bury_unasked(&mut self, gone: Tombstones, out: &mut Effects<R>) {
        if !gone.is_empty() {
            out.observed.push(Observed::OffsetsExpired { offsets: gone.len() });
            self.bury("", gone, Done::Nothing, out);
        }
    }

    /// Nobody's deadline is missed, and what is gone is not remembered past the next tick.
    #[cfg(test)]
    pub fn check_alarms(&self) {
        for (id, live) in &self.live {
            assert!(self.alarms.covers(id, live.next_deadline_ns()), "{id} would be late");
        }
        assert!(self.alarms.groups() <= self.live.len() + self.alarms.marked());
    }
}
