//! Acknowledged is never lost: the moment a producer with acks=all is answered its batch is
//! committed at that offset with the copies it was promised, and stays readable there.

use std::collections::BTreeMap;

use model::GroupId;
use node::Produced;

use super::{Durable, OneValue};
use crate::clients::Op;

#[derive(Default)]
pub struct Acked {
    /// Batch of a client -> (group, offset).
    ops: BTreeMap<u64, (GroupId, i64)>,
}

impl Acked {
    /// One batch has one offset, however often it is answered.
    pub fn answered(
        &mut self,
        b: usize,
        number: u64,
        op: &Op,
        done: Produced,
    ) -> Result<(), String> {
        let here = (op.group, done.base_offset);
        let first = *self.ops.entry(number).or_insert(here);
        match first == here {
            true => Ok(()),
            false => Err(format!(
                "group {}: b{} acknowledged batch {number} at {}, before at {}",
                op.group,
                b + 1,
                done.base_offset,
                first.1
            )),
        }
    }

    /// The answer is true now.
    pub fn is_committed(
        &self,
        op: &Op,
        done: Produced,
        copies_min: usize,
        values: &OneValue,
        durable: &Durable,
    ) -> Result<(), String> {
        let (group, offset) = (op.group, done.base_offset);
        let Some((index, chosen)) = values.at_offset(group, offset) else {
            return Err(format!(
                "group {group}: acknowledged at {offset}, nothing committed there"
            ));
        };
        if !op.is_in(&chosen.data) {
            return Err(format!("group {group}: acknowledged at {offset}, another batch is there"));
        }
        let copies = durable.copies(group, index, chosen.term);
        match copies >= copies_min {
            true => Ok(()),
            false => Err(format!(
                "group {group}: acknowledged at {offset} with {copies} durable copies of {copies_min}"
            )),
        }
    }

    /// Every acknowledged batch and its place.
    pub fn iter(&self) -> impl Iterator<Item = (usize, GroupId, i64)> + '_ {
        self.ops.iter().map(|(number, (group, offset))| (*number as usize, *group, *offset))
    }
}
