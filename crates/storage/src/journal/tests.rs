//! The journal's rules one by one: order, priority, policies, space, marks, suspicion, removal.

use bytes::Bytes;
use model::{EntryKind, HardState, LogEntry, PrefixChecksum, RaftEntryType, ReplicaId, SyncPolicy};

use super::recovery::all_records;
use super::*;
use crate::checkpoint::{Checkpoint, GroupCheckpoint};
use crate::disk::Disk;
use crate::testing::{Fault, SimDisk};

const A: GroupId = GroupId(1);
const B: GroupId = GroupId(2);

fn config(sync: SyncPolicy) -> JournalConfig {
    JournalConfig {
        dir: DiskPath::new("journal"),
        file_bytes: 16 * 4096,
        bytes_max: 5 * 16 * 4096,
        sync,
        sync_bytes_max: 64 << 10,
    }
}

fn meta() -> DiskPath {
    DiskPath::new("meta")
}

struct Rig {
    disk: SimDisk,
    journal: Journal,
    events: Vec<JournalEvent>,
}

impl Rig {
    fn new(disk: SimDisk, sync: SyncPolicy) -> (Rig, Recovered) {
        let mut disk = disk;
        let recovered = recover(&mut disk, &meta(), &config(sync).dir).expect("the disk works");
        let journal = Journal::open(&recovered, config(sync), 4711);
        (Rig { disk, journal, events: Vec::new() }, recovered)
    }

    /// A started journal with groups A and B.
    fn with_groups(sync: SyncPolicy) -> Rig {
        let (mut rig, _) = Rig::new(SimDisk::new(512), sync);
        for group in [A, B] {
            let birth = GroupBirth { replica: ReplicaId(9), body: Bytes::from_static(b"birth") };
            let create = Some(birth);
            rig.journal.enqueue(JournalWrite {
                group,
                token: 1,
                create,
                ..JournalWrite::default()
            });
        }
        rig.run();
        rig.events.clear();
        rig
    }

    fn run(&mut self) {
        while self.step() {}
    }

    fn step(&mut self) -> bool {
        let events = self.journal.submit(&mut self.disk);
        self.events.extend(events);
        let Some(done) = self.disk.complete() else { return false };
        let events = self.journal.complete(done);
        self.events.extend(events);
        true
    }

    fn append(&mut self, group: GroupId, token: u64, first: u64, count: u64, bytes: usize) {
        let entries = (first..first + count).map(|index| entry(index, bytes)).collect();
        self.journal.enqueue(JournalWrite { group, token, entries, ..JournalWrite::default() });
    }

    fn vote(&mut self, group: GroupId, token: u64, term: u64) {
        let hard_state = Some(HardState { term, vote: 1, commit: 0 });
        let write =
            JournalWrite { group, token, hard_state, urgent: true, ..JournalWrite::default() };
        self.journal.enqueue(write);
    }

    fn done(&self) -> Vec<(GroupId, u64)> {
        let durable = self.events.iter().filter_map(|event| match event {
            JournalEvent::Durable { done, .. } => Some(done.clone()),
            _ => None,
        });
        durable.flatten().collect()
    }

    /// Writes a checkpoint in which each group applied up to the index given.
    fn checkpoint(&mut self, applied: &[(GroupId, u64)]) {
        let mut checkpoint = Checkpoint::default();
        let mut covered = Vec::new();
        for state in self.journal.synced_states() {
            let found = applied.iter().find(|(group, _)| *group == state.group);
            let Some((group, applied_index)) = found.copied() else { continue };
            let hard_state = state.hard_state;
            let (as_of_lsn, suspect) = (state.as_of_lsn, state.suspect);
            covered.push((group, applied_index, as_of_lsn));
            let kept = GroupCheckpoint {
                replica: ReplicaId(9),
                hard_state,
                as_of_lsn,
                suspect,
                applied_index,
                ..GroupCheckpoint::default()
            };
            checkpoint.groups.insert(group, kept);
        }
        checkpoint.write(&mut self.disk.another(), &meta()).expect("the disk works");
        self.journal.checkpointed(&covered);
    }

    /// What a restart finds, after a power cut that keeps nothing unsynced.
    fn after_power_cut(&self) -> (SimDisk, Recovered) {
        let mut world = self.disk.world().clone();
        world.crash(|_| false);
        world.faults.clear();
        let mut disk = SimDisk::open(world);
        let dir = config(SyncPolicy::Group).dir;
        let recovered = recover(&mut disk, &meta(), &dir).expect("the disk works");
        (disk, recovered)
    }
}

