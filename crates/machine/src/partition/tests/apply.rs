//! What apply records, and what it refuses.

use model::{EntryKind, ErrorCode, PrefixChecksum};
use wire::records::{BatchHeader, NO_TIMESTAMP, TimestampType};

use super::*;
use crate::{ApplyError, SnapshotError};

#[test]
fn a_batch_is_stamped_applied_and_counted() {
    let mut leader = Leader::new(9);
    let stamp = leader.stamp(plain(3));
    let Stamp::Append { data, append_time_ms, .. } = stamp else { panic!("{stamp:?}") };
    let header = BatchHeader::parse(&data).unwrap();
    assert_eq!((header.base_offset, header.leader_epoch, append_time_ms), (0, 9, NO_TIMESTAMP));
    leader.stamp(plain(2));
    assert_eq!(
        leader.apply(),
        Applied::Batch { base_offset: 3, last_offset: 4, max_timestamp: 1_000, leader_epoch: 9 }
    );
    assert_eq!(leader.machine.max_timestamp(), Some((1_000, 2)), "the first batch that has it");
}

#[test]
fn log_append_time_is_the_leaders() {
    let machine = PartitionMachine::new();
    let mut lead = machine.lead(1);
    let config = StampConfig { timestamp_type: TimestampType::LogAppendTime, ..CONFIG };
    let batch = idempotent(7, 0, 0, 1);
    let stamp = lead.stamp(&machine, now(77), batch.clone(), &config);
    let Stamp::Append { data, append_time_ms: 77, .. } = stamp else { panic!("{stamp:?}") };
    let header = BatchHeader::parse(&data).unwrap();
    assert_eq!((header.max_timestamp, header.crc), (77, crc32c::crc32c(&data[21..])));
    let again = lead.stamp(&machine, now(99), batch, &config);
    assert_eq!(again, Stamp::Duplicate { base_offset: 0, last_offset: 0, append_time_ms: 77 });
}

#[test]
fn size_and_time_are_the_topics_rules() {
    let machine = PartitionMachine::new();
    let mut lead = machine.lead(1);
    let code = |config: &StampConfig, ms: i64, lead: &mut PartitionLead| match lead.stamp(
        &machine,
        now(ms),
        plain(1),
        config,
    ) {
        Stamp::Reject(code, _) => Some(code),
        _ => None,
    };
    let small = StampConfig { max_message_bytes: plain(1).len() - 1, ..CONFIG };
    assert_eq!(code(&small, 1_000, &mut lead), Some(ErrorCode::MessageTooLarge));
    let narrow = StampConfig { timestamp_before_max_ms: 10, timestamp_after_max_ms: 20, ..CONFIG };
    assert_eq!(code(&narrow, 1_011, &mut lead), Some(ErrorCode::InvalidTimestamp));
    assert_eq!(code(&narrow, 979, &mut lead), Some(ErrorCode::InvalidTimestamp));
    assert_eq!(lead.next_offset(), 0);
    assert_eq!(code(&narrow, 1_010, &mut lead), None);
    assert_eq!(code(&narrow, 980, &mut lead), None);
    let appended = StampConfig { timestamp_type: TimestampType::LogAppendTime, ..narrow };
    assert_eq!(code(&appended, 9_999, &mut lead), None, "the leader's own time is always right");
}

#[test]
fn entries_that_contradict_the_log_are_refused_and_change_nothing() {
    let mut leader = Leader::new(4);
    leader.stamp(idempotent(7, 0, 0, 2));
    leader.apply();
    leader.stamp(idempotent(7, 0, 2, 2));
    let good = leader.log[1].clone();
    let before = leader.machine.clone();
    let mut refuse = |entry: LogEntry, expected: fn(&ApplyError) -> bool| {
        let error = leader.machine.apply(&entry).unwrap_err();
        assert!(expected(&error), "{error}");
        assert_eq!(leader.machine, before, "{error}");
    };
    let context = |prefix: PrefixChecksum, kind: EntryKind, data: &[u8]| {
        LogEntry::encode_context(kind, crate::chain::chain(prefix, kind, data))
    };
    let rechained = |data: Bytes| LogEntry {
        context: context(before.prefix(), EntryKind::Batch, &data),
        data,
        ..good.clone()
    };
    let patched = |at: usize, bytes: &[u8]| {
        let mut data = good.data.to_vec();
        data[at..at + bytes.len()].copy_from_slice(bytes);
        Bytes::from(data)
    };

    refuse(LogEntry { index: 1, ..good.clone() }, |e| matches!(e, ApplyError::Index { .. }));
    for at in 0..5 {
        let mut bytes = good.context.to_vec();
        bytes[at] ^= 0x40;
        let entry = LogEntry { context: bytes.into(), ..good.clone() };
        refuse(entry, |e| matches!(e, ApplyError::Foreign { .. } | ApplyError::Prefix { .. }));
    }
    let foreign = LogEntry { context: Bytes::new(), ..good.clone() };
    refuse(foreign, |e| matches!(e, ApplyError::Foreign { .. }));
    let flipped = LogEntry { data: patched(70, &[0xee]), ..good.clone() };
    refuse(flipped, |e| matches!(e, ApplyError::Prefix { .. }));
    let offset = rechained(patched(0, &3i64.to_be_bytes()));
    refuse(offset, |e| matches!(e, ApplyError::Offset { stamped: 3, count: 2, .. }));
    let epoch = rechained(patched(12, &3i32.to_be_bytes()));
    refuse(epoch, |e| matches!(e, ApplyError::Epoch { stamped: 3, term: 4, .. }));
    let sequence = rechained(patched(53, &9i32.to_be_bytes()));
    refuse(sequence, |e| matches!(e, ApplyError::Sequence { sequence: 9, last: 1, .. }));
    let count = rechained(patched(57, &9i32.to_be_bytes()));
    refuse(count, |e| matches!(e, ApplyError::Malformed { .. }));
    let cut = rechained(good.data.slice(..good.data.len() - 1));
    refuse(cut, |e| matches!(e, ApplyError::Malformed { .. }));
    let kind = EntryKind::Metadata;
    let other = LogEntry {
        context: context(before.prefix(), kind, b"x"),
        data: "x".into(),
        ..good.clone()
    };
    refuse(other, |e| matches!(e, ApplyError::Kind { .. }));
    leader.apply();
    assert_eq!(leader.machine.next_offset(), 4);
}

