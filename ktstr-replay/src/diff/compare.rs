//! What differs in each part.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::{Change, Part};
use crate::run::Run;
use crate::trace::record::{Manifest, Sample};
use crate::value::{MapEntry, Snapshot, leaves};
use crate::verdict::Verdict;

/// Keys that say when and where a run was, not what it was.
const OF_THE_TIME: [&str; 1] = ["started_at"];
/// Entries of a map that are looked at.
const ENTRIES: usize = 10_000;

/// What was run.
pub(super) fn manifests(a: &Manifest, b: &Manifest, changes: &mut Vec<Change>) {
    compare_named(Part::Manifest, None, members(a), members(b), changes);
}

fn members(manifest: &Manifest) -> Vec<(String, String)> {
    let mut leaves = Vec::new();
    flatten(String::new(), &serde_json::to_value(manifest).unwrap_or_default(), &mut leaves);
    leaves.retain(|(key, _)| !OF_THE_TIME.contains(&key.as_str()));
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

/// How the runs were judged.
pub(super) fn verdicts(a: &Verdict, b: &Verdict, changes: &mut Vec<Change>) {
    compare_named(Part::Verdict, None, outcomes(a), outcomes(b), changes);
}

/// The outcome of the whole, then that of each finding.
fn outcomes(verdict: &Verdict) -> Vec<(String, String)> {
    let whole = (String::from("outcome"), verdict.outcome().to_string());
    let findings = verdict.findings.iter();
    let findings = findings.map(|finding| (finding.what.clone(), finding.outcome.to_string()));
    std::iter::once(whole).chain(findings).collect()
}

/// Compare the captures that both runs have. Returns how many those are.
pub(super) fn captures(a: &Run<'_>, b: &Run<'_>, parts: &[Part], changes: &mut Vec<Change>) -> usize {
    let of_b: HashMap<String, &Sample> = named(b).into_iter().collect();
    let mut compared = 0;
    for (name, in_a) in named(a) {
        let Some(in_b) = of_b.get(&name) else { continue };
        compared += 1;
        let (in_a, in_b) = (a.samples.snapshot(in_a), b.samples.snapshot(in_b));
        if parts.contains(&Part::Variables) {
            compare_named(Part::Variables, Some(&name), variables(&in_a), variables(&in_b), changes);
        }
        if parts.contains(&Part::Maps) {
            maps(&name, &in_a, &in_b, changes);
        }
    }
    compared
}

/// The captures that were taken, by tag; from the second of a tag on with its number.
fn named<'r>(run: &'r Run<'_>) -> Vec<(String, &'r Sample)> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let named = run.taken().map(|sample| {
        let nth = seen.entry(&sample.tag).or_default();
        *nth += 1;
        let name = if *nth == 1 { sample.tag.clone() } else { format!("{}#{nth}", sample.tag) };
        (name, sample)
    });
    named.collect()
}

fn variables(snapshot: &Snapshot<'_>) -> Vec<(String, String)> {
    let all = leaves(snapshot.vars());
    all.into_iter().map(|(name, value)| (name, value.render())).collect()
}

/// Compare the maps of each name. What is a global variable is none of them.
fn maps(capture: &str, a: &Snapshot<'_>, b: &Snapshot<'_>, changes: &mut Vec<Change>) {
    compare_named(Part::Maps, Some(capture), entries(a), entries(b), changes);
}

fn entries(snapshot: &Snapshot<'_>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for map in snapshot.maps().filter(|map| !is_variables(&map.state().name)) {
        let name = snapshot.shown_name(map.state());
        match map.entries() {
            Ok(entries) => all.extend(entries.iter().take(ENTRIES).map(|entry| one(&name, entry))),
            Err(why) => all.push((name, format!("unread: {why}"))),
        }
    }
    all
}

/// `.bss`, `.data` and `.rodata` of an object, and sections like `.data.once`.
fn is_variables(name: &str) -> bool {
    name.split('.').skip(1).any(|part| matches!(part, "bss" | "data" | "rodata"))
}

fn one(name: &str, entry: &MapEntry<'_>) -> (String, String) {
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
    (format!("{name}[{key}]"), value)
}

/// Differences between two lists of named texts, by name.
fn compare_named(
    part: Part,
    capture: Option<&str>,
    a: impl IntoIterator<Item = (String, String)>,
    b: impl IntoIterator<Item = (String, String)>,
    changes: &mut Vec<Change>,
) {
    let mut b: BTreeMap<_, _> = b.into_iter().collect();
    let mut change = |what, a, b| {
        let capture = capture.map(str::to_owned);
        changes.push(Change { part, capture, what, a, b });
    };
    for (what, a) in a {
        match b.remove(&what) {
            Some(b) if b == a => {}
            b => change(what, Some(a), b),
        }
    }
    for (what, b) in b {
        change(what, None, Some(b));
    }
}
