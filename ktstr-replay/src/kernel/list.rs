//! The kernel's linked lists: `list_head`, a ring, and `hlist`, a chain that ends with null.
//!
//! Source: `include/linux/list.h`. What is walked are the links; where a link is in its object is the caller's to know.

use super::mirror::mirror;
use super::{KernelError, KernelView};
use crate::units::KernelVirt;

mirror! {
    /// `struct list_head`.
    struct ListHead, ListHeadLayout = "list_head" {
        next: KernelVirt,
    }
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

/// The links of the list whose head is at `head`, in order; at most `max`.
///
/// # Errors
/// [`KernelError::Broken`] when it goes on after `max` links, as a list does that loops beside its head;
/// [`KernelError::NotMapped`], [`KernelError::Memory`].
pub fn list_entries(
    view: &KernelView<'_>,
    head: KernelVirt,
    max: usize,
) -> Result<Vec<KernelVirt>, KernelError> {
    let mut found = Vec::new();
    let mut next = view.mirror::<ListHead>(head)?.next;
    while next != head {
        if found.len() >= max {
            return Err(endless("a list", head, max));
        }
        found.push(next);
        next = view.mirror::<ListHead>(next)?.next;
    }
    Ok(found)
}

/// The links of the `hlist` whose head is at `head`, in order; at most `max`.
///
/// # Errors
/// As [`list_entries`].
pub fn hlist_entries(
    view: &KernelView<'_>,
    head: KernelVirt,
    max: usize,
) -> Result<Vec<KernelVirt>, KernelError> {
    let mut found = Vec::new();
    let mut next = view.mirror::<HlistHead>(head)?.first;
    while next.0 != 0 {
        if found.len() >= max {
            return Err(endless("an hlist", head, max));
        }
        found.push(next);
        next = view.mirror::<HlistNode>(next)?.next;
    }
    Ok(found)
}

fn endless(what: &'static str, at: KernelVirt, max: usize) -> KernelError {
    KernelError::Broken { what, at, why: format!("it goes on after {max} links") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::Guest;

    /// Links with their `next` at 8, which no kernel has.
    fn guest() -> Guest {
        let mut guest = Guest::new();
        let u64 = guest.types.unsigned("u64", 8);
        let pointer = guest.types.pointer(u64);
        guest.types.structure("list_head", 16, &[("prev", pointer, 0, 0), ("next", pointer, 64, 0)]);
        guest.types.structure("hlist_head", 8, &[("first", pointer, 0, 0)]);
        guest.types.structure("hlist_node", 16, &[("pprev", pointer, 0, 0), ("next", pointer, 64, 0)]);
        guest
    }

    type Walk = fn(&KernelView<'_>, KernelVirt, usize) -> Result<Vec<KernelVirt>, KernelError>;

    fn walked(guest: &Guest, walk: Walk, head: u64, max: usize) -> Result<Vec<u64>, KernelError> {
        let profile = guest.profile();
        let found = walk(&KernelView::new(&profile, &guest.ram), KernelVirt(head), max)?;
        Ok(found.into_iter().map(|link| link.0).collect())
    }

    #[test]
    fn a_list_ends_at_its_head_and_an_hlist_at_null() {
        let mut guest = guest();
        let links: Vec<u64> = (0..4).map(|_| guest.alloc(16)).collect();
        for pair in links.windows(2) {
            guest.write_u64(pair[0] + 8, pair[1]);
        }
        let head = guest.put(&links[1].to_le_bytes());
        assert_eq!(walked(&guest, hlist_entries, head, 3).unwrap(), links[1..]);
        guest.write_u64(links[3] + 8, links[0]);
        assert_eq!(walked(&guest, list_entries, links[0], 3).unwrap(), links[1..]);
        let error = walked(&guest, list_entries, links[0], 2).unwrap_err().to_string();
        assert!(error.ends_with("it goes on after 2 links"), "{error}");
    }

    #[test]
    fn circles_beside_the_head_end() {
        let mut guest = guest();
        let (one, two) = (guest.alloc(16), guest.alloc(16));
        guest.write_u64(one + 8, two);
        guest.write_u64(two + 8, two);
        let head = guest.put(&one.to_le_bytes());
        for (walk, head) in [(list_entries as Walk, one), (hlist_entries, head)] {
            assert!(matches!(walked(&guest, walk, head, 1000), Err(KernelError::Broken { .. })));
        }
    }
}
