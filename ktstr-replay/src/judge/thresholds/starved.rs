//! `not_starved`: thresholds over what the workers reported.

use std::collections::BTreeMap;

use super::limit::{name, time};
use crate::run::Run;
use crate::text::counted;
use crate::trace::record::{EventBody, Thresholds, WorkerReport};
use crate::verdict::{Finding, Origin, Outcome};

/// What a worker that waits or runs for this part of its time wants: a CPU of its own. Workers that sleep for more of it
/// wait for each other as much as for the scheduler.
const WANTS_A_CPU: f64 = 0.8;
/// Operations after which CPUs are not to be shared evenly.
const UNEVEN_OPS: [&str; 8] = [
    "set_cpuset",
    "set_cpu_weight",
    "set_cpu_max",
    "set_nice",
    "set_policy",
    "set_affinity",
    "freeze",
    "offline",
];

pub(super) fn judge(run: &Run<'_>, limits: &Thresholds, may_idle: bool) -> Option<Finding> {
    let what = what(limits)?;
    let uneven = run.events.iter().find_map(|event| match &event.body {
        EventBody::Op { name, .. } => UNEVEN_OPS.iter().find(|op| *op == name),
        _ => None,
    });
    let machine = Machine {
        cpus: run.manifest.machine.cpus,
        emulated: run.manifest.is_emulated(),
        uneven: uneven.copied(),
        may_idle,
    };
    Some(Finding { what, ..look(limits, &run.workers().collect::<Vec<_>>(), machine) })
}

/// Name of the finding: the check, or those of its limits that are set alone. `None` where neither is set.
fn what(limits: &Thresholds) -> Option<String> {
    let all = [
        ("max_gap_ms", limits.max_gap_ms.is_some()),
        ("max_spread_pct", limits.max_spread_pct.is_some()),
        ("min_share_pct", limits.min_share_pct.is_some()),
    ];
    let set: Vec<&str> = all.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
    match set.len() {
        0 => None,
        _ if limits.not_starved => Some("not_starved".to_owned()),
        _ => Some(set.join(", ")),
    }
}

/// What the workers ran on.
#[derive(Clone, Copy)]
struct Machine {
    cpus: u32,
    emulated: bool,
    /// The operation because of which CPUs are not shared evenly.
    uneven: Option<&'static str>,
    /// It did not run for so long that a worker may have done nothing.
    may_idle: bool,
}

/// What was looked at.
#[derive(Default)]
struct Looks {
    broken: Vec<String>,
    unknown: Vec<String>,
    /// The worst of each check, with its limit.
    worst: Vec<String>,
}

fn look(limits: &Thresholds, workers: &[&WorkerReport], machine: Machine) -> Finding {
    let finding = |outcome, found: String| Finding::new(Origin::Threshold, "not_starved", outcome, found);
    if workers.is_empty() {
        return finding(Outcome::Inconclusive, "no worker has reported".to_owned());
    }
    // A worker that died has partial numbers: it is reported as dead, not as starved.
    let (dead, alive): (Vec<&WorkerReport>, Vec<&WorkerReport>) =
        workers.iter().copied().partition(|w| w.fault.is_some());
    let mut looks = Looks::default();
    for worker in dead {
        let fault = worker.fault.as_deref().unwrap_or_default();
        looks.broken.push(format!("{} died: {fault}", name(worker)));
    }
    for worker in alive.iter().filter(|worker| worker.work_units == 0 && !machine.may_idle) {
        looks.broken.push(format!("{} did no work in {}", name(worker), time(worker.wall_ns)));
    }
    if let Some(max_gap_ms) = limits.max_gap_ms {
        look_at_gaps(max_gap_ms, &alive, machine, &mut looks);
    }
    if let Some(max_spread_pct) = limits.max_spread_pct {
        look_at_spreads(max_spread_pct, &alive, &mut looks);
    }
    if let Some(min_share_pct) = limits.min_share_pct {
        look_at_shares(min_share_pct, &alive, machine, &mut looks);
    }
    let Looks { broken, unknown, worst } = looks;
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
    let worst = worst.iter().map(|one| format!(", {one}")).collect::<String>();
    finding(Outcome::Pass, format!("{all} ran{worst}"))
}

