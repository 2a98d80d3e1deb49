//! Who gets a row, what stays of it, and how lag adds up; then a whole broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use machine::groups::{Committed, Request as GroupRequest, Response as GroupResponse};
use machine::metadata::PlacedTopic;
use machine::metadata::{BrokerRegistration, Command, Image, MetadataLead, MetadataMachine};
use model::{
    BrokerId, DirectoryId, GroupId, Incarnation, LogEntry, RaftEntryType, TopicId, limits,
};
use telemetry::{metrics, render};

use super::lag::{Lags, Offsets};
use super::topics::Topics;
use super::{Counts, Traffic};
use crate::rebuild_tests::{DEADLINE, alone, create, create_topic, produce, until};
use crate::view::{PartitionView, TailBudget};

/// Metadata that changes, and replicas of everything.
struct World {
    machine: MetadataMachine,
    lead: MetadataLead,
    index: u64,
    views: BTreeMap<GroupId, Arc<PartitionView>>,
}

impl World {
    fn new() -> World {
        let machine = MetadataMachine::new();
        let lead = machine.lead();
        let mut world = World { machine, lead, index: 0, views: BTreeMap::new() };
        world.apply(&Command::RegisterBroker(BrokerRegistration {
            id: BrokerId(1),
            directory: DirectoryId([1; 16]),
            incarnation: Incarnation(1),
            listeners: Vec::new(),
            peer_address: None,
            rack: None,
            features: BTreeMap::new(),
        }));
        world
    }

    fn apply(&mut self, command: &Command) {
        self.index += 1;
        let (context, data) = self.lead.stamp(command);
        let entry_type = RaftEntryType::Normal;
        let entry = LogEntry { index: self.index, term: 1, context, data, entry_type };
        self.machine.apply(&entry).expect("it applies");
    }

    fn image(&self) -> Arc<Image> {
        self.machine.image()
    }

    /// A topic with its replicas here; the groups of its partitions.
    fn topic(&mut self, name: &str, partitions: usize) -> Vec<GroupId> {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(self.index + 1).to_be_bytes());
        self.apply(&Command::CreateTopic(PlacedTopic {
            name: name.into(),
            id: TopicId(id),
            assignments: vec![vec![BrokerId(1)]; partitions],
            configs: BTreeMap::new(),
            created_ms: 0,
        }));
        let image = self.image();
        let topic = image.topic(name).expect("there");
        let groups: Vec<GroupId> = topic.partitions.iter().map(|at| at.group).collect();
        groups.iter().for_each(|group| self.open(*group));
        groups
    }

    fn open(&mut self, group: GroupId) {
        let budget = Arc::new(TailBudget::of(1 << 20));
        self.views.insert(group, Arc::new(PartitionView::new(group, budget)));
    }

    fn delete(&mut self, name: &str) {
        let image = self.image();
        let topic = image.topic(name).expect("there");
        topic.partitions.iter().for_each(|at| drop(self.views.remove(&at.group)));
        self.apply(&Command::DeleteTopic { id: topic.id });
    }

    fn traffic(&self, group: GroupId) -> &Traffic {
        self.views[&group].traffic()
    }

    fn look(&self, topics: &mut Topics) {
        self.look_with(topics, 0);
    }

    fn look_with(&self, topics: &mut Topics, refused: u64) {
        let views: Vec<_> = self.views.values().cloned().collect();
        topics.look(&self.image(), &views, Counts([0, 0, 0, refused]));
    }
}

fn row(topics: &Topics, at: usize, name: &str) -> Option<u64> {
    topics.rows(at).find(|(known, _)| known == name).map(|(_, value)| value)
}

#[test]
fn a_topic_is_the_sum_of_its_replicas_also_of_those_that_left() {
    let (mut world, mut topics) = (World::new(), Topics::default());
    let groups = world.topic("orders", 2);
    world.look(&mut topics);
    assert_eq!(row(&topics, 0, "orders"), Some(0), "there before anything moved");
    world.traffic(groups[0]).took((3, 300));
    world.traffic(groups[1]).took((2, 200));
    world.traffic(groups[1]).gave(70);
    world.traffic(groups[1]).failed();
    world.look(&mut topics);
    let all = |topics: &Topics| [0, 1, 2, 3].map(|at| row(topics, at, "orders").unwrap());
    assert_eq!(all(&topics), [5, 500, 70, 1]);
    // What it counted just before it left is counted, and its next life begins at 0.
    world.traffic(groups[0]).took((1, 100));
    world.open(groups[0]);
    world.traffic(groups[0]).took((10, 1_000));
    world.look(&mut topics);
    assert_eq!(all(&topics), [16, 1_600, 70, 1]);
    world.traffic(groups[1]).gave(5);
    world.views.clear();
    world.look(&mut topics);
    assert_eq!(all(&topics), [16, 1_600, 75, 1], "the topic lives on, elsewhere");
    world.look_with(&mut topics, 4);
    assert_eq!((topics.rest, all(&topics)[3]), (Counts([0, 0, 0, 4]), 1));
}

