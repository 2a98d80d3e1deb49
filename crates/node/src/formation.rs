//! How brokers become one cluster: the birth record, and the stepper by which every broker
//! comes to hold the same one.
//!
//! The initial broker with the lowest id collects the directory ids of all initial brokers, each
//! answering that it holds no birth record; it syncs one and offers it in every handshake, as
//! does everyone who adopted it. A broker that finds its own directory in the record is a
//! member; any other broker joins.
//!
//! Invariants: nothing is offered, and no raft message sent or obeyed, before the record is
//! synced here ([`FormationOutput::Persist`] comes before `Offer` and `Done`); so whatever
//! instant a broker dies at, it either holds the one record or nobody has seen its draft. A
//! record once held is never replaced. No clock, no randomness, no I/O: the cluster id to use if
//! this broker is the founder is an argument.

use std::collections::BTreeMap;
use std::fmt;

use model::{BrokerId, ClusterId, DirectoryId, ReplicaId, limits};

/// One replica of the metadata group at birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BirthMember {
    pub broker: BrokerId,
    pub directory: DirectoryId,
    pub replica: ReplicaId,
    /// False beyond [`limits::METADATA_VOTERS_MAX`] brokers: a learner.
    pub voter: bool,
}

/// The birth record: what every member of a cluster knows from its first second. Members are
/// sorted by broker id; their replica ids are 1..=n in that order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Birth {
    pub cluster: ClusterId,
    pub members: Vec<BirthMember>,
}

/// Why bytes are not a birth record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BirthError {
    Truncated,
    Magic,
    Version(u16),
    Checksum,
    Malformed,
}

impl fmt::Display for BirthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BirthError::Truncated => f.write_str("the birth record is cut short"),
            BirthError::Magic => f.write_str("these bytes are no birth record"),
            BirthError::Version(version) => {
                write!(f, "birth record of format {version}; this build reads {BIRTH_VERSION}")
            }
            BirthError::Checksum => f.write_str("the birth record's checksum does not match"),
            BirthError::Malformed => f.write_str("the birth record contradicts itself"),
        }
    }
}

impl std::error::Error for BirthError {}

const BIRTH_MAGIC: &[u8; 8] = b"GLBIRTH\0";
const BIRTH_VERSION: u16 = 1;
const BIRTH_MEMBER_BYTES: usize = 4 + 16 + 8 + 1;
const BIRTH_OVERHEAD_BYTES: usize = 8 + 2 + 16 + 4 + 4;

impl Birth {
    /// A new cluster of these brokers: replica ids 1..=n in broker order, the first five voters.
    pub fn new(cluster: ClusterId, directories: &BTreeMap<BrokerId, DirectoryId>) -> Birth {
        assert!(!directories.is_empty() && !cluster.is_zero());
        let members = directories.iter().enumerate().map(|(rank, (broker, directory))| {
            let replica = ReplicaId(rank as u64 + 1);
            let voter = rank < limits::METADATA_VOTERS_MAX;
            BirthMember { broker: *broker, directory: *directory, replica, voter }
        });
        Birth { cluster, members: members.collect() }
    }

    /// The metadata replica bound to `directory`; none for a broker that joined later.
    pub fn replica_of(&self, directory: DirectoryId) -> Option<ReplicaId> {
        self.members.iter().find(|m| m.directory == directory).map(|m| m.replica)
    }

    /// The member known under `broker`.
    pub fn member(&self, broker: BrokerId) -> Option<&BirthMember> {
        self.members.iter().find(|m| m.broker == broker)
    }

    /// Voters of the metadata group's first ConfState.
    pub fn voters(&self) -> Vec<ReplicaId> {
        self.members.iter().filter(|m| m.voter).map(|m| m.replica).collect()
    }

    /// Learners of the metadata group's first ConfState.
    pub fn learners(&self) -> Vec<ReplicaId> {
        self.members.iter().filter(|m| !m.voter).map(|m| m.replica).collect()
    }

    /// How many brokers founded the cluster.
    pub fn initial_brokers(&self) -> usize {
        self.members.len()
    }

