//! The ledger of a group: how far it acknowledged, is on disks, committed and applied, and what
//! must hold between these numbers at the end of every turn.
//!
//! Invariants: acknowledged <= durable here or committed (looked at where it happens, in
//! `lead.rs`); applied <= committed; applied <= durable here. What breaks is told once a life.

use consensus::Role;

use super::member::Member;
use super::{Event, Out};

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerBreach {
    /// Applied here, and not committed.
    AppliedBeyondCommitted,
    /// Applied here, and not on this disk.
    AppliedBeyondDurable,
}

impl LedgerBreach {
    /// The invariant's name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            LedgerBreach::AppliedBeyondCommitted => "applied_beyond_committed",
            LedgerBreach::AppliedBeyondDurable => "committed_beyond_durable",
        }
    }
}

/// The numbers, raft indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ledger {
    pub durable: u64,
    pub committed: u64,
    pub applied: u64,
}

impl Ledger {
    pub fn breach(self) -> Option<LedgerBreach> {
        if self.applied > self.committed {
            Some(LedgerBreach::AppliedBeyondCommitted)
        } else if self.applied > self.durable {
            Some(LedgerBreach::AppliedBeyondDurable)
        } else {
            None
        }
    }
}

impl<R> Member<R> {
    pub(super) fn check_ledger(&mut self, out: &mut Out<R>) {
        let ledger = Ledger {
            durable: self.durable_index,
            committed: self.group.commit_index(),
            applied: self.group.applied_index(),
        };
        if let Some(breach) = ledger.breach()
            && self.breach.replace(breach) != Some(breach)
        {
            let Ledger { durable, committed, applied } = ledger;
            let group = self.spec.group;
            out.events.push(Event::LedgerBroken { group, breach, durable, committed, applied });
        }
    }

    /// The highest index that a majority is known to hold durably; `None` unless leading.
    pub(super) fn quorum_durable(&self) -> Option<u64> {
        (self.group.role() == Role::Leader).then(|| self.group.quorum_durable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_applied_is_committed_and_on_this_disk() {
        let ledger = |durable, committed, applied| Ledger { durable, committed, applied }.breach();
        assert_eq!(ledger(9, 7, 7), None);
        assert_eq!(ledger(7, 9, 7), None, "others have it");
        assert_eq!(ledger(9, 6, 7), Some(LedgerBreach::AppliedBeyondCommitted));
        assert_eq!(ledger(6, 9, 7), Some(LedgerBreach::AppliedBeyondDurable));
    }
}
