//! All maps at one moment, and the BTF of each program object, read and hashed once.

use std::collections::HashMap;

use crate::kernel::maps::arrays::Target;
use crate::kernel::maps::hashes::Owner;
use crate::kernel::maps::{arrays, hashes};
use crate::kernel::mirror::{Text, mirror};
use crate::kernel::profile::blob;
use crate::kernel::trees::idr_entries;
use crate::kernel::{Cpus, FieldMissing, KernelError, KernelView};
use crate::trace::record::{Blob, BlobId, BlobRole, MapContents, MapState};
use crate::units::KernelVirt;

mirror! {
    /// `struct bpf_map`, which every map begins with.
    pub(in crate::kernel) struct BpfMap, BpfMapLayout = "bpf_map" {
        id: u32,
        name: Text,
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        btf: KernelVirt,
        btf_key_type_id: u32,
        btf_value_type_id: u32,
        btf_vmlinux_value_type_id: u32,
    }
}

mirror! {
    /// `struct btf`, as far as the program's blob goes.
    struct Btf, BtfLayout = "btf" {
        data: KernelVirt,
        data_size: u32,
        id: u32,
        kernel_btf: Result<u32, FieldMissing>,
    }
}

/// How much of the maps is read. What goes beyond is left out and noted as a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapCaps {
    /// Most maps.
    pub maps: usize,
    /// Most entries of one map.
    pub entries: usize,
    /// Most bytes of one map, keys and values of all CPUs.
    pub map_bytes: usize,
    /// Most bytes of all maps of a sample.
    pub total_bytes: usize,
    /// Most bytes of bucket tables of all hash maps of a sample; they are read, not kept.
    pub bucket_bytes: usize,
}

impl Default for MapCaps {
    fn default() -> Self {
        Self {
            maps: 1024,
            entries: 65_536,
            map_bytes: 4 << 20,
            total_bytes: 16 << 20,
            bucket_bytes: 64 << 20,
        }
    }
}

/// What a reading of the maps gave.
#[derive(Debug, Default)]
pub(in crate::kernel) struct MapsRead {
    /// The maps, ascending by id.
    pub maps: Vec<MapState>,
    /// BTF blobs that the maps refer to and that were not given before.
    pub blobs: Vec<Blob>,
    /// What could not be read, or was cut.
    pub faults: Vec<String>,
    /// Where each `struct_ops` map is, and the kernel type of its value.
    pub(in crate::kernel) struct_ops: Vec<(KernelVirt, u32)>,
    /// Where each of `maps` is, in the same order.
    pub(in crate::kernel) places: Vec<Place>,
}

/// Where a map is in memory, and what its record has no place for.
#[derive(Clone, Debug)]
pub(in crate::kernel) struct Place {
    pub at: KernelVirt,
    pub map: BpfMap,
}

/// Reads maps, again and again; keeps which BTF blobs were given already.
#[derive(Debug, Default)]
pub(in crate::kernel) struct MapReader {
    caps: MapCaps,
    types: TypeBlobs,
}

/// Entries as they are collected: what was read, and why it is not all, if it is not.
pub(super) struct Reading {
    pub contents: MapContents,
    pub cut: Option<String>,
}

impl MapReader {
    /// A reader with these bounds.
    #[must_use]
    pub fn new(caps: MapCaps) -> Self {
        Self { caps, types: TypeBlobs::default() }
    }

    /// Read every map.
    ///
    /// # Errors
    /// When the table of maps itself cannot be read. A map that cannot is [`MapContents::Unread`].
    pub fn read(&mut self, view: &KernelView<'_>) -> Result<MapsRead, KernelError> {
        let mut out = MapsRead::default();
        let found = idr_entries(view, "map_idr", self.caps.maps.saturating_add(1))?;
        if found.len() > self.caps.maps {
            out.faults
                .push(format!("there are more than {} BPF maps: the rest was left out", self.caps.maps));
        }
        if found.is_empty() {
            return Ok(out);
        }
        let cpus = view.cpus()?;
        let mut left = Room {
            entries: self.caps.entries,
            bytes: self.caps.total_bytes,
            bucket_bytes: self.caps.bucket_bytes,
        };
        for &(index, at) in found.iter().take(self.caps.maps) {
            if let Err(error) = self.one(view, &cpus, at, &mut left, &mut out) {
                out.faults.push(format!("BPF map {index}: {error}"));
            }
        }
        Ok(out)
    }

