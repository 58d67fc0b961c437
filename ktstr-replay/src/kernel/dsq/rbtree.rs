//! The kernel's red-black trees.
//!
//! Source: `include/linux/rbtree.h`.

use std::collections::HashSet;

use crate::kernel::mirror::mirror;
use crate::kernel::{KernelError, KernelView};
use crate::units::KernelVirt;

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
pub(super) fn in_order(
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
    use crate::kernel::testing::Guest;

    /// Nodes with `links`, each (left, right) by number; number 0 is null.
    fn tree(links: &[(usize, usize)]) -> (Guest, Vec<u64>) {
        let mut guest = Guest::new();
        let u64 = guest.types.unsigned("u64", 8);
        let pointer = guest.types.pointer(u64);
        guest.types.structure("rb_node", 24, &[("rb_right", pointer, 64, 0), ("rb_left", pointer, 128, 0)]);
        let nodes: Vec<u64> = links.iter().map(|_| guest.alloc(24)).collect();
        let place = |number: usize| number.checked_sub(1).map_or(0, |at| nodes[at]);
        for (node, (left, right)) in nodes.iter().zip(links) {
            guest.write_u64(node + 8, place(*right));
            guest.write_u64(node + 16, place(*left));
        }
        (guest, nodes)
    }

    fn walk(guest: &Guest, root: u64, max: usize) -> Result<Vec<u64>, KernelError> {
        let profile = guest.profile();
        let found = in_order(&KernelView::new(&profile, &guest.ram), KernelVirt(root), max)?;
        Ok(found.into_iter().map(|at| at.0).collect())
    }

    #[test]
    fn left_comes_before_right() {
        let (guest, nodes) = tree(&[(2, 3), (0, 4), (0, 0), (0, 0)]);
        let order: Vec<u64> = [2, 4, 1, 3].iter().map(|n| nodes[n - 1]).collect();
        assert_eq!(walk(&guest, nodes[0], 4).unwrap(), order);
        assert_eq!(walk(&guest, 0, 4).unwrap(), [0; 0]);
        assert!(walk(&guest, nodes[0], 3).is_err());
    }

    proptest! {
        #[test]
        fn any_links_end(links in prop::collection::vec((0usize..=12, 0usize..=12), 12)) {
            let (guest, nodes) = tree(&links);
            if let Ok(found) = walk(&guest, nodes[0], 100) {
                prop_assert!(found.len() <= 12);
            }
        }
    }
}
