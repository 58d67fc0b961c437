//! Maps that are memory and no tables: arenas, which programs and user space share, and ring buffers.
//!
//! Sources: `kernel/bpf/arena.c`, `kernel/bpf/ringbuf.c` of Linux. The page of user address `u` of an arena is at the kernel's address
//! `kern_vm->addr + GUARD_SZ / 2 + (u32)u`, where there is one. A record of a ring buffer is a `struct bpf_ringbuf_hdr` (8 bytes) and
//! its data, padded to 8; the upper two bits of the header's length say that it is still being written, or was discarded.

use serde::Serialize;

use crate::kernel::maps::reader::{BpfMap, maps_of_type};
use crate::kernel::mirror::{At, mirror};
use crate::kernel::{FieldMissing, KernelError, KernelView};
use crate::units::{GuestPhys, KernelVirt};

mirror! {
    /// `struct bpf_ringbuf_map`.
    struct BpfRingbufMap, BpfRingbufMapLayout = "bpf_ringbuf_map" {
        rb: KernelVirt,
    }
}

mirror! {
    /// `struct bpf_ringbuf`.
    struct BpfRingbuf, BpfRingbufLayout = "bpf_ringbuf" {
        mask: u64,
        consumer_pos: u64,
        producer_pos: u64,
        data: At,
    }
}

mirror! {
    /// `struct bpf_arena`.
    struct BpfArena, BpfArenaLayout = "bpf_arena" {
        user_vm_start: u64,
        user_vm_end: u64,
        kern_vm: KernelVirt,
        scratch_page: Result<KernelVirt, FieldMissing>,
    }
}

mirror! {
    /// `struct vm_struct`.
    struct VmStruct, VmStructLayout = "vm_struct" {
        addr: KernelVirt,
    }
}

const PAGE: u64 = 4096;
/// Half of `GUARD_SZ`, which is the reach of a BPF instruction's 16-bit offset.
const HALF_GUARD: u64 = 1 << 15;
/// Most bytes of an arena (`SZ_4G`).
const MAX_BYTES: u64 = 1 << 32;

/// An arena at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ArenaState {
    /// First user address.
    pub user_start: u64,
    /// Just past the last user address.
    pub user_end: u64,
    /// Where the kernel has the byte whose user address has 32 zero bits at its end.
    pub kernel_base: u64,
    /// Most pages, as declared.
    pub max_pages: u64,
    /// Pages that it has.
    pub mapped_pages: u64,
}

impl ArenaState {
    /// `BPF_MAP_TYPE_ARENA` at `at`.
    pub(super) fn read(view: &KernelView<'_>, map: &BpfMap, at: KernelVirt) -> Result<Self, KernelError> {
        let arena: BpfArena = view.mirror(at)?;
        let kernel_base = kernel_base(view, &arena)?;
        let len = user_bytes(&arena, map);
        if len > MAX_BYTES {
            let why = format!("its user range is {len:#x} bytes long");
            return Err(KernelError::Broken { what: "a BPF arena", at, why });
        }
        let scratch = arena.scratch_page.ok().and_then(|page| page_phys(view, page));
        let mut state = Self {
            user_start: arena.user_vm_start,
            user_end: arena.user_vm_end,
            kernel_base,
            max_pages: u64::from(map.max_entries),
            mapped_pages: 0,
        };
        // The lower half of a user address wraps, so the range may be two in the kernel.
        let low = arena.user_vm_start & (MAX_BYTES - 1);
        let before_wrap = len.min(MAX_BYTES - low);
        for (low, bytes) in [(low, before_wrap), (0, len - before_wrap)] {
            view.mapped_pages(
                KernelVirt(kernel_base.wrapping_add(low)),
                bytes,
                &mut |GuestPhys(place), pages| {
                    // A kernel that maps its scratch page where the arena has none does it page by page.
                    state.mapped_pages += if Some(place) == scratch { 0 } else { pages };
                },
            )?;
        }
        Ok(state)
    }
}

/// Where the kernel has the byte whose user address has 32 zero bits at its end.
fn kernel_base(view: &KernelView<'_>, arena: &BpfArena) -> Result<u64, KernelError> {
    let area: VmStruct = view.mirror(arena.kern_vm)?;
    Ok(area.addr.0.wrapping_add(HALF_GUARD))
}

/// Length of the range of user addresses. Until user space maps it, that is from 0 on and as long as the arena may grow.
fn user_bytes(arena: &BpfArena, map: &BpfMap) -> u64 {
    match arena.user_vm_end.wrapping_sub(arena.user_vm_start) {
        0 => (u64::from(map.max_entries) * PAGE).min(MAX_BYTES),
        len => len,
    }
}

