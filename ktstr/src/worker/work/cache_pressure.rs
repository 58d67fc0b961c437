//! Work that fills the caches.

use super::buffer::passes;
use super::{Ended, Never, RangeError, Work, Worker, range};

/// Writes to each cache line of its memory, over and over, without a break. Stresses the choice of a CPU: a migration costs the
/// warm cache, and workers on one LLC evict each other.
///
/// A unit is a pass over the memory. The report has its pages by NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePressure {
    /// Memory of each worker, 4096 bytes to 1 GiB. Default: 1 MiB.
    pub bytes: usize,
}

impl Default for CachePressure {
    fn default() -> Self {
        Self { bytes: 1 << 20 }
    }
}

impl Work for CachePressure {
    fn check(&self) -> Result<(), RangeError> {
        range::bytes("CachePressure.bytes", self.bytes)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        passes(worker, self.bytes, |buffer| {
            buffer.sweep();
            Ok(())
        })
    }
}
