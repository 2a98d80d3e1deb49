//! Snapshots between brokers: what the transfer tasks of both sides do, step by step, over the
//! storage crate's own receiving stepper.
//!
//! Invariants: one transfer per group and process, of one manifest of one leader; what was fetched
//! stays on the disk for the next attempt; a transfer that ends without its snapshot says so to the
//! leader, or falls silent.

use std::collections::BTreeMap;

use model::GroupId;
use node::shard::{Input, SnapshotIn};
use storage::{Manifest, StorageError, Transfer};

use crate::broker::{broker_id, broker_index};
use crate::report::Reach;
use crate::segments::dir_of;
use crate::trace::Who;
use crate::world::{MS, What, World};

/// Requests with this bit are transfers that wait for their installation; the rest is the group.
const INSTALLING: u64 = 1 << 40;
/// Small pieces, so that crashes and cuts come between them.
const PIECE_BYTES: usize = 16 << 10;
const FAILURES_MAX: u32 = 6;

/// A snapshot on its way into a process.
pub struct Fetching {
    wish: SnapshotIn,
    files: Option<(Manifest, Transfer)>,
    failures: u32,
    installing: bool,
}

/// All of a process's, by group.
pub type Fetches = BTreeMap<GroupId, Fetching>;

/// The group whose transfer waits for this answer.
pub fn group_of_reply(number: u64) -> Option<GroupId> {
    (number & INSTALLING != 0).then_some(GroupId(number & !INSTALLING))
}

enum Step {
    Again,
    Failed,
    Done,
}

impl World {
    /// A leader named a snapshot to `b`.
    pub fn snapshot_named(&mut self, b: usize, wish: SnapshotIn) {
        let group = wish.group;
        let Some((life, fresh)) = self.with_process(b, |process| {
            let fetches = &mut process.segments.fetches;
            let fresh = !fetches.contains_key(&group);
            match fetches.get_mut(&group) {
                Some(fetching) if fetching.installing => {}
                Some(fetching) => {
                    if !is_same(&fetching.wish, &wish) {
                        fetching.files = None;
                    }
                    fetching.wish = wish;
                }
                None => {
                    let fetching = Fetching { wish, files: None, failures: 0, installing: false };
                    fetches.insert(group, fetching);
                }
            }
            (process.life, fresh)
        }) else {
            return;
        };
        if fresh {
            self.schedule(MS, What::Fetch { b, life, group });
        }
    }

    pub fn fetch_snapshot(&mut self, b: usize, life: u32, group: GroupId) {
        if !self.lives(b, life) {
            return;
        }
        if let Some(until) = self.stopped_until(b) {
            return self.schedule_at(until, What::Fetch { b, life, group });
        }
        let process = self.brokers[b].process.as_mut().expect("it lives");
        let Some(mut fetching) = process.segments.fetches.remove(&group) else { return };
        let step = match self.fetch_piece(b, &mut fetching) {
            Ok(step) => step,
            Err(error) => return self.segments_failed(b, error),
        };
        match step {
            Step::Again => {}
            Step::Done => return self.all_is_here(b, fetching),
            Step::Failed => fetching.failures += 1,
        }
        if fetching.failures > FAILURES_MAX {
            self.reach(Reach::SnapshotFailed);
            return self.give_up_snapshot(b, &fetching.wish);
        }
        let pause_ns = match step {
            Step::Failed => self.between(50 * MS, 300 * MS),
            _ => self.between(MS, 40 * MS),
        };
        self.with_process(b, |process| process.segments.fetches.insert(group, fetching));
        self.schedule(pause_ns, What::Fetch { b, life, group });
    }

