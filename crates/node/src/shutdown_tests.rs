//! The manifest of a shutdown: what it says, and that the next start believes nothing less.

use model::GroupId;
use telemetry::labels::Invariant;
use telemetry::metrics;

use crate::datadir::layout;
use crate::manifest::Manifest;
use crate::rebuild_tests::{DEADLINE, alone, create, produce, serving, until};

fn violations() -> u64 {
    metrics().invariant_violations_total.at(Invariant::ShutdownManifest).get()
}

/// One life: `records` more in each of two partitions, then an orderly end.
fn live(
    dir: &std::path::Path,
    runtime: &tokio::runtime::Runtime,
    from: i64,
    records: i64,
) -> GroupId {
    let node = alone(dir);
    runtime.block_on(async {
        until("readiness", || node.readiness().ready).await;
        let groups = match node.image().topic("panics") {
            Some(topic) => topic.partitions.iter().map(|partition| partition.group).collect(),
            None => create(&node).await,
        };
        for group in &groups {
            serving(&node, *group).await;
            for offset in from..from + records {
                assert_eq!(produce(&node, *group).await, Ok(offset));
            }
        }
        assert!(node.shutdown(DEADLINE, |_| ()).await);
        groups[0]
    })
}

#[test]
fn a_shutdown_says_where_it_ended_and_the_next_start_checks_it() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let before = violations();
    live(dir.path(), &runtime, 0, 5);
    let group = live(dir.path(), &runtime, 5, 5);
    assert_eq!(violations(), before, "nothing was lost between the two lives");
    let path = dir.path().join("1").join(layout::MANIFEST);
    let mut manifest = Manifest::decode(&std::fs::read(&path).unwrap()).unwrap();
    let end = manifest.groups.iter_mut().find(|end| end.group == group.0).unwrap();
    assert_eq!(end.high_watermark, 10);
    assert!(end.acked > 0 && end.acked == end.committed && end.durable == end.last_index);
    assert_eq!(end.applied, end.committed, "a checkpoint of all of it was written");
    // As if the disk had forgotten the newest entries.
    (end.last_index, end.durable, end.acked) = (end.last_index + 2, end.durable + 2, end.acked + 2);
    std::fs::write(&path, manifest.encode()).unwrap();
    let node = alone(dir.path());
    assert_eq!(violations(), before + 1, "one group broke its promise");
    assert!(!path.exists(), "judged once");
    runtime.block_on(async {
        let suspect = |group: GroupId| {
            let status = node.status();
            status.groups.iter().any(|view| view.group == group.0 && view.status.suspect)
        };
        until("suspicion", || suspect(group)).await;
        let others = node.status().groups.iter().filter(|view| view.status.suspect).count();
        assert_eq!(others, 1, "the other groups are believed");
        assert!(node.shutdown(DEADLINE, |_| ()).await);
    });
}
