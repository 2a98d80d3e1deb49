//! Processes begin and end: recovery as a broker's start does it, and every way to die.
//!
//! Invariants: a start reads nothing but the disk; what a dead process was told, owed or held in
//! memory is gone; after a power cut any subset of the unsynced sectors is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use machine::config::TopicConfig;
use model::{GroupId, TopicId, limits};
use node::shard::{GroupKind, GroupSpec, Input, Out, RestoredGroup, Shard, ShardConfig};
use storage::testing::{SyncDoes, Unsynced};
use storage::{DiskError, DiskPath, Journal, Recovered, SegmentLog, StartFailed, StorageError};

use crate::broker::{Process, TurnState, broker_id, directory, sync_does};
use crate::journal::{self, JournalWorker};
use crate::plant::Plant;
use crate::report::Reach;
use crate::segments::{SEGMENT_BYTES, SegmentWorker, dir_of};
use crate::trace::Who;
use crate::world::{MS, What, World, groups};

/// Why a start did not come to its end.
enum Ended {
    /// The power went while it ran.
    Crashed,
    /// The disk is full, or failed: the next start may find it better.
    Refused,
    /// It must not happen.
    Failed(String),
}

impl World {
    /// The group as its creator describes it to broker `b`.
    fn spec(&self, group: GroupId, b: usize) -> GroupSpec {
        let metadata = group == GroupId::METADATA;
        let seat = self.seats.of(group);
        GroupSpec {
            group,
            kind: if metadata { GroupKind::Metadata } else { GroupKind::Partition },
            name: if metadata { "metadata".into() } else { format!("t-{group}") },
            topic: TopicId([group.0 as u8; 16]),
            partition: 0,
            replica: seat.own(b),
            replicas: seat.replicas.iter().chain(&seat.removing).copied().collect(),
            founders: seat.founders(),
            learners: Vec::new(),
            producers_before: 0,
            config: self.topic_config(group),
        }
    }

    fn topic_config(&self, group: GroupId) -> TopicConfig {
        let plain = TopicConfig::resolve(&BTreeMap::new(), &Default::default());
        let mut config = plain.expect("no overrides, nothing to refuse");
        let shape = self.clients.shape_of(group);
        config.segment_bytes = SEGMENT_BYTES;
        config.min_insync_replicas = shape.min_insync;
        config.retention_bytes = shape.retention_bytes;
        config.retention_ms = -1;
        config.segment_ms = shape.segment_ms;
        config
    }

    /// A process starts on what its disk holds.
    pub fn start(&mut self, b: usize) {
        if self.brokers[b].process.is_some() {
            return;
        }
        self.brokers[b].lives += 1;
        let life = self.brokers[b].lives;
        self.note(Who::Broker(b), "start", &[("life", u64::from(life))]);
        self.brokers[b].stopped_until_ns = 0;
        if life > 1 && self.healed_ns.is_none() && self.dice.chance(10) {
            self.crash_at_op(b);
        }
        match self.load(b, life) {
            Ok((process, out)) => self.begin(b, process, out),
            Err(Ended::Crashed) => {
                self.reach(Reach::CrashInStart);
                self.brokers[b].disk.world().faults.clear();
                self.lose_power(b);
                let again_ns = self.between(50 * MS, 500 * MS);
                self.schedule(again_ns, What::Start { b });
            }
            Err(Ended::Refused) => {
                self.reach(Reach::DiskError);
                let again_ns = self.between(50 * MS, 1_000 * MS);
                self.schedule(again_ns, What::Start { b });
            }
            // An operator replaces such a disk.
            Err(Ended::Failed(_)) if self.faults.has_rotted(b) => {
                self.wipe(b);
                let again_ns = self.between(50 * MS, 1_000 * MS);
                self.schedule(again_ns, What::Start { b });
            }
            Err(Ended::Failed(why)) => {
                self.oracle.unexpected(self.now_ns, format!("b{} does not start: {why}", b + 1));
            }
        }
    }

    fn begin(&mut self, b: usize, process: Box<Process>, mut out: Out<u64>) {
        let life = process.life;
        self.oracle.began(b, &process.shard);
        self.brokers[b].process = Some(process);
        self.carry_out(b, &mut out, u32::MAX);
        for group in groups() {
            self.reconcile(b, group);
            self.place(b, group);
        }
        self.dial_all(b);
        self.call_turn(b);
        let tick_ns = self.between(0, 10 * MS);
        self.schedule(tick_ns, What::Tick { b, life });
        self.schedule(50 * MS, What::JournalIdle { b, life });
        let checkpoint_ns = self.between(300 * MS, 4_000 * MS);
        self.schedule(checkpoint_ns, What::CheckpointDue { b, life });
    }

