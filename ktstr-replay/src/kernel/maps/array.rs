//! Arrays and per-CPU arrays.

use super::reader::{Reading, Room};
use super::{BpfArray, BpfMap};
use crate::kernel::{Cpus, KernelError, KernelView, bytes};
use crate::trace::record::MapContents;
use crate::units::KernelVirt;

/// How many of `max_entries` entries fit into `room`, and what to say when that is not all.
pub(super) fn fitting(map: &BpfMap, each: usize, room: Room) -> (usize, Option<String>) {
    let all = map.max_entries as usize;
    let fits = room.bytes.checked_div(each).unwrap_or(0).min(room.entries).min(all);
    let cut = (fits < all).then(|| format!("only {fits} of its {all} entries of {each} bytes were kept"));
    (fits, cut)
}

/// `BPF_MAP_TYPE_ARRAY`, which `.bss` and its kin are: values follow the map, `elem_size` apart.
pub(super) fn read(
    view: &KernelView<'_>,
    map: &BpfMap,
    at: KernelVirt,
    room: Room,
) -> Result<Reading, KernelError> {
    let array: BpfArray = view.mirror(at)?;
    let (size, stride) = (map.value_size as usize, array.elem_size as usize);
    if stride < size {
        let why = format!("values of {size} bytes are {stride} bytes apart");
        return Err(KernelError::Broken { what: "a BPF array", at, why });
    }
    // Counted by the stride, padding included: that is what has to be read.
    let (entries, cut) = fitting(map, stride, room);
    let mut values = view.bytes(array.value.0, entries * stride)?;
    if stride != size {
        values = values
            .chunks_exact(stride)
            .flat_map(|entry| entry.get(..size).unwrap_or_default())
            .copied()
            .collect();
    }
    Ok(Reading { contents: MapContents::Array { values }, cut })
}

/// `BPF_MAP_TYPE_PERCPU_ARRAY`: a pointer to per-CPU memory for each index.
pub(super) fn read_per_cpu(
    view: &KernelView<'_>,
    cpus: &Cpus,
    map: &BpfMap,
    at: KernelVirt,
    room: Room,
) -> Result<Reading, KernelError> {
    let array: BpfArray = view.mirror(at)?;
    let size = map.value_size as usize;
    let each = size.saturating_mul(cpus.possible().len());
    let (entries, cut) = fitting(map, each, room);
    let pointers = view.bytes(array.pptrs.0, entries * 8)?;
    let mut values = vec![0; entries * each];
    for (pointer, slots) in bytes::u64s(&pointers).zip(values.chunks_exact_mut(each.max(1))) {
        read_each_cpu(view, cpus, KernelVirt(pointer), size, slots)?;
    }
    Ok(Reading { contents: MapContents::PerCpuArray { cpus: cpus.possible().to_vec(), values }, cut })
}

/// Read `size` bytes at the per-CPU address `at` for each possible CPU into `out`, which is as long as they are.
pub(super) fn read_each_cpu(
    view: &KernelView<'_>,
    cpus: &Cpus,
    at: KernelVirt,
    size: usize,
    out: &mut [u8],
) -> Result<(), KernelError> {
    for (&cpu, slot) in cpus.possible().iter().zip(out.chunks_exact_mut(size.max(1))) {
        let place = cpus.place(at, cpu).ok_or_else(|| KernelError::Broken {
            what: "per-CPU memory",
            at,
            why: format!("CPU {cpu} has none"),
        })?;
        view.read(place, slot)?;
    }
    Ok(())
}
