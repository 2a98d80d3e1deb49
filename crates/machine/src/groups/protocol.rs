//! What a coordinator is asked, and what it answers. The bodies are Kafka's own messages.

use wire::api::describe_groups::DescribedGroup;
use wire::api::heartbeat::HeartbeatRequest;
use wire::api::join_group::{JoinGroupRequest, JoinGroupResponse};
use wire::api::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use wire::api::list_groups::ListedGroup;
use wire::api::offset_commit::{OffsetCommitRequest, OffsetCommitResponse};
use wire::api::offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};
use wire::api::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchResponseGroup};
use wire::api::sync_group::{SyncGroupRequest, SyncGroupResponse};

use model::{ErrorCode, GroupId};

/// Who joins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    pub client_id: String,
    pub client_host: String,
    /// Makes a new member's id unique; drawn by the broker.
    pub unique: String,
    /// Since JoinGroup 4 a new member is told its id first and comes again with it (KIP-394).
    pub knows_member_id_required: bool,
    /// Since JoinGroup 9 a leader can be told that its assignment is not wanted (KIP-814).
    pub knows_skip_assignment: bool,
}

/// One request to a coordinator. Topics are named, whatever the version.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    Join(Caller, JoinGroupRequest),
    Sync(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    Leave(LeaveGroupRequest),
    Commit(OffsetCommitRequest),
    Fetch(OffsetFetchRequestGroup),
    Describe {
        group: String,
    },
    List,
    Delete {
        group: String,
    },
    DeleteOffsets(OffsetDeleteRequest),
    /// Offsets of all groups, a page of at most [`model::limits::COMMITTED_PAGE_MAX`]. `after`: the
    /// last one (group, topic, partition) of the page before.
    Committed {
        after: Option<(String, String, i32)>,
    },
}

/// What it answers, of the same kind as the request.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Heartbeat(ErrorCode),
    Leave(LeaveGroupResponse),
    Commit(OffsetCommitResponse),
    Fetch(OffsetFetchResponseGroup),
    Describe(DescribedGroup),
    List(Vec<ListedGroup>),
    Delete(ErrorCode),
    DeleteOffsets(OffsetDeleteResponse),
    /// In order; fewer than a page holds are the last.
    Committed(Vec<Committed>),
}

/// What one group committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub group: String,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// As in [`super::CommittedOffset`].
    pub raft_group: Option<GroupId>,
}
