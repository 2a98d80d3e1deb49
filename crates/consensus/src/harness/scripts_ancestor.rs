//! What the ancestors did, planted into the product: their failures word for word, and what the
//! product says where they died.

use std::panic::{AssertUnwindSafe, catch_unwind};

use protobuf::Message as _;

use super::scripts_log::{append, seed_000};
use super::*;
use crate::eraftpb::{Entry, HardState};
use crate::{Invariant, MembershipChange, Starvation};

/// What `f` panicked with.
fn last_words(f: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(f)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap())
}

/// The entries that killed node 3: 622 is of term 4 where its own log has term 1.
fn seed_000_of_the_ancestor(unchecked: bool) -> (Option<String>, Vec<Event>, bool) {
    let (mut group, now) = seed_000();
    group.raw.mut_store().keeps_stale_tail = true;
    group.planted.unchecked = unchecked;
    let mut out = GroupOut::default();
    let messages = [
        append(3, (618, 1), 610, vec![(619, 3)]),
        append(4, (619, 3), 610, vec![(620, 1), (621, 1), (622, 4)]),
    ];
    let words = last_words(|| {
        for msg in messages {
            group.receive(now, ReplicaId(1), msg);
            group.flush(now, now.boot_ns, &mut out);
        }
    });
    (words, out.events, group.is_broken())
}

#[test]
fn f0_a_stale_tail_panics_in_raft_as_it_did_when_nobody_looks() {
    let (words, events, _) = seed_000_of_the_ancestor(true);
    let words = words.expect("raft panics");
    assert!(words.contains("unstable.slice[620, 622] out of bound[620, 620]"), "{words}");
    assert!(!events.iter().any(|event| matches!(event, Event::InvariantViolated { .. })));
    // As built: named one message earlier, and raft is not asked again.
    let (words, events, broken) = seed_000_of_the_ancestor(false);
    let invariant = Invariant::LogViewMismatch;
    assert_eq!((words, broken), (None, true));
    assert!(events.contains(&Event::InvariantViolated { invariant }), "{events:?}");
}

/// Why journal records carry their kind: the bytes alone do not say what they are.
#[test]
fn f0_a_hard_state_without_its_kind_reads_as_an_entry_at_its_commit() {
    let state = HardState { term: 1, vote: 1, commit: 622, ..HardState::default() };
    let entry = Entry::parse_from_bytes(&state.write_to_bytes().unwrap()).unwrap();
    assert_eq!((entry.index, entry.term), (622, 1));
}

/// Three replicas, of which the third reports everything durable and writes nothing.
fn forgetful(unchecked: bool) -> (Option<String>, World) {
    let mut world = World::new(3, 1);
    let third = world.nodes.get_mut(&3).unwrap();
    third.forgets_writes = true;
    third.planted.unchecked = unchecked;
    (1..=3).for_each(|id| world.start(id, true));
    world.run_ms(300);
    for n in 0..22 {
        world.propose(1, &format!("{n}")).unwrap();
    }
    world.run_ms(300);
    world.crash(3, 9);
    world.start(3, false);
    let words = last_words(|| world.run_ms(1_000));
    (words, world)
}

#[test]
fn f1_a_follower_that_acknowledged_without_writing_panics_as_it_did_when_nobody_looks() {
    let (words, _) = forgetful(true);
    let words = words.expect("raft panics");
    assert!(words.contains("to_commit 23 is out of range [last_index 0]"), "{words}");
    let (words, world) = forgetful(false);
    assert_eq!(words, None);
    assert!(world.group(3).is_suspect() && !world.group(3).is_broken());
    let named = "n3 suspect: commit_beyond_log, commit 23, last index 0";
    assert!(world.text().contains(named), "{}", world.text());
}

/// The same follower, which is still asked to commit nothing it lacks: its leader names it.
#[test]
fn f1_a_leader_names_the_follower_that_forgot_what_it_acknowledged() {
    let (_, world) = forgetful(false);
    let leader = world.leader().unwrap();
    let named = format!("n{leader} says n3 forgot: it ends at 0, acknowledged 23");
    assert_eq!(world.text().matches(&named).count(), 1, "once: {}", world.text());
    let said = |world: &World| world.text().contains(" says n");
    let mut sound = World::new(3, 1);
    (1..=3).for_each(|id| sound.start(id, true));
    sound.run_ms(300);
    (0..22).for_each(|n| _ = sound.propose(1, &format!("{n}")).unwrap());
    sound.crash(2, usize::MAX);
    sound.start(2, false);
    sound.run_ms(1_000);
    assert!(!said(&sound), "{}", sound.text());
}

/// Two replicas join a leader with 22 entries. The entries each has after five seconds.
fn joined(lossy: bool) -> (World, [u64; 2]) {
    let mut world = World::new(1, 1);
    if lossy {
        // Defect F1: what a follower answers loses its index and its hint on the way.
        world.tamper = |msg| {
            if msg.get_msg_type() == MessageType::MsgAppendResponse {
                (msg.index, msg.reject_hint) = (0, 0);
            }
        };
    }
    world.start(1, true);
    world.run_ms(50);
    for n in 0..22 {
        world.propose(1, &format!("{n}")).unwrap();
    }
    world.run_ms(50);
    for id in [2, 3] {
        world.join(id, 1);
        world.run_ms(500);
        world.change(&MembershipChange::AddLearner(ReplicaId(id)));
    }
    world.run_ms(5_000);
    let last = [2, 3].map(|id| world.group(id).last_index());
    (world, last)
}

#[test]
fn f1_followers_whose_answers_lose_their_index_never_receive_an_entry() {
    let (world, last) = joined(true);
    assert_eq!(last, [0, 0], "planted: {}", world.text());
    // The leader can tell: they say where they end, and it is not where it sends.
    let behind =
        |peer: &crate::PeerProgress| peer.reported_last_index == Some(0) && peer.next_index > 22;
    let progress = world.group(1).progress();
    assert_eq!(progress.iter().filter(|peer| behind(peer)).count(), 2, "{progress:?}");
    let now = world.now(1);
    let starved = world.group(1).starved(now);
    let past_last = |starved: &crate::Starved| starved.why == Starvation::NextIndexPastLast;
    assert!(starved.len() == 2 && starved.iter().all(past_last), "{starved:?}");
    assert!(starved.iter().all(|starved| starved.ms >= 4_000), "{starved:?}");
    let (world, last) = joined(false);
    assert!(last.iter().all(|last| *last >= 22), "{last:?}\n{}", world.text());
    assert_eq!(world.group(1).starved(world.now(1)), []);
}
