//! Who we are, who they say they are, and whether the two may talk.
//!
//! Invariants: ids never change during a life, except that the birth record is added once.
//! Every check names what it refuses.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use model::{BrokerId, ClusterId, DirectoryId, Incarnation, limits};
use tokio::sync::watch;

use super::proto;
use crate::formation::two_clusters;

/// The peer protocol spoken here.
pub(super) const PROTOCOL_VERSION: u32 = 1;
/// The oldest still understood. A newer peer is welcome: it says more than we read.
pub(super) const PROTOCOL_VERSION_MIN: u32 = 1;

/// This broker's identity; clones share the cell into which formation puts the birth record.
#[derive(Clone, Debug)]
pub struct Identity {
    broker: BrokerId,
    directory: DirectoryId,
    incarnation: Incarnation,
    born: Arc<watch::Sender<Option<(ClusterId, Bytes)>>>,
    admin: String,
}

impl Identity {
    /// `birth`: cluster id and encoded record, if the disk holds one.
    pub fn new(
        broker: BrokerId,
        directory: DirectoryId,
        incarnation: Incarnation,
        birth: Option<(ClusterId, Bytes)>,
    ) -> Identity {
        assert!(broker.0 >= 0 && !directory.is_zero());
        let born = Arc::new(watch::Sender::new(birth));
        Identity { broker, directory, incarnation, born, admin: String::new() }
    }

    /// Tells peers where this broker's admin HTTP listens.
    pub fn with_admin(self, admin: String) -> Identity {
        Identity { admin, ..self }
    }

    /// Offers the record in every handshake from now on, and tells connected peers at once.
    /// Only after it is synced.
    pub fn set_birth(&self, cluster: ClusterId, record: Bytes) {
        assert!(record.len() <= limits::BIRTH_BYTES_MAX && !cluster.is_zero());
        self.born.send_if_modified(|born| {
            assert!(born.as_ref().is_none_or(|(held, _)| *held == cluster), "born twice");
            born.replace((cluster, record)).is_none()
        });
    }

    pub fn broker(&self) -> BrokerId {
        self.broker
    }

    pub fn directory(&self) -> DirectoryId {
        self.directory
    }

    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// None before birth.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.born.borrow().as_ref().map(|(cluster, _)| *cluster)
    }

    /// Changes once: when the birth record is set.
    pub(super) fn births(&self) -> watch::Receiver<Option<(ClusterId, Bytes)>> {
        self.born.subscribe()
    }

    pub(super) fn hello(&self, to: BrokerId) -> proto::Hello {
        let born = self.born.borrow().clone();
        let (cluster, birth) = match born {
            Some((cluster, birth)) => (id_bytes(&cluster.0), birth),
            None => (Bytes::new(), Bytes::new()),
        };
        proto::Hello {
            version: PROTOCOL_VERSION,
            cluster,
            broker: self.broker.0,
            directory: id_bytes(&self.directory.0),
            incarnation: self.incarnation.0,
            birth,
            to_broker: to.0,
            admin: self.admin.clone(),
        }
    }

    /// The address on every envelope and call to `peer`.
    pub(super) fn route(&self, peer: &PeerHello) -> proto::Route {
        proto::Route {
            version: PROTOCOL_VERSION,
            cluster: self.cluster().map(|id| id_bytes(&id.0)).unwrap_or_default(),
            from: Some(proto::Side {
                broker: self.broker.0,
                directory: id_bytes(&self.directory.0),
                incarnation: self.incarnation.0,
            }),
            to: Some(proto::Side {
                broker: peer.broker.0,
                directory: id_bytes(&peer.directory.0),
                incarnation: peer.incarnation.0,
            }),
        }
    }

    /// Reads a peer's half of a handshake.
    pub(super) fn check_hello(&self, hello: proto::Hello) -> Result<PeerHello, Refused> {
        check_version(hello.version)?;
        let peer = PeerHello::read(hello)?;
        if peer.broker == self.broker {
            let line = format!("broker id {} is used by two processes", self.broker);
            return Err(Refused::new(Refusal::BrokerId, line));
        }
        if peer.directory == self.directory {
            let line = format!("broker {} runs on a copy of our data directory", peer.broker);
            return Err(Refused::new(Refusal::Directory, line));
        }
        self.check_cluster(peer.broker, peer.cluster)?;
        Ok(peer)
    }

    /// Reads the address of an envelope or call: it must be for this life of this broker. The
    /// sender's side is returned for the registry to check.
    pub(super) fn check_route(&self, route: Option<proto::Route>) -> Result<Sender, Refused> {
        let route = route.ok_or_else(|| garbled("an envelope without a route"))?;
        check_version(route.version)?;
        let (Some(from), Some(to)) = (route.from, route.to) else {
            return Err(garbled("a route without sides"));
        };
        let broker = broker_id(from.broker)?;
        let cluster = cluster_id(&route.cluster)?;
        self.check_cluster(broker, cluster)?;
        if to.broker != self.broker.0 {
            let line = format!("broker {broker} takes broker {} for {}", self.broker, to.broker);
            return Err(Refused::new(Refusal::BrokerId, line));
        }
        if directory_id(&to.directory)? != self.directory {
            let line = format!("broker {broker} writes to another directory than ours");
            return Err(Refused::new(Refusal::Directory, line));
        }
        if to.incarnation != self.incarnation.0 {
            let line = format!("broker {broker} writes to an earlier life of this broker");
            return Err(Refused::new(Refusal::Incarnation, line));
        }
        let directory = directory_id(&from.directory)?;
        let incarnation = Incarnation(from.incarnation);
        let same_cluster = cluster.is_some() && cluster == self.cluster();
        Ok(Sender { broker, directory, incarnation, same_cluster })
    }

    /// Refuses another cluster. Before birth on either side there is nothing to compare.
    fn check_cluster(&self, peer: BrokerId, theirs: Option<ClusterId>) -> Result<(), Refused> {
        match (self.cluster(), theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                Err(Refused::new(Refusal::Cluster, two_clusters(peer, theirs, ours)))
            }
            _ => Ok(()),
        }
    }
}

