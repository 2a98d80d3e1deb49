//! What can be asked about groups.

use std::collections::BTreeSet;

use model::{ErrorCode, limits};
use wire::api::describe_groups::{DescribedGroup, DescribedGroupMember};
use wire::api::list_groups::ListedGroup;
use wire::api::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchResponseGroup, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
};

use super::GroupsLead;
use super::group::{GroupState, Live};
use crate::groups::protocol::Committed;
use crate::groups::state::{CommittedOffset, Groups};
use crate::metadata::Image;

const DEAD: &str = "Dead";

impl<R> GroupsLead<R> {
    pub(super) fn describe(&self, groups: &Groups, group_id: String) -> DescribedGroup {
        if let Some(live) = self.live.get(&group_id) {
            return described(group_id, live);
        }
        let mut group = DescribedGroup { group_id, ..DescribedGroup::default() };
        if groups.knows(&group.group_id) {
            group.group_state = GroupState::Empty.as_str().into();
            let stored = groups.group(&group.group_id);
            group.protocol_type = stored.map(|g| g.protocol_type.clone()).unwrap_or_default();
        } else {
            group.group_state = DEAD.into();
        }
        group
    }

    pub(super) fn list(&self, groups: &Groups) -> Vec<ListedGroup> {
        let live = self.live.iter().map(|(id, live)| ListedGroup {
            group_id: id.clone(),
            protocol_type: live.protocol_type.clone(),
            group_state: live.state.as_str().into(),
            group_type: "classic".into(),
        });
        let idle = groups.ids().filter(|id| !self.live.contains_key(*id)).map(|id| ListedGroup {
            group_id: id.to_owned(),
            protocol_type: groups.group(id).map(|g| g.protocol_type.clone()).unwrap_or_default(),
            group_state: GroupState::Empty.as_str().into(),
            group_type: "classic".into(),
        });
        live.chain(idle).collect()
    }
}

fn described<R>(group_id: String, live: &Live<R>) -> DescribedGroup {
    let stable = live.state == GroupState::Stable;
    let protocol = live.protocol.clone().unwrap_or_default();
    let members = live.members.iter().map(|(member_id, member)| {
        let metadata = member.protocols.iter().find(|(name, _)| *name == protocol);
        DescribedGroupMember {
            member_id: member_id.clone(),
            group_instance_id: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            member_metadata: metadata.map(|(_, bytes)| bytes.clone()).unwrap_or_default(),
            member_assignment: if stable { member.assignment.clone() } else { Default::default() },
        }
    });
    DescribedGroup {
        group_state: live.state.as_str().into(),
        protocol_type: live.protocol_type.clone(),
        members: members.collect(),
        protocol_data: if stable { protocol.clone() } else { String::new() },
        group_id,
        ..DescribedGroup::default()
    }
}

/// Committed offsets; -1 where there is none, as Kafka says it. What was committed for a topic
/// that was deleted is none.
pub(super) fn fetch(
    groups: &Groups,
    image: &Image,
    asked: OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    let group_id = asked.group_id;
    let found = |partition_index, offset: Option<&CommittedOffset>| OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: offset.map_or(-1, |offset| offset.offset),
        committed_leader_epoch: offset.map_or(-1, |offset| offset.leader_epoch),
        metadata: Some(offset.map(|offset| offset.metadata.clone()).unwrap_or_default()),
        error_code: ErrorCode::None,
    };
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    match asked.topics {
        Some(asked) => topics.extend(asked.into_iter().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|partition| {
                let offset = groups.offset(&group_id, &topic.name, *partition);
                found(*partition, offset.filter(|offset| !offset.is_orphan(image)))
            });
            OffsetFetchResponseTopics {
                partitions: partitions.collect(),
                name: topic.name,
                topic_id: topic.topic_id,
            }
        })),
        None => {
            let all = groups.offsets(&group_id);
            for (topic, partition, offset) in all.filter(|(.., offset)| !offset.is_orphan(image)) {
                if topics.last().is_none_or(|last| last.name != topic) {
                    let name = topic.to_owned();
                    topics.push(OffsetFetchResponseTopics { name, ..Default::default() });
                }
                let last = topics.last_mut().expect("just there");
                last.partitions.push(found(partition, Some(offset)));
            }
        }
    }
    OffsetFetchResponseGroup { group_id, topics, error_code: ErrorCode::None }
}

/// A page of everything that is committed.
pub(super) fn committed(groups: &Groups, after: Option<&(String, String, i32)>) -> Vec<Committed> {
    let after = after.map(|(group, topic, partition)| (group.as_str(), topic.as_str(), *partition));
    let page = groups.offsets_after(after).take(limits::COMMITTED_PAGE_MAX);
    let told = |(group, topic, partition, found): (&str, &str, i32, &CommittedOffset)| Committed {
        group: group.to_owned(),
        topic: topic.to_owned(),
        partition,
        offset: found.offset,
        raft_group: found.raft_group,
    };
    page.map(told).collect()
}

/// Topics that the members of a consumer group subscribe to; `None` if one of them does not say
/// so in the consumer protocol's words (version, then an array of names).
pub(super) fn subscribed<R>(live: &Live<R>) -> Option<BTreeSet<String>> {
    if live.protocol_type != "consumer" {
        return None;
    }
    let mut topics = BTreeSet::new();
    for member in live.members.values() {
        let (_, metadata) = member.protocols.first()?;
        let mut rest = metadata.get(2..)?;
        let count = i32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
        rest = rest.get(4..)?;
        for _ in 0..count {
            let length = u16::from_be_bytes(rest.get(..2)?.try_into().ok()?) as usize;
            topics.insert(std::str::from_utf8(rest.get(2..2 + length)?).ok()?.to_owned());
            rest = rest.get(2 + length..)?;
        }
    }
    Some(topics)
}
