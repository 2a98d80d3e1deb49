//! Filling a follower whose next entry lies behind the leader's log start.
//!
//! A leader offers one snapshot at a time ([`Group::offer_snapshot`]); raft sends its metadata in
//! a MsgSnapshot and pauses that peer. The peer's broker judges the message before raft sees it,
//! fetches what it names, and steps it when everything is there ([`Group::install_snapshot`]).
//!
//! Invariants: a peer is never paused for ever: it acknowledges, or its transfer is reported
//! failed, by whoever knows or after `limits::SNAPSHOT_SILENCE_MS` without a sign of life; between
//! a snapshot's Ready and its durability the replica takes no entries and does not campaign, for
//! what lies below the snapshot is no longer readable and what it holds is not yet there.

use model::{Now, ReplicaId, limits};
use raft::eraftpb::{Message, MessageType, Snapshot};
use raft::{ProgressState, SnapshotStatus};

use crate::event::{Event, RefusedMessage, Role, SnapshotOutcome};
use crate::group::Group;
use crate::guard;
use crate::members::Members;
use crate::terms::TermTable;

/// What a snapshot tells about the log below its index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotLog {
    /// The last index that is not readable after the snapshot is installed.
    pub start_index: u64,
    /// Runs of (first index, term) that cover `start_index` up to the snapshot's index.
    pub terms: Vec<(u64, u64)>,
}

impl SnapshotLog {
    /// True when these terms cover the log from its start up to the snapshot's last entry.
    pub fn fits(&self, snapshot: &Snapshot) -> bool {
        let metadata = snapshot.get_metadata();
        let terms = TermTable::restore(&self.terms, metadata.index + 1);
        terms.is_ok_and(|terms| {
            self.start_index <= metadata.index
                && terms.term(metadata.index) == Some(metadata.term)
                && terms.term(self.start_index.max(1)).is_some()
        })
    }
}

/// What to do with a MsgSnapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotVerdict {
    /// Fetch what it names, then [`Group::install_snapshot`].
    Fetch,
    /// Raft answers it without its contents: [`Group::step_snapshot`].
    Step,
    Refuse(RefusedMessage),
}

/// Where a snapshot on its way into this replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Installing {
    /// Stepped, its Ready not taken.
    Stepped { log: SnapshotLog, commit_before: u64 },
    /// Its Ready waits for durability.
    Held { ready: u64, index: u64, commit_before: u64 },
}

impl Installing {
    pub fn commit_before(&self) -> u64 {
        match self {
            Installing::Stepped { commit_before, .. } | Installing::Held { commit_before, .. } => {
                *commit_before
            }
        }
    }
}

impl Group {
    /// What this replica, if it leads, sends to a peer behind its log start. It must reach at
    /// least the log start. `None`: there is none any more. One that names another membership
    /// than today's is none: a member that came since would refuse it.
    pub fn offer_snapshot(&mut self, snapshot: Option<Snapshot>) {
        let today = |snapshot: &Snapshot| {
            Members::new(snapshot.get_metadata().get_conf_state()) == self.members
        };
        let offer = snapshot.filter(today);
        self.raw.mut_store().offer_snapshot(offer);
    }

    /// Index of the snapshot on offer, while it can still help somebody.
    pub fn snapshot_offered(&self) -> Option<u64> {
        self.raw.store().snapshot_offered()
    }

    /// Peers that wait for a snapshot to arrive, with its index.
    pub fn snapshots_under_way(&self) -> Vec<(ReplicaId, u64)> {
        let progress = self.raw.raft.prs().iter();
        let waiting = progress.filter(|(_, pr)| pr.state == ProgressState::Snapshot);
        let leads = self.role() == Role::Leader;
        waiting.filter(|_| leads).map(|(id, pr)| (ReplicaId(*id), pr.pending_snapshot)).collect()
    }

    /// A snapshot of this replica's own is between raft and the disk.
    pub fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// A MsgSnapshot arrived; nothing is changed yet.
    pub fn judge_snapshot(&self, from: ReplicaId, msg: &Message) -> SnapshotVerdict {
        if let Err(why) = guard::check_snapshot(&self.facts(self.last_now), from.0, msg) {
            return SnapshotVerdict::Refuse(why);
        }
        let metadata = msg.get_snapshot().get_metadata();
        let known = metadata.index <= self.commit_index()
            || self.term_of(metadata.index) == Some(metadata.term);
        match msg.term < self.term() || known {
            true => SnapshotVerdict::Step,
            false => SnapshotVerdict::Fetch,
        }
    }

    /// A MsgSnapshot whose contents this replica has already: raft answers it.
    pub fn step_snapshot(&mut self, now: Now, from: ReplicaId, msg: Message) {
        self.install_snapshot(now, from, msg, SnapshotLog::default());
    }

