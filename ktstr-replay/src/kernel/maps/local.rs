//! Local storage: values that belong to tasks, cgroups or inodes.
//!
//! Source: `kernel/bpf/bpf_local_storage.c` of Linux. A map has buckets of elements; an element belongs to the
//! `struct bpf_local_storage` of its owner. User space addresses an entry by a descriptor of its owner, which says
//! nothing later, so the key here is what does: a task's pid, a cgroup's id, an inode's number.

use super::reader::{Reading, Room};
use super::{BpfMap, KernfsNode, LocalStorage, LocalStorageElem, LocalStorageMap, OwnerCgroup, OwnerInode};
use crate::kernel::query::TaskName;
use crate::kernel::{KernelError, KernelView, hlist_nodes};
use crate::trace::record::MapContents;
use crate::units::KernelVirt;

/// Whose storage it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Task,
    Cgroup,
    Inode,
}

/// Most buckets, as a power of two: the kernel takes twice its possible CPUs.
const MAX_BUCKET_LOG: u32 = 16;

/// `BPF_MAP_TYPE_TASK_STORAGE`, `_CGRP_STORAGE`, `_INODE_STORAGE`: keys are `key_size` bytes of the owner's number.
pub(super) fn read(
    view: &KernelView<'_>,
    map: &BpfMap,
    at: KernelVirt,
    room: Room,
    owner: Owner,
) -> Result<Reading, KernelError> {
    let storage: LocalStorageMap = view.mirror(at)?;
    let types = view.types();
    let bucket_bytes = types.size_of(types.struct_named("bpf_local_storage_map_bucket")?)?;
    let bucket_list = view.offset_of("bpf_local_storage_map_bucket", "list")?;
    let link = view.offset_of("bpf_local_storage_elem", "map_node")?;
    if storage.bucket_log > MAX_BUCKET_LOG {
        let why = format!("it claims 2^{} buckets", storage.bucket_log);
        return Err(KernelError::Broken { what: "BPF local storage", at, why });
    }
    let (key_size, size) = (map.key_size as usize, map.value_size as usize);
    let each = key_size.saturating_add(size);
    let fits = room.bytes.checked_div(each).unwrap_or(0).min(room.entries);
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    let (mut kept, mut unowned, mut cut) = (0usize, 0usize, None);
    'buckets: for bucket in 0..1u64 << storage.bucket_log {
        let head =
            storage.buckets.0.wrapping_add(bucket.wrapping_mul(bucket_bytes)).wrapping_add(bucket_list);
        for node in hlist_nodes(view, KernelVirt(head), room.entries)? {
            let element: LocalStorageElem = view.mirror(KernelVirt(node.0.wrapping_sub(link)))?;
            // Its owner has gone: the element is about to be freed.
            let Some(number) = number_of(view, owner, element.local_storage)? else {
                unowned += 1;
                continue;
            };
            if kept >= fits {
                cut = Some(format!("only {fits} of its entries of {each} bytes were kept"));
                break 'buckets;
            }
            let mut key = number.to_le_bytes().to_vec();
            key.resize(key_size, 0);
            keys.extend(key);
            values.extend(view.bytes(element.data.0, size)?);
            kept += 1;
        }
    }
    let cut =
        cut.or_else(|| (unowned > 0).then(|| format!("{unowned} of its entries have lost their owner")));
    Ok(Reading { contents: MapContents::Hash { keys, values }, cut })
}

/// The number of who owns the storage at `at`.
fn number_of(view: &KernelView<'_>, owner: Owner, at: KernelVirt) -> Result<Option<u64>, KernelError> {
    if at.0 == 0 {
        return Ok(None);
    }
    let storage: LocalStorage = view.mirror(at)?;
    if storage.owner.0 == 0 {
        return Ok(None);
    }
    Ok(Some(match owner {
        Owner::Task => view.mirror::<TaskName>(storage.owner)?.pid.into(),
        Owner::Cgroup => view.mirror::<KernfsNode>(view.mirror::<OwnerCgroup>(storage.owner)?.node)?.id,
        Owner::Inode => view.mirror::<OwnerInode>(storage.owner)?.number,
    }))
}
