//! The leader's half of a coordinator: joins, sessions, rebalances under way.
//!
//! Pure: a request comes with the time and with a reply handle `R`, which is only carried; what
//! follows from it is collected in [`Effects`]. Whoever waits (a join for the others, a sync for
//! the leader, a commit for its entry) is kept here, and is handed back by [`GroupsLead::end`]
//! when the leadership ends. Invariants: a member is in one generation; a generation only grows;
//! nobody waits beyond a deadline of this file's making.

mod alarms;
mod group;
mod join;
mod leave;
mod offsets;
mod queries;
mod sync;
mod timers;
mod tombstones;

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{ErrorCode, Now, limits};
use wire::records::BatchBuilder;

use super::protocol::{Request, Response};
use super::record::Record;
use super::state::Groups;
use crate::metadata::{DeletedGroups, Image};
use alarms::Alarms;
pub use group::GroupState;
use group::Live;

/// What Kafka's broker configs of the same names say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupsConfig {
    /// `group.min.session.timeout.ms`.
    pub session_ms_min: i32,
    /// `group.max.session.timeout.ms`.
    pub session_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_delay_ms: u64,
    /// `group.max.size`.
    pub members_max: usize,
    /// `offset.metadata.max.bytes`.
    pub metadata_bytes_max: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub retention_ms: i64,
}

impl Default for GroupsConfig {
    fn default() -> GroupsConfig {
        GroupsConfig {
            session_ms_min: 6_000,
            session_ms_max: 1_800_000,
            initial_delay_ms: 3_000,
            members_max: limits::GROUP_MEMBERS_MAX,
            metadata_bytes_max: 4_096,
            retention_ms: 7 * 24 * 3_600_000,
        }
    }
}

/// Records to be proposed as one batch; [`GroupsLead::applied`] or [`GroupsLead::dropped`] is told
/// `token`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    pub token: u64,
    pub records: Vec<Record>,
}

impl Append {
    /// The batch to stamp, as of `wall_ms`.
    pub fn batch(&self, wall_ms: i64) -> Bytes {
        let record = |batch: BatchBuilder, record: &Record| {
            batch.record(wall_ms, Some(&record.key), record.value.as_deref(), &[])
        };
        self.records.iter().fold(BatchBuilder::new(wall_ms), record).build()
    }
}

/// What happened, for counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    RebalanceBegan(RebalanceReason),
    RebalanceEnded {
        members: usize,
    },
    SessionExpired,
    OffsetsCommitted {
        offsets: usize,
    },
    /// After their retention, or because their topics were deleted.
    OffsetsExpired {
        offsets: usize,
    },
}

/// Why a group rebalances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebalanceReason {
    Joined,
    Rejoined,
    Left,
    SessionExpired,
    NotSynced,
    StaticReplaced,
}

/// Everything that follows from what was asked.
#[derive(Debug)]
pub struct Effects<R> {
    pub replies: Vec<(R, Response)>,
    pub appends: Vec<Append>,
    pub observed: Vec<Observed>,
}

impl<R> Default for Effects<R> {
    fn default() -> Self {
        Effects { replies: Vec::new(), appends: Vec::new(), observed: Vec::new() }
    }
}

/// Why an append never entered the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Nothing can be proposed at the moment.
    NotNow,
    /// No batch of this size is taken; asking again changes nothing.
    TooLarge,
}

/// An append under way, of this group; an empty name is no group's.
struct Appending<R> {
    group: String,
    done: Done<R>,
}

/// What an applied append completes.
enum Done<R> {
    Reply(Vec<(R, Response)>),
    /// The assignment of this generation may be handed out.
    Synced {
        generation: i32,
    },
    /// A rebalance left the group empty; nobody waits.
    Emptied,
    /// A part of a removal that is complete with the append of this token.
    Part {
        last: u64,
    },
    Nothing,
}

/// See the module.
pub struct GroupsLead<R> {
    config: GroupsConfig,
    live: BTreeMap<String, Live<R>>,
    pending: BTreeMap<u64, Appending<R>>,
    next_token: u64,
    alarms: Alarms,
    /// Offsets are not looked through before this, boot nanoseconds.
    wake_ns: u64,
    expire_at_ns: u64,
    /// The newest image looked at.
    image_version: u64,
    /// Of these nothing is left among the offsets.
    swept: DeletedGroups,
    sweep_at_ns: u64,
    /// The largest batch the log takes.
    batch_bytes: usize,
}

impl<R> GroupsLead<R> {
    /// A new leadership over `groups`: whoever was a member is one, with a fresh session.
    pub fn new(groups: &Groups, now: Now, config: GroupsConfig) -> GroupsLead<R> {
        let live = groups.groups().filter(|(_, group)| !group.members.is_empty());
        let live: BTreeMap<_, _> =
            live.map(|(id, group)| (id.to_owned(), Live::restored(group, now))).collect();
        let mut alarms = Alarms::default();
        live.keys().for_each(|id| alarms.mark(id));
        GroupsLead {
            config,
            live,
            alarms,
            pending: BTreeMap::new(),
            next_token: 1,
            wake_ns: 0,
            expire_at_ns: now.boot_ns + limits::OFFSETS_EXPIRE_EVERY_MS * MS,
            image_version: 0,
            swept: DeletedGroups::default(),
            sweep_at_ns: now.boot_ns,
            batch_bytes: usize::MAX,
        }
    }

