//! Limits on how often sched_ext counts an event, by the counters in the checkpoints.

use std::collections::BTreeMap;

use super::limit::{Bound, Clock, Limit, number};
use super::monitor::{Point, place, sustained};
use crate::kernel::scx::read_schedulers;
use crate::run::{Checkpoints, Run};
use crate::trace::record::{Sample, Thresholds};
use crate::verdict::{Finding, Outcome};

/// `ops.select_cpu` gave a CPU that the task may not run on, and the kernel took another.
const FALLBACK: &str = "SCX_EV_SELECT_CPU_FALLBACK";
/// A task went on because its CPU had no other.
const KEEP_LAST: &str = "SCX_EV_DISPATCH_KEEP_LAST";

/// The counters of the scheduler at one capture, or why there are none.
struct Counted<'r> {
    sample: &'r Sample,
    /// Where its `struct scx_sched` is: another scheduler begins anew.
    scheduler: u64,
    counts: Result<BTreeMap<String, i64>, String>,
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
        let (mut scheduler, mut counts) = (0, Err("sched_ext has no scheduler there".to_owned()));
        match checkpoints.open(*info) {
            Err(error) => counts = Err(error.to_string()),
            Ok(open) => {
                let read = read_schedulers(&open.kernel());
                let fault = read
                    .iter()
                    .flat_map(|all| &all.gaps.faults)
                    .find(|fault| fault.starts_with("event counters"));
                if let Some(root) = read.as_ref().and_then(|all| all.schedulers.first()) {
                    scheduler = root.at.0;
                    counts = match fault {
                        Some(fault) => Err(fault.clone()),
                        None => {
                            Ok(root.events.iter().map(|event| (event.name.clone(), event.count)).collect())
                        }
                    };
                }
            }
        }
        found.push(Counted { sample, scheduler, counts });
    }
    Ok(found)
}

/// The rate between two captures in a row; `None`: they are of different schedulers.
fn between(run: &Run<'_>, event: &str, pair: &[Counted<'_>]) -> Option<Point> {
    let [one, two] = pair else { return None };
    let enabling = |counted: &Counted<'_>| counted.sample.scx.as_ref().and_then(|scx| scx.enable_seq);
    let at = format!("{} to {}", one.sample.tag, place(run, two.sample));
    let count = |counted: &Counted<'_>| -> Result<i64, String> {
        let counts = counted.counts.as_ref().map_err(Clone::clone)?;
        counts.get(event).copied().ok_or_else(|| format!("this kernel does not count {event}"))
    };
    let (first, last) = match (count(one), count(two)) {
        (Ok(first), Ok(last)) => (first, last),
        (Err(why), _) | (_, Err(why)) => return Some(Point { at, value: Err(why) }),
    };
    if one.scheduler != two.scheduler || enabling(one) != enabling(two) {
        return None;
    }
    let ns = two.sample.guest_ns.0.checked_sub(one.sample.guest_ns.0).filter(|ns| *ns > 0);
    let events = last.checked_sub(first).filter(|events| *events >= 0);
    let value = match (events, ns) {
        (Some(events), Some(ns)) => Ok((events as f64 * 1e9 / ns as f64, format!("{events} {event},"))),
        (None, _) => Err(format!("{event} went from {first} to {last}")),
        (_, None) => Err("no time lies between them".to_owned()),
    };
    Some(Point { at, value })
}
