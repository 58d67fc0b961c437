//! The scheduler under test: whether it loaded, and whether it was enabled for as long as it should have been.

use super::not_enabled::{self, scheduler};
use crate::run::{Run, SchedulerExit};
use crate::text::{counted, seconds};
use crate::trace::record::manifest::SchedulerInfo;
use crate::trace::record::{CaptureKind, EventBody, Sample, ScxState, Stage};
use crate::units::GuestNs;
use crate::verdict::{Finding, Outcome};

/// Whether the scheduler loaded, and whether it lived as long as it should; none where there is no scheduler.
pub(super) fn judge(run: &Run<'_>) -> Vec<Finding> {
    if !run.has_scheduler() {
        return Vec::new();
    }
    let name = run.scheduler_name();
    if run.manifest.scheduler.as_ref().is_some_and(SchedulerInfo::is_built_in) {
        return vec![built_in(run, name)];
    }
    if run.stage(Stage::SchedulerEnabled).is_none() {
        return vec![not_enabled::judge(run, name)];
    }
    let exits = run.scheduler_exits();
    let mut findings: Vec<Finding> = exits.iter().map(|exit| away(run, name, exit)).collect();
    if exits.is_empty() {
        findings.push(enabled(run, name));
    }
    findings
}

/// The finding on a scheduler that is part of the kernel: whether the lines that switch it on were written.
fn built_in(run: &Run<'_>, name: &str) -> Finding {
    let lines = run
        .events
        .iter()
        .filter(|event| matches!(&event.body, EventBody::Op { name, .. } if name == "enable"));
    let lines = counted(lines.count(), "`enable` line");
    if run.stage(Stage::SchedulerEnabled).is_some() {
        return scheduler(
            Outcome::Pass,
            format!("{name}, which is part of the kernel, was switched on by {lines}"),
        );
    }
    let why = run.stage(Stage::InitFailed).map_or("the trace does not say why", |(_, _, detail)| detail);
    scheduler(Outcome::Fail, format!("{name} was not switched on, after {lines}: {why}"))
}

/// What is to be said of a scheduler that was never seen to be away: it must have been seen, from its beginning to
/// its end.
fn enabled(run: &Run<'_>, name: &str) -> Finding {
    if let Some(kind) = &run.manifest.test.expect_scx_exit {
        let found = format!("{name} was to exit with {kind}, and it was still enabled at the end");
        return scheduler(Outcome::Fail, found);
    }
    let shows = |s: &&Sample| s.scx.as_ref().is_some_and(ScxState::is_enabled);
    let seen: Vec<&Sample> = run.taken().filter(shows).collect();
    let mut in_captures = format!("{name} was enabled in {}", counted(seen.len(), "capture"));
    let detached = match run.detached_times().count() {
        0 => String::new(),
        times => format!(", and the test detached it {}", counted(times, "time")),
    };
    in_captures.push_str(&detached);
    if run.stage(Stage::TestExited).is_none() || run.is_partial() {
        return scheduler(Outcome::Pass, format!("{in_captures}, as far as the recording goes"));
    }
    let missing: Vec<&str> = [(CaptureKind::Attach, "attach"), (CaptureKind::End, "end")]
        .into_iter()
        .filter(|(kind, _)| !seen.iter().any(|sample| sample.kind == *kind))
        .map(|(_, tag)| tag)
        .collect();
    if missing.is_empty() {
        let same = if detached.is_empty() { ", the same from attach to end" } else { "" };
        return scheduler(Outcome::Pass, format!("{in_captures}{same}"));
    }
    let found = format!(
        "{in_captures}; whether it was throughout is not known: nothing shows it at {}",
        missing.join(" and ")
    );
    scheduler(Outcome::Inconclusive, found)
}

/// A time in which the scheduler was not enabled.
fn away(run: &Run<'_>, name: &str, exit: &SchedulerExit) -> Finding {
    let test = &run.manifest.test;
    let at = |ns: GuestNs| seconds(run.since_start_ns(ns));
    let left = match (exit.back_at_ns, exit.is_orderly()) {
        (Some(_), _) => "restarted",
        (None, true) => "left",
        (None, false) => "died",
    };
    let mut found = format!("{name} {left} at {}", at(exit.at_ns));
    if let Some(back) = exit.back_at_ns {
        found.push_str(&format!(", back at {}", at(back)));
    }
    let is_allowed = exit.back_at_ns.is_some() && test.allow_restarts;
    let outcome = match &test.expect_scx_exit {
        Some(kind) if exit.is_of_kind(kind) => {
            found.push_str(", as expected");
            Outcome::Pass
        }
        Some(kind) => {
            found.push_str(&format!(", and was to exit with {kind}"));
            Outcome::Fail
        }
        None if is_allowed => Outcome::Pass,
        None => {
            if exit.back_at_ns.is_some() {
                found.push_str(", and restarts are not allowed");
            }
            Outcome::Fail
        }
    };
    for more in [Some(exit.title()), exit.cause(), exit.code_in_words()].into_iter().flatten() {
        found.push_str(": ");
        found.push_str(&more);
    }
    let lines = exit.process.iter().map(|process| format!("process: {process}")).collect();
    scheduler(outcome, found).with_lines(lines)
}
