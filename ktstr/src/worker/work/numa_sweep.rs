//! Work whose memory moves between NUMA nodes.

use super::super::sys::{memory_nodes, move_to_node, next_in};
use super::buffer::passes;
use super::{Ended, Never, RangeError, Work, Worker, range};

/// Moves its memory to the next NUMA node (`mbind(2)`) and writes to each cache line of it, over and over. Stresses placement by
/// NUMA node: whatever node the scheduler keeps it on, its memory is mostly elsewhere. With one node nothing moves.
///
/// A unit is a pass over the memory. The report has its pages by NUMA node, as they were at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumaSweep {
    /// Memory of each worker, 4096 bytes to 1 GiB. Default: 1 MiB.
    pub bytes: usize,
}

impl Default for NumaSweep {
    fn default() -> Self {
        Self { bytes: 1 << 20 }
    }
}

impl Work for NumaSweep {
    fn check(&self) -> Result<(), RangeError> {
        range::bytes("NumaSweep.bytes", self.bytes)
    }

    fn run(&self, worker: &mut Worker<'_>) -> Result<Never, Ended> {
        let nodes = memory_nodes()?;
        let mut node = 0;
        passes(worker, self.bytes, |buffer| {
            node = next_in(&nodes, node).unwrap_or(node);
            move_to_node(buffer, node)?;
            buffer.sweep();
            Ok(())
        })
    }
}
