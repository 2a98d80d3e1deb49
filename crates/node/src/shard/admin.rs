//! What operators ask of a group's leader: raise its log start, hand leadership to the preferred
//! replica, say who its replicas and producers are, and whether it can do without one.
//!
//! Invariants: a log start moves by an entry and is answered once that is committed and applied
//! here; no record a voter still lacks leaves the disk for it; a hand-over is begun only towards
//! a replica that is in sync and heard from.

use machine::partition::Proposal;
use model::{BrokerId, ErrorCode, Now, ReplicaId, limits};
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::lead::{Deed, Pending};
use super::member::Member;
use super::{GroupKind, Out, QUEUE_MAX, ReplicaRef, ShardConfig};

/// A question for a group's leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminAsk {
    /// Raise the log start offset (KIP-107); -1: to the high watermark.
    DeleteRecords { offset: i64 },
    /// Hand leadership to the first replica of the placement.
    ElectPreferred,
    /// The voters and how far each is.
    Quorum,
    /// The idempotent producers it remembers.
    Producers,
    /// Its broker says that this replica cannot be trusted or used: can the group do without it?
    Replace { replica: u64 },
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminAnswer {
    /// The log start offset, at or above what was asked for.
    LogStart(i64),
    /// The hand-over has begun: the next epoch tells how it ended.
    ElectionBegun,
    Quorum(QuorumStatus),
    Producers(Vec<ProducerStatus>),
    /// A majority of the voters is sound without it.
    Replaceable,
}

/// A group as its leader sees it. Offsets count entries from 0, as Kafka's metadata log does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumStatus {
    pub leader: i32,
    pub epoch: i32,
    pub high_watermark: i64,
    pub voters: Vec<QuorumReplica>,
    pub observers: Vec<QuorumReplica>,
}

/// One replica. Times are milliseconds by the leader's clock, -1 when unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumReplica {
    pub broker: i32,
    /// 32 hexadecimal digits.
    pub directory: String,
    pub log_end: i64,
    pub last_fetch_ms: i64,
    pub last_caught_up_ms: i64,
}

/// One producer of a partition (DescribeProducers).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerStatus {
    pub id: i64,
    pub epoch: i16,
    pub last_sequence: i32,
    pub last_timestamp_ms: i64,
}

/// A log start that has to wait for a voter that lags.
pub(super) struct Trim<R> {
    pub offset: i64,
    pub deadline_ns: u64,
    pub reply: R,
}

impl<R> Member<R> {
    pub(super) fn admin(
        &mut self,
        cfg: &ShardConfig,
        now: Now,
        ask: AdminAsk,
        deadline_ns: u64,
        reply: R,
        out: &mut Out<R>,
    ) {
        if self.lead.is_none() {
            let why = "another broker leads, or an election runs";
            return out.refuse(Some(reply), ErrorCode::NotLeaderOrFollower, why);
        }
        let answer = match ask {
            AdminAsk::DeleteRecords { offset } => {
                return self.delete_records(cfg, now, Trim { offset, deadline_ns, reply }, out);
            }
            AdminAsk::ElectPreferred => self.elect_preferred(cfg, now),
            AdminAsk::Quorum => Ok(AdminAnswer::Quorum(self.quorum(now))),
            AdminAsk::Producers => self.producers(),
            AdminAsk::Replace { replica } => self.replaceable(cfg, now, ReplicaId(replica)),
        };
        match answer {
            Ok(answer) => out.replies.push((reply, Answer::Admin(answer))),
            Err((code, why)) => out.refuse(Some(reply), code, why),
        }
    }

    fn delete_records(&mut self, cfg: &ShardConfig, now: Now, mut trim: Trim<R>, out: &mut Out<R>) {
        let end = self.published;
        let refusal = if self.spec.kind != GroupKind::Partition {
            Some((ErrorCode::InvalidTopicException, "not a partition".to_owned()))
        } else if self.held.is_some() {
            let why = "the partition is held at an entry it refuses".to_owned();
            Some((ErrorCode::KafkaStorageError, why))
        } else if trim.offset < -1 || trim.offset > end {
            let why = format!("offset {}: the high watermark is {end}", trim.offset);
            Some((ErrorCode::OffsetOutOfRange, why))
        } else if self.trims.len() >= QUEUE_MAX {
            let why = "too many requests wait for this partition".to_owned();
            Some((ErrorCode::ThrottlingQuotaExceeded, why))
        } else {
            None
        };
        if let Some((code, why)) = refusal {
            return out.refuse(Some(trim.reply), code, why);
        }
        if trim.offset == -1 {
            trim.offset = end;
        }
        self.trims.push(trim);
        self.propose_trims(cfg, now, out);
    }

