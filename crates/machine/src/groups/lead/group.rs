//! One group while its coordinator leads: members, their wishes, and who is parked.
//!
//! Invariant: the state says who may be parked: joins only while `PreparingRebalance`, syncs only
//! while `CompletingRebalance`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use model::{ErrorCode, Now};
use wire::api::join_group::{JoinGroupResponse, JoinGroupResponseMember};

use super::MS;
use crate::groups::state::{StoredGroup, StoredMember};

/// Kafka's states of a classic group; a group without members is `Empty`, one without anything
/// `Dead`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl GroupState {
    pub const ALL: [GroupState; 4] = [
        GroupState::Empty,
        GroupState::PreparingRebalance,
        GroupState::CompletingRebalance,
        GroupState::Stable,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
        }
    }
}

/// A join that waits for the others.
pub(super) struct ParkedJoin<R> {
    pub reply: R,
    pub knows_skip_assignment: bool,
}

pub(super) struct Member<R> {
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// Most wanted first.
    pub protocols: Vec<(String, Bytes)>,
    pub assignment: Bytes,
    pub join: Option<ParkedJoin<R>>,
    pub sync: Option<R>,
    /// Boot nanoseconds.
    pub session_ends_ns: u64,
    /// Counts joins, so that the first to come leads.
    pub order: u64,
}

impl<R> Member<R> {
    pub fn heard(&mut self, now: Now) {
        self.session_ends_ns = now.boot_ns + self.session_timeout_ms.max(0) as u64 * MS;
    }

    fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    pub fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }
}

/// See the module.
pub(super) struct Live<R> {
    pub state: GroupState,
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub members: BTreeMap<String, Member<R>>,
    /// Static members: instance -> member id.
    pub statics: BTreeMap<String, String>,
    /// Ids given to clients that have not come back with them yet, and until when they count.
    pub expected: BTreeMap<String, u64>,
    /// While preparing: when the rebalance goes on without those who are missing.
    pub join_ends_ns: u64,
    /// While preparing from empty: new members prolong the wait up to here.
    pub initial_until_ns: Option<u64>,
    /// While completing: when members that did not sync are let go.
    pub sync_ends_ns: u64,
    /// The leader's assignment is on its way into the log.
    pub storing: bool,
    pub joins: u64,
}

impl<R> Live<R> {
    pub fn new(generation: i32) -> Live<R> {
        Live {
            state: GroupState::Empty,
            generation,
            protocol_type: String::new(),
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            expected: BTreeMap::new(),
            join_ends_ns: 0,
            initial_until_ns: None,
            sync_ends_ns: 0,
            storing: false,
            joins: 0,
        }
    }

    /// As a new coordinator finds it: stable, and heard from just now.
    pub fn restored(stored: &StoredGroup, now: Now) -> Live<R> {
        let mut live = Live::new(stored.generation);
        live.state = GroupState::Stable;
        live.protocol_type.clone_from(&stored.protocol_type);
        live.protocol.clone_from(&stored.protocol);
        live.leader.clone_from(&stored.leader);
        let protocol = stored.protocol.clone().unwrap_or_default();
        for stored in &stored.members {
            live.joins += 1;
            let mut member = Member {
                instance: stored.instance.clone(),
                client_id: stored.client_id.clone(),
                client_host: stored.client_host.clone(),
                rebalance_timeout_ms: stored.rebalance_timeout_ms,
                session_timeout_ms: stored.session_timeout_ms,
                protocols: vec![(protocol.clone(), stored.subscription.clone())],
                assignment: stored.assignment.clone(),
                join: None,
                sync: None,
                session_ends_ns: 0,
                order: live.joins,
            };
            member.heard(now);
            if let Some(instance) = &stored.instance {
                live.statics.insert(instance.clone(), stored.member_id.clone());
            }
            live.members.insert(stored.member_id.clone(), member);
        }
        live
    }

