//! The kernel's `hlist`: a chain of links that ends with null.
//!
//! Source: `include/linux/list.h`.

use super::mirror::mirror;
use super::{KernelError, KernelView};
use crate::units::KernelVirt;

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
pub fn hlist_nodes(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::Guest;

    #[test]
    fn an_hlist_ends_at_null_and_a_circle_at_the_bound() {
        let mut guest = Guest::new();
        let u64 = guest.types.unsigned("u64", 8);
        let pointer = guest.types.pointer(u64);
        guest.types.structure("hlist_head", 8, &[("first", pointer, 0, 0)]);
        guest.types.structure("hlist_node", 16, &[("pprev", pointer, 0, 0), ("next", pointer, 64, 0)]);
        let links: Vec<u64> = (0..3).map(|_| guest.alloc(16)).collect();
        let head = guest.put(&links[0].to_le_bytes());
        for pair in links.windows(2) {
            guest.write_u64(pair[0] + 8, pair[1]);
        }
        let walk = |guest: &Guest| {
            let profile = guest.profile();
            hlist_nodes(&KernelView::new(&profile, &guest.ram), KernelVirt(head), 3)
        };
        assert_eq!(walk(&guest).unwrap().iter().map(|at| at.0).collect::<Vec<_>>(), links);
        guest.write_u64(links[2] + 8, links[1]);
        assert!(walk(&guest).unwrap_err().to_string().ends_with("it goes on after 3 links"));
    }
}
