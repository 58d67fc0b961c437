//! `isolation`: workers stay inside the cpuset of their cgroup.

use super::cpusets::{Allowed, allowed, list};
use super::limit::name;
use crate::run::Run;
use crate::text::{counted, listed};
use crate::verdict::{Finding, Origin, Outcome};

pub(super) fn judge(run: &Run<'_>) -> Finding {
    let finding = |outcome, found: String| Finding::new(Origin::Threshold, "isolation", outcome, found);
    let (mut inside, mut outside, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for (worker, allowed) in run.workers().zip(allowed(run)) {
        let cpus = match allowed {
            // A worker that died has partial numbers; where it was seen, it was.
            Allowed::Cpus(cpus) => cpus,
            Allowed::Any => continue,
            Allowed::Unknown(why) => {
                unknown.push(format!("{}: {why}", name(worker)));
                continue;
            }
        };
        let strange: Vec<u32> =
            worker.cpus_used.iter().map(|cpu| cpu.0).filter(|cpu| !cpus.contains(cpu)).collect();
        if worker.cpus_used.is_empty() {
            unknown.push(format!("{}: does not say on which CPUs it ran", name(worker)));
        } else if strange.is_empty() {
            inside.push(worker);
        } else {
            outside.push(format!(
                "{} ran on CPU {}; the cpuset of its cgroup allows {}",
                name(worker),
                list(strange),
                list(cpus)
            ));
        }
    }
    let judged = inside.len() + outside.len();
    match outside.as_slice() {
        [] if !unknown.is_empty() => {
            let found =
                format!("whether {} stayed in a cpuset is not known", counted(unknown.len(), "worker"));
            finding(Outcome::Inconclusive, found).with_lines(listed(unknown))
        }
        [] if judged == 0 => finding(
            Outcome::Inconclusive,
            "no worker's cgroup had a cpuset, so there is nothing to stay in".to_owned(),
        ),
        [] => finding(
            Outcome::Pass,
            format!("{} with a cpuset stayed in it, 0 outside allowed", counted(judged, "worker")),
        ),
        [one] => finding(Outcome::Fail, one.clone()).with_lines(listed(unknown)),
        many => {
            let found = format!("{} of {judged} workers ran outside of their cgroup's cpuset", many.len());
            finding(Outcome::Fail, found).with_lines([listed(outside), listed(unknown)].concat())
        }
    }
}
