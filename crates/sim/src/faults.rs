//! What goes wrong, and when. Each seed draws the kinds it lives with (swarm testing: Groce et
//! al., ISSTA 2012), so that rare combinations get their own lives.
//!
//! Invariants: a fault counts only once it had an effect; every fault ends by itself; after the
//! heal none strikes.

use node::shard::Input;
use storage::testing::{Dice, Fault, SimDisk};
use storage::{DiskError, DiskPath, OpKind, Recovered, StorageError};

use crate::broker::{DiskPace, broker_id};
use crate::journal;
use crate::net::Cut;
use crate::oracle::Invariant;
use crate::plant::Plant;
use crate::report::Reach;
use crate::schedules::Schedule;
use crate::trace::Who;
use crate::world::{BROKERS, MS, SECOND, What, World};

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    Kill,
    PowerCut,
    PowerCutAll,
    Partition,
    OneWay,
    Loss,
    Pause,
    SlowDisk,
    CrashAtOp,
    CrashInTurn,
    CleanStop,
    FalseDeath,
    /// The wall clock is set, up to 50 minutes wrong.
    ClockStep,
    /// A write or sync fails, and the process ends (EIO).
    DiskError,
    DiskFull,
    /// Control messages arrive twice.
    Duplicates,
    /// Bits rot on the disk of the one broker whose disk is bad in this life.
    BitFlip,
    /// That broker comes back with an empty disk.
    Wipe,
    /// From now on voters may lose their power right after they voted.
    LoseVotes,
    /// Death after the n-th step of a turn, one after the other.
    EachStep,
    /// The disk is gone at the n-th operation of each kind on the journal, ...
    EachJournalOp,
    /// ... or on segments and checkpoints.
    EachSegmentOp,
    /// The n-th sync or write of the journal fails.
    FailSync,
    /// Apart from everyone for long enough to fall behind the log's start.
    Away,
}

/// What the swarm draws from.
const KINDS: [FaultKind; 20] = [
    FaultKind::Kill,
    FaultKind::PowerCut,
    FaultKind::PowerCutAll,
    FaultKind::Partition,
    FaultKind::OneWay,
    FaultKind::Loss,
    FaultKind::Pause,
    FaultKind::SlowDisk,
    FaultKind::CrashAtOp,
    FaultKind::CrashInTurn,
    FaultKind::CleanStop,
    FaultKind::FalseDeath,
    FaultKind::ClockStep,
    FaultKind::DiskError,
    FaultKind::DiskFull,
    FaultKind::Duplicates,
    FaultKind::BitFlip,
    FaultKind::Wipe,
    FaultKind::LoseVotes,
    FaultKind::Away,
];

/// A fault that is to end.
pub enum Strike {
    Ways(Vec<(usize, usize)>),
    Loss,
    Disk(usize),
    Full(usize),
    Duplicates,
    FalseDeath {
        b: usize,
        of: usize,
    },
    /// A shutdown's deadline.
    Stop {
        b: usize,
        life: u32,
    },
}

pub struct Faults {
    kinds: Vec<FaultKind>,
    gap_ms: (u64, u64),
    /// How often each kind of a schedule struck.
    struck: Vec<(FaultKind, u64)>,
    pub loses_votes: bool,
    /// Faults that were tried.
    pub struck_in_all: u64,
    /// The one broker whose disk may rot or be lost: of two copies of three nobody can promise
    /// anything.
    bad_disk: usize,
    rotted: bool,
    pub fired: u64,
}