#[test]
fn raft_entries_take_no_offset_and_do_not_enter_the_chain() {
    let mut leader = Leader::new(1);
    leader.stamp(plain(1));
    leader.next_term(2);
    let mut change = leader.log.last().unwrap().clone();
    change.index += 1;
    change.entry_type = RaftEntryType::ConfChangeV2;
    change.data = Bytes::from_static(b"voters");
    let prefix = leader.machine.prefix();
    assert_eq!(leader.machine.apply(&change), Ok(Applied::Nothing));
    assert_eq!((leader.machine.prefix(), leader.machine.next_offset()), (prefix, 1));
    assert_eq!(leader.machine.applied_index(), 3);
}

#[test]
fn control_entries_do_what_they_say_and_no_more() {
    let mut leader = Leader::new(1);
    leader.stamp(plain(10));
    leader.control(Proposal::Roll);
    assert_eq!(leader.apply(), Applied::Roll);
    leader.control(Proposal::LogStart { offset: 4 });
    assert_eq!(leader.apply(), Applied::LogStart { offset: 4 });
    leader.control(Proposal::LogStart { offset: 4 });
    assert_eq!(leader.apply(), Applied::Nothing);
    assert_eq!(leader.machine.log_start(), 4);
    leader.control(Proposal::LogStart { offset: 11 });
    let error = leader.machine.apply(leader.log.last().unwrap()).unwrap_err();
    assert!(matches!(error, ApplyError::Offset { stamped: 11, count: 10, .. }), "{error}");
    for (kind, length) in [(EntryKind::Roll, 1), (EntryKind::LogStart, 7), (EntryKind::LogStart, 9)]
    {
        assert_eq!(Proposal::decode(kind, &vec![0; length]), None);
    }
}

#[test]
fn epochs_answer_where_a_leader_ended() {
    let mut leader = Leader::new(2);
    leader.stamp(plain(5));
    leader.next_term(3);
    leader.next_term(6);
    leader.stamp(plain(5));
    leader.apply();
    let end = |m: &PartitionMachine, e| m.epoch_end(e).map(|a| (a.leader_epoch, a.end_offset));
    let m = &leader.machine;
    assert_eq!(
        [1, 2, 3, 5, 6, 7].map(|e| end(m, e)),
        [None, Some((2, 5)), Some((2, 5)), Some((2, 5)), Some((6, 10)), None,]
    );
    assert_eq!([0, 4, 5, 9, 10].map(|o| m.epoch_at(o)), [Some(2), Some(2), Some(6), Some(6), None]);

    leader.control(Proposal::LogStart { offset: 5 });
    leader.apply();
    assert_eq!(leader.machine.epoch_starts(), [(6, 5)]);
    leader.control(Proposal::LogStart { offset: 10 });
    leader.apply();
    assert_eq!(end(&leader.machine, 6), Some((6, 10)), "the newest epoch outlives its records");
    assert_eq!(leader.machine.max_timestamp(), None);
    leader.next_term(8);
    leader.stamp(plain(1));
    leader.apply();
    assert_eq!(leader.machine.epoch_starts(), [(8, 10)]);
}

#[test]
fn snapshots_name_what_is_wrong_with_them() {
    let mut leader = Leader::new(1);
    leader.stamp(idempotent(7, 0, 0, 2));
    leader.apply();
    let good = leader.machine.snapshot();
    assert_eq!(PartitionMachine::restore(&good).as_ref(), Ok(&leader.machine));
    assert_eq!(PartitionMachine::restore(&[]), Err(SnapshotError::Truncated));
    assert_eq!(PartitionMachine::restore(&[9, 0, 1, 2]), Err(SnapshotError::Version(9)));
    assert_eq!(PartitionMachine::restore(&good[..20]), Err(SnapshotError::Checksum));
}

#[test]
fn a_snapshot_with_producers_out_of_order_is_refused() {
    let mut leader = Leader::new(1);
    leader.stamp(idempotent(1, 0, 0, 1));
    leader.stamp(idempotent(2, 0, 0, 1));
    leader.apply();
    let mut bytes = leader.machine.snapshot();
    // Two producers of one batch each precede the last two fields: the first one's id becomes 3.
    let (producers, body) = (bytes.len() - 12 - 2 * 35, bytes.len() - 4);
    assert_eq!(bytes[producers], 1);
    bytes[producers] = 3;
    let crc = crc32c::crc32c(&bytes[..body]);
    bytes[body..].copy_from_slice(&crc.to_le_bytes());
    let error = PartitionMachine::restore(&bytes).unwrap_err();
    assert!(matches!(error, SnapshotError::Inconsistent(_)), "{error}");
}
