//! JoinGroup and the first half of a rebalance: who is in the next generation.

use bytes::Bytes;
use model::{ErrorCode, Now, limits};
use wire::api::join_group::JoinGroupRequest;
use wire::api::sync_group::SyncGroupResponse;

use super::group::{GroupState, Live, Member, ParkedJoin, join_refused};
use super::{Done, Effects, GroupsLead, MS, Observed, RebalanceReason};
use crate::groups::protocol::{Caller, Response};
use crate::groups::record::Record;
use crate::groups::state::Groups;

impl<R> GroupsLead<R> {
    pub(super) fn join(
        &mut self,
        now: Now,
        groups: &Groups,
        caller: Caller,
        request: JoinGroupRequest,
        reply: R,
        out: &mut Effects<R>,
    ) {
        let member_id = request.member_id.clone();
        if let Err(code) = self.admit(now, groups, caller, request, reply, out) {
            let (reply, code) = code;
            out.replies.push((reply, Response::Join(join_refused(&member_id, code))));
        }
    }

    fn admit(
        &mut self,
        now: Now,
        groups: &Groups,
        caller: Caller,
        request: JoinGroupRequest,
        reply: R,
        out: &mut Effects<R>,
    ) -> Result<(), (R, ErrorCode)> {
        let config = &self.config;
        let session = request.session_timeout_ms;
        let protocols: Vec<(String, Bytes)> =
            request.protocols.iter().map(|p| (p.name.clone(), p.metadata.clone())).collect();
        let code = if request.group_id.is_empty() || too_long(&request.group_id) {
            Some(ErrorCode::InvalidGroupId)
        } else if too_much(&caller, &request) {
            Some(ErrorCode::InvalidRequest)
        } else if !(config.session_ms_min..=config.session_ms_max).contains(&session) {
            Some(ErrorCode::InvalidSessionTimeout)
        } else if request.protocol_type.is_empty() || protocols.is_empty() {
            Some(ErrorCode::InconsistentGroupProtocol)
        } else {
            None
        };
        if let Some(code) = code {
            return Err((reply, code));
        }
        let group_id = request.group_id.clone();
        if !self.live.contains_key(&group_id) {
            if !request.member_id.is_empty() {
                return Err((reply, ErrorCode::UnknownMemberId));
            }
            if self.live.len() >= limits::GROUPS_PER_COORDINATOR_MAX {
                return Err((reply, ErrorCode::GroupMaxSizeReached));
            }
            let generation = groups.group(&group_id).map_or(0, |group| group.generation);
            self.live.insert(group_id.clone(), Live::new(generation));
        }
        let live = self.live.get_mut(&group_id).expect("just there");
        if !live.can_speak(&request.protocol_type, &protocols) {
            return Err((reply, ErrorCode::InconsistentGroupProtocol));
        }
        let parked = ParkedJoin { reply, knows_skip_assignment: caller.knows_skip_assignment };
        let instance = request.group_instance_id.clone();
        if request.member_id.is_empty() {
            let known = instance.as_ref().and_then(|instance| live.statics.get(instance).cloned());
            if let Some(old) = known {
                self.replace_static(now, &group_id, &old, caller, request, protocols, parked, out);
                return Ok(());
            }
            if live.members.len() + live.expected.len() >= config.members_max {
                return Err((parked.reply, ErrorCode::GroupMaxSizeReached));
            }
            let prefix = instance.as_deref().unwrap_or(&caller.client_id);
            let member_id = format!("{prefix}-{}", caller.unique);
            if instance.is_none() && caller.knows_member_id_required {
                let ends_ns = now.boot_ns + session.max(0) as u64 * MS;
                live.expected.insert(member_id.clone(), ends_ns);
                let required = join_refused(&member_id, ErrorCode::MemberIdRequired);
                out.replies.push((parked.reply, Response::Join(required)));
                return Ok(());
            }
            self.add(now, &group_id, member_id, caller, request, protocols, parked, out);
            return Ok(());
        }
        let member_id = request.member_id.clone();
        if live.expected.remove(&member_id).is_some() {
            if live.members.len() >= config.members_max {
                return Err((parked.reply, ErrorCode::GroupMaxSizeReached));
            }
            self.add(now, &group_id, member_id, caller, request, protocols, parked, out);
            return Ok(());
        }
        if let Err(code) = live.check_identity(&member_id, instance.as_deref()) {
            return Err((parked.reply, code));
        }
        self.rejoin(now, &group_id, &member_id, request, protocols, parked, out);
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn add(
        &mut self,
        now: Now,
        group_id: &str,
        member_id: String,
        caller: Caller,
        request: JoinGroupRequest,
        protocols: Vec<(String, Bytes)>,
        parked: ParkedJoin<R>,
        out: &mut Effects<R>,
    ) {
        let live = self.live.get_mut(group_id).expect("looked up");
        live.joins += 1;
        let mut member = Member {
            instance: request.group_instance_id,
            client_id: caller.client_id,
            client_host: caller.client_host,
            rebalance_timeout_ms: rebalance_ms(
                request.rebalance_timeout_ms,
                request.session_timeout_ms,
            ),
            session_timeout_ms: request.session_timeout_ms,
            protocols,
            assignment: Bytes::new(),
            join: Some(parked),
            sync: None,
            session_ends_ns: 0,
            order: live.joins,
        };
        member.heard(now);
        if live.members.is_empty() {
            live.protocol_type = request.protocol_type;
        }
        if let Some(instance) = &member.instance {
            live.statics.insert(instance.clone(), member_id.clone());
        }
        if live.leader.is_none() {
            live.leader = Some(member_id.clone());
        }
        live.members.insert(member_id, member);
        if live.state == GroupState::PreparingRebalance {
            // The first members of a group wait a little for the next.
            if let Some(until_ns) = live.initial_until_ns {
                live.join_ends_ns = (now.boot_ns + self.config.initial_delay_ms * MS).min(until_ns);
            }
            self.complete_join_if_all(now, group_id, out);
        } else {
            self.prepare(now, group_id, RebalanceReason::Joined, out);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn rejoin(
        &mut self,
        now: Now,
        group_id: &str,
        member_id: &str,
        request: JoinGroupRequest,
        protocols: Vec<(String, Bytes)>,
        parked: ParkedJoin<R>,
        out: &mut Effects<R>,
    ) {
        let live = self.live.get_mut(group_id).expect("looked up");
        let leads = live.is_leader(member_id);
        let member = live.members.get_mut(member_id).expect("its identity was checked");
        member.heard(now);
        let same = member.protocols == protocols;
        let asks_again = match live.state {
            GroupState::PreparingRebalance => false,
            // The answer was lost: the same again.
            GroupState::CompletingRebalance => same,
            GroupState::Stable => same && !leads,
            GroupState::Empty => false,
        };
        if asks_again {
            let joined = live.joined(member_id, false);
            out.replies.push((parked.reply, Response::Join(joined)));
            return;
        }
        let member = live.members.get_mut(member_id).expect("its identity was checked");
        member.protocols = protocols;
        member.session_timeout_ms = request.session_timeout_ms;
        member.rebalance_timeout_ms =
            rebalance_ms(request.rebalance_timeout_ms, request.session_timeout_ms);
        if let Some(before) = member.join.replace(parked) {
            // A client that gave up waiting and came again on another connection.
            let again = join_refused(member_id, ErrorCode::RebalanceInProgress);
            out.replies.push((before.reply, Response::Join(again)));
        }
        if live.state == GroupState::PreparingRebalance {
            self.complete_join_if_all(now, group_id, out);
        } else {
            self.prepare(now, group_id, RebalanceReason::Rejoined, out);
        }
    }

    /// A static member came back without its id: it takes its own place, under a new id, and the
    /// old one is fenced (KIP-345).
    #[allow(clippy::too_many_arguments)]
    fn replace_static(
        &mut self,
        now: Now,
        group_id: &str,
        old: &str,
        caller: Caller,
        request: JoinGroupRequest,
        protocols: Vec<(String, Bytes)>,
        parked: ParkedJoin<R>,
        out: &mut Effects<R>,
    ) {
        let live = self.live.get_mut(group_id).expect("looked up");
        let instance = request.group_instance_id.clone().expect("a static member");
        let member_id = format!("{instance}-{}", caller.unique);
        let led = live.is_leader(old);
        let Some(mut member) = live.members.remove(old) else { return };
        fence(old, &mut member, out);
        let same = member.protocols == protocols;
        member.client_id = caller.client_id;
        member.client_host = caller.client_host;
        member.protocols = protocols;
        member.session_timeout_ms = request.session_timeout_ms;
        member.rebalance_timeout_ms =
            rebalance_ms(request.rebalance_timeout_ms, request.session_timeout_ms);
        member.heard(now);
        let skips = parked.knows_skip_assignment;
        let stays = live.state == GroupState::Stable && same;
        if !stays {
            member.join = Some(parked);
            live.statics.insert(instance, member_id.clone());
            live.members.insert(member_id.clone(), member);
            if led {
                live.leader = Some(member_id);
            }
            if live.state == GroupState::PreparingRebalance {
                self.complete_join_if_all(now, group_id, out);
            } else {
                self.prepare(now, group_id, RebalanceReason::StaticReplaced, out);
            }
            return;
        }
        live.statics.insert(instance, member_id.clone());
        live.members.insert(member_id.clone(), member);
        if led {
            live.leader = Some(member_id.clone());
        }
        // Nobody else has to move; only the id is news.
        let mut joined = live.joined(&member_id, true);
        if led && !skips {
            // Before JoinGroup 9 nothing says "lead, but assign nothing": it hears that its old self
            // leads, and asks for what it has.
            joined.skip_assignment = false;
            joined.leader = old.to_owned();
            joined.members.clear();
        }
        let record = Record::group(group_id, Some(&live.stored(now)));
        let done = Done::Reply(vec![(parked.reply, Response::Join(joined))]);
        self.append(group_id, vec![record], done, out);
    }

    /// Begins a rebalance: everybody is to join again.
    pub(super) fn prepare(
        &mut self,
        now: Now,
        group_id: &str,
        reason: RebalanceReason,
        out: &mut Effects<R>,
    ) {
        let initial_ns = self.config.initial_delay_ms * MS;
        let Some(live) = self.live.get_mut(group_id) else { return };
        for member in live.members.values_mut() {
            if let Some(reply) = member.sync.take() {
                let error_code = ErrorCode::RebalanceInProgress;
                let sync = SyncGroupResponse { error_code, ..SyncGroupResponse::default() };
                out.replies.push((reply, Response::Sync(sync)));
            }
            if live.state == GroupState::CompletingRebalance {
                member.assignment = Bytes::new();
            }
        }
        let slowest_ns = now.boot_ns + live.rebalance_ms() * MS;
        if live.state == GroupState::Empty && initial_ns > 0 {
            live.initial_until_ns = Some(slowest_ns);
            live.join_ends_ns = (now.boot_ns + initial_ns).min(slowest_ns);
        } else {
            live.initial_until_ns = None;
            live.join_ends_ns = slowest_ns;
        }
        live.state = GroupState::PreparingRebalance;
        live.storing = false;
        out.observed.push(Observed::RebalanceBegan(reason));
        self.complete_join_if_all(now, group_id, out);
    }

    pub(super) fn complete_join_if_all(&mut self, now: Now, group_id: &str, out: &mut Effects<R>) {
        let Some(live) = self.live.get(group_id) else { return };
        let waits = live.initial_until_ns.is_some() && now.boot_ns < live.join_ends_ns;
        if live.state == GroupState::PreparingRebalance && live.all_joined() && !waits {
            self.complete_join(now, group_id, out);
        }
    }

    /// The next generation begins with whoever has joined.
    pub(super) fn complete_join(&mut self, now: Now, group_id: &str, out: &mut Effects<R>) {
        let Some(live) = self.live.get_mut(group_id) else { return };
        live.initial_until_ns = None;
        // A static member may come late; its session decides about it.
        let gone = live.members.iter().filter(|(_, m)| m.join.is_none() && m.instance.is_none());
        let gone: Vec<String> = gone.map(|(id, _)| id.clone()).collect();
        for id in gone {
            live.remove(&id);
        }
        live.generation += 1;
        if live.members.is_empty() {
            self.emptied(now, group_id, out);
            return;
        }
        live.protocol = live.choose_protocol();
        let leader_joined = live
            .leader
            .as_ref()
            .and_then(|id| live.members.get(id))
            .is_some_and(|leader| leader.join.is_some());
        if !leader_joined {
            let joined = live.members.iter().filter(|(_, member)| member.join.is_some());
            let first = joined.min_by_key(|(_, member)| member.order);
            let leader = first.map(|(id, _)| id.clone());
            live.leader = leader.or_else(|| live.leader.take());
        }
        live.state = GroupState::CompletingRebalance;
        live.sync_ends_ns = now.boot_ns + live.rebalance_ms() * MS;
        for id in live.member_ids() {
            let joined = live.joined(&id, false);
            let member = live.members.get_mut(&id).expect("a member");
            member.assignment = Bytes::new();
            if let Some(parked) = member.join.take() {
                member.heard(now);
                out.replies.push((parked.reply, Response::Join(joined)));
            }
        }
    }

    /// The last member is gone: the group keeps its offsets and its generation.
    pub(super) fn emptied(&mut self, now: Now, group_id: &str, out: &mut Effects<R>) {
        let Some(live) = self.live.get_mut(group_id) else { return };
        live.state = GroupState::Empty;
        live.protocol = None;
        live.leader = None;
        // Its generation is known nowhere else until this is applied.
        live.storing = true;
        let record = Record::group(group_id, Some(&live.stored(now)));
        out.observed.push(Observed::RebalanceEnded { members: 0 });
        self.append(group_id, vec![record], Done::Emptied, out);
    }
}

/// Whoever waits under the old id of a static member is another life of it.
fn fence<R>(old: &str, member: &mut Member<R>, out: &mut Effects<R>) {
    let code = ErrorCode::FencedInstanceId;
    if let Some(join) = member.join.take() {
        out.replies.push((join.reply, Response::Join(join_refused(old, code))));
    }
    if let Some(reply) = member.sync.take() {
        let sync = SyncGroupResponse { error_code: code, ..SyncGroupResponse::default() };
        out.replies.push((reply, Response::Sync(sync)));
    }
}

fn rebalance_ms(rebalance: i32, session: i32) -> i32 {
    if rebalance < 0 { session } else { rebalance }
}

/// Texts end up behind 16-bit lengths, and in memory.
fn too_long(text: &str) -> bool {
    text.len() > limits::GROUP_TEXT_BYTES_MAX
}

/// Every text that is stored, the client's own name included: it begins the member's id.
fn too_much(caller: &Caller, request: &JoinGroupRequest) -> bool {
    let bytes: usize = request.protocols.iter().map(|p| p.name.len() + p.metadata.len()).sum();
    too_long(&caller.client_id)
        || too_long(&request.member_id)
        || too_long(&request.protocol_type)
        || request.group_instance_id.as_deref().is_some_and(too_long)
        || request.protocols.iter().any(|protocol| too_long(&protocol.name))
        || bytes > limits::GROUP_MEMBER_BYTES_MAX
}
