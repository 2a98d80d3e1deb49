//! Metadata: rules, placement, ids, and replicas that agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{
    BrokerId, DirectoryId, ErrorCode, GroupId, Incarnation, LogEntry, Now, RaftEntryType,
    ReplicaId, TopicId, limits,
};
use proptest::prelude::*;

use super::*;
use crate::ApplyError;
use crate::config::{ConfigChange, ConfigEdit, ListEdit};

/// The metadata group with one replica, its leader.
struct Cluster {
    machine: MetadataMachine,
    log: Vec<LogEntry>,
    alive: BTreeSet<BrokerId>,
}

impl Cluster {
    fn new(racks: &[Option<&str>]) -> Cluster {
        let machine = MetadataMachine::new();
        let mut cluster = Cluster { machine, log: Vec::new(), alive: BTreeSet::new() };
        for (at, rack) in racks.iter().enumerate() {
            let broker = broker(at as i32 + 1, *rack);
            cluster.alive.insert(broker.id);
            assert_eq!(cluster.ask(Request::RegisterBroker(broker)), Response::BrokerRegistered);
        }
        cluster
    }

    fn ask(&mut self, request: Request) -> Response {
        let image = self.machine.image();
        match decide(Now { boot_ns: 0, wall_ms: 7 }, &image, request, &|id| {
            self.alive.contains(&id)
        }) {
            Ok(command) => self.apply(&command).0,
            Err(response) => response,
        }
    }

    fn apply(&mut self, command: &Command) -> (Response, Vec<Change>) {
        let (context, data) = self.machine.lead().stamp(command);
        let index = self.log.len() as u64 + 1;
        let entry = LogEntry { index, term: 1, entry_type: RaftEntryType::Normal, context, data };
        let (response, changes) = self.machine.apply(&entry).unwrap();
        self.log.push(entry);
        (response.unwrap(), changes)
    }

    fn topic(&self, name: &str) -> Arc<Topic> {
        Arc::clone(self.machine.image().topic(name).expect("the topic"))
    }
}

fn altered(response: &Response) -> bool {
    matches!(response, Response::ConfigsAltered { .. })
}

fn alter(resource: ConfigResource, change: ConfigChange) -> Request {
    Request::AlterConfigs { resource, change, validate_only: false }
}

fn set(name: &str, value: &str) -> ConfigChange {
    edit(name, ConfigEdit::Set(value.into()))
}

fn edit(name: &str, edit: ConfigEdit) -> ConfigChange {
    ConfigChange { replace: false, edits: BTreeMap::from([(name.to_owned(), edit)]) }
}

fn replace_configs(topic: &str, pairs: &[(&str, &str)]) -> Request {
    let edits =
        pairs.iter().map(|(name, value)| (name.to_string(), ConfigEdit::Set(value.to_string())));
    let change = ConfigChange { replace: true, edits: edits.collect() };
    alter(ConfigResource::Topic(topic.into()), change)
}

fn broker(id: i32, rack: Option<&str>) -> BrokerRegistration {
    BrokerRegistration {
        id: BrokerId(id),
        directory: DirectoryId([id as u8; 16]),
        incarnation: Incarnation(u64::MAX - id as u64),
        listeners: vec![Listener { name: "PLAIN".into(), host: "h".into(), port: 9092 }],
        peer_address: None,
        rack: rack.map(Into::into),
        features: BTreeMap::new(),
    }
}

fn wish(name: &str, id: u8, partitions: i32, replication_factor: i16) -> CreateTopic {
    CreateTopic {
        name: name.into(),
        id: TopicId([id; 16]),
        partitions,
        replication_factor,
        assignments: Vec::new(),
        configs: BTreeMap::new(),
        validate_only: false,
        default_partitions: 2,
        default_replication_factor: 1,
        internal_replication_factor: 3,
    }
}

fn create(name: &str, id: u8, partitions: i32, replication_factor: i16) -> Request {
    Request::CreateTopic(wish(name, id, partitions, replication_factor))
}

