//! LeaveGroup, and every other way to stop being a member.

use model::{ErrorCode, Now};
use wire::api::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse,
};
use wire::api::sync_group::SyncGroupResponse;

use super::group::{GroupState, join_refused};
use super::{Effects, GroupsLead, RebalanceReason};
use crate::groups::protocol::Response;

impl<R> GroupsLead<R> {
    pub(super) fn leave(
        &mut self,
        now: Now,
        request: LeaveGroupRequest,
        reply: R,
        out: &mut Effects<R>,
    ) {
        let LeaveGroupRequest { group_id, member_id, members } = request;
        let single = members.is_empty();
        let leaving = if single {
            vec![MemberIdentity { member_id, ..MemberIdentity::default() }]
        } else {
            members
        };
        let mut told = Vec::with_capacity(leaving.len());
        for member in leaving {
            let code = self.leave_one(now, &group_id, &member, out);
            told.push(MemberResponse {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                error_code: code,
            });
        }
        let response = if single {
            let error_code = told.first().map_or(ErrorCode::None, |member| member.error_code);
            LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() }
        } else {
            LeaveGroupResponse { members: told, ..LeaveGroupResponse::default() }
        };
        out.replies.push((reply, Response::Leave(response)));
    }

    fn leave_one(
        &mut self,
        now: Now,
        group_id: &str,
        member: &MemberIdentity,
        out: &mut Effects<R>,
    ) -> ErrorCode {
        let Some(live) = self.live.get_mut(group_id) else { return ErrorCode::UnknownMemberId };
        let mut member_id = member.member_id.clone();
        if let Some(instance) = &member.group_instance_id {
            // An operator names the instance only.
            match live.statics.get(instance) {
                None => return ErrorCode::UnknownMemberId,
                Some(known) if member_id.is_empty() => member_id.clone_from(known),
                Some(known) if *known != member_id => return ErrorCode::FencedInstanceId,
                Some(_) => {}
            }
        }
        if live.expected.remove(&member_id).is_some() {
            self.complete_join_if_all(now, group_id, out);
            self.forget_if_idle(group_id);
            return ErrorCode::None;
        }
        if !live.members.contains_key(&member_id) {
            return ErrorCode::UnknownMemberId;
        }
        self.remove(now, group_id, &member_id, RebalanceReason::Left, out);
        ErrorCode::None
    }

    /// Takes a member out and lets the others share its work.
    pub(super) fn remove(
        &mut self,
        now: Now,
        group_id: &str,
        member_id: &str,
        reason: RebalanceReason,
        out: &mut Effects<R>,
    ) {
        let Some(live) = self.live.get_mut(group_id) else { return };
        let Some(member) = live.remove(member_id) else { return };
        let error_code = ErrorCode::UnknownMemberId;
        if let Some(join) = member.join {
            out.replies.push((join.reply, Response::Join(join_refused(member_id, error_code))));
        }
        if let Some(reply) = member.sync {
            let sync = SyncGroupResponse { error_code, ..SyncGroupResponse::default() };
            out.replies.push((reply, Response::Sync(sync)));
        }
        match live.state {
            GroupState::Empty => {}
            GroupState::PreparingRebalance => self.complete_join_if_all(now, group_id, out),
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare(now, group_id, reason, out);
            }
        }
    }

    /// The log knows its generation: nothing has to be kept here.
    pub(super) fn stored_empty(&mut self, group_id: &str) {
        if let Some(live) = self.live.get_mut(group_id)
            && live.state == GroupState::Empty
        {
            live.storing = false;
            self.forget_if_idle(group_id);
        }
    }

    /// A group that nobody joined after all.
    pub(super) fn forget_if_idle(&mut self, group_id: &str) {
        let idle = |live: &super::Live<R>| {
            live.state == GroupState::Empty && live.expected.is_empty() && !live.storing
        };
        if self.live.get(group_id).is_some_and(idle) {
            self.live.remove(group_id);
        }
    }
}
