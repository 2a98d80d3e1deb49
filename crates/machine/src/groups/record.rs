//! Keys and values of `__consumer_offsets`, as Kafka writes them: OffsetCommitKey 1,
//! OffsetCommitValue 4 with a tagged field of our own (0 to 4 are read), GroupMetadataKey 2,
//! GroupMetadataValue 3 (0 to 3 are read). A key or value of a later version is not ours to judge
//! and is passed over.
//!
//! Invariant: any bytes are survived; every length is checked before it is believed.

use bytes::{BufMut, Bytes, BytesMut};
use model::GroupId;

use super::state::{CommittedOffset, StoredGroup, StoredMember};

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const VALUE: i16 = 3;
/// The first OffsetCommitValue with tagged fields: readers pass over those they do not know.
const TAGGED_OFFSET: i16 = 4;
/// The raft group of the partition (u64); far above the tags Kafka will come to use.
const RAFT_GROUP_TAG: u32 = 10_000;

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Offset { group: String, topic: String, partition: i32 },
    Group { group: String },
}

/// One record to be written: no value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl Record {
    /// Bytes of key and value.
    pub fn payload(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }

    pub fn offset(
        group: &str,
        topic: &str,
        partition: i32,
        value: Option<&CommittedOffset>,
    ) -> Record {
        let mut key = BytesMut::new();
        key.put_i16(OFFSET_KEY);
        put_string(&mut key, group);
        put_string(&mut key, topic);
        key.put_i32(partition);
        Record { key: key.freeze(), value: value.map(offset_value) }
    }

    pub fn group(group: &str, value: Option<&StoredGroup>) -> Record {
        let mut key = BytesMut::new();
        key.put_i16(GROUP_KEY);
        put_string(&mut key, group);
        Record { key: key.freeze(), value: value.map(group_value) }
    }
}

fn offset_value(offset: &CommittedOffset) -> Bytes {
    let mut value = BytesMut::new();
    let tagged = offset.raft_group.is_some();
    value.put_i16(if tagged { TAGGED_OFFSET } else { VALUE });
    value.put_i64(offset.offset);
    value.put_i32(offset.leader_epoch);
    if tagged {
        put_uvarint(&mut value, offset.metadata.len() as u32 + 1);
        value.extend_from_slice(offset.metadata.as_bytes());
    } else {
        put_string(&mut value, &offset.metadata);
    }
    value.put_i64(offset.commit_ms);
    if let Some(GroupId(group)) = offset.raft_group {
        for number in [1, RAFT_GROUP_TAG, size_of::<u64>() as u32] {
            put_uvarint(&mut value, number);
        }
        value.put_u64(group);
    }
    value.freeze()
}

fn group_value(group: &StoredGroup) -> Bytes {
    let mut value = BytesMut::new();
    value.put_i16(VALUE);
    put_string(&mut value, &group.protocol_type);
    value.put_i32(group.generation);
    put_nullable(&mut value, group.protocol.as_deref());
    put_nullable(&mut value, group.leader.as_deref());
    value.put_i64(group.state_ms);
    value.put_i32(group.members.len() as i32);
    for member in &group.members {
        put_string(&mut value, &member.member_id);
        put_nullable(&mut value, member.instance.as_deref());
        put_string(&mut value, &member.client_id);
        put_string(&mut value, &member.client_host);
        value.put_i32(member.rebalance_timeout_ms);
        value.put_i32(member.session_timeout_ms);
        put_bytes(&mut value, &member.subscription);
        put_bytes(&mut value, &member.assignment);
    }
    value.freeze()
}

/// `Ok(None)`: a key of a kind or version we do not know.
pub fn decode_key(bytes: &[u8]) -> Result<Option<Key>, &'static str> {
    let mut reader = Reader { bytes };
    Ok(match reader.i16()? {
        0 | OFFSET_KEY => Some(Key::Offset {
            group: reader.string()?,
            topic: reader.string()?,
            partition: reader.i32()?,
        }),
        GROUP_KEY => Some(Key::Group { group: reader.string()? }),
        _ => None,
    })
}