fn look_at_gaps(max_gap_ms: u64, alive: &[&WorkerReport], machine: Machine, looks: &mut Looks) {
    let Some(longest) = alive.iter().max_by_key(|worker| worker.max_gap_ns) else { return };
    let limit_ns = max_gap_ms.saturating_mul(1_000_000);
    looks.worst.push(format!("longest gap {} of {} allowed", time(longest.max_gap_ns), time(limit_ns)));
    for worker in alive.iter().filter(|worker| worker.max_gap_ns > limit_ns) {
        let mut line = format!(
            "{} made no turn for {}, up to {} after the start; at most {max_gap_ms}ms are allowed",
            name(worker),
            time(worker.max_gap_ns),
            time(worker.max_gap_at_ns),
        );
        if machine.emulated {
            line.push_str(" (wall clock of an emulated machine)");
        }
        looks.broken.push(line);
    }
}

fn look_at_spreads(max_spread_pct: f64, alive: &[&WorkerReport], looks: &mut Looks) {
    let mut by_cgroup: BTreeMap<&str, Vec<&WorkerReport>> = BTreeMap::new();
    for worker in alive {
        by_cgroup.entry(&worker.cgroup).or_default().push(worker);
    }
    let mut widest = 0.0_f64;
    for (cgroup, members) in by_cgroup {
        match spread(&members) {
            Err(why) => looks.unknown.push(format!("cgroup {cgroup}: {why}")),
            Ok((least, most)) => {
                widest = widest.max(most.1 - least.1);
                if most.1 - least.1 > max_spread_pct {
                    looks.broken.push(format!(
                        "cgroup {cgroup}: CPU shares spread by {:.1}%, from {:.1}% ({}) to {:.1}% ({}); at most {max_spread_pct}% are allowed",
                        most.1 - least.1,
                        least.1,
                        name(least.0),
                        most.1,
                        name(most.0),
                    ));
                }
            }
        }
    }
    looks
        .worst
        .push(format!("CPU shares at most {widest:.1}% apart in a cgroup of {max_spread_pct}% allowed"));
}

/// Workers that wanted a CPU all the time, and got far less than an even share among all that wanted to run.
fn look_at_shares(min_share_pct: f64, alive: &[&WorkerReport], machine: Machine, looks: &mut Looks) {
    if let Some(op) = machine.uneven {
        looks.worst.push(format!("even shares not judged after {op}"));
        return;
    }
    let wanted =
        |worker: &WorkerReport| part(worker.cpu_ns.saturating_add(worker.run_delay_ns), worker.wall_ns);
    let even = even_share(f64::from(machine.cpus), alive.iter().map(|worker| wanted(worker)));
    let mut least: Option<f64> = None;
    for worker in alive.iter().filter(|worker| worker.wall_ns > 0 && wanted(worker) >= WANTS_A_CPU) {
        let got = part(worker.cpu_ns, worker.wall_ns);
        let share_pct = got / even.min(wanted(worker)) * 100.0;
        least = Some(least.map_or(share_pct, |least| least.min(share_pct)));
        if share_pct < min_share_pct {
            looks.broken.push(format!(
                "{} got {:.1}% of a CPU, {share_pct:.0}% of its even share of {:.1}%; it was runnable without running for {}; at \
                 least {min_share_pct}% are needed",
                name(worker),
                got * 100.0,
                even * 100.0,
                time(worker.run_delay_ns),
            ));
        }
    }
    if let Some(least) = least {
        looks.worst.push(format!("least CPU time {least:.0}% of an even share of {min_share_pct}% needed"));
    }
}

fn part(of_ns: u64, wall_ns: u64) -> f64 {
    if wall_ns == 0 { 0.0 } else { (of_ns as f64 / wall_ns as f64).min(1.0) }
}

