//! Maps of maps and of programs: what user space reads of them are ids, and so are the values here; 0 for none.
//!
//! Sources: `kernel/bpf/arraymap.c`, `map_in_map.c`, `hashtab.c` of Linux.

use super::reader::{Reading, Room};
use super::{BpfArray, BpfMap, ProgId, ProgOfId, array, hash};
use crate::kernel::{KernelError, KernelView, bytes};
use crate::trace::record::MapContents;
use crate::units::KernelVirt;

/// What the pointers in a map point at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Map,
    Program,
}

/// `BPF_MAP_TYPE_ARRAY_OF_MAPS` and `BPF_MAP_TYPE_PROG_ARRAY`: an array of pointers.
pub(super) fn read_array(
    view: &KernelView<'_>,
    map: &BpfMap,
    at: KernelVirt,
    room: Room,
    target: Target,
) -> Result<Reading, KernelError> {
    let array: BpfArray = view.mirror(at)?;
    let (entries, cut) = array::fitting(map, 8, room);
    let pointers = view.bytes(array.pptrs.0, entries * 8)?;
    let mut values = Vec::with_capacity(entries * 4);
    for pointer in bytes::u64s(&pointers) {
        values.extend(id_of(view, target, KernelVirt(pointer))?);
    }
    Ok(Reading { contents: MapContents::Array { values: resized(values, map) }, cut })
}

/// `BPF_MAP_TYPE_HASH_OF_MAPS`.
pub(super) fn read_hash(
    view: &KernelView<'_>,
    map: &BpfMap,
    at: KernelVirt,
    room: &mut Room,
) -> Result<Reading, KernelError> {
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    let cut = hash::walk(view, map, at, room, 8, map.key_size as usize + 8, |key, pointer| {
        let pointer = KernelVirt(bytes::u64_at(pointer, 0).unwrap_or_default());
        keys.extend_from_slice(key);
        values.extend(id_of(view, Target::Map, pointer)?);
        Ok(())
    })?;
    Ok(Reading { contents: MapContents::Hash { keys, values: resized(values, map) }, cut })
}

fn id_of(view: &KernelView<'_>, target: Target, at: KernelVirt) -> Result<[u8; 4], KernelError> {
    let id = match target {
        _ if at.0 == 0 => 0,
        Target::Map => view.mirror::<BpfMap>(at)?.id,
        Target::Program => view.mirror::<ProgId>(view.mirror::<ProgOfId>(at)?.aux)?.id,
    };
    Ok(id.to_le_bytes())
}

/// The kernel refuses such maps with values of another size than 4 bytes; torn memory need not.
fn resized(ids: Vec<u8>, map: &BpfMap) -> Vec<u8> {
    if map.value_size == 4 { ids } else { Vec::new() }
}