    /// Answers, or keeps the reply until it can. `image`: at least as new as what the asker knew.
    pub fn request(
        &mut self,
        now: Now,
        groups: &Groups,
        image: &Image,
        request: Request,
        reply: R,
        out: &mut Effects<R>,
    ) {
        let changed = match &request {
            Request::Join(_, request) => Some(request.group_id.clone()),
            Request::Sync(request) => Some(request.group_id.clone()),
            Request::Heartbeat(request) => Some(request.group_id.clone()),
            Request::Leave(request) => Some(request.group_id.clone()),
            Request::Commit(request) => Some(request.group_id.clone()),
            Request::Fetch(_)
            | Request::Describe { .. }
            | Request::List
            | Request::Delete { .. }
            | Request::DeleteOffsets(_)
            | Request::Committed { .. } => None,
        };
        match request {
            Request::Join(caller, request) => self.join(now, groups, caller, request, reply, out),
            Request::Sync(request) => self.sync(now, request, reply, out),
            Request::Heartbeat(request) => {
                let code = self.heartbeat(now, &request);
                out.replies.push((reply, Response::Heartbeat(code)));
            }
            Request::Leave(request) => self.leave(now, request, reply, out),
            Request::Commit(request) => self.commit(now, groups, image, request, reply, out),
            Request::Fetch(request) => {
                let found = queries::fetch(groups, image, request);
                out.replies.push((reply, Response::Fetch(found)));
            }
            Request::Describe { group } => {
                let described = self.describe(groups, group);
                out.replies.push((reply, Response::Describe(described)));
            }
            Request::List => out.replies.push((reply, Response::List(self.list(groups)))),
            Request::Delete { group } => self.delete(groups, &group, reply, out),
            Request::DeleteOffsets(request) => self.delete_offsets(groups, request, reply, out),
            Request::Committed { after } => {
                let page = queries::committed(groups, after.as_ref());
                out.replies.push((reply, Response::Committed(page)));
            }
        }
        if let Some(group) = changed {
            self.mark(&group);
        }
    }

    /// What became of this group may bring a deadline nearer: the next tick looks at it. One that
    /// nobody knows has none.
    fn mark(&mut self, group: &str) {
        if self.live.contains_key(group) || self.alarms.knows(group) {
            self.alarms.mark(group);
        }
    }

    fn append(&mut self, group: &str, records: Vec<Record>, done: Done<R>, out: &mut Effects<R>) {
        let token = self.next_token;
        self.next_token += 1;
        self.pending.insert(token, Appending { group: group.to_owned(), done });
        out.appends.push(Append { token, records });
    }

    /// The append is applied on this replica.
    pub fn applied(&mut self, now: Now, token: u64, out: &mut Effects<R>) {
        let Some(Appending { group, done }) = self.pending.remove(&token) else { return };
        match done {
            Done::Reply(replies) => out.replies.extend(replies),
            Done::Synced { generation } => self.synced(now, &group, generation, out),
            Done::Emptied => self.stored_empty(&group),
            Done::Part { .. } | Done::Nothing => {}
        }
        self.mark(&group);
    }

    /// The append did not enter the log and never will: its askers are told whether to come again.
    pub fn dropped(&mut self, now: Now, token: u64, why: Dropped, out: &mut Effects<R>) {
        let Some(Appending { group, done }) = self.pending.remove(&token) else { return };
        match done {
            Done::Reply(replies) => tombstones::refuse_all(replies, why, out),
            Done::Part { last } => self.part_dropped(last, why, out),
            Done::Synced { generation } => self.sync_failed(now, &group, generation, why, out),
            // It stays, empty, with its generation, until somebody joins.
            Done::Emptied | Done::Nothing => {}
        }
        self.mark(&group);
    }

    /// The leadership is over: everybody who waits.
    pub fn end(self) -> Vec<R> {
        let pending = self.pending.into_values().flat_map(|appending| match appending.done {
            Done::Reply(replies) => replies.into_iter().map(|(reply, _)| reply).collect(),
            Done::Synced { .. } | Done::Emptied | Done::Part { .. } | Done::Nothing => Vec::new(),
        });
        let parked = self.live.into_values().flat_map(Live::into_parked);
        pending.chain(parked).collect()
    }

    /// Groups with members, by state.
    pub fn states(&self) -> impl Iterator<Item = GroupState> {
        self.live.values().map(|live| live.state)
    }

    /// Members of all groups.
    pub fn members(&self) -> usize {
        self.live.values().map(|live| live.members.len()).sum()
    }
}

const MS: u64 = 1_000_000;

/// The same answer with an error in it.
fn refused(response: Response, code: ErrorCode) -> Response {
    match response {
        Response::Join(mut join) => {
            join.error_code = code;
            Response::Join(join)
        }
        Response::Sync(mut sync) => {
            sync.error_code = code;
            Response::Sync(sync)
        }
        Response::Heartbeat(_) => Response::Heartbeat(code),
        Response::Leave(mut leave) => {
            leave.error_code = code;
            Response::Leave(leave)
        }
        Response::Commit(mut commit) => {
            let partitions = commit.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.for_each(|partition| partition.error_code = code);
            Response::Commit(commit)
        }
        Response::Fetch(mut fetch) => {
            fetch.error_code = code;
            Response::Fetch(fetch)
        }
        Response::Describe(mut described) => {
            described.error_code = code;
            Response::Describe(described)
        }
        Response::List(list) => Response::List(list),
        Response::Committed(page) => Response::Committed(page),
        Response::Delete(_) => Response::Delete(code),
        Response::DeleteOffsets(mut delete) => {
            delete.error_code = code;
            Response::DeleteOffsets(delete)
        }
    }
}
