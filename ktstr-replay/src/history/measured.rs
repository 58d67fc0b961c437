//! Times between steps: from a wakeup until the task runs, how long tasks wait, how long they run at a stretch.

use std::collections::HashMap;

use super::blind::Blind;
use super::words::is_runnable;
use super::{HistoryLog, LoggedStep, MissingSteps};
use crate::path::Measure;
use crate::trace::record::HistoryWhat;
use crate::units::{Cpu, GuestNs};

/// A time that a task waited or ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Place of the task in the log, with the name that it had at the end of that time.
    pub task: u32,
    /// The CPU on which it ran then, or on whose runqueue it was last.
    pub cpu: Cpu,
    /// From then on.
    pub since: GuestNs,
    /// Up to then.
    pub until: GuestNs,
    /// It was over then; else the history ends, and it was at least that long.
    pub ended: bool,
    /// No steps are missing that could be in between. Else the time may be that of several.
    pub is_certain: bool,
}

impl Measured {
    /// How long it was, in ns.
    #[must_use]
    pub fn length_ns(&self) -> u64 {
        self.until.saturating_since(self.since)
    }
}

/// What is known of a task.
#[derive(Clone, Copy)]
struct State {
    does: Does,
    since: GuestNs,
    cpu: Cpu,
    task: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    /// It is runnable since it was woken.
    WaitsWoken,
    /// It is runnable since its CPU was taken from it.
    WaitsPreempted,
    Runs,
}

impl Blind {
    /// Whether a time that began then is known without a doubt. What runs on a CPU is told by the steps of that CPU; a task that waits may have
    /// run on any.
    fn is_certain(&self, state: &State) -> bool {
        match state.does {
            Does::Runs => self.of.get(&state.cpu).is_none_or(|until| *until <= state.since),
            Does::WaitsWoken | Does::WaitsPreempted => self.all <= state.since,
        }
    }
}

impl HistoryLog {
    /// All times of a kind, in the order in which they ended; those that last at the end of the history, up to `end`, are the last.
    /// The idle tasks have none. A time whose beginning was not noted is none.
    #[must_use]
    pub fn measured(&self, measure: Measure, end: GuestNs) -> Vec<Measured> {
        let mut gaps: Vec<&MissingSteps> = self.missing.iter().collect();
        gaps.sort_by_key(|missing| missing.span());
        let mut gaps = gaps.into_iter().peekable();
        let mut blind = Blind::default();
        let mut states: HashMap<u32, State> = HashMap::new();
        let mut found = Vec::new();
        let counts = |does| match measure {
            Measure::WakeupLatency => does == Does::WaitsWoken,
            Measure::RunDelay => does != Does::Runs,
            Measure::OnCpu => does == Does::Runs,
        };
        let mut keep =
            |blind: &Blind, state: Option<State>, task: u32, cpu: Cpu, until: GuestNs, ended: bool| {
                if let Some(state) = state.filter(|state| counts(state.does)) {
                    let is_certain = blind.is_certain(&state);
                    found.push(Measured { task, cpu, since: state.since, until, ended, is_certain });
                }
            };
        for LoggedStep { at, cpu, what } in self.steps.iter().copied() {
            while let Some(missing) = gaps.next_if(|missing| missing.span().0 < at) {
                blind.begin(missing);
            }
            match what {
                HistoryWhat::Switch { prev, state, next } => {
                    if let Some(pid) = self.pid(prev).filter(|pid| *pid != 0) {
                        let ran = states.remove(&pid).filter(|ran| ran.does == Does::Runs && ran.cpu == cpu);
                        keep(&blind, ran, prev, cpu, at, true);
                        if is_runnable(state) {
                            states.insert(
                                pid,
                                State { does: Does::WaitsPreempted, since: at, cpu, task: prev },
                            );
                        }
                    }
                    if let Some(pid) = self.pid(next).filter(|pid| *pid != 0) {
                        let waited =
                            states.insert(pid, State { does: Does::Runs, since: at, cpu, task: next });
                        keep(&blind, waited.filter(|waited| waited.does != Does::Runs), next, cpu, at, true);
                    }
                }
                HistoryWhat::Wakeup { task, to, .. } => {
                    let Some(pid) = self.pid(task) else { continue };
                    let woken = State { does: Does::WaitsWoken, since: at, cpu: to, task };
                    let state = states.entry(pid).or_insert(woken);
                    if !blind.is_certain(state) {
                        // It may have run and slept meanwhile: another wait.
                        keep(&blind, Some(*state), task, state.cpu, at, true);
                        *state = woken;
                    } else if state.does != Does::Runs {
                        state.cpu = to;
                    }
                }
                HistoryWhat::Migrate { task, to, .. } => {
                    let waits = self.pid(task).and_then(|pid| states.get_mut(&pid));
                    if let Some(state) = waits.filter(|state| state.does != Does::Runs) {
                        state.cpu = to;
                    }
                }
                HistoryWhat::SchedExt { .. } => {}
            }
        }
        for missing in gaps {
            blind.begin(missing);
        }
        let mut open: Vec<(u32, State)> = states.into_iter().collect();
        open.sort_unstable_by_key(|(pid, state)| (state.since, *pid));
        for (_, state) in open {
            keep(&blind, Some(state), state.task, state.cpu, end.max(state.since), false);
        }
        found
    }
}
