//! Replicas that applied the same entries hold the same prefix checksum.

use std::collections::BTreeMap;

use model::{GroupId, PrefixChecksum};

#[derive(Default)]
pub struct Prefix {
    sums: BTreeMap<(GroupId, u64), PrefixChecksum>,
}

impl Prefix {
    pub fn applied(
        &mut self,
        b: usize,
        group: GroupId,
        index: u64,
        sum: PrefixChecksum,
    ) -> Result<(), String> {
        let first = *self.sums.entry((group, index)).or_insert(sum);
        match first == sum {
            true => Ok(()),
            false => Err(format!(
                "group {group}: prefix at entry {index} is {:#x}, on b{} {:#x}",
                first.0,
                b + 1,
                sum.0
            )),
        }
    }
}
