//! Variables and maps at captures of the same name.

use std::collections::HashMap;

use super::{Change, Part, compare_named, maps};
use crate::run::Run;
use crate::trace::record::Sample;
use crate::value::{Snapshot, leaves};

/// Compare the captures that both runs have. Returns how many those are.
pub(super) fn compare(a: &Run<'_>, b: &Run<'_>, parts: &[Part], changes: &mut Vec<Change>) -> usize {
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
            maps::compare(&name, &in_a, &in_b, changes);
        }
    }
    compared
}

/// The captures that were taken, by tag; from the second of a tag on with its number.
fn named<'r>(run: &'r Run<'_>) -> Vec<(String, &'r Sample)> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let taken = run.samples.iter().filter(|sample| sample.missed.is_none());
    let named = taken.map(|sample| {
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
