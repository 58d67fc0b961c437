//! Work, turns and migrations of workers, over time and over each other.

use std::collections::BTreeMap;

use super::limit::{Bound, Clock, Limit, Measures, coefficient_of_variation, name, number};
use super::{Worker, Workers};
use crate::run::Run;
use crate::trace::record::{Thresholds, WorkerReport};
use crate::verdict::Finding;

pub(super) fn judge(run: &Run<'_>, limits: &Thresholds, workers: &Workers<'_>) -> Vec<Finding> {
    let clock = Clock::of(run);
    let each = |what, bound, show, clock, measure: &dyn Fn(&WorkerReport) -> Result<f64, String>| {
        let mut measures = Measures::default();
        workers.alive.iter().for_each(|worker| measures.add(name(worker.report), measure(worker.report)));
        Limit { what, bound, show, clock }.judge(measures, workers.nobody)
    };
    let mut findings = Vec::new();
    findings.extend(limits.max_throughput_cv.map(|cv| throughput(cv, clock, workers)));
    findings.extend(limits.min_work_rate.map(|rate| {
        each("min_work_rate", Bound::AtLeast(rate), per_second, clock, &|worker| {
            rate_of(worker.work_units, worker)
        })
    }));
    findings.extend(limits.min_iteration_rate.map(|rate| {
        each("min_iteration_rate", Bound::AtLeast(rate), turns_per_second, clock, &|worker| {
            rate_of(worker.iterations, worker)
        })
    }));
    findings.extend(limits.max_migration_ratio.map(|ratio| {
        each("max_migration_ratio", Bound::AtMost(ratio), migrations, None, &|worker| match worker.iterations
        {
            0 => Err("made no turn".to_owned()),
            turns => Ok(worker.migrations as f64 / turns as f64),
        })
    }));
    findings
}

fn per_second(value: f64) -> String {
    format!("{} work units/s", number(value))
}

fn turns_per_second(value: f64) -> String {
    format!("{} turns/s", number(value))
}

fn migrations(value: f64) -> String {
    format!("{} migrations a turn", number(value))
}

fn rate_of(count: u64, worker: &WorkerReport) -> Result<f64, String> {
    match worker.wall_ns {
        0 => Err("reports no wall time".to_owned()),
        wall_ns => Ok(count as f64 * 1e9 / wall_ns as f64),
    }
}

/// How much the rates of workers differ that do the same work in one cgroup. A worker that has none to be compared with is
/// not judged.
fn throughput(max_cv: f64, clock: Option<Clock>, workers: &Workers<'_>) -> Finding {
    let mut groups: BTreeMap<(&str, &str, Option<u32>), Vec<&Worker<'_>>> = BTreeMap::new();
    for worker in &workers.alive {
        let key = (worker.report.cgroup.as_str(), worker.report.work.as_str(), worker.phase);
        groups.entry(key).or_default().push(worker);
    }
    let mut measures = Measures::default();
    for ((cgroup, work, _), members) in groups.into_iter().filter(|(_, members)| members.len() > 1) {
        let who = format!("cgroup {cgroup}, {} {work} workers", members.len());
        let rates = members.iter().map(|worker| rate_of(worker.report.work_units, worker.report));
        let rates: Result<Vec<f64>, String> = rates.collect();
        let Ok(rates) = rates else {
            measures.add(who, rates.map(|_| f64::NAN));
            continue;
        };
        let slowest = members.iter().zip(&rates).min_by(|a, b| a.1.total_cmp(b.1));
        let slowest = slowest
            .map(|(worker, rate)| format!(" (the slowest, {}, {})", name(worker.report), per_second(*rate)));
        let weighted: Vec<(f64, f64)> = rates.iter().map(|rate| (*rate, 1.0)).collect();
        let cv = coefficient_of_variation(&weighted).ok_or_else(|| "did no work at all".to_owned());
        measures.add(format!("{who}{}", slowest.unwrap_or_default()), cv);
    }
    let nothing =
        if workers.alive.is_empty() { workers.nobody } else { "no cgroup has two workers of the same work" };
    Limit { what: "max_throughput_cv", bound: Bound::AtMost(max_cv), show: variation, clock }
        .judge(measures, nothing)
}

/// A coefficient of variation.
pub(super) fn variation(value: f64) -> String {
    format!("variation {}", number(value))
}
