//! Wake latencies of the workers of a cgroup.

use std::collections::{BTreeMap, BTreeSet};

use super::limit::{Bound, Clock, Limit, Measures, coefficient_of_variation, name};
use super::rates::variation;
use super::{NO_DETAIL, Worker, Workers};
use crate::run::Run;
use crate::trace::record::{Latencies, Thresholds};
use crate::verdict::Finding;

/// Wakes from which on their 99th percentile and variation say something.
const MIN_WAKES: u64 = 100;
/// The percentile, as a part.
const P99: f64 = 0.99;
/// Why there is nothing to judge.
const NO_WAKES: &str = "no worker measured a wake: their work has none to measure";

pub(super) fn judge(run: &Run<'_>, limits: &Thresholds, workers: &Workers<'_>) -> Vec<Finding> {
    let clock = Clock::of(run);
    let each = |what, limit, show, measure: fn(&[(f64, f64)]) -> Option<f64>| {
        let measures = measured(workers, measure);
        let nothing = if workers.alive.is_empty() { workers.nobody } else { NO_WAKES };
        Limit { what, bound: Bound::AtMost(limit), show, clock }.judge(measures, nothing)
    };
    let mut findings = Vec::new();
    findings.extend(
        limits
            .max_p99_wake_latency_ns
            .map(|ns| each("max_p99_wake_latency_ns", ns as f64, latency, |s| percentile(s, P99))),
    );
    findings.extend(
        limits
            .max_wake_latency_cv
            .map(|cv| each("max_wake_latency_cv", cv, variation, coefficient_of_variation)),
    );
    findings
}

fn latency(ns: f64) -> String {
    match ns {
        ns if ns >= 1e6 => format!("{:.3}ms", ns / 1e6),
        ns => format!("{:.3}us", ns / 1e3),
    }
}

/// Each cgroup whose work is woken. One whose workers were never woken, although their like were in another cgroup, is not
/// left out.
fn measured(workers: &Workers<'_>, measure: fn(&[(f64, f64)]) -> Option<f64>) -> Measures {
    let mut measures = Measures::default();
    let mut by_cgroup: BTreeMap<&str, Vec<&Worker<'_>>> = BTreeMap::new();
    let mut woken: BTreeSet<&str> = BTreeSet::new();
    for worker in &workers.alive {
        by_cgroup.entry(&worker.report.cgroup).or_default().push(worker);
        if wakes(worker).is_some_and(|wakes| wakes.total > 0) {
            woken.insert(&worker.report.work);
        }
    }
    for (cgroup, members) in by_cgroup {
        let who = format!("cgroup {cgroup}");
        if members.iter().any(|worker| worker.detail.is_none()) {
            measures.add(who, Err(NO_DETAIL.to_owned()));
            continue;
        }
        if !members.iter().any(|worker| woken.contains(worker.report.work.as_str())) {
            continue;
        }
        let total = members
            .iter()
            .filter_map(|worker| wakes(worker))
            .fold(0_u64, |sum, w| sum.saturating_add(w.total));
        if total < MIN_WAKES {
            measures
                .add(who, Err(format!("{total} wakes were measured, and at least {MIN_WAKES} are needed")));
            continue;
        }
        let weighted: Vec<(f64, f64)> =
            members.iter().filter_map(|worker| wakes(worker)).flat_map(weighted).collect();
        let value = measure(&weighted)
            .ok_or_else(|| format!("{total} wakes were measured, and their times are not kept"));
        measures.add(format!("{who}, {total} wakes{}", longest(&members)), value);
    }
    measures
}

fn wakes<'r>(worker: &Worker<'r>) -> Option<&'r Latencies> {
    worker.detail.map(|detail| &detail.wakes)
}

/// The worker that waited for longest.
fn longest(members: &[&Worker<'_>]) -> String {
    let longest =
        members.iter().filter_map(|worker| Some((worker, wakes(worker)?.max_ns))).max_by_key(|(_, ns)| *ns);
    longest.map_or_else(String::new, |(worker, ns)| {
        format!(" (the longest, {}, of {})", latency(ns as f64), name(worker.report))
    })
}

/// The sample, each with how many wakes it stands for.
fn weighted(latencies: &Latencies) -> impl Iterator<Item = (f64, f64)> {
    let weight = latencies.total as f64 / latencies.samples_ns.len() as f64;
    latencies.samples_ns.iter().map(move |ns| (*ns as f64, weight))
}

/// The least value that this part of the weight is not above.
fn percentile(values: &[(f64, f64)], part: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let wanted = sorted.iter().map(|(_, weight)| weight).sum::<f64>() * part;
    let mut below = 0.0;
    sorted
        .iter()
        .find(|(_, weight)| {
            below += weight;
            below >= wanted
        })
        .map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_counts_values_by_their_weight() {
        let values: Vec<(f64, f64)> = (1..=200).map(|i| (f64::from(i), 1.0)).collect();
        assert_eq!(percentile(&values, P99), Some(198.0));
        assert_eq!(percentile(&[(5.0, 98.0), (9.0, 2.0)], P99), Some(9.0));
        assert_eq!(percentile(&[(5.0, 99.5), (9.0, 0.5)], P99), Some(5.0));
        assert_eq!(percentile(&[], P99), None);
    }
}
