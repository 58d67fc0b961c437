//! The run itself: its machine, the test's body, and whether the trace is all there.

use super::claims::judge_claims;
use super::{host_gaps, refusal, splats};
use crate::run::{Run, gone_words};
use crate::text::{counted, listed, seconds};
use crate::trace::record::{EventBody, GuestEnd, Stage};
use crate::verdict::{Finding, Origin, Outcome, Verdict};

/// Lines of a panic that are kept as evidence.
const PANIC_LINES: usize = 14;
/// How the finding of a body begins that returned an error.
pub(super) const BODY_ERROR: &str = "returned an error: ";

/// What guest-init says of a scheduler that a test attached in vain (`await_enabled` in its `run.rs`).
const NOT_ENABLED: [&str; 2] =
    ["the scheduler ended before it was enabled", "the scheduler was not enabled within"];

/// What was found about the machine.
pub(super) struct Machine {
    pub findings: Vec<Finding>,
    /// Its end is what everything else follows from.
    pub is_cause: bool,
}

/// How the machine ended, and whether guest-init could do its work.
pub(super) fn judge_machine(run: &Run<'_>) -> Machine {
    let mut findings = Vec::new();
    let mut is_cause = false;
    // A scheduler that does not load is all that init failed at; the finding of the scheduler says more of it.
    let loading =
        run.stage(Stage::SchedulerStarted).is_some() && run.stage(Stage::SchedulerEnabled).is_none();
    if let Some((_, _, detail)) = run.stage(Stage::InitFailed).filter(|_| !loading) {
        findings.push(of_machine("guest-init", Outcome::Fail, detail));
        is_cause = true;
    }
    let Some((end, detail)) = run.end() else {
        let found = format!("the recording has no end; the last it knows is {}", last_known(run));
        findings.push(of_machine("machine", Outcome::Inconclusive, &found));
        return Machine { findings, is_cause };
    };
    let on_host = run.manifest.is_on_host();
    let with = |what: &str| if detail.is_empty() { what.to_owned() } else { format!("{what}: {detail}") };
    let (outcome, found) = match end {
        GuestEnd::PoweredOff if on_host => (Outcome::Pass, "none: the body ran on the host".to_owned()),
        GuestEnd::TimedOut if on_host => (Outcome::Fail, with("the body did not end")),
        GuestEnd::PoweredOff => (Outcome::Pass, "powered off".to_owned()),
        GuestEnd::Panicked => {
            (Outcome::Fail, panic_title(run).unwrap_or_else(|| with("the guest's kernel panicked")))
        }
        GuestEnd::Reset => (Outcome::Fail, with("the guest reset itself")),
        GuestEnd::TimedOut if is_cause => {
            (Outcome::Fail, "was ended, as there was nothing more to wait for".to_owned())
        }
        GuestEnd::TimedOut => {
            let found = with("the guest did not get on within its time");
            (Outcome::Fail, format!("{found}; the last it reached is {}", last_known(run)))
        }
        GuestEnd::MachineDied => (Outcome::Fail, with("the emulator died")),
        GuestEnd::Interrupted => (Outcome::Inconclusive, with("the run was interrupted")),
        GuestEnd::FailedFast => (Outcome::Pass, with("the run was ended because a claim had failed")),
    };
    is_cause |= matches!(end, GuestEnd::Panicked | GuestEnd::Reset | GuestEnd::MachineDied);
    let mut finding = of_machine("machine", outcome, &found);
    if end == GuestEnd::Panicked {
        finding.lines = panic_lines(run);
    }
    if is_emulators_fault(run) {
        finding.outcome = Outcome::Inconclusive;
        finding.lines.push(EMULATORS_FAULT.to_owned());
    }
    findings.push(finding);
    Machine { findings, is_cause }
}

fn of_machine(what: &str, outcome: Outcome, summary: &str) -> Finding {
    Finding::new(Origin::Run, what, outcome, summary)
}