    /// Magic, version, cluster, count, members, CRC32C of all before it; big-endian.
    pub fn encode(&self) -> Vec<u8> {
        let length = BIRTH_OVERHEAD_BYTES + self.members.len() * BIRTH_MEMBER_BYTES;
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(BIRTH_MAGIC);
        out.extend_from_slice(&BIRTH_VERSION.to_be_bytes());
        out.extend_from_slice(&self.cluster.0);
        out.extend_from_slice(&(self.members.len() as u32).to_be_bytes());
        for member in &self.members {
            out.extend_from_slice(&member.broker.0.to_be_bytes());
            out.extend_from_slice(&member.directory.0);
            out.extend_from_slice(&member.replica.0.to_be_bytes());
            out.push(member.voter as u8);
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
        assert_eq!(out.len(), length);
        out
    }

    /// The inverse of [`Birth::encode`]; checks length and checksum before anything else.
    pub fn decode(bytes: &[u8]) -> Result<Birth, BirthError> {
        if bytes.len() < BIRTH_OVERHEAD_BYTES || bytes.len() > limits::BIRTH_BYTES_MAX {
            return Err(BirthError::Truncated);
        }
        if &bytes[..8] != BIRTH_MAGIC {
            return Err(BirthError::Magic);
        }
        let version = u16::from_be_bytes(array(&bytes[8..]));
        if version != BIRTH_VERSION {
            return Err(BirthError::Version(version));
        }
        let (body, crc) = bytes.split_at(bytes.len() - 4);
        if crc32c::crc32c(body) != u32::from_be_bytes(array(crc)) {
            return Err(BirthError::Checksum);
        }
        let cluster = ClusterId(array(&body[10..]));
        let count = u32::from_be_bytes(array(&body[26..])) as usize;
        let members = &body[30..];
        if members.len() != count.saturating_mul(BIRTH_MEMBER_BYTES) {
            return Err(BirthError::Truncated);
        }
        let members: Vec<_> = members.chunks_exact(BIRTH_MEMBER_BYTES).map(decode_member).collect();
        let birth = Birth { cluster, members };
        if birth.is_sound() { Ok(birth) } else { Err(BirthError::Malformed) }
    }

    fn is_sound(&self) -> bool {
        let mut directories: Vec<_> = self.members.iter().map(|m| m.directory).collect();
        directories.sort();
        directories.dedup();
        !self.cluster.is_zero()
            && !self.members.is_empty()
            && directories.len() == self.members.len()
            && self.members.windows(2).all(|w| w[0].broker < w[1].broker)
            && self.members.iter().zip(1..).all(|(m, id)| m.replica == ReplicaId(id))
            && self.members[0].voter
    }
}

fn decode_member(bytes: &[u8]) -> BirthMember {
    BirthMember {
        broker: BrokerId(i32::from_be_bytes(array(bytes))),
        directory: DirectoryId(array(&bytes[4..])),
        replica: ReplicaId(u64::from_be_bytes(array(&bytes[20..]))),
        voter: bytes[28] != 0,
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().expect("length was checked")
}

/// Who steps: the broker's own ids and what its operator fixed.
#[derive(Debug, Clone, Copy)]
pub struct Founder {
    pub broker: BrokerId,
    pub directory: DirectoryId,
    /// The id a cluster founded here gets, drawn at random by the caller (or configured).
    pub cluster_if_founding: ClusterId,
    /// The only cluster this broker may belong to, if its operator named one.
    pub cluster_required: Option<ClusterId>,
}

/// What a formation is told.
#[derive(Debug, Clone)]
pub enum FormationInput {
    /// First input of every life, after what is on disk was read.
    Start,
    /// A peer said who it is, in either direction of a handshake. Told again and again.
    Hello { broker: BrokerId, directory: DirectoryId, birth: Option<Birth> },
    /// The record of the last [`FormationOutput::Persist`] is synced.
    Persisted,
}

/// What a formation wants done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormationOutput {
    /// Write and sync this record, then step [`FormationInput::Persisted`].
    Persist(Birth),
    /// Put it into every handshake from now on.
    Offer(Birth),
    /// Formation is over; whether this broker is a member is in [`Birth::replica_of`].
    Done(Birth),
    /// That peer and this broker do not belong together. One line for the operator.
    Refuse { broker: BrokerId, why: String },
}

/// The stepper; see the module.
pub struct Formation {
    own: Founder,
    initial: Vec<BrokerId>,
    /// Directories of initial brokers that said they hold no record.
    unborn: BTreeMap<BrokerId, DirectoryId>,
    stage: Stage,
}

enum Stage {
    Waiting,
    Syncing(Birth),
    Formed(Birth),
}

impl Formation {
    /// `initial`: ids of the initial brokers, empty or without our own for a broker that can only
    /// join. `existing`: the birth record on disk.
    pub fn new(own: Founder, mut initial: Vec<BrokerId>, existing: Option<Birth>) -> Formation {
        assert!(!own.directory.is_zero() && !own.cluster_if_founding.is_zero());
        initial.sort();
        initial.dedup();
        let stage = existing.map_or(Stage::Waiting, Stage::Formed);
        Formation { own, initial, unborn: BTreeMap::new(), stage }
    }

    /// One input, and what follows from it.
    pub fn step(&mut self, input: FormationInput) -> Vec<FormationOutput> {
        match input {
            FormationInput::Start => self.start(),
            FormationInput::Hello { broker, directory, birth } => {
                if broker == self.own.broker {
                    return self.hello_of_a_double(directory);
                }
                match birth {
                    Some(birth) => self.offered(broker, birth),
                    None => self.answered_unborn(broker, directory),
                }
            }
            FormationInput::Persisted => self.persisted(),
        }
    }

    /// The record this broker holds and may offer.
    pub fn birth(&self) -> Option<&Birth> {
        match &self.stage {
            Stage::Formed(birth) => Some(birth),
            Stage::Waiting | Stage::Syncing(_) => None,
        }
    }

