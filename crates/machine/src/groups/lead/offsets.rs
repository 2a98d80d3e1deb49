//! OffsetCommit, OffsetDelete, DeleteGroups: what changes committed offsets.

use std::collections::BTreeSet;

use model::{ErrorCode, Now, limits};
use wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use wire::api::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};

use super::group::GroupState;
use super::tombstones::Tombstones;
use super::{Done, Effects, GroupsLead, Observed, queries};
use crate::groups::protocol::Response;
use crate::groups::record::Record;
use crate::groups::state::{CommittedOffset, Groups};
use crate::metadata::Image;

impl<R> GroupsLead<R> {
    pub(super) fn commit(
        &mut self,
        now: Now,
        groups: &Groups,
        image: &Image,
        request: OffsetCommitRequest,
        reply: R,
        out: &mut Effects<R>,
    ) {
        let group_id = request.group_id.as_str();
        let code = self.may_commit(now, groups, &request).err();
        let (mut records, mut bytes) = (Vec::new(), 0);
        // A record holds no longer text, whatever is configured.
        let max = self.config.metadata_bytes_max.min(i16::MAX as usize);
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            // Gone since it was looked up: what would be kept is nobody's.
            let found = image.topic_by_id(topic.topic_id);
            for asked in &topic.partitions {
                let metadata = asked.committed_metadata.clone().unwrap_or_default();
                let index = usize::try_from(asked.partition_index).ok();
                let of = found.zip(index).and_then(|(topic, at)| topic.partitions.get(at));
                let refused = match (code, of) {
                    (Some(code), _) => code,
                    (None, None) => ErrorCode::UnknownTopicOrPartition,
                    (None, Some(_)) if metadata.len() > max => ErrorCode::OffsetMetadataTooLarge,
                    (None, Some(_)) => ErrorCode::None,
                };
                if refused == ErrorCode::None {
                    let offset = CommittedOffset {
                        offset: asked.committed_offset,
                        leader_epoch: asked.committed_leader_epoch,
                        metadata,
                        commit_ms: now.wall_ms,
                        raft_group: of.map(|partition| partition.group),
                    };
                    let partition = asked.partition_index;
                    let record = Record::offset(group_id, &topic.name, partition, Some(&offset));
                    bytes += record.payload();
                    // A long group id, once for each of many partitions, is more than was sent.
                    if bytes <= self.batch_bytes {
                        records.push(record);
                    }
                }
                partitions.push(OffsetCommitResponsePartition {
                    partition_index: asked.partition_index,
                    error_code: refused,
                });
            }
            topics.push(OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions,
            });
        }
        let response = Response::Commit(OffsetCommitResponse { throttle_time_ms: 0, topics });
        if bytes > self.batch_bytes {
            let code = ErrorCode::InvalidCommitOffsetSize;
            out.replies.push((reply, super::refused(response, code)));
            return;
        }
        if records.is_empty() {
            out.replies.push((reply, response));
            return;
        }
        out.observed.push(Observed::OffsetsCommitted { offsets: records.len() });
        self.append(group_id, records, Done::Reply(vec![(reply, response)]), out);
    }

    fn may_commit(
        &mut self,
        now: Now,
        groups: &Groups,
        request: &OffsetCommitRequest,
    ) -> Result<(), ErrorCode> {
        let group_id = request.group_id.as_str();
        if group_id.len() > limits::GROUP_TEXT_BYTES_MAX {
            return Err(ErrorCode::InvalidGroupId);
        }
        let generation = request.generation_id_or_member_epoch;
        let Some(live) = self.live.get_mut(group_id).filter(|live| !live.members.is_empty()) else {
            // Whoever assigns partitions by hand commits without being a member.
            return match generation < 0 {
                true if !groups.knows(group_id)
                    && groups.len() >= limits::GROUPS_PER_COORDINATOR_MAX =>
                {
                    Err(ErrorCode::GroupMaxSizeReached)
                }
                true => Ok(()),
                false if groups.group(group_id).is_some() => Err(ErrorCode::UnknownMemberId),
                false => Err(ErrorCode::IllegalGeneration),
            };
        };
        if generation < 0 && request.member_id.is_empty() && request.group_instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        live.check_identity(&request.member_id, request.group_instance_id.as_deref())?;
        if generation != live.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let state = live.state;
        let member = live.members.get_mut(&request.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        member.heard(now);
        match state {
            GroupState::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    pub(super) fn delete(
        &mut self,
        groups: &Groups,
        group_id: &str,
        reply: R,
        out: &mut Effects<R>,
    ) {
        let code = if self.live.get(group_id).is_some_and(|live| !live.members.is_empty()) {
            ErrorCode::NonEmptyGroup
        } else if !groups.knows(group_id) {
            ErrorCode::GroupIdNotFound
        } else {
            // The group itself last: what was removed in part is still known, and asked for again.
            let mut gone = Tombstones::new();
            for (topic, partition, _) in groups.offsets(group_id) {
                gone.push(Record::offset(group_id, topic, partition, None));
            }
            gone.push(Record::group(group_id, None));
            let response = gone.answer(Response::Delete(ErrorCode::None));
            return self.bury(group_id, gone, Done::Reply(vec![(reply, response)]), out);
        };
        out.replies.push((reply, Response::Delete(code)));
    }

    pub(super) fn delete_offsets(
        &mut self,
        groups: &Groups,
        request: OffsetDeleteRequest,
        reply: R,
        out: &mut Effects<R>,
    ) {
        let group_id = request.group_id.as_str();
        let live = self.live.get(group_id).filter(|live| !live.members.is_empty());
        let mut error_code = ErrorCode::None;
        let mut subscribed = BTreeSet::new();
        if let Some(live) = live {
            match queries::subscribed(live) {
                Some(topics) => subscribed = topics,
                // Not consumers, or a subscription nobody here can read.
                None => error_code = ErrorCode::NonEmptyGroup,
            }
        } else if !groups.knows(group_id) {
            error_code = ErrorCode::GroupIdNotFound;
        }
        if error_code != ErrorCode::None {
            let response = OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() };
            out.replies.push((reply, Response::DeleteOffsets(response)));
            return;
        }
        let mut gone = Tombstones::new();
        let mut named = BTreeSet::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let in_use = subscribed.contains(&topic.name);
            let partitions = topic.partitions.iter().map(|asked| {
                let partition_index = asked.partition_index;
                let known = groups.offset(group_id, &topic.name, partition_index).is_some();
                // However often it is named, it goes once.
                if known && !in_use && named.insert((topic.name.as_str(), partition_index)) {
                    gone.push(Record::offset(group_id, &topic.name, partition_index, None));
                }
                let error_code =
                    if in_use { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
                OffsetDeleteResponsePartition { partition_index, error_code }
            });
            let partitions = partitions.collect();
            topics.push(OffsetDeleteResponseTopic { name: topic.name.clone(), partitions });
        }
        let response = Response::DeleteOffsets(OffsetDeleteResponse {
            topics,
            ..OffsetDeleteResponse::default()
        });
        if gone.is_empty() {
            out.replies.push((reply, response));
        } else {
            let response = gone.answer(response);
            self.bury(group_id, gone, Done::Reply(vec![(reply, response)]), out);
        }
    }
}
