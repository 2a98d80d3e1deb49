//! KIP-98's table, over applied state and over batches in flight.

use super::*;

/// One line per batch: (producer, epoch, sequence, records) and what becomes of it; "apply"
/// between lines applies all.
fn script(lines: &[(&str, i64, i16, i32, usize, &str)]) {
    for applies in [false, true] {
        // Whose past is not known, so that Kafka's own rule holds for unknown producers.
        let mut leader = Leader::of(older(), 3);
        for (what, id, epoch, sequence, count, expected) in lines {
            if *what == "apply" || applies {
                leader.apply();
            }
            let stamp = leader.stamp(idempotent(*id, *epoch, *sequence, *count));
            assert_eq!(outcome(&stamp), *expected, "{what} (applied in between: {applies})");
        }
        leader.apply();
        assert_eq!(leader.lead.tail_len(), 0, "the tail retires");
        assert_eq!(leader.lead.next_offset(), leader.machine.next_offset());
        assert_eq!(leader.lead.mark().prefix, leader.machine.prefix());
    }
}

#[test]
fn sequences_and_epochs_follow_kip_98() {
    script(&[
        ("first batch", 7, 0, 0, 3, "append 0-2"),
        ("next", 7, 0, 3, 2, "append 3-4"),
        ("resend of the newest", 7, 0, 3, 2, "duplicate 3-4"),
        ("resend of an older one", 7, 0, 0, 3, "duplicate 0-2"),
        ("a part of one is no resend", 7, 0, 3, 1, "OUT_OF_ORDER_SEQUENCE_NUMBER"),
        ("a gap", 7, 0, 6, 1, "OUT_OF_ORDER_SEQUENCE_NUMBER"),
        ("another producer", 8, 5, 0, 1, "append 5-5"),
        ("an older epoch", 8, 4, 1, 1, "INVALID_PRODUCER_EPOCH"),
        ("a new epoch not from 0", 8, 6, 1, 1, "OUT_OF_ORDER_SEQUENCE_NUMBER"),
        ("a new epoch from 0", 8, 6, 0, 1, "append 6-6"),
        ("the old epoch's resend is fenced", 8, 5, 0, 1, "INVALID_PRODUCER_EPOCH"),
        ("the new epoch's resend", 8, 6, 0, 1, "duplicate 6-6"),
        ("unknown producer in the middle", 9, 0, 41, 1, "append 7-7"),
        ("and on from there", 9, 0, 42, 1, "append 8-8"),
    ]);
}

#[test]
fn a_new_producer_begins_at_zero_and_a_forgotten_one_anywhere() {
    let mut leader = Leader::new(1);
    let begin = |leader: &mut Leader, id, sequence| {
        let stamp = leader.stamp(idempotent(id, 0, sequence, 1));
        leader.apply();
        outcome(&stamp)
    };
    // Batch 0 was refused before the leader served; its successors must not overtake it.
    assert_eq!(begin(&mut leader, 7, 3), "OUT_OF_ORDER_SEQUENCE_NUMBER");
    assert_eq!(begin(&mut leader, 7, 0), "append 0-0");
    leader.control(Proposal::ExpireProducers { before_ms: 9_000, below_offset: 1 });
    assert_eq!(leader.apply(), Applied::ProducersExpired { count: 1 });
    assert_eq!(begin(&mut leader, 8, 1), "OUT_OF_ORDER_SEQUENCE_NUMBER", "8 was never known");
    leader.machine = PartitionMachine::restore(&leader.machine.snapshot()).unwrap();
    leader.next_term(2);
    assert_eq!(begin(&mut leader, 8, 1), "OUT_OF_ORDER_SEQUENCE_NUMBER", "nor after a restart");
    assert_eq!(begin(&mut leader, 7, 1), "append 1-1", "7 was known and goes on");
}

#[test]
fn a_producer_older_than_a_re_created_topic_begins_anywhere_and_a_younger_one_at_zero() {
    let mut leader = Leader::of(PartitionMachine::of_topic(8), 1);
    assert_eq!(outcome(&leader.stamp(idempotent(8, 0, 3, 1))), "OUT_OF_ORDER_SEQUENCE_NUMBER");
    assert_eq!(outcome(&leader.stamp(idempotent(7, 0, 3, 1))), "append 0-0");
    assert_eq!(outcome(&leader.stamp(idempotent(7, 0, 5, 1))), "OUT_OF_ORDER_SEQUENCE_NUMBER");
    assert_eq!(outcome(&leader.stamp(idempotent(7, 0, 3, 1))), "duplicate 0-0");
    leader.apply();
    leader.machine = PartitionMachine::restore(&leader.machine.snapshot()).unwrap();
    leader.next_term(2);
    assert_eq!(outcome(&leader.stamp(idempotent(6, 0, 9, 1))), "append 1-1");
}

#[test]
fn snapshots_of_the_first_format_are_read_and_their_producers_may_be_anyone() {
    let mut leader = Leader::new(1);
    leader.stamp(idempotent(7, 0, 0, 1));
    leader.apply();
    let restored = PartitionMachine::restore(&first_format(&leader.machine)).unwrap();
    assert_eq!(restored.producer_count(), 1);
    assert_eq!(restored.next_offset(), 1);
    let mut leader = Leader::of(restored, 2);
    assert_eq!(outcome(&leader.stamp(idempotent(7, 0, 0, 1))), "duplicate 0-0");
    assert_eq!(outcome(&leader.stamp(idempotent(9, 0, 41, 1))), "append 1-1");
}

