//! All maps at one moment.

use super::local::Owner;
use super::refs::Target;
use super::types::TypeBlobs;
use super::{BpfMap, array, hash, local, queue, refs, struct_ops};
use crate::kernel::xarray::idr_entries;
use crate::kernel::{Cpus, KernelError, KernelView};
use crate::trace::record::{Blob, MapContents, MapState};
use crate::units::KernelVirt;

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
pub struct MapsRead {
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
pub struct MapReader {
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
        Some("BPF_MAP_TYPE_ARRAY") => array::read(view, map, at, *room),
        Some("BPF_MAP_TYPE_PERCPU_ARRAY") => array::read_per_cpu(view, cpus, map, at, *room),
        Some("BPF_MAP_TYPE_HASH" | "BPF_MAP_TYPE_LRU_HASH") => hash::read(view, map, at, room),
        Some("BPF_MAP_TYPE_PERCPU_HASH" | "BPF_MAP_TYPE_LRU_PERCPU_HASH") => {
            hash::read_per_cpu(view, cpus, map, at, room)
        }
        Some("BPF_MAP_TYPE_QUEUE") => queue::read(view, map, at, *room, false),
        Some("BPF_MAP_TYPE_STACK") => queue::read(view, map, at, *room, true),
        Some("BPF_MAP_TYPE_TASK_STORAGE") => local::read(view, map, at, *room, Owner::Task),
        Some("BPF_MAP_TYPE_CGRP_STORAGE") => local::read(view, map, at, *room, Owner::Cgroup),
        Some("BPF_MAP_TYPE_INODE_STORAGE") => local::read(view, map, at, *room, Owner::Inode),
        Some("BPF_MAP_TYPE_ARRAY_OF_MAPS") => refs::read_array(view, map, at, *room, Target::Map),
        Some("BPF_MAP_TYPE_PROG_ARRAY") => refs::read_array(view, map, at, *room, Target::Program),
        Some("BPF_MAP_TYPE_HASH_OF_MAPS") => refs::read_hash(view, map, at, room),
        Some("BPF_MAP_TYPE_STRUCT_OPS") => struct_ops::read(view, map, at, *room),
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
