//! The verdict: the first lines of a report, and its findings.

use crate::run::Run;
use crate::text::{clean, counted, seconds, shorten, wrapped};
use crate::trace::record::manifest::PerformancePart;
use crate::trace::record::{CaptureKind, GuestEnd, LossKind, Sample, Stage};
use crate::units::GuestNs;
use crate::verdict::{Finding, Origin, Outcome, Verdict};

/// Longest cause that something follows on the first line, in characters.
const CAUSE_CHARS: usize = 140;
/// Width of the lines after it, in characters.
const WIDTH: usize = 150;
/// Width of the mark before a finding.
const MARK: usize = 6;
/// Width of a line of evidence, in characters.
const EVIDENCE_WIDTH: usize = 130;

/// The first lines: the verdict, its first cause, what was checked, and in which run.
pub(super) fn header(run: &Run<'_>, verdict: &Verdict) -> Vec<String> {
    let mut lines = vec![title(run, verdict)];
    let checked = if run.manifest.skipped.is_some() {
        "nothing, it was not run".to_owned()
    } else {
        checked(run, verdict)
    };
    let checked = format!("checked: {checked}");
    for line in [Some(checked), Some(machine(run)), performance(run)].into_iter().flatten() {
        let mut indent = "  ";
        for piece in wrapped(&line, WIDTH) {
            lines.push(format!("{indent}{piece}"));
            indent = "    ";
        }
    }
    lines
}

/// The first line: the verdict and its first cause.
pub fn title(run: &Run<'_>, verdict: &Verdict) -> String {
    let name = &run.manifest.test.name;
    let name = if name.is_empty() { "(unnamed test)" } else { name };
    let mut title = format!("{} {name}", verdict.outcome());
    if let Some(cause) = cause(verdict) {
        title.push_str(": ");
        title.push_str(&cause);
    }
    clean(&title)
}

/// The first finding that is as bad as the verdict.
fn cause(verdict: &Verdict) -> Option<String> {
    let outcome = verdict.outcome();
    if outcome == Outcome::Skip {
        return verdict.findings.first().map(|f| f.summary.clone());
    }
    if outcome <= Outcome::Pass {
        return verdict.findings.iter().find(|f| f.what == "expect_err").map(|f| f.summary.clone());
    }
    let mut as_bad = verdict.findings.iter().filter(|f| f.counts_as() == outcome);
    let first = as_bad.next()?;
    let cause = match first.origin {
        // Of several payloads it is not clear which one is meant.
        Origin::Run if !first.what.starts_with(PAYLOAD) => first.summary.clone(),
        _ => format!("{}: {}", first.what, first.summary),
    };
    Some(match as_bad.count() {
        0 => cause,
        more => format!("{} (and {more} more)", shorten(&cause, CAUSE_CHARS)),
    })
}

fn checked(run: &Run<'_>, verdict: &Verdict) -> String {
    let of = |keep: fn(&Origin) -> bool| verdict.findings.iter().filter(move |f| keep(&f.origin));
    let mut parts = Vec::new();
    let claims: Vec<&Finding> = of(|o| *o == Origin::Claim).collect();
    let held = claims.iter().filter(|f| f.outcome == Outcome::Pass).count();
    parts.push(match claims.len() {
        0 => "no claims".to_owned(),
        n => format!("{held} of {} held", counted(n, "claim")),
    });
    let periodic = run.taken().filter(|s| s.kind == CaptureKind::Periodic).count();
    let captures = counted(run.taken().count(), "capture");
    parts.push(if periodic > 0 { format!("{captures} ({periodic} periodic)") } else { captures });
    let limits = verdict.findings.iter().filter(|f| f.origin == Origin::Threshold || is_check_of_payload(f));
    parts.extend(limits.map(|f| f.what.clone()));
    let mut labels: Vec<&str> = Vec::new();
    for finding in of(|o| matches!(o, Origin::Check(_))) {
        if let Origin::Check(label) = &finding.origin
            && !labels.contains(&label.as_str())
        {
            labels.push(label);
        }
    }
    parts.extend(labels.iter().map(|label| format!("check {label}")));
    if run.has_scheduler() {
        parts.push("the scheduler's life".to_owned());
    }
    // What a kernel wrote that panicked is in the finding of the machine.
    let panicked = run.end().is_some_and(|(end, _)| end == GuestEnd::Panicked);
    if !run.manifest.test.allow_splats && !panicked && run.kmsg().next().is_some() {
        parts.push("the kernel log".to_owned());
    }
    parts.extend(lost(run));
    parts.join(", ")
}

