//! Labels are closed enums: a metric handle is an array index, and no request can invent a
//! series.
//!
//! Invariants: what a client, a record or an error text says becomes no label value, with one
//! exception, the names of topics and groups under [`Open`], whose rows are counted and replaced as
//! a whole; the peer, which is not known at compile time either, comes from a bounded table.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use model::{ApiKey, BrokerId, ErrorCode, limits};

/// A closed set of label values.
pub trait Label: Copy + Eq + 'static {
    /// Every value; `ALL[v.index()] == v`.
    const ALL: &'static [Self];
    /// The value in the exposition; lower snake case, Kafka's own names excepted.
    fn as_str(self) -> &'static str;
    /// Position in [`Label::ALL`].
    fn index(self) -> usize;
    /// Whether the values are names that clients chose, see [`Open`].
    const OPEN: bool = false;
    /// False while the value stands for nothing yet, see [`Peer`].
    fn exported(self) -> bool {
        true
    }
}

/// Declares a label: the enum, `ALL`, `as_str`, `index`, `from_index`, `from_name`, `Display`.
#[macro_export]
macro_rules! label_enum {
    ($(#[$doc:meta])* $vis:vis enum $name:ident {
        $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        $vis enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The label value.
            #[inline]
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }

            /// Position in `ALL`.
            #[inline]
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The value at a position.
            pub fn from_index(index: usize) -> Option<$name> {
                Self::ALL.get(index).copied()
            }

            /// The value of a name. A linear search: for rare events, not for hot paths.
            pub fn from_name(name: &str) -> Option<$name> {
                Self::ALL.iter().copied().find(|value| value.as_str() == name)
            }
        }

        impl $crate::label::Label for $name {
            const ALL: &'static [$name] = $name::ALL;
            fn as_str(self) -> &'static str {
                $name::as_str(self)
            }
            #[inline]
            fn index(self) -> usize {
                $name::index(self)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

const API_KEYS: usize = ApiKey::ALL[ApiKey::ALL.len() - 1] as usize + 1;

/// Position of each API key in `ApiKey::ALL`: the protocol's numbers have gaps.
static API_POSITION: [u8; API_KEYS] = {
    let mut table = [0u8; API_KEYS];
    let mut position = 0;
    while position < ApiKey::ALL.len() {
        table[ApiKey::ALL[position] as usize] = position as u8;
        position += 1;
    }
    table
};

impl Label for ApiKey {
    const ALL: &'static [ApiKey] = ApiKey::ALL;
    fn as_str(self) -> &'static str {
        ApiKey::as_str(self)
    }
    #[inline]
    fn index(self) -> usize {
        API_POSITION[self as usize] as usize
    }
}

const ERROR_CODES: usize = ErrorCode::ALL[ErrorCode::ALL.len() - 1] as usize + 2;

/// Position of each error code in `ErrorCode::ALL`, shifted by one for code -1.
static ERROR_POSITION: [u8; ERROR_CODES] = {
    let mut table = [0u8; ERROR_CODES];
    let mut position = 0;
    while position < ErrorCode::ALL.len() {
        table[(ErrorCode::ALL[position] as i16 + 1) as usize] = position as u8;
        position += 1;
    }
    table
};

impl Label for ErrorCode {
    const ALL: &'static [ErrorCode] = ErrorCode::ALL;
    fn as_str(self) -> &'static str {
        ErrorCode::as_str(self)
    }
    #[inline]
    fn index(self) -> usize {
        ERROR_POSITION[(self as i16 + 1) as usize] as usize
    }
}

/// Another broker of the cluster as a label: its broker id while the table has room, `other`
/// beyond [`limits::PEER_LABELS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(u8);

const PEERS: usize = limits::PEER_LABELS_MAX;
const NO_PEER: i64 = -1;

static PEER_IDS: [AtomicI64; PEERS] = [const { AtomicI64::new(NO_PEER) }; PEERS];
static PEER_NAMES: [OnceLock<String>; PEERS] = [const { OnceLock::new() }; PEERS];