    /// What the log is told of it.
    pub fn stored(&self, now: Now) -> StoredGroup {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = self.members.iter().map(|(member_id, member)| StoredMember {
            member_id: member_id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(&protocol),
            assignment: member.assignment.clone(),
        });
        StoredGroup {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_ms: now.wall_ms,
            members: members.collect(),
        }
    }

    pub fn into_parked(self) -> Vec<R> {
        let each = self.members.into_values();
        each.flat_map(|member| member.join.map(|join| join.reply).into_iter().chain(member.sync))
            .collect()
    }

    pub fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Is this who it says it is?
    pub fn check_identity(&self, member_id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            return match self.statics.get(instance) {
                None => Err(ErrorCode::UnknownMemberId),
                Some(known) if known != member_id => Err(ErrorCode::FencedInstanceId),
                Some(_) => Ok(()),
            };
        }
        match self.members.contains_key(member_id) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// Every member has a protocol in common with these.
    pub fn can_speak(&self, protocol_type: &str, protocols: &[(String, Bytes)]) -> bool {
        self.members.is_empty()
            || self.protocol_type == protocol_type
                && protocols.iter().any(|(name, _)| self.members.values().all(|m| m.supports(name)))
    }

    /// Of what all members support, what most of them want most; of equals, the first by name.
    pub fn choose_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let all_can = |name: &str| self.members.values().all(|other| other.supports(name));
            let wanted = member.protocols.iter().map(|(name, _)| name.as_str());
            if let Some(name) = wanted.into_iter().find(|name| all_can(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }

    /// How long the slowest member may take to rejoin.
    pub fn rebalance_ms(&self) -> u64 {
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max();
        longest.unwrap_or(0).max(0) as u64
    }

    /// Nothing happens to it by itself before this, boot nanoseconds; `u64::MAX`: nothing at all.
    pub fn next_deadline_ns(&self) -> u64 {
        // Whoever is parked waits for us, not we for them.
        let sessions = self.members.values().filter(|m| m.join.is_none() && m.sync.is_none());
        let sessions = sessions.map(|member| member.session_ends_ns);
        let expected = self.expected.values().copied();
        let phase_ns = match self.state {
            GroupState::PreparingRebalance => self.join_ends_ns,
            GroupState::CompletingRebalance => self.sync_ends_ns,
            GroupState::Empty | GroupState::Stable => u64::MAX,
        };
        sessions.chain(expected).chain([phase_ns]).min().unwrap_or(u64::MAX)
    }

    pub fn all_joined(&self) -> bool {
        self.expected.is_empty() && self.members.values().all(|member| member.join.is_some())
    }

    /// What a member hears of the generation it is in.
    pub fn joined(&self, member_id: &str, skip_assignment: bool) -> JoinGroupResponse {
        let protocol = self.protocol.clone().unwrap_or_default();
        let list = |(id, member): (&String, &Member<R>)| JoinGroupResponseMember {
            member_id: id.clone(),
            group_instance_id: member.instance.clone(),
            metadata: member.metadata(&protocol),
        };
        let leads = self.is_leader(member_id);
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: Some(self.protocol_type.clone()),
            protocol_name: Some(protocol.clone()),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: leads && skip_assignment,
            member_id: member_id.to_owned(),
            members: if leads { self.members.iter().map(list).collect() } else { Vec::new() },
            ..JoinGroupResponse::default()
        }
    }

    pub fn remove(&mut self, member_id: &str) -> Option<Member<R>> {
        let member = self.members.remove(member_id)?;
        if let Some(instance) = &member.instance
            && self.statics.get(instance).is_some_and(|known| known == member_id)
        {
            self.statics.remove(instance);
        }
        if self.is_leader(member_id) {
            let first = self.members.iter().min_by_key(|(_, member)| member.order);
            self.leader = first.map(|(id, _)| id.clone());
        }
        Some(member)
    }

    pub fn member_ids(&self) -> BTreeSet<String> {
        self.members.keys().cloned().collect()
    }
}

/// A refused join.
pub(super) fn join_refused(member_id: &str, code: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: code,
        member_id: member_id.to_owned(),
        protocol_name: Some(String::new()),
        ..JoinGroupResponse::default()
    }
}
