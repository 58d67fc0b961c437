//! Thresholds: limits that a test sets, over what its workers report and over what its captures show.
//!
//! Each is off unless it is set. One that is set makes one finding, which says the limit and the worst that was measured, on
//! a pass too. What cannot be measured is inconclusive, never a pass.

mod limit;
mod cpusets;
mod eased;
mod isolation;
mod locality;
mod monitor;
mod rates;
mod scx_events;
mod stall;
mod starved;
mod wakes;
#[cfg(test)]
mod tests;

pub(super) use limit::name as worker_name;
pub(super) use stall::{BUSY_CLOCK_MOVES_NS, is_busy};

use std::collections::BTreeSet;

use self::eased::Eased;
use crate::run::Run;
use crate::series::ReportedWorker;
use crate::trace::record::{Thresholds, WorkerDetail, WorkerReport};
use crate::verdict::{Finding, Outcome};

/// The findings of all limits of a test.
pub(super) fn judge(run: &Run<'_>) -> Vec<Finding> {
    run.manifest.test.limits().map_or_else(Vec::new, |limits| judge_by(run, &limits, false))
}

/// Names of the limits that are broken whatever the host's gaps can have done to what was measured.
pub(super) fn broken_all_the_same(run: &Run<'_>) -> BTreeSet<String> {
    let Some(limits) = run.manifest.test.limits() else { return BTreeSet::new() };
    let (limits, may_idle) =
        eased::eased(run, &limits).map_or((limits, false), |Eased { limits, may_idle }| (limits, may_idle));
    let broken =
        judge_by(run, &limits, may_idle).into_iter().filter(|finding| finding.outcome == Outcome::Fail);
    broken.map(|finding| finding.what).collect()
}

/// `may_idle`: a worker that did no work breaks nothing.
fn judge_by(run: &Run<'_>, limits: &Thresholds, may_idle: bool) -> Vec<Finding> {
    let workers = Workers::of(run);
    let mut findings: Vec<Finding> = Vec::new();
    findings.extend(starved::judge(run, limits, may_idle));
    findings.extend(limits.isolation.then(|| isolation::judge(run)));
    findings.extend(rates::judge(run, limits, &workers));
    findings.extend(wakes::judge(run, limits, &workers));
    findings.extend(locality::judge(run, limits, &workers));
    findings.extend(monitor::judge(run, limits));
    findings.extend(scx_events::judge(run, limits));
    findings.extend(stall::judge(run, limits));
    findings
}

/// The workers whose reports are whole: one that died has partial numbers, and its death is a finding of its own.
struct Workers<'r> {
    alive: Vec<Worker<'r>>,
    /// Why nothing can be measured where no report is whole.
    nobody: &'static str,
}

/// A worker that lived until it was told to end.
#[derive(Clone, Copy)]
struct Worker<'r> {
    report: &'r WorkerReport,
    /// `None`: the trace is of a release that did not record it.
    detail: Option<&'r WorkerDetail>,
    /// Number among the reports of the run.
    number: usize,
    /// Phase of the scenario in which it reported; workers of two phases are not compared.
    phase: Option<u32>,
}

impl<'r> Workers<'r> {
    fn of(run: &'r Run<'_>) -> Self {
        let all = run.reported_workers();
        let nobody = if all.is_empty() { "no worker has reported" } else { "every worker died" };
        let of_number = |(number, one): (usize, ReportedWorker<'r>)| Worker {
            report: one.report,
            detail: one.detail,
            number,
            phase: one.phase.map(|(index, _)| index),
        };
        let alive = all.into_iter().enumerate().map(of_number).filter(|worker| worker.report.fault.is_none());
        Self { alive: alive.collect(), nobody }
    }
}

/// Why a measurement that older traces do not have is not there.
const NO_DETAIL: &str = "the trace does not have it: it was recorded by a release that did not measure it";
