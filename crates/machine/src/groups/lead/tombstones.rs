//! Tombstones: what a group leaves behind goes in as many batches as it takes.
//!
//! A commit is one batch or none. A removal may happen in steps, for what is left of a group is
//! still known and goes with the next attempt; and a group that nobody bounded, removed as one
//! batch, needs one that no log takes. Invariants: the parts of a removal are appended in one turn,
//! in order; its asker waits for the last, and hears of the first that is dropped.

use std::mem;

use model::{ErrorCode, limits};
use wire::records::BATCH_HEADER_LEN;

use super::{Done, Dropped, Effects, GroupsLead, refused};
use crate::groups::protocol::Response;
use crate::groups::record::Record;

/// What a record takes beside its key and value: lengths, deltas, a count, each as short as it can
/// be written.
const RECORD_BYTES_BESIDE: usize = 32;

fn bytes_at_most(record: &Record) -> usize {
    record.payload() + RECORD_BYTES_BESIDE
}

/// What one removal removes: bounded, whatever there is.
pub(super) struct Tombstones {
    records: Vec<Record>,
    room: usize,
    /// There was more.
    more: bool,
}

impl Tombstones {
    pub fn new() -> Tombstones {
        Tombstones { records: Vec::new(), room: limits::TOMBSTONES_BYTES_AT_ONCE, more: false }
    }

    /// Once something had no room, nothing after it has: a group outlives its offsets.
    pub fn push(&mut self, record: Record) {
        let bytes = bytes_at_most(&record);
        self.more |= bytes > self.room;
        if !self.more {
            self.room -= bytes;
            self.records.push(record);
        }
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// No further one is taken.
    pub fn is_full(&self) -> bool {
        self.more
    }

    /// What its asker hears in the end: to come again for what had no room.
    pub fn answer(&self, response: Response) -> Response {
        match self.more {
            true => refused(response, ErrorCode::CoordinatorNotAvailable),
            false => response,
        }
    }
}

impl<R> GroupsLead<R> {
    /// The largest batch the log takes. Removals keep well below it.
    pub fn batches_up_to(&mut self, bytes: usize) {
        self.batch_bytes = bytes;
    }

    /// Appends `tombstones`, of which there are some; `done` follows upon the last.
    pub(super) fn bury(
        &mut self,
        group: &str,
        tombstones: Tombstones,
        done: Done<R>,
        out: &mut Effects<R>,
    ) {
        assert!(!tombstones.is_empty(), "a batch without records");
        let (earlier, last) =
            split(tombstones.records, limits::TOMBSTONE_BATCH_BYTES.min(self.batch_bytes));
        let last_token = self.next_token + earlier.len() as u64;
        for part in earlier {
            self.append(group, part, Done::Part { last: last_token }, out);
        }
        self.append(group, last, done, out);
    }

    /// A part will not be removed: whoever waits for the last one need not.
    pub(super) fn part_dropped(&mut self, last: u64, why: Dropped, out: &mut Effects<R>) {
        let Some(last) = self.pending.get_mut(&last) else { return };
        if let Done::Reply(replies) = mem::replace(&mut last.done, Done::Nothing) {
            refuse_all(replies, why, out);
        }
    }
}

/// Those who wait for an append that was dropped are told whether to come again.
pub(super) fn refuse_all<R>(replies: Vec<(R, Response)>, why: Dropped, out: &mut Effects<R>) {
    out.replies.extend(replies.into_iter().map(|(reply, response)| {
        let code = match (why, &response) {
            (Dropped::NotNow, _) => ErrorCode::CoordinatorNotAvailable,
            (Dropped::TooLarge, Response::Commit(_)) => ErrorCode::InvalidCommitOffsetSize,
            (Dropped::TooLarge, _) => ErrorCode::UnknownServerError,
        };
        (reply, refused(response, code))
    }));
}

/// In order, into batches of at most so many bytes, or of one record: all but the last, and the
/// last.
fn split(records: Vec<Record>, bytes_max: usize) -> (Vec<Vec<Record>>, Vec<Record>) {
    let (mut earlier, mut last) = (Vec::new(), Vec::new());
    let mut bytes = BATCH_HEADER_LEN;
    for record in records {
        let more = bytes_at_most(&record);
        if bytes + more > bytes_max && !last.is_empty() {
            earlier.push(mem::take(&mut last));
            bytes = BATCH_HEADER_LEN;
        }
        bytes += more;
        last.push(record);
    }
    (earlier, last)
}
