//! The end of the history: what the stalled task and its CPU did last.

use crate::history::{LoggedStep, Wait};
use crate::run::Run;
use crate::text::{escaped, seconds};
use crate::units::Cpu;
use crate::view::events::table;
use crate::why::SchedulerEnd;

use super::Section;

/// Steps that are shown of the task, and of its CPU.
const STEPS: usize = 50;

/// The last steps of the stalled task and of the CPU it waited for, up to the end of its longest wait.
pub(super) fn history(run: &Run<'_>, end: &SchedulerEnd) -> Vec<Section> {
    let Some(pid) = end.stalled_task().and_then(|pid| u32::try_from(pid).ok()) else { return Vec::new() };
    let log = run.history();
    let Some(wait) = log.longest_wait(pid) else { return Vec::new() };
    let who = format!("{}[{pid}]", escaped(log.comm(pid).unwrap_or("?")));
    let until = seconds(run.since_start_ns(wait.until));
    let before: Vec<_> = log.steps.iter().filter(|step| step.at <= wait.until).collect();
    let section = |what: String, wanted: &dyn Fn(&LoggedStep) -> bool, of: &dyn Fn(Cpu) -> bool| {
        let all: Vec<_> = before.iter().copied().filter(|step| wanted(step)).collect();
        let last = all.get(all.len().saturating_sub(STEPS)..).unwrap_or_default();
        // One line after the other looks as if nothing were between them.
        let shown = last.first().zip(last.last());
        let missing = shown
            .map_or(0, |(first, last)| log.missing_of(of, &Wait { since: first.at, until: last.at, ..wait }));
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
        section(format!("CPU {}", wait.cpu), &|step| step.cpu == wait.cpu, &|cpu| cpu == wait.cpu),
    ]
}
