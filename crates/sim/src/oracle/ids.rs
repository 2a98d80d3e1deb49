//! Blocks of producer ids never overlap: two producers with one id would dedupe each other.

use std::collections::BTreeMap;

#[derive(Default)]
pub struct Ids {
    /// First id -> one past the last.
    blocks: BTreeMap<i64, i64>,
}

impl Ids {
    pub fn allocated(&mut self, first: i64, count: i64) -> Result<(), String> {
        let end = first + count;
        let before = self.blocks.range(..end).next_back();
        let overlap = before.filter(|(_, other_end)| **other_end > first);
        let result = match overlap {
            None => Ok(()),
            Some((other, other_end)) => {
                Err(format!("ids {first}..{end} were {other}..{other_end} before"))
            }
        };
        self.blocks.insert(first, end);
        result
    }
}
