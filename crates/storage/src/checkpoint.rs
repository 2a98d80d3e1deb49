//! The checkpoint: where recovery starts. What it covers may leave the journal.
//!
//! One file, replaced whole: written beside, synced, renamed, the directory synced. Layout:
//! magic, format version, body length, body CRC-32C, body; little endian.
//! Invariants: the segments it names were synced before it was written; it is never changed
//! in place, so a reader sees the old one or the new one.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use model::{GroupId, HardState, Lsn, ReplicaId};

use crate::codec::{Fields, put_bytes, put_count};
use crate::disk::{Disk, DiskError, DiskPath, Op, Outcome, call};
use crate::error::StorageError;
use crate::journal::{Damage, GroupBirth};
use crate::segment::SegmentPosition;

/// Every group of one broker at one point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    pub groups: BTreeMap<GroupId, GroupCheckpoint>,
    /// The node's own, opaque here.
    pub extra: Bytes,
}

/// One group at one point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupCheckpoint {
    pub replica: ReplicaId,
    /// The body of the group's [`GroupBirth`].
    pub birth: Bytes,
    pub hard_state: HardState,
    /// Hard states at or below this LSN are covered ([`SyncedState`](crate::SyncedState)).
    pub as_of_lsn: Lsn,
    pub suspect: Option<Damage>,
    pub conf_state: Bytes,
    /// Entries at or below it are in segments and `machine`.
    pub applied_index: u64,
    pub applied_term: u64,
    /// The last index below the retained log; 0 when the log starts at 1.
    pub start_index: u64,
    /// The machine's snapshot, as of `machine_applied`.
    pub machine: Bytes,
    pub machine_applied: u64,
    pub segments: SegmentPosition,
    /// (first index, term), rising.
    pub term_starts: Vec<(u64, u64)>,
}

const MAGIC: &[u8; 8] = b"GLCHKPT\0";
/// 2: a group's segments may lie in another directory. Version 1 is read, never written.
const VERSION: u32 = 2;
const VERSION_HOMELESS: u32 = 1;
const HEADER_BYTES: usize = 8 + 4 + 8 + 4;
const NAME: &str = "checkpoint";
const NAME_BESIDE: &str = "checkpoint.tmp";
/// The least bytes one group takes: what a claimed count is checked against.
const GROUP_BYTES_MIN: usize = 128;

impl Checkpoint {
    /// Replaces the checkpoint in `dir`; on success it is durable.
    pub fn write(&self, disk: &mut dyn Disk, dir: &DiskPath) -> Result<(), StorageError> {
        let beside = dir.join(NAME_BESIDE);
        let bufs = self.encode();
        call(disk, Op::Create { path: beside.clone() })?;
        call(disk, Op::Write { path: beside.clone(), at: 0, bufs })?;
        call(disk, Op::Sync { path: beside.clone() })?;
        call(disk, Op::Rename { from: beside, to: dir.join(NAME) })?;
        call(disk, Op::SyncDir { path: dir.clone() })?;
        Ok(())
    }

