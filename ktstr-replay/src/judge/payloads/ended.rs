//! How a run of a payload ended, and whether that is as it should be.

use super::metric::shown;
use crate::text::{counted, seconds, tail};
use crate::trace::record::{MetricCheck, PayloadEnd, PayloadOutput, PayloadRun, Polarity};
use crate::verdict::{Finding, Origin, Outcome};

/// Lines of each stream that are shown of a run that failed.
const LINES: usize = 10;
/// Names of signals that programs die of. Source: signal(7), x86.
const SIGNALS: [(i32, &str); 14] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (11, "SIGSEGV"),
    (13, "SIGPIPE"),
    (14, "SIGALRM"),
    (15, "SIGTERM"),
    (31, "SIGSYS"),
];

/// In words, after the payload's name: `exited with code 1 after 0.200s`.
pub(crate) fn how_it_ended(run: &PayloadRun) -> String {
    let time = |ns: u64| seconds(i64::try_from(ns).unwrap_or(i64::MAX));
    let after = format!("after {}", time(run.wall_ns));
    let because = run.fault.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default();
    match run.end {
        PayloadEnd::NotStarted => format!("could not be started{because}"),
        PayloadEnd::Ended => format!("{} {after}", status(run)),
        PayloadEnd::TimedOut => {
            format!("was ended {after}: it took longer than the {} that it is allowed", time(run.timeout_ns))
        }
        PayloadEnd::Stopped => format!("was ended by the test {after}"),
        PayloadEnd::Lost => format!("was started, and how it ended is not known{because}"),
    }
}

fn status(run: &PayloadRun) -> String {
    match (run.exit_code, run.signal) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => {
            let name = SIGNALS.iter().find(|(number, _)| *number == signal);
            let name = name.map(|(_, name)| format!(" ({name})")).unwrap_or_default();
            format!("was killed by signal {signal}{name}")
        }
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// The finding of the run itself.
pub(super) fn judge(run: &PayloadRun, who: &str) -> Finding {
    let how = how_it_ended(run);
    if let Some(why) = fault(run) {
        let found = if why.is_empty() { how } else { format!("{how}, {why}") };
        return Finding::new(Origin::Run, who, Outcome::Fail, found).with_lines(seen(run));
    }
    let mut parts = vec![how];
    if run.output == PayloadOutput::Json && !run.metrics.is_empty() {
        parts.push(counted(run.metrics.len(), "metric"));
    }
    let declared = run.declared.iter().filter_map(|metric| {
        let value = shown(run, run.metrics.iter().find(|found| found.path == metric.path)?);
        let better = match metric.polarity {
            Polarity::Neutral => "",
            Polarity::HigherBetter => " (higher is better)",
            Polarity::LowerBetter => " (lower is better)",
        };
        Some(format!("{} {value}{better}", metric.path))
    });
    parts.extend(declared);
    Finding::new(Origin::Run, who, Outcome::Pass, parts.join("; "))
}

/// Why the run is not as it should be, beyond how it ended; `None`: it is.
fn fault(run: &PayloadRun) -> Option<String> {
    let code_is_checked = run.checks.iter().any(|check| matches!(check, MetricCheck::ExitCode { .. }));
    match run.end {
        PayloadEnd::NotStarted | PayloadEnd::TimedOut | PayloadEnd::Lost => return Some(String::new()),
        // It had no time to write what it would have written; what its checks ask for is judged all the same.
        PayloadEnd::Stopped => return None,
        PayloadEnd::Ended => {}
    }
    match run.exit_code {
        None => return Some(String::new()),
        Some(0) => {}
        Some(_) if code_is_checked => {}
        Some(_) => return Some("where 0 is expected".to_owned()),
    }
    if run.output == PayloadOutput::ExitCode {
        return None;
    }
    if run.stdout_bytes == 0 && run.stderr_bytes == 0 {
        return Some("and wrote nothing, although its output is to be JSON".to_owned());
    }
    if let Some(why) = &run.metrics_fault {
        return Some(format!("and its output has no metrics: {why}"));
    }
    let absent: Vec<&str> = run
        .declared
        .iter()
        .filter(|metric| !run.metrics.iter().any(|found| found.path == metric.path))
        .map(|metric| metric.path.as_str())
        .collect();
    (!absent.is_empty()).then(|| format!("and did not write the declared {}", absent.join(", ")))
}

/// What was seen of it: its command, and the ends of its output.
pub(super) fn seen(run: &PayloadRun) -> Vec<String> {
    let mut lines = vec![format!("command: {} {}", run.program, run.args.join(" ")).trim_end().to_owned()];
    if !run.cgroup.is_empty() {
        lines.push(format!("cgroup: {}", run.cgroup));
    }
    for (name, text, bytes) in
        [("stdout", &run.stdout_tail, run.stdout_bytes), ("stderr", &run.stderr_tail, run.stderr_bytes)]
    {
        if bytes == 0 {
            lines.push(format!("{name}: nothing"));
            continue;
        }
        let (end, _) = tail(text, LINES);
        lines.push(format!(
            "{name}, the end of {}:",
            counted(usize::try_from(bytes).unwrap_or(usize::MAX), "byte")
        ));
        lines.extend(end.into_iter().map(|line| format!("  {line}")));
    }
    lines
}