    /// Read one map into `out`; what it takes is taken off `left`.
    fn one(
        &mut self,
        view: &KernelView<'_>,
        cpus: &Cpus,
        at: KernelVirt,
        left: &mut Room,
        out: &mut MapsRead,
    ) -> Result<(), KernelError> {
        let map: BpfMap = view.mirror(at)?;
        let kind = view.types().enum_name_of("bpf_map_type", i128::from(map.map_type));
        if kind == Some("BPF_MAP_TYPE_STRUCT_OPS") {
            out.struct_ops.push((at, map.btf_vmlinux_value_type_id));
        }
        let mut room = Room { bytes: self.caps.map_bytes.min(left.bytes), ..*left };
        let reading = contents(view, cpus, &map, at, kind, &mut room);
        if let Some(cut) = reading.cut {
            out.faults.push(format!("BPF map {} `{}`: {cut}", map.id, map.name.0));
        }
        left.bytes = left.bytes.saturating_sub(size_of(&reading.contents));
        left.bucket_bytes = room.bucket_bytes;
        let btf = match self.types.of(view, map.btf) {
            Ok(None) => None,
            Ok(Some((id, fresh))) => {
                out.blobs.extend(fresh);
                Some(id)
            }
            Err(error) => {
                out.faults.push(format!("types of BPF map {} `{}`: {error}", map.id, map.name.0));
                None
            }
        };
        out.maps.push(MapState {
            id: map.id,
            name: map.name.0.clone(),
            map_type: map.map_type,
            key_size: map.key_size,
            value_size: map.value_size,
            max_entries: map.max_entries,
            btf,
            key_type_id: map.btf_key_type_id,
            value_type_id: map.btf_value_type_id,
            contents: reading.contents,
        });
        out.places.push(Place { at, map });
        Ok(())
    }
}

/// What may still be read.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub entries: usize,
    pub bytes: usize,
    pub bucket_bytes: usize,
}

fn contents(
    view: &KernelView<'_>,
    cpus: &Cpus,
    map: &BpfMap,
    at: KernelVirt,
    kind: Option<&str>,
    room: &mut Room,
) -> Reading {
    let read = match kind {
        Some("BPF_MAP_TYPE_ARRAY") => arrays::array(view, map, at, *room),
        Some("BPF_MAP_TYPE_PERCPU_ARRAY") => arrays::per_cpu_array(view, cpus, map, at, *room),
        Some("BPF_MAP_TYPE_HASH" | "BPF_MAP_TYPE_LRU_HASH") => hashes::hash(view, map, at, room),
        Some("BPF_MAP_TYPE_PERCPU_HASH" | "BPF_MAP_TYPE_LRU_PERCPU_HASH") => {
            hashes::per_cpu_hash(view, cpus, map, at, room)
        }
        Some("BPF_MAP_TYPE_QUEUE") => arrays::queue(view, map, at, *room, false),
        Some("BPF_MAP_TYPE_STACK") => arrays::queue(view, map, at, *room, true),
        Some("BPF_MAP_TYPE_TASK_STORAGE") => hashes::local_storage(view, map, at, *room, Owner::Task),
        Some("BPF_MAP_TYPE_CGRP_STORAGE") => hashes::local_storage(view, map, at, *room, Owner::Cgroup),
        Some("BPF_MAP_TYPE_INODE_STORAGE") => hashes::local_storage(view, map, at, *room, Owner::Inode),
        Some("BPF_MAP_TYPE_ARRAY_OF_MAPS") => arrays::ids(view, map, at, *room, Target::Map),
        Some("BPF_MAP_TYPE_PROG_ARRAY") => arrays::ids(view, map, at, *room, Target::Program),
        Some("BPF_MAP_TYPE_HASH_OF_MAPS") => hashes::hash_of_maps(view, map, at, room),
        Some("BPF_MAP_TYPE_STRUCT_OPS") => arrays::struct_ops(view, map, at, *room),
        Some(name @ ("BPF_MAP_TYPE_RINGBUF" | "BPF_MAP_TYPE_USER_RINGBUF" | "BPF_MAP_TYPE_ARENA")) => {
            return Reading::unread(format!("what a {name} holds is no table: `--maps` has its state"));
        }
        Some(name) => return Reading::unread(format!("there is no reader for {name}")),
        None => return Reading::unread(format!("the kernel has no name for map type {}", map.map_type)),
    };
    read.unwrap_or_else(|error| Reading {
        cut: Some(error.to_string()),
        contents: MapContents::Unread { why: error.to_string() },
    })
}