/// The last stage, and when.
fn last_known(run: &Run<'_>) -> String {
    let last = run.events.iter().rev().find_map(|e| match &e.body {
        EventBody::Stage { stage, .. } => Some((*stage, e.guest_ns)),
        _ => None,
    });
    last.map_or_else(
        || "nothing".to_owned(),
        |(stage, at)| format!("{} at {}", stage.as_str(), seconds(run.since_start_ns(at))),
    )
}

/// The kernel log, or the console where a dying kernel wrote nothing else.
fn last_words(run: &Run<'_>) -> Vec<String> {
    const PANIC: &str = "Kernel panic";
    let log: Vec<_> = run.kmsg().map(|(_, _, text)| text.to_owned()).collect();
    if log.iter().any(|line| line.contains(PANIC)) {
        return log;
    }
    run.console().lines().map(|line| line.trim_end().to_owned()).collect()
}

fn panic_title(run: &Run<'_>) -> Option<String> {
    let words = last_words(run);
    let line = words.iter().find(|line| line.contains("Kernel panic"))?;
    // Without the console's time stamp.
    line.find("Kernel panic").and_then(|at| line.get(at..)).map(str::to_owned)
}

/// What is said of a guest that died of [`is_emulators_fault`].
pub(super) const EMULATORS_FAULT: &str = "note: `Oops: int3` is the emulator's fault, not the scheduler's: it ran an instruction that \
     the kernel had already replaced. The run says nothing of either";

/// The kernel patches its running code by way of a breakpoint (`text_poke` in `arch/x86/kernel/alternative.c` of Linux), and
/// emulated CPUs are seen to run into one that is gone already. No scheduler can do that.
pub(super) fn is_emulators_fault(run: &Run<'_>) -> bool {
    let panicked = run.end().is_some_and(|(end, _)| end == GuestEnd::Panicked);
    let is_real = run.events.iter().any(|e| match &e.body {
        EventBody::Op { name, detail } => {
            name == EventBody::MENDED && detail.contains(EventBody::UNKNOWN_BREAKPOINT)
        }
        _ => false,
    });
    let stray = last_words(run).iter().any(|line| line.contains("Oops: int3"));
    panicked && stray && !is_real && run.manifest.is_emulated()
}

/// Why the run ended that is neither the test's nor the scheduler's doing; `None`: it was not cut short.
pub(super) fn cut_short(run: &Run<'_>) -> Option<String> {
    match run.end() {
        Some((GuestEnd::Interrupted, _)) => Some("the run was interrupted".to_owned()),
        _ if is_emulators_fault(run) => Some("the emulator failed".to_owned()),
        _ => host_gaps::ended(run),
    }
}

/// What is missing from a run that was cut short proves nothing: only failures that were seen stay.
pub(super) fn apply_cut(run: &Run<'_>, verdict: &mut Verdict) {
    let Some(why) = cut_short(run) else { return };
    let exited = run.scheduler_exits().iter().any(|exit| exit.kind != 0);
    for finding in verdict.findings.iter_mut().filter(|finding| finding.outcome == Outcome::Fail) {
        let seen = match finding.what.as_str() {
            "scheduler" => exited,
            "body" => run.body_result().is_some(),
            // A fault of the kernel is none of the host's.
            splats::WHAT => splats::is_fault(run),
            _ => false,
        };
        if !seen {
            finding.outcome = Outcome::Inconclusive;
            finding.lines.push(format!("{why}, which may be the reason"));
        }
    }
}

/// From the first line of trouble on.
fn panic_lines(run: &Run<'_>) -> Vec<String> {
    const BEGIN: [&str; 6] = [
        "BUG:",
        "Oops",
        "Unable to handle",
        "general protection fault",
        "sysrq: Trigger a crash",
        "Kernel panic",
    ];
    let words = last_words(run);
    let from = words.iter().position(|line| BEGIN.iter().any(|b| line.contains(b))).unwrap_or(words.len());
    let lines: Vec<_> = words.into_iter().skip(from).filter(|line| !line.trim().is_empty()).collect();
    let more = lines.len().saturating_sub(PANIC_LINES);
    let mut kept: Vec<_> = lines.into_iter().take(PANIC_LINES).collect();
    if more > 0 {
        kept.push(format!("... {more} more lines; the console is in the trace"));
    }
    kept
}

