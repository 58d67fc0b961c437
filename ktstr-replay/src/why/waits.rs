//! The sentences about captures that were taken while somebody waited for long.

use crate::run::Run;
use crate::trace::record::Sample;

use super::{Evidence, SchedulerEnd, Sentence};

/// Waits that are told, of those before the end.
const TOLD: usize = 3;

/// The last waits that were told before the scheduler's end, or before the run's.
pub(super) fn waits(run: &Run<'_>, end: &SchedulerEnd) -> Vec<Sentence> {
    let in_time = |at| end.exit.as_ref().is_none_or(|exit| at <= exit.at_ns);
    let told = run.long_waits().rev().filter(|(at, _)| in_time(*at)).take(TOLD);
    told.map(|(at, wait)| {
        let capture = wait.sample.and_then(|index| run.sample(index));
        let text = match capture {
            Some(Sample { tag, .. }) => format!("{}: {tag} was taken then", wait.in_words()),
            None => wait.in_words(),
        };
        let place = capture.map_or_else(|| "long_wait".to_owned(), |sample| sample.tag.clone());
        Sentence::at(Some(run.since_start_ns(at)), Evidence::Seen(vec![place]), text)
    })
    .collect()
}
