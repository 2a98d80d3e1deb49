//! `/metrics/partitions`: what each partition with a replica here is at, for whoever scrapes it
//! on purpose. `/metrics` stays independent of the number of partitions.
//!
//! Invariant: a partition's name is a topic's, whose characters need no escaping here.

use std::fmt::Write;

use node::GroupView;

/// A gauge per partition; `None`: this replica cannot say.
type Number = fn(&GroupView) -> Option<i64>;

fn index(index: u64) -> Option<i64> {
    i64::try_from(index).ok()
}

/// Names, help and where the number is. Indexes are raft's, offsets Kafka's.
const GAUGES: [(&str, &str, Number); 9] = [
    ("serving", "1 where this replica leads and serves clients.", |g| {
        Some(i64::from(g.status.serving))
    }),
    ("term", "Raft's term, the leader epoch.", |g| index(g.status.term)),
    ("acked_index", "Highest entry acknowledged to a producer by this replica.", |g| {
        index(g.status.acked)
    }),
    ("durable_index", "Highest entry on this broker's disk.", |g| index(g.status.durable)),
    ("quorum_durable_index", "Highest entry that a leader knows on a majority's disks.", |g| {
        g.status.quorum_durable.and_then(index)
    }),
    ("committed_index", "Highest committed entry.", |g| index(g.status.commit)),
    ("applied_index", "Highest applied entry.", |g| index(g.status.applied)),
    ("log_start_offset", "First offset that can be read.", |g| Some(g.status.log_start)),
    ("high_watermark_offset", "Where readers end.", |g| Some(g.high_watermark)),
];

/// The page, in Prometheus' text format.
pub fn render(groups: &[GroupView]) -> String {
    let mut text = String::new();
    let named: Vec<_> = groups.iter().filter_map(|group| Some((labels(group)?, group))).collect();
    for (name, help, number) in GAUGES {
        let name = format!("glasslog_partition_{name}");
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, group) in &named {
            if let Some(value) = number(group) {
                let _ = writeln!(text, "{name}{{{labels}}} {value}");
            }
        }
    }
    text
}

/// `None`: the metadata group, which is no partition.
fn labels(group: &GroupView) -> Option<String> {
    let (topic, partition) = group.status.name.rsplit_once('-')?;
    partition.parse::<u32>().ok()?;
    Some(format!("topic=\"{topic}\",partition=\"{partition}\""))
}

#[cfg(test)]
mod tests {
    use node::MemberStatus;

    use super::*;

    #[test]
    fn every_partition_has_its_ledger_and_followers_say_nothing_of_the_quorum() {
        let group = |name: &str, quorum_durable| {
            let name = name.to_owned();
            let status =
                MemberStatus { name, durable: 9, quorum_durable, ..MemberStatus::default() };
            GroupView { group: 1, high_watermark: 40, status }
        };
        let text = render(&[group("metadata", None), group("a-b-0", Some(8)), group("c-12", None)]);
        for line in [
            "# TYPE glasslog_partition_durable_index gauge\n",
            "glasslog_partition_durable_index{topic=\"a-b\",partition=\"0\"} 9\n",
            "glasslog_partition_durable_index{topic=\"c\",partition=\"12\"} 9\n",
            "glasslog_partition_quorum_durable_index{topic=\"a-b\",partition=\"0\"} 8\n",
            "glasslog_partition_high_watermark_offset{topic=\"c\",partition=\"12\"} 40\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("metadata") && text.matches("quorum_durable_index{").count() == 1);
    }
}
