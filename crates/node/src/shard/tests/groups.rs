//! Offsets of consumer groups on their way through the log.

use super::*;

pub(super) fn image_of(id: TopicId, partitions: usize) -> Arc<metadata::Image> {
    use metadata::{BrokerRegistration, Command, MetadataMachine, PlacedTopic};
    let mut machine = MetadataMachine::new();
    let mut lead = machine.lead();
    let broker = Command::RegisterBroker(BrokerRegistration {
        id: BrokerId(1),
        directory: DirectoryId([1; 16]),
        incarnation: model::Incarnation(1),
        listeners: Vec::new(),
        peer_address: None,
        rack: None,
        features: Default::default(),
    });
    let topic = Command::CreateTopic(PlacedTopic {
        name: "t".into(),
        id,
        assignments: vec![vec![BrokerId(1)]; partitions],
        configs: Default::default(),
        created_ms: 0,
    });
    for (index, command) in (1..).zip([broker, topic]) {
        let (context, data) = lead.stamp(&command);
        let entry_type = RaftEntryType::Normal;
        let entry = LogEntry { index, term: 1, context, data, entry_type };
        machine.apply(&entry).unwrap();
    }
    machine.image()
}

/// Of somebody who is no member, for these partitions, each with so many bytes of metadata.
fn commit_of(
    group: &str,
    topic: TopicId,
    partitions: std::ops::Range<i32>,
    metadata: usize,
) -> machine::groups::Request {
    let mut request = machine::groups::Request::Commit(Default::default());
    if let machine::groups::Request::Commit(commit) = &mut request {
        commit.group_id = group.into();
        commit.generation_id_or_member_epoch = -1;
        commit.topics.push(Default::default());
        commit.topics[0].name = "t".into();
        commit.topics[0].topic_id = topic;
        commit.topics[0].partitions.resize_with(partitions.len(), Default::default);
        for (index, partition) in partitions.zip(&mut commit.topics[0].partitions) {
            partition.partition_index = index;
            partition.committed_metadata = Some("m".repeat(metadata));
        }
    }
    request
}

#[test]
fn a_commit_no_batch_can_hold_is_refused_and_the_coordinator_goes_on() {
    use machine::groups::Response;
    let mut trio = Trio::of(GroupKind::Coordinator, 1);
    trio.serve();
    let topic = TopicId([7; 16]);
    let image = image_of(topic, 400);
    // Alone in its turn, and beside one that fits.
    for (first_reply, sizes) in [(1, vec![400]), (2, vec![400, 1]), (4, vec![1])] {
        let now = trio.now();
        for (reply, partitions) in (first_reply..).zip(sizes) {
            let request = Box::new(commit_of("g", topic, 0..partitions, 4_000));
            let image = Arc::clone(&image);
            let input = Input::Coordinate { group: GROUP, request, image, reply };
            trio.shards[0].step(now, input, &mut Out::default());
        }
        trio.pass(200);
    }
    let code = |reply: u32| match trio.answers.get(&reply) {
        Some(Answer::Group(response)) => match response.as_ref() {
            Response::Commit(commit) => commit.topics[0].partitions[0].error_code,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let (large, fine) = (ErrorCode::InvalidCommitOffsetSize, ErrorCode::None);
    assert_eq!([1, 2, 3, 4].map(code), [large, large, fine, fine]);
    assert!(trio.serves(0) && trio.shards[0].quarantined().is_empty());
}

#[test]
fn a_group_that_leaves_more_than_a_batch_holds_is_deleted() {
    use machine::groups::{Request, Response};
    let mut trio = Trio::of(GroupKind::Coordinator, 1);
    trio.serve();
    let topic = TopicId([7; 16]);
    let image = image_of(topic, 400);
    // 400 tombstones of 4 KB each are 1.6 MB.
    let group = "g".repeat(4_000);
    let ask = |trio: &mut Trio, reply: u32, request: Request| {
        let (request, image) = (Box::new(request), Arc::clone(&image));
        trio.tell(0, Input::Coordinate { group: GROUP, request, image, reply });
        trio.pass(200);
        match trio.answers.remove(&reply) {
            Some(Answer::Group(response)) => *response,
            other => panic!("{other:?}"),
        }
    };
    for at in 0..4 {
        let request = commit_of(&group, topic, at * 100..(at + 1) * 100, 0);
        match ask(&mut trio, at as u32, request) {
            Response::Commit(commit) => {
                let code = |at: usize| commit.topics[0].partitions[at].error_code;
                assert_eq!((code(0), code(99)), (ErrorCode::None, ErrorCode::None));
            }
            other => panic!("{other:?}"),
        }
    }
    let told = ask(&mut trio, 10, Request::Delete { group: group.clone() });
    assert_eq!(told, Response::Delete(ErrorCode::None));
    match ask(&mut trio, 11, Request::Describe { group }) {
        Response::Describe(described) => assert_eq!(described.group_state, "Dead"),
        other => panic!("{other:?}"),
    }
    assert!(trio.serves(0) && trio.shards[0].quarantined().is_empty());
}