    /// A group's replica is opened, or expelled if another one belongs here.
    fn reconcile(&mut self, b: usize, group: GroupId) {
        let own = self.seats.of(group).own(b);
        let process = self.brokers[b].process.as_ref().expect("it begins");
        let member = process.shard.member(group);
        let (known, suspect) = match member {
            None => (None, process.is_out_of_service(group)),
            Some(member) => (Some(member.spec().replica), member.group.is_suspect()),
        };
        match known {
            Some(known) if known != own => self.expel(b, group),
            _ if suspect => self.doubt(b, group),
            None => self.create(b, group),
            Some(_) => {}
        }
    }

    /// A new replica begins, unless what was here before it is still to go.
    pub fn create(&mut self, b: usize, group: GroupId) {
        let own = self.seats.of(group).own(b);
        let hidden = self.with_process(b, |process| {
            let going = process.segments.is_going(group);
            (!going).then(|| process.hidden_below.is_some_and(|end| own < end))
        });
        if hidden == Some(Some(true)) {
            // Its records may be among those that the journal lost.
            self.reach(Reach::Quarantine);
            self.with_process(b, |process| process.out_of_service.insert(group));
            self.tell(b, Input::KeepOut { group });
            self.doubt(b, group);
        } else if hidden == Some(Some(false)) {
            // Once more: between the order to go and its going the old one may have said more.
            self.oracle.expelled(b, group);
            let spec = Box::new(self.spec(group, b));
            self.tell(b, Input::Create { spec });
        }
    }

    fn load(&mut self, b: usize, life: u32) -> Result<(Box<Process>, Out<u64>), Ended> {
        let mut disk = self.brokers[b].disk.another();
        if self.has(Plant::BelievedCache) {
            disk.world().sync = SyncDoes::Nothing;
        }
        let recovered = storage::recover(&mut disk, &DiskPath::new(""), &journal::config().dir);
        disk.world().sync = sync_does(self.profile.plant);
        let mut recovered = recovered.map_err(ended)?;
        self.note_recovered(b, &recovered);
        let hides = recovered.damage.may_hide_groups();
        let mut journal = Journal::open(&recovered, journal::config(), self.dice.roll());
        journal.start(&mut disk).map_err(not_started)?;
        let checkpoint = recovered.checkpoint.take().unwrap_or_default();
        let now = self.brokers[b].clock.read(self.now_ns);
        let mut shard = Shard::new(ShardConfig {
            shard: 0,
            broker: broker_id(b),
            directory: directory(b, self.brokers[b].disk_no),
            seed: self.dice.roll(),
            timing: consensus::Timing::default(),
            replica_lag_ms_max: 1_000,
            groups: Default::default(),
            leader_rebalance: false,
            leader_rebalance_ms: 0,
            retention_check_ms: 200,
            retention_waits_ms: model::limits::RETENTION_WAITS_MS,
            producer_expiration_ms: limits::PRODUCER_EXPIRATION_MS,
        });
        let mut out = Out::default();
        let mut logs = BTreeMap::new();
        let (mut gone, mut broken) = (BTreeSet::new(), Vec::new());
        for (group, found) in std::mem::take(&mut recovered.groups) {
            if found.removed {
                gone.insert(group);
                continue;
            }
            if found.birth.is_none() {
                broken.push((group, "its birth record is lost".to_owned()));
                continue;
            }
            let kept = checkpoint.groups.get(&group);
            let position = kept.map(|kept| kept.segments.clone());
            let log = SegmentLog::open(&mut disk, dir_of(group), position, SEGMENT_BYTES);
            let log = log.map_err(ended)?;
            let (segments, config) = (log.view().segments(), self.topic_config(group));
            let restored = RestoredGroup::recovered(group, found, kept, segments, config);
            match restored {
                Ok(restored) => shard.restore(now, restored, &mut out),
                Err(why) => broken.push((group, why)),
            }
            logs.insert(group, log);
        }
        let mut out_of_service = BTreeSet::new();
        for (group, why) in broken {
            self.rotten_only(b, format!("b{}: group {group}: {why}", b + 1));
            self.reach(Reach::Quarantine);
            out_of_service.insert(group);
            shard.keep_out(group);
        }
        let segments = SegmentWorker::new(self.brokers[b].disk.another(), logs, checkpoint, gone);
        let process = Box::new(Process {
            life,
            shard,
            out: Out::default(),
            raft_lane: VecDeque::new(),
            client_lane: VecDeque::new(),
            turn: TurnState::Idle,
            tick_due: false,
            slot: 0,
            journal: JournalWorker::new(journal, disk),
            segments,
            out_of_service,
            hidden_below: hides.then(|| self.seats.next_replica()),
            dies_after: None,
            stopping: false,
        });
        Ok((process, out))
    }

    fn note_recovered(&mut self, b: usize, recovered: &Recovered) {
        let damage = &recovered.damage;
        self.reached.add(Reach::TornRecord, damage.torn_records);
        let numbers = [
            ("cut", recovered.cut_lsn.0),
            ("groups", recovered.groups.len() as u64),
            ("torn", damage.torn_records),
        ];
        self.note(Who::Broker(b), "recovered", &numbers);
        if damage.is_damaged() {
            // Where no bit rots whatever is named is a false alarm, or a lost write.
            self.rotten_only(b, format!("b{}: recovery names damage: {damage:?}", b + 1));
        }
        self.oracle.recovered(self.now_ns, b, recovered);
    }

