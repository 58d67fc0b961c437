//! The kernel's doubly linked lists.
//!
//! Source: `include/linux/list.h`. A list is a ring through its head; an entry that is on no list points at itself.

use std::collections::HashSet;

use super::{Gaps, KernelView};
use crate::units::KernelVirt;

/// The nodes of the list with its head at `head`, in order; at most `max`.
///
/// A list that goes in circles without coming back to its head, is longer than `max`, or leads to memory that cannot
/// be read gives the nodes up to there, and a fault.
pub fn list_nodes(
    view: &KernelView<'_>,
    what: &str,
    head: KernelVirt,
    max: usize,
    gaps: &mut Gaps,
) -> Vec<KernelVirt> {
    let mut nodes = Vec::new();
    let mut seen = HashSet::new();
    let mut at = head;
    loop {
        // `next` is the first of `struct list_head`'s two pointers.
        let Some(next) = gaps.read(what, view.u64(at)).map(KernelVirt) else { return nodes };
        if next == head || next.0 == 0 {
            return nodes;
        }
        if !seen.insert(next) {
            gaps.fault(format_args!("{what}: the list goes in circles at {next}"));
            return nodes;
        }
        if nodes.len() >= max {
            gaps.fault(format_args!("{what}: the list has more than {max} entries"));
            return nodes;
        }
        nodes.push(next);
        at = next;
    }
}

/// As [`list_nodes`], with the objects of `struct_name` that the nodes are the `member` of.
pub fn list_entries(
    view: &KernelView<'_>,
    head: KernelVirt,
    (struct_name, member): (&str, &str),
    max: usize,
    gaps: &mut Gaps,
) -> Vec<KernelVirt> {
    let what = format!("the list of struct {struct_name} by {member} at {head}");
    let Some(offset) = gaps.read(&what, view.offset_of(struct_name, member)) else { return Vec::new() };
    let nodes = list_nodes(view, &what, head, max, gaps);
    nodes.into_iter().map(|node| KernelVirt(node.0.wrapping_sub(offset))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::testing::Guest;

    fn ring(guest: &mut Guest, count: u64) -> (u64, Vec<u64>) {
        let head = guest.alloc(16);
        let nodes: Vec<u64> = (0..count).map(|_| guest.alloc(16)).collect();
        let all: Vec<u64> = std::iter::once(head).chain(nodes.iter().copied()).collect();
        for (i, at) in all.iter().enumerate() {
            guest.write_u64(*at, all[(i + 1) % all.len()]);
        }
        (head, nodes)
    }

    fn walk(guest: &Guest, head: u64, max: usize) -> (Vec<u64>, Gaps) {
        let profile = guest.profile();
        let mut gaps = Gaps::default();
        let nodes =
            list_nodes(&KernelView::new(&profile, &guest.ram), "list", KernelVirt(head), max, &mut gaps);
        (nodes.into_iter().map(|node| node.0).collect(), gaps)
    }

    #[test]
    fn a_list_is_read_in_order() {
        let mut guest = Guest::new();
        let (head, nodes) = ring(&mut guest, 3);
        assert_eq!(walk(&guest, head, 3), (nodes, Gaps::default()));
    }

    #[test]
    fn a_list_that_is_too_long_or_never_returns_ends_with_a_fault() {
        let mut guest = Guest::new();
        let (head, nodes) = ring(&mut guest, 3);
        let (cut, gaps) = walk(&guest, head, 2);
        assert_eq!((cut.as_slice(), gaps.faults.len()), (&nodes[..2], 1));
        guest.write_u64(nodes[2], nodes[1]);
        let (circle, gaps) = walk(&guest, head, 100);
        assert_eq!(circle, nodes);
        assert!(gaps.faults[0].contains("goes in circles"), "{gaps:?}");
        guest.write_u64(nodes[2], 0xdead_0000_0000_0100);
        assert_eq!(walk(&guest, head, 100).1.faults.len(), 1, "list poison");
    }

    proptest! {
        #[test]
        fn any_pointers_end(links in prop::collection::vec((0usize..8, any::<u64>()), 8)) {
            let mut guest = Guest::new();
            let (head, nodes) = ring(&mut guest, 8);
            for (node, (to, wild)) in nodes.iter().zip(links) {
                let wild = wild % 4 == 0;
                guest.write_u64(*node, if wild { u64::MAX - 3 } else { nodes[to] });
            }
            let (found, _) = walk(&guest, head, 1000);
            prop_assert!(found.len() <= 9);
        }
    }
}
