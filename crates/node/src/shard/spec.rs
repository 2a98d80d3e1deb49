//! Who a group is on this broker: what the journal remembers of its birth.

use bytes::Bytes;
use consensus::Restored;
use consensus::eraftpb::ConfState;
use machine::config::TopicConfig;
use model::{BrokerId, DirectoryId, GroupId, ReplicaId, TopicId};
use serde::{Deserialize, Serialize};
use storage::{GroupBirth, GroupCheckpoint, RecoveredGroup, SegmentSummary};

/// What a group's entries mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupKind {
    Metadata,
    Partition,
    /// A partition whose records are consumer groups.
    Coordinator,
}

impl GroupKind {
    /// What the partitions of a topic are.
    pub fn of_topic(name: &str) -> GroupKind {
        match name == machine::groups::OFFSETS_TOPIC {
            true => GroupKind::Coordinator,
            false => GroupKind::Partition,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            GroupKind::Metadata => "metadata",
            GroupKind::Partition => "partition",
            GroupKind::Coordinator => "coordinator",
        }
    }
}

/// One replica and where it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaRef {
    pub replica: ReplicaId,
    pub broker: BrokerId,
    pub directory: DirectoryId,
}

/// Everything needed to build a group for the first time.
#[derive(Debug, Clone)]
pub struct GroupSpec {
    pub group: GroupId,
    pub kind: GroupKind,
    /// `topic-partition`, or `metadata`: for people.
    pub name: String,
    pub topic: TopicId,
    pub partition: i32,
    pub replica: ReplicaId,
    /// First is preferred.
    pub replicas: Vec<ReplicaRef>,
    /// Voters of the group's first membership, for a replica that comes later and replays the
    /// log from there. Empty: `replicas` are they.
    pub founders: Vec<ReplicaId>,
    /// Replicas that do not vote (metadata beyond five brokers).
    pub learners: Vec<ReplicaId>,
    /// The topic's; see `machine::metadata::Topic`.
    pub producers_before: i64,
    pub config: TopicConfig,
}

#[derive(Serialize, Deserialize)]
struct BirthBody {
    kind: String,
    name: String,
    topic: String,
    partition: i32,
    /// (replica, broker, directory)
    replicas: Vec<(u64, i32, String)>,
    learners: Vec<u64>,
    #[serde(default)]
    producers_before: i64,
    #[serde(default)]
    founders: Vec<u64>,
}

impl GroupSpec {
    pub fn conf_state(&self) -> ConfState {
        let voters = self.replicas.iter().map(|r| r.replica).filter(|r| !self.learners.contains(r));
        let mut voters: Vec<u64> = voters.map(|replica| replica.0).collect();
        if !self.founders.is_empty() {
            voters = self.founders.iter().map(|replica| replica.0).collect();
        }
        voters.sort_unstable();
        let learners = self.learners.iter().map(|replica| replica.0).collect();
        ConfState { voters, learners, ..ConfState::default() }
    }

    pub fn birth(&self) -> GroupBirth {
        let replicas = self.replicas.iter();
        let body = BirthBody {
            kind: self.kind.as_str().into(),
            name: self.name.clone(),
            topic: self.topic.to_string(),
            partition: self.partition,
            replicas: replicas
                .map(|r| (r.replica.0, r.broker.0, r.directory.to_string()))
                .collect(),
            learners: self.learners.iter().map(|r| r.0).collect(),
            producers_before: self.producers_before,
            founders: self.founders.iter().map(|r| r.0).collect(),
        };
        let json = serde_json::to_vec(&body).expect("plain data encodes");
        GroupBirth { replica: self.replica, body: Bytes::from(json) }
    }

    /// The spec a journal or checkpoint remembers; `Err` says what does not parse.
    pub fn from_birth(
        group: GroupId,
        birth: &GroupBirth,
        config: TopicConfig,
    ) -> Result<GroupSpec, String> {
        let body: BirthBody = serde_json::from_slice(&birth.body)
            .map_err(|error| format!("birth of {group}: {error}"))?;
        let bad_id = |_| format!("birth of {group}: an id is not 32 hexadecimal digits");
        let mut replicas = Vec::with_capacity(body.replicas.len());
        for (replica, broker, directory) in &body.replicas {
            replicas.push(ReplicaRef {
                replica: ReplicaId(*replica),
                broker: BrokerId(*broker),
                directory: directory.parse().map_err(bad_id)?,
            });
        }
        let kind = match body.kind.as_str() {
            "metadata" => GroupKind::Metadata,
            "partition" => GroupKind::Partition,
            "coordinator" => GroupKind::Coordinator,
            other => return Err(format!("birth of {group}: unknown kind {other:?}")),
        };
        Ok(GroupSpec {
            group,
            kind,
            name: body.name,
            topic: body.topic.parse().map_err(bad_id)?,
            partition: body.partition,
            replica: birth.replica,
            replicas,
            learners: body.learners.into_iter().map(ReplicaId).collect(),
            producers_before: body.producers_before,
            founders: body.founders.into_iter().map(ReplicaId).collect(),
            config,
        })
    }
}

