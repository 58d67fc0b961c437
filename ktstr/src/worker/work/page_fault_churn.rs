//! Work that faults.

use super::super::member::PAGE;
use super::buffer::passes;
use super::{Ended, Never, RangeError, Work, Worker, range};

/// Touches fresh memory page by page and gives it back, over and over. Stresses a scheduler with tasks that spend their time in
/// the kernel, on locks of their address space.
///
/// A unit is a pass over the pages, each of which is a minor fault (huge pages are off for it). The report has the pages by
/// NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFaultChurn {
    /// Pages of 4096 bytes, 1 to 262144. Default: 256.
    pub pages: usize,
}

impl Default for PageFaultChurn {
    fn default() -> Self {
        Self { pages: 256 }
    }
}

impl Work for PageFaultChurn {
    fn check(&self) -> Result<(), RangeError> {
        range::number("PageFaultChurn.pages", self.pages as u64, 1..=262_144, "from 1 to 262144")
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        passes(worker, self.pages * PAGE, |buffer| {
            buffer.drop_pages()?;
            buffer.touch();
            Ok(())
        })
    }
}
