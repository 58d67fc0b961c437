//! The kernel's sparse arrays, which `idr` is built on.
//!
//! Source: `include/linux/xarray.h`. An entry with low bits `10` above 4096 is a node; a leaf's slots are pointers.

use super::mirror::{At, mirror};
use super::{KernelError, KernelView, bytes};
use crate::units::KernelVirt;

mirror! {
    /// `struct xa_node`.
    struct XaNode, XaNodeLayout = "xa_node" {
        shift: u64,
        slots: At,
    }
}

/// Most nodes of one array that are looked at.
const MAX_NODES: usize = 16_384;
/// Slots of a node (`XA_CHUNK_SIZE` of every kernel but tiny ones).
const SLOTS: usize = 64;
/// Bits of the index that a node covers.
const CHUNK_SHIFT: u64 = 6;
/// Entries at and below this are reserved values, not nodes.
const MAX_RESERVED: u64 = 4096;

fn node_address(entry: u64) -> Option<KernelVirt> {
    (entry & 3 == 2 && entry > MAX_RESERVED).then(|| KernelVirt(entry - 2))
}

/// The pointers in the array whose `xa_head` is `head`, as (index, pointer) in order of the index; at most `max`.
///
/// # Errors
/// [`KernelError::Broken`] when nodes go in circles (a child must cover less than its parent) or are too many;
/// [`KernelError::NotMapped`], [`KernelError::Memory`].
pub fn xarray_entries(
    view: &KernelView<'_>,
    head: u64,
    max: usize,
) -> Result<Vec<(u64, KernelVirt)>, KernelError> {
    let mut found = Vec::new();
    let Some(root) = node_address(head) else {
        // An array whose only entry is at index 0 has no node.
        if head != 0 && head & 3 == 0 {
            found.push((0, KernelVirt(head)));
        }
        return Ok(found);
    };
    let broken = |why: String| KernelError::Broken { what: "an xarray", at: root, why };
    // Nodes to look at, with the index of their first slot and the shift that a node there must stay below.
    let mut pending = vec![(root, 0u64, 64u64)];
    let mut nodes = 0;
    while let Some((at, first, below)) = pending.pop() {
        nodes += 1;
        if nodes > MAX_NODES {
            return Err(broken(format!("it has more than {MAX_NODES} nodes")));
        }
        let node: XaNode = view.mirror(at)?;
        if node.shift >= below || node.shift % CHUNK_SHIFT != 0 {
            return Err(broken(format!(
                "the node at {at} has shift {}, not a smaller one than {below}",
                node.shift
            )));
        }
        let slots = view.bytes(node.slots.0, SLOTS * 8)?;
        // Backwards, so that the stack yields children in order; a leaf's pointers are put in order below.
        let mut leaf = Vec::new();
        for (slot, entry) in bytes::u64s(&slots).enumerate().collect::<Vec<_>>().into_iter().rev() {
            let index = first | (slot as u64) << node.shift;
            match node_address(entry) {
                Some(child) if node.shift > 0 => pending.push((child, index, node.shift)),
                _ if entry != 0 && entry & 3 == 0 => leaf.push((index, KernelVirt(entry))),
                _ => {}
            }
        }
        found.extend(leaf.into_iter().rev());
        if found.len() >= max {
            found.truncate(max);
            break;
        }
    }
    Ok(found)
}