fn code(response: &Response) -> Option<ErrorCode> {
    response.rejection().map(|(code, _)| code)
}

#[test]
fn a_created_topic_is_found_by_name_id_and_group() {
    let mut c = Cluster::new(&[None, None, None]);
    let answer = c.ask(create("orders", 1, 3, 3));
    let id = TopicId([1; 16]);
    let name = "orders".to_string();
    assert_eq!(answer, Response::TopicCreated { name, id, partitions: 3, replication_factor: 3 });
    let (image, topic) = (c.machine.image(), c.topic("orders"));
    assert!(Arc::ptr_eq(image.topic_by_id(id).unwrap(), &topic));
    assert_eq!(topic.partitions.iter().map(|p| p.group.0).collect::<Vec<_>>(), [2, 3, 4]);
    let replicas = topic.partitions.iter().flat_map(|p| &p.replicas).map(|r| r.replica);
    assert!(replicas.eq((1_000..1_009).map(ReplicaId)));
    assert!(
        topic
            .partitions
            .iter()
            .flat_map(|p| &p.replicas)
            .all(|r| r.directory.0[0] == r.broker.0 as u8)
    );
    let (found, partition) = image.partition_of(GroupId(3)).unwrap();
    assert_eq!((found.name.as_str(), partition.index, topic.created_ms), ("orders", 1, 7));
}

#[test]
fn the_same_wish_twice_is_one_topic_and_another_wish_is_refused() {
    let mut c = Cluster::new(&[None]);
    let first = c.ask(create("t", 1, 1, 1));
    let entries = c.log.len();
    assert_eq!(c.ask(create("t", 1, 1, 1)), first);
    assert_eq!(c.log.len(), entries);
    assert_eq!(code(&c.ask(create("t", 2, 1, 1))), Some(ErrorCode::TopicAlreadyExists));
    assert_eq!(code(&c.ask(create("u", 1, 1, 1))), Some(ErrorCode::InvalidRequest));

    // Both of two wishes in flight pass the decision; the log's order says who wins.
    let placed = |id| PlacedTopic {
        name: "race".into(),
        id: TopicId([id; 16]),
        assignments: vec![vec![BrokerId(1)]],
        configs: BTreeMap::new(),
        created_ms: 0,
    };
    let won = c.apply(&Command::CreateTopic(placed(7)));
    assert_eq!(c.apply(&Command::CreateTopic(placed(7))), (won.0, vec![]));
    let (lost, changes) = c.apply(&Command::CreateTopic(placed(8)));
    assert_eq!((code(&lost), changes), (Some(ErrorCode::TopicAlreadyExists), vec![]));
    assert_eq!(c.topic("race").partitions[0].group, GroupId(3), "a lost race uses no id up");
}

