//! Every kind of record, once: its number in the file, its name, its fields with their units.
//! The verbs that write and the decoder that reads both come from this table.
//!
//! Invariants: a number never changes its meaning (files of an older life are read); the fields of
//! a kind fit the five words of a record, and none straddles two words.

use crate::flight::Text;
use crate::label::Label;
use crate::label_enum;
use crate::labels::{
    BlockedBy, ElectionOutcome, ElectionReason, FatalReason, Invariant, IoOp, LeaderChangeReason,
    LockClass, Loop, MessageRefusal, MessageType, Outcome, Phase, RaftRole, SuspectReason,
};
use model::ApiKey;

/// Words of a record that belong to its kind.
pub const WORDS: usize = 5;

label_enum! {
    /// What became of a connection to another broker.
    pub enum PeerChange {
        Connected = "connected",
        Disconnected = "disconnected",
        /// Its end was seen: evidence for an election.
        Died = "died",
    }
}

/// What a field counts, and how it is shown.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// A number without a unit.
    Number,
    Group,
    Term,
    /// A broker id.
    Broker,
    /// The correlation id of a client's request; signed.
    Correlation,
    /// The port a client connected from: with its address, the connection.
    Connection,
    Ns,
    Ms,
    Us,
    Bytes,
    Flag,
    /// A position in a closed list of names.
    Name(fn(usize) -> Option<&'static str>),
    /// A piece of text.
    Text,
}

/// One field of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub unit: Unit,
    /// First byte among the kind's bytes, and how many.
    pub at: usize,
    pub width: usize,
}

fn name_of<L: Label>(position: usize) -> Option<&'static str> {
    L::ALL.get(position).map(|label| label.as_str())
}

/// Sets bytes `at..at + width` of a record's own words.
#[inline(always)]
fn put(words: &mut [u64; WORDS], at: usize, value: u64) {
    words[at / 8] |= value << (at % 8 * 8);
}

macro_rules! of_unit {
    (type group) => {
        u64
    };
    (type number) => {
        u64
    };
    (type ns) => {
        u64
    };
    (type us) => {
        u64
    };
    (type bytes) => {
        u64
    };
    (type ms) => {
        u32
    };
    (type count) => {
        u32
    };
    (type term) => {
        u64
    };
    (type broker) => {
        i32
    };
    (type correlation) => {
        i32
    };
    (type connection) => {
        u16
    };
    (type short) => {
        u16
    };
    (type tiny) => {
        u8
    };
    (type flag) => {
        bool
    };
    (type text) => {
        Text
    };
    (type name $label:ident) => {
        $label
    };

    (width group) => {
        8
    };
    (width number) => {
        8
    };
    (width ns) => {
        8
    };
    (width us) => {
        8
    };
    (width bytes) => {
        8
    };
    (width ms) => {
        4
    };
    (width count) => {
        4
    };
    (width term) => {
        4
    };
    (width broker) => {
        4
    };
    (width correlation) => {
        4
    };
    (width connection) => {
        2
    };
    (width short) => {
        2
    };
    (width tiny) => {
        1
    };
    (width flag) => {
        1
    };
    (width text) => {
        32
    };
    (width name $label:ident) => {
        1
    };

    (unit group) => {
        Unit::Group
    };
    (unit number) => {
        Unit::Number
    };
    (unit count) => {
        Unit::Number
    };
    (unit short) => {
        Unit::Number
    };
    (unit tiny) => {
        Unit::Number
    };
    (unit ns) => {
        Unit::Ns
    };
    (unit us) => {
        Unit::Us
    };
    (unit bytes) => {
        Unit::Bytes
    };
    (unit ms) => {
        Unit::Ms
    };
    (unit term) => {
        Unit::Term
    };
    (unit broker) => {
        Unit::Broker
    };
    (unit correlation) => {
        Unit::Correlation
    };
    (unit connection) => {
        Unit::Connection
    };
    (unit flag) => {
        Unit::Flag
    };
    (unit text) => {
        Unit::Text
    };
    (unit name $label:ident) => {
        Unit::Name(name_of::<$label>)
    };

    // Terms are four bytes: at one election a second that is 136 years.
    (put $words:ident $at:expr, $value:ident term) => {
        put(&mut $words, $at, u64::from(u32::try_from($value).unwrap_or(u32::MAX)))
    };
    (put $words:ident $at:expr, $value:ident broker) => {
        put(&mut $words, $at, u64::from($value.cast_unsigned()))
    };
    (put $words:ident $at:expr, $value:ident correlation) => {
        put(&mut $words, $at, u64::from($value.cast_unsigned()))
    };
    (put $words:ident $at:expr, $value:ident text) => {
        $words[$at / 8..$at / 8 + 4].copy_from_slice(&$value.words())
    };
    (put $words:ident $at:expr, $value:ident name $label:ident) => {
        put(&mut $words, $at, $value.index() as u64)
    };
    (put $words:ident $at:expr, $value:ident $unit:ident) => {
        put(&mut $words, $at, u64::from($value))
    };
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident $verb:ident = $code:literal {
        $($field:ident: $unit:ident $($label:ident)?),* $(,)?
    })+) => {
        /// What a record tells.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $variant = $code,)+ }

        impl Kind {
            pub const ALL: &'static [Kind] = &[$(Kind::$variant,)+];

            /// The name in a timeline.
            pub const fn as_str(self) -> &'static str {
                match self { $(Kind::$variant => stringify!($verb),)+ }
            }

            /// The kind of a number; the file may come from anywhere.
            pub fn from_code(code: u8) -> Option<Kind> {
                match code { $($code => Some(Kind::$variant),)+ _ => None }
            }

            /// Its fields, in order.
            pub fn fields(self) -> &'static [Field] {
                match self { $(Kind::$variant => {
                    const COUNT: usize = [$(stringify!($field)),*].len();
                    const WIDTHS: [usize; COUNT] = [$(of_unit!(width $unit $($label)?)),*];
                    const FIELDS: [Field; COUNT] = {
                        let mut fields = [$(Field {
                            name: stringify!($field),
                            unit: of_unit!(unit $unit $($label)?),
                            at: 0,
                            width: of_unit!(width $unit $($label)?),
                        }),*];
                        place(&mut fields, &WIDTHS);
                        fields
                    };
                    &FIELDS
                })+ }
            }
        }

        $(
            $(#[$doc])*
            #[inline]
            #[allow(unused_assignments, clippy::too_many_arguments)]
            pub fn $verb($($field: of_unit!(type $unit $($label)?)),*) {
                let mut words = [0; WORDS];
                let mut at = 0;
                $(
                    of_unit!(put words at, $field $unit $($label)?);
                    at += of_unit!(width $unit $($label)?);
                )*
                super::record(Kind::$variant, words);
            }
        )+
    };
}