static ALL_PEERS: [Peer; PEERS + 1] = {
    let mut all = [Peer(0); PEERS + 1];
    let mut slot = 0;
    while slot <= PEERS {
        all[slot] = Peer(slot as u8);
        slot += 1;
    }
    all
};

impl Peer {
    /// Brokers that found no room of their own.
    pub const OTHER: Peer = Peer(PEERS as u8);

    /// The label of a broker; the same one for the life of the process.
    pub fn of(broker: BrokerId) -> Peer {
        let id = i64::from(broker.0);
        assert!(id >= 0, "a peer has a broker id");
        for (slot, cell) in PEER_IDS.iter().enumerate() {
            let claimed = cell.compare_exchange(NO_PEER, id, Ordering::AcqRel, Ordering::Acquire);
            if claimed.is_ok() || claimed == Err(id) {
                return Peer(slot as u8);
            }
        }
        crate::metrics().telemetry_dropped_total.at(crate::labels::DropKind::PeerLabel).inc();
        Peer::OTHER
    }
}

impl Label for Peer {
    const ALL: &'static [Peer] = &ALL_PEERS;

    fn as_str(self) -> &'static str {
        let slot = usize::from(self.0);
        if slot == PEERS {
            return "other";
        }
        match PEER_IDS[slot].load(Ordering::Acquire) {
            NO_PEER => "none",
            id => PEER_NAMES[slot].get_or_init(|| id.to_string()),
        }
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }

    fn exported(self) -> bool {
        let slot = usize::from(self.0);
        slot < PEERS && PEER_IDS[slot].load(Ordering::Acquire) != NO_PEER
    }
}

/// A label whose values are names that clients chose: no closed rows. Whoever knows them replaces
/// the rows now and then, see [`crate::Family::replace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {}

impl Open {
    /// The row of everybody without a row of their own.
    pub const REST: &'static str = "__other__";

    /// Whether a name can be a label value: neither too long nor the rest's.
    pub fn takes(name: &str) -> bool {
        name.len() <= limits::OPEN_LABEL_BYTES_MAX && name != Open::REST
    }
}

impl Label for Open {
    const ALL: &'static [Open] = &[];
    const OPEN: bool = true;

    fn as_str(self) -> &'static str {
        match self {}
    }

    fn index(self) -> usize {
        match self {}
    }
}

/// A label with one value, fixed when the program was built.
macro_rules! build_label {
    ($(#[$doc:meta])* $name:ident = $value:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name;
        impl Label for $name {
            const ALL: &'static [$name] = &[$name];
            fn as_str(self) -> &'static str {
                $value
            }
            fn index(self) -> usize {
                0
            }
        }
    };
}

build_label! {
    /// Version of the workspace.
    BuildVersion = env!("CARGO_PKG_VERSION")
}
build_label! {
    /// Commit the program was built from, when the build said so (`GLASSLOG_REVISION`).
    BuildRevision = match option_env!("GLASSLOG_REVISION") {
        Some(revision) => revision,
        None => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_the_position_for_labels_with_gaps() {
        for (position, key) in ApiKey::ALL.iter().enumerate() {
            assert_eq!(key.index(), position);
        }
        for (position, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(code.index(), position, "{code}");
        }
    }

    #[test]
    fn a_name_can_be_a_label_unless_it_is_the_rests_or_too_long() {
        let long = "n".repeat(limits::OPEN_LABEL_BYTES_MAX);
        assert!(Open::takes("") && Open::takes("a\nb\"") && Open::takes(&long));
        assert!(!Open::takes("__other__") && !Open::takes(&(long + "n")));
    }

    #[test]
    fn peers_keep_their_label_and_unknown_ones_are_not_exported() {
        let seven = Peer::of(BrokerId(7));
        assert_eq!(Peer::of(BrokerId(7)), seven);
        assert_eq!(seven.as_str(), "7");
        assert!(seven.exported());
        let free = Peer(PEERS as u8 - 1);
        assert!(!free.exported() && !Peer::OTHER.exported());
    }
}
