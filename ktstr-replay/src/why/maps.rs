//! The sentences about maps that take no more entries.

use crate::columns::is_full;
use crate::run::Run;
use crate::trace::record::Sample;

use super::{Evidence, Sentence};

/// Maps that are named.
const MAPS: usize = 4;

/// The maps that were full in the last capture before the end, each with the first capture from which on it was.
pub(super) fn full(run: &Run<'_>) -> Vec<Sentence> {
    let until = run.scheduler_exit().map(|exit| exit.at_ns);
    let before = |sample: &&Sample| until.is_none_or(|until| sample.guest_ns <= until);
    let samples: Vec<&Sample> = run.with_maps().filter(before).collect();
    let Some(last) = samples.last() else { return Vec::new() };
    let entries_of = |sample: &Sample, id: u32| {
        let snapshot = run.samples.snapshot(sample);
        let map = snapshot.maps().find(|map| map.state().id == id)?;
        let (state, entries) = (map.state(), map.len().ok()?);
        is_full(state.map_type, entries as u64, state.max_entries).then_some((
            state.name.clone(),
            entries,
            state.max_entries,
        ))
    };
    let ids: Vec<u32> = last.maps.iter().map(|map| map.id).collect();
    let mut sentences = Vec::new();
    for id in ids {
        let Some((name, entries, max)) = entries_of(last, id) else { continue };
        let filled = samples.iter().rev().take_while(|sample| entries_of(sample, id).is_some());
        let filled: Vec<&Sample> = filled.copied().collect();
        let Some(first) = filled.last() else { continue };
        let text = format!("map {name} was full from here on: {entries} of {max} entries");
        let tags = filled.iter().rev().map(|sample| sample.tag.clone()).collect();
        sentences.push(Sentence { evidence: Evidence::Seen(tags), ..Sentence::seen(run, first, text) });
    }
    sentences.truncate(MAPS);
    sentences
}