    /// The checkpoint in `dir`; `None` when there is none.
    pub fn read(disk: &mut dyn Disk, dir: &DiskPath) -> Result<Option<Checkpoint>, StorageError> {
        let path = dir.join(NAME);
        let len = match call(disk, Op::Len { path: path.clone() }) {
            Ok(Outcome::Len(len)) => len,
            Err(DiskError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(other) => unreachable!("a length was asked for, not {other:?}"),
        };
        let damaged = |what| StorageError::Damaged { path: path.clone(), what };
        let len = usize::try_from(len).map_err(|_| damaged("its length"))?;
        let bytes = match call(disk, Op::Read { path: path.clone(), at: 0, len })? {
            Outcome::Bytes(bytes) => bytes,
            other => unreachable!("bytes were asked for, not {other:?}"),
        };
        let mut fields = Fields::new(bytes);
        if fields.take(MAGIC.len()).as_deref() != Some(MAGIC) {
            return Err(damaged("its magic"));
        }
        let found = fields.u32().ok_or_else(|| damaged("its header"))?;
        if ![VERSION_HOMELESS, VERSION].contains(&found) {
            return Err(StorageError::Version { path, found, known: VERSION });
        }
        let body = fields.u64().zip(fields.u32()).and_then(|(len, crc)| {
            let body = fields.take(usize::try_from(len).ok()?)?;
            (crc32c::crc32c(&body) == crc).then_some(body)
        });
        let body = body.ok_or_else(|| damaged("its checksum"))?;
        decode_body(body, found).map(Some).ok_or_else(|| damaged("its body"))
    }

    fn encode(&self) -> Vec<Bytes> {
        let mut body = BytesMut::new();
        put_bytes(&mut body, &self.extra);
        put_count(&mut body, self.groups.len());
        for (id, group) in &self.groups {
            encode_group(&mut body, *id, group);
        }
        let mut header = BytesMut::with_capacity(HEADER_BYTES);
        header.put_slice(MAGIC);
        header.put_u32_le(VERSION);
        header.put_u64_le(body.len() as u64);
        header.put_u32_le(crc32c::crc32c(&body));
        vec![header.freeze(), body.freeze()]
    }
}

impl GroupCheckpoint {
    pub fn group_birth(&self) -> GroupBirth {
        GroupBirth { replica: self.replica, body: self.birth.clone() }
    }
}

fn encode_group(out: &mut BytesMut, id: GroupId, group: &GroupCheckpoint) {
    out.put_u64_le(id.0);
    out.put_u64_le(group.replica.0);
    put_bytes(out, &group.birth);
    out.put_u64_le(group.hard_state.term);
    out.put_u64_le(group.hard_state.vote);
    out.put_u64_le(group.hard_state.commit);
    out.put_u64_le(group.as_of_lsn.0);
    out.put_u8(group.suspect.map_or(0, |damage| damage as u8));
    put_bytes(out, &group.conf_state);
    out.put_u64_le(group.applied_index);
    out.put_u64_le(group.applied_term);
    out.put_u64_le(group.start_index);
    put_bytes(out, &group.machine);
    out.put_u64_le(group.machine_applied);
    group.segments.encode(out);
    put_count(out, group.term_starts.len());
    for (index, term) in &group.term_starts {
        out.put_u64_le(*index);
        out.put_u64_le(*term);
    }
}

fn decode_body(body: Bytes, version: u32) -> Option<Checkpoint> {
    let mut fields = Fields::new(body);
    let mut checkpoint = Checkpoint { extra: fields.bytes()?, ..Checkpoint::default() };
    for _ in 0..fields.count(GROUP_BYTES_MIN)? {
        let id = GroupId(fields.u64()?);
        checkpoint.groups.insert(id, decode_group(&mut fields, version)?);
    }
    fields.is_empty().then_some(checkpoint)
}

fn decode_group(fields: &mut Fields, version: u32) -> Option<GroupCheckpoint> {
    let mut group = GroupCheckpoint {
        replica: ReplicaId(fields.u64()?),
        birth: fields.bytes()?,
        hard_state: HardState { term: fields.u64()?, vote: fields.u64()?, commit: fields.u64()? },
        as_of_lsn: Lsn(fields.u64()?),
        ..GroupCheckpoint::default()
    };
    group.suspect = match fields.u8()? {
        0 => None,
        code => Some(Damage::from_u8(code)?),
    };
    group.conf_state = fields.bytes()?;
    group.applied_index = fields.u64()?;
    group.applied_term = fields.u64()?;
    group.start_index = fields.u64()?;
    group.machine = fields.bytes()?;
    group.machine_applied = fields.u64()?;
    group.segments = match version {
        VERSION_HOMELESS => SegmentPosition::decode_homeless(fields)?,
        _ => SegmentPosition::decode(fields)?,
    };
    for _ in 0..fields.count(16)? {
        group.term_starts.push((fields.u64()?, fields.u64()?));
    }
    Some(group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{SegmentMark, TermStart};
    use crate::testing::{Dice, SimDisk};

    fn sample(groups: u64) -> Checkpoint {
        let mut checkpoint =
            Checkpoint { extra: Bytes::from_static(b"node"), ..Checkpoint::default() };
        for id in 1..=groups {
            let segments = SegmentPosition {
                segments: vec![SegmentMark { base_index: id, log_bytes: 9, ..Default::default() }],
                last_index: 7,
                terms: vec![TermStart { first_index: 1, term: 2, start_offset: 3 }],
                ..SegmentPosition::default()
            };
            let group = GroupCheckpoint {
                replica: ReplicaId(id * 3),
                birth: Bytes::from_static(b"birth"),
                hard_state: HardState { term: 4, vote: 5, commit: 6 },
                as_of_lsn: Lsn(99),
                suspect: (id == 2).then_some(Damage::EntryGap),
                machine: Bytes::from(vec![1; 300]),
                applied_index: 7,
                segments,
                term_starts: vec![(1, 2)],
                ..GroupCheckpoint::default()
            };
            checkpoint.groups.insert(GroupId(id), group);
        }
        checkpoint
    }

    fn dir() -> DiskPath {
        DiskPath::new("")
    }

    #[test]
    fn it_reads_back_and_every_flipped_bit_is_noticed() {
        let mut disk = SimDisk::new(512);
        assert_eq!(Checkpoint::read(&mut disk, &dir()), Ok(None));
        let written = sample(3);
        written.write(&mut disk, &dir()).expect("the disk works");
        assert_eq!(Checkpoint::read(&mut disk, &dir()), Ok(Some(written)));
        let path = DiskPath::new(NAME);
        let len = disk.world().read(&path, 0, usize::MAX).expect("there").len() as u64;
        for byte in 0..len {
            let mut world = disk.world().clone();
            world.flip_bit(&path, byte, (byte % 8) as u8);
            let result = Checkpoint::read(&mut SimDisk::open(world), &dir());
            let version = (8..12).contains(&byte);
            match result {
                Err(StorageError::Damaged { .. }) => assert!(!version),
                Err(StorageError::Version { .. }) => assert!(version),
                other => panic!("byte {byte}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_first_format_is_read_into_the_plain_directory() {
        const EXTRA_AND_COUNT: usize = 4 + 4 + 4;
        const AFTER_HOME: usize = 4 + 16;
        let expected = sample(2);
        let body = expected.encode().remove(1);
        let mut old = BytesMut::from(&body[..EXTRA_AND_COUNT]);
        for group in body[EXTRA_AND_COUNT..].chunks((body.len() - EXTRA_AND_COUNT) / 2) {
            let home_end = group.len() - AFTER_HOME;
            old.put_slice(&group[..home_end - 8]);
            old.put_slice(&group[home_end..]);
        }
        let mut file = BytesMut::from(&MAGIC[..]);
        file.put_u32_le(1);
        file.put_u64_le(old.len() as u64);
        file.put_u32_le(crc32c::crc32c(&old));
        file.put_slice(&old);
        let mut disk = SimDisk::new(512);
        let path = DiskPath::new(NAME);
        call(&mut disk, Op::Create { path: path.clone() }).expect("the disk works");
        call(&mut disk, Op::Write { path, at: 0, bufs: vec![file.freeze()] }).expect("it works");
        assert_eq!(Checkpoint::read(&mut disk, &dir()), Ok(Some(expected)));
    }

    #[test]
    fn a_crash_leaves_the_old_one_or_the_new_one() {
        let mut dice = Dice(3);
        let mut disk = SimDisk::new(512);
        let (old, new) = (sample(2), sample(5));
        old.write(&mut disk, &dir()).expect("the disk works");
        let path = DiskPath::new(NAME_BESIDE);
        let steps = [
            Op::Create { path: path.clone() },
            Op::Write { path: path.clone(), at: 0, bufs: new.encode() },
            Op::Sync { path: path.clone() },
            Op::Rename { from: path, to: DiskPath::new(NAME) },
        ];
        for step in steps {
            call(&mut disk, step).expect("the disk works");
            for _ in 0..50 {
                let mut world = disk.world().clone();
                world.crash(|_| dice.chance(2));
                let found = Checkpoint::read(&mut SimDisk::open(world), &dir());
                let found = found.expect("sound").expect("there");
                assert!(found == old || found == new);
            }
        }
    }

    #[test]
    fn a_lying_count_allocates_nothing() {
        let mut body = BytesMut::new();
        put_bytes(&mut body, b"");
        body.put_u32_le(u32::MAX);
        assert_eq!(decode_body(body.freeze(), VERSION), None);
    }
}
