//! Limits on how often sched_ext counts an event, by the counters in the checkpoints.

use super::limit::{Bound, Clock, Limit, number};
use super::monitor::{Point, place, sustained};
use crate::run::{Checkpoints, Run};
use crate::series::{Counters, FALLBACK, KEEP_LAST, rate};
use crate::trace::record::{Sample, Thresholds};
use crate::verdict::{Finding, Outcome};

/// The counters of the scheduler at one capture, or why there are none.
struct Counted<'r> {
    sample: &'r Sample,
    counters: Counters,
}

pub(super) fn judge(run: &Run<'_>, limits: &Thresholds) -> Vec<Finding> {
    let asked = [
        ("max_fallback_rate", FALLBACK, limits.max_fallback_rate),
        ("max_keep_last_rate", KEEP_LAST, limits.max_keep_last_rate),
    ];
    let asked: Vec<_> =
        asked.iter().filter_map(|(what, event, rate)| Some((*what, *event, (*rate)?))).collect();
    if asked.is_empty() {
        return Vec::new();
    }
    let counted = counters(run);
    let of = |(what, event, rate)| {
        let limit = Limit { what, bound: Bound::AtMost(rate), show: per_second, clock: Clock::of(run) };
        match &counted {
            Err(why) => limit.finding(Outcome::Inconclusive, why.clone()),
            Ok(counted) => {
                let points: Vec<Point> =
                    counted.windows(2).filter_map(|pair| between(run, event, pair)).collect();
                sustained(limit, limits.sustained_samples, &points, NO_PAIR)
            }
        }
    };
    asked.into_iter().map(of).collect()
}

/// Why there is no rate.
const NO_PAIR: &str =
    "there are no two captures with a checkpoint while the scheduler was enabled (`checkpoint` of the test)";

fn per_second(rate: f64) -> String {
    format!("{}/s", number(rate))
}

/// The counters at each capture that has memory and at which a scheduler was enabled.
fn counters<'r>(run: &'r Run<'_>) -> Result<Vec<Counted<'r>>, String> {
    let checkpoints =
        Checkpoints::of(run).map_err(|error| format!("sched_ext's counters are in checkpoints: {error}"))?;
    let mut found = Vec::new();
    for info in checkpoints.all() {
        let Some(sample) = info.sample.and_then(|index| run.sample(index)) else { continue };
        if !sample.scx.as_ref().is_some_and(crate::trace::record::ScxState::is_enabled) {
            continue;
        }
        let counters = match checkpoints.open(*info) {
            Ok(open) => Counters::read(&open.kernel()),
            Err(error) => Counters { scheduler: 0, counts: Err(error.to_string()) },
        };
        found.push(Counted { sample, counters });
    }
    Ok(found)
}

/// The rate between two captures in a row; `None`: they are of different schedulers.
fn between(run: &Run<'_>, event: &str, pair: &[Counted<'_>]) -> Option<Point> {
    let [one, two] = pair else { return None };
    let at = format!("{} to {}", one.sample.tag, place(run, two.sample));
    let rate = rate(event, (one.sample, &one.counters), (two.sample, &two.counters))?;
    Some(Point { at, value: rate.map(|(rate, events)| (rate, format!("{events} {event},"))) })
}
