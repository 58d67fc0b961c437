//! BPF maps as a table.

use serde_json::{Value as Json, json};

use super::{OpenCheckpoint, Shown};
use crate::columns::{MAPS, MapRow, lay_out};
use crate::kernel::maps::{BpfObjects, MapDetail, MapObject};
use crate::kernel::{Gaps, KernelError};

/// All maps; those of the running scheduler are marked, and of several schedulers the one that each is of is named.
pub(super) fn show(checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
    let objects = BpfObjects::read(&checkpoint.kernel())?;
    let lines = lay_out(MAPS, MapRow::all(&objects).iter());
    let maps: Vec<Json> = objects.maps().iter().map(|map| json_of(&objects, map)).collect();
    let gaps = gaps(&objects);
    Ok(Shown::new(lines, &gaps, &json!({ "maps": maps, "gaps": gaps })))
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
    if !map.schedulers.is_empty() {
        out["schedulers"] = json!(map.schedulers);
    }
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
