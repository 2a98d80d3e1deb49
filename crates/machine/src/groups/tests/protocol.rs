//! The classic protocol, rule by rule.

use super::world::*;
use crate::groups::lead::GroupsConfig;
use crate::groups::record::{Record, decode_offset};
use crate::groups::{
    Caller, CommittedOffset, CoordinatorMachine, Dropped, Effects, Request, Response,
};
use model::ErrorCode;
use wire::api::join_group::JoinGroupResponse;
use wire::api::leave_group::{LeaveGroupRequest, MemberIdentity};
use wire::api::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};

/// A group of two, stable; the leader first.
fn two(world: &mut World) -> (JoinGroupResponse, JoinGroupResponse) {
    let first = world.join("", None);
    let first = world.joined(first);
    let second = world.join("", None);
    assert!(world.answer(second).is_none(), "it waits for the first to join again");
    assert_eq!(world.beat(&first.member_id, 1), ErrorCode::RebalanceInProgress);
    let first = world.join(&first.member_id, None);
    let (first, second) = (world.joined(first), world.joined(second));
    assert_eq!((first.generation_id, second.generation_id), (2, 2));
    assert_eq!((&first.leader, &second.leader), (&first.member_id, &first.member_id));
    assert_eq!((first.members.len(), second.members.len()), (2, 0), "only the leader sees all");
    let waits = world.sync(&second, &[]);
    assert!(world.answer(waits).is_none(), "it waits for the leader's assignment");
    let leads = world.sync(&first, &[(&first.member_id, "a"), (&second.member_id, "b")]);
    assert_eq!(world.synced(leads).assignment.as_ref(), b"a");
    assert_eq!(world.synced(waits).assignment.as_ref(), b"b");
    (first, second)
}

#[test]
fn two_members_share_and_the_rest_of_one_goes_to_the_other() {
    let mut world = World::without_delay();
    let (first, second) = two(&mut world);
    assert_eq!(world.beat(&second.member_id, 2), ErrorCode::None);
    assert_eq!(world.leave(&first.member_id), ErrorCode::None);
    assert_eq!(world.beat(&second.member_id, 2), ErrorCode::RebalanceInProgress);
    let again = world.join(&second.member_id, None);
    let again = world.joined(again);
    assert_eq!((again.generation_id, &again.leader), (3, &second.member_id));
    assert_eq!(world.beat(&second.member_id, 2), ErrorCode::IllegalGeneration);
    assert_eq!(world.beat("stranger", 3), ErrorCode::UnknownMemberId);
}

#[test]
fn the_first_members_of_a_group_wait_a_little_for_more() {
    let mut world = World::new(GroupsConfig::default());
    let first = world.join("", None);
    world.pass(2_000);
    let second = world.join("", None);
    world.pass(2_000);
    assert!(world.answers.is_empty(), "the second prolonged the wait");
    world.pass(1_100);
    assert_eq!(world.joined(first).generation_id, 1);
    assert_eq!(world.joined(second).generation_id, 1);
}

#[test]
fn a_new_member_is_told_its_id_first_and_may_come_back_with_it() {
    let mut world = World::without_delay();
    let (caller, request) = joining("", None, &["range"], 1);
    let caller = Caller { knows_member_id_required: true, ..caller };
    let ticket = world.ask(Request::Join(caller.clone(), request.clone()));
    let told = world.joined(ticket);
    assert_eq!(told.error_code, ErrorCode::MemberIdRequired);
    let ticket = world.join(&told.member_id, None);
    assert_eq!(world.joined(ticket).generation_id, 1);
    // One that never comes back is forgotten, and holds nobody up.
    let ticket = world.ask(Request::Join(caller, request));
    let lost = world.joined(ticket).member_id;
    world.pass(11_000);
    let ticket = world.join(&lost, None);
    assert_eq!(world.joined(ticket).error_code, ErrorCode::UnknownMemberId);
}

