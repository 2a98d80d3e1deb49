//! A leader stamps two batches, one of them sent twice; a second replica applies the entries
//! and holds the same bytes. Run with `cargo run --release -p machine --example two_replicas`.

use machine::config::TopicConfig;
use machine::partition::{PartitionMachine, Stamp};
use model::{LogEntry, Now, RaftEntryType};
use wire::records::{BatchBuilder, BatchRules, validate};

fn main() {
    let now = Now { boot_ns: 0, wall_ms: 1_000 };
    let config = TopicConfig::default().stamp();
    let (mut first, mut second) = (PartitionMachine::new(), PartitionMachine::new());
    let mut lead = first.lead(1);
    let mut log = Vec::new();
    for sequence in [0, 1, 1] {
        let batch = BatchBuilder::new(1_000).producer(7, 0, sequence).value(b"hello").build();
        validate(&batch, &BatchRules::for_produce(9)).expect("a sound batch");
        match lead.stamp(&first, now, batch, &config) {
            Stamp::Append { context, data, base_offset, .. } => {
                println!("sequence {sequence}: appended at offset {base_offset}");
                let (index, entry_type) = (log.len() as u64 + 1, RaftEntryType::Normal);
                log.push(LogEntry { index, term: 1, entry_type, context, data });
            }
            Stamp::Duplicate { base_offset, .. } => {
                println!("sequence {sequence}: already at offset {base_offset}");
            }
            Stamp::Reject(code, why) => println!("{}: {why}", code.as_str()),
        }
    }
    for entry in &log {
        first.apply(entry).expect("what the leader stamped");
        second.apply(entry).expect("what the leader stamped");
    }
    lead.applied(first.next_offset());
    assert_eq!(first.snapshot(), second.snapshot());
    println!("{} records, prefix checksum {:#010x} on both", first.next_offset(), first.prefix().0);
}
