//! The kernel log: the ring buffer that `dmesg` reads.
//!
//! Source: `kernel/printk/printk_ringbuffer.h` and `.c` of Linux (5.10 and later). A descriptor's place is its id modulo
//! the number of descriptors; its state is in the two highest bits of `state_var`. A record's text is a block of the data
//! ring: the descriptor's id, then the text; a block that would wrap begins at the ring's start instead.

use serde::Serialize;

use crate::kernel::mirror::mirror;
use crate::kernel::{FieldMissing, Gaps, KernelError, KernelView, bytes};
use crate::units::KernelVirt;

mirror! {
    /// `struct printk_ringbuffer`.
    struct Ring, RingLayout = "printk_ringbuffer" {
        count_bits: u64 = "desc_ring.count_bits",
        descs: KernelVirt = "desc_ring.descs",
        infos: KernelVirt = "desc_ring.infos",
        head_id: u64 = "desc_ring.head_id",
        tail_id: u64 = "desc_ring.tail_id",
        size_bits: u64 = "text_data_ring.size_bits",
        data: KernelVirt = "text_data_ring.data",
        fail: Result<u64, FieldMissing>,
    }
}

mirror! {
    /// `struct prb_desc`.
    struct Desc, DescLayout = "prb_desc" {
        state_var: u64,
        begin: u64 = "text_blk_lpos.begin",
        next: u64 = "text_blk_lpos.next",
    }
}

mirror! {
    /// `struct printk_info`.
    struct Info, InfoLayout = "printk_info" {
        seq: u64,
        ts_nsec: u64,
        text_len: u64,
        facility: u64,
        level: u64,
        caller_id: u64,
    }
}

/// Most descriptors: a log of 2 GiB has that many.
const MAX_COUNT_BITS: u64 = 24;
/// Largest ring of text, as a power of two.
const MAX_SIZE_BITS: u64 = 31;
/// Most records that are read; the latest.
const MAX_RECORDS: u64 = 1 << 16;
/// The state is above these bits of `state_var`.
const STATE_SHIFT: u32 = 62;
const ID_MASK: u64 = (1 << STATE_SHIFT) - 1;
/// `caller_id` is a CPU's number with this bit, else a thread's id.
const CALLER_IS_CPU: u64 = 0x8000_0000;

/// A line of the kernel log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogRecord {
    /// Number of the record since boot.
    pub seq: u64,
    /// The kernel's local clock, in ns since boot.
    pub at_ns: u64,
    /// syslog's level: 0 emergency to 7 debug.
    pub level: u64,
    /// syslog's facility; 0 is the kernel.
    pub facility: u64,
    /// `T12` for a thread, `C1` for an interrupt on a CPU.
    pub caller: String,
    /// The text.
    pub text: String,
}

/// The kernel log at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KernelLog {
    /// The records, the oldest first.
    pub records: Vec<LogRecord>,
    /// Records that found no room, since boot.
    pub failed: Option<u64>,
    /// What could not be read.
    pub gaps: Gaps,
}

/// Read the kernel log.
///
/// # Errors
/// [`KernelError::Broken`] when its ring makes no sense; when there is none, or it cannot be read.
pub fn read_log(view: &KernelView<'_>) -> Result<KernelLog, KernelError> {
    // `prb` points at the ring that is in use.
    let at = view.pointer(view.symbol("prb")?)?.ok_or(KernelError::Null { what: "prb".to_owned() })?;
    let ring: Ring = view.mirror(at)?;
    let broken = |why: String| KernelError::Broken { what: "the kernel log", at, why };
    if ring.count_bits > MAX_COUNT_BITS || ring.size_bits > MAX_SIZE_BITS {
        return Err(broken(format!("it claims 2^{} records, 2^{} bytes", ring.count_bits, ring.size_bits)));
    }
    let mut log = KernelLog::default();
    log.failed = log.gaps.field(ring.fail.clone());
    let (head, count) = (ring.head_id & ID_MASK, 1u64 << ring.count_bits);
    let there = (head.wrapping_sub(ring.tail_id & ID_MASK) & ID_MASK) + 1;
    if there > count {
        return Err(broken(format!("it claims {there} records in room for {count}")));
    }
    let sizes = [view.types().struct_bytes("prb_desc")?, view.types().struct_bytes("printk_info")?];
    for back in (0..there.min(MAX_RECORDS)).rev() {
        let id = head.wrapping_sub(back) & ID_MASK;
        let record = record(view, &ring, sizes, id);
        if let Some(Some(record)) = log.gaps.read(format_args!("record {id:#x} of the kernel log"), record) {
            log.records.push(record);
        }
    }
    Ok(log)
}

/// The record of a descriptor; `None` if it is not complete, or not of this id any more.
fn record(
    view: &KernelView<'_>,
    ring: &Ring,
    [desc_bytes, info_bytes]: [u64; 2],
    id: u64,
) -> Result<Option<LogRecord>, KernelError> {
    let place = id & ((1 << ring.count_bits) - 1);
    let element = |base: KernelVirt, bytes: u64| KernelVirt(base.0.wrapping_add(place.wrapping_mul(bytes)));
    let desc: Desc = view.mirror(element(ring.descs, desc_bytes))?;
    let state = view.types().enum_name_of("desc_state", i128::from(desc.state_var >> STATE_SHIFT));
    if desc.state_var & ID_MASK != id || !matches!(state, Some("desc_committed" | "desc_finalized")) {
        return Ok(None);
    }
    let info: Info = view.mirror(element(ring.infos, info_bytes))?;
    let caller = match info.caller_id {
        id if id & CALLER_IS_CPU != 0 => format!("C{}", id & !CALLER_IS_CPU),
        id => format!("T{id}"),
    };
    Ok(Some(LogRecord {
        seq: info.seq,
        at_ns: info.ts_nsec,
        level: info.level,
        facility: info.facility,
        caller,
        text: text(view, ring, &desc, id, info.text_len)?,
    }))
}

/// A record's text. Odd positions mean that it has none.
fn text(view: &KernelView<'_>, ring: &Ring, desc: &Desc, id: u64, len: u64) -> Result<String, KernelError> {
    if desc.begin & 1 == 1 || desc.next & 1 == 1 {
        return Ok(String::new());
    }
    let broken = |why: &str| KernelError::Broken {
        what: "a record of the kernel log",
        at: ring.data,
        why: why.to_owned(),
    };
    let size = 1u64 << ring.size_bits;
    let index = |lpos: u64| lpos & (size - 1);
    // A block ends at `next`; one that ends on another turn than it begins is at the start of the ring.
    let wraps = desc.begin >> ring.size_bits != desc.next.wrapping_sub(1) >> ring.size_bits;
    let (start, end) = if wraps {
        (0, index(desc.next))
    } else {
        (index(desc.begin), index(desc.begin) + desc.next.wrapping_sub(desc.begin).min(size))
    };
    if end > size || end.saturating_sub(start) < 8 {
        return Err(broken("its block is not in the ring"));
    }
    let block = view.bytes(KernelVirt(ring.data.0.wrapping_add(start)), (end - start) as usize)?;
    if bytes::u64_at(&block, 0) != Some(id) {
        return Err(broken("its block is another record's"));
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(block.len() - 8);
    Ok(String::from_utf8_lossy(block.get(8..8 + len).unwrap_or_default()).into_owned())
}