    /// Proposes the log starts that may move by now.
    pub(super) fn propose_trims(&mut self, cfg: &ShardConfig, now: Now, out: &mut Out<R>) {
        if self.lead.is_none() {
            return;
        }
        for trim in std::mem::take(&mut self.trims) {
            let log_start = self.machine.log_start();
            if trim.offset <= log_start {
                out.replies.push((trim.reply, Answer::Admin(AdminAnswer::LogStart(log_start))));
                continue;
            }
            if !self.may_start_at(cfg, now, trim.offset) {
                self.trims.push(trim);
                continue;
            }
            match self.propose_entry(Proposal::LogStart { offset: trim.offset }) {
                Some(index) => {
                    let deed = Deed::LogStart { reply: trim.reply };
                    self.pending.push_back(Pending { index, deed });
                }
                None => {
                    let why = "not appended; retry";
                    out.refuse(Some(trim.reply), ErrorCode::NotLeaderOrFollower, why);
                }
            }
        }
    }

    /// True when nothing that leaves the disk with this log start is still lacked by a replica
    /// that is waited for: only whole segments leave.
    fn may_start_at(&self, cfg: &ShardConfig, now: Now, offset: i64) -> bool {
        if self.waited_for(cfg, now) >= self.group.last_index() {
            return true;
        }
        // A cut that is on its way may end a segment right below the offset.
        if self.pending.iter().any(|pending| matches!(pending.deed, Deed::Control)) {
            return false;
        }
        let floor = self.floor_offset(cfg, now);
        let cuts = self.segments.iter().skip(1).map(|segment| segment.base_offset);
        let mut cuts = cuts.chain(std::iter::once(self.rolled_at));
        !cuts.any(|cut| cut > floor && cut <= offset)
    }

    pub(super) fn expire_trims(&mut self, now: Now, out: &mut Out<R>) {
        let late = |trim: &Trim<R>| trim.deadline_ns <= now.boot_ns;
        if !self.trims.iter().any(late) {
            return;
        }
        let (expired, left) = std::mem::take(&mut self.trims).into_iter().partition(late);
        self.trims = left;
        for trim in expired {
            let why =
                "a replica still lacks records below this offset; the log start has not moved";
            out.refuse(Some(trim.reply), ErrorCode::RequestTimedOut, why);
        }
    }

    fn elect_preferred(
        &mut self,
        cfg: &ShardConfig,
        now: Now,
    ) -> Result<AdminAnswer, (ErrorCode, String)> {
        let Some(ReplicaRef { replica, broker, .. }) = self.preferred() else {
            return Err((ErrorCode::PreferredLeaderNotAvailable, "no replicas".into()));
        };
        if replica == self.spec.replica {
            let why = format!("broker {broker} is the preferred leader and leads");
            return Err((ErrorCode::ElectionNotNeeded, why));
        }
        let heard = self
            .group
            .progress()
            .into_iter()
            .any(|peer| peer.replica == replica && peer.voter && peer.recently_active);
        if !heard || !self.group.isr(now, cfg.replica_lag_ms_max).contains(&replica) {
            let why = format!("the preferred leader, broker {broker}, is not in sync");
            return Err((ErrorCode::PreferredLeaderNotAvailable, why));
        }
        self.group.transfer_leader(now, Some(replica));
        Ok(AdminAnswer::ElectionBegun)
    }

