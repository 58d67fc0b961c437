//! Variables of the scheduler that moved, and then did not.

use crate::run::Run;
use crate::text::seconds;
use crate::trace::record::Sample;
use crate::value::changing;
use crate::value::{Snapshot, Value};

use super::Sentence;

/// Variables of each sort that are told.
const TOLD: usize = 4;
/// Captures of which it is told what stopped at them.
const STOPS: usize = 2;

/// Of the captures up to the end: the variables that had moved before and did not over the last of them, and those of
/// named values (enums) that changed.
pub(super) fn tell(run: &Run<'_>) -> Vec<Sentence> {
    let exit = run.scheduler_exit();
    let until = exit.as_ref().map_or(u64::MAX, |exit| exit.at_ns);
    let usable = |s: &&Sample| s.missed.is_none() && !s.maps.is_empty() && s.guest_ns <= until;
    let samples: Vec<&Sample> = run.samples.iter().filter(usable).collect();
    let snapshots: Vec<Snapshot<'_>> = samples.iter().map(|s| run.samples.snapshot(s)).collect();
    let Some(last) = snapshots.last() else { return Vec::new() };
    let (mut told, mut stuck) = (Vec::new(), Vec::new());
    for (name, value) in changing(last) {
        let history: Vec<Option<Value<'_>>> = snapshots.iter().map(|s| s.var(&name).ok()).collect();
        // The last capture whose value is another than the one after it has.
        let same = |at: &usize| matches!((&history[*at], &history[at + 1]), (Some(a), Some(b)) if a.same(b));
        let Some(changed) = (0..history.len() - 1).rev().find(|at| !same(at)) else { continue };
        let (Some(before), Some(after)) = (&history[changed], &history[changed + 1]) else { continue };
        if let (Ok(Some(old)), Ok(Some(new))) = (before.enumerator(), after.enumerator()) {
            let (from, to) = (samples[changed], samples[changed + 1]);
            let text = format!(
                "{name} was {old} in {} ({}), and {new} from here on",
                from.tag,
                seconds(run.since_start_ns(from.guest_ns))
            );
            told.push((to.guest_ns, Sentence::at(run, to, text)));
        } else if changed + 2 < history.len() && only_rose(&history) {
            // Still over two captures at least.
            stuck.push((samples[changed + 1], name, value.render()));
        }
    }
    told.truncate(TOLD);
    // Those that stopped last: what stopped long before is seldom of the end.
    let mut checkpoints: Vec<&Sample> = stuck.iter().map(|(sample, ..)| *sample).collect();
    checkpoints.sort_by_key(|sample| std::cmp::Reverse(sample.index));
    checkpoints.dedup_by_key(|sample| sample.index);
    for (first, end) in checkpoints.into_iter().take(STOPS).zip(samples.last().into_iter().cycle()) {
        let together = stuck.iter().filter(|(sample, ..)| sample.index == first.index);
        let each: Vec<_> = together.map(|(_, name, value)| format!("{name} {value}")).collect();
        let more = each.len().saturating_sub(TOLD);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        let text = format!(
            "what had only risen before did not from here to {} ({}): {}{more}",
            end.tag,
            seconds(run.since_start_ns(end.guest_ns)),
            each.into_iter().take(TOLD).collect::<Vec<_>>().join(", ")
        );
        told.push((first.guest_ns, Sentence::at(run, first, text)));
    }
    told.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    told.into_iter().map(|(_, sentence)| sentence).collect()
}

/// They are numbers, none smaller than the one before it.
fn only_rose(history: &[Option<Value<'_>>]) -> bool {
    let numbers: Vec<_> = history.iter().flatten().map(|value| value.as_u64().ok()).collect();
    numbers.iter().all(Option::is_some) && numbers.is_sorted()
}
