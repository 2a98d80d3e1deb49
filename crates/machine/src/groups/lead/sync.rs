//! SyncGroup and Heartbeat: the second half of a rebalance, and staying in it.

use model::{ErrorCode, Now};
use wire::api::heartbeat::HeartbeatRequest;
use wire::api::sync_group::{SyncGroupRequest, SyncGroupResponse};

use super::group::{GroupState, Live, Member};
use super::{Done, Dropped, Effects, GroupsLead, Observed, RebalanceReason};
use crate::groups::protocol::Response;
use crate::groups::record::Record;

impl<R> GroupsLead<R> {
    pub(super) fn sync(
        &mut self,
        now: Now,
        request: SyncGroupRequest,
        reply: R,
        out: &mut Effects<R>,
    ) {
        let refuse = |reply, error_code, out: &mut Effects<R>| {
            let refused = SyncGroupResponse { error_code, ..SyncGroupResponse::default() };
            out.replies.push((reply, Response::Sync(refused)));
        };
        let Some(live) = self.live.get_mut(&request.group_id) else {
            return refuse(reply, ErrorCode::UnknownMemberId, out);
        };
        if let Err(code) = check_sync(live, &request) {
            return refuse(reply, code, out);
        }
        let member_id = request.member_id.as_str();
        let leads = live.is_leader(member_id);
        let assigned = assigned(live, member_id);
        let state = live.state;
        let member = live.members.get_mut(member_id).expect("its identity was checked");
        member.heard(now);
        match state {
            GroupState::Empty => refuse(reply, ErrorCode::UnknownMemberId, out),
            GroupState::PreparingRebalance => refuse(reply, ErrorCode::RebalanceInProgress, out),
            GroupState::Stable => out.replies.push((reply, Response::Sync(assigned))),
            GroupState::CompletingRebalance => {
                if let Some(before) = member.sync.replace(reply) {
                    refuse(before, ErrorCode::RebalanceInProgress, out);
                }
                if leads && !live.storing {
                    live.storing = true;
                    for assignment in request.assignments {
                        if let Some(member) = live.members.get_mut(&assignment.member_id) {
                            member.assignment = assignment.assignment;
                        }
                    }
                    let generation = live.generation;
                    let record = Record::group(&request.group_id, Some(&live.stored(now)));
                    let done = Done::Synced { generation };
                    self.append(&request.group_id, vec![record], done, out);
                }
            }
        }
    }

    /// The assignment is in the log: everybody may have it.
    pub(super) fn synced(
        &mut self,
        now: Now,
        group_id: &str,
        generation: i32,
        out: &mut Effects<R>,
    ) {
        let Some(live) = self.live.get_mut(group_id) else { return };
        if live.generation != generation || live.state != GroupState::CompletingRebalance {
            return;
        }
        live.state = GroupState::Stable;
        live.storing = false;
        out.observed.push(Observed::RebalanceEnded { members: live.members.len() });
        for id in live.member_ids() {
            let response = assigned(live, &id);
            let member = live.members.get_mut(&id).expect("a member");
            if let Some(reply) = member.sync.take() {
                member.heard(now);
                out.replies.push((reply, Response::Sync(response)));
            }
        }
    }

    /// The assignment never entered the log: the rebalance begins anew. Members of a group whose
    /// assignment is too large for the log are told what no retry mends.
    pub(super) fn sync_failed(
        &mut self,
        now: Now,
        group_id: &str,
        generation: i32,
        why: Dropped,
        out: &mut Effects<R>,
    ) {
        let Some(live) = self.live.get_mut(group_id) else { return };
        if live.generation != generation || live.state != GroupState::CompletingRebalance {
            return;
        }
        if why == Dropped::TooLarge {
            for reply in live.members.values_mut().filter_map(|member| member.sync.take()) {
                let error_code = ErrorCode::UnknownServerError;
                let refused = SyncGroupResponse { error_code, ..SyncGroupResponse::default() };
                out.replies.push((reply, Response::Sync(refused)));
            }
        }
        self.prepare(now, group_id, RebalanceReason::NotSynced, out);
    }

    pub(super) fn heartbeat(&mut self, now: Now, request: &HeartbeatRequest) -> ErrorCode {
        let Some(live) = self.live.get_mut(&request.group_id) else {
            return ErrorCode::UnknownMemberId;
        };
        let instance = request.group_instance_id.as_deref();
        if let Err(code) = live.check_identity(&request.member_id, instance) {
            return code;
        }
        if live.state == GroupState::Empty {
            return ErrorCode::UnknownMemberId;
        }
        if request.generation_id != live.generation {
            return ErrorCode::IllegalGeneration;
        }
        let state = live.state;
        let member = live.members.get_mut(&request.member_id).expect("its identity was checked");
        member.heard(now);
        match state {
            GroupState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            _ => ErrorCode::None,
        }
    }
}

fn check_sync<R>(live: &Live<R>, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
    live.check_identity(&request.member_id, request.group_instance_id.as_deref())?;
    if request.generation_id != live.generation {
        return Err(ErrorCode::IllegalGeneration);
    }
    let differs = |said: &Option<String>, is: Option<&str>| {
        said.as_deref().is_some_and(|said| is.is_some_and(|is| is != said))
    };
    if differs(&request.protocol_type, Some(&live.protocol_type))
        || differs(&request.protocol_name, live.protocol.as_deref())
    {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    Ok(())
}

fn assigned<R>(live: &Live<R>, member_id: &str) -> SyncGroupResponse {
    let assignment =
        live.members.get(member_id).map(|member: &Member<R>| member.assignment.clone());
    SyncGroupResponse {
        protocol_type: Some(live.protocol_type.clone()),
        protocol_name: live.protocol.clone(),
        assignment: assignment.unwrap_or_default(),
        ..SyncGroupResponse::default()
    }
}
