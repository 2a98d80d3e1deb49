//! What a fault cost, as seen by the producer that watches closely.

use std::collections::BTreeMap;

use crate::cases::failover::Ack;
use crate::cluster::Cluster;

/// The longest time between two acknowledgements of each partition that acknowledged anything,
/// from `since_us` on: a JVM that starts beside the producer is no fault.
pub fn gaps_ms(times: &[Ack], since_us: u64) -> Vec<f64> {
    let mut by_partition: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
    for ack in times.iter().filter(|ack| ack.acked_us >= since_us) {
        by_partition.entry(ack.partition).or_default().push(ack.acked_us);
    }
    let longest = |acks: &mut Vec<u64>| {
        acks.sort_unstable();
        let gaps = acks.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or(0) as f64 / 1_000.0
    };
    by_partition.values_mut().map(longest).collect()
}

/// Elections that each broker's replicas began in its present life, by broker.
pub struct Elections(BTreeMap<i32, (Option<u32>, f64)>);

impl Elections {
    pub fn read(cluster: &Cluster) -> Result<Elections, String> {
        let of = |id: i32| {
            let count = cluster.metrics_of(id)?.sum("glasslog_raft_elections_total")?;
            Ok((id, (cluster.pid(id), count)))
        };
        cluster.ids().into_iter().map(of).collect::<Result<_, String>>().map(Elections)
    }

    /// How many began since `before`. A broker that was started again counts from nothing: what
    /// it began between `before` and its end is not known.
    pub fn since(&self, before: &Elections) -> f64 {
        let of = |(id, (pid, count)): (&i32, &(Option<u32>, f64))| match before.0.get(id) {
            Some((same, earlier)) if same == pid => count - earlier,
            _ => *count,
        };
        self.0.iter().map(of).sum()
    }
}

/// The value below which `share` of the samples lie.
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Elections, gaps_ms, quantile};
    use crate::cases::failover;

    #[test]
    fn each_partition_has_its_longest_gap() {
        let text = "0\t0\t1000\n1\t0\t1000\n0\t0\t3000\n1\t0\t9000\n0\t0\t2500\n";
        let times = failover::parse(text).expect("lines");
        assert_eq!(gaps_ms(&times, 0), [1.5, 8.0]);
        assert_eq!(gaps_ms(&times, 2_000), [0.5, 0.0]);
    }

    #[test]
    fn a_broker_that_was_started_again_counts_its_elections_from_nothing() {
        let page = |pid: u32, count: f64| Elections(BTreeMap::from([(1, (Some(pid), count))]));
        assert_eq!(page(7, 5.0).since(&page(7, 3.0)), 2.0);
        assert_eq!(page(8, 5.0).since(&page(7, 3.0)), 5.0);
    }

    #[test]
    fn a_quantile_of_few_samples_is_one_of_them() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.99), 3.0);
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
