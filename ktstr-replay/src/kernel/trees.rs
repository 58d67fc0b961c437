//! The kernel's trees: sparse arrays, which `idr` is built on, and red-black trees.
//!
//! Sources: `include/linux/xarray.h`, `include/linux/rbtree.h`. An entry of an xarray with low bits `10` above 4096 is a node; a
//! leaf's slots are pointers.

use std::collections::HashSet;

use crate::kernel::mirror::{At, mirror};
use crate::kernel::{KernelError, KernelView, bytes};
use crate::units::KernelVirt;

mirror! {
    /// `struct xa_node`.
    struct XaNode, XaNodeLayout = "xa_node" {
        shift: u64,
        slots: At,
    }
}

mirror! {
    /// `struct idr`.
    struct Idr, IdrLayout = "idr" {
        head: u64 = "idr_rt.xa_head",
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
pub(super) fn xarray_entries(
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
        if node.shift >= below || !node.shift.is_multiple_of(CHUNK_SHIFT) {
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

/// The pointers in the `struct idr` of that symbol; see [`xarray_entries`].
pub(super) fn idr_entries(
    view: &KernelView<'_>,
    symbol: &str,
    max: usize,
) -> Result<Vec<(u64, KernelVirt)>, KernelError> {
    let idr: Idr = view.mirror(view.symbol(symbol)?)?;
    xarray_entries(view, idr.head, max)
}

mirror! {
    /// `struct rb_node`.
    struct RbNode, RbNodeLayout = "rb_node" {
        right: KernelVirt = "rb_right",
        left: KernelVirt = "rb_left",
    }
}

/// The nodes of the tree whose root node is at `root` (null for an empty one), in order; at most `max`.
///
/// # Errors
/// [`KernelError::Broken`] when a node is met twice, or there are more than `max`; those of [`KernelView::mirror`].
pub(super) fn rbtree_nodes(
    view: &KernelView<'_>,
    root: KernelVirt,
    max: usize,
) -> Result<Vec<KernelVirt>, KernelError> {
    let broken = |why: String| KernelError::Broken { what: "a red-black tree", at: root, why };
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    // Nodes whose left side was taken, with their right sides.
    let mut pending: Vec<(KernelVirt, KernelVirt)> = Vec::new();
    let mut at = root;
    loop {
        while at.0 != 0 {
            if !seen.insert(at) {
                return Err(broken(format!("it comes to {at} twice")));
            }
            if seen.len() > max {
                return Err(broken(format!("it has more than {max} nodes")));
            }
            let node: RbNode = view.mirror(at)?;
            pending.push((at, node.right));
            at = node.left;
        }
        let Some((node, right)) = pending.pop() else { return Ok(found) };
        found.push(node);
        at = right;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Guest, Object, SEEDS};

    fn node(guest: &mut Guest, shift: u8, slots: &[(u64, u64)]) -> u64 {
        let node = guest.add("xa_node");
        guest.set(node, "shift", shift);
        for &(slot, entry) in slots {
            guest.set(node, &format!("slots[{slot}]"), entry);
        }
        node.at + 2
    }

    fn entries(guest: &Guest, head: u64, max: usize) -> Result<Vec<(u64, u64)>, KernelError> {
        let profile = guest.profile();
        let found = xarray_entries(&KernelView::new(&profile, &guest.ram), head, max)?;
        Ok(found.into_iter().map(|(index, at)| (index, at.0)).collect())
    }

    #[test]
    fn entries_come_in_order_through_all_levels() {
        for seed in SEEDS {
            let mut guest = Guest::new(seed);
            let low = node(&mut guest, 0, &[(1, 0x1000), (63, 0x2000), (5, 7)]);
            let high = node(&mut guest, 0, &[(0, 0x3000)]);
            let root = node(&mut guest, 6, &[(0, low), (2, high)]);
            assert_eq!(entries(&guest, root, 10).unwrap(), [(1, 0x1000), (63, 0x2000), (128, 0x3000)]);
            assert_eq!(entries(&guest, root, 2).unwrap(), [(1, 0x1000), (63, 0x2000)]);
            assert_eq!(entries(&guest, 0x4000, 10).unwrap(), [(0, 0x4000)]);
            assert_eq!(entries(&guest, 0, 10).unwrap(), []);
        }
    }

    #[test]
    fn an_array_that_loops_is_broken() {
        for seed in SEEDS {
            let mut guest = Guest::new(seed);
            let root = node(&mut guest, 6, &[]);
            let slots = guest.offset("xa_node", "slots");
            guest.write_u64(root - 2 + slots, root);
            assert!(matches!(entries(&guest, root, 10), Err(KernelError::Broken { what: "an xarray", .. })));
        }
    }

    #[test]
    fn an_array_of_too_many_nodes_is_broken() {
        for seed in SEEDS {
            // Four levels that share their nodes: 64^4 paths.
            let mut guest = Guest::new(seed);
            let mut below = node(&mut guest, 0, &[]);
            for level in 1..5 {
                let slots: Vec<(u64, u64)> = (0..64).map(|slot| (slot, below)).collect();
                below = node(&mut guest, level * 6, &slots);
            }
            let error = entries(&guest, below, 10).unwrap_err().to_string();
            assert!(error.ends_with("it has more than 16384 nodes"), "{error}");
        }
    }

    /// Nodes with `links`, each (left, right) by number; number 0 is null.
    fn tree(seed: u64, links: &[(usize, usize)]) -> (Guest, Vec<u64>) {
        let mut guest = Guest::new(seed);
        let nodes: Vec<Object> = links.iter().map(|_| guest.add("rb_node")).collect();
        let place = |number: usize| number.checked_sub(1).map_or(0, |at| nodes[at].at);
        for (node, (left, right)) in nodes.iter().zip(links) {
            guest.set(*node, "rb_right", place(*right));
            guest.set(*node, "rb_left", place(*left));
        }
        (guest, nodes.iter().map(|node| node.at).collect())
    }

    fn walk(guest: &Guest, root: u64, max: usize) -> Result<Vec<u64>, KernelError> {
        let profile = guest.profile();
        let found = rbtree_nodes(&KernelView::new(&profile, &guest.ram), KernelVirt(root), max)?;
        Ok(found.into_iter().map(|at| at.0).collect())
    }

    #[test]
    fn left_comes_before_right() {
        for seed in SEEDS {
            let (guest, nodes) = tree(seed, &[(2, 3), (0, 4), (0, 0), (0, 0)]);
            let order: Vec<u64> = [2, 4, 1, 3].iter().map(|n| nodes[n - 1]).collect();
            assert_eq!(walk(&guest, nodes[0], 4).unwrap(), order);
            assert_eq!(walk(&guest, 0, 4).unwrap(), [0; 0]);
            assert!(walk(&guest, nodes[0], 3).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_links_end(seed in SEEDS, links in prop::collection::vec((0usize..=12, 0usize..=12), 12)) {
            let (guest, nodes) = tree(seed, &links);
            if let Ok(found) = walk(&guest, nodes[0], 100) {
                prop_assert!(found.len() <= 12);
            }
        }
    }
}
