//! Groups that leave more behind than one batch can hold.

use model::{ErrorCode, limits};
use wire::api::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use wire::records::BATCH_HEADER_LEN;

use super::world::*;
use crate::groups::lead::Append;
use crate::groups::record::Record;
use crate::groups::{CommittedOffset, Dropped, Request, Response, StoredGroup};

/// More than 1 MiB of tombstones, and five batches.
const OFFSETS: i32 = 300;

/// A group of so many offsets of topic `t`, each with a tombstone of 4 KiB.
fn crowded(offsets: i32) -> (World, String) {
    let mut world = World::without_delay();
    let id = "g".repeat(limits::GROUP_TEXT_BYTES_MAX - 40);
    let raft_group = world.image.topic("t").map(|topic| topic.partitions[0].group);
    let value = CommittedOffset { commit_ms: world.now.wall_ms, raft_group, ..Default::default() };
    let stored = StoredGroup { state_ms: world.now.wall_ms, ..StoredGroup::default() };
    let mut records = vec![Record::group(&id, Some(&stored))];
    records.extend((0..offsets).map(|n| Record::offset(&id, "t", n, Some(&value))));
    for records in records.chunks(200) {
        // A token nobody waits for.
        world.apply(Append { token: u64::MAX, records: records.to_vec() });
    }
    assert_eq!(left(&world, &id), offsets as usize);
    world.at_once = false;
    (world, id)
}

fn left(world: &World, id: &str) -> usize {
    world.machine.groups().offsets(id).count()
}

fn delete(world: &mut World, id: &str) -> u64 {
    world.ask(Request::Delete { group: id.to_owned() })
}

fn deleted(world: &mut World, ticket: u64) -> Option<ErrorCode> {
    match world.answer(ticket)? {
        Response::Delete(code) => Some(code),
        other => panic!("{other:?}"),
    }
}

/// No part is larger.
fn small_enough(world: &World, bytes_max: usize) {
    for append in &world.waiting {
        assert!(append.batch(world.now.wall_ms).len() <= bytes_max, "a part of {bytes_max}");
    }
}

#[test]
fn committed_offsets_are_told_page_by_page_each_once_and_in_order() {
    let mut world = World::without_delay();
    let mut wanted = Vec::new();
    // Pages end within a topic, within a group and between groups.
    for (group, topic, partitions) in
        [("a", "t", 700), ("a", "u", 600), ("b", "t", 700), ("c", "t", 3), ("c", "tt", 2)]
    {
        let value = |n: i32| CommittedOffset { offset: i64::from(n) * 10, ..Default::default() };
        let records: Vec<_> =
            (0..partitions).map(|n| Record::offset(group, topic, n, Some(&value(n)))).collect();
        for records in records.chunks(200) {
            world.apply(Append { token: u64::MAX, records: records.to_vec() });
        }
        wanted.extend((0..partitions).map(|n| (group.to_owned(), topic.to_owned(), n)));
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let ticket = world.ask(Request::Committed { after: after.clone() });
        let Some(Response::Committed(page)) = world.answer(ticket) else { panic!("a page") };
        assert!(page.iter().all(|row| row.offset == i64::from(row.partition) * 10));
        let last = page.len() < limits::COMMITTED_PAGE_MAX;
        found.extend(page.into_iter().map(|row| (row.group, row.topic, row.partition)));
        after = found.last().cloned();
        if last {
            break;
        }
    }
    assert_eq!(found, wanted);
}

#[test]
fn a_group_with_more_tombstones_than_a_batch_holds_is_deleted_in_parts() {
    let (mut world, id) = crowded(OFFSETS);
    let ticket = delete(&mut world, &id);
    assert_eq!(world.waiting.len(), 5);
    small_enough(&world, limits::TOMBSTONE_BATCH_BYTES);
    while world.waiting.len() > 1 {
        world.apply_next();
        assert_eq!(deleted(&mut world, ticket), None, "it is not done");
        assert!(world.machine.groups().group(&id).is_some(), "the group itself goes last");
    }
    assert!(left(&world, &id) < OFFSETS as usize);
    world.apply_next();
    assert_eq!(deleted(&mut world, ticket), Some(ErrorCode::None));
    assert!(world.machine.groups().is_empty());
    let ticket = delete(&mut world, &id);
    assert_eq!(deleted(&mut world, ticket), Some(ErrorCode::GroupIdNotFound));
}

