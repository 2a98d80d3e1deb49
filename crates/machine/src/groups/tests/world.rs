//! A coordinator whose log is a list: what is appended is applied when the test says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::{ErrorCode, GroupId, LogEntry, Now, TopicId};
use wire::api::heartbeat::HeartbeatRequest;
use wire::api::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use wire::api::leave_group::LeaveGroupRequest;
use wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use wire::api::offset_fetch::OffsetFetchRequestGroup;
use wire::api::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};

use crate::groups::lead::{Append, Effects, GroupsConfig, GroupsLead};
use crate::groups::{Caller, CoordinatorMachine, Dropped, Request, Response};
use crate::metadata::{Image, Partition, Topic};
use crate::partition::{PartitionLead, Stamp, StampConfig};

pub const GROUP: &str = "readers";

pub struct World {
    pub machine: CoordinatorMachine,
    pub lead: GroupsLead<u64>,
    stamper: PartitionLead,
    pub now: Now,
    pub term: u64,
    index: u64,
    next: u64,
    pub waiting: Vec<Append>,
    /// By ticket.
    pub answers: BTreeMap<u64, Response>,
    /// Applies at once what is appended.
    pub at_once: bool,
    pub config: GroupsConfig,
    /// It has one topic, `t`.
    pub image: Image,
    /// What clients take for the id of `t`.
    pub topic: TopicId,
}

impl World {
    pub fn new(config: GroupsConfig) -> World {
        let machine = CoordinatorMachine::new();
        let now = Now { boot_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
        let mut world = World {
            lead: GroupsLead::new(machine.groups(), now, config.clone()),
            stamper: machine.partition().lead(1),
            machine,
            now,
            term: 1,
            index: 0,
            next: 0,
            waiting: Vec::new(),
            answers: BTreeMap::new(),
            at_once: true,
            config,
            image: Image::default(),
            topic: TopicId::default(),
        };
        world.create_topic();
        world
    }

    pub fn without_delay() -> World {
        World::new(GroupsConfig { initial_delay_ms: 0, ..GroupsConfig::default() })
    }

    fn create_topic(&mut self) {
        let version = self.image.version() + 1;
        let partition = Partition::new(0, GroupId(100 + version), Vec::new());
        self.topic = TopicId([version as u8; 16]);
        let topic = Topic {
            name: "t".into(),
            id: self.topic,
            partitions: vec![partition],
            configs: BTreeMap::new(),
            created_ms: 0,
            producers_before: 0,
        };
        self.image.put_topic(&Arc::new(topic));
        self.image.set_version(version);
    }

    /// `t` is deleted; another of its name takes its place.
    pub fn recreate_topic(&mut self) {
        let topic = self.image.topic("t").expect("there").clone();
        self.image.remove_topic(&topic);
        self.create_topic();
    }

    fn take(&mut self, effects: Effects<u64>) {
        self.lead.check_alarms();
        for (ticket, response) in effects.replies {
            assert!(self.answers.insert(ticket, response).is_none(), "answered twice");
        }
        self.waiting.extend(effects.appends);
        if self.at_once {
            self.apply_all();
        }
    }

    pub fn apply_all(&mut self) {
        for append in std::mem::take(&mut self.waiting) {
            self.apply(append);
        }
    }

    pub fn apply_next(&mut self) {
        let append = self.waiting.remove(0);
        self.apply(append);
    }

    pub fn drop_append(&mut self, token: u64, why: Dropped) {
        let mut effects = Effects::default();
        self.lead.dropped(self.now, token, why, &mut effects);
        self.take(effects);
    }

    pub fn apply(&mut self, append: Append) {
        let config = StampConfig {
            max_message_bytes: 1 << 20,
            timestamp_type: wire::records::TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: i64::MAX,
        };
        let stamp = self.stamper.stamp(
            self.machine.partition(),
            self.now,
            append.batch(self.now.wall_ms),
            &config,
        );
        let Stamp::Append { context, data, .. } = stamp else { panic!("{stamp:?}") };
        self.index += 1;
        let entry = LogEntry {
            index: self.index,
            term: self.term,
            context,
            data,
            entry_type: model::RaftEntryType::Normal,
        };
        self.machine.apply(&entry).expect("applies");
        let mut effects = Effects::default();
        self.lead.applied(self.now, append.token, &mut effects);
        self.take(effects);
    }

    /// Another replica leads: parked askers are told, what was not applied is gone.
    pub fn fail_over(&mut self) -> Vec<u64> {
        self.term += 1;
        self.waiting.clear();
        self.stamper = self.machine.partition().lead(self.term);
        let new = GroupsLead::new(self.machine.groups(), self.now, self.config.clone());
        std::mem::replace(&mut self.lead, new).end()
    }

    pub fn ask(&mut self, request: Request) -> u64 {
        self.next += 1;
        let mut effects = Effects::default();
        let groups = self.machine.groups();
        self.lead.request(self.now, groups, &self.image, request, self.next, &mut effects);
        let ticket = self.next;
        self.take(effects);
        ticket
    }

    pub fn pass(&mut self, ms: u64) {
        self.now.boot_ns += ms * 1_000_000;
        self.now.wall_ms += ms as i64;
        let mut effects = Effects::default();
        self.lead.tick(self.now, self.machine.groups(), &self.image, &mut effects);
        self.take(effects);
    }

    pub fn answer(&mut self, ticket: u64) -> Option<Response> {
        self.answers.remove(&ticket)
    }

    pub fn joined(&mut self, ticket: u64) -> JoinGroupResponse {
        match self.answer(ticket) {
            Some(Response::Join(join)) => join,
            other => panic!("not joined: {other:?}"),
        }
    }

    pub fn synced(&mut self, ticket: u64) -> SyncGroupResponse {
        match self.answer(ticket) {
            Some(Response::Sync(sync)) => sync,
            other => panic!("not synced: {other:?}"),
        }
    }

    pub fn join(&mut self, member: &str, instance: Option<&str>) -> u64 {
        self.ask(join(member, instance, &["range"], self.next + 1))
    }

    pub fn sync(&mut self, join: &JoinGroupResponse, shares: &[(&str, &str)]) -> u64 {
        let assignments = shares.iter().map(|(member, share)| SyncGroupRequestAssignment {
            member_id: member.to_string(),
            assignment: Bytes::copy_from_slice(share.as_bytes()),
        });
        self.ask(Request::Sync(SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: join.generation_id,
            member_id: join.member_id.clone(),
            assignments: assignments.collect(),
            ..SyncGroupRequest::default()
        }))
    }

