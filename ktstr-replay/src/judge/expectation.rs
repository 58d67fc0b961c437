//! Tests that expect to fail.

use std::fmt;

use regex_lite::{Regex, RegexBuilder};

use super::host_gaps;
use super::lifecycle::{BODY_ERROR, cut_short};
use super::splats;
use super::{probes, sub_schedulers, watches};
use crate::run::Run;
use crate::trace::record::manifest::TestInfo;
use crate::trace::record::{GuestEnd, Stage};
use crate::verdict::{Finding, Origin, Outcome, Verdict};

/// Most memory that a pattern of a trace may take once it is compiled, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Turn the verdict of a test with `expect_err` around: the failures that it expects do not count, and their
/// absence does.
///
/// A failure of the set-up is never the expected one: a scheduler that did not load, a guest that did not come up,
/// an emulator that died, a claim about something that does not exist.
pub(super) fn apply(run: &Run<'_>, verdict: &mut Verdict) {
    let test = &run.manifest.test;
    if !test.expect_err {
        return;
    }
    let exited = run.scheduler_exit().is_some();
    let kernel_at_fault = splats::is_fault(run);
    let can_be_expected = |finding: &Finding| can_be_expected(finding, exited, kernel_at_fault);
    let (outcome, found) = if let Some(why) = not_set_up(run) {
        let unknown = run.is_partial() || cut_short(run).is_some() || host_gaps::explained(verdict);
        let outcome = if unknown { Outcome::Inconclusive } else { Outcome::Fail };
        (outcome, format!("{why}, which is not the failure that is expected"))
    } else if host_gaps::explained(verdict) {
        (Outcome::Inconclusive, "whether the scheduler failed or the host is not known".to_owned())
    } else if test.expect_scx_error_contains.is_some() || test.expect_scx_error_matches.is_some() {
        match wanted(test) {
            Ok(wanted) => expect_error(run, &wanted),
            Err(error) => (Outcome::Fail, error),
        }
    } else if verdict.findings.iter().any(can_be_expected) {
        (Outcome::Pass, "failed, as expected".to_owned())
    } else if let Some(other) = verdict.findings.iter().find(|f| f.outcome == Outcome::Fail) {
        let found = format!("failed, but not as a test can expect: {}: {}", other.what, other.summary);
        (Outcome::Fail, found)
    } else if verdict.findings.iter().any(|f| f.outcome == Outcome::Inconclusive) {
        (Outcome::Inconclusive, "whether it failed is not known".to_owned())
    } else {
        (Outcome::Fail, "did not fail, although a failure is expected".to_owned())
    };
    if outcome == Outcome::Pass {
        for finding in verdict.findings.iter_mut().filter(|f| can_be_expected(f)) {
            finding.expected = true;
        }
    }
    verdict.add(Finding::new(Origin::Run, "expect_err", outcome, found));
}

/// A failure that the scheduler, or a claim about it, can cause. An error of the test itself is not one: not a
/// claim about something that does not exist, nor a body that could not do its work while the scheduler was healthy.
///
/// `exited`: the scheduler exited. `kernel_at_fault`: a splat is of a fault of the kernel, not of something that took too long.
fn can_be_expected(finding: &Finding, exited: bool, kernel_at_fault: bool) -> bool {
    let is_own = match finding.origin {
        Origin::Run => match finding.what.as_str() {
            "scheduler" | "machine" | sub_schedulers::WHAT => false,
            splats::WHAT => kernel_at_fault,
            what if what.starts_with(watches::WHAT) || what.starts_with(probes::WHAT) => true,
            "body" => !exited && finding.summary.starts_with(BODY_ERROR),
            _ => true,
        },
        Origin::Claim | Origin::Threshold | Origin::Check(_) => finding.summary.starts_with("error: "),
    };
    finding.outcome == Outcome::Fail && !is_own
}

fn not_set_up(run: &Run<'_>) -> Option<String> {
    if run.has_scheduler() && run.stage(Stage::SchedulerEnabled).is_none() {
        return Some("the scheduler never loaded".to_owned());
    }
    if run.stage(Stage::InitFailed).is_some() {
        return Some("guest-init failed".to_owned());
    }
    if run.stage(Stage::BodyStarted).is_none() {
        return Some("the body never began".to_owned());
    }
    match run.end() {
        Some((GuestEnd::MachineDied, _)) => Some("the emulator died".to_owned()),
        Some((GuestEnd::Interrupted, _)) => Some("the run was interrupted".to_owned()),
        None => Some("the recording has no end".to_owned()),
        Some(_) => None,
    }
}

/// One thing that the scheduler's error must be like.
enum ExpectedText<'a> {
    Text(&'a str),
    Pattern(&'a str, Regex),
}

impl ExpectedText<'_> {
    fn is_met(&self, line: &str) -> bool {
        match self {
            Self::Text(text) => line.contains(text),
            Self::Pattern(_, regex) => regex.is_match(line),
        }
    }
}

impl fmt::Display for ExpectedText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Pattern(pattern, _) => write!(f, "what matches `{pattern}`"),
        }
    }
}

/// What the test wants of the scheduler's error: nothing, a text, a match, or both.
///
/// # Errors
/// A pattern that is none. The macro takes no such: the trace is damaged, or made by hand.
fn wanted(test: &TestInfo) -> Result<Vec<ExpectedText<'_>>, String> {
    let mut wanted: Vec<_> =
        test.expect_scx_error_contains.iter().map(|text| ExpectedText::Text(text)).collect();
    if let Some(pattern) = &test.expect_scx_error_matches {
        let regex = RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).build();
        let regex =
            regex.map_err(|error| format!("error: `expect_scx_error_matches` is not usable: {error}"))?;
        wanted.push(ExpectedText::Pattern(pattern, regex));
    }
    Ok(wanted)
}

fn expect_error(run: &Run<'_>, wanted: &[ExpectedText<'_>]) -> (Outcome, String) {
    let listed = |wanted: &[&ExpectedText<'_>]| {
        wanted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    };
    let all = listed(&wanted.iter().collect::<Vec<_>>());
    let Some(exit) = run.scheduler_exit() else {
        return (Outcome::Fail, format!("the scheduler did not fail; its error was to contain {all}"));
    };
    // Where no capture has the kernel's own record, its log has the same words.
    let log = run.kmsg().map(|(_, _, line)| line).filter(|line| line.contains("sched_ext"));
    let kernel = [exit.reason.as_deref(), exit.message.as_deref()];
    let told: Vec<&str> = kernel.into_iter().flatten().chain(log).collect();
    let missing: Vec<&ExpectedText<'_>> =
        wanted.iter().filter(|wanted| !told.iter().any(|line| wanted.is_met(line))).collect();
    if missing.is_empty() {
        return (Outcome::Pass, format!("the scheduler failed with {all}, as expected"));
    }
    let said = exit.cause().unwrap_or_else(|| exit.title());
    let missing = listed(&missing);
    (Outcome::Fail, format!("the scheduler's error was to contain {missing}, and it is: {said}"))
}