#[test]
fn sequences_wrap_at_the_largest() {
    script(&[
        ("close to the end", 7, 0, i32::MAX - 1, 4, "append 0-3"),
        ("resend across the end", 7, 0, i32::MAX - 1, 4, "duplicate 0-3"),
        ("not 0 again", 7, 0, 0, 1, "OUT_OF_ORDER_SEQUENCE_NUMBER"),
        ("but 2", 7, 0, 2, 1, "append 4-4"),
        ("exactly at the end", 8, 0, i32::MAX, 1, "append 5-5"),
        ("then 0", 8, 0, 0, 1, "append 6-6"),
    ]);
}

#[test]
fn five_batches_are_remembered_once_applied() {
    let mut leader = Leader::new(1);
    for sequence in 0..6 {
        leader.stamp(idempotent(7, 0, sequence, 1));
    }
    leader.apply();
    let resend = |leader: &mut Leader, s| outcome(&leader.stamp(idempotent(7, 0, s, 1)));
    assert_eq!(resend(&mut leader, 0), "OUT_OF_ORDER_SEQUENCE_NUMBER");
    assert_eq!(resend(&mut leader, 1), "duplicate 1-1");
    assert_eq!(resend(&mut leader, 5), "duplicate 5-5");
    assert_eq!(leader.log.len(), 6);
}

#[test]
fn a_resend_is_found_after_failover_and_restart() {
    let mut leader = Leader::new(1);
    leader.stamp(idempotent(7, 0, 0, 2));
    leader.next_term(2);
    assert_eq!(outcome(&leader.stamp(idempotent(7, 0, 0, 2))), "duplicate 0-1");
    leader.machine = PartitionMachine::restore(&leader.machine.snapshot()).unwrap();
    leader.next_term(5);
    assert_eq!(outcome(&leader.stamp(idempotent(7, 0, 0, 2))), "duplicate 0-1");
    assert_eq!(outcome(&leader.stamp(idempotent(7, 0, 2, 1))), "append 2-2");
}

#[test]
fn rollback_forgets_what_was_never_appended() {
    let mut leader = Leader::of(older(), 1);
    leader.stamp(idempotent(7, 0, 0, 2));
    let (mark, length) = (leader.lead.mark(), leader.log.len());
    leader.stamp(idempotent(7, 0, 2, 2));
    leader.stamp(idempotent(8, 0, 0, 1));
    leader.stamp(plain(4));
    leader.control(Proposal::Roll);
    // The first batch is applied while the others still wait for their fate.
    leader.machine.apply(&leader.log[0]).unwrap();
    leader.lead.applied(leader.machine.next_offset());
    leader.applied = 1;
    leader.lead.rollback(mark);
    leader.log.truncate(length);
    assert_eq!(leader.lead.next_offset(), 2);
    assert_eq!(leader.lead.tail_len(), 0);
    assert_eq!(outcome(&leader.stamp(idempotent(7, 0, 2, 2))), "append 2-3");
    assert_eq!(outcome(&leader.stamp(idempotent(8, 0, 7, 1))), "append 4-4");
    assert_eq!(outcome(&leader.stamp(idempotent(7, 0, 0, 2))), "duplicate 0-1");
    assert!(matches!(leader.apply(), Applied::Batch { base_offset: 4, .. }));
}

#[test]
fn producers_are_bounded_and_the_longest_silent_goes_first() {
    let bound = model::limits::PRODUCERS_PER_PARTITION_MAX as i64;
    let mut leader = Leader::new(1);
    for id in 0..bound {
        leader.stamp(idempotent(id, 0, 0, 1));
    }
    leader.stamp(idempotent(0, 0, 1, 1));
    leader.apply();
    leader.stamp(idempotent(bound, 0, 0, 1));
    leader.apply();
    assert_eq!(leader.machine.producer_count() as i64, bound);
    assert_eq!(
        outcome(&leader.stamp(idempotent(0, 0, 1, 1))),
        format!("duplicate {bound}-{bound}")
    );
    // Producer 1 was the one to go: its resend is taken for new, at any sequence. Those above
    // it are still told apart.
    assert_eq!(
        outcome(&leader.stamp(idempotent(bound + 1, 0, 3, 1))),
        "OUT_OF_ORDER_SEQUENCE_NUMBER"
    );
    assert_eq!(
        outcome(&leader.stamp(idempotent(1, 0, 0, 1))),
        format!("append {0}-{0}", bound + 2)
    );
}

#[test]
fn producers_expire_by_time_only_when_silent_in_the_log_too() {
    let mut leader = Leader::new(1);
    leader.stamp(idempotent(7, 0, 0, 1));
    leader.stamp(idempotent(8, 0, 0, 1));
    leader.apply();
    let day = 86_400_000;
    let look = |leader: &mut Leader, ms: i64| {
        let at = now(ms);
        leader.lead.expire(&leader.machine, at, day as u64)
    };
    assert_eq!(look(&mut leader, 3 * day), None, "a new leader has not seen anyone silent");
    // Producer 8 replays old data: its timestamps are old, but it is there.
    leader.stamp(idempotent(8, 0, 1, 1));
    leader.apply();
    assert_eq!(look(&mut leader, 3 * day + day / 2), None);
    let proposal = look(&mut leader, 4 * day).unwrap();
    assert_eq!(proposal, Proposal::ExpireProducers { before_ms: 3 * day, below_offset: 2 });
    leader.control(proposal);
    assert_eq!(leader.apply(), Applied::ProducersExpired { count: 1 });
    assert_eq!(leader.machine.producers().map(|p| p.producer_id).collect::<Vec<_>>(), [8]);
    assert_eq!(look(&mut leader, 4 * day + 1), None, "nobody left to expire");
}