fn entry(index: u64, bytes: usize) -> LogEntry {
    LogEntry {
        index,
        term: 1,
        entry_type: RaftEntryType::Normal,
        context: LogEntry::encode_context(EntryKind::Batch, PrefixChecksum(index as u32)),
        data: Bytes::from(vec![index as u8; bytes]),
    }
}

#[test]
fn nothing_is_said_before_the_first_record_names_the_cut() {
    let (mut rig, _) = Rig::new(SimDisk::new(512), SyncPolicy::Group);
    let birth = GroupBirth { replica: ReplicaId(9), body: Bytes::new() };
    let write = JournalWrite { group: A, token: 1, create: Some(birth), ..JournalWrite::default() };
    rig.journal.enqueue(write);
    rig.run();
    let started = rig.events.iter().position(|event| matches!(event, JournalEvent::Started { .. }));
    let durable = rig.events.iter().position(|event| matches!(event, JournalEvent::Durable { .. }));
    assert!(started.expect("it starts") < durable.expect("it becomes durable"));
    let records = all_records(&mut rig.disk, &DiskPath::new("journal")).expect("readable");
    assert_eq!(records[0].1.header.kind, frame::Kind::Start);
}

#[test]
fn a_vote_overtakes_other_groups_but_never_its_own() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    rig.append(A, 2, 1, 3, 100);
    rig.append(B, 2, 1, 2, 100);
    rig.vote(B, 3, 5);
    rig.run();
    assert_eq!(rig.done(), [(B, 2), (B, 3), (A, 2)]);
    let (_, recovered) = rig.after_power_cut();
    assert_eq!(recovered.groups[&B].entries.len(), 2);
    assert_eq!(recovered.groups[&B].hard_state.term, 5);
    assert_eq!(recovered.groups[&A].entries.len(), 3);
}

#[test]
fn one_write_and_one_sync_serve_everything_that_waits() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    let before = rig.disk.world().counts.clone();
    for token in 2..50 {
        rig.append(A, token, token - 1, 1, 100);
        rig.append(B, token, token - 1, 1, 100);
    }
    rig.step();
    rig.step();
    assert_eq!(rig.done().len(), 96);
    let kinds = [OpKind::Write, OpKind::Sync];
    let counts = kinds.map(|kind| rig.disk.world().counts[&kind] - before[&kind]);
    assert_eq!(counts, [1, 1]);
}

#[test]
fn a_note_costs_no_sync_and_never_precedes_what_it_commits() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    rig.append(A, 2, 1, 2, 100);
    rig.run();
    let syncs = rig.disk.world().counts[&OpKind::Sync];
    let note = |commit| Some(HardState { term: 0, vote: 0, commit });
    let write = JournalWrite { group: A, token: 3, hard_state: note(1), ..JournalWrite::default() };
    rig.journal.enqueue(write.clone());
    rig.append(A, 4, 3, 1, 100);
    rig.journal.enqueue(JournalWrite { token: 5, hard_state: note(3), ..write });
    assert_eq!(rig.done(), [(A, 2)], "the note behind an entry waits for it");
    rig.step();
    assert_eq!(rig.done(), [(A, 2), (A, 3)], "the note behind nothing does not");
    rig.run();
    assert_eq!(rig.done(), [(A, 2), (A, 3), (A, 4), (A, 5)]);
    assert_eq!(rig.disk.world().counts[&OpKind::Sync], syncs + 1);
    let (_, recovered) = rig.after_power_cut();
    assert_eq!(
        (recovered.groups[&A].hard_state.commit, recovered.groups[&A].entries.len()),
        (3, 3)
    );
}

#[test]
fn at_intervals_entries_count_when_written_and_votes_when_synced() {
    let mut rig = Rig::with_groups(SyncPolicy::Interval);
    rig.append(A, 2, 1, 2, 100);
    rig.run();
    assert_eq!(rig.done(), [(A, 2)]);
    let (_, lost) = rig.after_power_cut();
    assert_eq!(lost.groups[&A].entries.len(), 0, "the weaker promise");
    assert!(!lost.damage.is_damaged());
    rig.vote(B, 2, 4);
    rig.step();
    assert_eq!(rig.done(), [(A, 2)], "written, not synced");
    rig.run();
    assert_eq!(rig.done(), [(A, 2), (B, 2)]);
    rig.append(A, 3, 3, 1, 100);
    rig.run();
    rig.journal.sync_due();
    rig.run();
    let (_, kept) = rig.after_power_cut();
    assert_eq!(kept.groups[&A].entries.len(), 3);
    assert_eq!(rig.journal.durable_lsn(), rig.journal.synced_lsn());
}

