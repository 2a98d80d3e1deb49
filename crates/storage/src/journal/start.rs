//! The start of a journal: nothing may be answered before its first record is synced.

use crate::disk::{Disk, DiskError, OpKind};

use super::writer::Journal;
use super::{FullReason, JournalEvent};

/// Why a journal does not start. Nothing of it may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartFailed {
    /// An operation failed.
    Disk { op: OpKind, error: DiskError },
    /// There is no room for its first file.
    Full(FullReason),
    /// Nothing is left to do, and it has not begun: a defect.
    Idle,
}

impl Journal {
    /// Drives the journal on `disk`, which nobody else uses meanwhile, until its first record is
    /// synced and nothing waits. A disk that became full on the way is told by the next
    /// [`submit`](Journal::submit): whoever drives the journal from then on has to ask for space.
    pub fn start(&mut self, disk: &mut dyn Disk) -> Result<(), StartFailed> {
        let mut started = false;
        loop {
            let mut events = self.submit(disk);
            let done = disk.complete();
            let idle = done.is_none();
            events.extend(done.into_iter().flat_map(|done| self.complete(done)));
            for event in events {
                match event {
                    JournalEvent::Started { .. } => started = true,
                    JournalEvent::Poisoned { op, error } => {
                        return Err(StartFailed::Disk { op, error });
                    }
                    JournalEvent::Full(Some(reason)) if !started => {
                        return Err(StartFailed::Full(reason));
                    }
                    _ => {}
                }
            }
            if started && self.is_quiet() {
                self.events.extend(self.pool.full.map(|reason| JournalEvent::Full(Some(reason))));
                return Ok(());
            }
            if idle {
                return Err(StartFailed::Idle);
            }
        }
    }
}
