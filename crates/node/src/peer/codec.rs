//! Raft messages to bytes and back: eraftpb verbatim, entries shared with the received frame.

use bytes::Bytes;
use consensus::eraftpb;
use consensus::eraftpb::MessageType;
use model::{GroupId, ReplicaId, limits};
use protobuf::{CodedInputStream, Message as _};

use super::identity::{Refused, garbled};
use super::{RaftItem, proto};

/// Bytes an item takes in its envelope beside message and trace: tags, lengths, three ids.
const ITEM_OVERHEAD_BYTES: usize = 48;

/// Upper bound of the item's size in an envelope. Walks the entries, copies nothing.
pub(super) fn cost(item: &RaftItem) -> usize {
    item.message.compute_size() as usize + item.trace.len() + ITEM_OVERHEAD_BYTES
}

/// Bytes of what an envelope carries, for the counters.
pub(super) fn size(envelope: &proto::Envelope) -> u64 {
    let raft = envelope.items.iter().map(|item| item.message.len() + item.trace.len());
    let gossip = envelope.gossip.iter().map(Bytes::len);
    raft.chain(gossip).sum::<usize>() as u64
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

/// The raft messages of one envelope. Parsed without copying: entries' data and context are
/// slices of the received frame. Except that a small append in a larger envelope is copied out
/// of it as a whole: one entry kept by an idle group would otherwise pin the bytes of hundreds of
/// other groups.
pub(super) fn decode(items: Vec<proto::Item>) -> Result<Vec<RaftItem>, Refused> {
    let envelope: usize = items.iter().map(|item| item.message.len()).sum();
    items.into_iter().map(|item| decode_item(item, envelope)).collect()
}

fn decode_item(item: proto::Item, envelope: usize) -> Result<RaftItem, Refused> {
    if item.group == 0 || item.from == 0 || item.to == 0 {
        return Err(garbled("a raft message without group or replica"));
    }
    let length = item.message.len();
    let mut message = parse(&item.message)?;
    // What carries no entries is gone before the next envelope comes.
    let pins = length < limits::PEER_PIN_BYTES_MIN && length < envelope / 2;
    if pins && !message.entries.is_empty() {
        message = parse(&Bytes::copy_from_slice(&item.message))?;
    }
    let trace =
        if item.trace.is_empty() { item.trace } else { Bytes::copy_from_slice(&item.trace) };
    Ok(RaftItem {
        group: GroupId(item.group),
        from: ReplicaId(item.from),
        to: ReplicaId(item.to),
        message,
        trace,
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

    fn append(bytes: usize) -> RaftItem {
        let mut message = eraftpb::Message { term: 7, ..Default::default() };
        message.set_msg_type(MessageType::MsgAppend);
        let data = Bytes::from(vec![0x5a; bytes]);
        message.mut_entries().push(eraftpb::Entry { data, ..Default::default() });
        RaftItem::new(GroupId(3), ReplicaId(1), ReplicaId(2), message)
    }

    #[test]
    fn entries_are_slices_of_the_frame_and_bytes_travel_verbatim() {
        let item = append(4096);
        assert!(is_bulk(&item.message));
        let wire = encode(item.clone());
        assert!(prost::Message::encoded_len(&wire) <= cost(&item));
        let frame = wire.message.as_ptr_range();
        let back = decode(vec![wire.clone()]).unwrap().remove(0);
        assert_eq!(back, item);
        assert!(frame.contains(&back.message.entries[0].data.as_ptr()), "copied");
        assert_eq!(encode(back).message, wire.message);
    }

    #[test]
    fn a_small_message_does_not_pin_a_large_envelope() {
        let wire: Vec<_> = [1 << 20, 512].map(append).into_iter().map(encode).collect();
        let frames: Vec<_> = wire.iter().map(|item| item.message.as_ptr_range()).collect();
        let back = decode(wire).unwrap();
        let sliced = |at: usize| frames[at].contains(&back[at].message.entries[0].data.as_ptr());
        assert!(sliced(0) && !sliced(1));
        assert_eq!(back[1], append(512));
    }

    #[test]
    fn garbled_messages_are_refused() {
        let good = encode(append(10));
        let bad = proto::Item { message: Bytes::from_static(&[0xff; 9]), ..good.clone() };
        assert!(decode(vec![good.clone(), bad]).is_err());
        assert!(decode(vec![proto::Item { group: 0, ..good }]).is_err());
    }
}