#[test]
fn a_failed_sync_poisons_for_ever() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    let path = DiskPath::new("journal");
    let error = DiskError::Io { op: OpKind::Sync, path, message: "EIO".into() };
    let (kind, path_part) = (OpKind::Sync, "journal".to_owned());
    let fault = Fault { kind, path_part, after: 0, error: error.clone(), for_ever: false };
    rig.disk.world().faults.push(fault);
    rig.append(A, 2, 1, 1, 100);
    rig.run();
    assert_eq!(rig.done(), []);
    assert_eq!(rig.events.last(), Some(&JournalEvent::Poisoned { op: OpKind::Sync, error }));
    rig.events.clear();
    rig.append(A, 3, 2, 1, 100);
    rig.vote(B, 2, 7);
    rig.run();
    assert_eq!(rig.events, [], "a sync that would say Ok now is never asked for");
    assert!(rig.journal.is_poisoned());
}

/// The process ends, its page cache lives on, and a sync of the same pages says Ok without writing
/// them: whoever starts again must not believe it.
#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_again_by_the_next_start() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    rig.append(A, 2, 1, 3, 5_000);
    rig.run();
    let error =
        DiskError::Io { op: OpKind::Sync, path: DiskPath::new("journal"), message: "EIO".into() };
    let path_part = "journal".to_owned();
    let fault = Fault { kind: OpKind::Sync, path_part, after: 0, error, for_ever: false };
    rig.disk.world().faults.push(fault);
    rig.append(A, 3, 4, 3, 5_000);
    rig.vote(B, 2, 7);
    rig.run();
    assert!(rig.events.iter().any(|event| matches!(event, JournalEvent::Poisoned { .. })));
    // kill -9 or the exit after the error: what programs saw is still what they see.
    let (again, found) = Rig::new(rig.disk.another(), SyncPolicy::Group);
    assert_eq!(found.groups[&A].entries.len(), 6);
    assert_eq!(found.groups[&B].hard_state.term, 7);
    let (_, kept) = again.after_power_cut();
    assert_eq!(kept.groups[&A].entries, found.groups[&A].entries);
    assert_eq!(kept.groups[&B].hard_state, found.groups[&B].hard_state);
}

#[test]
fn spares_are_zeroed_at_the_pace_of_the_records_and_ready_in_time() {
    const FILE: u64 = 8 << 20;
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    let config =
        JournalConfig { file_bytes: FILE, bytes_max: 8 * FILE, ..config(SyncPolicy::Group) };
    let recovered = recover(&mut rig.disk, &meta(), &config.dir).expect("the disk works");
    rig.journal = Journal::open(&recovered, config, 7);
    rig.run();
    let files = |rig: &Rig| {
        let created = |event: &&JournalEvent| matches!(event, JournalEvent::FileCreated { .. });
        rig.events.iter().filter(created).count()
    };
    let mut ready_at = Vec::new();
    for token in 2..=140 {
        rig.append(A, token, token - 1, 1, 60_000);
        rig.run();
        assert_eq!(rig.done().last(), Some(&(A, token)));
        assert!(rig.journal.is_quiet(), "what has time keeps nobody waiting");
        if files(&rig) > ready_at.len() {
            ready_at.push(token * 60_000);
        }
    }
    let [first, spare, second, ..] = ready_at[..] else { panic!("{ready_at:?}") };
    assert!(first < FILE / 16 && (FILE / 4..FILE * 5 / 8).contains(&spare), "{ready_at:?}");
    assert!((FILE * 3 / 4..=FILE + 120_000).contains(&second), "{ready_at:?}");
}