    /// Brokers without whose word formation cannot go on. A founder names those that have not
    /// answered, any other initial broker the founder, a later broker all initial brokers.
    pub fn waiting_for(&self) -> Vec<BrokerId> {
        match &self.stage {
            Stage::Syncing(_) | Stage::Formed(_) => Vec::new(),
            Stage::Waiting if self.is_founder() => self.missing().collect(),
            Stage::Waiting if self.is_initial() => vec![self.initial[0]],
            Stage::Waiting => self.initial.clone(),
        }
    }

    fn start(&mut self) -> Vec<FormationOutput> {
        let Stage::Formed(birth) = &self.stage else {
            return self.found_if_complete();
        };
        if let Some(why) = self.not_ours(birth) {
            return vec![FormationOutput::Refuse { broker: self.own.broker, why }];
        }
        vec![FormationOutput::Offer(birth.clone()), FormationOutput::Done(birth.clone())]
    }

    fn answered_unborn(
        &mut self,
        broker: BrokerId,
        directory: DirectoryId,
    ) -> Vec<FormationOutput> {
        if !matches!(self.stage, Stage::Waiting) || !self.initial.contains(&broker) {
            return Vec::new();
        }
        let double = self.unborn.iter().find(|(b, d)| **b != broker && **d == directory);
        if directory == self.own.directory || double.is_some() {
            let why = format!("broker {broker} runs on a copy of another broker's data directory");
            return vec![FormationOutput::Refuse { broker, why }];
        }
        // The last answer counts: a broker may have been wiped while we waited for others.
        self.unborn.insert(broker, directory);
        self.found_if_complete()
    }

    fn found_if_complete(&mut self) -> Vec<FormationOutput> {
        if !self.is_founder() || self.missing().next().is_some() {
            return Vec::new();
        }
        let mut directories = self.unborn.clone();
        directories.insert(self.own.broker, self.own.directory);
        let cluster = self.own.cluster_required.unwrap_or(self.own.cluster_if_founding);
        self.persist(Birth::new(cluster, &directories))
    }

    fn offered(&mut self, broker: BrokerId, birth: Birth) -> Vec<FormationOutput> {
        let held = match &self.stage {
            Stage::Waiting => None,
            Stage::Syncing(held) | Stage::Formed(held) => Some(held),
        };
        let why = match held {
            Some(held) if *held == birth => None,
            Some(held) if held.cluster == birth.cluster => Some(format!(
                "broker {broker} holds another birth record of cluster {}: one of them was copied \
                 or damaged",
                held.cluster
            )),
            Some(held) => Some(two_clusters(broker, birth.cluster, held.cluster)),
            None => match self.not_ours(&birth) {
                None => return self.persist(birth),
                why => why,
            },
        };
        why.map(|why| FormationOutput::Refuse { broker, why }).into_iter().collect()
    }

    /// Why this broker must not take `birth` for its own.
    fn not_ours(&self, birth: &Birth) -> Option<String> {
        if let Some(required) = self.own.cluster_required.filter(|id| *id != birth.cluster) {
            return Some(format!(
                "the birth record is of cluster {}, but this broker is configured for {required}",
                birth.cluster
            ));
        }
        let bound = birth.members.iter().find(|m| m.directory == self.own.directory)?;
        (bound.broker != self.own.broker).then(|| {
            format!(
                "this data directory ({}) belongs to broker {}, not to broker {}",
                bound.directory, bound.broker, self.own.broker
            )
        })
    }

    fn persist(&mut self, birth: Birth) -> Vec<FormationOutput> {
        self.stage = Stage::Syncing(birth.clone());
        vec![FormationOutput::Persist(birth)]
    }

    fn persisted(&mut self) -> Vec<FormationOutput> {
        let Stage::Syncing(birth) = std::mem::replace(&mut self.stage, Stage::Waiting) else {
            panic!("a birth record was reported as synced that nobody asked to sync");
        };
        self.stage = Stage::Formed(birth.clone());
        vec![FormationOutput::Offer(birth.clone()), FormationOutput::Done(birth)]
    }

    fn hello_of_a_double(&self, directory: DirectoryId) -> Vec<FormationOutput> {
        let broker = self.own.broker;
        let why = format!("another process runs as broker {broker}, on directory {directory}");
        vec![FormationOutput::Refuse { broker, why }]
    }

    fn is_initial(&self) -> bool {
        self.initial.contains(&self.own.broker)
    }

    fn is_founder(&self) -> bool {
        matches!(self.stage, Stage::Waiting) && self.initial.first() == Some(&self.own.broker)
    }

    fn missing(&self) -> impl Iterator<Item = BrokerId> {
        let answered = |id: &BrokerId| *id == self.own.broker || self.unborn.contains_key(id);
        self.initial.iter().copied().filter(move |id| !answered(id))
    }
}

/// The line two clusters that meet refuse each other with.
pub fn two_clusters(peer: BrokerId, theirs: ClusterId, ours: ClusterId) -> String {
    format!(
        "broker {peer} belongs to cluster {theirs}, this broker to cluster {ours}: two clusters \
         never merge, check the peers' addresses"
    )
}

#[cfg(test)]
#[path = "formation_tests.rs"]
mod tests;