    pub fn beat(&mut self, member: &str, generation: i32) -> ErrorCode {
        let ticket = self.ask(Request::Heartbeat(HeartbeatRequest {
            group_id: GROUP.into(),
            generation_id: generation,
            member_id: member.into(),
            group_instance_id: None,
        }));
        match self.answer(ticket) {
            Some(Response::Heartbeat(code)) => code,
            other => panic!("{other:?}"),
        }
    }

    pub fn leave(&mut self, member: &str) -> ErrorCode {
        let ticket = self.ask(Request::Leave(LeaveGroupRequest {
            group_id: GROUP.into(),
            member_id: member.into(),
            ..LeaveGroupRequest::default()
        }));
        match self.answer(ticket) {
            Some(Response::Leave(leave)) => leave.error_code,
            other => panic!("{other:?}"),
        }
    }

    pub fn commit(&mut self, member: &str, generation: i32, offset: i64) -> u64 {
        self.ask(commit(self.topic, member, generation, offset, "note"))
    }

    pub fn committed(&mut self, ticket: u64) -> ErrorCode {
        match self.answer(ticket) {
            Some(Response::Commit(commit)) => commit.topics[0].partitions[0].error_code,
            other => panic!("{other:?}"),
        }
    }

    /// Offset and metadata of partition 0 of topic `t`.
    pub fn fetched(&mut self) -> (i64, String) {
        let ticket = self.ask(Request::Fetch(OffsetFetchRequestGroup {
            group_id: GROUP.into(),
            topics: None,
            ..OffsetFetchRequestGroup::default()
        }));
        let Some(Response::Fetch(fetch)) = self.answer(ticket) else { panic!("no answer") };
        fetch.topics.first().map_or((-1, String::new()), |topic| {
            let partition = &topic.partitions[0];
            (partition.committed_offset, partition.metadata.clone().unwrap_or_default())
        })
    }
}

pub fn join(member: &str, instance: Option<&str>, protocols: &[&str], unique: u64) -> Request {
    let (caller, request) = joining(member, instance, protocols, unique);
    Request::Join(caller, request)
}

/// What [`join`] is made of.
pub fn joining(
    member: &str,
    instance: Option<&str>,
    protocols: &[&str],
    unique: u64,
) -> (Caller, JoinGroupRequest) {
    let caller = Caller {
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        unique: unique.to_string(),
        knows_member_id_required: false,
        knows_skip_assignment: true,
    };
    let protocols = protocols.iter().map(|name| JoinGroupRequestProtocol {
        name: name.to_string(),
        metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t"),
    });
    let request = JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        member_id: member.into(),
        group_instance_id: instance.map(str::to_owned),
        protocol_type: "consumer".into(),
        protocols: protocols.collect(),
        reason: None,
    };
    (caller, request)
}

pub fn commit(
    topic_id: TopicId,
    member: &str,
    generation: i32,
    offset: i64,
    metadata: &str,
) -> Request {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_leader_epoch: 3,
        committed_metadata: Some(metadata.into()),
    };
    Request::Commit(OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: generation,
        member_id: member.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            topic_id,
            partitions: vec![partition],
        }],
        ..OffsetCommitRequest::default()
    })
}
