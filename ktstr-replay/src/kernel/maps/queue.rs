//! Queues and stacks: a ring of values between `tail` and `head`.
//!
//! Source: `kernel/bpf/queue_stack_maps.c` of Linux. Values are given in the order in which they would be popped.

use super::reader::{Reading, Room};
use super::{BpfMap, BpfQueueStack};
use crate::kernel::{KernelError, KernelView};
use crate::trace::record::MapContents;
use crate::units::KernelVirt;

/// `BPF_MAP_TYPE_QUEUE`, oldest first, and, for `newest_first`, `BPF_MAP_TYPE_STACK`.
pub(super) fn read(
    view: &KernelView<'_>,
    map: &BpfMap,
    at: KernelVirt,
    room: Room,
    newest_first: bool,
) -> Result<Reading, KernelError> {
    let ring: BpfQueueStack = view.mirror(at)?;
    let slots = ring.size;
    if ring.head >= slots || ring.tail >= slots {
        let why = format!("its ends {} and {} are not below its size {slots}", ring.tail, ring.head);
        return Err(KernelError::Broken { what: "a BPF queue", at, why });
    }
    let len = if ring.head >= ring.tail { ring.head - ring.tail } else { slots - ring.tail + ring.head };
    let size = map.value_size as usize;
    let fits = room.bytes.checked_div(size).unwrap_or(0).min(room.entries).min(len as usize);
    let mut values = vec![0u8; fits * size];
    for (slot, nth) in values.chunks_exact_mut(size.max(1)).zip(0u64..) {
        let from_tail = if newest_first { u64::from(len) - 1 - nth } else { nth };
        let index = (u64::from(ring.tail) + from_tail) % u64::from(slots);
        view.read(KernelVirt(ring.elements.0.0.wrapping_add(index.wrapping_mul(size as u64))), slot)?;
    }
    let cut =
        (fits < len as usize).then(|| format!("only {fits} of its {len} values of {size} bytes were kept"));
    Ok(Reading { contents: MapContents::Array { values }, cut })
}
