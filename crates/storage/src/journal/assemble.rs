//! Making one write out of what waits.
//!
//! Order of choice: groups with an urgent part first (each with all it queued before), then
//! the rest as enqueued, then notes, then what is written forward, then a mark. Invariants: a
//! group's parts are never reordered; a part goes into one write; entries never take the last
//! spare of a full disk.

use std::collections::BTreeSet;

use bytes::Bytes;
use model::{GroupId, Lsn};

use super::frame::{BLOCK, DATA_START, HEADER_BYTES, Header, Kind, OWN, WriteBuilder};
use super::group::{ForwardWhat, Part, Promise, hard_state_stride};
use super::scan::{Mark, encode_hard_state, encode_start};
use super::writer::{Assembled, Journal, NO_DATA, Written};
use super::{GroupBirth, JournalEvent};
use crate::disk::Op;

/// Room beyond the cap on one write for what goes forward: it must get on under load too, or
/// the journal fills up.
const FORWARD_BYTES_LEAST: u64 = 64 << 10;

/// What the file that is written to allows.
#[derive(Clone, Copy, Debug)]
struct Room {
    bytes: u64,
    /// Also for entries, not only for promises.
    entries: bool,
}

/// Which parts go into the next write.
#[derive(Debug, Default)]
struct Selection {
    /// Positions in the queue, in the order of writing.
    chosen: Vec<usize>,
    bytes: u64,
    /// The first part in line needs a new file.
    roll: bool,
}

impl Journal {
    pub(super) fn assemble(&mut self) -> Assembled {
        if self.queue.is_empty() && self.forward.is_empty() && !self.mark_wanted && self.active {
            return Assembled::Nothing;
        }
        if !self.active && !self.roll() {
            return Assembled::Nothing;
        }
        let mut selection = self.select();
        if selection.roll || self.forward_needs_roll(&selection) {
            if self.written_lsn > self.synced_lsn {
                return Assembled::SyncFirst;
            }
            let rolled = self.roll();
            assert!(rolled, "a roll is only asked for with a spare at hand");
            selection = self.select();
            assert!(!selection.roll, "a part fits an empty file");
        }
        self.build(selection)
    }

    /// Goes on to the next spare; `false` without one.
    fn roll(&mut self) -> bool {
        if self.pool.spares() == 0 {
            return false;
        }
        self.reserve_taken = self.pool.full.is_some() && self.pool.spares() == 1;
        self.pool.roll(self.next_lsn);
        self.active = true;
        if self.pool.live_bytes() > self.config.bytes_max / 2 {
            self.events.push(JournalEvent::CheckpointWanted { bytes: self.pool.live_bytes() });
        }
        true
    }

    fn room(&self) -> Room {
        let file = self.pool.live.back().expect("a file is written to");
        let entries = self.pool.full.is_none() || !self.reserve_taken;
        let bytes = (file.bytes - file.end).checked_sub(self.preamble_bytes());
        Room { bytes: bytes.expect("a file holds a mark of all groups"), entries }
    }

    /// What a fresh file begins with.
    fn preamble_bytes(&self) -> u64 {
        let file = self.pool.live.back().expect("a file is written to");
        if file.end > DATA_START {
            return 0;
        }
        let start = HEADER_BYTES as u64 + 24;
        start + self.mark_bytes(self.groups.len())
    }

    fn mark_bytes(&self, groups: usize) -> u64 {
        (HEADER_BYTES as u64 + 12 + 16 * groups as u64).next_multiple_of(8)
    }

    fn can_roll(&self, vital: bool) -> bool {
        self.pool.spares() > 0 && (vital || self.pool.full.is_none())
    }

