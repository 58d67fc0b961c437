//! Columns of the BPF maps.

use super::{Cell, Column};
use crate::kernel::maps::{BpfObjects, MapDetail, MapObject};
use crate::text::clean;
use crate::trace::record::MapContents;

/// A map, and what tells the types of its values.
pub(crate) struct MapRow {
    map: MapObject,
    entries: Option<u64>,
    about: String,
}

impl MapRow {
    /// The rows of all maps.
    pub(crate) fn all(objects: &BpfObjects) -> Vec<Self> {
        let row = |map: &MapObject| Self {
            map: map.clone(),
            entries: objects.view(map).len().ok().map(|len| len as u64),
            about: about(objects, map),
        };
        objects.maps().iter().map(row).collect()
    }
}

/// The columns, in the order of the view.
pub(crate) const MAPS: &[Column<MapRow>] = &[
    Column::<MapRow>::right("id", "id", |row| Cell::number(Some(row.map.state.id))),
    Column::<MapRow>::left("type", "type", |row| Cell::Text(row.map.kind.clone())),
    Column::<MapRow>::left("name", "name", |row| Cell::Text(row.map.state.name.clone())),
    Column::<MapRow>::right("key", "key", |row| Cell::number(Some(row.map.state.key_size))),
    Column::<MapRow>::right("value", "value", |row| Cell::number(Some(row.map.state.value_size))),
    Column::<MapRow>::right("entries", "entries", |row| Cell::number(row.entries)),
    Column::<MapRow>::right("max", "max", |row| Cell::number(Some(row.map.state.max_entries))),
    Column::<MapRow>::left("of_scheduler", "", |row| Cell::number(Some(row.map.of_scheduler))).showing(
        |row| match (&*row.map.schedulers, row.map.of_scheduler) {
            ([], false) => String::new(),
            ([], true) => "*".to_owned(),
            (several, _) => clean(&several.join(" and ")),
        },
    ),
    Column::<MapRow>::left("about", "state", |row| Cell::Text(row.about.clone())),
    Column::<MapRow>::hidden("scheduler", |row| {
        Cell::text((!row.map.schedulers.is_empty()).then(|| row.map.schedulers.join(" and ")))
    }),
    Column::<MapRow>::hidden("pages", |row| match row.map.detail {
        Some(MapDetail::Arena(arena)) => Cell::number(Some(arena.mapped_pages)),
        _ => Cell::None,
    }),
    Column::<MapRow>::hidden("pending_bytes", |row| match row.map.detail {
        Some(MapDetail::Ring(ring)) => Cell::number(Some(ring.pending_bytes())),
        _ => Cell::None,
    }),
];

/// Kinds of maps that refuse an entry when they have as many as they may: hashes, queues and stacks. Others have all their entries
/// from the beginning, or drop an old one. The numbers are those of `enum bpf_map_type` in `include/uapi/linux/bpf.h`.
const REFUSING: [u32; 4] = [1, 5, 22, 23];

/// Whether a map with so many entries takes no more.
pub(crate) fn is_full(map_type: u32, entries: u64, max_entries: u32) -> bool {
    REFUSING.contains(&map_type) && entries >= u64::from(max_entries)
}

/// What there is to say of a map beside its entries.
fn about(objects: &BpfObjects, map: &MapObject) -> String {
    match &map.detail {
        Some(MapDetail::Ring(ring)) => format!(
            "{} of {} bytes wait: {} records, {} being written, {} discarded",
            ring.pending_bytes(),
            ring.size_bytes,
            ring.ready,
            ring.busy,
            ring.discarded
        ),
        Some(MapDetail::Arena(arena)) => format!(
            "{} of {} pages, user {:#x} to {:#x}",
            arena.mapped_pages, arena.max_pages, arena.user_start, arena.user_end
        ),
        None => {
            let operations = objects.operations(map);
            match &map.state.contents {
                MapContents::Unread { why } => why.clone(),
                _ if objects
                    .view(map)
                    .len()
                    .is_ok_and(|len| is_full(map.state.map_type, len as u64, map.state.max_entries)) =>
                {
                    "full".to_owned()
                }
                _ if operations.is_empty() => String::new(),
                _ => {
                    let names: Vec<_> =
                        operations.iter().map(|(name, program)| format!("{name}={}", program.name)).collect();
                    names.join(" ")
                }
            }
        }
    }
}
