//! Replicas that applied the same entries hold the same prefix checksum.

use model::{GroupId, PrefixChecksum};

#[derive(Default)]
pub struct Prefix {
    /// By group and index; none where nobody was looked at.
    sums: Vec<Vec<Option<PrefixChecksum>>>,
}

impl Prefix {
    pub fn applied(
        &mut self,
        b: usize,
        group: GroupId,
        index: u64,
        sum: PrefixChecksum,
    ) -> Result<(), String> {
        let (g, i) = (group.0 as usize, index as usize);
        if self.sums.len() <= g {
            self.sums.resize_with(g + 1, Vec::new);
        }
        let sums = &mut self.sums[g];
        if sums.len() <= i {
            sums.resize(i + 1, None);
        }
        let first = *sums[i].get_or_insert(sum);
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