#[test]
fn a_full_disk_refuses_entries_keeps_votes_and_recovers_without_a_restart() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    let used = 16 * 4096 * 2;
    rig.disk.world().capacity = Some(used);
    let mut token = 1;
    while !rig.events.contains(&JournalEvent::Full(Some(FullReason::Disk))) {
        token += 1;
        rig.append(A, token, token - 1, 1, 3000);
        rig.run();
        assert!(token < 100, "the spare after the next one cannot be made");
    }
    for _ in 0..40 {
        token += 1;
        rig.append(A, token, token - 1, 1, 3000);
    }
    rig.run();
    let waiting = token - rig.done().last().expect("some went through").1;
    assert!(waiting > 0 && !rig.journal.is_quiet());
    for term in 2..14 {
        rig.vote(B, term, term);
        rig.run();
        assert_eq!(rig.done().last(), Some(&(B, term)), "votes use the spare kept for them");
    }
    rig.disk.world().capacity = None;
    rig.journal.retry_space();
    rig.run();
    assert!(rig.events.contains(&JournalEvent::Full(None)));
    assert_eq!(rig.done().iter().filter(|(group, _)| *group == A).count() as u64, token - 1);
    let (_, recovered) = rig.after_power_cut();
    assert_eq!(recovered.groups[&A].entries.len() as u64, token - 1);
    assert_eq!(recovered.groups[&B].hard_state.term, 13);
}

/// The first file fits, the spare after it does not. Whoever drives the journal hears of it: else it
/// would never ask for space again, and write nothing after space came.
#[test]
fn a_disk_that_becomes_full_during_the_start_is_told_after_it() {
    let rig = Rig::with_groups(SyncPolicy::Group);
    let begun = (1..64).find_map(|blocks| {
        let (mut disk, recovered) = rig.after_power_cut();
        let used = disk.world().used();
        disk.world().capacity = Some(used + blocks * 4096);
        let mut journal = Journal::open(&recovered, config(SyncPolicy::Group), 7);
        journal.start(&mut disk).is_ok().then_some((journal, disk))
    });
    let (mut journal, mut disk) = begun.expect("with the least room that its first file needs");
    let full = |events: &[JournalEvent]| {
        events
            .iter()
            .find_map(|event| if let JournalEvent::Full(is) = event { Some(*is) } else { None })
    };
    assert_eq!(full(&journal.submit(&mut disk)), Some(Some(FullReason::Disk)));
    assert_eq!(full(&journal.submit(&mut disk)), None, "said once");
    disk.world().capacity = None;
    journal.retry_space();
    let mut events = journal.submit(&mut disk);
    while let Some(done) = disk.complete() {
        events.extend(journal.complete(done));
        events.extend(journal.submit(&mut disk));
    }
    assert_eq!(full(&events), Some(None));
}

#[test]
fn a_write_without_room_is_repeated_byte_by_byte() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    let error = DiskError::Full { op: OpKind::Write, path: DiskPath::new("journal") };
    let (kind, path_part) = (OpKind::Write, "journal".to_owned());
    rig.disk.world().faults.push(Fault { kind, path_part, after: 0, error, for_ever: false });
    rig.append(A, 2, 1, 2, 100);
    rig.run();
    assert_eq!((rig.done(), rig.journal.is_quiet()), (vec![], false));
    rig.journal.retry_space();
    rig.run();
    assert_eq!(rig.done(), [(A, 2)]);
    let full = rig.events.iter().filter(|event| matches!(event, JournalEvent::Full(_))).count();
    assert_eq!(full, 2, "full, and no longer full");
}

#[test]
fn at_its_cap_the_journal_waits_for_a_checkpoint() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    for token in 2..200 {
        rig.append(A, token, token - 1, 1, 3000);
    }
    rig.run();
    assert!(rig.events.contains(&JournalEvent::Full(Some(FullReason::Cap))));
    assert!(rig.events.iter().any(|it| matches!(it, JournalEvent::CheckpointWanted { .. })));
    let bytes = |rig: &Rig| {
        let world = rig.disk.world();
        let files = world.files().into_iter().filter(|path| path.as_str().starts_with("journal"));
        files.map(|path| world.read(&path, 0, usize::MAX).expect("there").len() as u64).sum::<u64>()
    };
    assert!(bytes(&rig) <= config(SyncPolicy::Group).bytes_max);
    let mut rounds = 0;
    while rig.done().len() < 198 {
        rounds += 1;
        let applied = rig.done().last().expect("some went through").1 - 1;
        rig.checkpoint(&[(A, applied), (B, 0)]);
        rig.run();
        assert!(rounds < 20, "each checkpoint frees files");
    }
    assert!(rig.events.contains(&JournalEvent::Full(None)));
    assert!(bytes(&rig) <= config(SyncPolicy::Group).bytes_max);
    let (_, recovered) = rig.after_power_cut();
    assert!(!recovered.damage.is_damaged(), "{:?}", recovered.damage);
    assert_eq!(recovered.groups[&A].entries.last().map(|entry| entry.index), Some(198));
    assert_eq!(recovered.groups[&B].birth.as_ref().map(|birth| birth.replica), Some(ReplicaId(9)));
}