#[test]
fn no_row_ever_counts_backwards_and_all_together_lose_nothing() {
    let (mut world, mut topics) = (World::new(), Topics::default());
    let most = limits::TOPIC_LABELS_MAX;
    // Idle ones take what is free, the one with the rest's name never does.
    let idle: Vec<_> = (0..most).map(|n| world.topic(&format!("idle-{n:03}"), 1)[0]).collect();
    let rest = world.topic("__other__", 1)[0];
    world.look(&mut topics);
    assert_eq!(topics.rows(0).count(), most);
    let busy: Vec<_> = (0..most + 5).map(|n| world.topic(&format!("busy-{n:03}"), 1)[0]).collect();
    let mut sent = 0;
    let mut before: BTreeMap<String, u64> = BTreeMap::new();
    for look in 1..=6u64 {
        for (n, group) in (0..).zip(&busy) {
            // The later ones have more, and one idle topic wakes up when all rows are taken.
            world.traffic(*group).took((look * n, n + 1));
            sent += look * n;
        }
        world.traffic(rest).took((look, 1));
        world.traffic(idle[3]).took((u64::from(look == 4), 1_000_000));
        sent += look + u64::from(look == 4);
        world.look(&mut topics);
        let now: BTreeMap<String, u64> = topics.rows(0).collect();
        assert_eq!(now.len(), most);
        assert!(before.iter().all(|(name, was)| look == 1 || now[name] >= *was), "look {look}");
        assert_eq!(now.values().sum::<u64>() + topics.rest.0[0], sent, "look {look}");
        assert!(!now.contains_key("__other__") && !now.contains_key("busy-000"));
        assert!(now.contains_key(&format!("busy-{:03}", most + 4)));
        before = now;
    }
    // A deleted topic's row goes to who has most without one, who begins at 0.
    world.delete("busy-050");
    world.look(&mut topics);
    assert_eq!(row(&topics, 0, "busy-050"), None);
    let new: Vec<_> = topics.rows(0).filter(|(name, _)| !before.contains_key(name)).collect();
    assert_eq!(new.len(), 1, "{new:?}");
    assert_eq!(new[0].1, 0);
    // Its namesake is another topic.
    let again = world.topic("busy-050", 1)[0];
    world.traffic(again).took((7, 7));
    world.look(&mut topics);
    assert_eq!(row(&topics, 0, "busy-050"), Some(7), "in the row that was still 0");
}

fn committed(group: &str, topic: &str, partition: i32, offset: i64) -> Committed {
    let (group, topic) = (group.to_owned(), topic.to_owned());
    Committed { group, topic, partition, offset, raft_group: None }
}

#[test]
fn lag_is_what_lies_behind_the_committed_offsets_and_never_below_0() {
    let mut world = World::new();
    let orders = world.topic("orders", 3);
    let mut offsets = Offsets::default();
    offsets.take(committed("a", "orders", 0, 10));
    offsets.take(committed("a", "orders", 1, 5));
    // Beyond the end as it is known here, and no offset at all.
    offsets.take(committed("b", "orders", 0, 101));
    offsets.take(committed("c", "orders", 2, i64::MIN));
    // What is gone counts nothing: a topic, a partition, a namesake.
    offsets.take(committed("a", "gone", 0, 1));
    offsets.take(committed("a", "orders", 3, 1));
    let raft_group = Some(GroupId(9_999));
    offsets.take(Committed { raft_group, ..committed("a", "orders", 2, 1) });
    offsets.take(committed("only gone", "gone", 0, 1));
    let mut lags = Lags::default();
    assert_eq!(lags.wanted(&world.image(), offsets), orders);
    let ends = orders.iter().copied().zip([100, 25, 7]).collect();
    let page = lags.page(ends);
    let told: Vec<_> =
        page.groups.iter().map(|g| (g.group.as_str(), g.lag, g.max, g.unknown)).collect();
    let most = i64::MAX as u64;
    assert_eq!(told, [("c", most, most, 0), ("a", 110, 90, 0), ("b", 0, 0, 0)]);
    assert_eq!(page.unknown, 0);
    let places: Vec<_> = page.groups[1].partitions.iter().map(|p| (p.partition, p.lag)).collect();
    assert_eq!(places, [(0, Some(90)), (1, Some(20))]);
}

