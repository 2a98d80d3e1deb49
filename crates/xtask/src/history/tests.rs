//! Each anomaly planted into a history that is good without it.

use super::{
    Anomaly, Consumer, History, Step, check, followed, produced, summary, verifiable_consumer,
    verifiable_producer,
};
use crate::oracle::{Acked, Seen};

fn seen(partition: i32, offset: i64, sequence: u64) -> Seen {
    let (client, key) = ("a".to_owned(), format!("a@{partition}"));
    Seen { partition, offset, key, client, sequence }
}

/// Twenty records in two partitions, all acknowledged, read by a follower, a group's member that
/// was rebalanced in between, and a full read.
fn good() -> History {
    let mut history = History::default();
    let mut steps = Vec::new();
    for sequence in 0..20_u64 {
        let partition = i32::try_from(sequence % 2).expect("0 or 1");
        let offset = i64::try_from(sequence / 2).expect("small");
        let at = Some((partition, offset));
        history.acked.push(Acked { client: "a".to_owned(), sequence, at });
        history.full.push(seen(partition, offset, sequence));
        steps.push(Step::Polled(seen(partition, offset, sequence)));
    }
    let mut rebalanced = steps.clone();
    rebalanced.insert(10, Step::Assigned);
    // What was read and not committed comes again.
    rebalanced.insert(11, steps[8].clone());
    history.consumers = vec![
        Consumer { name: "follower".to_owned(), steps },
        Consumer { name: "member".to_owned(), steps: rebalanced },
    ];
    history
}

/// The anomalies of a history in which something was planted.
fn planted(plant: impl FnOnce(&mut History)) -> Vec<Anomaly> {
    let mut history = good();
    plant(&mut history);
    let mut found: Vec<Anomaly> =
        check(&history).into_iter().map(|violation| violation.anomaly).collect();
    found.dedup();
    found
}

#[test]
fn a_good_history_is_good() {
    assert_eq!(check(&good()), []);
}

#[test]
fn a_record_that_was_acknowledged_and_never_read_is_lost() {
    let found = planted(|history| {
        history.acked.push(Acked { client: "a".to_owned(), sequence: 20, at: Some((0, 10)) });
    });
    assert_eq!(found, [Anomaly::Lost, Anomaly::Unseen]);
}

#[test]
fn a_record_that_was_read_and_is_gone_later_is_lost_also_without_an_acknowledgement() {
    let found = planted(|history| {
        history.consumers[0].steps.push(Step::Polled(seen(0, 10, 20)));
    });
    assert_eq!(found, [Anomaly::Lost]);
}

#[test]
fn a_record_at_two_offsets_is_a_duplicate() {
    let found = planted(|history| history.full.push(seen(1, 10, 19)));
    assert!(found.contains(&Anomaly::Duplicate), "{found:?}");
}

#[test]
fn two_records_at_one_offset_are_inconsistent() {
    let found = planted(|history| {
        let Step::Polled(read) = &mut history.consumers[0].steps[18] else { panic!("a poll") };
        read.sequence = 99;
    });
    assert_eq!(found, [Anomaly::InconsistentOffset, Anomaly::Unseen]);
}

#[test]
fn a_record_that_is_not_where_it_was_acknowledged_is_inconsistent() {
    let found = planted(|history| history.acked[18].at = Some((0, 11)));
    assert_eq!(found, [Anomaly::InconsistentOffset]);
}

#[test]
fn offsets_that_go_back_without_a_rebalance_are_not_monotonic() {
    let found = planted(|history| {
        let again = history.consumers[0].steps[8].clone();
        history.consumers[0].steps.insert(11, again);
    });
    assert_eq!(found, [Anomaly::NonMonotonicPoll]);
    let stuck = planted(|history| {
        let again = history.consumers[0].steps[8].clone();
        history.consumers[0].steps.insert(8, again);
    });
    assert_eq!(stuck, [Anomaly::NonMonotonicPoll]);
}

#[test]
fn a_record_that_a_follower_passed_over_is_unseen() {
    let found = planted(|history| drop(history.consumers[0].steps.remove(5)));
    assert_eq!(found, [Anomaly::Unseen]);
}