/// Flips a bit of the last record of `group`: in its payload, or in its header.
fn flip_last(rig: &Rig, group: GroupId, header: bool) -> (SimDisk, Recovered, Lsn) {
    let mut world = rig.disk.world().clone();
    world.crash(|_| false);
    let mut disk = SimDisk::open(world.clone());
    let records = all_records(&mut disk, &DiskPath::new("journal")).expect("readable");
    let last = records.iter().rev().find(|(_, found)| found.header.group == group);
    let (file, found) = last.expect("it wrote something");
    world.flip_bit(&file.path, found.at + if header { 30 } else { 66 }, 3);
    let mut disk = SimDisk::open(world);
    let recovered = recover(&mut disk, &meta(), &DiskPath::new("journal")).expect("no error");
    (disk, recovered, found.header.lsn)
}

#[test]
fn a_mark_turns_the_loss_of_a_last_vote_from_a_tear_into_damage() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    rig.append(A, 2, 1, 1, 100);
    rig.run();
    rig.vote(B, 2, 6);
    rig.run();
    let (_, torn, _) = flip_last(&rig, B, true);
    assert!(!torn.damage.is_damaged(), "nothing says that the last write was ever synced");
    rig.journal.idle();
    rig.run();
    assert!(rig.events.iter().any(|event| matches!(event, JournalEvent::SyncMark { .. })));
    let (_, damaged, lsn) = flip_last(&rig, B, true);
    assert_eq!(damaged.damage.unreadable, [(lsn, lsn)]);
    assert_eq!(damaged.groups[&B].suspect, Some(Damage::RecordLost));
    assert_eq!(damaged.groups[&A].suspect, None, "the mark clears it");
    let (_, damaged, lsn) = flip_last(&rig, B, false);
    assert_eq!(damaged.damage.corrupt.iter().map(|it| it.lsn).collect::<Vec<_>>(), [lsn]);
    assert_eq!(damaged.groups[&B].suspect, Some(Damage::RecordCorrupt));
    assert_eq!(damaged.groups[&A].suspect, None);
}

#[test]
fn an_unreadable_record_suspects_all_whom_nothing_clears() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    rig.append(A, 2, 1, 1, 100);
    rig.run();
    rig.vote(B, 2, 6);
    rig.run();
    // A goes on and so proves that the unreadable record was not its own; B is silent.
    rig.append(A, 3, 2, 1, 100);
    rig.run();
    let (_, recovered, _) = flip_last(&rig, B, true);
    assert_eq!(recovered.groups[&B].suspect, Some(Damage::RecordMaybeLost));
    assert_eq!(recovered.groups[&A].suspect, None);
    assert_eq!(recovered.groups[&A].entries.len(), 2);
}

/// What took the place of entries 2 and 3 is lost, what came behind it is not: the old ones must not
/// pass for the committed ones, in this life or the next.
#[test]
fn entries_that_a_hole_may_have_replaced_are_not_handed_out() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    let of_term = |term, indices: std::ops::RangeInclusive<u64>| {
        indices.map(|index| LogEntry { term, ..entry(index, 100) }).collect::<Vec<_>>()
    };
    let state = |term, commit| Some(HardState { term, vote: 1, commit });
    let write = JournalWrite { group: A, ..JournalWrite::default() };
    let (entries, hard_state) = (of_term(1, 1..=3), state(1, 1));
    rig.journal.enqueue(JournalWrite { token: 2, entries, hard_state, ..write.clone() });
    rig.run();
    let entries = of_term(2, 2..=3);
    rig.journal.enqueue(JournalWrite { token: 3, entries, ..write.clone() });
    rig.run();
    let (entries, hard_state) = (of_term(2, 4..=5), state(2, 5));
    rig.journal.enqueue(JournalWrite { token: 4, entries, hard_state, ..write });
    rig.run();
    let records = all_records(&mut rig.disk, &DiskPath::new("journal")).expect("readable");
    let lost = |index, term| (2..=3).contains(&index) && term == 2;
    for (file, found) in records.iter().filter(|(_, it)| lost(it.header.index, it.header.term)) {
        rig.disk.world().flip_bit(&file.path, found.at + 30, 3);
    }
    for life in 0..3 {
        let (disk, recovered) = rig.after_power_cut();
        let found = &recovered.groups[&A];
        assert_eq!(found.suspect, Some(Damage::RecordLost), "life {life}");
        assert_eq!(found.entries, of_term(1, 1..=1), "life {life}");
        assert_eq!(found.hard_state.commit, 1, "life {life}");
        for (_, old) in records.iter().filter(|(_, it)| it.header.term == 1) {
            let (index, lsn) = (old.header.index, old.header.lsn);
            assert_eq!(found.pins.entry_lives(index, lsn), index == 1, "{index} goes forward");
        }
        rig = Rig::new(disk, SyncPolicy::Group).0;
        rig.run();
    }
}