/// `Ok(None)`: a version we do not know.
pub fn decode_offset(bytes: &[u8]) -> Result<Option<CommittedOffset>, &'static str> {
    let mut reader = Reader { bytes };
    let version = reader.i16()?;
    if !(0..=TAGGED_OFFSET).contains(&version) {
        return Ok(None);
    }
    let tagged = version == TAGGED_OFFSET;
    Ok(Some(CommittedOffset {
        offset: reader.i64()?,
        leader_epoch: if version >= 3 { reader.i32()? } else { -1 },
        metadata: if tagged { reader.compact_string()? } else { reader.string()? },
        commit_ms: reader.i64()?,
        raft_group: if tagged { reader.raft_group_tag()? } else { None },
    }))
}

/// `Ok(None)`: a version we do not know.
pub fn decode_group(bytes: &[u8]) -> Result<Option<StoredGroup>, &'static str> {
    let mut reader = Reader { bytes };
    let version = reader.i16()?;
    if !(0..=VALUE).contains(&version) {
        return Ok(None);
    }
    let mut group = StoredGroup {
        protocol_type: reader.string()?,
        generation: reader.i32()?,
        protocol: reader.nullable()?,
        leader: reader.nullable()?,
        state_ms: if version >= 2 { reader.i64()? } else { -1 },
        members: Vec::new(),
    };
    let count = reader.i32()?;
    for _ in 0..count {
        // Bounded by the bytes: each member takes some, or this fails.
        let member_id = reader.string()?;
        let instance = if version >= 3 { reader.nullable()? } else { None };
        let (client_id, client_host) = (reader.string()?, reader.string()?);
        let rebalance = if version >= 1 { Some(reader.i32()?) } else { None };
        let session_timeout_ms = reader.i32()?;
        group.members.push(StoredMember {
            member_id,
            instance,
            client_id,
            client_host,
            rebalance_timeout_ms: rebalance.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: reader.blob()?,
            assignment: reader.blob()?,
        });
    }
    Ok(Some(group))
}

/// A length that wrapped would make a record that no replica can read, for ever: rather none.
fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("texts are bounded where they come in"));
    out.extend_from_slice(text.as_bytes());
}

fn put_uvarint(out: &mut BytesMut, mut number: u32) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn put_nullable(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(bytes.len() as i32);
    out.extend_from_slice(bytes);
}

struct Reader<'a> {
    bytes: &'a [u8],
}

const SHORT: &str = "ends too early";

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(SHORT)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        self.take(N)?.try_into().map_err(|_| SHORT)
    }

    fn i16(&mut self) -> Result<i16, &'static str> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, &'static str> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, &'static str> {
        self.array().map(i64::from_be_bytes)
    }

    fn nullable(&mut self) -> Result<Option<String>, &'static str> {
        let length = self.i16()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| "a negative length")?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "not UTF-8")?;
        Ok(Some(text.to_owned()))
    }

    fn string(&mut self) -> Result<String, &'static str> {
        self.nullable()?.ok_or("null where a text belongs")
    }

    fn uvarint(&mut self) -> Result<u32, &'static str> {
        let mut number = 0u32;
        for shift in (0..32).step_by(7) {
            let [byte] = self.array()?;
            number |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("a number without an end")
    }

    fn compact_string(&mut self) -> Result<String, &'static str> {
        let length = self.uvarint()?.checked_sub(1).ok_or("null where a text belongs")?;
        let text = std::str::from_utf8(self.take(length as usize)?).map_err(|_| "not UTF-8")?;
        Ok(text.to_owned())
    }

    /// Of all tagged fields the one that is ours.
    fn raft_group_tag(&mut self) -> Result<Option<GroupId>, &'static str> {
        let mut found = None;
        for _ in 0..self.uvarint()? {
            // Bounded by the bytes, like everything here.
            let (tag, length) = (self.uvarint()?, self.uvarint()?);
            let mut field = Reader { bytes: self.take(length as usize)? };
            if tag == RAFT_GROUP_TAG {
                found = Some(GroupId(u64::from_be_bytes(field.array()?)));
            }
        }
        Ok(found)
    }

    fn blob(&mut self) -> Result<Bytes, &'static str> {
        let length = self.i32()?;
        let length = usize::try_from(length).map_err(|_| "a negative length")?;
        self.take(length).map(Bytes::copy_from_slice)
    }
}