/// How findings of payloads begin; those of their checks go on after a colon.
const PAYLOAD: &str = "payload ";

fn is_check_of_payload(finding: &Finding) -> bool {
    finding.what.strip_prefix(PAYLOAD).is_some_and(|rest| rest.contains(": "))
}

/// A summary of what is missing and should be there; what a person left out does not count.
fn lost(run: &Run<'_>) -> Option<String> {
    let mut by_kind: Vec<(LossKind, u64)> = Vec::new();
    for loss in run.losses.iter().filter(|loss| loss.count > 0 && !loss.is_on_purpose()) {
        match by_kind.iter_mut().find(|(kind, _)| *kind == loss.kind) {
            Some((_, count)) => *count = count.saturating_add(loss.count),
            None => by_kind.push((loss.kind, loss.count)),
        }
    }
    let is_lost = |sample: &&Sample| sample.missed.is_some() && !run.is_after_body(sample);
    let missed = run.samples.iter().filter(is_lost).count();
    let mut each: Vec<String> = by_kind.iter().map(|(kind, count)| sum(*kind, *count)).collect();
    if missed > 0 {
        each.push(format!("{} not taken", counted(missed, "capture")));
    }
    (!each.is_empty()).then(|| format!("LOST: {}", each.join(" and ")))
}

fn sum(kind: LossKind, count: u64) -> String {
    match kind {
        LossKind::HostTime => {
            let time = seconds(i64::try_from(count).unwrap_or(i64::MAX));
            format!("{time} in which the host did not run the machine")
        }
        _ => format!("{count} {}", kind.as_str()),
    }
}

/// Shorter waits for the host's CPUs are not worth a word, in ms.
const TOLD_WAIT_MS: u64 = 1000;

fn machine(run: &Run<'_>) -> String {
    let manifest = &run.manifest;
    let machine = &manifest.machine;
    let mut parts = Vec::new();
    let known = |text: &str| !text.is_empty();
    if known(&manifest.kernel.release) {
        parts.push(format!("kernel {}", manifest.kernel.release));
    }
    if known(&machine.kind) {
        // QEMU's own version text begins with its name.
        let named = machine.version.to_lowercase().starts_with(&machine.kind.to_lowercase());
        let kind = if named { "" } else { &machine.kind };
        parts.push(format!("{kind} {}", machine.version).trim().to_owned());
    }
    if known(&machine.topology) {
        parts.push(machine.topology.clone());
    }
    if machine.memory_mib > 0 {
        parts.push(format!("{} MiB", machine.memory_mib));
    }
    match &manifest.scheduler {
        Some(scheduler) => {
            let args: String = scheduler.args.iter().map(|a| format!(" {a}")).collect();
            parts.push(format!("scheduler {}{args}", scheduler.name));
        }
        None if manifest.is_on_host() || manifest.imported.is_some() => {}
        None => parts.push("the kernel's own scheduler".to_owned()),
    }
    parts.extend(machine.start.iter().filter(|start| start.is_attached()).map(ToString::to_string));
    let waited_ms = machine.start.as_ref().map_or(0, |start| start.waited_ms);
    if waited_ms >= TOLD_WAIT_MS {
        parts.push(format!("waited {} s for CPUs of the host", waited_ms / 1000));
    }
    parts.extend(manifest.taints.iter().cloned());
    if manifest.is_on_host() {
        parts.push("times count from the body's start".to_owned());
    } else if let Some(imported) = &manifest.imported {
        parts.push(format!("of a core file ({})", imported.format));
        parts.push("times count from the kernel's start".to_owned());
    } else if run.stage(Stage::BodyStarted).is_some() {
        let at = run.samples.origin_ns().since(GuestNs(0));
        parts.push(format!("times count from the body's start, {} after the guest's", seconds(at)));
    } else {
        parts.push("times count from the guest's start, as the body never began".to_owned());
    }
    format!("run: {}", parts.join(", "))
}

/// What of performance mode was in force, and what the host refused, with its reasons.
fn performance(run: &Run<'_>) -> Option<String> {
    let parts = &run.manifest.machine.performance;
    let (in_force, refused): (Vec<_>, Vec<_>) = parts.iter().partition(|part| part.in_force);
    let told = |parts: Vec<&PerformancePart>| {
        let told = parts.iter().map(|part| format!("{} ({})", part.what, part.detail));
        told.collect::<Vec<_>>().join(", ")
    };
    let mut line = match in_force.is_empty() {
        true => "performance mode: nothing in force".to_owned(),
        false => format!("performance mode: {}", told(in_force)),
    };
    if !refused.is_empty() {
        line.push_str(&format!("; refused: {}", told(refused)));
    }
    (!parts.is_empty()).then_some(line)
}