    fn select(&self) -> Selection {
        let room = self.room();
        let mut selection = Selection::default();
        let mut blocked = BTreeSet::new();
        let urgent = |i: &usize| self.groups[&self.queue[*i].group].queued_urgent > 0;
        let all = 0..self.queue.len();
        let (first, second): (Vec<usize>, Vec<usize>) = if self.queued_urgent > 0 {
            all.partition(urgent)
        } else {
            (Vec::new(), all.collect())
        };
        for i in first.into_iter().chain(second) {
            let part = &self.queue[i];
            if blocked.contains(&part.group) {
                continue;
            }
            let fits = selection.bytes + part.bytes <= room.bytes;
            if fits && (room.entries || part.is_vital()) {
                let capped = selection.bytes + part.bytes > self.config.sync_bytes_max as u64;
                if capped && !selection.chosen.is_empty() {
                    break;
                }
                selection.bytes += part.bytes;
                selection.chosen.push(i);
            } else if selection.chosen.is_empty() && self.can_roll(part.is_vital()) {
                selection.roll = true;
                break;
            } else if fits || selection.chosen.is_empty() {
                blocked.insert(part.group);
            } else {
                break;
            }
        }
        selection
    }

    /// True when nothing else is to be written and what is written forward needs a new file.
    fn forward_needs_roll(&self, selection: &Selection) -> bool {
        let first = self.forward.front().map_or(0, |forward| forward.bytes);
        selection.chosen.is_empty() && first > self.room().bytes && self.can_roll(true)
    }

    fn build(&mut self, selection: Selection) -> Assembled {
        let file = self.pool.live.back().expect("a file is written to");
        let (path, at, fresh) = (file.path.clone(), file.end, file.end == DATA_START);
        let limit = self.room().bytes.min(self.config.sync_bytes_max as u64);
        let mut builder = WriteBuilder::new(file.key, at);
        if fresh {
            self.write_preamble(&mut builder);
        }
        let preamble = builder.len();
        let mut done = Vec::new();
        let mut sync = fresh;
        for part in self.take(&selection) {
            sync |= part.urgent;
            done.extend(part.token.map(|token| (part.group, token)));
            self.write_part(&mut builder, part);
        }
        self.write_notes(&mut builder, preamble + limit);
        self.write_forward(&mut builder, preamble + limit + FORWARD_BYTES_LEAST);
        let mark = self.write_mark(&mut builder, preamble + limit);
        if builder.records == 0 {
            return Assembled::Nothing;
        }
        let (records, payload_bytes) = (builder.records, builder.payload_bytes);
        let (bufs, bytes) = builder.finish();
        let file = self.pool.live.back_mut().expect("a file is written to");
        file.end += bytes;
        assert!(file.end <= file.bytes, "a write stays in its file");
        let last_lsn = Lsn(self.next_lsn.0 - 1);
        file.last_lsn = last_lsn;
        let op = Op::Write { path, at, bufs };
        let refused = false;
        let written =
            Written { op, bytes, payload_bytes, records, last_lsn, done, sync, mark, refused };
        Assembled::Write(Box::new(written))
    }

    /// Takes the chosen parts out of the queue.
    fn take(&mut self, selection: &Selection) -> Vec<Part> {
        let in_front = selection.chosen.iter().enumerate().all(|(at, i)| at == *i);
        let parts: Vec<Part> = if in_front {
            self.queue.drain(..selection.chosen.len()).collect()
        } else {
            let mut slots: Vec<Option<Part>> = self.queue.drain(..).map(Some).collect();
            let taken = selection.chosen.iter().map(|i| slots[*i].take());
            let taken = taken.map(|part| part.expect("a part is chosen once")).collect();
            self.queue.extend(slots.into_iter().flatten());
            taken
        };
        for part in &parts {
            let state = self.groups.get_mut(&part.group).expect("a part has its group");
            state.queued -= 1;
            state.queued_urgent -= usize::from(part.urgent);
            self.queued_urgent -= usize::from(part.urgent);
            self.queued_bytes -= part.bytes;
        }
        parts
    }

    /// The next record's header. Every record gets its LSN here, in the order of writing.
    fn header(&mut self, kind: Kind, group: GroupId) -> Header {
        let lsn = self.next_lsn;
        self.next_lsn = Lsn(lsn.0 + 1);
        let sequence = if group == OWN {
            self.own_sequence += 1;
            self.own_sequence
        } else {
            self.since_mark.insert(group);
            let state = self.groups.get_mut(&group).expect("a record has its group");
            state.sequence += 1;
            state.last_lsn = lsn;
            state.sequence
        };
        Header {
            kind,
            lsn,
            group,
            sequence,
            synced_lsn: self.synced_lsn,
            index: 0,
            term: 0,
            payload_len: 0,
            payload_crc: 0,
        }
    }