#[test]
fn a_record_that_was_refused_and_is_read_is_an_aborted_read() {
    let found = planted(|history| history.refused.push(("a".to_owned(), 20)));
    assert_eq!(found, []);
    let found = planted(|history| {
        history.refused.push(("a".to_owned(), 20));
        history.full.push(seen(0, 10, 20));
    });
    assert_eq!(found, [Anomaly::AbortedRead]);
}

#[test]
fn holes_and_another_order_are_seen_in_the_full_read() {
    let found = planted(|history| {
        history.full[19].offset = 10;
        history.acked[19].at = Some((1, 10));
        for consumer in &mut history.consumers {
            let Some(Step::Polled(last)) = consumer.steps.last_mut() else { panic!("a poll") };
            last.offset = 10;
        }
    });
    assert_eq!(found, [Anomaly::Hole]);
    let found = planted(|history| {
        let steps = history.consumers.iter_mut().flat_map(|consumer| &mut consumer.steps);
        let polled = steps.filter_map(|step| match step {
            Step::Polled(seen) => Some(seen),
            Step::Assigned => None,
        });
        let swap = |sequence: u64| match sequence {
            2 => 4,
            4 => 2,
            other => other,
        };
        for seen in polled.chain(&mut history.full) {
            seen.sequence = swap(seen.sequence);
        }
        history.acked.iter_mut().for_each(|ack| ack.sequence = swap(ack.sequence));
    });
    assert_eq!(found, [Anomaly::Reordered]);
}

#[test]
fn violations_are_counted_by_name() {
    let mut history = good();
    history.consumers[0].steps.truncate(18);
    assert_eq!(summary(&check(&history)), "2 unseen");
}

#[test]
fn lines_of_our_own_programs_are_read_and_a_cut_line_is_left_out() {
    let text = "ack\t1\t7\t9\t100\t200\nfail\t0\t10\tcertain\ttoo large\n\
                fail\t0\t11\tunsure\ttimed out\nack\t1\t8\t1";
    let found = produced("r", text).expect("understood");
    assert_eq!(found.acked, [Acked { client: "r".to_owned(), sequence: 9, at: Some((1, 7)) }]);
    assert_eq!((found.refused, found.unsure), (vec![("r".to_owned(), 10)], 1));
    assert_eq!((found.times[0].sent_us, found.times[0].acked_us), (100, 200));
    assert!(produced("r", "junk\n").is_err());
    let read = followed("0\t4\tr 12\n0\t5\t7.13\n").expect("understood");
    assert_eq!((read[0].client.as_str(), read[0].sequence), ("r", 12));
    assert_eq!((read[1].client.as_str(), read[1].sequence), ("7", 13));
    assert!(followed("0\t4\tsomebody else's\n").is_err());
}

#[test]
fn lines_of_the_verifiable_programs_are_read() {
    let text = r#"{"timestamp":1,"name":"startup_complete"}
{"timestamp":2,"name":"producer_send_success","key":null,"value":"7.0","partition":2,"offset":5,"topic":"t"}
{"timestamp":3,"name":"producer_send_error","key":null,"value":"7.1","exception":"class org.apache.kafka.common.errors.TimeoutException","message":"m","topic":"t"}
{"timestamp":4,"name":"producer_send_error","key":null,"value":"7.2","exception":"class org.apache.kafka.common.errors.RecordTooLargeException","message":"m","topic":"t"}
"#;
    let found = verifiable_producer(text).expect("understood");
    assert_eq!(found.acked, [Acked { client: "7".to_owned(), sequence: 0, at: Some((2, 5)) }]);
    assert_eq!((found.refused, found.unsure), (vec![("7".to_owned(), 2)], 1));
    assert!(verifiable_producer("{\"name\":\"news\"}\n").is_err());

    let text = r#"{"timestamp":1,"name":"partitions_assigned","partitions":[{"topic":"t","partition":2}]}
{"timestamp":2,"name":"record_data","key":null,"value":"7.0","topic":"t","partition":2,"offset":5}
{"timestamp":3,"name":"records_consumed","count":1,"partitions":[]}
"#;
    let steps = verifiable_consumer(text).expect("understood");
    assert_eq!(steps[0], Step::Assigned);
    let Step::Polled(read) = &steps[1] else { panic!("a poll") };
    assert_eq!((read.partition, read.offset, read.sequence), (2, 5, 0));
}
