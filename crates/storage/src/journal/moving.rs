//! Writing forward: what still pins the oldest file is read back and written again, so that
//! the file can be recycled although a group does not get on.
//!
//! Invariants: an entry goes forward only if it is still part of its group's log at the moment
//! its new record is formed; the file is freed only after the new records are synced; a file
//! that does not read back as written keeps its pin and is named.

use bytes::Bytes;
use model::{GroupId, Lsn};

use super::JournalEvent;
use super::frame::{DATA_START, Kind};
use super::group::Forward;
use super::scan::{Body, Found, Ground, Next, scan_chunk};
use super::writer::Journal;
use crate::disk::{Disk, DiskError, DiskPath, Op, OpId, Outcome};

/// Bytes read back at a time.
const READ_BYTES: usize = 1 << 20;

/// The oldest file on its way out.
#[derive(Debug)]
pub(super) struct Moving {
    path: DiskPath,
    seq: u64,
    ground: Ground,
    /// `None`: everything was read.
    next: Option<Next>,
    under_way: Option<OpId>,
    /// The last LSN seen, to notice one that is missing.
    seen: Lsn,
    records: u64,
    bytes: u64,
}

impl Moving {
    pub fn owns(&self, id: OpId) -> bool {
        self.under_way == Some(id)
    }
}

impl Journal {
    /// Goes on with the oldest file while the journal is half full and stragglers pin it. Each
    /// checkpoint moves only what was written before it, so that moving comes to an end.
    pub(super) fn begin_moving(&mut self) {
        let many = self.pool.live_bytes() > self.config.bytes_max / 2 && self.pool.live.len() > 1;
        if !many || !self.is_started() || self.moving.is_some() {
            return;
        }
        let file = &self.pool.live[0];
        if file.unmovable || file.seq >= self.move_below_seq {
            return;
        }
        self.moving = Some(Moving {
            path: file.path.clone(),
            seq: file.seq,
            ground: Ground { key: file.key, len: file.end },
            next: Some(Next { at: DATA_START, need: READ_BYTES }),
            under_way: None,
            seen: Lsn(file.first_lsn.0 - 1),
            records: 0,
            bytes: 0,
        });
    }

    pub(super) fn submit_moving(&mut self, disk: &mut dyn Disk) {
        let backlog = !self.forward.is_empty();
        let Some(moving) = self.moving.as_mut().filter(|it| it.under_way.is_none()) else { return };
        if let Some(Next { at, need }) = moving.next.filter(|_| !backlog) {
            let rest = usize::try_from(moving.ground.len - at).unwrap_or(usize::MAX);
            let len = need.max(READ_BYTES).min(rest);
            moving.under_way = Some(disk.submit(Op::Read { path: moving.path.clone(), at, len }));
        }
    }

    pub(super) fn complete_moving(&mut self, result: Result<Outcome, DiskError>) {
        match result {
            Ok(Outcome::Bytes(bytes)) => {
                if !self.read_back(&bytes) {
                    self.give_up_moving(None);
                }
            }
            Ok(other) => unreachable!("bytes were asked for, not {other:?}"),
            Err(error) => self.give_up_moving(Some(error)),
        }
    }

    fn give_up_moving(&mut self, error: Option<DiskError>) {
        let moving = self.moving.take().expect("it has just read");
        self.forward.clear();
        self.pool.live[0].unmovable = true;
        self.events.push(JournalEvent::MoveFailed { file: moving.seq, error });
    }

    /// Queues what lives of the bytes read; `false` when they are not what was written.
    fn read_back(&mut self, bytes: &Bytes) -> bool {
        let mut moving = self.moving.take().expect("it has just read");
        moving.under_way = None;
        let Next { at, need } = moving.next.expect("it asked for these bytes");
        let short = bytes.len() < need && at + (bytes.len() as u64) < moving.ground.len;
        let mut found = Vec::new();
        let next = scan_chunk(moving.ground, at, bytes, |record| found.push(record));
        let stuck = next.is_some_and(|next| next.at == at && next.need <= bytes.len());
        let mut sound = !short && !stuck;
        for record in found {
            sound &= self.move_record(&mut moving, record);
        }
        moving.next = next;
        if next.is_none() && sound {
            sound = moving.seen >= self.pool.live[0].last_lsn || self.pool.live[0].damaged;
            self.forward_promises_of_oldest();
        }
        let read_all = moving.next.is_none();
        self.moving = Some(moving);
        if read_all && sound && self.forward.is_empty() {
            // Nothing lives in it: all that keeps it is already written elsewhere.
            self.finish_moving();
        }
        sound
    }

    fn move_record(&mut self, moving: &mut Moving, found: Found) -> bool {
        let file = &self.pool.live[0];
        let header = found.header;
        if header.lsn > file.last_lsn || header.lsn < file.first_lsn {
            return true;
        }
        let follows = header.lsn.0 == moving.seen.0 + 1 || file.damaged;
        moving.seen = header.lsn;
        if !matches!(header.kind, Kind::Append | Kind::Moved) {
            return follows;
        }
        let state = self.groups.get(&header.group).filter(|state| !state.removed);
        if !state.is_some_and(|state| state.pins.entry_lives(header.index, header.lsn)) {
            return follows;
        }
        match found.payload.and_then(|payload| Body::decode(&header, payload)) {
            Some(Body::Append(entry) | Body::Moved(entry)) => {
                let forward = Forward::entry(header.group, entry, header.lsn);
                moving.records += 1;
                moving.bytes += forward.bytes;
                self.forward.push_back(forward);
                follows
            }
            _ => follows && file.damaged,
        }
    }

    fn forward_promises_of_oldest(&mut self) {
        let file = &self.pool.live[0];
        let keep = |state: &super::group::GroupState| state.pins.promises_lie_in(file);
        let kept: Vec<GroupId> =
            self.groups.iter().filter(|(_, state)| keep(state)).map(|(id, _)| *id).collect();
        let up_to = file.last_lsn;
        for group in kept {
            let birth = self.groups[&group].birth.as_ref().map_or(0, |birth| birth.body.len());
            self.forward.push_back(Forward::promises(group, birth, up_to));
        }
    }

    /// After a sync: everything that was moved is safe where it is now.
    pub(super) fn finish_moving(&mut self) {
        let all_read = self.moving.as_ref().is_some_and(|it| it.next.is_none());
        if !all_read || !self.forward.is_empty() {
            return;
        }
        if self.written_lsn > self.synced_lsn || self.next_lsn.0 > self.written_lsn.0 + 1 {
            self.want_sync();
            return;
        }
        let moving = self.moving.take().expect("seen just now");
        self.pool.live[0].max_index.clear();
        self.events.push(JournalEvent::Moved { records: moving.records, bytes: moving.bytes });
        self.free_files();
        self.begin_moving();
    }
}
