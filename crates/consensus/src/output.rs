//! What a group hands out: one Ready at a time, and the messages each Ready holds back.
//!
//! raft-rs's contract (findings.md): ready -> messages of a leader may leave -> entries and hard
//! state to the journal -> `advance_append_async`; when durable, `on_persist_ready`, and only then
//! the persisted messages. A follower's messages are all of the latter kind; two of them promise
//! nothing durable beyond the term and leave at once when that is durable: heartbeat responses
//! and pre-vote responses. A slow disk must not cost the leader its quorum.
//!
//! Invariants: messages of a Ready never overtake those of an earlier one, these two excepted;
//! entries are visible in the log view before raft is advanced; nothing is delivered twice.

use model::{HardState, LogEntry, Now};
use raft::eraftpb::{Entry, EntryType, Message, MessageType};

use crate::convert;
use crate::event::{Event, Invariant};
use crate::group::{Group, READ_CONTEXT_LEN};
use crate::lease::Stamp;
use crate::log_view::EntryFetch;

/// What must be made durable before the Ready's held messages may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyWrite {
    /// Answer with `Group::persisted(ready)`. Ascending; one call may cover several.
    pub ready: u64,
    /// Truncate the log from the first one's index, then append.
    pub entries: Vec<LogEntry>,
    /// To be written behind the entries, when it differs from the one written last. A change of
    /// commit alone makes no write: it travels with the next one.
    pub hard_state: Option<HardState>,
    /// Must be synced whatever the sync policy says.
    pub vote_or_term_changed: bool,
    /// The log begins anew behind this point; what lies above it in the journal is dead. Until
    /// `persisted`, hard states carry the commit index from before: nothing above the old log
    /// may be claimed.
    pub snapshot: Option<SnapshotPoint>,
}

/// The last entry a snapshot covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPoint {
    pub index: u64,
    pub term: u64,
}

/// Every replica must have applied `index` before the read `ctx` is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadIndexed {
    pub ctx: u64,
    pub index: u64,
}

/// Outputs of a turn; reused, and appended to by every group of the turn.
#[derive(Debug, Default)]
pub struct GroupOut {
    pub events: Vec<Event>,
    pub writes: Vec<ReadyWrite>,
    /// May leave now, in this order per receiver and lane.
    pub messages: Vec<Message>,
    /// Committed and locally durable, in log order, each once per life. Membership changes are
    /// among them and are in force already.
    pub committed: Vec<LogEntry>,
    pub fetches: Vec<EntryFetch>,
    pub reads: Vec<ReadIndexed>,
    /// A peer is behind the log start and no snapshot that helps it is on offer.
    pub snapshot_wanted: bool,
}

impl GroupOut {
    pub fn clear(&mut self) {
        self.events.clear();
        self.writes.clear();
        self.messages.clear();
        self.committed.clear();
        self.fetches.clear();
        self.reads.clear();
        self.snapshot_wanted = false;
    }
}

/// A Ready on its way to the journal, or behind one.
#[derive(Debug)]
pub(crate) struct HeldReady {
    number: u64,
    /// False: nothing to write; it only keeps its place in the order.
    needs_durability: bool,
    term: u64,
    messages: Vec<Message>,
}

impl Group {
    /// There is something for [`Group::flush`] to hand out.
    pub fn has_ready(&self) -> bool {
        !self.broken
            && (!self.events.is_empty() || !self.answers.is_empty() || self.raw.has_ready())
    }

    /// Hands out at most one Ready, the events so far, and reads that raft asks for. More may
    /// be ready afterwards: see [`Group::has_ready`]. `turn_boot_ns` is CLOCK_BOOTTIME at the
    /// start of the turn, before any of its messages was made.
    pub fn flush(&mut self, now: Now, turn_boot_ns: u64, out: &mut GroupOut) {
        assert!(turn_boot_ns <= now.boot_ns, "a turn starts before its flush");
        if self.view_matches() {
            self.propose_leave();
            out.messages.append(&mut self.answers);
            if self.raw.has_ready() {
                self.take_ready(now, turn_boot_ns, out);
                self.view_matches();
            }
            out.snapshot_wanted |= self.note_snapshots_wanted();
            self.raw.mut_store().take_fetches(&mut out.fetches);
        }
        out.events.append(&mut self.events);
    }

    /// The journal made this Ready and all before it durable: their messages may leave. Flush
    /// again: more may be committed now.
    pub fn persisted(&mut self, now: Now, ready: u64, out: &mut GroupOut) {
        if self.broken {
            return;
        }
        let mut last = None;
        while let Some(held) = self.held_readys.front() {
            if held.number > ready && held.needs_durability {
                break;
            }
            let Some(held) = self.held_readys.pop_front() else { break };
            if held.needs_durability {
                self.durable_term = self.durable_term.max(held.term);
            }
            last = Some(held.number);
            out.messages.extend(held.messages);
        }
        if let Some(number) = last {
            self.raw.on_persist_ready(number);
            self.snapshot_persisted(number);
            self.settle(now, None);
        }
    }

