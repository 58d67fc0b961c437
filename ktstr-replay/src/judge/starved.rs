//! `not_starved`: thresholds over what the workers reported.

use std::collections::BTreeMap;

use crate::run::Run;
use crate::text::{counted, seconds};
use crate::trace::record::WorkerReport;
use crate::trace::record::manifest::NotStarved;
use crate::verdict::{Finding, Origin, Outcome};

pub(super) fn judge(run: &Run<'_>) -> Option<Finding> {
    let limits = run.manifest.test.not_starved.as_ref()?;
    let workers: Vec<_> = run.workers().collect();
    Some(look(limits, &workers, run.manifest.is_emulated()))
}

fn look(limits: &NotStarved, workers: &[&WorkerReport], emulated: bool) -> Finding {
    let finding = |outcome, found: String| Finding::new(Origin::Threshold, "not_starved", outcome, found);
    if workers.is_empty() {
        return finding(Outcome::Inconclusive, "no worker has reported".to_owned());
    }
    // A worker that died has partial numbers: it is reported as dead, not as starved.
    let (dead, alive): (Vec<&WorkerReport>, Vec<&WorkerReport>) =
        workers.iter().copied().partition(|w| w.fault.is_some());
    let mut broken = Vec::new();
    let mut unknown = Vec::new();
    for worker in dead {
        let fault = worker.fault.as_deref().unwrap_or_default();
        broken.push(format!("{} died: {fault}", name(worker)));
    }
    let mut by_cgroup: BTreeMap<&str, Vec<&WorkerReport>> = BTreeMap::new();
    for worker in alive {
        by_cgroup.entry(&worker.cgroup).or_default().push(worker);
        if worker.work_units == 0 {
            broken.push(format!("{} did no work in {}", name(worker), time(worker.wall_ns)));
        }
        if worker.max_gap_ns > limits.max_gap_ms.saturating_mul(1_000_000) {
            let mut line = format!(
                "{} made no turn for {}, up to {} after the start; at most {}ms are allowed",
                name(worker),
                time(worker.max_gap_ns),
                time(worker.max_gap_at_ns),
                limits.max_gap_ms
            );
            if emulated {
                line.push_str(" (wall clock of an emulated machine)");
            }
            broken.push(line);
        }
    }
    for (cgroup, members) in by_cgroup {
        match spread(&members) {
            Err(why) => unknown.push(format!("cgroup {cgroup}: {why}")),
            Ok((least, most)) if most.1 - least.1 > limits.max_spread_pct => broken.push(format!(
                "cgroup {cgroup}: CPU shares spread by {:.1}%, from {:.1}% ({}) to {:.1}% ({}); at most {}% are allowed",
                most.1 - least.1,
                least.1,
                name(least.0),
                most.1,
                name(most.0),
                limits.max_spread_pct
            )),
            Ok(_) => {}
        }
    }
    let all = counted(workers.len(), "worker");
    if !broken.is_empty() {
        let found = match broken.as_slice() {
            [one] => one.clone(),
            many => format!("{} breaches by {all}", many.len()),
        };
        let lines = if broken.len() > 1 { broken } else { Vec::new() };
        return finding(Outcome::Fail, found).with_lines([lines, unknown].concat());
    }
    if !unknown.is_empty() {
        return finding(Outcome::Inconclusive, "a CPU share could not be measured".to_owned())
            .with_lines(unknown);
    }
    finding(Outcome::Pass, format!("{all} fed"))
}

/// A worker and its share of a CPU, in percent.
type Share<'w> = (&'w WorkerReport, f64);

/// The workers with the least and the greatest share.
fn spread<'w>(members: &[&'w WorkerReport]) -> Result<(Share<'w>, Share<'w>), String> {
    let mut shares = Vec::new();
    for &worker in members {
        if worker.wall_ns == 0 {
            return Err(format!("{} reports no wall time", name(worker)));
        }
        shares.push((worker, worker.cpu_ns as f64 / worker.wall_ns as f64 * 100.0));
    }
    let order = |a: &&Share<'_>, b: &&Share<'_>| a.1.total_cmp(&b.1);
    let least = shares.iter().min_by(order).copied();
    least.zip(shares.iter().max_by(order).copied()).ok_or_else(|| "it has no workers".to_owned())
}

fn name(worker: &WorkerReport) -> String {
    format!("worker {}/{} (pid {})", worker.cgroup, worker.index, worker.pid)
}

fn time(ns: u64) -> String {
    seconds(i64::try_from(ns).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Fail, Inconclusive, Pass};

    const SECOND: u64 = 1_000_000_000;

    fn worker(index: u32, cpu_pct: u64) -> WorkerReport {
        WorkerReport {
            index,
            pid: 100 + index,
            cgroup: "cg_0".into(),
            work_units: 10,
            cpu_ns: cpu_pct * SECOND / 20,
            wall_ns: 5 * SECOND,
            max_gap_ns: SECOND / 10,
            ..WorkerReport::default()
        }
    }

    fn found(workers: &[WorkerReport]) -> Finding {
        let limits = NotStarved { max_spread_pct: 15.0, max_gap_ms: 2000 };
        look(&limits, &workers.iter().collect::<Vec<_>>(), true)
    }

    #[test]
    fn equal_workers_pass_and_none_are_inconclusive() {
        assert_eq!(found(&[worker(0, 50), worker(1, 45)]).outcome, Pass);
        assert_eq!(found(&[]).outcome, Inconclusive);
    }

    #[test]
    fn a_worker_without_work_is_named() {
        let finding = found(&[worker(0, 50), WorkerReport { work_units: 0, ..worker(1, 50) }]);
        assert_eq!(
            (finding.outcome, finding.summary.as_str()),
            (Fail, "worker cg_0/1 (pid 101) did no work in 5.000s")
        );
    }

    #[test]
    fn shares_are_compared_inside_a_cgroup_only() {
        assert_eq!(found(&[worker(0, 50), worker(1, 20)]).outcome, Fail);
        let elsewhere = WorkerReport { cgroup: "cg_1".into(), ..worker(1, 20) };
        assert_eq!(found(&[worker(0, 50), elsewhere]).outcome, Pass);
    }

    #[test]
    fn a_gap_is_reported_with_its_time_and_the_clock_it_is_by() {
        let finding =
            found(&[WorkerReport { max_gap_ns: 3 * SECOND, max_gap_at_ns: 4 * SECOND, ..worker(0, 50) }]);
        assert_eq!(finding.outcome, Fail);
        assert!(
            finding.summary.contains("no turn for 3.000s, up to 4.000s after the start"),
            "{}",
            finding.summary
        );
        assert!(finding.summary.contains("emulated"));
    }

    #[test]
    fn a_dead_worker_is_dead_and_not_starved() {
        let dead = WorkerReport { fault: Some("killed by signal 9".into()), work_units: 0, ..worker(1, 0) };
        let finding = found(&[worker(0, 50), dead]);
        assert_eq!(
            (finding.outcome, finding.summary.as_str()),
            (Fail, "worker cg_0/1 (pid 101) died: killed by signal 9")
        );
    }

    #[test]
    fn no_wall_time_is_inconclusive() {
        assert_eq!(found(&[WorkerReport { wall_ns: 0, ..worker(0, 0) }]).outcome, Inconclusive);
    }
}
