//! Entries cross between raft and the rest of the broker here, by moving `Bytes`: the payload
//! that a leader froze is the payload in every journal, segment and fetch, at the same address.

use model::{HardState, LogEntry, RaftEntryType};
use raft::eraftpb;
use raft::eraftpb::EntryType;

/// raft's entry as the model's; data and context are moved.
pub fn from_raft(mut entry: eraftpb::Entry) -> LogEntry {
    LogEntry {
        index: entry.index,
        term: entry.term,
        entry_type: match entry.get_entry_type() {
            EntryType::EntryNormal => RaftEntryType::Normal,
            EntryType::EntryConfChange => RaftEntryType::ConfChange,
            EntryType::EntryConfChangeV2 => RaftEntryType::ConfChangeV2,
        },
        context: entry.take_context(),
        data: entry.take_data(),
    }
}

/// The model's entry as raft's; data and context are moved.
pub fn to_raft(entry: LogEntry) -> eraftpb::Entry {
    eraftpb::Entry {
        index: entry.index,
        term: entry.term,
        entry_type: match entry.entry_type {
            RaftEntryType::Normal => EntryType::EntryNormal,
            RaftEntryType::ConfChange => EntryType::EntryConfChange,
            RaftEntryType::ConfChangeV2 => EntryType::EntryConfChangeV2,
        },
        context: entry.context,
        data: entry.data,
        ..Default::default()
    }
}

pub(crate) fn hard_state_from_raft(state: &eraftpb::HardState) -> HardState {
    HardState { term: state.term, vote: state.vote, commit: state.commit }
}

pub(crate) fn hard_state_to_raft(state: HardState) -> eraftpb::HardState {
    let HardState { term, vote, commit } = state;
    eraftpb::HardState { term, vote, commit, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_survive_the_crossing_without_a_copy(
            index in 1u64.., term in 1u64.., kind in 0u8..3,
            context in proptest::collection::vec(any::<u8>(), 0..40),
            data in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let entry = LogEntry {
                index, term,
                entry_type: RaftEntryType::from_u8(kind).unwrap(),
                context: Bytes::from(context), data: Bytes::from(data),
            };
            let address = entry.data.as_ptr();
            let raft = to_raft(entry.clone());
            prop_assert_eq!(raft.data.as_ptr(), address);
            // What travels between brokers is raft's own encoding: it must carry all of it too.
            let wire = protobuf::Message::write_to_bytes(&raft).unwrap();
            let parsed: eraftpb::Entry = protobuf::Message::parse_from_bytes(&wire).unwrap();
            prop_assert_eq!(from_raft(parsed), entry.clone());
            let back = from_raft(raft);
            prop_assert_eq!(back.data.as_ptr(), address);
            prop_assert_eq!(back, entry);
        }
    }
}
