//! The loop around a group, on a single voter: propose, hand the write to a "journal", report it
//! durable, receive what is committed. Time is an argument, so the example makes its own.

use bytes::Bytes;
use consensus::eraftpb::ConfState;
use consensus::{Group, GroupConfig, GroupOut, Restored, Timing};
use model::{GroupId, Now, ReplicaId};

fn main() {
    let conf_state = ConfState { voters: vec![1], ..ConfState::default() };
    let cfg = GroupConfig {
        group: GroupId(7),
        replica: ReplicaId(1),
        seed: 42,
        timing: Timing::default(),
    };
    let mut now = Now { boot_ns: 1_000_000_000, wall_ms: 0 };
    let restored = Restored { conf_state, new_group: true, ..Restored::default() };
    let mut group = Group::new(cfg, restored, now).expect("a fresh group");
    let index = group
        .propose(vec![(Bytes::new(), Bytes::from_static(b"hello"))])
        .expect("a single voter leads at once");
    println!("proposed at index {index}");

    let mut out = GroupOut::default();
    while group.has_ready() {
        now = now.plus_ms(1);
        group.flush(now, now.boot_ns, &mut out);
        for write in std::mem::take(&mut out.writes) {
            println!("journal: ready {} with {} entries", write.ready, write.entries.len());
            group.persisted(now, write.ready, &mut out);
        }
        for entry in out.committed.drain(..) {
            println!("committed: index {} term {} {:?}", entry.index, entry.term, entry.data);
            group.applied(entry.index);
        }
        for event in out.events.drain(..) {
            println!("event: {event:?}");
        }
    }
}
