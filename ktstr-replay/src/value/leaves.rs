//! A value taken apart into what has no parts.

use super::{Snapshot, Value};
use crate::btf::Kind;

/// Deepest struct that is taken apart.
const DEPTH: usize = 4;
/// Leaves that are looked at; types from strangers can have any number.
const LEAVES: usize = 2000;

/// A number, text or array, by its path.
pub type Leaf<'v> = (String, Value<'v>);

/// The leaves of each of these named values, a struct's members by `NAME.MEMBER`. At most 2000 in all.
#[must_use]
pub fn leaves<'v>(values: impl IntoIterator<Item = Leaf<'v>>) -> Vec<Leaf<'v>> {
    let mut leaves = Vec::new();
    for (name, value) in values {
        flatten(name, value, 0, &mut leaves);
    }
    leaves
}

/// The leaves of a struct, or the value itself where it is none.
fn flatten<'v>(name: String, value: Value<'v>, depth: usize, leaves: &mut Vec<Leaf<'v>>) {
    if leaves.len() >= LEAVES {
        return;
    }
    let parts = value.parts().unwrap_or_default();
    // A union's members are the same bytes, and a nameless member has no path.
    let is_struct = value.types().resolve(value.type_id()).is_ok_and(|(id, _)| {
        value.types().kind(id) == Ok(Kind::Struct) && parts.iter().all(|(name, _)| !name.is_empty())
    });
    if !is_struct || depth >= DEPTH || parts.is_empty() {
        leaves.push((name, value));
        return;
    }
    for (part, value) in parts {
        flatten(format!("{name}.{part}"), value, depth + 1, leaves);
    }
}

/// The numbers, texts and arrays in the variables of a capture that can change.
pub(crate) fn changing<'v>(snapshot: &'v Snapshot<'_>) -> Vec<Leaf<'v>> {
    leaves(snapshot.vars().into_iter().filter(|(name, _)| !is_constant(name)))
}

/// `.rodata` does not change while the scheduler runs.
fn is_constant(name: &str) -> bool {
    name.split('.').take(2).any(|part| part == "rodata")
}
