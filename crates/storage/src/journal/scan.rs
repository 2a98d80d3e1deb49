//! Finding records in a file's bytes, and what a record says.
//!
//! Invariants: after bytes that are no record, looking resumes at the next block only; a
//! payload whose checksum fails is reported, never interpreted; no allocation follows a
//! length that was not checked.

use bytes::Bytes;
use model::{GroupId, HardState, LogEntry, Lsn, RaftEntryType, ReplicaId};

use super::files::Run;
use super::frame::{BLOCK, HEADER_BYTES, Header, Kind};
use super::{Damage, GroupBirth};
use crate::codec::Fields;

/// A record whose header checks out.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub at: u64,
    pub header: Header,
    /// `None`: the payload's checksum fails.
    pub payload: Option<Bytes>,
}

/// Where to read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub at: u64,
    /// Fewer bytes than this would not help.
    pub need: usize,
}

/// The file being looked through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    pub key: u64,
    /// Length of the file.
    pub len: u64,
}

/// Looks through `chunk`, which lies at file position `from`; calls `each` for every record
/// that lies wholly in it. `None`: the file has no more. `from` is a block, or where a call
/// before said to read on.
pub(super) fn scan_chunk(
    ground: Ground,
    from: u64,
    chunk: &Bytes,
    mut each: impl FnMut(Found),
) -> Option<Next> {
    let end = from + chunk.len() as u64;
    let mut at = from;
    loop {
        if at + HEADER_BYTES as u64 > ground.len {
            return None;
        }
        if at + HEADER_BYTES as u64 > end {
            return Some(Next { at, need: HEADER_BYTES });
        }
        let here = (at - from) as usize;
        let header = Header::parse(&chunk[here..], ground.key, at);
        let Some(header) = header.filter(|header| at + header.stride() <= ground.len) else {
            at = (at + 1).next_multiple_of(BLOCK);
            continue;
        };
        if at + header.stride() > end {
            return Some(Next { at, need: header.stride() as usize });
        }
        let start = here + HEADER_BYTES;
        let payload = chunk.slice(start..start + header.payload_len as usize);
        let payload = header.accepts(&payload, ground.key, at).then_some(payload);
        each(Found { at, header, payload });
        at += header.stride();
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Start { file_seq: u64, run: Run },
    Append(LogEntry),
    Moved(LogEntry),
    HardState(HardState),
    Birth(GroupBirth),
    Remove,
    Suspect(Damage),
    Mark(Mark),
    Truncate,
}

/// Last sequences: a proof that nothing of a group is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// A group that is not listed wrote nothing since this LSN (0: since ever).
    pub since: Lsn,
    pub sequences: Vec<(GroupId, u64)>,
}

impl Mark {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 16 * self.sequences.len());
        out.extend_from_slice(&self.since.0.to_le_bytes());
        let count = u32::try_from(self.sequences.len()).expect("groups fit 32 bits");
        out.extend_from_slice(&count.to_le_bytes());
        for (group, sequence) in &self.sequences {
            out.extend_from_slice(&group.0.to_le_bytes());
            out.extend_from_slice(&sequence.to_le_bytes());
        }
        out
    }
}

pub(super) fn encode_start(file_seq: u64, run: Run) -> [u8; 24] {
    let mut out = [0u8; 24];
    out[..8].copy_from_slice(&file_seq.to_le_bytes());
    out[8..16].copy_from_slice(&run.first_lsn.0.to_le_bytes());
    out[16..].copy_from_slice(&run.cut_lsn.0.to_le_bytes());
    out
}

pub(super) fn encode_hard_state(state: &HardState) -> [u8; 24] {
    let mut out = [0u8; 24];
    out[..8].copy_from_slice(&state.term.to_le_bytes());
    out[8..16].copy_from_slice(&state.vote.to_le_bytes());
    out[16..].copy_from_slice(&state.commit.to_le_bytes());
    out
}

impl Body {
    /// `None`: the payload is not what its kind promises.
    pub fn decode(header: &Header, payload: Bytes) -> Option<Body> {
        let mut fields = Fields::new(payload);
        let body = match header.kind {
            Kind::Start => Body::Start { file_seq: fields.u64()?, run: decode_run(&mut fields)? },
            Kind::Append => return decode_entry(header, fields).map(Body::Append),
            Kind::Moved => return decode_entry(header, fields).map(Body::Moved),
            Kind::HardState => Body::HardState(HardState {
                term: fields.u64()?,
                vote: fields.u64()?,
                commit: fields.u64()?,
            }),
            Kind::Birth => {
                let replica = ReplicaId(fields.u64()?);
                // Births outlive the read buffer they were found in.
                let body = Bytes::copy_from_slice(&fields.rest());
                return Some(Body::Birth(GroupBirth { replica, body }));
            }
            Kind::Remove => Body::Remove,
            Kind::Truncate => Body::Truncate,
            Kind::Suspect => Body::Suspect(Damage::from_u8(fields.u8()?)?),
            Kind::Mark => {
                let mut mark = Mark { since: Lsn(fields.u64()?), sequences: Vec::new() };
                for _ in 0..fields.count(16)? {
                    mark.sequences.push((GroupId(fields.u64()?), fields.u64()?));
                }
                Body::Mark(mark)
            }
        };
        fields.is_empty().then_some(body)
    }
}

fn decode_run(fields: &mut Fields) -> Option<Run> {
    Some(Run { first_lsn: Lsn(fields.u64()?), cut_lsn: Lsn(fields.u64()?) })
}

fn decode_entry(header: &Header, mut fields: Fields) -> Option<LogEntry> {
    let entry_type = RaftEntryType::from_u8(fields.u8()?)?;
    let context_len = fields.u8()? as usize;
    let context = fields.take(context_len)?;
    Some(LogEntry {
        index: header.index,
        term: header.term,
        entry_type,
        context,
        data: fields.rest(),
    })
}
