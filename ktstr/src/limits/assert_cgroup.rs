//! Judging the workers of one cgroup in a test's body, by the code that judges those of a run.

use std::path::Path;

use anyhow::{Context, Result, bail};
use guest_init::message::WorkerReport;
use ktstr_record::recorder::recorded_worker;
use ktstr_replay::judge::CheckSource;
use ktstr_replay::run::Run;
use ktstr_replay::trace::record::manifest::{MachineInfo, TestInfo};
use ktstr_replay::trace::record::{Event, EventBody, Manifest, Stage};
use ktstr_replay::trace::{Trace, TraceWriter};
use ktstr_replay::units::{GuestNs, HostNs};
use ktstr_replay::verdict::{Finding, Origin, Outcome};

use super::{Assert, Layers};
use crate::assert::AssertResult;
use crate::cpu_set::CpuSet;
use crate::guest_topo::GuestTopology;

impl Assert {
    /// Hold these limits against the workers of a cgroup, in a body that starts its workers by itself. `cpus`: the cgroup's cpuset, which
    /// `isolation` and `min_page_locality` are about, and under which even shares are not judged. Each limit that is broken is a failed
    /// assertion, and so is each worker that died, and a limit that cannot be measured: those over captures (`max_imbalance_ratio` and what
    /// follows it) never can be in a body, and are attributes of the test.
    ///
    /// ```
    /// use ktstr::prelude::*;
    ///
    /// fn body(ctx: &Ctx) -> Result<AssertResult> {
    ///     let cgroup = ctx.cgroups.create("mine")?;
    ///     let mut workload = WorkloadHandle::spawn(&[WorkerGroup::new("mine", 2, SpinWait)])?;
    ///     for (pid, _) in workload.pids() {
    ///         cgroup.add(pid)?;
    ///     }
    ///     workload.start()?;
    ///     std::thread::sleep(ctx.duration);
    ///     let reports: Vec<WorkerReport> = workload.stop_and_collect();
    ///     cgroup.remove()?;
    ///     Assert::NONE.not_starved(true).max_migration_ratio(0.5).assert_cgroup("mine", None, &reports)
    /// }
    /// ```
    ///
    /// # Errors
    /// No report of that cgroup, with those that there are; no limit of workers is set; the files of `/sys` and `/tmp` that it takes.
    pub fn assert_cgroup(
        &self,
        cgroup: &str,
        cpus: Option<&CpuSet>,
        reports: &[WorkerReport],
    ) -> Result<AssertResult> {
        let topo = GuestTopology::read(Path::new("/sys")).context("the CPUs of this machine")?;
        self.of_cgroup(cgroup, cpus, reports, &topo)
    }

