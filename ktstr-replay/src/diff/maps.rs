//! Entries of maps, by key.

use super::{Change, Part, compare_named};
use crate::value::{MapEntry, MapView, Snapshot};

/// Entries of a map that are looked at.
const ENTRIES: usize = 10_000;

/// Compare the maps of each name. What is a global variable is none of them.
pub(super) fn compare(capture: &str, a: &Snapshot<'_>, b: &Snapshot<'_>, changes: &mut Vec<Change>) {
    compare_named(Part::Maps, Some(capture), entries(a), entries(b), changes);
}

fn entries(snapshot: &Snapshot<'_>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for map in snapshot.maps().filter(|map| !is_variables(&map.state().name)) {
        let name = &map.state().name;
        match map.entries() {
            Ok(entries) => all.extend(entries.iter().take(ENTRIES).map(|entry| one(name, &map, entry))),
            Err(why) => all.push((name.clone(), format!("unread: {why}"))),
        }
    }
    all
}

/// `.bss`, `.data` and `.rodata` of an object, and sections like `.data.once`.
fn is_variables(name: &str) -> bool {
    name.split('.').skip(1).any(|part| matches!(part, "bss" | "data" | "rodata"))
}

fn one(name: &str, map: &MapView<'_>, entry: &MapEntry<'_>) -> (String, String) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let key = match (entry.key_bytes(), entry.key()) {
        (None, _) => entry.position().to_string(),
        (Some(_), Ok(key)) => key.render(),
        (Some(bytes), Err(_)) => hex(bytes),
    };
    let value = match entry.cpus() {
        [] => entry.value().map_or_else(|_| hex(entry.value_bytes()), |value| value.render()),
        cpus => {
            let each = cpus.iter().map(|&cpu| match entry.cpu(cpu) {
                Ok(value) => format!("{cpu}: {}", value.render()),
                Err(why) => format!("{cpu}: {why}"),
            });
            each.collect::<Vec<_>>().join(", ")
        }
    };
    debug_assert_eq!(name, map.state().name);
    (format!("{name}[{key}]"), value)
}
