//! Ends of logs: the kernel's warnings first, then what the programs wrote, then the kernel log, then the console.

use crate::run::Run;
use crate::text::seconds;
use crate::trace::record::{GuestEnd, OutputSource, Stage};
use crate::verdict::{Outcome, Verdict};

use super::Section;
use crate::text::{clean, counted, tail};

/// syslog's `KERN_WARNING`; lower is worse.
const WARNING: u8 = 4;
const WARNINGS: usize = 20;
const OUTPUT: usize = 20;
const KERNEL: usize = 12;
const CONSOLE: usize = 24;

pub(super) fn sections(run: &Run<'_>, verdict: &Verdict) -> Vec<Section> {
    let line =
        |(_, at, text): (u8, u64, &str)| format!("{:>9}  {}", seconds(run.since_start_ns(at)), clean(text));
    // What the kernel says while it boots is of the machine, not of the run, if it came as far as a run.
    let began = [Stage::JobUnpacked, Stage::SchedulerStarted]
        .map(|stage| run.stage(stage).map(|(_, e, _)| e.guest_ns));
    let began_ns = began.into_iter().flatten().min().unwrap_or(0);
    let warns = |(level, at, _): &(u8, u64, &str)| *level <= WARNING && *at >= began_ns;
    let warnings: Vec<_> = run.kmsg().filter(warns).map(line).collect();
    let all: Vec<_> = run.kmsg().filter(|(_, at, _)| *at >= began_ns).map(line).collect();
    let mut sections = Vec::new();
    let mut programs = Vec::new();
    for (source, whose) in
        [(OutputSource::Scheduler, "scheduler's output"), (OutputSource::Test, "test's output")]
    {
        // Of a scheduler that did not load, the finding itself has shown the end of what it wrote; of a body that
        // returned Ok, libtest says no more.
        let told = match source {
            OutputSource::Scheduler => run.stage(Stage::SchedulerEnabled).is_none(),
            _ => verdict.findings.iter().any(|f| f.what == "body" && f.outcome == Outcome::Pass),
        };
        if told {
            continue;
        }
        let (lines, before) = tail(&run.output(source), OUTPUT);
        programs.push(Section { title: titled(whose, before), lines });
    }
    let all_warn = all.iter().all(|line| warnings.contains(line));
    sections.push(last("kernel's warnings and errors", warnings, WARNINGS));
    sections.extend(programs);
    if !all_warn {
        sections.push(last("kernel log", all, KERNEL));
    }
    if console_matters(run) {
        let (lines, before) = tail(&run.console(), CONSOLE);
        sections.push(Section { title: titled("console", before), lines });
        let (lines, before) = tail(&run.output(OutputSource::Init), OUTPUT);
        sections.push(Section { title: titled("guest-init's output", before), lines });
    }
    sections
}

/// The console says little that the kernel log does not, unless the guest did not come to an orderly end.
pub(super) fn console_matters(run: &Run<'_>) -> bool {
    run.stage(Stage::InitFailed).is_some() || !matches!(run.end(), Some((GuestEnd::PoweredOff, _)))
}

fn last(whose: &str, lines: Vec<String>, max: usize) -> Section {
    let before = lines.len().saturating_sub(max);
    Section { title: titled(whose, before), lines: lines.into_iter().skip(before).collect() }
}

fn titled(whose: &str, before: usize) -> String {
    if before == 0 { whose.to_owned() } else { format!("{whose} (after {})", counted(before, "line")) }
}