    fn write_preamble(&mut self, builder: &mut WriteBuilder) {
        let seq = self.pool.live.back().expect("a file is written to").seq;
        let header = self.header(Kind::Start, OWN);
        builder.push(header, &[&encode_start(seq, self.run)], &NO_DATA);
        let living = self.groups.iter().filter(|(_, state)| state.pins.remove == Lsn(0));
        let all = living.map(|(id, state)| (*id, state.sequence)).collect();
        self.push_mark(builder, Mark { since: Lsn(0), sequences: all });
    }

    fn push_mark(&mut self, builder: &mut WriteBuilder, mark: Mark) {
        let header = self.header(Kind::Mark, OWN);
        builder.push(header, &[], &Bytes::from(mark.encode()));
        self.marked_lsn = header.lsn;
        self.since_mark.clear();
    }

    fn write_mark(&mut self, builder: &mut WriteBuilder, limit: u64) -> bool {
        if !self.mark_wanted || !self.queue.is_empty() {
            return false;
        }
        self.mark_wanted = false;
        let sequences = self.since_mark.iter().filter_map(|id| Some((*id, self.groups.get(id)?)));
        let sequences: Vec<_> = sequences.map(|(id, state)| (id, state.sequence)).collect();
        // A file that is full needs no mark: the next one begins with a mark of all groups.
        if sequences.is_empty() || builder.len() + self.mark_bytes(sequences.len()) > limit {
            return false;
        }
        self.push_mark(builder, Mark { since: self.marked_lsn, sequences });
        true
    }

    fn write_part(&mut self, builder: &mut WriteBuilder, part: Part) {
        let group = part.group;
        if let Some(birth) = &part.birth {
            self.write_birth(builder, group, birth);
        }
        if let Some(index) = part.truncate_from {
            self.write_truncate(builder, group, index);
        }
        for entry in part.entries {
            let header = self.header(Kind::Append, group);
            let header = Header { index: entry.index, term: entry.term, ..header };
            self.note_append(group, entry.index, header.lsn);
            let front: [&[u8]; 2] =
                [&[entry.entry_type as u8, entry.context.len() as u8], &entry.context];
            builder.push(header, &front, &entry.data);
        }
        if let Some(state) = part.hard_state {
            self.groups.get_mut(&group).expect("a part has its group").hard_state = state;
            self.write_hard_state(builder, group);
        }
        if let Some(damage) = part.suspect {
            let header = self.header(Kind::Suspect, group);
            builder.push(header, &[&[damage as u8]], &NO_DATA);
            self.unsynced.promises.push((group, Promise::Suspect, header.lsn));
        }
        if part.remove {
            self.write_remove(builder, group);
        }
    }

    /// Everything at or above `index` is dead, as if an entry there replaced it.
    fn write_truncate(&mut self, builder: &mut WriteBuilder, group: GroupId, index: u64) {
        let header = self.header(Kind::Truncate, group);
        let header = Header { index, ..header };
        builder.push(header, &[], &NO_DATA);
        let state = self.groups.get_mut(&group).expect("a part has its group");
        let file = self.pool.live.back().expect("a file is written to");
        if index <= state.pins.last_index {
            self.unsynced.truncations.push((group, index, file.seq));
            state.pins.truncate(index, header.lsn);
            state.pins.last_index = (index - 1).max(state.pins.applied);
        }
    }

    fn note_append(&mut self, group: GroupId, index: u64, lsn: Lsn) {
        let state = self.groups.get_mut(&group).expect("a part has its group");
        let file = self.pool.live.back_mut().expect("a file is written to");
        if index <= state.pins.last_index {
            self.unsynced.truncations.push((group, index, file.seq));
        }
        state.pins.truncate(index, lsn);
        let max = file.max_index.entry(group).or_default();
        *max = (*max).max(index);
    }

