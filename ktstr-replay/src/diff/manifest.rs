//! What was run.

use serde_json::Value;

use super::{Change, Part, compare_named};
use crate::trace::record::Manifest;

/// Keys that say when and where a run was, not what it was.
const OF_THE_MOMENT: [&str; 1] = ["started_at"];

pub(super) fn compare(a: &Manifest, b: &Manifest, changes: &mut Vec<Change>) {
    compare_named(Part::Manifest, None, leaves(a), leaves(b), changes);
}

fn leaves(manifest: &Manifest) -> Vec<(String, String)> {
    let mut leaves = Vec::new();
    flatten(String::new(), &serde_json::to_value(manifest).unwrap_or_default(), &mut leaves);
    leaves.retain(|(key, _)| !OF_THE_MOMENT.contains(&key.as_str()));
    leaves
}

/// Objects are taken apart; an array is one leaf.
fn flatten(key: String, value: &Value, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(key, value, leaves);
            }
        }
        Value::Null => {}
        Value::String(text) => leaves.push((key, text.clone())),
        other => leaves.push((key, other.to_string())),
    }
}
