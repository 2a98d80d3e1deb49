//! Committed entries on their way into the machine, to readers and to the segment thread.
//!
//! Invariants: an entry reaches the segment thread exactly once, in order, whether or not the
//! machine accepts it; a machine that refuses an entry, or panics on it, is held before it
//! while raft goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use machine::ApplyError;
use machine::groups::CoordinatorMachine;
use machine::metadata::{MetadataMachine, Response};
use machine::partition::{Applied, PartitionMachine};
use model::{EntryKind, LogEntry, PrefixChecksum};
use storage::SegmentEntry;

use super::answer::Answer;
use super::lead::{Deed, Half};
use super::member::Member;
use super::{Event, GroupKind, GroupSpec, HeldWhy, Out, SegmentWork, panic_text};

/// A group's replicated state.
#[derive(Debug)]
pub enum Machine {
    Partition(Box<PartitionMachine>),
    Metadata(Box<MetadataMachine>),
    Coordinator(Box<CoordinatorMachine>),
}

/// What one applied entry meant.
enum Meaning {
    Nothing,
    Batch { base_offset: i64, last_offset: i64, max_timestamp: i64 },
    Roll,
    LogStart(i64),
    Metadata(Option<Response>),
}

impl Machine {
    /// As of a snapshot, or as it is born.
    pub fn restore(spec: &GroupSpec, snapshot: Option<&[u8]>) -> Result<Machine, String> {
        let text = |error: machine::SnapshotError| error.to_string();
        Ok(match (spec.kind, snapshot) {
            (GroupKind::Partition, None) => {
                Machine::Partition(Box::new(PartitionMachine::of_topic(spec.producers_before)))
            }
            (GroupKind::Partition, Some(bytes)) => {
                Machine::Partition(Box::new(PartitionMachine::restore(bytes).map_err(text)?))
            }
            (GroupKind::Metadata, None) => Machine::Metadata(Box::new(MetadataMachine::new())),
            (GroupKind::Metadata, Some(bytes)) => {
                Machine::Metadata(Box::new(MetadataMachine::restore(bytes).map_err(text)?))
            }
            (GroupKind::Coordinator, None) => {
                Machine::Coordinator(Box::new(CoordinatorMachine::new()))
            }
            (GroupKind::Coordinator, Some(bytes)) => {
                Machine::Coordinator(Box::new(CoordinatorMachine::restore(bytes).map_err(text)?))
            }
        })
    }

    pub fn snapshot(&self) -> Vec<u8> {
        match self {
            Machine::Partition(machine) => machine.snapshot(),
            Machine::Metadata(machine) => machine.snapshot(),
            Machine::Coordinator(machine) => machine.snapshot(),
        }
    }

    /// Its offsets, epochs and producers, if it has any.
    pub fn partition(&self) -> Option<&PartitionMachine> {
        match self {
            Machine::Partition(machine) => Some(machine),
            Machine::Coordinator(machine) => Some(machine.partition()),
            Machine::Metadata(_) => None,
        }
    }

    /// The next record's offset; 0 for a machine without offsets.
    pub fn next_offset(&self) -> i64 {
        self.partition().map_or(0, PartitionMachine::next_offset)
    }

    pub fn log_start(&self) -> i64 {
        self.partition().map_or(0, PartitionMachine::log_start)
    }

    pub fn applied(&self) -> u64 {
        match self {
            Machine::Metadata(machine) => machine.applied_index(),
            Machine::Partition(machine) => machine.applied_index(),
            Machine::Coordinator(machine) => machine.partition().applied_index(),
        }
    }

    pub fn prefix(&self) -> PrefixChecksum {
        match self {
            Machine::Metadata(machine) => machine.prefix(),
            Machine::Partition(machine) => machine.prefix(),
            Machine::Coordinator(machine) => machine.partition().prefix(),
        }
    }

    fn apply(&mut self, entry: &LogEntry) -> Result<Meaning, ApplyError> {
        match self {
            Machine::Partition(machine) => Ok(Meaning::of(machine.apply(entry)?)),
            Machine::Coordinator(machine) => Ok(Meaning::of(machine.apply(entry)?)),
            Machine::Metadata(machine) => Ok(Meaning::Metadata(machine.apply(entry)?.0)),
        }
    }
}