/// Gives each field its place, one behind the other; a field that straddles words, or does not
/// fit, does not compile.
const fn place(fields: &mut [Field], widths: &[usize]) {
    let (mut at, mut next) = (0, 0);
    while next < fields.len() {
        let width = widths[next];
        assert!(width == 32 || at % 8 + width <= 8, "a field straddles two words");
        fields[next].at = at;
        at += width;
        next += 1;
    }
    assert!(at <= WORDS * 8, "a record has room for 40 bytes");
}

impl Kind {
    /// It comes with the load, by the thousand or every second: its file may hear of it later.
    #[inline(always)]
    pub(super) const fn may_wait(self) -> bool {
        matches!(
            self,
            Kind::Clock
                | Kind::Turn
                | Kind::Turns
                | Kind::MessageSent
                | Kind::MessageReceived
                | Kind::Applied
                | Kind::Committed
                | Kind::JournalBegun
                | Kind::JournalDone
                | Kind::Durable
                | Kind::SegmentsWritten
                | Kind::RequestBegun
                | Kind::RequestEnded
        )
    }
}

kinds! {
    /// A life of a broker begins.
    Start start = 1 { wall_us: us, boot_ns: ns, pid: count, broker: broker }
    /// Where this ring's clock stands beside the others, once a second at most; `skipped`:
    /// ordinary events that were not recorded since the last one.
    Clock clock = 2 { wall_us: us, boot_ns: ns, skipped: count }
    /// A life ends in order.
    Stopped stopped = 3 { boot_ns: ns }
    /// The broker ends itself.
    Fatal fatal = 4 { text: text, why: name FatalReason }
    /// A piece of a panic's place and text.
    Panic panic = 5 { text: text, part: tiny }
    /// A turn of a shard that took long, and where the time went.
    Turn turn = 10 { step_ns: ns, flush_ns: ns, carry_ns: ns, inputs: count }
    /// The turns of a shard in about a second, heartbeats and their answers among them.
    Turns turns = 11 { longest_ns: ns, turns: count, inputs: count, beats_sent: count, beats_received: count }
    /// A tick came late.
    TickLate tick_late = 12 { late_ms: ms, blocked_by: name BlockedBy }
    /// A raft message leaves for another broker.
    MessageSent message_sent = 20 { group: group, index: number, commit: number, peer: broker, term: term, log_term: term, entries: short, message: name MessageType, reject: flag }
    /// A raft message of another broker reached its shard.
    MessageReceived message_received = 21 { group: group, index: number, commit: number, peer: broker, term: term, log_term: term, entries: short, message: name MessageType, reject: flag }
    /// A connection to another broker came or went.
    Peer peer = 22 { peer: broker, change: name PeerChange }
    /// A message never reached raft.
    MessageRefused message_refused = 23 { group: group, from_replica: number, why: name MessageRefusal }
    RoleChanged role_changed = 30 { group: group, term: term, role: name RaftRole, why: name LeaderChangeReason }
    ElectionStarted election_started = 31 { group: group, silent_ms: number, term: term, why: name ElectionReason }
    ElectionEnded election_ended = 32 { group: group, ms: number, term: term, votes: short, refusals: short, outcome: name ElectionOutcome }
    /// The group's leader answers clients from here on.
    Serving serving = 33 { group: group, term: term }
    StoppedServing stopped_serving = 34 { group: group, term: term }
    LeaseExpired lease_expired = 35 { group: group, term: term }
    /// Leadership is handed to another replica.
    Transfer transfer = 36 { group: group, to_replica: number, term: term }
    Membership membership = 37 { group: group, index: number, voters: short, learners: short }
    LogTruncated log_truncated = 38 { group: group, from: number, removed: number, term: term }
    /// A replica no longer trusts its own memory.
    Suspected suspected = 39 { group: group, commit: number, last_index: number, why: name SuspectReason }
    InvariantViolated invariant_violated = 40 { group: group, invariant: name Invariant }
    SnapshotSent snapshot_sent = 41 { group: group, index: number, to_replica: number }
    SnapshotRestored snapshot_restored = 42 { group: group, index: number, term: term }
    /// Entries went through a group's machine.
    Applied applied = 43 { group: group, entries: count }
    /// Batches of producers are committed.
    Committed committed = 44 { group: group, bytes: bytes, batches: count, records: count }
    /// A group's machine is held: it refuses an entry.
    Held held = 45 { group: group, index: number }
    /// Something panicked inside a group: it is out of service.
    Quarantined quarantined = 46 { group: group }
    Rebuilt rebuilt = 47 { group: group }
    /// A disk operation of the journal begins.
    JournalBegun journal_begun = 50 { bytes: bytes, op: name IoOp }
    JournalDone journal_done = 51 { bytes: bytes, ns: ns, op: name IoOp }
    /// All below `lsn` is on the disk, for this many groups' writes.
    Durable durable = 52 { lsn: number, writes: count }
    /// Bytes of several groups were written to segments.
    SegmentsWritten segments_written = 53 { ns: ns, works: count }
    RequestBegun request_begun = 60 { correlation: correlation, connection: connection, api: name ApiKey }
    /// The last byte of the reply is in the socket, or the request was given up.
    RequestEnded request_ended = 61 { ns: ns, correlation: correlation, connection: connection, api: name ApiKey, outcome: name Outcome }
    /// A lock was waited for.
    LockWait lock_wait = 70 { ns: ns, lock: name LockClass }
    StallBegan stall_began = 71 { group: group, age_ms: ms, stalled_index: short, stalled: name Loop, phase: name Phase }
    StallEnded stall_ended = 72 { group: group, age_ms: ms, stalled_index: short, stalled: name Loop, phase: name Phase }
    /// The watchdog itself was not running for this long.
    HostPaused host_paused = 73 { late_ms: ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_a_number_and_a_name_of_its_own_and_fits() {
        let codes: BTreeSet<u8> = Kind::ALL.iter().map(|kind| *kind as u8).collect();
        let names: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!((codes.len(), names.len()), (Kind::ALL.len(), Kind::ALL.len()));
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(*kind as u8), Some(*kind));
            let end = kind.fields().last().map_or(0, |field| field.at + field.width);
            assert!(end <= WORDS * 8, "{}", kind.as_str());
        }
        assert_eq!(Kind::from_code(0), None);
    }
}