    /// A MsgSnapshot whose contents are there and synced. If raft takes it, the next Ready's
    /// write names it. True: it was taken.
    pub fn install_snapshot(
        &mut self,
        now: Now,
        from: ReplicaId,
        msg: Message,
        log: SnapshotLog,
    ) -> bool {
        if self.broken || self.installing.is_some() {
            return false;
        }
        let index = msg.get_snapshot().get_metadata().index;
        match self.judge_snapshot(from, &msg) {
            SnapshotVerdict::Refuse(why) => {
                let kind = guard::kind_str(MessageType::MsgSnapshot);
                self.events.push(Event::MessageRefused { from, kind, why });
                return false;
            }
            // Without its contents, or with those of another one, it is as good as lost.
            SnapshotVerdict::Fetch if !log.fits(msg.get_snapshot()) => return false,
            SnapshotVerdict::Fetch | SnapshotVerdict::Step => {}
        }
        let commit_before = self.commit_index();
        // An error is a stale message: nothing was changed.
        let _ = self.raw.step(msg);
        let taken = self.raw.raft.snap().is_some();
        if taken {
            self.members = Members::new(&self.raw.raft.prs().conf().to_conf_state());
            self.installing = Some(Installing::Stepped { log, commit_before });
        } else {
            self.events.push(Event::SnapshotIgnored { index });
        }
        self.settle(now, None);
        if self.leader() == Some(from) {
            self.leader_contact_ns = now.boot_ns;
        }
        taken
    }

    /// The log view takes over what raft accepted.
    pub(crate) fn take_snapshot(&mut self, ready: u64, snapshot: &Snapshot) {
        let Some(Installing::Stepped { log, commit_before }) = self.installing.take() else {
            panic!("a snapshot came that nobody stepped in");
        };
        let (index, term) = (snapshot.get_metadata().index, snapshot.get_metadata().term);
        self.raw.mut_store().restore_snapshot(index, term, log);
        self.delivered = index;
        self.installing = Some(Installing::Held { ready, index, commit_before });
        self.events.push(Event::SnapshotRestored { index, term });
    }

    /// Its Ready is durable: machine, segments and membership are those of the snapshot.
    pub(crate) fn snapshot_persisted(&mut self, ready: u64) {
        if let Some(Installing::Held { ready: held, index, .. }) = self.installing
            && held <= ready
        {
            self.installing = None;
            self.raw.advance_apply_to(index);
            self.raw.mut_store().open_start();
        }
    }

    /// The transfer to `peer` ended without its acknowledgement, or never began.
    pub fn snapshot_failed(&mut self, now: Now, peer: ReplicaId) {
        self.give_up_snapshot(now, peer.0, SnapshotOutcome::Failed);
    }

    /// `peer` fetches: its transfer lives.
    pub fn snapshot_lives(&mut self, now: Now, peer: ReplicaId) {
        self.peers.entry(peer.0).snapshot_sign_ns = now.boot_ns;
    }

    /// A leader's messages leave.
    pub(crate) fn count_snapshots(&mut self, now: Now, messages: &[Message]) {
        for msg in messages.iter().filter(|m| m.get_msg_type() == MessageType::MsgSnapshot) {
            self.peers.entry(msg.to).snapshot_sign_ns = now.boot_ns;
            let (peer, index) = (ReplicaId(msg.to), msg.get_snapshot().get_metadata().index);
            self.events.push(Event::SnapshotSent { peer, index });
        }
    }

    fn give_up_snapshot(&mut self, now: Now, peer: u64, outcome: SnapshotOutcome) {
        let waits = |id| {
            let progress = self.raw.raft.prs().get(id);
            progress.is_some_and(|pr| pr.state == ProgressState::Snapshot)
        };
        if self.broken || self.role() != Role::Leader || !waits(peer) {
            return;
        }
        self.raw.report_snapshot(peer, SnapshotStatus::Failure);
        self.peers.entry(peer).snapshot_sign_ns = 0;
        self.events.push(Event::SnapshotEnded { peer: ReplicaId(peer), outcome });
        self.settle(now, None);
    }

    /// With every tick: transfers that went silent, and those that are done.
    pub(crate) fn watch_snapshots(&mut self, now: Now) {
        if self.role() != Role::Leader {
            return;
        }
        let under_way = self.snapshots_under_way();
        for (ReplicaId(id), _) in &under_way {
            let sign_ns = self.peers.entry(*id).snapshot_sign_ns;
            if now.ms_since(sign_ns) >= limits::SNAPSHOT_SILENCE_MS {
                self.give_up_snapshot(now, *id, SnapshotOutcome::TimedOut);
            }
        }
        for id in self.peers.awaiting_snapshot() {
            if !under_way.iter().any(|(waiting, _)| waiting.0 == id) {
                self.peers.entry(id).snapshot_sign_ns = 0;
                let (peer, outcome) = (ReplicaId(id), SnapshotOutcome::Finished);
                self.events.push(Event::SnapshotEnded { peer, outcome });
            }
        }
    }
}