impl Meaning {
    fn of(applied: Applied) -> Meaning {
        match applied {
            Applied::Batch { base_offset, last_offset, max_timestamp, .. } => {
                Meaning::Batch { base_offset, last_offset, max_timestamp }
            }
            Applied::LogStart { offset } => Meaning::LogStart(offset),
            Applied::Roll => Meaning::Roll,
            Applied::Nothing | Applied::ProducersExpired { .. } => Meaning::Nothing,
        }
    }
}

impl<R> Member<R> {
    pub(super) fn apply(&mut self, committed: Vec<LogEntry>, out: &mut Out<R>) {
        self.applying = true;
        let last = committed.last().map(|entry| (entry.index, entry.term));
        let count = committed.len();
        let group = self.spec.group;
        let mut work = Vec::with_capacity(count);
        let mut batches = Vec::new();
        let mut log_start = None;
        let mut image_changed = false;
        for entry in committed {
            let meaning = self.apply_one(&entry, out);
            let kind = entry.kind().map_or(EntryKind::Raft, |(kind, _)| kind);
            let mut segment =
                SegmentEntry { kind, base_offset: -1, last_offset: -1, max_timestamp: -1, entry };
            match meaning {
                Meaning::Batch { base_offset, last_offset, max_timestamp } => {
                    (segment.base_offset, segment.last_offset) = (base_offset, last_offset);
                    segment.max_timestamp = max_timestamp;
                    if base_offset >= self.published {
                        self.published = last_offset + 1;
                        batches.push((base_offset, last_offset, segment.entry.data.clone()));
                    }
                    self.groups_applied(segment.entry.index);
                }
                Meaning::Roll => self.rolled_at = self.machine.next_offset(),
                Meaning::LogStart(offset) => log_start = Some(offset),
                Meaning::Metadata(response) => {
                    image_changed = true;
                    self.answer_command(segment.entry.index, response, out);
                }
                Meaning::Nothing => {}
            }
            work.push(segment);
        }
        if let Some((index, term)) = last {
            self.group.applied(index);
            if self.held.is_none() {
                self.applied_term = term;
            }
        }
        self.retire_tail();
        let last_index = last.map_or(0, |(index, _)| index);
        out.events.push(Event::Applied { group, entries: count, last: last_index });
        if self.held.is_none() {
            out.segments.push(SegmentWork::Append { group, entries: work });
        }
        if let Some(offset) = log_start {
            out.segments.push(SegmentWork::LogStart { group, offset });
        }
        if !batches.is_empty() || log_start.is_some() {
            self.publish(batches, out);
        }
        if image_changed && let Machine::Metadata(machine) = &self.machine {
            out.image = Some(machine.image());
        }
        self.settled = last.map_or(self.settled, |(index, _)| index);
        self.applying = false;
    }

    fn apply_one(&mut self, entry: &LogEntry, out: &mut Out<R>) -> Meaning {
        if self.held.is_some() {
            return Meaning::Nothing;
        }
        let machine = &mut self.machine;
        #[cfg(feature = "planted")]
        let group = self.spec.group;
        let applied = catch_unwind(AssertUnwindSafe(|| {
            #[cfg(feature = "planted")]
            crate::planted::apply(group, entry.index);
            machine.apply(entry)
        }));
        let (what, why) = match applied {
            Ok(Ok(meaning)) => return meaning,
            Ok(Err(error)) => (HeldWhy::Refused(error.name()), error.to_string()),
            Err(panic) => (HeldWhy::Panicked, format!("apply panicked: {}", panic_text(&*panic))),
        };
        let (group, index) = (self.spec.group, entry.index);
        self.held = Some((index, why.clone()));
        self.group.hold();
        out.events.push(Event::Held { group, index, what, why });
        Meaning::Nothing
    }

    /// The command's proposer hears what the machine made of it.
    fn answer_command(&mut self, index: u64, response: Option<Response>, out: &mut Out<R>) {
        let Some(at) = self.pending.iter().position(|pending| pending.index == index) else {
            return;
        };
        let Some(pending) = self.pending.remove(at) else { return };
        if let (Deed::Command { reply }, Some(response)) = (pending.deed, response) {
            out.replies.push((reply, Answer::Metadata(response)));
        }
    }

    fn retire_tail(&mut self) {
        if let (Some(lead), Some(machine)) = (&mut self.lead, self.machine.partition())
            && let Half::Partition(half) = &mut lead.half
        {
            half.applied(machine.next_offset());
        }
    }
}