#[test]
fn a_hole_may_have_been_all_there_was_of_a_group_and_its_suspicion_needs_no_birth() {
    const C: GroupId = GroupId(30);
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    let birth = GroupBirth { replica: ReplicaId(9), body: Bytes::from_static(b"birth") };
    let create = Some(birth.clone());
    rig.journal.enqueue(JournalWrite { group: C, token: 1, create, ..JournalWrite::default() });
    rig.run();
    for group in [A, B] {
        rig.append(group, 2, 1, 1, 100);
        rig.run();
    }
    let (disk, recovered, _) = flip_last(&rig, C, true);
    assert!(recovered.damage.may_hide_groups() && recovered.damage.groups.is_empty());
    assert!(!recovered.groups.contains_key(&C), "nobody can name it");
    let (mut rig, _) = Rig::new(disk, SyncPolicy::Group);
    let suspect = Some(Damage::RecordMaybeLost);
    rig.journal.enqueue(JournalWrite { group: C, suspect, ..JournalWrite::default() });
    rig.run();
    let (mut rig, recovered) = Rig::new(rig.disk, SyncPolicy::Group);
    let found = &recovered.groups[&C];
    assert_eq!((found.suspect, found.birth.clone()), (suspect, None));
    // It goes, and another life of it may begin.
    rig.journal.enqueue(JournalWrite { group: C, remove: true, ..JournalWrite::default() });
    rig.run();
    let (_, recovered) = Rig::new(rig.disk, SyncPolicy::Group);
    assert!(recovered.groups.get(&C).is_none_or(|found| found.removed));
}

#[test]
fn suspicion_outlives_the_damaged_file() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    rig.append(B, 2, 1, 1, 100);
    rig.run();
    rig.append(A, 2, 1, 1, 100);
    rig.run();
    let (disk, _, _) = flip_last(&rig, B, false);
    let (mut rig, recovered) = Rig::new(disk, SyncPolicy::Group);
    assert_eq!(recovered.groups[&B].suspect, Some(Damage::RecordCorrupt));
    rig.run();
    rig.checkpoint(&[(A, 1), (B, 0)]);
    for token in 3..80 {
        rig.append(A, token, token - 1, 1, 3000);
        rig.run();
        if token % 10 == 0 {
            rig.checkpoint(&[(A, token - 1), (B, 0)]);
        }
    }
    rig.run();
    assert!(rig.events.iter().any(|event| matches!(event, JournalEvent::FileRecycled { .. })));
    let (_, recovered) = rig.after_power_cut();
    assert_eq!(recovered.groups[&B].suspect, Some(Damage::RecordCorrupt));
    assert!(recovered.damage.corrupt.is_empty(), "the file itself is long gone");
    assert_eq!(recovered.groups[&A].suspect, None);
}

#[test]
fn a_removed_group_is_forgotten_when_a_checkpoint_has_forgotten_it() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    rig.append(A, 2, 1, 2, 100);
    rig.journal.enqueue(JournalWrite {
        group: A,
        token: 3,
        remove: true,
        ..JournalWrite::default()
    });
    rig.run();
    let (_, recovered) = rig.after_power_cut();
    assert!(recovered.groups[&A].removed);
    assert_eq!(rig.journal.synced_states().len(), 1);
    for token in 2..120 {
        rig.append(B, token, token - 1, 1, 3000);
        rig.run();
        rig.checkpoint(&[(B, token - 1)]);
    }
    rig.run();
    let (_, recovered) = rig.after_power_cut();
    assert!(!recovered.groups.contains_key(&A), "{:?}", recovered.groups.get(&A));
    assert!(!recovered.damage.is_damaged(), "{:?}", recovered.damage);
}

