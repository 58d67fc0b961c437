//! How much of guest memory a trace's checkpoints do not have, and why.

use std::collections::BTreeMap;

use super::reader::Trace;
use super::record::PAGE_BYTES;
use crate::memory::LeftOut;

/// Pages of one sort that a checkpoint does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOutPages {
    /// Why.
    pub why: LeftOut,
    /// How many.
    pub pages: u64,
}

impl LeftOutPages {
    /// The memory that they are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pages.saturating_mul(PAGE_BYTES as u64)
    }
}

impl Trace {
    /// What the last checkpoint leaves out, the largest part first; empty when it has all, when there is none, and
    /// when it cannot be read, which is then among [`Trace::faults`].
    #[must_use]
    pub fn left_out(&self) -> Vec<LeftOutPages> {
        let Some(last) = self.checkpoints().iter().map(|info| info.index).max() else { return Vec::new() };
        let Ok(memory) = self.checkpoint_memory(last) else { return Vec::new() };
        let mut sums: BTreeMap<LeftOut, u64> = BTreeMap::new();
        for (range, why) in memory.left_out() {
            let sum = sums.entry(why).or_default();
            *sum = sum.saturating_add(range.end.saturating_sub(range.start));
        }
        let mut parts: Vec<_> = sums.into_iter().map(|(why, pages)| LeftOutPages { why, pages }).collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.pages));
        parts
    }
}