/// The part of a CPU that each gets who wants as much, when `cpus` are shared evenly: who wants less leaves the rest to
/// the others. Workers of steps that come one after the other count as if they ran at once, so that it is never
/// too high.
fn even_share(cpus: f64, wanted: impl Iterator<Item = f64>) -> f64 {
    let mut wanted: Vec<f64> = wanted.collect();
    wanted.sort_by(f64::total_cmp);
    let (mut left, mut others) = (cpus, wanted.len());
    for want in wanted {
        let even = left / others as f64;
        if want > even {
            return even.min(1.0);
        }
        left -= want;
        others -= 1;
    }
    1.0
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
        found_on(2, None, workers)
    }

    fn found_on(cpus: u32, uneven: Option<&'static str>, workers: &[WorkerReport]) -> Finding {
        let limits = Thresholds {
            max_spread_pct: Some(15.0),
            max_gap_ms: Some(2000),
            min_share_pct: Some(50.0),
            ..Thresholds::default()
        };
        let machine = Machine { cpus, emulated: true, uneven, may_idle: false };
        look(&limits, &workers.iter().collect::<Vec<_>>(), machine)
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
    fn a_worker_far_below_an_even_share_is_starved_and_one_of_many_is_not() {
        // Runnable for all of 5 s, on a CPU for a part of it.
        let spins = |index, cpu_pct: u64| WorkerReport {
            run_delay_ns: (100 - cpu_pct) * SECOND / 20,
            ..worker(index, cpu_pct)
        };
        let finding = found_on(1, None, &[spins(0, 6), spins(1, 6)]);
        assert_eq!(finding.outcome, Fail, "{finding:#?}");
        assert!(
            finding.lines[0].contains("got 6.0% of a CPU, 12% of its even share of 50.0%"),
            "{finding:#?}"
        );
        // The same part of a CPU is what each of 16 can have.
        let crowd: Vec<_> = (0..16).map(|index| spins(index, 6)).collect();
        assert_eq!(found_on(1, None, &crowd).outcome, Pass);
        // Weights are meant to be uneven; a worker that mostly sleeps does not want more.
        assert_eq!(found_on(1, Some("set_cpu_weight"), &[spins(0, 6), spins(1, 6)]).outcome, Pass);
        let sleeps = |index| WorkerReport { run_delay_ns: SECOND / 2, ..worker(index, 6) };
        assert_eq!(found_on(1, None, &[sleeps(0), sleeps(1)]).outcome, Pass);
    }

    #[test]
    fn what_is_left_by_those_who_want_less_is_shared() {
        assert_eq!(even_share(2.0, [1.0, 1.0].into_iter()), 1.0);
        assert_eq!(even_share(1.0, [1.0, 1.0].into_iter()), 0.5);
        assert_eq!(even_share(1.0, [0.2, 1.0, 1.0].into_iter()), 0.4);
        assert_eq!(even_share(1.0, [0.2, 0.3].into_iter()), 1.0);
    }

    #[test]
    fn a_pass_says_the_worst_of_each_check_and_its_limit() {
        let finding = found(&[worker(0, 50), worker(1, 45)]);
        assert_eq!(
            finding.summary,
            "2 workers ran, longest gap 0.100s of 2.000s allowed, CPU shares at most 5.0% apart in a cgroup of 15% allowed"
        );
    }

    #[test]
    fn a_limit_alone_is_called_by_its_name() {
        let called = |set: fn(&mut Thresholds)| {
            let mut limits = Thresholds::default();
            set(&mut limits);
            what(&limits)
        };
        assert_eq!(called(|_| {}), None);
        assert_eq!(called(|limits| limits.max_gap_ms = Some(1)).as_deref(), Some("max_gap_ms"));
        let called = |not_starved| {
            let (gap, spread) = (Some(1), Some(1.0));
            what(&Thresholds {
                max_gap_ms: gap,
                max_spread_pct: spread,
                not_starved,
                ..Thresholds::default()
            })
        };
        assert_eq!(called(false).as_deref(), Some("max_gap_ms, max_spread_pct"));
        assert_eq!(called(true).as_deref(), Some("not_starved"));
    }

    #[test]
    fn no_wall_time_is_inconclusive() {
        assert_eq!(found(&[WorkerReport { wall_ns: 0, ..worker(0, 0) }]).outcome, Inconclusive);
    }
}