    /// What a replica holds goes from its disk before the new one has anything, so whoever is
    /// left must be able to commit without it: a majority that is in sync, was heard from lately,
    /// and of which nobody says the same of itself.
    fn replaceable(
        &mut self,
        cfg: &ShardConfig,
        now: Now,
        replica: ReplicaId,
    ) -> Result<AdminAnswer, (ErrorCode, String)> {
        let wait = |why: &str| Err((ErrorCode::ReassignmentInProgress, why.to_owned()));
        let me = self.spec.replica;
        if replica == me || self.group.is_suspect() || self.held.is_some() {
            return wait("its leader is in no better state");
        }
        let members = self.voting();
        self.doubted.retain(|(id, _)| members.contains(id));
        if members.contains(&replica) && !self.doubted.iter().any(|(id, _)| *id == replica) {
            self.doubted.push((replica, now.boot_ns));
        }
        let since = self.doubted.iter().find(|(id, _)| *id == replica).map(|(_, ns)| *ns);
        if since.is_some_and(|ns| now.ms_since(ns) < limits::RENEW_AFTER_MS) {
            return wait("its leader waits whether other replicas say the same");
        }
        if !self.group.may_change() {
            return wait("its membership cannot be changed now");
        }
        let sound = self.sound_without(cfg, now, replica, &members);
        let (left, all) = (sound.len(), members.len());
        if left <= all / 2 {
            return wait(&format!("only {left} of {all} voters are sound without it"));
        }
        if self.group.lease_remaining_ms(now).is_some() {
            return Ok(AdminAnswer::Replaceable);
        }
        // It once asked a replica to lead that did not, perhaps this very one, and has no lease
        // for the rest of its term: without one it changes no membership. The next leader does.
        let heir = sound.into_iter().find(|id| *id != me);
        self.group.transfer_leader(now, heir);
        wait("its leader has no lease and hands over")
    }

    /// Voters in sync that were heard from lately and did not say of themselves that they cannot
    /// be trusted, this leader included.
    fn sound_without(
        &self,
        cfg: &ShardConfig,
        now: Now,
        replica: ReplicaId,
        members: &[ReplicaId],
    ) -> Vec<ReplicaId> {
        let me = self.spec.replica;
        let in_sync = self.group.isr(now, cfg.replica_lag_ms_max);
        let progress = self.group.progress();
        let heard = |id: &ReplicaId| {
            let lately = |ns| now.ms_since(ns) <= limits::HEARD_LATELY_MS;
            progress.iter().any(|p| p.replica == *id && p.contact_ns.is_some_and(lately))
        };
        let doubted = |id: &ReplicaId| self.doubted.iter().any(|(other, _)| other == id);
        let sound =
            |id: &ReplicaId| *id == me || (!doubted(id) && in_sync.contains(id) && heard(id));
        members.iter().copied().filter(|id| *id != replica && sound(id)).collect()
    }

    fn quorum(&self, now: Now) -> QuorumStatus {
        let offset = |index: u64| index as i64 + 1;
        let at = |boot_ns: Option<u64>| {
            boot_ns.map_or(-1, |boot_ns| now.wall_ms - now.ms_since(boot_ns) as i64)
        };
        let progress = self.group.progress();
        let describe = |replica: ReplicaId| {
            let broker = self.broker_of(replica).unwrap_or(BrokerId(-1));
            let directory = self.placed(replica).map(|placed| placed.directory.to_string());
            let mut state = QuorumReplica {
                broker: broker.0,
                directory: directory.unwrap_or_default(),
                log_end: -1,
                last_fetch_ms: -1,
                last_caught_up_ms: -1,
            };
            if replica == self.spec.replica {
                state.log_end = offset(self.group.last_index());
                (state.last_fetch_ms, state.last_caught_up_ms) = (now.wall_ms, now.wall_ms);
            } else if let Some(peer) = progress.iter().find(|peer| peer.replica == replica) {
                state.log_end = offset(peer.matched);
                state.last_fetch_ms = at(peer.contact_ns);
                state.last_caught_up_ms = at(peer.caught_up_ns);
            }
            state
        };
        let voters = self.voting().into_iter().map(describe).collect();
        let learners = self.group.learners().iter().map(|id| ReplicaId(*id));
        let observers = learners.map(describe).collect();
        let BrokerId(leader) = self.broker_of(self.spec.replica).unwrap_or(BrokerId(-1));
        QuorumStatus {
            leader,
            epoch: self.group.term() as i32,
            high_watermark: offset(self.group.commit_index()),
            voters,
            observers,
        }
    }

    fn producers(&self) -> Result<AdminAnswer, (ErrorCode, String)> {
        let Some(machine) = self.machine.partition() else {
            return Err((ErrorCode::InvalidTopicException, "not a partition".into()));
        };
        let status = |producer: machine::partition::ProducerView<'_>| {
            let newest = producer.batches.last();
            ProducerStatus {
                id: producer.producer_id,
                epoch: producer.epoch,
                last_sequence: newest.map_or(-1, |batch| batch.last_sequence),
                last_timestamp_ms: newest.map_or(-1, |batch| batch.timestamp),
            }
        };
        Ok(AdminAnswer::Producers(machine.producers().map(status).collect()))
    }
}
