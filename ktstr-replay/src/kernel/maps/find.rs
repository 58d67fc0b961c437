//! Maps of one type, without their contents.

use super::BpfMap;
use crate::kernel::xarray::idr_entries;
use crate::kernel::{KernelError, KernelView};
use crate::units::KernelVirt;

/// Most maps that are looked at.
const MAX_MAPS: usize = 4096;

/// Where each map of type `name` (of `enum bpf_map_type`) is, and what it is. Maps that cannot be read are passed over.
///
/// # Errors
/// When the table of maps itself cannot be read.
pub(super) fn maps_of_type(
    view: &KernelView<'_>,
    name: &str,
) -> Result<Vec<(KernelVirt, BpfMap)>, KernelError> {
    let all = idr_entries(view, "map_idr", MAX_MAPS)?;
    let maps = all.into_iter().filter_map(|(_, at)| Some((at, view.mirror::<BpfMap>(at).ok()?)));
    let is_it =
        |map: &BpfMap| view.types().enum_name_of("bpf_map_type", i128::from(map.map_type)) == Some(name);
    Ok(maps.filter(|(_, map)| is_it(map)).collect())
}

/// Where each `struct_ops` map is, and the kernel type of its value.
///
/// # Errors
/// As [`maps_of_type`].
pub(in crate::kernel) fn struct_ops_maps(
    view: &KernelView<'_>,
) -> Result<Vec<(KernelVirt, u32)>, KernelError> {
    let found = maps_of_type(view, "BPF_MAP_TYPE_STRUCT_OPS")?;
    Ok(found.into_iter().map(|(at, map)| (at, map.btf_vmlinux_value_type_id)).collect())
}
