//! Which groups time may have to say something about: a tick looks at these and at no others.
//!
//! Invariant, while the lead keeps its part (whatever it changes it marks, whatever it looked at
//! it sets anew): a group that is not marked has no deadline before its alarm.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

#[derive(Default)]
pub(super) struct Alarms {
    /// Looked at by the next tick, whatever the time.
    marked: BTreeSet<String>,
    /// Boot nanoseconds, by group: at most one each.
    of: BTreeMap<String, u64>,
    by_time: BTreeMap<u64, BTreeSet<String>>,
}

impl Alarms {
    pub fn mark(&mut self, group: &str) {
        if !self.marked.contains(group) {
            self.marked.insert(group.to_owned());
        }
    }

    /// Takes out who is marked and whose time has come.
    pub fn due(&mut self, now_ns: u64) -> BTreeSet<String> {
        let mut due = mem::take(&mut self.marked);
        while let Some(first) = self.by_time.first_entry().filter(|first| *first.key() <= now_ns) {
            due.extend(first.remove());
        }
        for group in &due {
            let Some(at_ns) = self.of.remove(group) else { continue };
            if let Some(groups) = self.by_time.get_mut(&at_ns) {
                groups.remove(group);
                if groups.is_empty() {
                    self.by_time.remove(&at_ns);
                }
            }
        }
        due
    }

    /// For a group that was due; `u64::MAX` is no alarm.
    pub fn set(&mut self, group: String, at_ns: u64) {
        if at_ns != u64::MAX {
            self.by_time.entry(at_ns).or_default().insert(group.clone());
            self.of.insert(group, at_ns);
        }
    }

    pub fn knows(&self, group: &str) -> bool {
        self.of.contains_key(group)
    }

    #[cfg(test)]
    pub fn covers(&self, group: &str, deadline_ns: u64) -> bool {
        let alarm_ns = self.of.get(group).copied().unwrap_or(u64::MAX);
        self.marked.contains(group) || alarm_ns <= deadline_ns
    }

    #[cfg(test)]
    pub fn marked(&self) -> usize {
        self.marked.len()
    }

    #[cfg(test)]
    pub fn groups(&self) -> usize {
        assert_eq!(self.by_time.values().map(BTreeSet::len).sum::<usize>(), self.of.len());
        self.of.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_marked_or_late_is_due_once() {
        let mut alarms = Alarms::default();
        for (group, at_ns) in [("a", 5), ("b", 5), ("c", 9), ("d", u64::MAX)] {
            alarms.set(group.into(), at_ns);
        }
        let due = |alarms: &mut Alarms, now_ns| -> Vec<String> {
            alarms.due(now_ns).into_iter().collect()
        };
        assert_eq!(due(&mut alarms, 4), [""; 0]);
        alarms.mark("b");
        assert_eq!(due(&mut alarms, 4), ["b"]);
        assert_eq!(due(&mut alarms, 5), ["a"], "b was not set anew");
        alarms.mark("c");
        alarms.set("b".into(), 7);
        assert_eq!(due(&mut alarms, 100), ["b", "c"]);
        assert_eq!((due(&mut alarms, u64::MAX).len(), alarms.groups()), (0, 0));
    }
}
