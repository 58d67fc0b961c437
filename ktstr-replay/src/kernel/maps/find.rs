//! Maps of one type, without their contents.

use super::BpfMap;
use crate::kernel::xarray::idr_entries;
use crate::kernel::{KernelError, KernelView};
use crate::units::KernelVirt;

/// Most maps that are looked at.
const MAX_MAPS: usize = 4096;

/// Where each `struct_ops` map is, and the kernel type of its value. Maps that cannot be read are passed over.
///
/// # Errors
/// When the table of maps itself cannot be read.
pub(in crate::kernel) fn struct_ops_maps(
    view: &KernelView<'_>,
) -> Result<Vec<(KernelVirt, u32)>, KernelError> {
    let all = idr_entries(view, "map_idr", MAX_MAPS)?;
    let maps = all.into_iter().filter_map(|(_, at)| Some((at, view.mirror::<BpfMap>(at).ok()?)));
    let is_struct_ops = |map: &BpfMap| {
        view.types().enum_name_of("bpf_map_type", i128::from(map.map_type)) == Some("BPF_MAP_TYPE_STRUCT_OPS")
    };
    let found = maps.filter(|(_, map)| is_struct_ops(map));
    Ok(found.map(|(at, map)| (at, map.btf_vmlinux_value_type_id)).collect())
}
