//! Work that fills the caches and then gives up its CPU.

use rustix::thread::sched_yield;

use super::buffer::passes;
use super::{Ended, Never, RangeError, Work, Worker, range};

/// Writes to each cache line of its memory, then yields. Stresses what a scheduler does with a task that is cheap to switch away
/// from and costly to move.
///
/// A unit is a pass over the memory. The report has its pages by NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheYield {
    /// Memory of each worker, 4096 bytes to 1 GiB. Default: 256 KiB.
    pub bytes: usize,
}

impl Default for CacheYield {
    fn default() -> Self {
        Self { bytes: 256 << 10 }
    }
}

impl Work for CacheYield {
    fn check(&self) -> Result<(), RangeError> {
        range::bytes("CacheYield.bytes", self.bytes)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        passes(worker, self.bytes, |buffer| {
            buffer.sweep();
            sched_yield();
            Ok(())
        })
    }
}