#[test]
fn wishes_that_cannot_be_met_are_refused_as_kafka_refuses_them() {
    let mut c = Cluster::new(&[None, None]);
    c.ask(create("a.b", 1, 1, 1));
    let long = "x".repeat(limits::TOPIC_NAME_LEN_MAX + 1);
    for (name, partitions, factor, expected) in [
        ("", 1, 1, ErrorCode::InvalidTopicException),
        (".", 1, 1, ErrorCode::InvalidTopicException),
        ("..", 1, 1, ErrorCode::InvalidTopicException),
        ("a b", 1, 1, ErrorCode::InvalidTopicException),
        ("caf\u{e9}", 1, 1, ErrorCode::InvalidTopicException),
        (&long, 1, 1, ErrorCode::InvalidTopicException),
        ("a_b", 1, 1, ErrorCode::InvalidTopicException),
        ("t", 0, 1, ErrorCode::InvalidPartitions),
        ("t", -2, 1, ErrorCode::InvalidPartitions),
        ("t", limits::PARTITIONS_PER_TOPIC_MAX + 1, 1, ErrorCode::InvalidPartitions),
        ("t", 1, 3, ErrorCode::InvalidReplicationFactor),
        ("t", 1, 0, ErrorCode::InvalidReplicationFactor),
        ("t", 1, -2, ErrorCode::InvalidReplicationFactor),
        ("__t", 1, -1, ErrorCode::InvalidReplicationFactor),
    ] {
        assert_eq!(code(&c.ask(create(name, 9, partitions, factor))), Some(expected), "{name:?}");
    }
    let mut configured = wish("t", 9, 1, 1);
    configured.configs.insert("cleanup.policy".into(), "compact".into());
    assert_eq!(code(&c.ask(Request::CreateTopic(configured))), Some(ErrorCode::InvalidConfig));
    for (lists, partitions, expected) in [
        (vec![vec![1, 1]], -1, ErrorCode::InvalidReplicaAssignment),
        (vec![vec![1], vec![1, 2]], -1, ErrorCode::InvalidReplicaAssignment),
        (vec![vec![3]], -1, ErrorCode::InvalidReplicaAssignment),
        (vec![vec![]], -1, ErrorCode::InvalidReplicaAssignment),
        (vec![vec![1]], 1, ErrorCode::InvalidRequest),
    ] {
        let mut assigned = wish("t", 9, partitions, -1);
        assigned.assignments =
            lists.iter().map(|list| list.iter().map(|id| BrokerId(*id)).collect()).collect();
        assert_eq!(code(&c.ask(Request::CreateTopic(assigned))), Some(expected), "{lists:?}");
    }
    assert_eq!(c.machine.image().topics().len(), 1);
}

#[test]
fn defaults_fill_in_and_internal_topics_have_their_own() {
    let mut c = Cluster::new(&[None, None, None]);
    c.ask(create("t", 1, -1, -1));
    c.ask(create("__t", 2, -1, -1));
    let shape = |t: &Topic| (t.partitions.len(), t.partitions[0].replicas.len());
    assert_eq!((shape(&c.topic("t")), shape(&c.topic("__t"))), ((2, 1), (2, 3)));
    let mut dry = wish("dry", 3, 4, 2);
    dry.validate_only = true;
    let answer = c.ask(Request::CreateTopic(dry));
    assert!(matches!(answer, Response::TopicCreated { partitions: 4, replication_factor: 2, .. }));
    assert!(c.machine.image().topic("dry").is_none());
    let mut assigned = wish("assigned", 4, -1, -1);
    assigned.assignments = vec![vec![BrokerId(3), BrokerId(1)]];
    c.ask(Request::CreateTopic(assigned));
    let brokers =
        c.topic("assigned").partitions[0].replicas.iter().map(|r| r.broker.0).collect::<Vec<_>>();
    assert_eq!(brokers, [3, 1]);
}

#[test]
fn a_deleted_topic_leaves_tombstones_and_its_ids_never_return() {
    let mut c = Cluster::new(&[None]);
    c.ask(create("a", 1, 2, 1));
    c.ask(create("b", 2, 2, 1));
    let old = c.machine.image();
    let answer = c.ask(Request::DeleteTopic(TopicRef::Name("a".into())));
    assert_eq!(answer, Response::TopicDeleted { name: "a".into(), id: TopicId([1; 16]) });
    assert!(old.topic("a").is_some(), "an image never changes");
    c.ask(create("a", 3, 1, 1));
    let image = c.machine.image();
    assert_eq!(c.topic("a").partitions[0].group, GroupId(6));
    let deleted = [1, 2, 3, 4, 6].map(|g| image.deleted_groups().contains(GroupId(g)));
    assert_eq!(deleted, [false, true, true, false, false]);
    assert!(image.partition_of(GroupId(2)).is_none());
    c.ask(Request::DeleteTopic(TopicRef::Id(TopicId([2; 16]))));
    assert!(c.machine.image().deleted_groups().ranges().eq([(2, 5)]));
    let gone = |topic| Request::DeleteTopic(topic);
    assert_eq!(
        code(&c.ask(gone(TopicRef::Name("b".into())))),
        Some(ErrorCode::UnknownTopicOrPartition)
    );
    assert_eq!(code(&c.ask(gone(TopicRef::Id(TopicId([2; 16]))))), Some(ErrorCode::UnknownTopicId));
}

