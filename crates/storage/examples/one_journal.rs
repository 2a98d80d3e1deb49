//! A journal on real files, in the working directory's `target`: write, stop, recover.

use bytes::Bytes;
use model::{GroupId, HardState, LogEntry, RaftEntryType, ReplicaId, SyncPolicy};
use storage::{
    Disk, DiskPath, GroupBirth, Journal, JournalConfig, JournalWrite, RealDisk, recover,
};

fn main() {
    let root = std::path::Path::new("target/one_journal");
    std::fs::create_dir_all(root).expect("a writable directory");
    let config = JournalConfig {
        dir: DiskPath::new("journal"),
        file_bytes: 1 << 20,
        bytes_max: 8 << 20,
        sync: SyncPolicy::Group,
        sync_bytes_max: 1 << 20,
    };
    let mut disk = RealDisk::new(root);
    let found = recover(&mut disk, &DiskPath::new(""), &config.dir).expect("a sound directory");
    let group = GroupId(7);
    let before = found.groups.get(&group).map_or(0, |kept| kept.entries.len() as u64);
    println!("recovered up to LSN {}: {before} entries of group {group}", found.cut_lsn);

    // A real program draws the key at random.
    let mut journal = Journal::open(&found, config, found.next_lsn.0);
    if before == 0 {
        let create = Some(GroupBirth { replica: ReplicaId(1), body: Bytes::new() });
        journal.enqueue(JournalWrite { group, token: 1, create, ..JournalWrite::default() });
    }
    let entry = LogEntry {
        index: before + 1,
        term: 1,
        entry_type: RaftEntryType::Normal,
        context: Bytes::new(),
        data: Bytes::from_static(b"what was said"),
    };
    let hard_state = Some(HardState { term: 1, vote: 1, commit: before });
    let (entries, token) = (vec![entry], 2);
    journal.enqueue(JournalWrite { group, token, entries, hard_state, ..JournalWrite::default() });
    loop {
        let mut events = journal.submit(&mut disk);
        let Some(done) = disk.complete() else { break };
        events.extend(journal.complete(done));
        events.iter().for_each(|event| println!("{event:?}"));
    }
}