impl Faults {
    pub fn new(schedule: Option<&Schedule>, dice: &mut Dice) -> Faults {
        let mut kinds: Vec<FaultKind> = KINDS.into_iter().filter(|_| dice.chance(2)).collect();
        // No life without a loss of unsynced sectors, and without a partition.
        kinds.extend([FaultKind::PowerCut, FaultKind::Partition]);
        let gap_ms = (200, 600 + dice.below(4_000));
        let swarm = (kinds, gap_ms);
        let (kinds, gap_ms) = schedule.map_or(swarm, |s| (s.kinds.to_vec(), s.gap_ms));
        Faults {
            kinds,
            gap_ms,
            struck: Vec::new(),
            loses_votes: false,
            struck_in_all: 0,
            bad_disk: dice.below(BROKERS as u64) as usize,
            rotted: false,
            fired: 0,
        }
    }

    /// How often this kind struck before.
    pub fn count(&mut self, kind: FaultKind) -> u64 {
        if !self.struck.iter().any(|(known, _)| *known == kind) {
            self.struck.push((kind, 0));
        }
        let known = self.struck.iter_mut().find(|(known, _)| *known == kind);
        let (_, count) = known.expect("it is there now");
        *count += 1;
        *count - 1
    }

    /// The bad disk is replaced by one whose bits are as they were written.
    pub fn new_disk(&mut self) {
        self.rotted = false;
    }

    /// Bits of this broker's disk were flipped.
    pub fn has_rotted(&self, b: usize) -> bool {
        self.rotted && b == self.bad_disk
    }
}

/// What a start would find.
pub fn recover_copy(disk: &storage::testing::World) -> Result<Recovered, StorageError> {
    let mut disk = disk.clone();
    // What is to strike strikes the disk, not who looks at it.
    disk.faults.clear();
    disk.capacity = None;
    let mut copy = SimDisk::open(disk);
    storage::recover(&mut copy, &DiskPath::new(""), &journal::config().dir)
}

impl World {
    /// A fault strikes, and the next one is scheduled.
    pub fn fault(&mut self) {
        if self.healed_ns.is_some() {
            return;
        }
        self.faults.struck_in_all += 1;
        self.oracle.churn.disturbed();
        let (least, most) = self.faults.gap_ms;
        let gap_ns = self.between(least * MS, most * MS);
        self.schedule(gap_ns, What::Fault);
        let kind = self.faults.kinds[self.dice.below(self.faults.kinds.len() as u64) as usize];
        // Leaders are the better victims.
        let anyone = self.dice.below(BROKERS as u64) as usize;
        let leader = self.clients.some_leader(&mut self.dice);
        let b = if self.dice.chance(2) { leader.unwrap_or(anyone) } else { anyone };
        self.note(Who::World, "fault", &[("kind", kind as u64), ("b", b as u64 + 1)]);
        match kind {
            FaultKind::PowerCutAll => {
                for b in 0..BROKERS {
                    self.cut_power(b);
                }
            }
            FaultKind::PowerCut => self.cut_power(b),
            FaultKind::Partition => self.partition(b),
            FaultKind::OneWay => self.one_way(b),
            FaultKind::Loss => {
                self.net.loss_per_mille = self.between(30, 300);
                self.net.delay_us_max = self.between(500, 20_000);
                self.end_in(300, 4_000, Strike::Loss);
            }
            FaultKind::SlowDisk => {
                let slow = [DiskPace::SLOW, DiskPace::STUCK];
                self.brokers[b].pace = slow[self.dice.below(2) as usize];
                self.reach(Reach::SlowDisk);
                self.faults.fired += 1;
                self.end_in(300, 4_000, Strike::Disk(b));
            }
            FaultKind::FalseDeath => self.false_death(b),
            FaultKind::ClockStep => {
                // Within what brokers take of a record's own time.
                let ms = self.between(0, 6_000_000) as i64 - 3_000_000;
                self.brokers[b].clock.set_wrong(ms);
                self.reach(Reach::ClockStep);
                self.faults.fired += 1;
            }
            FaultKind::BitFlip => self.flip_bits(self.faults.bad_disk),
            FaultKind::Wipe => {
                let b = self.faults.bad_disk;
                self.cut_power(b);
                self.wipe(b);
                self.faults.fired += 1;
            }
            FaultKind::DiskFull => {
                let room = self.between(0, 64 << 10);
                let mut disk = self.brokers[b].disk.world();
                disk.capacity = Some(disk.used() + room);
                drop(disk);
                self.end_in(300, 5_000, Strike::Full(b));
            }
            FaultKind::Duplicates => {
                self.net.twice_per_mille = self.between(30, 300);
                self.end_in(300, 4_000, Strike::Duplicates);
            }
            FaultKind::LoseVotes
            | FaultKind::EachStep
            | FaultKind::EachJournalOp
            | FaultKind::EachSegmentOp
            | FaultKind::FailSync
            | FaultKind::Away => self.strike_in_turn(kind, b),
            FaultKind::Kill
            | FaultKind::Pause
            | FaultKind::CrashAtOp
            | FaultKind::DiskError
            | FaultKind::CrashInTurn
            | FaultKind::CleanStop => self.strike_process(kind, b),
        }
    }

