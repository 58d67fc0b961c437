//! One BPF map, entry by entry.

use std::cell::{Cell, OnceCell};

use serde_json::{Value as Json, json};

use super::maps::{gaps, json_of};
use super::{OpenCheckpoint, Shown};
use crate::kernel::maps::{BpfObjects, MapObject};
use crate::kernel::proven::Proof;
use crate::kernel::query::{Landmark, Landmarks, each_node, pointee, proof_of};
use crate::kernel::{KernelError, KernelView};
use crate::text::Candidates;
use crate::text::clean;
use crate::text::{Align, layout};
use crate::units::Cpu;
use crate::value::{Beyond, MapEntry, Scalar, Value, ValueError};

/// Longest name that the kernel keeps, in bytes.
const NAME_BYTES: usize = 15;

/// The maps of that name, or the one of that id. With `follow`, what pointers point at stands beside them.
pub(super) fn show(
    checkpoint: &OpenCheckpoint<'_>,
    wanted: &str,
    follow: bool,
) -> Result<Shown, KernelError> {
    let kernel = checkpoint.kernel();
    let objects = BpfObjects::read(&kernel)?;
    let landmarks = OnceCell::new();
    // Something in an arena is pointed at that nothing gives a type to.
    let untyped = Cell::new(false);
    let landmark = |at: u64| {
        let landmarks = landmarks.get_or_init(|| Landmarks::of(&kernel)).as_ref().ok()?;
        let found = landmarks.at(at)?;
        untyped.set(untyped.get() || matches!(found, Landmark::Arena { .. }));
        Some(json!(found))
    };
    let names = |value: &Value<'_>| match value.scalar().ok()? {
        Scalar::Pointer(at) if follow => landmark(at),
        // A number as wide as an address may be one.
        Scalar::Int(number) if follow && value.width_bits() == 64 => landmark(u64::try_from(number).ok()?),
        _ => None,
    };
    let points_at = |value: &Value<'_>| {
        if value.container().is_some() {
            return Some(nodes(&kernel, value));
        }
        // Code has its own view, and a pointer into a process's memory says all that there is to say.
        if !follow || value.is_function().ok()? {
            return None;
        }
        let known = |at: u64| pointee(&kernel, value, &format!("{at:#x}"), |object| object.to_json()).ok();
        let scalar = value.scalar().ok()?;
        if let (Some(proof), Some(at)) = (proof_of(&kernel, value), address(scalar)) {
            // Of a task, its name is enough.
            let all = landmarks.get_or_init(|| Landmarks::of(&kernel)).as_ref().ok();
            if let Some(task @ Landmark::Task { .. }) = all.and_then(|all| all.at(at)) {
                return Some(json!(task));
            }
            if let Some(known) = known(at) {
                return Some(json!({ "type": proof.type_name(), "value": known }));
            }
        }
        match scalar {
            Scalar::Pointer(at @ 1..) => known(at).or_else(|| landmark(at)),
            _ => names(value),
        }
    };
    let kept = wanted.get(..NAME_BYTES).unwrap_or(wanted);
    let is_it = |map: &&MapObject| {
        map.state.name == wanted || map.state.name == kept || wanted.parse() == Ok(map.state.id)
    };
    let found: Vec<&MapObject> = objects.maps().iter().filter(is_it).collect();
    if found.is_empty() {
        let names = objects.maps().iter().map(|map| map.state.name.as_str());
        let candidates = Box::new(Candidates::new(wanted, names));
        return Err(KernelError::NoMap { name: wanted.to_owned(), candidates });
    }
    let mut lines = Vec::new();
    let mut all = Vec::new();
    for map in found {
        lines.push(clean(&title(&objects, map)));
        let entries = entries(&objects, map, &names, &points_at);
        match &entries {
            Ok(entries) => lines.extend(table(entries).into_iter().map(|line| format!("  {line}"))),
            Err(why) => lines.push(clean(&format!("  not a table: {why}"))),
        }
        let mut json = json_of(&objects, map);
        if follow {
            let proven = proven(&kernel, &objects, map);
            lines.extend(proven.iter().map(|one| clean(&format!("  {}", one.line()))));
            if !proven.is_empty() {
                json["proven"] = proven.iter().map(Proven::json).collect();
            }
        }
        if untyped.take() {
            lines.push(format!("  {UNTYPED}"));
            json["untyped"] = json!(UNTYPED);
        }
        let shown =
            entries.unwrap_or_default().into_iter().map(|(key, value)| json!({ "key": key, "value": value }));
        json["contents"] = shown.collect();
        all.push(json);
    }
    let mut gaps = gaps(&objects);
    if follow {
        match kernel.proven() {
            Ok(proven) => proven.faults().iter().for_each(|fault| gaps.fault(fault)),
            Err(error) => gaps.fault(format!("what the programs prove: {error}")),
        }
    }
    Ok(Shown::new(lines, &gaps, &json!({ "maps": all, "gaps": gaps })))
}