    fn take_ready(&mut self, now: Now, turn_boot_ns: u64, out: &mut GroupOut) {
        let mut ready = self.raw.ready();
        let number = ready.number();
        let mut snapshot = None;
        if !ready.snapshot().is_empty() {
            let metadata = ready.snapshot().get_metadata();
            snapshot = Some(SnapshotPoint { index: metadata.index, term: metadata.term });
            self.take_snapshot(number, ready.snapshot());
        }
        let hard_state = convert::hard_state_from_raft(&self.raw.raft.hard_state());
        let entries = ready.take_entries();
        let mut messages = ready.take_messages();
        let held = ready.take_persisted_messages();
        let committed = ready.take_committed_entries();
        let reads = ready.take_read_states();
        self.append_to_view(&entries);
        self.raw.advance_append_async(ready);

        self.stamp(turn_boot_ns, &mut messages);
        self.count_flight(&messages);
        self.count_snapshots(now, &messages);
        out.messages.append(&mut messages);
        let written = self.write(number, hard_state, entries, snapshot, out);
        self.hold_back(now, number, written, held, out);
        out.reads.extend(reads.iter().filter_map(|read| {
            let ctx = self.own_read(&read.request_ctx)?;
            Some(ReadIndexed { ctx, index: read.index })
        }));
        for entry in committed {
            self.deliver(entry, out);
        }
        self.settle(now, None);
    }

    fn append_to_view(&mut self, entries: &[Entry]) {
        let removed = self.raw.mut_store().append(entries);
        if let Some(first) = entries.first().filter(|_| removed > 0) {
            let (from, term) = (first.index, first.term);
            self.events.push(Event::LogTruncated { from, removed, term });
        }
    }

    /// A leader's messages: heartbeats get the lease's stamp; a hand-over ends the lease before
    /// its message can leave.
    fn stamp(&mut self, turn_boot_ns: u64, messages: &mut [Message]) {
        let incarnation = self.lease.incarnation();
        for msg in messages {
            match msg.get_msg_type() {
                MessageType::MsgHeartbeat => {
                    let stamp = Stamp { incarnation, term: msg.term, boot_ns: turn_boot_ns };
                    msg.context = stamp.append_to(&msg.context);
                }
                MessageType::MsgTimeoutNow => self.lease.hand_over(),
                _ => {}
            }
        }
    }

    /// True: the Ready's messages wait for durability.
    fn write(
        &mut self,
        ready: u64,
        mut state: HardState,
        entries: Vec<Entry>,
        snapshot: Option<SnapshotPoint>,
        out: &mut GroupOut,
    ) -> bool {
        if let Some(installing) = &self.installing {
            state.commit = state.commit.min(installing.commit_before());
        }
        let changed = (state.term, state.vote) != (self.written.term, self.written.vote);
        if entries.is_empty() && !changed && snapshot.is_none() {
            return false;
        }
        out.writes.push(ReadyWrite {
            ready,
            entries: entries.into_iter().map(convert::from_raft).collect(),
            hard_state: (state != self.written).then_some(state),
            vote_or_term_changed: changed,
            snapshot,
        });
        self.written = state;
        true
    }

    fn hold_back(
        &mut self,
        now: Now,
        number: u64,
        written: bool,
        mut messages: Vec<Message>,
        out: &mut GroupOut,
    ) {
        // Of a term in which we lead no more: without a stamp they would only confuse.
        messages.retain(|msg| msg.get_msg_type() != MessageType::MsgHeartbeat);
        self.answer_heartbeats(now, &mut messages);
        #[cfg(test)]
        if self.planted.sends_before_persist {
            out.messages.append(&mut messages);
        }
        if !written && self.held_readys.is_empty() {
            out.messages.append(&mut messages);
            self.raw.on_persist_ready(number);
            return;
        }
        let term = self.raw.raft.term;
        if term == self.durable_term {
            let promises_nothing = |msg: &mut Message| {
                matches!(
                    msg.get_msg_type(),
                    MessageType::MsgHeartbeatResponse | MessageType::MsgRequestPreVoteResponse
                )
            };
            out.messages.extend(messages.extract_if(.., promises_nothing));
        }
        self.held_readys.push_back(HeldReady { number, needs_durability: written, term, messages });
    }

    /// Heartbeat responses say what our log ends with ([`crate::truth`]); and the vote promise is renewed as they leave.
    fn answer_heartbeats(&mut self, now: Now, messages: &mut [Message]) {
        let report = self.own_report();
        for msg in messages {
            if msg.get_msg_type() == MessageType::MsgHeartbeatResponse {
                report.write_to(msg);
                self.promise(now);
            }
        }
    }

    fn own_read(&self, context: &[u8]) -> Option<u64> {
        let word = |at: usize| Some(u64::from_le_bytes(context.get(at..at + 8)?.try_into().ok()?));
        let own = context.len() == READ_CONTEXT_LEN
            && word(0)? == self.cfg.replica.0
            && word(8)? == self.lease.incarnation();
        if own { word(16) } else { None }
    }

    fn deliver(&mut self, entry: Entry, out: &mut GroupOut) {
        if self.broken {
            return;
        }
        assert_eq!(entry.index, self.delivered + 1, "committed entries are delivered in order");
        if entry.get_entry_type() != EntryType::EntryNormal {
            self.apply_membership(&entry);
            if self.broken {
                return;
            }
        }
        self.delivered = entry.index;
        out.committed.push(convert::from_raft(entry));
    }

    /// Failure F0's invariant, looked at around every Ready, before raft panics on it.
    fn view_matches(&mut self) -> bool {
        let log = &self.raw.raft.raft_log;
        let matches = match log.unstable.entries.first() {
            // Its Ready brings the view to where it begins.
            _ if log.unstable.snapshot.is_some() => true,
            None => log.unstable.offset == log.store.last_index() + 1,
            Some(first) => first.index <= log.store.last_index() + 1,
        };
        #[cfg(test)]
        let matches = matches || self.planted.unchecked;
        if !matches && !self.broken {
            self.broken = true;
            self.events.push(Event::InvariantViolated { invariant: Invariant::LogViewMismatch });
        }
        !self.broken
    }
}
