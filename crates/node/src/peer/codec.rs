//! Raft messages to bytes and back: eraftpb verbatim, entries shared with the received frame.

use bytes::Bytes;
use consensus::eraftpb;
use consensus::eraftpb::MessageType;
use model::{GroupId, ReplicaId};
use protobuf::{CodedInputStream, Message as _};

use super::identity::{Refused, garbled};
use super::{RaftItem, proto};

/// Bytes an item takes in its envelope beside message and trace: tags, lengths, three ids.
const ITEM_OVERHEAD_BYTES: usize = 48;

/// Upper bound of the item's size in an envelope. Walks the entries, copies nothing.
pub(super) fn cost(item: &RaftItem) -> usize {
    item.message.compute_size() as usize + item.trace.len() + ITEM_OVERHEAD_BYTES
}

/// True for what must stay in order on the bulk lane. The rest may overtake it: a heartbeat's
/// commit never exceeds what its receiver acknowledged (raft-rs raft.rs:868).
pub(super) fn is_bulk(message: &eraftpb::Message) -> bool {
    matches!(message.get_msg_type(), MessageType::MsgAppend | MessageType::MsgSnapshot)
}

/// Encodes in the lane's task, never on a shard.
pub(super) fn encode(item: RaftItem) -> proto::Item {
    let message = item.message.write_to_bytes().expect("eraftpb has no required fields");
    proto::Item {
        group: item.group.0,
        from: item.from.0,
        to: item.to.0,
        message: message.into(),
        trace: item.trace,
    }
}

/// Parses without copying: entries' data and context are slices of the received frame.
pub(super) fn decode(item: proto::Item) -> Result<RaftItem, Refused> {
    if item.group == 0 || item.from == 0 || item.to == 0 {
        return Err(garbled("a raft message without group or replica"));
    }
    Ok(RaftItem {
        group: GroupId(item.group),
        from: ReplicaId(item.from),
        to: ReplicaId(item.to),
        message: parse(&item.message)?,
        trace: item.trace,
    })
}

fn parse(bytes: &Bytes) -> Result<eraftpb::Message, Refused> {
    let mut input = CodedInputStream::from_carllerche_bytes(bytes);
    let mut message = eraftpb::Message::default();
    let parsed = message.merge_from(&mut input).and_then(|()| input.check_eof());
    parsed.map_err(|_| garbled("bytes that are no raft message"))?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_slices_of_the_frame_and_bytes_travel_verbatim() {
        let mut message = eraftpb::Message::default();
        message.set_msg_type(MessageType::MsgAppend);
        message.set_term(7);
        let mut entry = eraftpb::Entry::default();
        entry.data = Bytes::from(vec![0x5a; 4096]);
        message.mut_entries().push(entry);
        let item = RaftItem::new(GroupId(3), ReplicaId(1), ReplicaId(2), message);
        assert!(is_bulk(&item.message));

        let wire = encode(item.clone());
        assert!(prost::Message::encoded_len(&wire) <= cost(&item));
        let frame = wire.message.as_ptr_range();
        let back = decode(wire.clone()).unwrap();
        assert_eq!(back, item);
        assert!(frame.contains(&back.message.entries[0].data.as_ptr()), "copied");
        assert_eq!(encode(back).message, wire.message);
    }

    #[test]
    fn garbled_messages_are_refused() {
        let message = eraftpb::Message::default();
        let good = encode(RaftItem::new(GroupId(3), ReplicaId(1), ReplicaId(2), message));
        let bad = proto::Item { message: Bytes::from_static(&[0xff; 9]), ..good.clone() };
        assert!(decode(bad).is_err());
        assert!(decode(proto::Item { group: 0, ..good }).is_err());
    }
}
