//! Identifiers as distinct types, so that a replica is never mistaken for a broker.
//!
//! Group and replica ids are never reused; 0 is never a valid group, replica or LSN.

use std::fmt;
use std::str::FromStr;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

number_id! {
    /// `node.id` of a broker, as clients see it. Not negative.
    BrokerId(i32)
}
number_id! {
    /// One raft group: the metadata group or one partition. Never reused.
    GroupId(u64)
}
number_id! {
    /// A raft peer: one replica of one group, bound to (broker, directory). Never reused.
    ReplicaId(u64)
}
number_id! {
    /// Position of a record in one broker's journal, counted in records from 1.
    /// "Durable" means `journal.durable_lsn >= lsn`.
    Lsn(u64)
}
number_id! {
    /// Kafka's producer id (KIP-98), handed out in blocks by the metadata group.
    ProducerId(i64)
}
number_id! {
    /// One life of a broker process; drawn at random at every start.
    Incarnation(u64)
}

impl GroupId {
    /// The metadata group: topics, placement, configs, registrations.
    pub const METADATA: GroupId = GroupId(1);
}

/// An id string that is not 32 hexadecimal digits (hyphens are ignored).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseIdError;

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected 32 hexadecimal digits")
    }
}
impl std::error::Error for ParseIdError {}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);
        impl $name {
            /// Kafka's "no id".
            pub const ZERO: $name = $name([0; 16]);
            /// True for the all-zero id, which stands for "none".
            pub fn is_zero(&self) -> bool {
                *self == Self::ZERO
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in self.0 {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(s: &str) -> Result<Self, ParseIdError> {
                let mut out = [0u8; 16];
                let mut digits = s.bytes().filter(|b| *b != b'-');
                for byte in &mut out {
                    let mut pair = 0u8;
                    for _ in 0..2 {
                        let digit = digits.next().ok_or(ParseIdError)? as char;
                        pair = pair << 4 | digit.to_digit(16).ok_or(ParseIdError)? as u8;
                    }
                    *byte = pair;
                }
                if digits.next().is_some() { Err(ParseIdError) } else { Ok($name(out)) }
            }
        }
    };
}

uuid_id! {
    /// The cluster, fixed by its birth record.
    ClusterId
}
uuid_id! {
    /// A data directory, drawn at random when the directory is first used.
    DirectoryId
}
impl DirectoryId {
    /// Kafka's id of a directory that is not there any more (KIP-858).
    pub const LOST: DirectoryId = DirectoryId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
}
uuid_id! {
    /// Kafka's topic id (KIP-516).
    TopicId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_ids_round_trip_and_refuse_other_text() {
        let id = TopicId([0xab; 16]);
        assert_eq!(id.to_string().parse::<TopicId>(), Ok(id));
        assert_eq!("abab".parse::<TopicId>(), Err(ParseIdError));
        assert_eq!(format!("{id}00").parse::<TopicId>(), Err(ParseIdError));
        assert_eq!("zz".repeat(16).parse::<TopicId>(), Err(ParseIdError));
    }
}