#[test]
fn of_a_removal_with_a_part_dropped_the_rest_goes_when_asked_again() {
    // One in the middle, the first two, the last, a part and the last.
    for lost in [vec![2], vec![0, 1], vec![4], vec![3, 4]] {
        let (mut world, id) = crowded(OFFSETS);
        let ticket = delete(&mut world, &id);
        for at in lost.iter().rev() {
            let token = world.waiting.remove(*at).token;
            world.drop_append(token, Dropped::NotNow);
        }
        let told = deleted(&mut world, ticket);
        assert_eq!(told, Some(ErrorCode::CoordinatorNotAvailable), "{lost:?}");
        world.apply_all();
        assert_eq!(deleted(&mut world, ticket), None, "nobody is told twice");
        assert!(world.machine.groups().knows(&id), "{lost:?}: half of it is gone");
        world.at_once = true;
        let ticket = delete(&mut world, &id);
        assert_eq!(deleted(&mut world, ticket), Some(ErrorCode::None), "{lost:?}");
        assert!(world.machine.groups().is_empty(), "{lost:?}");
    }
}

#[test]
fn a_coordinator_that_ends_amid_a_removal_frees_its_asker_and_the_next_goes_on() {
    let (mut world, id) = crowded(OFFSETS);
    let ticket = delete(&mut world, &id);
    world.apply_next();
    world.apply_next();
    assert_eq!(world.fail_over(), [ticket]);
    assert!(left(&world, &id) > 0 && left(&world, &id) < OFFSETS as usize);
    world.at_once = true;
    let ticket = delete(&mut world, &id);
    assert_eq!(deleted(&mut world, ticket), Some(ErrorCode::None));
    assert!(world.machine.groups().is_empty());
}

fn delete_offsets(id: &str, partitions: impl Iterator<Item = i32>) -> Request {
    let asked = |partition_index| OffsetDeleteRequestPartition { partition_index };
    let partitions = partitions.map(asked).collect();
    Request::DeleteOffsets(OffsetDeleteRequest {
        group_id: id.to_owned(),
        topics: vec![OffsetDeleteRequestTopic { name: "t".into(), partitions }],
    })
}

#[test]
fn offsets_are_deleted_in_parts_and_each_once_however_often_it_is_named() {
    let (mut world, id) = crowded(OFFSETS);
    let ticket = world.ask(delete_offsets(&id, (0..OFFSETS).chain(0..OFFSETS)));
    let records: usize = world.waiting.iter().map(|append| append.records.len()).sum();
    assert_eq!(records, OFFSETS as usize);
    small_enough(&world, limits::TOMBSTONE_BATCH_BYTES);
    while world.waiting.len() > 1 {
        world.apply_next();
        assert!(world.answer(ticket).is_none());
    }
    world.apply_next();
    let Some(Response::DeleteOffsets(told)) = world.answer(ticket) else { panic!("no answer") };
    assert_eq!(told.error_code, ErrorCode::None);
    assert_eq!((left(&world, &id), world.machine.groups().knows(&id)), (0, true));
}

#[test]
fn what_nobody_needs_goes_in_parts_too() {
    for deleted in [false, true] {
        let (mut world, id) = crowded(OFFSETS);
        if deleted {
            world.recreate_topic();
        } else {
            world.now.wall_ms += world.config.retention_ms + 1;
        }
        world.pass(limits::OFFSETS_EXPIRE_EVERY_MS + 1);
        assert!(world.waiting.len() > 1);
        small_enough(&world, limits::TOMBSTONE_BATCH_BYTES);
        world.apply_all();
        assert_eq!(left(&world, &id), 0);
    }
}

#[test]
fn a_removal_is_bounded_and_its_asker_comes_again() {
    let tombstone = limits::GROUP_TEXT_BYTES_MAX;
    let offsets = limits::TOMBSTONES_BYTES_AT_ONCE / tombstone + 100;
    let (mut world, id) = crowded(offsets as i32);
    world.at_once = true;
    let ticket = delete(&mut world, &id);
    assert_eq!(deleted(&mut world, ticket), Some(ErrorCode::CoordinatorNotAvailable));
    assert!(world.machine.groups().group(&id).is_some(), "it outlives its offsets");
    assert!((1..200).contains(&left(&world, &id)));
    let ticket = delete(&mut world, &id);
    assert_eq!(deleted(&mut world, ticket), Some(ErrorCode::None));
    assert!(world.machine.groups().is_empty());
}

#[test]
fn parts_fit_a_log_that_takes_only_small_batches() {
    let (mut world, id) = crowded(20);
    world.lead.batches_up_to(10_000);
    delete(&mut world, &id);
    assert_eq!(world.waiting.len(), 11, "two in each, the group at the end");
    small_enough(&world, 10_000);
    // One in each: less than that is no batch.
    world.lead.batches_up_to(BATCH_HEADER_LEN);
    world.waiting.clear();
    delete(&mut world, &id);
    assert_eq!(world.waiting.len(), 21);
    assert!(world.waiting.iter().all(|append| append.records.len() == 1));
}
