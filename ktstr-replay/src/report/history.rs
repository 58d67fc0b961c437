//! The end of the history: what the task that the scheduler's end is about, and its CPU, did last.

use crate::history::{HistoryLog, LoggedStep};
use crate::run::Run;
use crate::text::{escaped, seconds};
use crate::units::{Cpu, GuestNs};
use crate::view::events::table;
use crate::why::SchedulerEnd;

use super::Section;

/// Steps that are shown of the task, and of its CPU.
const STEPS: usize = 50;

/// Whose last steps are shown.
struct Subject {
    pid: u32,
    cpu: Cpu,
    until: GuestNs,
}

/// The stalled task, the CPU it waited for, and the end of its longest wait; of an error that was raised, the CPU that raised it and
/// what it ran then.
fn subject(end: &SchedulerEnd, log: &HistoryLog) -> Option<Subject> {
    if let Some(pid) = end.stalled_task() {
        let wait = log.longest_wait(u32::try_from(pid).ok()?)?;
        return Some(Subject { pid: wait.pid, cpu: wait.cpu, until: wait.until });
    }
    let trigger = end.raised_on()?;
    Some(Subject {
        pid: u32::try_from(trigger.task.1).ok()?,
        cpu: trigger.cpu?,
        until: end.exit.as_ref()?.at_ns,
    })
}

/// The last steps of the task that the end is about, and of its CPU.
pub(super) fn history(run: &Run<'_>, end: &SchedulerEnd) -> Vec<Section> {
    let log = run.history();
    // Who raised an error is known without a history, too.
    if log.steps.is_empty() {
        return Vec::new();
    }
    let Some(Subject { pid, cpu, until: last_at }) = subject(end, log) else { return Vec::new() };
    let who = format!("{}[{pid}]", escaped(log.comm(pid).unwrap_or("?")));
    let until = seconds(run.since_start_ns(last_at));
    let before: Vec<_> = log.steps.iter().filter(|step| step.at <= last_at).collect();
    let section = |what: String, wanted: &dyn Fn(&LoggedStep) -> bool, of: &dyn Fn(Cpu) -> bool| {
        let all: Vec<_> = before.iter().copied().filter(|step| wanted(step)).collect();
        let last = all.get(all.len().saturating_sub(STEPS)..).unwrap_or_default();
        // One line after the other looks as if nothing were between them.
        let shown = last.first().zip(last.last());
        let missing = shown.map_or(0, |(first, last)| log.missing_between(of, first.at, last.at));
        let missing =
            if missing == 0 { String::new() } else { format!("; {missing} steps of that time are missing") };
        Section {
            title: format!(
                "history of {what}: the last {} of {} events up to {until}{missing}",
                last.len(),
                all.len()
            ),
            lines: table(run, log, last),
        }
    };
    vec![
        section(who, &|step| log.is_about(step, pid), &|_| true),
        section(format!("CPU {cpu}"), &|step| step.cpu == cpu, &|of| of == cpu),
    ]
}
