//! The sentences about maps that take no more entries.

use std::collections::BTreeSet;

use crate::columns::is_full;
use crate::run::Run;
use crate::trace::record::{CaptureKind, Sample};

use super::{Evidence, Sentence};

/// Maps that are named.
const MAPS: usize = 4;

/// The maps that were full in the last capture before the end, each with the first capture from which on it was.
pub(super) fn full(run: &Run<'_>) -> Vec<Sentence> {
    let until = run.scheduler_exit().map(|exit| exit.at_ns);
    let before = |sample: &&Sample| until.is_none_or(|until| sample.guest_ns <= until);
    let samples: Vec<&Sample> = run.with_maps().filter(before).collect();
    let entries_of = |sample: &Sample, id: u32| {
        let snapshot = run.samples.snapshot(sample);
        let map = snapshot.maps().find(|map| map.state().id == id)?;
        let (state, entries) = (map.state(), map.len().ok()?);
        is_full(state.map_type, entries as u64, state.max_entries).then_some((
            snapshot.shown_name(state),
            entries,
            state.max_entries,
        ))
    };
    // In the capture of the exit the programs may have cleaned up: what was full right before that counts.
    let is_over = |sample: &Sample, id: u32| {
        sample.kind == CaptureKind::SchedulerExit && entries_of(sample, id).is_none()
    };
    let ids: BTreeSet<u32> =
        samples.iter().rev().take(2).flat_map(|sample| sample.maps.iter().map(|map| map.id)).collect();
    let mut sentences = Vec::new();
    for id in ids {
        let behind = samples.iter().rev().skip_while(|sample| is_over(sample, id));
        let filled: Vec<&Sample> =
            behind.take_while(|sample| entries_of(sample, id).is_some()).copied().collect();
        let (Some(first), Some(latest)) = (filled.last(), filled.first()) else { continue };
        let Some((name, entries, max)) = entries_of(latest, id) else { continue };
        let text = format!("map {name} was full from here on: {entries} of {max} entries");
        let tags = filled.iter().rev().map(|sample| sample.tag.clone()).collect();
        sentences.push(Sentence { evidence: Evidence::Seen(tags), ..Sentence::seen(run, first, text) });
    }
    sentences.truncate(MAPS);
    sentences
}
