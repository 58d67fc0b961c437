//! Hash maps, plain, LRU and per-CPU: buckets of chained elements.
//!
//! An element is a `struct htab_elem`, the key, and at the next multiple of 8 the value, or a pointer to per-CPU
//! memory. A chain ends with an odd "nulls" marker (`include/linux/list_nulls.h`).

use super::array::read_each_cpu;
use super::reader::{Reading, Room};
use super::{BpfHtab, BpfMap};
use crate::btf::BtfError;
use crate::kernel::{Cpus, KernelError, KernelView, bytes};
use crate::trace::record::MapContents;
use crate::units::KernelVirt;

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
            bucket_bytes: types.size_of(types.struct_named("bucket")?)? as usize,
            first: offset("bucket", "head.first")?,
            next: offset("htab_elem", "hash_node.next")?,
            key: offset("htab_elem", "key")?,
        })
    }
}

/// Call `each` with every element's key and the bytes after it that are its value or its pointer. Gives what to say
/// when that was not all.
pub(super) fn walk(
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
pub(super) fn read(
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
pub(super) fn read_per_cpu(
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
