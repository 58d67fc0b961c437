//! How long a task was runnable and did not run, and who did meanwhile.

use std::collections::HashMap;

use super::words::is_runnable;
use super::{HistoryLog, LoggedStep};
use crate::trace::record::HistoryWhat;
use crate::units::{Cpu, GuestNs};

/// A time in which a task was runnable and did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The task.
    pub pid: u32,
    /// From this time on: it was woken, or its CPU was taken from it.
    pub since: GuestNs,
    /// Up to here: it ran, or the history ends.
    pub until: GuestNs,
    /// It ran then.
    pub ended: bool,
    /// The CPU on whose runqueue it was last.
    pub cpu: Cpu,
}

/// For how long a task ran on a CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The task; 0: the CPU was idle.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// In ns.
    pub ns: u64,
}

impl Wait {
    /// How long it was, in ns.
    #[must_use]
    pub fn length_ns(&self) -> u64 {
        self.until.saturating_since(self.since)
    }
}

impl HistoryLog {
    /// The longest wait of the task `pid`, as far as the history goes. Where steps are missing, it may have run in between.
    #[must_use]
    pub fn longest_wait(&self, pid: u32) -> Option<Wait> {
        let is = |place| self.pid(place) == Some(pid);
        let mut longest: Option<Wait> = None;
        let mut keep = |wait: Wait| {
            if longest.is_none_or(|known| wait.length_ns() > known.length_ns()) {
                longest = Some(wait);
            }
        };
        let mut waits: Option<Wait> = None;
        // Since its wakeup or its last turn it may be running already: a wakeup of one that runs begins no wait.
        let mut runs = false;
        for LoggedStep { at, cpu, what } in self.steps.iter().copied() {
            match what {
                HistoryWhat::Switch { next, .. } if is(next) => {
                    runs = true;
                    if let Some(wait) = waits.take() {
                        keep(Wait { until: at, ended: true, ..wait });
                    }
                }
                HistoryWhat::Switch { prev, state, .. } if is(prev) => {
                    runs = false;
                    let begun = Wait { pid, since: at, until: at, ended: false, cpu };
                    waits = is_runnable(state).then_some(begun);
                }
                HistoryWhat::Wakeup { task, to, .. } if is(task) && !runs => {
                    let begun = Wait { pid, since: at, until: at, ended: false, cpu: to };
                    waits = Some(waits.map_or(begun, |wait| Wait { cpu: to, ..wait }));
                }
                HistoryWhat::Migrate { task, to, .. } if is(task) => {
                    waits = waits.map(|wait| Wait { cpu: to, ..wait });
                }
                _ => {}
            }
        }
        if let (Some(wait), Some(last)) = (waits, self.steps.last()) {
            keep(Wait { until: last.at, ..wait });
        }
        longest
    }

    /// Who ran on `cpu` during a wait, the longest first. Empty where no context switch of the CPU tells.
    #[must_use]
    pub fn ran(&self, cpu: Cpu, wait: &Wait) -> Vec<Ran> {
        let mut times: HashMap<u32, u64> = HashMap::new();
        let mut runs: Option<u32> = None;
        let mut from = wait.since;
        for step in self.steps.iter().filter(|step| step.cpu == cpu) {
            let HistoryWhat::Switch { prev, next, .. } = step.what else { continue };
            if step.at > wait.since {
                let until = step.at.min(wait.until);
                *times.entry(prev).or_default() += until.saturating_since(from);
                from = from.max(until);
            }
            runs = Some(next);
            if step.at >= wait.until {
                runs = None;
                break;
            }
        }
        if let Some(place) = runs {
            *times.entry(place).or_default() += wait.until.saturating_since(from);
        }
        // One task may have several places, as it changes its name or its priority.
        let mut by_pid: HashMap<u32, Ran> = HashMap::new();
        for (place, ns) in times.into_iter().filter(|(_, ns)| *ns > 0) {
            let Some(task) = self.task(place) else { continue };
            let ran =
                by_pid.entry(task.pid).or_insert_with(|| Ran { pid: task.pid, comm: String::new(), ns: 0 });
            ran.ns += ns;
        }
        let mut all: Vec<Ran> = by_pid.into_values().collect();
        for ran in &mut all {
            ran.comm = self.comm(ran.pid).unwrap_or_default().to_owned();
        }
        all.sort_by_key(|ran| (std::cmp::Reverse(ran.ns), ran.pid));
        all
    }

    /// How many steps of `cpu` are missing in the time of a wait.
    #[must_use]
    pub fn missing_in(&self, cpu: Cpu, wait: &Wait) -> u64 {
        let within = self.missing.iter().filter(|missing| {
            missing.cpu == cpu
                && missing.until.is_none_or(|until| until > wait.since)
                && missing.after.is_none_or(|after| after < wait.until)
        });
        within
            .fold(0, |sum, missing| sum.saturating_add(missing.overwritten).saturating_add(missing.left_out))
    }
}