/// Where an arena is in the kernel: what a pointer into it needs, as those are kept as user addresses.
pub(in crate::kernel) struct ArenaPlace {
    /// The map's name.
    pub name: String,
    user_start: u64,
    user_bytes: u64,
    kernel_base: u64,
}

impl ArenaPlace {
    /// Where the kernel has the byte of a user address, if that is in the arena's range.
    pub(crate) fn kernel_address(&self, user: u64) -> Option<KernelVirt> {
        self.offset(user)?;
        Some(KernelVirt(self.kernel_base.wrapping_add(user & (MAX_BYTES - 1))))
    }

    /// How far a user address is from the first one of the arena, if it is in its range.
    pub fn offset(&self, user: u64) -> Option<u64> {
        user.checked_sub(self.user_start).filter(|offset| *offset < self.user_bytes)
    }
}

/// The places of all arenas. [`KernelView::arenas`] keeps them.
///
/// # Errors
/// When the table of maps cannot be read. Arenas that cannot be read are passed over.
pub(in crate::kernel) fn find_arenas(view: &KernelView<'_>) -> Result<Vec<ArenaPlace>, KernelError> {
    let place = |(at, map): (KernelVirt, BpfMap)| {
        let arena: BpfArena = view.mirror(at).ok()?;
        let (user_start, user_bytes) = (arena.user_vm_start, user_bytes(&arena, &map));
        Some(ArenaPlace {
            name: map.name.0,
            user_start,
            user_bytes,
            kernel_base: kernel_base(view, &arena).ok()?,
        })
    };
    Ok(maps_of_type(view, "BPF_MAP_TYPE_ARENA")?.into_iter().filter_map(place).collect())
}

/// The physical address of the page that a `struct page` describes.
fn page_phys(view: &KernelView<'_>, page: KernelVirt) -> Option<u64> {
    let each = view.types().struct_bytes("page").ok()?;
    let base = view.pointer(view.symbol("vmemmap_base").ok()?).ok()??;
    page.0.checked_sub(base.0)?.checked_div(each)?.checked_mul(PAGE)
}

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER_BYTES: u64 = 8;
/// Most records that are counted.
const MAX_RECORDS: usize = 65_536;

/// A ring buffer at one moment. Positions are bytes since its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RingState {
    /// Room for records and their headers, in bytes.
    pub size_bytes: u64,
    /// Up to where the reader has read.
    pub consumer_pos: u64,
    /// Up to where writers have reserved.
    pub producer_pos: u64,
    /// Records between the two that are whole.
    pub ready: usize,
    /// Records between the two that are being written.
    pub busy: usize,
    /// Records between the two that their writers gave up.
    pub discarded: usize,
}

impl RingState {
    /// Bytes between the reader and the writers.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.producer_pos.wrapping_sub(self.consumer_pos)
    }

    /// `BPF_MAP_TYPE_RINGBUF` at `at`, and `BPF_MAP_TYPE_USER_RINGBUF`.
    pub(super) fn read(view: &KernelView<'_>, at: KernelVirt) -> Result<Self, KernelError> {
        let map: BpfRingbufMap = view.mirror(at)?;
        let ring: BpfRingbuf = view.mirror(map.rb)?;
        let size_bytes = ring.mask.wrapping_add(1);
        let mut state = Self {
            size_bytes,
            consumer_pos: ring.consumer_pos,
            producer_pos: ring.producer_pos,
            ..Self::default()
        };
        let broken = |why: String| KernelError::Broken { what: "a BPF ring buffer", at, why };
        if !size_bytes.is_power_of_two() || state.pending_bytes() > size_bytes {
            return Err(broken(format!("{} bytes wait in a buffer of {size_bytes}", state.pending_bytes())));
        }
        let mut position = ring.consumer_pos;
        for _ in 0..MAX_RECORDS {
            if position >= ring.producer_pos {
                return Ok(state);
            }
            let header = view.u32(KernelVirt(ring.data.0.0.wrapping_add(position & ring.mask)))?;
            match (header & BUSY != 0, header & DISCARDED != 0) {
                (true, _) => state.busy += 1,
                (_, true) => state.discarded += 1,
                _ => state.ready += 1,
            }
            let len = u64::from(header & !(BUSY | DISCARDED));
            position = position.wrapping_add((len + HEADER_BYTES).next_multiple_of(HEADER_BYTES));
        }
        Err(broken(format!("more than {MAX_RECORDS} records wait")))
    }
}