/// That the run was ended because of a claim that had failed, and none has: what the rest of it would have been is not known.
pub(super) fn unfounded_end(run: &Run<'_>, so_far: &Verdict) -> Option<Finding> {
    let (end, claim) = run.end()?;
    if end != GuestEnd::FailedFast {
        return None;
    }
    let has_failed = |findings: &[Finding]| {
        findings.iter().any(|finding| finding.origin == Origin::Claim && finding.outcome == Outcome::Fail)
    };
    // Who replays with other claims has not judged the one that ended the run.
    if has_failed(&so_far.findings) || has_failed(&judge_claims(run, None)) {
        return None;
    }
    let found = format!("the run was ended as a claim had failed ({claim}), and by the whole trace none has");
    Some(of_machine("end", Outcome::Inconclusive, &found))
}

/// What the test's body said.
///
/// `so_far`: the outcome of scheduler and machine. A body that did not begin or end because of them is not itself
/// at fault, nor is one that could not go on without its scheduler.
pub(super) fn judge_body(run: &Run<'_>, so_far: Outcome) -> Finding {
    let finding = |outcome, found: String| Finding::new(Origin::Run, "body", outcome, found);
    let left = run.scheduler_exits().iter().any(|exit| exit.back_at_ns.is_none());
    match run.body_result() {
        Some((None, [])) => finding(Outcome::Pass, "returned Ok".to_owned()),
        Some((None, failures)) => {
            let found = match failures {
                [one] => one.clone(),
                many => format!("{} assertions failed", many.len()),
            };
            let lines = if failures.len() > 1 { failures.to_vec() } else { Vec::new() };
            finding(Outcome::Fail, found).with_lines(lines)
        }
        Some((Some(error), failures)) => {
            let follows = left && failures.is_empty() && error.contains(&gone_words(run.scheduler_name()));
            let outcome = if follows { Outcome::Skip } else { Outcome::Fail };
            let mut lines = failures.to_vec();
            // A scheduler that the test attached, in the place of its own, or again; its own is attached once more when a step ends.
            let is_refused = NOT_ENABLED.iter().any(|words| error.contains(words));
            let attaching = run.detached_times().last().filter(|_| is_refused);
            let refused = attaching.and_then(|time| refusal::refusal(run, &time, &[]));
            lines.extend(refused.map(|reason| format!("the scheduler that was to be attached: {reason}")));
            finding(outcome, format!("{BODY_ERROR}{error}")).with_lines(lines)
        }
        None => {
            let began = run.stage(Stage::BodyStarted).is_some();
            let how = if began { "began and did not end" } else { "never began" };
            let exited = run.stage(Stage::TestExited).map(|(_, _, d)| d).filter(|d| !d.is_empty());
            let found =
                exited.map_or_else(|| how.to_owned(), |d| format!("{how}; how the test binary ended: {d}"));
            let outcome = match so_far {
                // The claim that ended the run has its own finding.
                _ if run.end().is_some_and(|(end, _)| end == GuestEnd::FailedFast) => Outcome::Skip,
                Outcome::Skip | Outcome::Pass if run.is_partial() => Outcome::Inconclusive,
                Outcome::Skip | Outcome::Pass if !left => Outcome::Fail,
                _ => Outcome::Skip,
            };
            finding(outcome, found)
        }
    }
}

/// Whether the trace is all there. Damage makes a verdict inconclusive: what is damaged could have been the evidence.
pub(super) fn judge_trace(run: &Run<'_>) -> Option<Finding> {
    let damage = &run.damage;
    if damage.is_empty() {
        return None;
    }
    let found = format!("the trace is damaged in {}", counted(damage.len(), "place"));
    Some(Finding::new(Origin::Run, "trace", Outcome::Inconclusive, found).with_lines(listed(damage.clone())))
}
