//! Maps that are read as hash tables: hash maps, plain, LRU, per-CPU and of maps, and local storage.
//!
//! An element of a hash map is a `struct htab_elem`, the key, and at the next multiple of 8 the value, or a pointer to per-CPU
//! memory. A chain ends with an odd "nulls" marker (`include/linux/list_nulls.h`).
//!
//! Local storage has values that belong to tasks, cgroups or inodes (`kernel/bpf/bpf_local_storage.c`): a map has buckets of
//! elements, and an element belongs to the `struct bpf_local_storage` of its owner. User space addresses an entry by a descriptor of
//! its owner, which says nothing later, so the key here is what does: a task's pid, a cgroup's id, an inode's number.

use crate::btf::BtfError;
use crate::kernel::maps::arrays::{Target, id_of, read_each_cpu, resized};
use crate::kernel::maps::reader::{BpfMap, Reading, Room};
use crate::kernel::mirror::{At, mirror};
use crate::kernel::task::TaskName;
use crate::kernel::{Cpus, KernelError, KernelView, bytes, hlist_nodes};
use crate::trace::record::MapContents;
use crate::units::KernelVirt;

mirror! {
    /// `struct bpf_htab`.
    struct BpfHtab, BpfHtabLayout = "bpf_htab" {
        buckets: KernelVirt,
        n_buckets: u64,
    }
}

mirror! {
    /// `struct bpf_local_storage_map`.
    struct LocalStorageMap, LocalStorageMapLayout = "bpf_local_storage_map" {
        buckets: KernelVirt,
        bucket_log: u32,
    }
}

mirror! {
    /// `struct bpf_local_storage_elem`.
    struct LocalStorageElem, LocalStorageElemLayout = "bpf_local_storage_elem" {
        local_storage: KernelVirt,
        data: At = "sdata.data",
    }
}

mirror! {
    /// `struct bpf_local_storage`: all that one owner has.
    struct LocalStorage, LocalStorageLayout = "bpf_local_storage" {
        owner: KernelVirt,
    }
}

mirror! {
    /// `struct cgroup`, as the owner of storage.
    struct OwnerCgroup, OwnerCgroupLayout = "cgroup" {
        node: KernelVirt = "kn",
    }
}

mirror! {
    /// `struct kernfs_node`.
    struct KernfsNode, KernfsNodeLayout = "kernfs_node" {
        id: u64,
    }
}

mirror! {
    /// `struct inode`, as the owner of storage.
    struct OwnerInode, OwnerInodeLayout = "inode" {
        number: u64 = "i_ino",
    }
}

/// What the kernel's types say of elements and buckets.
struct Shape {
    bucket_bytes: usize,
    /// Offset of the first element's pointer in a bucket.
    first: usize,
    /// Offset of the next element's pointer in an element.
    next: usize,
    /// Offset of the key in an element.
    key: usize,
}

impl Shape {
    fn find(view: &KernelView<'_>) -> Result<Self, BtfError> {
        let types = view.types();
        let offset = |name: &str, path: &str| {
            types.struct_field(name, path).map(|field| field.offset_bytes() as usize)
        };
        Ok(Self {
            bucket_bytes: types.struct_bytes("bucket")? as usize,
            first: offset("bucket", "head.first")?,
            next: offset("htab_elem", "hash_node.next")?,
            key: offset("htab_elem", "key")?,
        })
    }
}