/// What a peer said about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHello {
    pub version: u32,
    pub broker: BrokerId,
    pub directory: DirectoryId,
    pub incarnation: Incarnation,
    /// None before birth.
    pub cluster: Option<ClusterId>,
    /// The encoded birth record, unchecked.
    pub birth: Option<Bytes>,
    /// Where its admin HTTP listens, unchecked; no host: every interface.
    pub admin: Option<String>,
}

impl PeerHello {
    fn read(hello: proto::Hello) -> Result<PeerHello, Refused> {
        if hello.birth.len() > limits::BIRTH_BYTES_MAX {
            return Err(garbled("a birth record above the limit"));
        }
        Ok(PeerHello {
            version: hello.version,
            broker: broker_id(hello.broker)?,
            directory: directory_id(&hello.directory)?,
            incarnation: Incarnation(hello.incarnation),
            cluster: cluster_id(&hello.cluster)?,
            birth: Some(hello.birth).filter(|birth| !birth.is_empty()),
            // Only people use it: one that cannot be right is none.
            admin: Some(hello.admin)
                .filter(|admin| (1..=limits::ADMIN_ADDRESS_LEN_MAX).contains(&admin.len())),
        })
    }
}

/// The sending side of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sender {
    pub broker: BrokerId,
    pub directory: DirectoryId,
    pub incarnation: Incarnation,
    /// Both sides are born, into the same cluster: raft may talk.
    pub same_cluster: bool,
}

/// Why something from a peer was refused: the label of `peer_refused_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// A protocol too old to understand.
    Version,
    /// Another cluster.
    Cluster,
    /// Not the broker it takes us for, or the id we have ourselves.
    BrokerId,
    /// Another data directory under a known broker id.
    Directory,
    /// An earlier life of either side.
    Incarnation,
    /// Raft messages before both sides hold the birth record.
    Unborn,
    /// Bytes that are not what they should be.
    Garbled,
    /// Above a limit: message bytes, items, brokers.
    TooLarge,
}

impl Refusal {
    pub const ALL: [Refusal; 8] = [
        Refusal::Version,
        Refusal::Cluster,
        Refusal::BrokerId,
        Refusal::Directory,
        Refusal::Incarnation,
        Refusal::Unborn,
        Refusal::Garbled,
        Refusal::TooLarge,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Version => "version",
            Refusal::Cluster => "cluster",
            Refusal::BrokerId => "broker_id",
            Refusal::Directory => "directory",
            Refusal::Incarnation => "incarnation",
            Refusal::Unborn => "unborn",
            Refusal::Garbled => "garbled",
            Refusal::TooLarge => "too_large",
        }
    }
}

/// A refusal with its line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub why: Refusal,
    pub line: String,
}

impl Refused {
    pub fn new(why: Refusal, line: impl Into<String>) -> Refused {
        Refused { why, line: line.into() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

pub(super) fn garbled(line: &str) -> Refused {
    Refused::new(Refusal::Garbled, line)
}

fn check_version(version: u32) -> Result<(), Refused> {
    if version >= PROTOCOL_VERSION_MIN {
        return Ok(());
    }
    let line = format!("peer protocol {version} is older than {PROTOCOL_VERSION_MIN}");
    Err(Refused::new(Refusal::Version, line))
}

fn id_bytes(id: &[u8; 16]) -> Bytes {
    Bytes::copy_from_slice(id)
}

fn broker_id(id: i32) -> Result<BrokerId, Refused> {
    if id < 0 { Err(garbled("a negative broker id")) } else { Ok(BrokerId(id)) }
}

fn directory_id(bytes: &[u8]) -> Result<DirectoryId, Refused> {
    let id =
        bytes.try_into().map(DirectoryId).map_err(|_| garbled("a directory id of odd size"))?;
    if id.is_zero() { Err(garbled("no directory id")) } else { Ok(id) }
}

fn cluster_id(bytes: &[u8]) -> Result<Option<ClusterId>, Refused> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let id = bytes.try_into().map(ClusterId).map_err(|_| garbled("a cluster id of odd size"))?;
    if id.is_zero() { Err(garbled("a cluster id of zeros")) } else { Ok(Some(id)) }
}
