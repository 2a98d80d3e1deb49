//! Idempotence: a batch of an idempotent producer is in the log at most once, and a producer's
//! batches follow each other without a gap (KIP-98).

use std::collections::BTreeMap;

use model::GroupId;

use super::Chosen;

#[derive(Default)]
pub struct Dedupe {
    /// Next sequence of a producer in a group.
    next: BTreeMap<(GroupId, i64, i16), i32>,
}

impl Dedupe {
    pub fn chosen(&mut self, group: GroupId, chosen: &Chosen) -> Result<(), String> {
        let (Some((id, epoch, sequence)), Some((base, next))) = (chosen.identity, chosen.offsets)
        else {
            return Ok(());
        };
        let expected = self.next.entry((group, id, epoch)).or_insert(0);
        let was = std::mem::replace(expected, sequence + (next - base) as i32);
        match was == sequence {
            true => Ok(()),
            false => Err(format!(
                "group {group}: producer {id} has sequence {sequence} at offset {base}, {was} is next"
            )),
        }
    }
}