    /// Faults whose victim is one living process.
    fn strike_process(&mut self, kind: FaultKind, b: usize) {
        if self.brokers[b].process.is_none() {
            return;
        }
        match kind {
            FaultKind::Kill => {
                self.reach(Reach::Kill);
                self.kill(b);
            }
            FaultKind::Pause => {
                let until_ns = self.now_ns + self.between(30 * MS, 2_500 * MS);
                if self.has(Plant::LeaseOnTicks) {
                    let still_ns = until_ns - self.now_ns;
                    self.brokers[b].clock.stand_still(still_ns);
                }
                // A machine that was suspended may come back before its network does.
                if self.dice.chance(3) {
                    self.partition_until(b, until_ns + 1_500 * MS);
                }
                self.brokers[b].stopped_until_ns = until_ns;
                self.faults.fired += 1;
                self.reach(Reach::Pause);
            }
            FaultKind::CrashAtOp => self.crash_at_op(b),
            FaultKind::DiskError => self.fail_at_op(b),
            FaultKind::CrashInTurn => {
                let steps = self.dice.below(6) as u32;
                self.with_process(b, |process| process.dies_after = Some(steps));
                self.call_turn(b);
            }
            _ => {
                let life = self.brokers[b].lives;
                self.with_process(b, |process| process.stopping = true);
                self.tell(b, Input::HandOver);
                self.end_in(2_000, 4_000, Strike::Stop { b, life });
            }
        }
    }

    /// The machine stops, and some bits of its journal or checkpoint are others when it is back.
    ///
    /// What no later record proves to have been synced cannot be told from a tear and is cut: a
    /// vote may be forgotten so, and nobody can promise otherwise. Such flips are taken back.
    fn flip_bits(&mut self, b: usize) {
        self.cut_power(b);
        let (kept, rotted) = (self.brokers[b].disk.world().clone(), self.faults.rotted);
        let flipped = self.flip_some(b);
        let before = recover_copy(&kept);
        let after = recover_copy(&self.brokers[b].disk.world());
        let (Ok(before), Ok(after)) = (before, after) else { return };
        let unnamed = before.groups.iter().find(|(group, was)| {
            let now = after.groups.get(group);
            let same = now
                .is_some_and(|now| now.entries == was.entries && now.hard_state == was.hard_state);
            let gone = was.removed && now.is_some_and(|now| now.removed);
            // Of one that is gone without a trace only the hole in the journal speaks, also when
            // the removal of the replica before it can be read: it is kept out either way.
            let named = match now.filter(|now| !now.removed) {
                None => after.damage.may_hide_groups(),
                Some(now) => now.suspect.is_some() || now.birth.is_none(),
            };
            !same && !gone && !named
        });
        let Some((group, _)) = unnamed else { return };
        // A record whose header is spoilt is no record: the cut says it, not the count of tears.
        if after.cut_lsn >= before.cut_lsn {
            let text = format!("b{}: flipped bits took from group {group}, unnamed", b + 1);
            self.oracle.broken(self.now_ns, Invariant::DurableIsKept, text);
        }
        self.reached.add(Reach::CutByFlip, flipped);
        *self.brokers[b].disk.world() = kept;
        self.faults.rotted = rotted;
    }

