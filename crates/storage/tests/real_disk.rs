//! The same code on the files of the operating system: journal, checkpoint and segments.

use bytes::Bytes;
use model::{
    EntryKind, GroupId, HardState, LogEntry, PrefixChecksum, RaftEntryType, ReplicaId, SyncPolicy,
};
use storage::{
    Disk, DiskError, DiskPath, FileHandle, GroupBirth, Journal, JournalConfig, JournalEvent,
    JournalWrite, Op, Outcome, ReadAt, RealDisk, SegmentEntry, SegmentLog, call, delete_segments,
    recover,
};

fn config() -> JournalConfig {
    JournalConfig {
        dir: DiskPath::new("journal"),
        file_bytes: 1 << 20,
        bytes_max: 8 << 20,
        sync: SyncPolicy::Group,
        sync_bytes_max: 1 << 20,
    }
}

fn entry(index: u64, kind: EntryKind, data: Vec<u8>) -> LogEntry {
    LogEntry {
        index,
        term: 1,
        entry_type: RaftEntryType::Normal,
        context: LogEntry::encode_context(kind, PrefixChecksum(0)),
        data: Bytes::from(data),
    }
}

fn run(journal: &mut Journal, disk: &mut RealDisk) -> Vec<JournalEvent> {
    let mut events = Vec::new();
    loop {
        events.extend(journal.submit(disk));
        let Some(done) = disk.complete() else { return events };
        events.extend(journal.complete(done));
    }
}

#[test]
fn a_journal_on_real_files_comes_back_after_every_life() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let group = GroupId(5);
    let mut written = 0;
    for life in 1..=5u64 {
        let mut disk = RealDisk::new(root.path());
        let found = recover(&mut disk, &DiskPath::new(""), &config().dir).expect("recovers");
        assert!(!found.damage.is_damaged(), "{:?}", found.damage);
        if let Some(kept) = found.groups.get(&group) {
            assert_eq!((kept.entries.len() as u64, kept.hard_state.term), (written, life - 1));
        }
        let mut journal = Journal::open(&found, config(), life * 77);
        if life == 1 {
            let create = Some(GroupBirth { replica: ReplicaId(1), body: Bytes::new() });
            journal.enqueue(JournalWrite { group, token: 1, create, ..JournalWrite::default() });
        }
        let entries =
            (written + 1..written + 41).map(|i| entry(i, EntryKind::Batch, vec![7; 5000]));
        let hard_state = Some(HardState { term: life, vote: 1, commit: written });
        let entries = entries.collect();
        let urgent = true;
        let write =
            JournalWrite { group, token: 2, entries, hard_state, urgent, ..Default::default() };
        journal.enqueue(write);
        written += 40;
        let events = run(&mut journal, &mut disk);
        let durable = |event: &JournalEvent| matches!(event, JournalEvent::Durable { done, .. } if done.contains(&(group, 2)));
        assert!(events.iter().any(durable), "{events:?}");
    }
}

#[test]
fn segments_on_real_files_are_read_by_many_and_reaped_when_none_does() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let mut disk = RealDisk::new(root.path());
    let reader = disk.reader();
    let dir = DiskPath::new("groups/1");
    let mut log = SegmentLog::open(&mut disk, dir.clone(), None, 1 << 20).expect("opens");
    let kind = EntryKind::Metadata;
    let entries: Vec<SegmentEntry> = (1..=100)
        .map(|index| {
            let prefix = (1..=index).fold(0, |crc, _| {
                crc32c::crc32c_append(crc32c::crc32c_append(crc, &[kind as u8]), b"command")
            });
            let context = LogEntry::encode_context(kind, PrefixChecksum(prefix));
            let entry = LogEntry { context, ..entry(index, kind, b"command".to_vec()) };
            SegmentEntry { entry, kind, base_offset: 0, last_offset: 0, max_timestamp: -1 }
        })
        .collect();
    log.append(&mut disk, &entries).expect("appends");
    log.sync(&mut disk).expect("syncs");
    let view = log.view();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let found = view.entries(&reader, 1, 101, u64::MAX).expect("readable");
                assert_eq!(found.len(), 100);
            });
        }
    });
    let position = log.position();
    let again = SegmentLog::open(&mut disk, dir.clone(), Some(position), 1 << 20).expect("opens");
    assert_eq!(again.view().entries(&reader, 50, 51, 1).expect("readable")[0], entries[49].entry);
    let groups = [model::GroupId(1)].into_iter().collect();
    delete_segments(&mut disk, &dir.parent(), &groups).expect("deletes");
    assert!(!root.path().join("groups/1").exists());
}

#[test]
fn operations_say_what_happened() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let mut disk = RealDisk::new(root.path());
    let path = DiskPath::new("a/b.bin");
    let missing = call(&mut disk, Op::Len { path: path.clone() });
    assert_eq!(missing, Err(DiskError::NotFound { path: path.clone() }));
    call(&mut disk, Op::MakeDir { path: path.parent() }).expect("makes");
    call(&mut disk, Op::Create { path: path.clone() }).expect("creates");
    call(&mut disk, Op::Allocate { path: path.clone(), len: 10_000 }).expect("allocates");
    // More buffers than one system call takes, some of them empty.
    let bufs: Vec<Bytes> =
        (0..3000u32).map(|i| Bytes::from(vec![i as u8; (i % 3) as usize])).collect();
    let flat: Vec<u8> = bufs.iter().flatten().copied().collect();
    call(&mut disk, Op::Write { path: path.clone(), at: 5, bufs }).expect("writes");
    call(&mut disk, Op::Sync { path: path.clone() }).expect("syncs");
    call(&mut disk, Op::WriteBack { path: path.clone(), at: 0, len: 100 }).expect("a hint");
    call(&mut disk, Op::SyncDir { path: path.parent() }).expect("syncs");
    let read = call(&mut disk, Op::Read { path: path.clone(), at: 5, len: flat.len() });
    assert_eq!(read, Ok(Outcome::Bytes(Bytes::from(flat))));
    let short = disk.reader().read_at(&FileHandle::new(path.clone()), 9_990, 100).expect("reads");
    assert_eq!(short.len(), 10);
    call(&mut disk, Op::Truncate { path: path.clone(), len: 3 }).expect("cuts");
    assert_eq!(call(&mut disk, Op::Len { path: path.clone() }), Ok(Outcome::Len(3)));
    let to = DiskPath::new("a/c.bin");
    call(&mut disk, Op::Rename { from: path.clone(), to: to.clone() }).expect("renames");
    let names = call(&mut disk, Op::List { path: to.parent() });
    assert_eq!(names, Ok(Outcome::Names(vec!["c.bin".into()])));
    assert!(matches!(call(&mut disk, Op::FreeSpace), Ok(Outcome::Free(free)) if free > 0));
    call(&mut disk, Op::Remove { path: path.clone() }).expect("absence is success");
    call(&mut disk, Op::RemoveDir { path: to.parent() }).expect("removes");
    assert!(!root.path().join("a").exists());
}
