//! The kernel's chains: doubly linked lists, `hlist`s, resizable hash tables.
//!
//! Sources: `include/linux/list.h`, `include/linux/rhashtable.h`. A list is a ring through its head, and an entry that is on no
//! list points at itself; an `hlist` ends with null. Bit 0 of a hash table's bucket is its lock; a chain ends with an odd pointer.

use std::collections::HashSet;

use crate::kernel::mirror::mirror;
use crate::kernel::{Gaps, KernelError, KernelView, bytes};
use crate::units::KernelVirt;

/// The nodes of the list with its head at `head`, in order; at most `max`.
///
/// A list that goes in circles without coming back to its head, is longer than `max`, or leads to memory that cannot
/// be read gives the nodes up to there, and a fault.
pub(super) fn list_nodes(
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
pub(super) fn list_entries(
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

mirror! {
    /// `struct hlist_head`.
    struct HlistHead, HlistHeadLayout = "hlist_head" {
        first: KernelVirt,
    }
}

mirror! {
    /// `struct hlist_node`.
    struct HlistNode, HlistNodeLayout = "hlist_node" {
        next: KernelVirt,
    }
}

/// The links of the `hlist` whose head is at `head`, in order; at most `max`. Where a link is in its object is the
/// caller's to know.
///
/// # Errors
/// [`KernelError::Broken`] when it goes on after `max` links, as one does that goes in circles;
/// [`KernelError::NotMapped`], [`KernelError::Memory`].
pub(super) fn hlist_nodes(
    view: &KernelView<'_>,
    head: KernelVirt,
    max: usize,
) -> Result<Vec<KernelVirt>, KernelError> {
    let mut found = Vec::new();
    let mut next = view.mirror::<HlistHead>(head)?.first;
    while next.0 != 0 {
        if found.len() >= max {
            let why = format!("it goes on after {max} links");
            return Err(KernelError::Broken { what: "an hlist", at: head, why });
        }
        found.push(next);
        next = view.mirror::<HlistNode>(next)?.next;
    }
    Ok(found)
}

mirror! {
    /// `struct bucket_table`.
    struct BucketTable, BucketTableLayout = "bucket_table" {
        size: u64,
        nest: u64,
        future_tbl: KernelVirt,
    }
}

/// Most buckets that are looked at, of each table.
const MAX_BUCKETS: u64 = 1 << 20;
/// Most tables: one, and the one that it grows into.
const MAX_TABLES: usize = 4;

/// The `struct rhash_head`s in the table that the `struct rhashtable` at `at` begins with; at most `max`.
///
/// # Errors
/// [`KernelError::Broken`] for tables that are too large or nested (which they are only when memory is short), and
/// for more than `max` elements, which a chain that goes in circles has.
pub(super) fn rhashtable_entries(
    view: &KernelView<'_>,
    at: KernelVirt,
    max: usize,
    gaps: &mut Gaps,
) -> Result<Vec<KernelVirt>, KernelError> {
    let tbl = view.offset_of("rhashtable", "tbl")?;
    let buckets_at = view.offset_of("bucket_table", "buckets")?;
    let broken = |why: String| KernelError::Broken { what: "a hash table", at, why };
    let mut found = Vec::new();
    let mut table = view.pointer(KernelVirt(at.0.wrapping_add(tbl)))?;
    for _ in 0..MAX_TABLES {
        let Some(table_at) = table else { return Ok(found) };
        let header: BucketTable = view.mirror(table_at)?;
        if header.nest != 0 {
            return Err(broken("its buckets are nested, which is not read".to_owned()));
        }
        if header.size > MAX_BUCKETS {
            return Err(broken(format!("it claims {} buckets", header.size)));
        }
        let raw = view.bytes(KernelVirt(table_at.0.wrapping_add(buckets_at)), header.size as usize * 8)?;
        for bucket in bytes::u64s(&raw) {
            let mut next = bucket & !1;
            // What lies behind an odd pointer is the end's marker.
            while next != 0 && next & 1 == 0 {
                if found.len() >= max {
                    return Err(broken(format!("it has more than {max} elements, or goes in circles")));
                }
                found.push(KernelVirt(next));
                match gaps.read("a hash chain", view.u64(KernelVirt(next))) {
                    Some(after) => next = after,
                    None => break,
                }
            }
        }
        table = Some(header.future_tbl).filter(|next| next.0 != 0);
    }
    Err(broken(format!("it has more than {MAX_TABLES} tables")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Guest, SEEDS};

    fn ring(guest: &mut Guest, count: u64) -> (u64, Vec<u64>) {
        let all: Vec<u64> = (0..=count).map(|_| guest.add("list_head").at).collect();
        guest.ring(&all);
        (all[0], all[1..].to_vec())
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
        for seed in SEEDS {
            let mut guest = Guest::new(seed);
            let (head, nodes) = ring(&mut guest, 3);
            assert_eq!(walk(&guest, head, 3), (nodes, Gaps::default()));
        }
    }

    #[test]
    fn a_list_that_is_too_long_or_never_returns_ends_with_a_fault() {
        for seed in SEEDS {
            let mut guest = Guest::new(seed);
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
    }

    proptest! {
        #[test]
        fn any_pointers_end(seed in SEEDS, links in prop::collection::vec((0usize..8, any::<u64>()), 8)) {
            let mut guest = Guest::new(seed);
            let (head, nodes) = ring(&mut guest, 8);
            for (node, (to, wild)) in nodes.iter().zip(links) {
                let wild = wild % 4 == 0;
                guest.write_u64(*node, if wild { u64::MAX - 3 } else { nodes[to] });
            }
            let (found, _) = walk(&guest, head, 1000);
            prop_assert!(found.len() <= 9);
        }
    }

    #[test]
    fn an_hlist_ends_at_null_and_a_circle_at_the_bound() {
        for seed in SEEDS {
            let mut guest = Guest::new(seed);
            let links = [(); 3].map(|()| guest.add("hlist_node"));
            let head = guest.add("hlist_head");
            guest.set(head, "first", links[0]);
            for pair in links.windows(2) {
                guest.set(pair[0], "next", pair[1]);
            }
            let walk = |guest: &Guest| {
                let profile = guest.profile();
                hlist_nodes(&KernelView::new(&profile, &guest.ram), KernelVirt(head.at), 3)
            };
            let found: Vec<u64> = walk(&guest).unwrap().iter().map(|at| at.0).collect();
            assert_eq!(found, links.map(|link| link.at));
            guest.set(links[2], "next", links[1]);
            assert!(walk(&guest).unwrap_err().to_string().ends_with("it goes on after 3 links"));
        }
    }
}