/// Call `each` with every element's key and the bytes after it that are its value or its pointer. Gives what to say
/// when that was not all.
fn walk(
    view: &KernelView<'_>,
    map: &BpfMap,
    at: KernelVirt,
    room: &mut Room,
    tail: usize,
    each_bytes: usize,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), KernelError>,
) -> Result<Option<String>, KernelError> {
    let shape = Shape::find(view)?;
    let table: BpfHtab = view.mirror(at)?;
    let broken = |why: String| KernelError::Broken { what: "a BPF hash map", at, why };
    let table_bytes =
        usize::try_from(table.n_buckets).ok().and_then(|count| count.checked_mul(shape.bucket_bytes));
    let table_bytes = table_bytes.filter(|&bytes| bytes <= room.bucket_bytes && shape.bucket_bytes != 0);
    let table_bytes = table_bytes.ok_or_else(|| {
        broken(format!(
            "its {} buckets of {} bytes are more than may be read",
            table.n_buckets, shape.bucket_bytes
        ))
    })?;
    room.bucket_bytes -= table_bytes;
    let value_offset = (map.key_size as usize).next_multiple_of(8);
    let after_key =
        value_offset.checked_add(tail).ok_or_else(|| broken("its entries are too long".into()))?;
    if after_key > MAX_ELEMENT_BYTES {
        return Err(broken(format!("its entries have {after_key} bytes")));
    }
    let mut element = vec![0u8; shape.key + after_key];
    let buckets = view.bytes(table.buckets, table_bytes)?;
    let fits = room.bytes.checked_div(each_bytes).unwrap_or(0).min(room.entries);
    // A running kernel moves elements, so a chain may cross into another; more than these is a circle.
    let limit = (map.max_entries as usize).saturating_add(1);
    let mut seen = 0usize;
    for bucket in buckets.chunks_exact(shape.bucket_bytes) {
        let mut next = bytes::u64_at(bucket, shape.first).unwrap_or(1);
        while next & 1 == 0 && next != 0 {
            if seen >= limit {
                return Ok(Some(format!("its chains go in circles after {seen} entries")));
            }
            if seen >= fits {
                return Ok(Some(format!("only {fits} of its entries of {each_bytes} bytes were kept")));
            }
            seen += 1;
            view.read(KernelVirt(next), &mut element)?;
            let (head, rest) = element.split_at_checked(shape.key).unwrap_or_default();
            next = bytes::u64_at(head, shape.next).unwrap_or(1);
            let key = rest.get(..map.key_size as usize).unwrap_or_default();
            each(key, rest.get(value_offset..).unwrap_or_default())?;
        }
    }
    Ok(None)
}

/// Longest element that is read: `KMALLOC_MAX_SIZE` bounds the kernel's.
const MAX_ELEMENT_BYTES: usize = 8 << 20;

/// `BPF_MAP_TYPE_HASH` and `BPF_MAP_TYPE_LRU_HASH`.
pub(super) fn hash(
    view: &KernelView<'_>,
    map: &BpfMap,
    at: KernelVirt,
    room: &mut Room,
) -> Result<Reading, KernelError> {
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    let size = map.value_size as usize;
    let cut = walk(view, map, at, room, size, map.key_size as usize + size, |key, value| {
        keys.extend_from_slice(key);
        values.extend_from_slice(value);
        Ok(())
    })?;
    Ok(Reading { contents: MapContents::Hash { keys, values }, cut })
}

/// `BPF_MAP_TYPE_PERCPU_HASH` and `BPF_MAP_TYPE_LRU_PERCPU_HASH`.
pub(super) fn per_cpu_hash(
    view: &KernelView<'_>,
    cpus: &Cpus,
    map: &BpfMap,
    at: KernelVirt,
    room: &mut Room,
) -> Result<Reading, KernelError> {
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    let size = map.value_size as usize;
    let all_cpus = size.saturating_mul(cpus.possible().len());
    let entry = all_cpus.saturating_add(map.key_size as usize);
    let mut slots = vec![0u8; all_cpus.min(room.bytes)];
    let cut = walk(view, map, at, room, 8, entry, |key, pointer| {
        let per_cpu = KernelVirt(bytes::u64_at(pointer, 0).unwrap_or_default());
        read_each_cpu(view, cpus, per_cpu, size, &mut slots)?;
        keys.extend_from_slice(key);
        values.extend_from_slice(&slots);
        Ok(())
    })?;
    Ok(Reading { contents: MapContents::PerCpuHash { cpus: cpus.possible().to_vec(), keys, values }, cut })
}

/// `BPF_MAP_TYPE_HASH_OF_MAPS`.
pub(super) fn hash_of_maps(
    view: &KernelView<'_>,
    map: &BpfMap,
    at: KernelVirt,
    room: &mut Room,
) -> Result<Reading, KernelError> {
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    let cut = walk(view, map, at, room, 8, map.key_size as usize + 8, |key, pointer| {
        let pointer = KernelVirt(bytes::u64_at(pointer, 0).unwrap_or_default());
        keys.extend_from_slice(key);
        values.extend(id_of(view, Target::Map, pointer)?);
        Ok(())
    })?;
    Ok(Reading { contents: MapContents::Hash { keys, values: resized(values, map) }, cut })
}

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
pub(super) fn local_storage(
    view: &KernelView<'_>,
    map: &BpfMap,
    at: KernelVirt,
    room: Room,
    owner: Owner,
) -> Result<Reading, KernelError> {
    let storage: LocalStorageMap = view.mirror(at)?;
    let types = view.types();
    let bucket_bytes = types.struct_bytes("bpf_local_storage_map_bucket")?;
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
