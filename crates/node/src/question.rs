//! What one broker asks another, and the answer, as bytes: a metadata request for the metadata
//! leader, or an operator's question for the leader of a group.
//!
//! Invariant: foreign bytes are a refusal by name, never a panic.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use machine::metadata;
use model::{ErrorCode, GroupId, limits};
use serde::{Deserialize, Serialize};

use crate::shard::{AdminAnswer, AdminAsk, Answer, Refusal};

/// A question between brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    Metadata(metadata::Request),
    Admin {
        group: u64,
        ask: AdminAsk,
        within_ms: u64,
    },
    SnapshotFailed(SnapshotFailed),
    /// A batch for a topic that brokers write themselves.
    Append {
        group: u64,
        within_ms: u32,
        batch: Bytes,
    },
    /// Where these groups' partitions end, for those that the asked broker serves.
    Ends {
        groups: Vec<u64>,
    },
}

/// A replica could not be filled with the snapshot its leader sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFailed {
    pub group: u64,
    /// Whose transfer it was.
    pub replica: u64,
    pub index: u64,
    pub why: String,
}

/// The part of a question that is not metadata's.
#[derive(Serialize, Deserialize)]
struct Admin {
    group: u64,
    ask: AdminAsk,
    within_ms: u64,
}

/// Metadata is JSON of its own and begins with its brace; other questions begin with a number.
const ADMIN: u8 = 1;
const SNAPSHOT_FAILED: u8 = 2;
/// Group and milliseconds, big-endian, then the batch.
const APPEND: u8 = 3;
const APPEND_HEADER: usize = 12;
/// Groups, big-endian; answered with pairs of group and offset.
const ENDS: u8 = 4;
const ENDS_GROUP: usize = 8;
const ENDS_PAIR: usize = 16;

pub fn encode(question: &Question) -> Bytes {
    match question {
        Question::Metadata(request) => metadata::encode_request(request).into(),
        Question::Admin { group, ask, within_ms } => {
            let admin = Admin { group: *group, ask: *ask, within_ms: *within_ms };
            let mut out = vec![ADMIN];
            out.extend(serde_json::to_vec(&admin).expect("plain data encodes"));
            out.into()
        }
        Question::SnapshotFailed(failed) => {
            let mut out = vec![SNAPSHOT_FAILED];
            out.extend(serde_json::to_vec(failed).expect("plain data encodes"));
            out.into()
        }
        Question::Append { group, within_ms, batch } => {
            let mut out = BytesMut::with_capacity(1 + APPEND_HEADER + batch.len());
            out.put_u8(APPEND);
            out.put_u64(*group);
            out.put_u32(*within_ms);
            out.put_slice(batch);
            out.freeze()
        }
        Question::Ends { groups } => {
            let mut out = BytesMut::with_capacity(1 + groups.len() * ENDS_GROUP);
            out.put_u8(ENDS);
            groups.iter().for_each(|group| out.put_u64(*group));
            out.freeze()
        }
    }
}

/// `Err`: why these bytes are no question.
pub fn decode(body: &[u8]) -> Result<Question, String> {
    match body.split_first() {
        Some((&ADMIN, rest)) => {
            bounded(rest)?;
            let admin: Admin = serde_json::from_slice(rest).map_err(|error| error.to_string())?;
            let Admin { group, ask, within_ms } = admin;
            let within_ms = within_ms.min(limits::REQUEST_MS_MAX);
            Ok(Question::Admin { group, ask, within_ms })
        }
        Some((&SNAPSHOT_FAILED, rest)) => {
            bounded(rest)?;
            let failed = serde_json::from_slice(rest).map_err(|error| error.to_string())?;
            Ok(Question::SnapshotFailed(failed))
        }
        Some((&APPEND, rest)) => {
            let Some((mut header, batch)) = rest.split_at_checked(APPEND_HEADER) else {
                return Err(format!("{} bytes are no batch with its group", rest.len()));
            };
            let (group, within_ms) = (header.get_u64(), header.get_u32());
            let within_ms = within_ms.min(limits::REQUEST_MS_MAX as u32);
            Ok(Question::Append { group, within_ms, batch: Bytes::copy_from_slice(batch) })
        }
        Some((&ENDS, rest)) => {
            let (groups, odd) = rest.as_chunks::<ENDS_GROUP>();
            if !odd.is_empty() || groups.len() > limits::ENDS_ASKED_MAX {
                return Err(format!("{} bytes are no groups, or too many", rest.len()));
            }
            let groups = groups.iter().map(|bytes| u64::from_be_bytes(*bytes)).collect();
            Ok(Question::Ends { groups })
        }
        _ => {
            let request = metadata::decode_request(body).map_err(|error| error.to_string())?;
            Ok(Question::Metadata(request))
        }
    }
}

fn bounded(body: &[u8]) -> Result<(), String> {
    let max = limits::METADATA_COMMAND_BYTES_MAX;
    if body.len() > max { Err(format!("{} bytes, the bound is {max}", body.len())) } else { Ok(()) }
}

const METADATA: u8 = 0;
const REFUSED: u8 = 1;
const ADMIN_ANSWER: u8 = 2;
const DONE: u8 = 3;
const ENDS_ANSWER: u8 = 4;

