//! `struct_ops` maps: one value, what user space registered, with the ids of programs where the struct has functions.
//!
//! Source: `kernel/bpf/bpf_struct_ops.c` of Linux (`bpf_struct_ops_map_sys_lookup_elem`): user space is given `uvalue`
//! with the state that `kvalue` has, and with how many hold the map.

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