    fn write_birth(&mut self, builder: &mut WriteBuilder, group: GroupId, birth: &GroupBirth) {
        let header = self.header(Kind::Birth, group);
        if header.is_first() {
            // What an earlier life of the group wrote is not of its log.
            let state = self.groups.get_mut(&group).expect("a birth has its group");
            state.pins.fences.push((0, header.lsn));
        }
        builder.push(header, &[&birth.replica.0.to_le_bytes()], &birth.body);
        self.unsynced.promises.push((group, Promise::Birth, header.lsn));
    }

    fn write_hard_state(&mut self, builder: &mut WriteBuilder, group: GroupId) {
        let state = self.groups[&group].hard_state;
        let header = self.header(Kind::HardState, group);
        builder.push(header, &[&encode_hard_state(&state)], &NO_DATA);
        self.unsynced.states.push((group, state, header.lsn));
    }

    fn write_remove(&mut self, builder: &mut WriteBuilder, group: GroupId) {
        let header = self.header(Kind::Remove, group);
        builder.push(header, &[], &NO_DATA);
        self.unsynced.promises.push((group, Promise::Remove, header.lsn));
    }

    /// Notes of groups that have nothing else in the queue: a commit index must not precede
    /// the entries it commits.
    fn write_notes(&mut self, builder: &mut WriteBuilder, limit: u64) {
        let ready = self.notes.keys().filter(|group| self.groups[group].queued == 0);
        for group in ready.copied().collect::<Vec<_>>() {
            if builder.len() + hard_state_stride() > limit {
                return;
            }
            let state = self.notes.remove(&group).expect("it was there just now");
            self.groups.get_mut(&group).expect("a note has its group").hard_state = state;
            self.write_hard_state(builder, group);
        }
    }

    fn write_forward(&mut self, builder: &mut WriteBuilder, limit: u64) {
        while let Some(next) = self.forward.front() {
            if builder.len() + next.bytes > limit && builder.records > 0 {
                return;
            }
            if builder.len() + next.bytes > self.file_rest() {
                return;
            }
            let next = self.forward.pop_front().expect("it was there just now");
            let Some(state) = self.groups.get(&next.group) else { continue };
            match next.what {
                ForwardWhat::Entry(entry, lsn) => {
                    if !state.pins.entry_lives(entry.index, lsn) || state.removed {
                        continue;
                    }
                    let header = self.header(Kind::Moved, next.group);
                    let header = Header { index: entry.index, term: entry.term, ..header };
                    let file = self.pool.live.back_mut().expect("a file is written to");
                    let max = file.max_index.entry(next.group).or_default();
                    *max = (*max).max(entry.index);
                    let state = self.groups.get_mut(&next.group).expect("looked up above");
                    state.pins.moved.insert(entry.index, header.lsn);
                    let front: [&[u8]; 2] =
                        [&[entry.entry_type as u8, entry.context.len() as u8], &entry.context];
                    builder.push(header, &front, &entry.data);
                }
                ForwardWhat::Promises(up_to) => self.forward_promises(builder, next.group, up_to),
            }
        }
    }

    fn file_rest(&self) -> u64 {
        let file = self.pool.live.back().expect("a file is written to");
        file.bytes - file.end
    }

    /// Writes again what the group promised at or below `up_to`. A newer promise that is on
    /// its way makes this one needless, not wrong: the newest value is written.
    fn forward_promises(&mut self, builder: &mut WriteBuilder, group: GroupId, up_to: Lsn) {
        let state = &self.groups[&group];
        let pins = state.pins.clone();
        let old = |lsn: Lsn| lsn > pins.covered && lsn <= up_to;
        if old(pins.birth)
            && let Some(birth) = state.birth.clone()
        {
            self.write_birth(builder, group, &birth);
        }
        if old(pins.hard_state) {
            self.write_hard_state(builder, group);
        }
        if old(pins.suspect)
            && let Some(damage) = self.groups[&group].suspect
        {
            let header = self.header(Kind::Suspect, group);
            builder.push(header, &[&[damage as u8]], &NO_DATA);
            self.unsynced.promises.push((group, Promise::Suspect, header.lsn));
        }
        if old(pins.remove) {
            self.write_remove(builder, group);
        }
    }
}

const _: () = assert!(BLOCK >= HEADER_BYTES as u64);