impl Reading {
    fn unread(why: String) -> Self {
        Self { contents: MapContents::Unread { why }, cut: None }
    }
}

fn size_of(contents: &MapContents) -> usize {
    match contents {
        MapContents::Array { values } | MapContents::PerCpuArray { values, .. } => values.len(),
        MapContents::Hash { keys, values } | MapContents::PerCpuHash { keys, values, .. } => {
            keys.len() + values.len()
        }
        MapContents::Unread { .. } => 0,
    }
}

/// Largest BTF of a program that is kept, in bytes.
const MAX_BTF_BYTES: u32 = 8 << 20;
/// Most different BTF objects of one run.
const MAX_KNOWN: usize = 4096;

/// The BTF objects that were met.
#[derive(Debug, Default)]
struct TypeBlobs {
    known: HashMap<Key, BlobId>,
}

/// What tells BTF objects of a boot apart: their ids are never given twice, the rest guards against torn reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    at: KernelVirt,
    id: u32,
    data: KernelVirt,
    len: u32,
}

impl TypeBlobs {
    /// The blob of the `struct btf` at `at`, and its bytes if it was not met before. `None` for maps without types, and
    /// for those whose types are the kernel's.
    pub fn of(
        &mut self,
        view: &KernelView<'_>,
        at: KernelVirt,
    ) -> Result<Option<(BlobId, Option<Blob>)>, KernelError> {
        if at.0 == 0 {
            return Ok(None);
        }
        let btf: Btf = view.mirror(at)?;
        if btf.kernel_btf.is_ok_and(|kernel| kernel != 0) {
            return Ok(None);
        }
        let key = Key { at, id: btf.id, data: btf.data, len: btf.data_size };
        if let Some(&id) = self.known.get(&key) {
            return Ok(Some((id, None)));
        }
        if btf.data_size > MAX_BTF_BYTES || self.known.len() >= MAX_KNOWN {
            let why = format!("its {} bytes are too many, or there are too many like it", btf.data_size);
            return Err(KernelError::Broken { what: "struct btf", at, why });
        }
        let fresh = blob(BlobRole::ProgramBtf, view.bytes(btf.data, btf.data_size as usize)?);
        self.known.insert(key, fresh.id);
        Ok(Some((fresh.id, Some(fresh))))
    }
}

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

/// Each `struct_ops` map, with where it is.
///
/// # Errors
/// As [`maps_of_type`].
pub(in crate::kernel) fn all_struct_ops(
    view: &KernelView<'_>,
) -> Result<Vec<(KernelVirt, BpfMap)>, KernelError> {
    maps_of_type(view, "BPF_MAP_TYPE_STRUCT_OPS")
}

/// Where each `struct_ops` map is, and the kernel type of its value.
///
/// # Errors
/// As [`maps_of_type`].
pub(in crate::kernel) fn struct_ops_maps(
    view: &KernelView<'_>,
) -> Result<Vec<(KernelVirt, u32)>, KernelError> {
    let found = all_struct_ops(view)?;
    Ok(found.into_iter().map(|(at, map)| (at, map.btf_vmlinux_value_type_id)).collect())
}
