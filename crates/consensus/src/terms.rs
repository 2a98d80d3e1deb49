//! Which term an index belongs to, for the whole retained log, in one run per leader epoch.
//!
//! Invariants: runs ascend in index and in term; the run that covers `start_index` is retained,
//! because raft asks for `term(first_index - 1)` (raft.rs, probes and `match_term`).

use crate::error::ConsensusError;

/// Runs of (first index, term).
#[derive(Clone, Debug, Default)]
pub(crate) struct TermTable {
    runs: Vec<(u64, u64)>,
}

impl TermTable {
    /// Builds the table from restored runs, cutting what lies at or above `end`.
    pub fn restore(runs: &[(u64, u64)], end: u64) -> Result<TermTable, ConsensusError> {
        let mut table = TermTable::default();
        for &(first, term) in runs.iter().filter(|run| run.0 < end) {
            if let Some(&(last_first, last_term)) = table.runs.last() {
                if first <= last_first || term < last_term {
                    return Err(ConsensusError::TermFalls { index: first });
                }
                if term == last_term {
                    continue;
                }
            }
            table.runs.push((first, term));
        }
        Ok(table)
    }

    /// The term of `index`; 0 for index 0, `None` below the first run.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == 0 {
            return Some(0);
        }
        let after = self.runs.partition_point(|run| run.0 <= index);
        after.checked_sub(1).map(|at| self.runs[at].1)
    }

    /// Notes the entry that now ends the log. False: its term is lower than the one before.
    pub fn push(&mut self, index: u64, term: u64) -> bool {
        match self.runs.last() {
            Some(&(_, last)) if last == term => true,
            Some(&(_, last)) if last > term => false,
            _ => {
                self.runs.push((index, term));
                true
            }
        }
    }

    /// Forgets everything from `index` on.
    pub fn truncate(&mut self, index: u64) {
        while self.runs.last().is_some_and(|run| run.0 >= index) {
            self.runs.pop();
        }
    }

    /// Forgets runs that end below `start`, the run that covers it excepted.
    pub fn forget_below(&mut self, start: u64) {
        let covering = self.runs.partition_point(|run| run.0 <= start).saturating_sub(1);
        self.runs.drain(..covering);
    }

    pub fn runs(&self) -> &[(u64, u64)] {
        &self.runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_table_answers_for_the_whole_log_and_one_index_below() {
        let mut table = TermTable::restore(&[(3, 1), (10, 1), (12, 4)], 100).unwrap();
        let terms = |t: &TermTable, at: &[u64]| at.iter().map(|i| t.term(*i)).collect::<Vec<_>>();
        assert_eq!(terms(&table, &[0, 2, 3, 11, 12]), [Some(0), None, Some(1), Some(1), Some(4)]);
        assert!(table.push(20, 6) && table.push(21, 6) && !table.push(22, 5));
        table.forget_below(11);
        assert_eq!(terms(&table, &[11, 12, 20]), [Some(1), Some(4), Some(6)]);
        table.forget_below(12);
        assert_eq!(terms(&table, &[11, 12]), [None, Some(4)]);
        table.truncate(20);
        assert_eq!(table.runs(), &[(12, 4)]);
        assert!(TermTable::restore(&[(3, 2), (5, 1)], 100).is_err());
    }
}