    fn fetch_piece(&mut self, b: usize, fetching: &mut Fetching) -> Result<Step, StorageError> {
        let (group, leader) = (fetching.wish.group, broker_index(fetching.wish.broker));
        let index = index_of(&fetching.wish);
        if !self.reaches(b, leader) || self.stopped_until(leader).is_some() {
            return Ok(Step::Failed);
        }
        let source = self.brokers[leader].process.as_ref().map(|p| &p.segments);
        let offer = source.and_then(|segments| segments.offers.get(&group));
        let Some(offer) = offer.filter(|(manifest, _)| manifest.index() == index) else {
            return Ok(Step::Failed);
        };
        if fetching.files.as_ref().is_some_and(|(begun, _)| *begun != offer.0) {
            // Made anew behind the same entry: a read names its manifest, and this one is gone.
            fetching.files = None;
            return Ok(Step::Failed);
        }
        let (manifest, view) = offer.clone();
        let reader = source.expect("it offers").reader();
        let peer = fetching.wish.replica;
        self.tell(leader, Input::SnapshotRead { group, peer, from: broker_id(b) });
        let segments = &mut self.brokers[b].process.as_mut().expect("it fetches").segments;
        let Some((_, transfer)) = &mut fetching.files else {
            let home = segments.home_of(group);
            let transfer = Transfer::begin(&mut segments.disk, &dir_of(group), home, &manifest)?;
            if transfer.resumed > 0 {
                self.reach(Reach::SnapshotResumed);
            }
            fetching.files = Some((manifest, transfer));
            return Ok(Step::Again);
        };
        let Some(wanted) = transfer.wanted() else {
            transfer.finish(&mut segments.disk)?;
            return Ok(Step::Done);
        };
        let len = wanted.len.min(PIECE_BYTES);
        match view.read_file(&reader, wanted.file, wanted.at, len) {
            Ok(bytes) => transfer.took(&mut segments.disk, bytes)?,
            Err(_) => return Ok(Step::Failed),
        }
        Ok(Step::Again)
    }

    fn all_is_here(&mut self, b: usize, mut fetching: Fetching) {
        let (mut manifest, _) = fetching.files.take().expect("all of it");
        manifest.position.home = manifest.index();
        let SnapshotIn { group, sender, ref message, .. } = fetching.wish;
        let (message, index) = (message.clone(), manifest.index());
        self.note(Who::Broker(b), "fetched_all", &[("group", group.0), ("index", index)]);
        self.oracle.values.begins_at(b, group, index);
        fetching.installing = true;
        self.with_process(b, |process| process.segments.fetches.insert(group, fetching));
        let (manifest, reply) = (Box::new(manifest), INSTALLING | group.0);
        self.tell(b, Input::Fetched { group, sender, message, manifest, reply });
    }

    /// It is installed, or was refused.
    pub fn snapshot_answered(&mut self, b: usize, group: GroupId, done: bool) {
        self.note(Who::Broker(b), "snapshot", &[("group", group.0), ("done", u64::from(done))]);
        let fetching = self.with_process(b, |process| process.segments.fetches.remove(&group));
        if done {
            self.reach(Reach::Snapshot);
        } else if let Some(Some(fetching)) = fetching {
            self.give_up_snapshot(b, &fetching.wish);
        }
    }

    fn give_up_snapshot(&mut self, b: usize, wish: &SnapshotIn) {
        let (group, peer, leader) = (wish.group, wish.replica, broker_index(wish.broker));
        if self.reaches(b, leader) {
            self.tell(leader, Input::SnapshotFailed { group, peer, from: broker_id(b) });
        }
    }
}

fn index_of(wish: &SnapshotIn) -> u64 {
    wish.message.get_snapshot().get_metadata().index
}

/// As the product's transfers tell snapshots apart: two leaders may offer the same entry, with
/// the same batches and other sidecars.
fn is_same(a: &SnapshotIn, b: &SnapshotIn) -> bool {
    let point = |wish: &SnapshotIn| {
        let metadata = wish.message.get_snapshot().get_metadata();
        (metadata.index, metadata.term)
    };
    a.sender == b.sender && a.broker == b.broker && point(a) == point(b)
}