#[test]
fn producer_ids_are_handed_out_once() {
    let mut c = Cluster::new(&[None]);
    let mut next = || c.ask(Request::AllocateProducerIds { broker: BrokerId(1) });
    let count = limits::PRODUCER_ID_BLOCK;
    assert_eq!(next(), Response::ProducerIds { first: 0, count });
    assert_eq!(next(), Response::ProducerIds { first: count, count });
}

#[test]
fn a_re_created_topic_knows_which_producers_are_older_and_a_new_name_knows_none() {
    let mut c = Cluster::new(&[None]);
    let delete = |name: &str| Request::DeleteTopic(TopicRef::Name(name.into()));
    let block = || Request::AllocateProducerIds { broker: BrokerId(1) };
    c.ask(create("t", 1, 1, 1));
    assert_eq!(c.topic("t").producers_before, 0);
    c.ask(block());
    c.ask(delete("t"));
    // Who comes between deletion and creation never wrote to the old one.
    c.ask(block());
    c.machine = MetadataMachine::restore(&c.machine.snapshot()).unwrap();
    c.ask(create("t", 2, 1, 1));
    c.ask(create("u", 3, 1, 1));
    assert_eq!(c.topic("t").producers_before, limits::PRODUCER_ID_BLOCK);
    assert_eq!(c.topic("u").producers_before, 0);
    // Names beyond the bound are no longer told apart: whoever is old may have written to any.
    for at in 0..limits::DELETED_TOPIC_NAMES_MAX {
        let name = format!("v{at}");
        let mut wish = wish(&name, 0, 1, 1);
        wish.id = TopicId((at as u128 + 100).to_be_bytes());
        c.ask(Request::CreateTopic(wish));
        c.ask(delete(&name));
    }
    c.ask(create("w", 4, 1, 1));
    assert_eq!(c.topic("w").producers_before, limits::PRODUCER_ID_BLOCK);
    assert_eq!(MetadataMachine::restore(&c.machine.snapshot()).unwrap(), c.machine);
}

#[test]
fn configs_are_edited_one_by_one_and_in_log_order() {
    let mut c = Cluster::new(&[None]);
    c.ask(create("t", 1, 1, 1));
    let topic = || ConfigResource::Topic("t".into());
    assert!(altered(&c.ask(alter(topic(), set("retention.ms", "5")))));
    assert!(altered(&c.ask(alter(topic(), set("segment.ms", "9")))));
    assert_eq!(c.topic("t").configs.len(), 2, "what is not named stays");
    assert!(altered(&c.ask(alter(topic(), edit("retention.ms", ConfigEdit::Delete)))));
    assert_eq!(c.topic("t").configs.len(), 1);
    let list = |elements: &str| ListEdit { elements: elements.into(), or_else: String::new() };
    let throttled = "leader.replication.throttled.replicas";
    // Two appends decided before either is applied: neither is lost.
    let append = |c: &Cluster, elements: &str| {
        let request = alter(topic(), edit(throttled, ConfigEdit::Append(list(elements))));
        decide(Now::default(), &c.machine.image(), request, &|_| true).unwrap()
    };
    let (one, two) = (append(&c, "0:1"), append(&c, "1:1, 0:1"));
    c.apply(&one);
    c.apply(&two);
    assert_eq!(c.topic("t").configs[throttled], "0:1,1:1");
    c.ask(alter(topic(), edit(throttled, ConfigEdit::Subtract(list("0:1")))));
    assert_eq!(c.topic("t").configs[throttled], "1:1");
    // A list without an override begins with its default.
    let compact = edit("cleanup.policy", ConfigEdit::Append(list("compact")));
    assert_eq!(code(&c.ask(alter(topic(), compact))), Some(ErrorCode::InvalidConfig));
    let delete = edit("cleanup.policy", ConfigEdit::Append(list("delete")));
    assert!(altered(&c.ask(alter(topic(), delete))));
    assert_eq!(c.topic("t").configs["cleanup.policy"], "delete");
    let number = edit("retention.ms", ConfigEdit::Append(list("5")));
    assert_eq!(code(&c.ask(alter(topic(), number))), Some(ErrorCode::InvalidConfig));
    let nobody = alter(ConfigResource::Topic("u".into()), set("retention.ms", "5"));
    assert_eq!(code(&c.ask(nobody)), Some(ErrorCode::UnknownTopicOrPartition));
}

