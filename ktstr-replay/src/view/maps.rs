//! BPF maps as a table.

use serde_json::{Value as Json, json};

use super::{OpenCheckpoint, Shown, cell};
use crate::kernel::maps::{BpfObjects, MapDetail, MapObject};
use crate::kernel::{Gaps, KernelError};
use crate::text::clean;
use crate::text::table::{Align, layout};
use crate::trace::record::MapContents;

/// All maps; those of the running scheduler are marked.
pub(super) fn show(checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
    let objects = BpfObjects::read(&checkpoint.kernel())?;
    let head = ["id", "type", "name", "key", "value", "entries", "max", "", "state"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(objects.maps().iter().map(|map| row(&objects, map)));
    let mut align = [Align::Right; 9];
    for left in [1, 2, 7, 8] {
        align[left] = Align::Left;
    }
    let maps: Vec<Json> = objects.maps().iter().map(|map| json_of(&objects, map)).collect();
    let gaps = gaps(&objects);
    Ok(Shown::new(layout(&align, &rows), &gaps, &json!({ "maps": maps, "gaps": gaps })))
}

fn row(objects: &BpfObjects, map: &MapObject) -> Vec<String> {
    let state = &map.state;
    vec![
        state.id.to_string(),
        clean(&map.kind),
        clean(&state.name),
        state.key_size.to_string(),
        state.value_size.to_string(),
        cell(objects.view(map).len().ok()),
        state.max_entries.to_string(),
        if map.of_scheduler { "*" } else { "" }.to_owned(),
        clean(&summary(objects, map)),
    ]
}

/// What there is to say of a map beside its entries.
fn summary(objects: &BpfObjects, map: &MapObject) -> String {
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

pub(super) fn json_of(objects: &BpfObjects, map: &MapObject) -> Json {
    let state = &map.state;
    let operations: serde_json::Map<String, Json> = objects
        .operations(map)
        .iter()
        .map(|(name, program)| ((*name).to_owned(), json!({ "id": program.id, "name": program.name })))
        .collect();
    let mut out = json!({
        "id": state.id,
        "type": map.kind,
        "name": state.name,
        "bytes_key": state.key_size,
        "bytes_value": state.value_size,
        "max_entries": state.max_entries,
        "of_scheduler": map.of_scheduler,
    });
    match &map.detail {
        Some(MapDetail::Ring(ring)) => out["ring"] = json!(ring),
        Some(MapDetail::Arena(arena)) => out["arena"] = json!(arena),
        None => match objects.view(map).len() {
            Ok(entries) => out["entries"] = json!(entries),
            Err(why) => out["unread"] = json!(why.to_string()),
        },
    }
    if !operations.is_empty() {
        out["operations"] = Json::Object(operations);
    }
    out
}

/// What could not be read of maps and programs.
pub(super) fn gaps(objects: &BpfObjects) -> Gaps {
    let mut gaps = Gaps::default();
    for fault in objects.faults() {
        gaps.fault(fault);
    }
    gaps
}