    /// Bits flipped.
    fn flip_some(&mut self, b: usize) -> u64 {
        let mut flipped = 0;
        let part = if self.dice.chance(6) { "checkpoint" } else { "journal" };
        for _ in 0..self.between(1, 4) {
            let mut dice = Dice(self.dice.roll());
            let mut disk = self.brokers[b].disk.world();
            let files: Vec<DiskPath> =
                disk.files().into_iter().filter(|path| path.as_str().contains(part)).collect();
            if files.is_empty() {
                break;
            }
            let path = &files[dice.below(files.len() as u64) as usize];
            // Where something is written: most of a file is zeroes.
            let whole = disk.read(path, 0, usize::MAX).unwrap_or_default();
            let written: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
            if written.is_empty() {
                continue;
            }
            let byte = written[dice.below(written.len() as u64) as usize];
            disk.flip_bit(path, byte as u64, dice.below(8) as u8);
            drop(disk);
            self.faults.rotted = true;
            self.faults.fired += 1;
            self.reach(Reach::BitFlip);
            flipped += 1;
        }
        flipped
    }

    /// The disk is gone at one of the next operations of a kind, wherever that is.
    pub fn crash_at_op(&mut self, b: usize) {
        let kinds = [
            OpKind::Write,
            OpKind::Write,
            OpKind::Sync,
            OpKind::Sync,
            OpKind::SyncDir,
            OpKind::Create,
            OpKind::Rename,
            OpKind::Allocate,
        ];
        let kind = kinds[self.dice.below(kinds.len() as u64) as usize];
        let parts = ["", "journal", "partitions", "checkpoint"];
        let path_part = parts[self.dice.below(parts.len() as u64) as usize].to_string();
        let after = self.dice.below(8) as usize;
        let fault = Fault { kind, path_part, after, error: DiskError::Crashed, for_ever: true };
        self.brokers[b].disk.world().faults.push(fault);
    }

    /// One of the next operations fails once: the process must end, and believe nothing of it.
    fn fail_at_op(&mut self, b: usize) {
        let kinds = [OpKind::Write, OpKind::Sync, OpKind::Sync, OpKind::Sync, OpKind::SyncDir];
        let kind = kinds[self.dice.below(kinds.len() as u64) as usize];
        let parts = ["", "journal", "journal", "partitions", "checkpoint"];
        let path_part = parts[self.dice.below(parts.len() as u64) as usize].to_string();
        let after = self.dice.below(8) as usize;
        let message = "an injected input/output error".to_owned();
        let error = DiskError::Io { op: kind, path: DiskPath::new(""), message };
        let fault = Fault { kind, path_part, after, error, for_ever: false };
        self.brokers[b].disk.world().faults.push(fault);
    }

    /// One broker apart from both others, or only from one.
    fn partition(&mut self, b: usize) {
        let other = (b + 1 + self.dice.below(2) as usize) % BROKERS;
        let ways: Vec<(usize, usize)> = match self.dice.chance(3) {
            true => vec![(b, other), (other, b)],
            false => (0..BROKERS).filter(|o| *o != b).flat_map(|o| [(b, o), (o, b)]).collect(),
        };
        self.reach(Reach::Partition);
        self.cut_ways(ways);
    }

    /// Apart from everyone up to then.
    pub fn partition_until(&mut self, b: usize, until_ns: u64) {
        let others = (0..BROKERS).filter(|o| *o != b);
        let ways: Vec<(usize, usize)> = others.flat_map(|o| [(b, o), (o, b)]).collect();
        for (from, to) in &ways {
            self.cut(*from, *to, Cut::Drop);
        }
        self.reach(Reach::Partition);
        self.schedule_at(until_ns, What::EndFault { strike: Box::new(Strike::Ways(ways)) });
    }