    /// What may only be said of a broker whose bits were flipped.
    pub fn rotten_only(&mut self, b: usize, text: String) {
        if !self.faults.has_rotted(b) {
            self.oracle.unexpected(self.now_ns, text);
        }
    }

    /// What may only be said in a life in which some broker's bits were flipped.
    pub fn after_rot_only(&mut self, text: String) {
        if !(0..self.brokers.len()).any(|b| self.faults.has_rotted(b)) {
            self.oracle.unexpected(self.now_ns, text);
        }
    }

    /// kill -9: the process is gone, the kernel and its page cache live on.
    pub fn kill(&mut self, b: usize) {
        let Some(mut process) = self.brokers[b].process.take() else { return };
        self.note(Who::Broker(b), "killed", &[]);
        self.faults.fired += 1;
        // What was handed to the kernel may or may not have been carried out.
        if self.dice.chance(2) {
            process.journal.disk.abandon();
        }
        self.brokers[b].disk.world().faults.clear();
        self.buried(b, true);
    }

    /// The machine loses its power: any subset of what is unsynced survives.
    pub fn cut_power(&mut self, b: usize) {
        let Some(mut process) = self.brokers[b].process.take() else { return };
        self.note(Who::Broker(b), "power_cut", &[]);
        self.faults.fired += 1;
        process.journal.disk.abandon();
        self.brokers[b].disk.world().faults.clear();
        self.lose_power(b);
        // A machine that is up again before its broker refuses connections.
        let heard = self.dice.chance(2);
        self.buried(b, heard);
    }

    fn lose_power(&mut self, b: usize) {
        let keeps_of_8 = [0, 1, 4, 7, 8][self.dice.below(5) as usize];
        let mut dice = storage::testing::Dice(self.dice.roll());
        let (mut kept, mut lost) = (0, 0);
        self.brokers[b].disk.world().crash(|item| {
            let keep = dice.below(8) < keeps_of_8;
            if matches!(item, Unsynced::Sector { .. }) {
                *(if keep { &mut kept } else { &mut lost }) += 1;
            }
            keep
        });
        self.note(Who::Broker(b), "sectors", &[("kept", kept), ("lost", lost)]);
        self.reach(Reach::PowerCut);
        self.reached.add(Reach::SectorLost, lost);
        if kept > 0 && lost > 0 {
            self.reach(Reach::TornCrash);
        }
    }

    fn buried(&mut self, b: usize, heard: bool) {
        self.oracle.churn.disturbed();
        self.hang_up(b, heard);
        self.drop_requests(b, heard);
        let down_ns = match self.dice.below(3) {
            0 => self.between(20 * MS, 300 * MS),
            _ => self.between(300 * MS, 4_000 * MS),
        };
        self.schedule(down_ns, What::Start { b });
    }

    /// An injected failure of the disk struck: the machine is gone.
    pub fn die_at_op(&mut self, b: usize) {
        self.reach(Reach::CrashAtOp);
        self.cut_power(b);
    }

    /// Gone in the middle of a turn, one way or the other.
    pub fn die_by_chance(&mut self, b: usize) {
        match self.dice.chance(2) {
            true => self.kill(b),
            false => self.cut_power(b),
        }
    }

    /// A disk that failed: the process ends, its kernel and page cache live on.
    pub fn die_of_disk(&mut self, b: usize, what: &str) {
        self.note(Who::Broker(b), what, &[("failed", 1)]);
        self.reach(Reach::DiskError);
        self.kill(b);
    }

    /// The end of a shutdown whose leaderships are handed over.
    pub fn end_cleanly(&mut self, b: usize) {
        self.reach(Reach::CleanStop);
        let flushed = self.has(Plant::NoFlushAtShutdown) || self.flush_journal(b);
        if flushed && self.brokers[b].process.is_some() {
            self.oracle.durable.signed_off(b);
            self.disk_is_as_seen(b);
        }
        // What a clean shutdown left needs no page cache.
        self.die_by_chance(b);
    }
}

fn ended(error: StorageError) -> Ended {
    match error {
        StorageError::Disk(storage::DiskError::Crashed) => Ended::Crashed,
        StorageError::Disk(DiskError::Io { .. } | DiskError::Full { .. }) => Ended::Refused,
        other => Ended::Failed(other.to_string()),
    }
}

fn not_started(failed: StartFailed) -> Ended {
    match failed {
        StartFailed::Disk { error, .. } => ended(error.into()),
        StartFailed::Full(_) => Ended::Refused,
        StartFailed::Idle => Ended::Failed("the journal does not start".into()),
    }
}
