//! All steps of a run, in the order of their times.

use std::collections::HashMap;

use crate::kernel::history::place;
use crate::trace::record::{Event, EventBody, History, HistoryStep, HistoryTask, HistoryWhat};
use crate::units::{Cpu, GuestNs};

/// What the CPUs of a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryLog {
    /// The steps by their times, those of one CPU in its order.
    pub steps: Vec<LoggedStep>,
    /// What is missing.
    pub missing: Vec<MissingSteps>,
    /// Steps that name what is not there, as those of a damaged trace may.
    pub senseless: u64,
    pub(super) tasks: Vec<HistoryTask>,
    names: Vec<String>,
}

/// A step, with what it names by position in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedStep {
    /// When.
    pub at: GuestNs,
    /// The CPU that noted it.
    pub cpu: Cpu,
    /// What.
    pub what: HistoryWhat,
}

/// Steps of a CPU that the trace does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingSteps {
    /// Of which CPU.
    pub cpu: Cpu,
    /// The last step before them, if there is one.
    pub after: Option<GuestNs>,
    /// The first one behind them, if there is one.
    pub until: Option<GuestNs>,
    /// The kernel overwrote so many before they were read.
    pub overwritten: u64,
    /// So many were more than a trace keeps.
    pub left_out: u64,
}

impl MissingSteps {
    /// The time in which nothing is known of the CPU.
    pub(crate) fn span(&self) -> (GuestNs, GuestNs) {
        let after = self.after.unwrap_or_default();
        (after, self.until.unwrap_or(GuestNs(u64::MAX)).max(after))
    }
}

/// What was met of a CPU so far.
#[derive(Default)]
struct Met {
    /// When it did its last step.
    last: Option<GuestNs>,
    /// Position of what is missing and has no end yet: its record may be without steps.
    open: Option<usize>,
}

/// Gives what is said in several records one place.
#[derive(Default)]
struct Places {
    tasks: HashMap<HistoryTask, u32>,
    names: HashMap<String, u32>,
}

impl HistoryLog {
    /// The names of the tasks that it tells of, some of them more than once.
    pub(crate) fn task_names(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().map(|task| task.comm.as_str())
    }

    /// The history that `events` tell.
    #[must_use]
    pub fn of(events: &[Event]) -> Self {
        let (mut log, mut places) = (Self::default(), Places::default());
        let mut met: HashMap<Cpu, Met> = HashMap::new();
        for event in events {
            let EventBody::History(history) = &event.body else { continue };
            log.add(history, &mut places, met.entry(history.cpu).or_default());
        }
        // Stable, so that what a CPU noted at one time stays in its order.
        log.steps.sort_by_key(|step| step.at);
        log
    }

    fn add(&mut self, history: &History, places: &mut Places, met: &mut Met) {
        let cpu = history.cpu;
        let mut at = history.first_ns;
        if history.overwritten > 0 || history.left_out > 0 {
            let after = met.last;
            let place = *met.open.get_or_insert_with(|| {
                self.missing.push(MissingSteps { cpu, after, until: None, overwritten: 0, left_out: 0 });
                self.missing.len() - 1
            });
            if let Some(missing) = self.missing.get_mut(place) {
                missing.overwritten = missing.overwritten.saturating_add(history.overwritten);
                missing.left_out = missing.left_out.saturating_add(history.left_out);
            }
        }
        if let Some(first) = history.steps.first() {
            let until = at.saturating_add(first.after_ns);
            if let Some(missing) = met.open.take().and_then(|place| self.missing.get_mut(place)) {
                missing.until = Some(until);
            }
        }
        let tasks: Vec<u32> =
            history.tasks.iter().map(|task| place(&mut places.tasks, &mut self.tasks, task)).collect();
        let names: Vec<u32> =
            history.names.iter().map(|name| place(&mut places.names, &mut self.names, name)).collect();
        for HistoryStep { after_ns, what } in &history.steps {
            at = at.saturating_add(*after_ns);
            match renamed(*what, &tasks, &names) {
                Some(what) => self.steps.push(LoggedStep { at, cpu, what }),
                None => self.senseless += 1,
            }
        }
        if !history.steps.is_empty() {
            met.last = Some(at);
        }
    }

    /// The task at a place that a step names.
    #[must_use]
    pub fn task(&self, place: u32) -> Option<&HistoryTask> {
        self.tasks.get(place as usize)
    }

    /// The event of sched_ext at a place that a step names.
    #[must_use]
    pub fn name(&self, place: u32) -> Option<&str> {
        self.names.get(place as usize).map(String::as_str)
    }

    /// Thread id of the task at a place that a step names.
    pub(super) fn pid(&self, place: u32) -> Option<u32> {
        self.task(place).map(|task| task.pid)
    }

    /// The name that a task had last, of those that the steps name it by.
    #[must_use]
    pub fn comm(&self, pid: u32) -> Option<&str> {
        self.tasks.iter().rev().find(|task| task.pid == pid).map(|task| task.comm.as_str())
    }

    /// Whether a step is about the task `pid`: it switches to or from it, wakes or moves it.
    #[must_use]
    pub fn is_about(&self, step: &LoggedStep, pid: u32) -> bool {
        let is = |place| self.pid(place) == Some(pid);
        match step.what {
            HistoryWhat::Switch { prev, next, .. } => is(prev) || is(next),
            HistoryWhat::Wakeup { task, .. } | HistoryWhat::Migrate { task, .. } => is(task),
            HistoryWhat::SchedExt { .. } => false,
        }
    }

    /// The CPUs that have steps, ascending.
    #[must_use]
    pub fn cpus(&self) -> Vec<Cpu> {
        let mut cpus: Vec<Cpu> = self.steps.iter().map(|step| step.cpu).collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    }
}

/// A step with the places of the log; `None`: it names what is not there.
fn renamed(what: HistoryWhat, tasks: &[u32], names: &[u32]) -> Option<HistoryWhat> {
    let task = |place: u32| tasks.get(place as usize).copied();
    Some(match what {
        HistoryWhat::Switch { prev, state, next } => {
            HistoryWhat::Switch { prev: task(prev)?, state, next: task(next)? }
        }
        HistoryWhat::Wakeup { task: of, by, to, is_new } => {
            HistoryWhat::Wakeup { task: task(of)?, by, to, is_new }
        }
        HistoryWhat::Migrate { task: of, by, from, to } => {
            HistoryWhat::Migrate { task: task(of)?, by, from, to }
        }
        HistoryWhat::SchedExt { name, by, count } => {
            HistoryWhat::SchedExt { name: names.get(name as usize).copied()?, by, count }
        }
    })
}