/// The findings: those that do not hold with their evidence, those that do in a line.
pub(super) fn findings(verdict: &Verdict) -> Vec<String> {
    let mut out = Vec::new();
    let (bad, good): (Vec<_>, Vec<_>) = verdict.findings.iter().partition(|f| f.outcome > Outcome::Pass);
    for finding in bad {
        out.extend(broken(finding));
    }
    for finding in good {
        out.push(clean(&format!("{}{}: {}", mark(finding), named(finding), finding.summary)));
    }
    out
}

fn mark(finding: &Finding) -> String {
    let mark = match finding.outcome {
        Outcome::Fail if finding.expected => "xfail",
        Outcome::Fail => "FAIL",
        Outcome::Inconclusive => "????",
        Outcome::Pass => "ok",
        Outcome::Skip => "skip",
    };
    format!("{mark:<MARK$}")
}

fn named(finding: &Finding) -> String {
    match &finding.origin {
        Origin::Check(label) if *label != finding.what => format!("check {label}: {}", finding.what),
        Origin::Check(label) => format!("check {label}"),
        _ => finding.what.clone(),
    }
}

fn broken(finding: &Finding) -> Vec<String> {
    let indent = " ".repeat(MARK);
    let mut out = vec![clean(&format!("{}{}", mark(finding), named(finding)))];
    let mut add = |line: &str, deeper: &str| {
        // What does not fit goes on below, deeper by two.
        let mut hang = "";
        for piece in wrapped(line, EVIDENCE_WIDTH) {
            out.push(format!("{indent}{deeper}{hang}{piece}").trim_end().to_owned());
            hang = "  ";
        }
    };
    add(&finding.summary, "");
    finding.lines.iter().for_each(|line| add(line, "  "));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::CheckSource;
    use crate::testing::TraceBuilder;
    use crate::trace::record::manifest::StartInfo;
    use crate::trace::record::{EventBody, MetricCheck, PayloadEnd, PayloadRun};

    #[test]
    fn checks_of_payloads_are_told_as_checked_and_their_failures_with_the_payloads_name() {
        let run = PayloadRun {
            name: "fio".into(),
            end: PayloadEnd::Ended,
            exit_code: Some(3),
            checks: vec![MetricCheck::ExitCode { code: 4 }, MetricCheck::Exists { path: "iops".into() }],
            ..PayloadRun::default()
        };
        let trace = TraceBuilder::begun().event(100, EventBody::Payload(Box::new(run))).ended().trace();
        let run = Run::load(&trace);
        let lines = header(&run, &run.judge(None, CheckSource::Recorded));
        assert!(
            lines[0].contains("FAIL demo::two_cgroups: payload fio: exit code: 3; 4 needed"),
            "{lines:?}"
        );
        let text = lines.join(" ");
        assert!(text.contains(", payload fio: exit code, payload fio: iops, the scheduler's life"), "{text}");
    }

    #[test]
    fn performance_mode_is_told_with_what_was_refused() {
        let line = |parts: &[(&str, bool, &str)]| {
            let mut run = TraceBuilder::begun();
            let part = |&(what, in_force, detail): &(&str, bool, &str)| PerformancePart {
                what: what.to_owned(),
                in_force,
                detail: detail.to_owned(),
            };
            run.manifest.machine.performance = parts.iter().map(part).collect();
            performance(&Run::load(&run.trace()))
        };
        assert_eq!(line(&[]), None);
        let own = ("CPUs of its own", true, "vCPUs 0 to 0 on 1");
        let huge = ("huge pages", false, "the host has none");
        assert_eq!(line(&[own]).as_deref(), Some("performance mode: CPUs of its own (vCPUs 0 to 0 on 1)"));
        assert_eq!(
            line(&[own, huge]).as_deref(),
            Some(
                "performance mode: CPUs of its own (vCPUs 0 to 0 on 1); refused: huge pages (the host has none)"
            )
        );
        assert!(line(&[huge]).is_some_and(|line| line.starts_with("performance mode: nothing in force; ")));
    }

    #[test]
    fn a_wait_for_the_hosts_cpus_is_told_if_it_was_one() {
        let line = |waited_ms| {
            let mut run = TraceBuilder::begun();
            run.manifest.machine.start = Some(StartInfo { waited_ms, ..StartInfo::default() });
            machine(&Run::load(&run.trace()))
        };
        assert!(line(51_300).contains(", waited 51 s for CPUs of the host, "), "{}", line(51_300));
        assert!(!line(999).contains("waited"), "{}", line(999));
    }
}
