//! The sentences about the scheduler's variables: which moved, and then did not, and which changed their named value.

use std::cmp::Reverse;

use crate::run::Run;
use crate::text::seconds;
use crate::trace::record::Sample;
use crate::units::GuestNs;
use crate::value::{Snapshot, Value, changing};

use super::{Evidence, Sentence};

/// Variables of each sort that are named.
const VARIABLES: usize = 4;
/// Captures of which it is said what stopped at them.
const STOPPED: usize = 2;

/// Of the captures up to the end: the variables that had moved before and did not over the last of them, and those of
/// named values (enums) that changed.
pub(super) fn variables(run: &Run<'_>) -> Vec<Sentence> {
    let exit = run.scheduler_exit();
    let until = exit.as_ref().map_or(GuestNs(u64::MAX), |exit| exit.at_ns);
    let samples: Vec<&Sample> = run.with_maps().filter(|sample| sample.guest_ns <= until).collect();
    let snapshots: Vec<Snapshot<'_>> = samples.iter().map(|s| run.samples.snapshot(s)).collect();
    let Some(last) = snapshots.last() else { return Vec::new() };
    let (mut sentences, mut stuck) = (Vec::new(), Vec::new());
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
            let both = Evidence::Seen(vec![from.tag.clone(), to.tag.clone()]);
            sentences.push((to.guest_ns, Sentence { evidence: both, ..Sentence::seen(run, to, text) }));
        } else if changed + 2 < history.len() && only_rose(&history) {
            // Still over two captures at least.
            stuck.push((samples[changed + 1], name, value.render()));
        }
    }
    sentences.truncate(VARIABLES);
    // Those that stopped last: what stopped long before is seldom of the end.
    let mut stopped_at: Vec<&Sample> = stuck.iter().map(|(sample, ..)| *sample).collect();
    stopped_at.sort_by_key(|sample| Reverse(sample.index));
    stopped_at.dedup_by_key(|sample| sample.index);
    for (first, end) in stopped_at.into_iter().take(STOPPED).zip(samples.last().into_iter().cycle()) {
        let together = stuck.iter().filter(|(sample, ..)| sample.index == first.index);
        let each: Vec<_> = together.map(|(_, name, value)| format!("{name} {value}")).collect();
        let more = each.len().saturating_sub(VARIABLES);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        let text = format!(
            "what had only risen before did not from here to {} ({}): {}{more}",
            end.tag,
            seconds(run.since_start_ns(end.guest_ns)),
            each.into_iter().take(VARIABLES).collect::<Vec<_>>().join(", ")
        );
        let from = samples.iter().filter(|sample| sample.index >= first.index);
        let all = Evidence::Seen(from.map(|sample| sample.tag.clone()).collect());
        sentences.push((first.guest_ns, Sentence { evidence: all, ..Sentence::seen(run, first, text) }));
    }
    sentences.sort_by_key(|(at, _)| Reverse(*at));
    sentences.into_iter().map(|(_, sentence)| sentence).collect()
}

/// They are numbers, none smaller than the one before it.
fn only_rose(history: &[Option<Value<'_>>]) -> bool {
    let numbers: Vec<_> = history.iter().flatten().map(|value| value.as_u64().ok()).collect();
    numbers.iter().all(Option::is_some) && numbers.is_sorted()
}