#[test]
fn an_end_that_nobody_tells_is_never_0() {
    let mut world = World::new();
    let orders = world.topic("orders", 2);
    let mut lags = Lags::default();
    let mut look = |ends: &[(GroupId, i64)]| {
        let mut offsets = Offsets::default();
        offsets.take(committed("a", "orders", 0, 10));
        offsets.take(committed("a", "orders", 1, 10));
        lags.wanted(&world.image(), offsets);
        let page = lags.page(ends.iter().copied().collect());
        let group = page.groups[0].clone();
        assert_eq!(page.unknown, group.unknown);
        (group.lag, group.unknown, group.partitions.iter().filter(|p| p.lag.is_none()).count())
    };
    assert_eq!(look(&[(orders[0], 15)]), (5, 1, 1), "left out");
    assert_eq!(look(&[(orders[0], 16), (orders[1], 30)]), (26, 0, 0));
    assert_eq!(look(&[(orders[0], 17)]), (27, 1, 0), "at least what was told last");
    assert_eq!(look(&[]), (27, 2, 0));
}

#[test]
fn offsets_beyond_the_bound_are_counted_and_not_kept() {
    let mut world = World::new();
    world.topic("t", 1);
    let mut own = Offsets::default();
    for n in 0..limits::LAG_OFFSETS_MAX + 3 {
        own.take(committed("a", "t", i32::try_from(n).unwrap(), 0));
    }
    let mut offsets = Offsets::default();
    offsets.append(own);
    let mut lags = Lags::default();
    lags.wanted(&world.image(), offsets);
    // Of the kept ones one partition is there, and its end is not known.
    assert_eq!(lags.page(BTreeMap::new()).unknown, 4);
}

#[test]
fn a_broker_shows_what_a_group_lacks_and_whose_traffic_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = alone(dir.path());
    runtime.block_on(shows(&node));
}

async fn shows(node: &Arc<crate::Node>) {
    until("ready", || node.readiness().ready).await;
    let groups = create(node).await;
    let coordinator = create_topic(node, machine::groups::OFFSETS_TOPIC, 9, 1).await[0];
    let served = |group| node.view(group).is_some_and(|view| view.state().serving);
    until("leaders", || groups.iter().chain([&coordinator]).all(|group| served(*group))).await;
    for _ in 0..5 {
        produce(node, groups[0]).await.unwrap();
    }
    produce(node, groups[1]).await.unwrap();
    let hostile = "a\"} 1\n";
    let mut commit = GroupRequest::Commit(Default::default());
    if let GroupRequest::Commit(commit) = &mut commit {
        commit.group_id = hostile.into();
        commit.generation_id_or_member_epoch = -1;
        commit.topics.push(Default::default());
        commit.topics[0].name = "panics".into();
        commit.topics[0].topic_id = TopicId([7; 16]);
        commit.topics[0].partitions.resize_with(2, Default::default);
        commit.topics[0].partitions[0].committed_offset = 2;
        commit.topics[0].partitions[1].partition_index = 1;
        commit.topics[0].partitions[1].committed_offset = 1;
    }
    let answer = node.coordinate(coordinator, commit, DEADLINE).await.unwrap();
    assert!(matches!(answer, GroupResponse::Commit(_)), "{answer:?}");
    until("lag", || render().contains("lag_records{group=\"a\\\"} 1\\n\"} 3\n")).await;
    let page = node.consumers();
    let lag = page.groups.iter().find(|group| group.group == hostile).unwrap();
    assert_eq!((lag.lag, lag.max, lag.unknown), (3, 3, 0));
    until("traffic", || render().contains("topic_records_in_total{topic=\"panics\"} 6\n")).await;
    assert_eq!(metrics().consumer_group_unknown_partitions.get(), 0);
    node.count_failed(Some(groups[0]));
    until("errors", || render().contains("topic_errors_total{topic=\"panics\"} 1\n")).await;
    let deleted = GroupRequest::Delete { group: hostile.into() };
    node.coordinate(coordinator, deleted, DEADLINE).await.unwrap();
    until("its end", || node.consumers().groups.is_empty()).await;
    assert!(node.shutdown(DEADLINE, |_| ()).await);
}