fn address(scalar: Scalar) -> Option<u64> {
    match scalar {
        Scalar::Pointer(at) => Some(at),
        Scalar::Int(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

/// A word of a map's values whose type the programs prove.
struct Proven {
    offset_bytes: u32,
    name: Option<String>,
    type_name: String,
    by: String,
}

impl Proven {
    fn line(&self) -> String {
        let offset = || format!("the word at {}", self.offset_bytes);
        let name = self.name.clone().unwrap_or_else(offset);
        format!("{name} is a {}, by the programs' instructions: {}", self.type_name, self.by)
    }

    fn json(&self) -> Json {
        json!({ "offset_bytes": self.offset_bytes, "name": self.name, "type": self.type_name, "by": self.by })
    }
}

/// The words of a map that the programs prove the type of, and that have none of their own.
fn proven(kernel: &KernelView<'_>, objects: &BpfObjects, map: &MapObject) -> Vec<Proven> {
    let Ok(all) = kernel.proven() else { return Vec::new() };
    let view = objects.view(map);
    let first = view.at(0).ok();
    let value = first.as_ref().and_then(|entry| entry.value().ok());
    let parts = value.as_ref().and_then(|value| value.parts().ok()).unwrap_or_default();
    let one = |(offset_bytes, proof): (u32, &Proof)| {
        let is_it = |part: &Value<'_>| part.place_in_map() == Some((map.state.id, offset_bytes.into()));
        let part = parts.iter().find(|(name, part)| !name.is_empty() && is_it(part));
        // A pointer to what it points at needs no proof.
        if part.is_some_and(|(_, part)| proof_of(kernel, part).is_none()) {
            return None;
        }
        let name = part.map(|(name, _)| (*name).to_owned());
        Some(Proven { offset_bytes, name, type_name: proof.type_name(), by: proof.by().to_string() })
    };
    all.of_map(map.state.id).filter_map(one).collect()
}

/// What is said of places in an arena to which the program's types give none.
const UNTYPED: &str = "into an arena, by a pointer or number that has no type: neither the programs' types nor their instructions tell what is there. Claims and `--var` read it \
                       by a cast: ((struct T *)map(m).key(1).data)->x";

/// The nodes of a tree or list, or why they cannot be walked.
fn nodes(kernel: &KernelView<'_>, value: &Value<'_>) -> Json {
    let mut found = Vec::new();
    let walked = each_node(kernel, value, "the value", |_, node| found.push(node.to_json()));
    let what = value.container().map(|container| container.describe());
    match walked {
        Ok(()) => json!({ "what": what, "nodes": found }),
        Err(error) => json!({ "what": what, "nodes": found, "error": error.to_string() }),
    }
}

fn title(objects: &BpfObjects, map: &MapObject) -> String {
    let state = &map.state;
    let whose = match (&*map.schedulers, map.of_scheduler) {
        ([], false) => String::new(),
        ([], true) => ", of the running scheduler".to_owned(),
        (several, _) => format!(", of {}", several.join(" and ")),
    };
    let entries = objects.view(map).len().map(|len| format!(", {len} of {} entries", state.max_entries));
    format!("{} {} {}{}{whose}", state.id, map.kind, state.name, entries.unwrap_or_default())
}

/// Key and value of each entry, as JSON.
fn entries(
    objects: &BpfObjects,
    map: &MapObject,
    named: &Beyond<'_>,
    beyond: &Beyond<'_>,
) -> Result<Vec<(Json, Json)>, ValueError> {
    if let Some(value) = objects.struct_ops(map) {
        return Ok(vec![(json!(0), value.json_following(beyond))]);
    }
    let view = objects.view(map);
    let entries = view.entries()?;
    Ok(entries
        .iter()
        .zip(0u64..)
        .map(|(entry, index)| (key(entry, index, named), value(entry, beyond)))
        .collect())
}

/// A key says which entry it is: of what a pointer in it points at, the name is enough.
fn key(entry: &MapEntry<'_>, index: u64, named: &Beyond<'_>) -> Json {
    match entry.key_bytes() {
        None => json!(index),
        Some(bytes) => typed(entry.key(), bytes, named),
    }
}

fn value(entry: &MapEntry<'_>, beyond: &Beyond<'_>) -> Json {
    if entry.cpus().is_empty() {
        return typed(entry.value(), entry.value_bytes(), beyond);
    }
    let each = entry.value_bytes().len() / entry.cpus().len();
    let slots = entry.value_bytes().chunks(each.max(1));
    let of_cpu = |(cpu, bytes): (&Cpu, &[u8])| (format!("cpu {cpu}"), typed(entry.cpu(*cpu), bytes, beyond));
    Json::Object(entry.cpus().iter().zip(slots).map(of_cpu).collect())
}

/// The value by its type, or its bytes in hexadecimal where it has none.
fn typed(value: Result<Value<'_>, ValueError>, bytes: &[u8], beyond: &Beyond<'_>) -> Json {
    match value {
        Ok(value) => value.json_following(beyond),
        Err(_) if bytes.len() <= 8 => {
            let number = bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
            json!(number)
        }
        Err(_) => json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

fn table(entries: &[(Json, Json)]) -> Vec<String> {
    let mut rows = vec![vec!["key".to_owned(), "value".to_owned()]];
    rows.extend(entries.iter().map(|(key, value)| vec![text(key), text(value)]));
    layout(&[Align::Left, Align::Left], &rows)
}

fn text(json: &Json) -> String {
    clean(&json.to_string())
}