    fn of_cgroup(
        &self,
        cgroup: &str,
        cpus: Option<&CpuSet>,
        reports: &[WorkerReport],
        topo: &GuestTopology,
    ) -> Result<AssertResult> {
        let Some(thresholds) = (Layers { test: *self, scheduler: Self::NONE }).thresholds() else {
            bail!(
                "`Assert::assert_cgroup` of `{cgroup}`: no limit is set, so that nothing would be asserted"
            );
        };
        let of_it: Vec<&WorkerReport> = reports.iter().filter(|report| report.cgroup == cgroup).collect();
        if of_it.is_empty() {
            let mut names: Vec<&str> = reports.iter().map(|report| report.cgroup.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            let there = if names.is_empty() { "none at all".to_owned() } else { names.join(", ") };
            bail!("no worker of cgroup `{cgroup}` has reported; there are reports of {there}");
        }
        let test = TestInfo { thresholds: Some(thresholds), ..TestInfo::default() };
        let machine = MachineInfo {
            topology: shape(topo),
            cpus: u32::try_from(topo.cpus.len()).unwrap_or(u32::MAX),
            ..MachineInfo::default()
        };
        let manifest = Manifest { test, machine, ..Manifest::default() };
        let findings = judged(&manifest, &events(cgroup, cpus, &of_it)).context("judging the reports")?;
        if findings.is_empty() {
            bail!(
                "`Assert::assert_cgroup` of `{cgroup}`: no limit of workers is set, so that nothing would be asserted"
            );
        }
        let mut result = AssertResult::pass();
        // Limits are held against those that lived: what the others report is partial.
        for report in of_it {
            if let Some(fault) = &report.fault {
                result
                    .check(false, format!("cgroup {cgroup}: worker {cgroup}/{} died: {fault}", report.index));
            }
        }
        for finding in findings {
            let Finding { what, outcome, summary, lines, .. } = finding;
            let doubt = if outcome == Outcome::Inconclusive { "it cannot be judged: " } else { "" };
            let text =
                format!("cgroup {cgroup}: {what}: {doubt}{}", [vec![summary], lines].concat().join("; "));
            result.check(outcome <= Outcome::Pass, text);
        }
        Ok(result)
    }
}

/// The machine as a trace's manifest has it: nodes, LLCs, cores of each LLC, threads of each core.
fn shape(topo: &GuestTopology) -> String {
    let each = |count: usize, of: usize| count.checked_div(of).unwrap_or(1).max(1);
    let (nodes, llcs) = (topo.numa_nodes.len().max(1), topo.llcs.len().max(1));
    format!("{nodes}n{llcs}l{}c{}t", each(topo.cores.len(), llcs), each(topo.cpus.len(), topo.cores.len()))
}

/// What a scenario of this cgroup alone would have told.
fn events(cgroup: &str, cpus: Option<&CpuSet>, reports: &[&WorkerReport]) -> Vec<Event> {
    let mut bodies = vec![EventBody::Stage { stage: Stage::BodyStarted, detail: String::new() }];
    let mut op = |name: &str, detail: String| bodies.push(EventBody::Op { name: name.to_owned(), detail });
    op("add_cgroup", cgroup.to_owned());
    if let Some(cpus) = cpus {
        op("set_cpuset", format!("{cgroup}: {cpus}"));
    }
    op("spawn", format!("{cgroup}: {} workers", reports.len()));
    for report in reports {
        let (report, detail) = recorded_worker((*report).clone());
        bodies.extend([EventBody::Worker(report), EventBody::WorkerDetail(Box::new(detail))]);
    }
    let event = |(at, body)| Event { guest_ns: GuestNs(at), host_ns: HostNs(at), body };
    (1..).zip(bodies).map(event).collect()
}

/// What the limits of the manifest say of the events, as of a trace with nothing else in it.
fn judged(manifest: &Manifest, events: &[Event]) -> Result<Vec<Finding>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("reports.trace.zst");
    let mut writer = TraceWriter::create(&path, manifest)?;
    writer.events(events)?;
    writer.commit()?;
    writer.finish()?;
    let trace = Trace::open(&path)?;
    let verdict = Run::load(&trace).judge(Some(&[]), CheckSource::Recorded);
    Ok(verdict.findings.into_iter().filter(|finding| finding.origin == Origin::Threshold).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two CPUs.
    fn topo() -> GuestTopology {
        let set = |text: &str| text.parse().expect("a list");
        GuestTopology {
            cpus: set("0-1"),
            cores: vec![set("0"), set("1")],
            llcs: vec![set("0-1")],
            numa_nodes: vec![set("0-1")],
        }
    }

    fn report(cgroup: &str, index: u32, work_units: u64, cpus_used: &[u32]) -> WorkerReport {
        WorkerReport {
            index,
            pid: 100 + index,
            cgroup: cgroup.to_owned(),
            work: "SpinWait".to_owned(),
            work_units,
            iterations: work_units,
            cpu_ns: 1_000_000_000,
            wall_ns: 2_000_000_000,
            cpus_used: cpus_used.to_vec(),
            ..WorkerReport::default()
        }
    }

    #[test]
    fn limits_are_held_against_the_workers_of_that_cgroup_alone() -> Result<()> {
        let reports = [report("a", 0, 1000, &[0]), report("a", 1, 1000, &[1]), report("b", 0, 1, &[1])];
        let limits = Assert::NONE.min_work_rate(400.0);
        let of = |limits: Assert, cgroup: &str, cpus: Option<&str>| {
            let cpus = cpus.map(|text| text.parse::<CpuSet>().expect("a list"));
            limits.of_cgroup(cgroup, cpus.as_ref(), &reports, &topo())
        };
        assert!(of(limits, "a", None)?.passed());
        let failed = of(limits, "b", None)?;
        assert!(failed.failures()[0].starts_with("cgroup b: min_work_rate: worker b/0"), "{failed:?}");
        assert!(of(Assert::NONE.isolation(true), "a", Some("0-1"))?.passed());
        let strayed = of(Assert::NONE.isolation(true), "a", Some("0"))?;
        assert!(strayed.failures()[0].contains("a/1"), "{strayed:?}");
        Ok(())
    }

    #[test]
    fn a_worker_that_died_fails_whatever_the_others_did() -> Result<()> {
        let dead = WorkerReport { fault: Some("killed by signal 9".to_owned()), ..report("a", 1, 0, &[1]) };
        let reports = [report("a", 0, 1000, &[0]), dead];
        let failed = Assert::NONE.min_work_rate(1.0).of_cgroup("a", None, &reports, &topo())?;
        assert_eq!(failed.failures(), ["cgroup a: worker a/1 died: killed by signal 9"]);
        let no_limit = Assert::NONE.sustained_samples(2).of_cgroup("a", None, &reports, &topo());
        assert!(no_limit.is_err(), "nothing is asserted");
        Ok(())
    }

    #[test]
    fn what_cannot_be_judged_fails_and_what_is_not_there_is_an_error() -> Result<()> {
        let reports = [report("a", 0, 1000, &[0])];
        let of = |limits: Assert, cgroup: &str| limits.of_cgroup(cgroup, None, &reports, &topo());
        for limits in [Assert::NONE.isolation(true), Assert::NONE.max_imbalance_ratio(3.0)] {
            let doubtful = of(limits, "a")?;
            assert!(doubtful.failures()[0].contains("it cannot be judged"), "{doubtful:?}");
        }
        let error = of(Assert::NONE.min_work_rate(1.0), "c").expect_err("no such cgroup").to_string();
        assert!(error.contains("reports of a"), "{error}");
        assert!(of(Assert::NONE, "a").is_err(), "nothing is asserted");
        Ok(())
    }
}
