//! Where the fields of `struct page` are, the numbers in them, and the lists of free pages that each CPU keeps.
//!
//! Source: `struct per_cpu_pages` in `include/linux/mmzone.h`, `order_to_pindex` in `mm/page_alloc.c` of Linux.

use crate::btf::Types;
use crate::kernel::mirror::{At, FieldOffset, find_field, mirror};
use crate::kernel::{FieldMissing, KernelError, KernelView, bytes};
use crate::units::KernelVirt;

/// Where the parts of a `struct page` are that tell what the page is, in bytes from its beginning.
#[derive(Clone, Debug)]
pub(super) struct PageStruct {
    /// Length of the struct.
    pub(super) bytes: usize,
    pub(super) flags: usize,
    pub(super) page_type: usize,
    pub(super) mapping: usize,
    pub(super) private: usize,
    /// Of a large folio: the flags of its second page, whose low byte is the order. From the head's beginning.
    pub(super) folio_order: usize,
    pub(super) refcount: usize,
    /// The links of a page on a list of a CPU.
    pub(super) list: usize,
    /// `MIGRATE_PCPTYPES`: lists that a CPU has for each order.
    pub(super) pcp_types: u64,
    /// `1 << PG_head`.
    pub(super) head: u64,
    /// `1 << PG_reserved`.
    pub(super) reserved: u64,
    /// `PGTY_buddy`: the highest byte of the type of a page that begins a free block.
    pub(super) buddy: u8,
}

impl PageStruct {
    /// # Errors
    /// [`KernelError::Field`] when this kernel's pages say what they are in another way, as before Linux 6.12.
    pub(super) fn find(types: &Types, release: &str) -> Result<Self, KernelError> {
        let missing = |what: &str, field: &str, why: &str| FieldMissing {
            struct_name: what.to_owned(),
            fields: vec![field.to_owned()],
            release: release.to_owned(),
            why: why.to_owned(),
        };
        let place = |what: &str, field: &str, bytes: u64| -> Result<usize, KernelError> {
            let slot = find_field(types, release, what, &[field])??;
            let FieldOffset { offset, bytes: found, bits: None, .. } = slot else {
                return Err(missing(what, field, "it is a bitfield").into());
            };
            usize::try_from(offset)
                .ok()
                .filter(|offset| found == bytes && *offset < 4096)
                .ok_or_else(|| missing(what, field, "it is not where it could be").into())
        };
        let number = |name: &str, constant: &str, most: u64| -> Result<u64, KernelError> {
            types
                .constant(name, constant)
                .filter(|value| *value <= most)
                .ok_or_else(|| missing(name, constant, "it is not among the enum's constants").into())
        };
        let bytes = usize::try_from(types.struct_bytes("page")?).unwrap_or(0);
        if !(32..=4096).contains(&bytes) {
            return Err(missing("page", "flags", "the struct has no possible length").into());
        }
        Ok(Self {
            bytes,
            flags: place("page", "flags", 8)?,
            page_type: place("page", "page_type", 4)?,
            mapping: place("page", "mapping", 8)?,
            private: place("page", "private", 8)?,
            folio_order: place("folio", "_flags_1", 8)?,
            refcount: place("page", "_refcount", 4)?,
            list: place("page", "pcp_list.prev", 8)?.saturating_sub(8),
            pcp_types: number("migratetype", "MIGRATE_PCPTYPES", 16)?.max(1),
            head: 1 << number("pageflags", "PG_head", 31)?,
            reserved: 1 << number("pageflags", "PG_reserved", 31)?,
            buddy: number("pagetype", "PGTY_buddy", 0xff)? as u8,
        })
    }
}

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
    let zone_bytes = types.struct_bytes("zone")?;
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
