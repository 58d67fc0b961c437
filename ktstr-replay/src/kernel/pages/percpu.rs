//! Free pages that are not in the buddy allocator: each CPU keeps some in lists of its own.
//!
//! Source: `struct per_cpu_pages` in `include/linux/mmzone.h`, `order_to_pindex` in `mm/page_alloc.c` of Linux.

use super::structs::PageStruct;
use crate::kernel::mirror::{At, mirror};
use crate::kernel::{KernelError, KernelView, bytes};
use crate::units::KernelVirt;

mirror! {
    /// `struct pglist_data`: a NUMA node.
    struct Node, NodeLayout = "pglist_data" {
        node_zones: At,
        nr_zones: u32,
    }
}

mirror! {
    /// `struct zone`.
    struct Zone, ZoneLayout = "zone" {
        per_cpu_pageset: KernelVirt,
    }
}

mirror! {
    /// `struct per_cpu_pages`.
    struct PerCpuPages, PerCpuPagesLayout = "per_cpu_pages" {
        lists: At,
    }
}

/// Most NUMA nodes (`MAX_NUMNODES` of distribution kernels is 1024; machines of tests have few).
const MAX_NODES: u64 = 64;
/// Zones of a node at most (`MAX_NR_ZONES` is 5).
const MAX_ZONES: u64 = 8;
/// Pages of all lists that are followed at most: 4 GiB of single ones.
const MAX_PAGES: usize = 1 << 20;
/// Highest order with a list for each migrate type (`PAGE_ALLOC_COSTLY_ORDER`).
const COSTLY_ORDER: u64 = 3;
/// Order of the lists after those (`HPAGE_PMD_ORDER` of x86-64).
const HUGE_ORDER: u64 = 9;
/// Bytes of a `struct list_head`, two pointers.
const HEAD_BYTES: u64 = 16;

/// Addresses of the `struct page` of free blocks on the lists of CPUs, with their orders; those before a list that
/// cannot be followed are kept.
pub(super) fn free_blocks(
    view: &KernelView<'_>,
    page: &PageStruct,
) -> Result<Vec<(KernelVirt, u64)>, KernelError> {
    let types = view.types();
    let zone_bytes = types.size_of(types.struct_named("zone")?)?;
    let lists = view.profile().layout::<PerCpuPages>()?.lists.bytes.min(4096) / HEAD_BYTES;
    let cpus = view.cpus()?;
    let nodes = view.symbol("node_data")?;
    let mut found = Vec::new();
    for node in 0..MAX_NODES {
        // The array ends with the symbol, or nodes are missing: both read as null or as something that is no node.
        let Some(at) = view.pointer(KernelVirt(nodes.0.wrapping_add(node * 8)))? else { break };
        let Ok(node) = view.mirror::<Node>(at) else { break };
        for zone in 0..u64::from(node.nr_zones).min(MAX_ZONES) {
            let at = KernelVirt(node.node_zones.0.0.wrapping_add(zone * zone_bytes));
            let Ok(zone) = view.mirror::<Zone>(at) else { continue };
            for &cpu in cpus.possible() {
                let Some(at) = cpus.place(zone.per_cpu_pageset, cpu) else { continue };
                let Ok(own) = view.mirror::<PerCpuPages>(at) else { continue };
                for list in 0..lists {
                    let head = own.lists.0.0.wrapping_add(list * HEAD_BYTES);
                    let Some(order) = page.order_of_list(list) else { continue };
                    follow(view, page, KernelVirt(head), order, &mut found);
                }
            }
        }
    }
    Ok(found)
}

impl PageStruct {
    fn order_of_list(&self, list: u64) -> Option<u64> {
        let order = list.checked_div(self.pcp_types)?;
        Some(if order > COSTLY_ORDER { HUGE_ORDER } else { order })
    }
}

/// Follow one list; a link that does not lead on ends it.
fn follow(
    view: &KernelView<'_>,
    page: &PageStruct,
    head: KernelVirt,
    order: u64,
    found: &mut Vec<(KernelVirt, u64)>,
) {
    let Ok(mut entry) = view.u64(head) else { return };
    let mut before = head.0;
    while entry != head.0 && found.len() < MAX_PAGES {
        let mut links = [0u8; 16];
        if view.read(KernelVirt(entry), &mut links).is_err() || bytes::u64_at(&links, 8) != Some(before) {
            return;
        }
        found.push((KernelVirt(entry.wrapping_sub(page.list as u64)), order));
        before = entry;
        entry = bytes::u64_at(&links, 0).unwrap_or(head.0);
    }
}