/// A membership as a checkpoint carries it.
pub fn conf_state_bytes(state: &ConfState) -> Bytes {
    protobuf::Message::write_to_bytes(state).expect("a plain message encodes").into()
}

/// Reads [`conf_state_bytes`] back.
pub fn conf_state_from(bytes: &[u8]) -> Result<ConfState, String> {
    protobuf::Message::parse_from_bytes(bytes).map_err(|error| format!("membership: {error}"))
}

/// A group as checkpoint, journal and segments have it.
pub struct RestoredGroup {
    pub spec: GroupSpec,
    pub log: Restored,
    /// Snapshot of the machine as of `log.applied`; `None`: a machine that saw nothing.
    pub machine: Option<Bytes>,
    pub applied_term: u64,
    /// The journal already has the group's birth.
    pub in_journal: bool,
    pub segments: Vec<SegmentSummary>,
}

impl RestoredGroup {
    /// A group as recovery found it: `kept` is what the checkpoint says, `segments` what is
    /// readable of it. `Err` says why it cannot be put together.
    pub fn recovered(
        group: GroupId,
        found: RecoveredGroup,
        kept: Option<&GroupCheckpoint>,
        segments: Vec<SegmentSummary>,
        config: TopicConfig,
    ) -> Result<RestoredGroup, String> {
        let birth = found.birth.as_ref().ok_or("its birth record is lost")?;
        let spec = GroupSpec::from_birth(group, birth, config)?;
        let conf_state = match kept {
            None => spec.conf_state(),
            Some(kept) => conf_state_from(&kept.conf_state)?,
        };
        Ok(RestoredGroup {
            machine: kept.map(|kept| kept.machine.clone()),
            applied_term: kept.map_or(0, |kept| kept.applied_term),
            in_journal: true,
            segments,
            log: Restored {
                hard_state: found.hard_state,
                conf_state,
                applied: kept.map_or(0, |kept| kept.applied_index),
                start_index: kept.map_or(0, |kept| kept.start_index),
                terms: kept.map(|kept| kept.term_starts.clone()).unwrap_or_default(),
                entries: found.entries,
                suspect: found.suspect.is_some(),
                new_group: false,
            },
            spec,
        })
    }

    /// A group that is formed now, or that this replica joins with an empty log.
    pub fn new(spec: GroupSpec) -> RestoredGroup {
        let conf_state = spec.conf_state();
        let own = spec.replica.0;
        // One that comes later is no part of the group's formation: it waits to be added.
        let new_group = conf_state.voters.contains(&own) || conf_state.learners.contains(&own);
        let log = Restored { conf_state, new_group, ..Restored::default() };
        RestoredGroup {
            spec,
            log,
            machine: None,
            applied_term: 0,
            in_journal: false,
            segments: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> TopicConfig {
        TopicConfig::resolve(&Default::default(), &Default::default()).unwrap()
    }

    #[test]
    fn a_birth_reads_back_and_foreign_bytes_are_named() {
        let replica = |id| ReplicaRef {
            replica: ReplicaId(id),
            broker: BrokerId(id as i32),
            directory: DirectoryId([id as u8; 16]),
        };
        let spec = GroupSpec {
            group: GroupId(7),
            kind: GroupKind::Partition,
            name: "orders-0".into(),
            topic: TopicId([9; 16]),
            partition: 0,
            replica: ReplicaId(2),
            replicas: vec![replica(2), replica(1), replica(3)],
            founders: Vec::new(),
            learners: vec![ReplicaId(3)],
            producers_before: 11,
            config: config(),
        };
        let back = GroupSpec::from_birth(spec.group, &spec.birth(), config()).unwrap();
        assert_eq!((back.name.as_str(), back.replica), ("orders-0", ReplicaId(2)));
        assert_eq!((back.replicas.clone(), back.producers_before), (spec.replicas.clone(), 11));
        assert_eq!(back.conf_state().voters, vec![1, 2]);
        let foreign = GroupBirth { replica: ReplicaId(1), body: Bytes::from_static(b"{}") };
        assert!(
            GroupSpec::from_birth(GroupId(7), &foreign, config())
                .unwrap_err()
                .contains("birth of 7")
        );
    }
}