#[test]
fn broker_configs_are_of_one_broker_or_of_all_and_survive_a_snapshot() {
    let mut c = Cluster::new(&[None, None]);
    let one = || ConfigResource::Broker(BrokerId(1));
    let all = || ConfigResource::Cluster;
    assert!(altered(&c.ask(alter(one(), set("log.retention.ms", "5")))));
    assert!(altered(&c.ask(alter(all(), set("max.connections", "7")))));
    let image = c.machine.image();
    assert_eq!(image.broker_configs(Some(BrokerId(1)))["log.retention.ms"], "5");
    assert_eq!(image.broker_configs(None)["max.connections"], "7");
    assert!(image.broker_configs(Some(BrokerId(2))).is_empty());
    let restored = MetadataMachine::restore(&c.machine.snapshot()).unwrap();
    assert_eq!(restored, c.machine);

    for (resource, name, value, expected) in [
        (one(), "num.partitions", "3", ErrorCode::InvalidRequest),
        (one(), "num.io.threads", "3", ErrorCode::InvalidRequest),
        (one(), "log.retention.msec", "3", ErrorCode::InvalidConfig),
        (all(), "log.retention.ms", "soon", ErrorCode::InvalidConfig),
        (all(), "log.cleanup.policy", "compact", ErrorCode::InvalidConfig),
        (all(), "max.connections", "0", ErrorCode::InvalidConfig),
        (ConfigResource::Broker(BrokerId(9)), "max.connections", "7", ErrorCode::InvalidRequest),
    ] {
        let answer = c.ask(alter(resource, set(name, value)));
        assert_eq!(code(&answer), Some(expected), "{name}={value}: {answer:?}");
    }
    c.ask(alter(one(), edit("log.retention.ms", ConfigEdit::Delete)));
    assert_eq!(c.machine.image().all_broker_configs().count(), 1, "nothing empty is kept");
}

