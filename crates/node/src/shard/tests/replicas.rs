//! Replicas that are given up, removed, hidden by damage, or placed before they begin.

use super::*;

/// Metadata in which a topic `t` has so many partitions.
#[test]
fn a_replica_is_given_up_only_if_a_majority_is_sound_without_it() {
    let mut trio = Trio::new(1);
    trio.serve();
    trio.produce(0, 0, 70, 0, -1);
    let mut asked = 100;
    let mut replaceable = |trio: &mut Trio, replica| {
        asked += 1;
        trio.ask(0, asked, AdminAsk::Replace { replica }, 9_000);
        trio.told(asked) == Some(Ok(AdminAnswer::Replaceable))
    };
    assert!(!replaceable(&mut trio, 1), "the leader itself");
    assert!(!replaceable(&mut trio, 3), "the other may say the same in a moment");
    trio.pass(limits::RENEW_AFTER_MS + 500);
    assert!(replaceable(&mut trio, 3));
    assert!(!replaceable(&mut trio, 2), "it would be the second of three");
    trio.pass(5_000);
    assert!(!replaceable(&mut trio, 2) && !replaceable(&mut trio, 3), "neither, from now on");
    // Another leadership begins without hearsay; whoever is silent counts for nobody.
    let mut trio = Trio::new(1);
    trio.serve();
    assert!(!replaceable(&mut trio, 3));
    trio.pass(limits::RENEW_AFTER_MS + 500);
    trio.cut[1] = true;
    trio.pass(limits::HEARD_LATELY_MS + 200);
    assert!(trio.serves(0) && !replaceable(&mut trio, 3), "the other one is gone");
    trio.cut[1] = false;
    trio.pass(1_000);
    assert!(replaceable(&mut trio, 3));
    trio.shards[0].members.get_mut(&GROUP).unwrap().distrust();
    assert!(!replaceable(&mut trio, 3), "the leader may have forgotten what that one holds");
}

#[test]
fn a_leader_that_lost_its_lease_to_a_suspect_heir_hands_over_before_that_one_is_replaced() {
    let mut trio = Trio::new(1);
    trio.serve();
    trio.pass(1_000);
    trio.shards[2].members.get_mut(&GROUP).unwrap().distrust();
    let now = trio.now();
    let member = trio.shards[0].members.get_mut(&GROUP).unwrap();
    member.group.transfer_leader(now, Some(ReplicaId(3)));
    trio.shards[0].dirty.insert(GROUP);
    trio.settle();
    trio.pass(4_000);
    let lease = |trio: &Trio, at: usize| {
        trio.shards[at].member(GROUP).unwrap().group.lease_remaining_ms(trio.now())
    };
    assert!(trio.serves(0) && lease(&trio, 0).is_none(), "it refused, and the lease is gone");
    let ask = AdminAsk::Replace { replica: 3 };
    trio.ask(0, 100, ask, 9_000);
    trio.pass(limits::RENEW_AFTER_MS + 100);
    trio.ask(0, 101, ask, 9_000);
    trio.pass(500);
    assert!(trio.serves(1) && lease(&trio, 1).is_some(), "another sound one leads");
    trio.ask(1, 102, ask, 9_000);
    trio.pass(limits::RENEW_AFTER_MS + 100);
    trio.ask(1, 103, ask, 9_000);
    assert_eq!(trio.told(103), Some(Ok(AdminAnswer::Replaceable)));
}

/// The journal still has its records: removed without its knowing, the group's next life on this
/// broker would end the broker.
#[test]
fn the_removal_of_a_group_that_is_out_of_service_is_for_the_journal_to_know() {
    let removed = |out: &Out<u32>| out.journal.iter().filter(|write| write.remove).count();
    let mut trio = Trio::new(1);
    trio.pass(2_000);
    let now = trio.now();
    // It fell over while it ran ...
    let mut out = Out::default();
    trio.shards[2].step(now, Input::Panic { group: GROUP }, &mut out);
    trio.shards[2].flush(now, now.boot_ns, &mut out);
    assert!(trio.shards[2].quarantined().contains_key(&GROUP));
    trio.shards[2].step(now, Input::Remove { group: GROUP }, &mut out);
    assert_eq!(removed(&out), 1);
    // ... or could not be put together at the start.
    let (other, mut out) = (GroupId(77), Out::default());
    trio.shards[2].keep_out(other);
    trio.shards[2].step(now, Input::Remove { group: other }, &mut out);
    assert_eq!(removed(&out), 1);
    // One that the journal never heard of has only files.
    let mut out = Out::default();
    trio.shards[2].step(now, Input::Remove { group: GroupId(78) }, &mut out);
    assert_eq!(removed(&out), 0);
    assert!(matches!(out.segments[..], [SegmentWork::Delete { group: GroupId(78) }]));
}

/// All the journal had of it is lost: formed anew under its old id it could vote a second time.
#[test]
fn a_group_that_a_hole_in_the_journal_may_hide_is_not_formed_anew_and_is_suspect_on_disk() {
    let mut trio = Trio::new(1);
    trio.pass(2_000);
    let (now, mut out) = (trio.now(), Out::default());
    let shard = &mut trio.shards[2];
    let mut spec = shard.member(GROUP).expect("it was created").spec().clone();
    spec.group = GroupId(77);
    shard.step(now, Input::KeepOut { group: spec.group }, &mut out);
    shard.step(now, Input::Create { spec: Box::new(spec.clone()) }, &mut out);
    assert!(shard.member(spec.group).is_none());
    let [JournalWrite { suspect: Some(_), create: None, .. }] = &out.journal[..] else {
        panic!("{:?}", out.journal);
    };
    // Removed, it makes room for a replica with a new id.
    shard.step(now, Input::Remove { group: spec.group }, &mut out);
    assert!(out.journal[1].remove);
    shard.step(now, Input::Create { spec: Box::new(spec.clone()) }, &mut out);
    assert!(shard.member(spec.group).is_some());
}

/// Metadata says a placement once per change, and a new replica may hear it before it begins: a
/// leader without one would never report who left.
#[test]
fn a_placement_that_comes_before_its_replica_begins_is_kept_for_it() {
    let mut trio = Trio::new(1);
    trio.pass(2_000);
    let (now, mut out) = (trio.now(), Out::default());
    let shard = &mut trio.shards[2];
    let spec = shard.member(GROUP).expect("it was created").spec().clone();
    let placement =
        Placement { replicas: spec.replicas.clone(), voters: 3, epoch: 5, ..Default::default() };
    shard.step(now, Input::Remove { group: GROUP }, &mut out);
    shard.step(now, Input::Place { group: GROUP, placement: Box::new(placement) }, &mut out);
    shard.step(now, Input::Create { spec: Box::new(spec) }, &mut out);
    let placed = shard.member(GROUP).and_then(|member| member.placement.as_ref());
    assert_eq!(placed.map(|placement| placement.epoch), Some(5));
}