    /// A broker that only hears, or only speaks.
    fn one_way(&mut self, b: usize) {
        let others = (0..BROKERS).filter(|o| *o != b);
        let ways = match self.dice.chance(2) {
            true => others.map(|o| (b, o)).collect(),
            false => others.map(|o| (o, b)).collect(),
        };
        self.reach(Reach::OneWay);
        self.cut_ways(ways);
    }

    fn cut_ways(&mut self, ways: Vec<(usize, usize)>) {
        let how = if self.dice.chance(2) { Cut::Drop } else { Cut::HoldUp };
        for (from, to) in &ways {
            self.cut(*from, *to, how);
        }
        self.end_in(100, 6_000, Strike::Ways(ways));
    }

    /// Somebody believes that a living peer is dead.
    fn false_death(&mut self, b: usize) {
        let of = (b + 1 + self.dice.below(2) as usize) % BROKERS;
        self.reach(Reach::FalseDeath);
        self.faults.fired += 1;
        self.tell(b, Input::PeerDied { broker: broker_id(of) });
        self.end_in(20, 1_500, Strike::FalseDeath { b, of });
    }

    fn end_in(&mut self, low_ms: u64, high_ms: u64, strike: Strike) {
        let in_ns = self.between(low_ms * MS, high_ms * MS);
        self.schedule(in_ns, What::EndFault { strike: Box::new(strike) });
    }

    pub fn end_fault(&mut self, strike: Strike) {
        self.oracle.churn.disturbed();
        match strike {
            Strike::Ways(ways) => {
                let stopped: u64 = ways.iter().map(|(from, to)| self.mend(*from, *to)).sum();
                self.faults.fired += u64::from(stopped > 0);
                self.note(Who::World, "mended", &[("stopped", stopped)]);
            }
            Strike::Loss => {
                self.net.loss_per_mille = 0;
                self.net.delay_us_max = 1_500;
            }
            Strike::Disk(b) => self.brokers[b].pace = DiskPace::USUAL,
            Strike::Full(b) => self.brokers[b].disk.world().capacity = None,
            Strike::Duplicates => self.net.twice_per_mille = 0,
            Strike::Stop { b, life } => {
                if self.lives(b, life) {
                    self.end_cleanly(b);
                }
            }
            Strike::FalseDeath { b, of } => {
                if self.linked(b, of) {
                    self.tell(b, Input::PeerConnected { broker: broker_id(of) });
                }
            }
        }
    }

    fn calm_network(&mut self) {
        self.net.loss_per_mille = 0;
        self.net.twice_per_mille = 0;
        self.net.delay_us_max = 1_500;
    }

    /// No more faults; whoever is down starts soon.
    pub fn heal(&mut self) {
        self.note(Who::World, "heal", &[]);
        self.faults.loses_votes = false;
        self.oracle.churn.disturbed();
        self.healed_ns = Some(self.now_ns);
        self.calm_network();
        for (from, to) in (0..BROKERS).flat_map(|a| (0..BROKERS).map(move |b| (a, b))) {
            let stopped = self.mend(from, to);
            self.faults.fired += u64::from(stopped > 0);
        }
        for b in 0..BROKERS {
            self.brokers[b].pace = DiskPace::USUAL;
            let mut disk = self.brokers[b].disk.world();
            disk.faults.clear();
            disk.capacity = None;
            drop(disk);
            self.brokers[b].stopped_until_ns = self.brokers[b].stopped_until_ns.min(self.now_ns);
            self.with_process(b, |process| process.dies_after = None);
            if self.brokers[b].process.is_none() {
                self.schedule(SECOND, What::Start { b });
            }
        }
    }
}