#[test]
fn silence_ends_a_session_and_only_heartbeats_keep_it() {
    let mut world = World::without_delay();
    let (first, second) = two(&mut world);
    world.pass(6_000);
    assert_eq!(world.beat(&second.member_id, 2), ErrorCode::None);
    world.pass(6_000);
    assert_eq!(world.beat(&second.member_id, 2), ErrorCode::RebalanceInProgress);
    assert_eq!(world.beat(&first.member_id, 2), ErrorCode::UnknownMemberId);
}

#[test]
fn a_session_that_begins_with_its_assignment_ends_in_time() {
    let mut world = World::without_delay();
    let ticket = world.join("", None);
    let joined = world.joined(ticket);
    world.at_once = false;
    world.sync(&joined, &[(&joined.member_id, "all")]);
    // While it waits for the log nothing else is due than the rebalance's own end.
    world.pass(50);
    world.apply_all();
    world.pass(9_950);
    assert_eq!(world.lead.members(), 1);
    world.pass(50);
    assert_eq!(world.lead.members(), 0, "it was never heard of again");
}

#[test]
fn who_does_not_join_again_in_time_is_left_behind() {
    let mut world = World::without_delay();
    let (first, second) = two(&mut world);
    let third = world.join("", None);
    let second_again = world.join(&second.member_id, None);
    for _ in 0..4 {
        world.pass(8_000);
        world.beat(&first.member_id, 2);
    }
    let (third, second_again) = (world.joined(third), world.joined(second_again));
    assert_eq!((third.generation_id, second_again.generation_id), (3, 3));
    assert_eq!(world.beat(&first.member_id, 3), ErrorCode::UnknownMemberId);
}

#[test]
fn a_static_member_that_restarts_moves_nobody_and_its_old_self_is_fenced() {
    let mut world = World::without_delay();
    let ticket = world.join("", Some("host-1"));
    let before = world.joined(ticket);
    let ticket = world.sync(&before, &[(&before.member_id, "all")]);
    assert_eq!(world.synced(ticket).assignment.as_ref(), b"all");
    let ticket = world.join("", Some("host-1"));
    let after = world.joined(ticket);
    assert_eq!(after.generation_id, before.generation_id, "no rebalance");
    assert_ne!(after.member_id, before.member_id);
    assert!(after.skip_assignment && after.leader == after.member_id);
    let ticket = world.sync(&after, &[]);
    assert_eq!(world.synced(ticket).assignment.as_ref(), b"all");
    let ticket = world.join(&before.member_id, Some("host-1"));
    assert_eq!(world.joined(ticket).error_code, ErrorCode::FencedInstanceId);
    // An operator removes it by its instance alone.
    let identity =
        MemberIdentity { group_instance_id: Some("host-1".into()), ..Default::default() };
    let leave = LeaveGroupRequest {
        group_id: GROUP.into(),
        members: vec![identity],
        ..LeaveGroupRequest::default()
    };
    let ticket = world.ask(Request::Leave(leave));
    let Some(Response::Leave(left)) = world.answer(ticket) else { panic!("no answer") };
    assert_eq!(left.members[0].error_code, ErrorCode::None);
    assert_eq!(world.beat(&after.member_id, 1), ErrorCode::UnknownMemberId);
}

#[test]
fn a_static_leader_that_restarts_moves_nobody_even_if_it_cannot_be_told_to_assign_nothing() {
    let mut world = World::without_delay();
    let ticket = world.join("", Some("host-1"));
    let before = world.joined(ticket);
    let ticket = world.sync(&before, &[(&before.member_id, "all")]);
    world.synced(ticket);
    let (mut caller, request) = joining("", Some("host-1"), &["range"], 77);
    caller.knows_skip_assignment = false;
    let ticket = world.ask(Request::Join(caller, request));
    let after = world.joined(ticket);
    assert_eq!(after.generation_id, before.generation_id, "no rebalance");
    assert_eq!(after.leader, before.member_id, "it must not take itself for the leader");
    assert!(!after.skip_assignment && after.members.is_empty());
    let ticket = world.sync(&after, &[]);
    assert_eq!(world.synced(ticket).assignment.as_ref(), b"all");
    // It leads all the same: when it wants a rebalance there is one, and it assigns.
    let ticket = world.join(&after.member_id, Some("host-1"));
    let again = world.joined(ticket);
    assert_eq!((again.generation_id, &again.leader), (before.generation_id + 1, &after.member_id));
}

