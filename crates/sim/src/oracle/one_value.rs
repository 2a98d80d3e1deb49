//! One value per (group, index) and per (group, offset): whatever any broker calls committed is
//! the log, for ever (raft thesis 3.6.3, Kafka: offsets are never reused).

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{EntryKind, GroupId, LogEntry};
use node::shard::Shard;

/// A committed entry.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub term: u64,
    pub data: Bytes,
    context: Bytes,
    /// Batches: first and next offset.
    pub offsets: Option<(i64, i64)>,
    /// Batches of idempotent producers: (id, epoch, base sequence).
    pub identity: Option<(i64, i16, i32)>,
}

impl Chosen {
    fn new(entry: LogEntry) -> Chosen {
        let kind = entry.kind().map_or(EntryKind::Raft, |(kind, _)| kind);
        let data = entry.data;
        let (mut offsets, mut identity) = (None, None);
        if kind == EntryKind::Batch && data.len() >= 61 {
            let base = i64::from_be_bytes(data[0..8].try_into().expect("eight bytes"));
            let last = i32::from_be_bytes(data[23..27].try_into().expect("four bytes"));
            let id = i64::from_be_bytes(data[43..51].try_into().expect("eight bytes"));
            let epoch = i16::from_be_bytes(data[51..53].try_into().expect("two bytes"));
            let sequence = i32::from_be_bytes(data[53..57].try_into().expect("four bytes"));
            offsets = Some((base, base + i64::from(last) + 1));
            identity = (id >= 0).then_some((id, epoch, sequence));
        }
        Chosen { term: entry.term, data, context: entry.context, offsets, identity }
    }

    fn is(&self, entry: &LogEntry) -> bool {
        self.term == entry.term && self.data == entry.data && self.context == entry.context
    }
}

#[derive(Default)]
struct Log {
    entries: Vec<Chosen>,
    next_offset: i64,
    by_offset: BTreeMap<i64, u64>,
}

#[derive(Default)]
pub struct OneValue {
    logs: BTreeMap<GroupId, Log>,
    /// Up to where the present process of a broker was looked at.
    seen: BTreeMap<(usize, GroupId), u64>,
    /// Where a log begins anew behind a snapshot that is being installed.
    begins: BTreeMap<(usize, GroupId), u64>,
}

impl OneValue {
    /// A process begins with what it had applied at its checkpoint.
    pub fn began(&mut self, b: usize, shard: &Shard<u64>) {
        self.seen.retain(|(broker, _), _| *broker != b);
        self.begins.retain(|(broker, _), _| *broker != b);
        for group in shard.groups() {
            let applied = shard.member(group).map_or(0, |member| member.group.applied_index());
            self.seen.insert((b, group), applied);
        }
    }

    /// Another replica begins in its place.
    pub fn expelled(&mut self, b: usize, group: GroupId) {
        self.seen.remove(&(b, group));
        self.begins.remove(&(b, group));
    }

    /// A snapshot at `index` is about to be installed.
    pub fn begins_at(&mut self, b: usize, group: GroupId, index: u64) {
        self.begins.insert((b, group), index);
    }

    /// Up to where a snapshot that raft has taken covers the log.
    pub fn beginning(&self, b: usize, group: GroupId, commit: u64) -> u64 {
        self.begins.get(&(b, group)).copied().filter(|index| *index <= commit).unwrap_or(0)
    }

    /// Entries of `b` up to here were looked at.
    pub fn seen(&self, b: usize, group: GroupId) -> u64 {
        self.seen.get(&(b, group)).copied().unwrap_or(0)
    }

    /// `b` calls `entry` committed. `Some`: nobody did before.
    pub fn committed(
        &mut self,
        b: usize,
        group: GroupId,
        entry: LogEntry,
    ) -> Result<Option<&Chosen>, String> {
        let index = entry.index;
        self.seen.insert((b, group), index);
        let log = self.logs.entry(group).or_default();
        if let Some(chosen) = log.entries.get(index as usize - 1) {
            return match chosen.is(&entry) {
                true => Ok(None),
                false => Err(format!(
                    "group {group}: entry {index} is of term {} and {} bytes, on b{} of term {} and {} bytes",
                    chosen.term,
                    chosen.data.len(),
                    b + 1,
                    entry.term,
                    entry.data.len()
                )),
            };
        }
        if log.entries.len() as u64 + 1 != index {
            let len = log.entries.len();
            return Err(format!("group {group}: b{} committed {index} behind {len}", b + 1));
        }
        let chosen = Chosen::new(entry);
        if let Some((base, next)) = chosen.offsets {
            if base != log.next_offset {
                let expected = log.next_offset;
                return Err(format!(
                    "group {group}: entry {index} at offset {base}, not {expected}"
                ));
            }
            log.next_offset = next;
            log.by_offset.insert(base, index);
        }
        log.entries.push(chosen);
        Ok(log.entries.last())
    }

    pub fn get(&self, group: GroupId, index: u64) -> Option<&Chosen> {
        self.logs.get(&group)?.entries.get(index.checked_sub(1)? as usize)
    }

    /// The batch that begins at `offset`, and its index.
    pub fn at_offset(&self, group: GroupId, offset: i64) -> Option<(u64, &Chosen)> {
        let index = *self.logs.get(&group)?.by_offset.get(&offset)?;
        Some((index, self.get(group, index)?))
    }

    /// Checks that `bytes` are whole committed batches, the first of which holds `offset`.
    pub fn reads_as(&self, group: GroupId, offset: i64, bytes: &[u8]) -> Result<(), String> {
        let log = self.logs.get(&group).ok_or("nothing is committed")?;
        let first = log.by_offset.range(..=offset).next_back().ok_or("no batch holds it")?;
        let mut rest = bytes;
        for chosen in log.entries[*first.1 as usize - 1..].iter() {
            if rest.is_empty() {
                break;
            }
            if chosen.offsets.is_some() {
                let base = chosen.offsets.map_or(0, |(base, _)| base);
                rest = rest.strip_prefix(&chosen.data[..]).ok_or_else(|| {
                    format!("the batch at {base} does not read back as committed")
                })?;
            }
        }
        match (bytes.is_empty(), rest.is_empty()) {
            (true, _) => Err("nothing was read".into()),
            (_, false) => Err(format!("{} bytes more than were committed", rest.len())),
            _ => Ok(()),
        }
    }

    pub fn last_index(&self, group: GroupId) -> u64 {
        self.logs.get(&group).map_or(0, |log| log.entries.len() as u64)
    }

    /// All batches of a group in log order.
    pub fn batches(&self, group: GroupId) -> impl Iterator<Item = &Chosen> {
        let entries = self.logs.get(&group).map(|log| log.entries.as_slice()).unwrap_or_default();
        entries.iter().filter(|chosen| chosen.offsets.is_some())
    }
}