/// One byte, then the answer, or Kafka's code and a text.
pub fn encode_answer(answer: &Answer) -> Bytes {
    let mut out = BytesMut::new();
    match answer {
        Answer::Metadata(response) => {
            out.put_u8(METADATA);
            out.put_slice(&metadata::encode_response(response));
        }
        Answer::Admin(answer) => {
            out.put_u8(ADMIN_ANSWER);
            out.put_slice(&serde_json::to_vec(answer).expect("plain data encodes"));
        }
        Answer::Refused(refusal) => {
            out.put_u8(REFUSED);
            out.put_i16(refusal.code.code());
            out.put_slice(refusal.why.as_bytes());
        }
        Answer::Done => out.put_u8(DONE),
        Answer::Ends(ends) => {
            out.put_u8(ENDS_ANSWER);
            for (group, end) in ends {
                out.put_u64(group.0);
                out.put_i64(*end);
            }
        }
        Answer::Produced(_) | Answer::Guarded(_) | Answer::Group(_) => {
            out.put_u8(REFUSED);
            out.put_i16(ErrorCode::UnknownServerError.code());
        }
    }
    out.freeze()
}

/// Reads [`encode_answer`]; foreign bytes are a refusal.
pub fn decode_answer(body: &[u8]) -> Answer {
    let garbled =
        |why: String| Answer::Refused(Refusal { code: ErrorCode::UnknownServerError, why });
    match body.split_first() {
        Some((&METADATA, rest)) => match metadata::decode_response(rest) {
            Ok(response) => Answer::Metadata(response),
            Err(error) => garbled(error.to_string()),
        },
        Some((&ADMIN_ANSWER, rest)) => match serde_json::from_slice::<AdminAnswer>(rest) {
            Ok(answer) => Answer::Admin(answer),
            Err(error) => garbled(error.to_string()),
        },
        Some((&DONE, [])) => Answer::Done,
        Some((&ENDS_ANSWER, mut rest))
            if rest.len().is_multiple_of(ENDS_PAIR)
                && rest.len() / ENDS_PAIR <= limits::ENDS_ASKED_MAX =>
        {
            let mut ends = Vec::with_capacity(rest.len() / ENDS_PAIR);
            while !rest.is_empty() {
                ends.push((GroupId(rest.get_u64()), rest.get_i64()));
            }
            Answer::Ends(ends)
        }
        Some((&REFUSED, [high, low, text @ ..])) => {
            let code = ErrorCode::from_i16(i16::from_be_bytes([*high, *low]));
            let why = String::from_utf8_lossy(text).into_owned();
            Answer::Refused(Refusal { code: code.unwrap_or(ErrorCode::UnknownServerError), why })
        }
        _ => garbled("a peer's answer does not parse".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crossed(answer: &Answer) -> String {
        format!("{:?}", decode_answer(&encode_answer(answer)))
    }

    #[test]
    fn answers_cross_and_foreign_bytes_are_refusals() {
        let refusal = Refusal { code: ErrorCode::NotController, why: "later".into() };
        for answer in [
            Answer::Refused(refusal),
            Answer::Metadata(metadata::Response::BrokerRegistered),
            Answer::Admin(AdminAnswer::LogStart(7)),
            Answer::Admin(AdminAnswer::ElectionBegun),
            Answer::Done,
            Answer::Ends(Vec::new()),
            Answer::Ends(vec![(GroupId(7), 0), (GroupId(u64::MAX), i64::MAX)]),
        ] {
            assert_eq!(crossed(&answer), format!("{answer:?}"));
        }
        for foreign in [&[][..], &[1, 2], &[0, b'{'], &[2, b'{'], &[3, 3], &[4, 0, 1], &[9]] {
            assert!(matches!(decode_answer(foreign), Answer::Refused(_)), "{foreign:?}");
        }
    }

    #[test]
    fn questions_cross_and_foreign_bytes_are_named() {
        let questions = [
            Question::Metadata(metadata::Request::DeleteTopic(metadata::TopicRef::Name(
                "t".into(),
            ))),
            Question::Admin { group: 7, ask: AdminAsk::ElectPreferred, within_ms: 5 },
            Question::Admin { group: 7, ask: AdminAsk::DeleteRecords { offset: -1 }, within_ms: 5 },
            Question::SnapshotFailed(SnapshotFailed {
                group: 7,
                replica: 3,
                index: 90,
                why: "the disk is full".into(),
            }),
            Question::Append { group: 9, within_ms: 700, batch: Bytes::from_static(b"batch") },
            Question::Ends { groups: vec![1, u64::MAX] },
        ];
        for question in questions {
            assert_eq!(decode(&encode(&question)), Ok(question));
        }
        let many = [&[4][..], &vec![0; (limits::ENDS_ASKED_MAX + 1) * 8]].concat();
        for foreign in [&[][..], &[1], &[1, b'{'], &[2, 3], &[3; 12], &[4; 8], &many, b"{}"] {
            assert!(decode(foreign).is_err(), "{foreign:?}");
        }
    }
}
