//! `struct_ops` maps: one value, what user space registered, with the ids of programs where the struct has functions.
//!
//! Source: `kernel/bpf/bpf_struct_ops.c` of Linux (`bpf_struct_ops_map_sys_lookup_elem`): user space is given `uvalue`
//! with the state that `kvalue` has.

use super::reader::{Reading, Room};
use super::{BpfMap, BpfStructOpsMap};
use crate::btf::TypeId;
use crate::kernel::{KernelError, KernelView};
use crate::trace::record::MapContents;
use crate::units::KernelVirt;

/// `BPF_MAP_TYPE_STRUCT_OPS`.
pub(super) fn read(
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
    if let Ok(state) = view.types().field(TypeId(map.btf_vmlinux_value_type_id), "common.state") {
        let offset = state.offset_bytes();
        let place =
            usize::try_from(offset).ok().and_then(|start| values.get_mut(start..start.checked_add(4)?));
        if let Some(place) = place {
            view.read(KernelVirt(ops.kvalue.0.0.wrapping_add(offset)), place)?;
        }
    }
    Ok(Reading { contents: MapContents::Array { values }, cut: None })
}
