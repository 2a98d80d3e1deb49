//! Random logs: replicas agree byte by byte, whatever road they took.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Plain(usize),
    /// Producer, records, and how far the sequence is from the right one.
    Producer(i64, usize, i32),
    NewEpoch(i64),
    Apply,
    Term,
    LogStart(u8),
    Roll,
    Expire(u8),
    Dropped(i64, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (1..5usize).prop_map(Step::Plain),
        6 => (0..4i64, 1..5usize, prop_oneof![5 => Just(0), 1 => -9..9i32])
            .prop_map(|(id, count, off)| Step::Producer(id, count, off)),
        1 => (0..4i64).prop_map(Step::NewEpoch),
        3 => Just(Step::Apply),
        1 => Just(Step::Term),
        1 => any::<u8>().prop_map(Step::LogStart),
        1 => Just(Step::Roll),
        1 => any::<u8>().prop_map(Step::Expire),
        2 => (0..4i64, 1..5usize).prop_map(|(id, count)| Step::Dropped(id, count)),
    ];
    proptest::collection::vec(step, 1..80)
}

/// What each producer believes: epoch and next sequence.
type Clients = [(i16, i32); 4];

fn run(steps: &[Step]) -> Leader {
    let mut leader = Leader::of(older(), 1);
    let mut clients: Clients = [(0, i32::MAX - 6); 4];
    for step in steps {
        match *step {
            Step::Plain(count) => drop(leader.stamp(plain(count))),
            Step::Producer(id, count, off) => {
                let (epoch, next) = clients[id as usize];
                let sequence = next.wrapping_add(off) & i32::MAX;
                let stamp = leader.stamp(idempotent(id, epoch, sequence, count));
                if matches!(stamp, Stamp::Append { .. }) {
                    let next = (i64::from(sequence) + count as i64) & i64::from(i32::MAX);
                    clients[id as usize].1 = next as i32;
                } else {
                    assert_ne!(off, 0, "a batch in sequence must be accepted: {stamp:?}");
                }
            }
            Step::NewEpoch(id) => clients[id as usize] = (clients[id as usize].0 + 1, 0),
            Step::Apply => drop(leader.apply()),
            Step::Term => leader.next_term(leader.term + 1),
            Step::LogStart(part) => {
                let offset = leader.lead.next_offset() * i64::from(part) / 255;
                leader.control(Proposal::LogStart { offset });
            }
            Step::Roll => leader.control(Proposal::Roll),
            Step::Expire(part) => {
                let below_offset = leader.machine.next_offset() * i64::from(part) / 255;
                leader.control(Proposal::ExpireProducers { before_ms: 2_000, below_offset });
            }
            Step::Dropped(id, count) => {
                let (mark, length) = (leader.lead.mark(), leader.log.len());
                let (epoch, next) = clients[id as usize];
                leader.stamp(idempotent(id, epoch, next, count));
                leader.lead.rollback(mark);
                leader.log.truncate(length);
            }
        }
    }
    leader.apply();
    leader
}

proptest! {
    #[test]
    fn replicas_that_applied_the_same_entries_are_byte_identical(
        steps in steps(), restart in any::<prop::sample::Index>(),
    ) {
        let leader = run(&steps);
        let mut replica = older();
        for entry in &leader.log {
            replica.apply(entry).unwrap();
        }
        prop_assert_eq!(replica.snapshot(), leader.machine.snapshot());

        let at = restart.index(leader.log.len() + 1);
        let mut restarted = older();
        for entry in &leader.log[..at] {
            restarted.apply(entry).unwrap();
        }
        restarted = PartitionMachine::restore(&restarted.snapshot()).unwrap();
        for entry in &leader.log[at..] {
            restarted.apply(entry).unwrap();
        }
        prop_assert_eq!(restarted.snapshot(), leader.machine.snapshot());
        prop_assert_eq!(&restarted, &leader.machine);
    }

    #[test]
    fn an_entry_left_out_or_swapped_is_noticed(
        steps in steps(), at in any::<prop::sample::Index>(),
    ) {
        let log = run(&steps).log;
        let visible: Vec<_> = log.iter().filter(|e| !e.context.is_empty()).collect();
        prop_assume!(visible.len() > 1);
        let gone = at.index(visible.len() - 1);
        let mut replica = older();
        let kept = visible.iter().enumerate().filter(|(i, _)| *i != gone);
        prop_assert!(kept.map(|(_, e)| replica.apply(e)).any(|r| r.is_err()));
    }

    #[test]
    fn hostile_snapshots_never_panic(
        steps in steps(), at in any::<prop::sample::Index>(), value: u8, cut in any::<prop::sample::Index>(),
    ) {
        let good = run(&steps).machine.snapshot();
        let mut bytes = good.clone();
        let at = at.index(bytes.len() - 4);
        bytes[at] = value;
        bytes.truncate(bytes.len() - cut.index(bytes.len() - 4) * usize::from(value & 1));
        let body = bytes.len() - 4;
        let crc = crc32c::crc32c(&bytes[..body]);
        bytes[body..].copy_from_slice(&crc.to_le_bytes());
        if let Ok(machine) = PartitionMachine::restore(&bytes) {
            // Whatever is believed is a state that can go on and be written again.
            prop_assert_eq!(machine.snapshot(), bytes);
            let term = machine.last_epoch().unwrap_or(0).max(1) as u64;
            if machine.next_offset() < i64::MAX / 2 {
                machine.lead(term).stamp(&machine, now(5_000), plain(1), &CONFIG);
            }
        }
    }

    #[test]
    fn random_bytes_are_no_snapshot(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(PartitionMachine::restore(&bytes).is_err());
    }
}