#[test]
fn a_group_that_was_removed_can_be_created_again() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    let check = |rig: &Rig, first_bytes: usize, count: usize, what: &str| {
        let (_, recovered) = rig.after_power_cut();
        assert!(!recovered.damage.is_damaged(), "{what}: {:?}", recovered.damage);
        let again = &recovered.groups[&A];
        assert!(!again.removed && again.suspect.is_none(), "{what}: {:?}", again.suspect);
        // This rig's checkpoints know one replica id only.
        let kept = recovered.checkpoint.as_ref().is_some_and(|all| all.groups.contains_key(&A));
        let replica = if kept { ReplicaId(9) } else { ReplicaId(10) };
        assert_eq!(again.birth.as_ref().map(|birth| birth.replica), Some(replica), "{what}");
        assert_eq!(again.entries.len(), count, "{what}");
        assert!(again.entries.iter().all(|entry| entry.data.len() == first_bytes), "{what}");
        assert_eq!(again.hard_state.term, 0, "{what}: the vote of another replica");
        again.sequence
    };
    rig.append(A, 2, 1, 20, 100);
    rig.vote(A, 3, 7);
    let remove = JournalWrite { group: A, token: 4, remove: true, ..JournalWrite::default() };
    rig.journal.enqueue(remove);
    rig.run();
    rig.checkpoint(&[(B, 0)]);
    let birth = GroupBirth { replica: ReplicaId(10), body: Bytes::from_static(b"again") };
    let create = Some(birth);
    rig.journal.enqueue(JournalWrite { group: A, token: 1, create, ..JournalWrite::default() });
    rig.run();
    assert_eq!(check(&rig, 0, 0, "born"), 1);
    rig.append(A, 2, 1, 3, 200);
    rig.run();
    check(&rig, 200, 3, "with entries");
    rig.journal.idle();
    rig.run();
    assert_eq!(check(&rig, 200, 3, "behind a mark"), 4);
    rig.checkpoint(&[(A, 1), (B, 0)]);
    check(&rig, 200, 2, "in a checkpoint");
    // Nothing of the earlier life is carried forward when its file makes room.
    for token in 2..120 {
        rig.append(B, token, token - 1, 1, 3000);
        rig.run();
        rig.checkpoint(&[(A, 1), (B, token - 1)]);
    }
    rig.run();
    let moved = |event: &JournalEvent| matches!(event, JournalEvent::Moved { .. });
    assert!(rig.events.iter().any(moved), "nothing was moved");
    check(&rig, 200, 2, "moved out of the oldest file");
    // The next life of the journal goes on from there.
    let (disk, recovered) = rig.after_power_cut();
    let journal = Journal::open(&recovered, config(SyncPolicy::Group), 5);
    let mut next = Rig { disk, journal, events: Vec::new() };
    next.run();
    next.append(A, 9, 4, 2, 200);
    next.run();
    check(&next, 200, 4, "after a restart");
}

#[test]
fn a_large_ready_is_cut_into_parts_and_reported_once() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    rig.append(A, 2, 1, 30, 4000);
    rig.vote(A, 3, 9);
    rig.run();
    assert_eq!(rig.done(), [(A, 2), (A, 3)]);
    let (_, recovered) = rig.after_power_cut();
    assert_eq!((recovered.groups[&A].entries.len(), recovered.groups[&A].hard_state.term), (30, 9));
}

#[test]
fn a_killed_process_loses_nothing_it_wrote_and_restarts_do_not_pile_up() {
    let mut rig = Rig::with_groups(SyncPolicy::Group);
    let mut expected = 0;
    for life in 0..12u64 {
        rig.append(A, 10 * life + 5, expected + 1, 3, 500);
        expected += 3;
        rig.run();
        let disk = SimDisk::open(rig.disk.world().clone());
        let (next, recovered) = Rig::new(disk, SyncPolicy::Group);
        assert!(!recovered.damage.is_damaged(), "life {life}: {:?}", recovered.damage);
        assert_eq!(recovered.groups[&A].entries.len() as u64, expected);
        rig = next;
        rig.run();
        rig.checkpoint(&[(A, 0), (B, 0)]);
        rig.run();
    }
    let files = rig.disk.world().files().len();
    assert!(files <= 6, "stragglers are written forward at every start: {files} files");
}