#[test]
fn what_all_support_is_chosen_and_what_nobody_shares_is_refused() {
    let mut world = World::without_delay();
    let first = world.ask(join("", None, &["sticky", "range"], 1));
    let first = world.joined(first);
    assert_eq!(first.protocol_name.as_deref(), Some("sticky"));
    let second = world.ask(join("", None, &["range"], 2));
    let first = world.ask(join(&first.member_id, None, &["sticky", "range"], 3));
    assert_eq!(world.joined(first).protocol_name.as_deref(), Some("range"));
    world.joined(second);
    let other = world.ask(join("", None, &["own"], 4));
    assert_eq!(world.joined(other).error_code, ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn commits_are_answered_when_applied_and_by_members_of_the_generation_only() {
    let mut world = World::without_delay();
    let (first, _) = two(&mut world);
    world.at_once = false;
    let ticket = world.commit(&first.member_id, 2, 42);
    assert!(world.answer(ticket).is_none(), "not before it is applied");
    assert_eq!(world.fetched().0, -1);
    world.apply_all();
    assert_eq!(world.committed(ticket), ErrorCode::None);
    assert_eq!(world.fetched(), (42, "note".into()));
    for (member, generation, code) in [
        (first.member_id.as_str(), 1, ErrorCode::IllegalGeneration),
        ("stranger", 2, ErrorCode::UnknownMemberId),
        ("", -1, ErrorCode::UnknownMemberId),
    ] {
        let ticket = world.commit(member, generation, 7);
        assert_eq!(world.committed(ticket), code, "{member} {generation}");
    }
    let ticket = world.ask(commit(world.topic, &first.member_id, 2, 43, &"x".repeat(5_000)));
    assert_eq!(world.committed(ticket), ErrorCode::OffsetMetadataTooLarge);
    assert_eq!(world.fetched().0, 42);
}

#[test]
fn offsets_without_members_are_kept_for_their_retention() {
    let mut world = World::without_delay();
    let ticket = world.commit("", -1, 5);
    assert_eq!(world.committed(ticket), ErrorCode::None);
    world.pass(6 * 24 * 3_600_000);
    assert_eq!(world.fetched().0, 5);
    world.pass(2 * 24 * 3_600_000);
    assert_eq!(world.fetched().0, -1);
    assert!(world.machine.groups().is_empty());
}

#[test]
fn a_group_is_deleted_when_nobody_is_in_it() {
    let mut world = World::without_delay();
    let (first, second) = two(&mut world);
    let ticket = world.commit(&first.member_id, 2, 9);
    assert_eq!(world.committed(ticket), ErrorCode::None);
    let delete = |world: &mut World| {
        let ticket = world.ask(Request::Delete { group: GROUP.into() });
        match world.answer(ticket) {
            Some(Response::Delete(code)) => code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(delete(&mut world), ErrorCode::NonEmptyGroup);
    let offsets = OffsetDeleteRequest {
        group_id: GROUP.into(),
        topics: vec![OffsetDeleteRequestTopic {
            name: "t".into(),
            partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
        }],
    };
    let ticket = world.ask(Request::DeleteOffsets(offsets));
    let Some(Response::DeleteOffsets(told)) = world.answer(ticket) else { panic!("no answer") };
    assert_eq!(told.topics[0].partitions[0].error_code, ErrorCode::GroupSubscribedToTopic);
    world.leave(&first.member_id);
    world.leave(&second.member_id);
    assert_eq!(world.fetched().0, 9, "offsets outlive their members");
    assert_eq!(delete(&mut world), ErrorCode::None);
    assert_eq!(delete(&mut world), ErrorCode::GroupIdNotFound);
    assert!(world.machine.groups().is_empty());
}

#[test]
fn a_new_coordinator_goes_on_with_the_same_members_and_frees_those_who_waited() {
    let mut world = World::without_delay();
    let (first, second) = two(&mut world);
    let parked = world.join("", None);
    assert_eq!(world.fail_over(), [parked], "who waited is told");
    assert_eq!(world.beat(&second.member_id, 2), ErrorCode::None);
    let ticket = world.commit(&first.member_id, 2, 11);
    assert_eq!(world.committed(ticket), ErrorCode::None);
    let ticket = world.sync(&second, &[]);
    assert_eq!(world.synced(ticket).assignment.as_ref(), b"b", "its share is known here too");
}

#[test]
fn an_assignment_is_handed_out_only_once_it_is_in_the_log() {
    let mut world = World::without_delay();
    let ticket = world.join("", None);
    let joined = world.joined(ticket);
    world.at_once = false;
    let ticket = world.sync(&joined, &[(&joined.member_id, "all")]);
    assert!(world.answer(ticket).is_none());
    let token = world.waiting.remove(0).token;
    let mut effects = Effects::default();
    world.lead.dropped(world.now, token, Dropped::NotNow, &mut effects);
    let [(told, Response::Sync(sync))] = &effects.replies[..] else { panic!("{effects:?}") };
    assert_eq!((*told, sync.error_code), (ticket, ErrorCode::RebalanceInProgress));
}

#[test]
fn a_snapshot_is_the_whole_state_and_any_bytes_are_survived() {
    let mut world = World::without_delay();
    let (first, _) = two(&mut world);
    let ticket = world.commit(&first.member_id, 2, 42);
    assert_eq!(world.committed(ticket), ErrorCode::None);
    let bytes = world.machine.snapshot();
    let back = CoordinatorMachine::restore(&bytes).expect("reads back");
    assert_eq!(back, world.machine);
    assert_eq!(back.snapshot(), bytes);
    for length in 0..bytes.len() {
        let cut = CoordinatorMachine::restore(&bytes[..length]);
        assert!(cut.is_err() || cut.is_ok_and(|cut| cut != world.machine), "{length}");
    }
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x40;
        // Whatever it says, it does not panic.
        let _ = CoordinatorMachine::restore(&flipped);
    }
}

#[test]
fn records_are_those_of_kafka() {
    let raft_group = None;
    let metadata = "m".to_owned();
    let offset = CommittedOffset { offset: 7, leader_epoch: 2, metadata, commit_ms: 9, raft_group };
    let record = Record::offset("g", "t", 1, Some(&offset));
    assert_eq!(&record.key[..], b"\0\x01\0\x01g\0\x01t\0\0\0\x01");
    let value = b"\0\x03\0\0\0\0\0\0\0\x07\0\0\0\x02\0\x01m\0\0\0\0\0\0\0\x09";
    assert_eq!(record.value.as_deref(), Some(&value[..]));
    // The flexible version, with one tagged field: 10,000, eight bytes.
    let offset = CommittedOffset { raft_group: Some(model::GroupId(5)), ..offset };
    let record = Record::offset("g", "t", 1, Some(&offset));
    let value = b"\0\x04\0\0\0\0\0\0\0\x07\0\0\0\x02\x02m\0\0\0\0\0\0\0\x09\
        \x01\x90\x4e\x08\0\0\0\0\0\0\0\x05";
    assert_eq!(record.value.as_deref(), Some(&value[..]));
    assert_eq!(decode_offset(value), Ok(Some(offset.clone())));
    // Tags of others are passed over.
    let mut foreign = value.to_vec();
    foreign.splice(24..25, *b"\x02\0\x01\xff");
    assert_eq!(decode_offset(&foreign), Ok(Some(offset)));
    assert_eq!(Record::group("g", None).key[..], *b"\0\x02\0\x01g");
}

#[test]
fn a_group_has_the_partition_that_kafka_gives_it() {
    use crate::groups::partition_for;
    // Java: "console-consumer-1".hashCode() and "".hashCode(), without the sign, modulo 50.
    assert_eq!(partition_for("", 50), 0);
    assert_eq!(partition_for("a", 50), 97 % 50);
    assert_eq!(partition_for("ab", 50), (97 * 31 + 98) % 50);
    assert!((0..50).contains(&partition_for("a group with a long name, beyond 31 bits", 50)));
}

#[test]
fn no_text_is_taken_that_a_record_cannot_hold() {
    let long = "n".repeat(40_000);
    for named_by_client in [false, true] {
        let mut world = World::without_delay();
        let name = if named_by_client { "range" } else { long.as_str() };
        let (mut caller, request) = joining("", None, &[name], 1);
        if named_by_client {
            caller.client_id.clone_from(&long);
        }
        let ticket = world.ask(Request::Join(caller, request));
        assert_eq!(world.joined(ticket).error_code, ErrorCode::InvalidRequest);
        assert_eq!(world.lead.members(), 0);
    }
    let config = GroupsConfig { metadata_bytes_max: 100_000, ..GroupsConfig::default() };
    let mut world = World::new(config);
    let ticket = world.ask(commit(world.topic, "", -1, 1, &long));
    assert_eq!(world.committed(ticket), ErrorCode::OffsetMetadataTooLarge);
}

#[test]
fn a_commit_that_would_grow_beyond_any_batch_is_refused_before_it_does() {
    let mut world = World::new(GroupsConfig::default());
    world.lead.batches_up_to(10_000);
    world.at_once = false;
    for (times, code) in [(100, ErrorCode::InvalidCommitOffsetSize), (3, ErrorCode::None)] {
        let mut request = commit(world.topic, "", -1, 1, "");
        if let Request::Commit(commit) = &mut request {
            commit.group_id = "g".repeat(3_000);
            let again = commit.topics[0].partitions[0].clone();
            commit.topics[0].partitions.resize(times, again);
        }
        let ticket = world.ask(request);
        let kept: usize = world.waiting.iter().map(|append| append.records.len()).sum();
        assert_eq!(kept, if code == ErrorCode::None { times } else { 0 });
        world.apply_all();
        assert_eq!(world.committed(ticket), code);
    }
}

#[test]
fn what_no_batch_can_hold_is_refused_for_good() {
    let mut world = World::without_delay();
    let ticket = world.join("", None);
    let joined = world.joined(ticket);
    world.at_once = false;
    let commit = world.commit("", -1, 7);
    assert_eq!(world.committed(commit), ErrorCode::UnknownMemberId);
    let sync = world.sync(&joined, &[(&joined.member_id, "all")]);
    let token = world.waiting.remove(0).token;
    let mut effects = Effects::default();
    world.lead.dropped(world.now, token, Dropped::TooLarge, &mut effects);
    let [(told, Response::Sync(response))] = &effects.replies[..] else { panic!("{effects:?}") };
    assert_eq!((*told, response.error_code), (sync, ErrorCode::UnknownServerError));

    let mut world = World::without_delay();
    world.at_once = false;
    let commit = world.commit("", -1, 7);
    let token = world.waiting.remove(0).token;
    let mut effects = Effects::default();
    world.lead.dropped(world.now, token, Dropped::TooLarge, &mut effects);
    let [(told, Response::Commit(response))] = &effects.replies[..] else { panic!("{effects:?}") };
    let code = response.topics[0].partitions[0].error_code;
    assert_eq!((*told, code), (commit, ErrorCode::InvalidCommitOffsetSize));
}

#[test]
fn a_commit_under_way_is_not_forgotten_with_what_it_replaces() {
    let mut world = World::without_delay();
    let ticket = world.commit("", -1, 1);
    assert_eq!(world.committed(ticket), ErrorCode::None);
    world.now.wall_ms += world.config.retention_ms + 1;
    world.at_once = false;
    let ticket = world.commit("", -1, 2);
    // Long enough for a look at retention.
    world.pass(model::limits::OFFSETS_EXPIRE_EVERY_MS + 1);
    world.apply_all();
    assert_eq!(world.committed(ticket), ErrorCode::None);
    assert_eq!(world.fetched(), (2, "note".into()), "an acknowledged commit is lost");
    // Nobody commits any more: it is forgotten in its turn.
    world.at_once = true;
    world.now.wall_ms += world.config.retention_ms + 1;
    world.pass(model::limits::OFFSETS_EXPIRE_EVERY_MS + 1);
    assert_eq!(world.fetched().0, -1);
}

#[test]
fn a_topic_does_not_inherit_the_offsets_of_its_deleted_namesake() {
    let mut world = World::without_delay();
    let (first, _) = two(&mut world);
    let ticket = world.commit(&first.member_id, 2, 42);
    assert_eq!(world.committed(ticket), ErrorCode::None);
    let old = world.topic;
    world.recreate_topic();
    assert_eq!(world.fetched().0, -1, "nobody is told of it, at once");
    let ticket = world.ask(commit(old, &first.member_id, 2, 43, ""));
    assert_eq!(world.committed(ticket), ErrorCode::UnknownTopicOrPartition, "it comes too late");
    assert!(world.machine.groups().offset(GROUP, "t", 0).is_some());
    world.pass(1_500);
    assert_eq!(world.machine.groups().offset(GROUP, "t", 0), None, "it is dropped for good");
    let ticket = world.commit(&first.member_id, 2, 7);
    assert_eq!(world.committed(ticket), ErrorCode::None);
    world.pass(1_500);
    assert_eq!(world.fetched().0, 7, "the namesake's own offset stays");
}

#[test]
fn a_new_coordinator_drops_what_its_predecessor_left_of_a_deleted_topic() {
    let mut world = World::without_delay();
    let ticket = world.commit("", -1, 42);
    assert_eq!(world.committed(ticket), ErrorCode::None);
    world.recreate_topic();
    world.fail_over();
    assert_eq!(world.fetched().0, -1);
    world.pass(50);
    assert!(world.machine.groups().is_empty());
}

#[test]
fn a_tombstone_for_the_old_topic_does_not_take_a_commit_for_the_new_one() {
    let mut world = World::without_delay();
    let ticket = world.commit("", -1, 42);
    assert_eq!(world.committed(ticket), ErrorCode::None);
    world.recreate_topic();
    world.at_once = false;
    let ticket = world.commit("", -1, 7);
    world.pass(1_500);
    world.apply_all();
    assert_eq!(world.committed(ticket), ErrorCode::None);
    world.at_once = true;
    world.pass(1_500);
    assert_eq!(world.fetched().0, 7, "an acknowledged commit is lost");
}

#[test]
fn a_topic_the_coordinator_has_not_heard_of_yet_keeps_its_offsets() {
    let mut world = World::without_delay();
    world.recreate_topic();
    let older = world.image.clone();
    world.recreate_topic();
    let ticket = world.commit("", -1, 42);
    assert_eq!(world.committed(ticket), ErrorCode::None);
    // The next coordinator is behind: it knows deleted topics, and not yet this one.
    let newer = std::mem::replace(&mut world.image, older);
    world.fail_over();
    world.pass(1_500);
    world.image = newer;
    assert_eq!(world.fetched().0, 42);
}