#[test]
fn a_topic_grows_and_never_shrinks() {
    let mut c = Cluster::new(&[None, None, None]);
    c.ask(create("t", 1, 2, 2));
    let grow = |total, seen| AddPartitions {
        name: "t".into(),
        seen,
        total,
        assignments: Vec::new(),
        validate_only: false,
    };
    let added = |total| Response::PartitionsAdded { id: TopicId([1; 16]), total };
    let before = c.topic("t");
    let dry = AddPartitions { validate_only: true, ..grow(6, 2) };
    let checked = Response::PartitionsAdded { id: TopicId::ZERO, total: 6 };
    assert_eq!(c.ask(Request::AddPartitions(dry)), checked);
    assert_eq!(c.topic("t"), before, "validate_only adds nothing");
    assert_eq!(c.ask(Request::AddPartitions(grow(6, 2))), added(6));
    let topic = c.topic("t");
    assert_eq!(topic.partitions[..2], before.partitions[..], "what was there stays");
    let groups: BTreeSet<_> = topic.partitions.iter().map(|p| p.group).collect();
    let replicas: BTreeSet<_> =
        topic.partitions.iter().flat_map(|p| &p.replicas).map(|r| r.replica).collect();
    assert_eq!((groups.len(), replicas.len()), (6, 12), "ids are new");
    assert!(topic.partitions.iter().enumerate().all(|(at, p)| p.index == at as i32));
    let leads = |id| topic.partitions.iter().filter(move |p| p.replicas[0].broker.0 == id).count();
    assert!((1..=3).all(|id| leads(id) == 2), "old and new are even together");

    assert_eq!(c.ask(Request::AddPartitions(grow(6, 2))), added(6), "asked again");
    for (total, seen) in [(6, 6), (5, 6), (0, 6), (-1, 6)] {
        let answer = c.ask(Request::AddPartitions(grow(total, seen)));
        assert_eq!(code(&answer), Some(ErrorCode::InvalidPartitions), "{total}: {answer:?}");
    }
    let manual = |brokers: &[&[i32]]| AddPartitions {
        assignments: brokers
            .iter()
            .map(|ids| ids.iter().map(|id| BrokerId(*id)).collect())
            .collect(),
        ..grow(7, 6)
    };
    for bad in
        [manual(&[&[1, 2], &[2, 3]]), manual(&[&[1]]), manual(&[&[1, 9]]), manual(&[&[1, 1]])]
    {
        let answer = c.ask(Request::AddPartitions(bad));
        assert_eq!(code(&answer), Some(ErrorCode::InvalidReplicaAssignment), "{answer:?}");
    }
    assert_eq!(c.ask(Request::AddPartitions(manual(&[&[3, 1]]))), added(7));
    assert_eq!(c.topic("t").partitions[6].replicas[0].broker, BrokerId(3));
    let nobody = AddPartitions { name: "u".into(), ..grow(3, 0) };
    let answer = c.ask(Request::AddPartitions(nobody));
    assert_eq!(code(&answer), Some(ErrorCode::UnknownTopicOrPartition));
    // Two in flight: the first one wins, the second changes nothing.
    let decide_now = |c: &Cluster, total| {
        let request = Request::AddPartitions(grow(total, 7));
        decide(Now::default(), &c.machine.image(), request, &|_| true).unwrap()
    };
    let (one, two) = (decide_now(&c, 8), decide_now(&c, 9));
    assert_eq!(c.apply(&one).0, added(8));
    assert_eq!(code(&c.apply(&two).0), Some(ErrorCode::InvalidPartitions));
    assert_eq!(c.topic("t").partitions.len(), 8);
    let restored = MetadataMachine::restore(&c.machine.snapshot()).unwrap();
    assert_eq!(restored, c.machine);
}

#[test]
fn configs_are_replaced_whole_and_a_registration_may_change() {
    let mut c = Cluster::new(&[None]);
    c.ask(create("t", 1, 1, 1));
    let set = |pairs: &[(&str, &str)]| replace_configs("t", pairs);
    assert!(altered(&c.ask(set(&[("retention.ms", "5"), ("segment.ms", "9")]))));
    assert!(altered(&c.ask(set(&[("retention.ms", "6")]))));
    assert_eq!(c.topic("t").configs.len(), 1);
    let (found, _) =
        c.machine.image().partition_of(GroupId(2)).map(|(t, p)| (Arc::clone(t), p.index)).unwrap();
    assert!(Arc::ptr_eq(&found, &c.topic("t")), "every way to a topic leads to the same one");
    assert_eq!(code(&c.ask(set(&[("retention.ms", "x")]))), Some(ErrorCode::InvalidConfig));

    let entries = c.log.len();
    assert_eq!(c.ask(Request::RegisterBroker(broker(1, None))), Response::BrokerRegistered);
    assert_eq!(c.log.len(), entries, "nothing new, no entry");
    c.ask(Request::RegisterBroker(broker(1, Some("r"))));
    assert_eq!(c.machine.image().broker(BrokerId(1)).unwrap().rack.as_deref(), Some("r"));
    let nowhere = BrokerRegistration { listeners: Vec::new(), ..broker(2, None) };
    assert_eq!(code(&c.ask(Request::RegisterBroker(nowhere))), Some(ErrorCode::InvalidRequest));
}

