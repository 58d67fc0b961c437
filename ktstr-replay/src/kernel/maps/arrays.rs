//! Maps that are read as arrays: arrays, queues and stacks, those of maps and of programs, and `struct_ops`.
//!
//! Sources: `kernel/bpf/arraymap.c`, `map_in_map.c`, `queue_stack_maps.c`, `bpf_struct_ops.c` of Linux. What user space reads of maps
//! of maps and of programs are ids, and so are the values here; 0 for none. Values of queues and stacks are in the order in which
//! they would be popped. Of a `struct_ops` map user space is given `uvalue`, with the ids of programs where the struct has
//! functions, the state that `kvalue` has, and how many hold the map (`bpf_struct_ops_map_sys_lookup_elem`).

use crate::btf::TypeId;
use crate::kernel::maps::reader::{BpfMap, Reading, Room};
use crate::kernel::mirror::{At, mirror};
use crate::kernel::progs::ProgAux;
use crate::kernel::{Cpus, FieldMissing, KernelError, KernelView, bytes};
use crate::trace::record::MapContents;
use crate::units::KernelVirt;

mirror! {
    /// `struct bpf_array`.
    struct BpfArray, BpfArrayLayout = "bpf_array" {
        elem_size: u64,
        value: At,
        pptrs: At,
    }
}

mirror! {
    /// `struct bpf_queue_stack`.
    struct BpfQueueStack, BpfQueueStackLayout = "bpf_queue_stack" {
        head: u32,
        tail: u32,
        size: u32,
        elements: At,
    }
}

mirror! {
    /// `struct bpf_prog_aux`, as far as the id goes.
    struct ProgId, ProgIdLayout = "bpf_prog_aux" {
        id: u32,
    }
}

mirror! {
    /// `struct bpf_struct_ops_map`.
    struct BpfStructOpsMap, BpfStructOpsMapLayout = "bpf_struct_ops_map" {
        uvalue: KernelVirt,
        kvalue: At,
        refcnt: Result<i64, FieldMissing> = "map.refcnt",
        usercnt: Result<i64, FieldMissing> = "map.usercnt",
    }
}

/// Where the values of a `BPF_MAP_TYPE_ARRAY` at `at` begin.
pub(in crate::kernel) fn array_values(
    view: &KernelView<'_>,
    at: KernelVirt,
) -> Result<KernelVirt, KernelError> {
    let array: BpfArray = view.mirror(at)?;
    Ok(array.value.0)
}

/// How many of `max_entries` entries fit into `room`, and what to say when that is not all.
pub(super) fn fitting(map: &BpfMap, each: usize, room: Room) -> (usize, Option<String>) {
    let all = map.max_entries as usize;
    let fits = room.bytes.checked_div(each).unwrap_or(0).min(room.entries).min(all);
    let cut = (fits < all).then(|| format!("only {fits} of its {all} entries of {each} bytes were kept"));
    (fits, cut)
}

/// `BPF_MAP_TYPE_ARRAY`, which `.bss` and its kin are: values follow the map, `elem_size` apart.
pub(super) fn array(
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
pub(super) fn per_cpu_array(
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

/// `BPF_MAP_TYPE_QUEUE`, oldest first, and, for `newest_first`, `BPF_MAP_TYPE_STACK`.
pub(super) fn queue(
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

/// What the pointers in a map point at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Map,
    Program,
}

/// `BPF_MAP_TYPE_ARRAY_OF_MAPS` and `BPF_MAP_TYPE_PROG_ARRAY`: an array of pointers.
pub(super) fn ids(
    view: &KernelView<'_>,
    map: &BpfMap,
    at: KernelVirt,
    room: Room,
    target: Target,
) -> Result<Reading, KernelError> {
    let array: BpfArray = view.mirror(at)?;
    let (entries, cut) = fitting(map, 8, room);
    let pointers = view.bytes(array.pptrs.0, entries * 8)?;
    let mut values = Vec::with_capacity(entries * 4);
    for pointer in bytes::u64s(&pointers) {
        values.extend(id_of(view, target, KernelVirt(pointer))?);
    }
    Ok(Reading { contents: MapContents::Array { values: resized(values, map) }, cut })
}

pub(super) fn id_of(view: &KernelView<'_>, target: Target, at: KernelVirt) -> Result<[u8; 4], KernelError> {
    let id = match target {
        _ if at.0 == 0 => 0,
        Target::Map => view.mirror::<BpfMap>(at)?.id,
        Target::Program => view.mirror::<ProgId>(view.mirror::<ProgAux>(at)?.aux)?.id,
    };
    Ok(id.to_le_bytes())
}

/// The kernel refuses such maps with values of another size than 4 bytes; torn memory need not.
pub(super) fn resized(ids: Vec<u8>, map: &BpfMap) -> Vec<u8> {
    if map.value_size == 4 { ids } else { Vec::new() }
}

/// `BPF_MAP_TYPE_STRUCT_OPS`.
pub(super) fn struct_ops(
    view: &KernelView<'_>,
    map: &BpfMap,
    at: KernelVirt,
    room: Room,
) -> Result<Reading, KernelError> {
    let ops: BpfStructOpsMap = view.mirror(at)?;
    let size = map.value_size as usize;
    if size > room.bytes || room.entries == 0 {
        let cut = Some(format!("its {size} bytes were not kept"));
        return Ok(Reading { contents: MapContents::Array { values: Vec::new() }, cut });
    }
    let mut values = view.bytes(ops.uvalue, size)?;
    // What the kernel puts in at each lookup: the state, and the references that are not user space's.
    let mut put = |path: &str, word: [u8; 4]| {
        let field = view.types().field(TypeId(map.btf_vmlinux_value_type_id), path);
        let start = field.ok().and_then(|field| usize::try_from(field.offset_bytes()).ok());
        let place = start.and_then(|start| values.get_mut(start..start.checked_add(word.len())?));
        if let Some(place) = place {
            place.copy_from_slice(&word);
        }
    };
    if let Ok(state) = view.types().field(TypeId(map.btf_vmlinux_value_type_id), "common.state") {
        let state = view.u32(KernelVirt(ops.kvalue.0.0.wrapping_add(state.offset_bytes())))?;
        put("common.state", state.to_le_bytes());
    }
    if let (Ok(all), Ok(users)) = (ops.refcnt, ops.usercnt) {
        let count = u32::try_from(all.saturating_sub(users)).unwrap_or(0);
        put("common.refcnt", count.to_le_bytes());
    }
    Ok(Reading { contents: MapContents::Array { values }, cut: None })
}