#[test]
fn entries_of_other_machines_and_versions_hold_the_machine() {
    let mut c = Cluster::new(&[None]);
    c.ask(create("t", 1, 1, 1));
    let mut fresh = MetadataMachine::new();
    let skipped = fresh.apply(&c.log[1]).unwrap_err();
    assert!(matches!(skipped, ApplyError::Prefix { .. }), "{skipped}");
    assert_eq!(decode_command(br#"{"v":2,"body":{"unheard":1}}"#), Err(DecodeError::Version(2)));
    assert!(matches!(decode_command(b"[[[[["), Err(DecodeError::Json(_))));
    let huge = vec![b'['; limits::METADATA_COMMAND_BYTES_MAX + 1];
    assert_eq!(decode_request(&huge), Err(DecodeError::TooLarge(huge.len())));
}

#[test]
fn messages_round_trip_and_grow() {
    let request = create("t", 1, -1, -1);
    assert_eq!(decode_request(&encode_request(&request)), Ok(request));
    let response = Response::rejected(ErrorCode::InvalidConfig, "why");
    assert_eq!(decode_response(&encode_response(&response)), Ok(response));
    let newer =
        br#"{"v":1,"since":"later","body":{"allocate_producer_ids":{"broker":3,"new":true}}}"#;
    assert_eq!(decode_request(newer), Ok(Request::AllocateProducerIds { broker: BrokerId(3) }));
}

/// Largest difference between two brokers in leaders and in replicas of a topic.
fn imbalance(topic: &Topic, brokers: usize) -> (usize, usize) {
    let mut leaders = vec![0; brokers];
    let mut replicas = vec![0; brokers];
    for partition in &topic.partitions {
        leaders[partition.replicas[0].broker.0 as usize - 1] += 1;
        for replica in &partition.replicas {
            replicas[replica.broker.0 as usize - 1] += 1;
        }
    }
    let spread = |counts: &[usize]| counts.iter().max().unwrap() - counts.iter().min().unwrap();
    (spread(&leaders), spread(&replicas))
}

#[test]
fn the_dead_come_last_and_small_topics_spread_over_the_cluster() {
    let mut c = Cluster::new(&[None, None, None, None]);
    c.alive.remove(&BrokerId(2));
    c.ask(create("t", 1, 8, 3));
    let on_dead = |t: &Topic| {
        t.partitions.iter().flat_map(|p| &p.replicas).filter(|r| r.broker.0 == 2).count()
    };
    assert_eq!(on_dead(&c.topic("t")), 0);
    c.ask(create("u", 2, 8, 4));
    assert!(c.topic("u").partitions.iter().all(|p| p.replicas[3].broker.0 == 2));

    let mut c = Cluster::new(&[None, None, None]);
    let mut leaders = [0; 3];
    for at in 0..30 {
        let name = format!("small-{at}");
        c.ask(create(&name, at + 1, 1, 1));
        leaders[c.topic(&name).partitions[0].replicas[0].broker.0 as usize - 1] += 1;
    }
    assert_eq!(leaders, [10, 10, 10]);
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let name = || prop::sample::select(vec!["a", "b.c", "b_c", "__d", "bad name"]);
    let request = prop_oneof![
        4 => (name(), 1..9u8, -1..4i32, -1..4i16).prop_map(|(n, id, p, rf)| create(n, id, p, rf)),
        2 => name().prop_map(|n| Request::DeleteTopic(TopicRef::Name(n.into()))),
        1 => (1..5i32).prop_map(|id| Request::AllocateProducerIds { broker: BrokerId(id) }),
        1 => (1..5i32, prop::option::of(Just("r"))).prop_map(|(id, r)| Request::RegisterBroker(broker(id, r))),
        1 => (name(), 1..99u32).prop_map(|(name, ms)| {
            alter(ConfigResource::Topic(name.into()), set("retention.ms", &ms.to_string()))
        }),
        1 => (prop::option::of(1..5i32), 1..9i64).prop_map(|(id, ms)| {
            let resource = id.map_or(ConfigResource::Cluster, |id| {
                ConfigResource::Broker(BrokerId(id))
            });
            alter(resource, set("log.retention.ms", &ms.to_string()))
        }),
        1 => (name(), 1..9i32).prop_map(|(name, total)| Request::AddPartitions(AddPartitions {
            name: name.into(), seen: 0, total, assignments: Vec::new(), validate_only: false,
        })),
    ];
    proptest::collection::vec(request, 1..40)
}

proptest! {
    #[test]
    fn leaders_and_replicas_are_even_and_racks_differ(
        brokers in 1..8usize, factor in 1..4usize, partitions in 1..40i32, racks in 0..4usize, id in 1..255u8,
    ) {
        let names = ["a", "b", "c"];
        let of = |at: usize| (racks > 0).then(|| names[at % racks]);
        let mut c = Cluster::new(&(0..brokers).map(of).collect::<Vec<_>>());
        let answer = c.ask(create("t", id, partitions, factor as i16));
        if factor > brokers {
            prop_assert_eq!(code(&answer), Some(ErrorCode::InvalidReplicationFactor));
            return Ok(());
        }
        let topic = c.topic("t");
        for partition in &topic.partitions {
            let distinct: BTreeSet<_> = partition.replicas.iter().map(|r| r.broker).collect();
            prop_assert_eq!(distinct.len(), factor);
            let used: BTreeSet<_> = distinct.iter().map(|id| of(id.0 as usize - 1)).collect();
            prop_assert_eq!(used.len(), factor.min(racks.clamp(1, brokers)));
        }
        let (leaders, replicas) = imbalance(&topic, brokers);
        prop_assert!(leaders <= 1, "leaders differ by {}", leaders);
        // Racks of different sizes cannot be both spread over and filled evenly.
        if racks == 0 || brokers % racks == 0 {
            prop_assert!(replicas <= 2, "replicas differ by {}", replicas);
        }
    }

    #[test]
    fn replicas_agree_and_a_restored_one_goes_on(
        requests in requests(), restart in any::<prop::sample::Index>(),
    ) {
        let mut c = Cluster::new(&[None, Some("r"), None]);
        requests.into_iter().for_each(|request| drop(c.ask(request)));
        let mut replica = MetadataMachine::new();
        let at = restart.index(c.log.len());
        for (i, entry) in c.log.iter().enumerate() {
            if i == at {
                replica = MetadataMachine::restore(&replica.snapshot()).unwrap();
            }
            replica.apply(entry).unwrap();
        }
        prop_assert_eq!(&replica, &c.machine);
        prop_assert_eq!(replica.snapshot(), c.machine.snapshot());
    }

    #[test]
    fn hostile_snapshots_never_panic(
        requests in requests(), at in any::<prop::sample::Index>(), value: u8, cut: bool,
    ) {
        let mut c = Cluster::new(&[None, None]);
        requests.into_iter().for_each(|request| drop(c.ask(request)));
        let mut bytes = c.machine.snapshot();
        let body = bytes.len() - 4;
        let at = at.index(body);
        bytes[at] = value;
        let body = if cut { at } else { body };
        bytes.truncate(body);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        if let Ok(machine) = MetadataMachine::restore(&bytes) {
            let again = MetadataMachine::restore(&machine.snapshot());
            prop_assert_eq!(again, Ok(machine));
        }
    }

    #[test]
    fn hostile_messages_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = (decode_request(&bytes), decode_command(&bytes), decode_response(&bytes));
        let _ = MetadataMachine::restore(&bytes);
    }

    #[test]
    fn deleted_groups_are_what_was_inserted(groups in proptest::collection::vec(2..60u64, 0..60)) {
        let mut deleted = DeletedGroups::default();
        groups.iter().for_each(|group| deleted.insert(GroupId(*group)));
        let wanted: BTreeSet<u64> = groups.into_iter().collect();
        for group in 0..70 {
            prop_assert_eq!(deleted.contains(GroupId(group)), wanted.contains(&group));
        }
        let ranges: Vec<_> = deleted.ranges().collect();
        prop_assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "ranges join");
    }
}
