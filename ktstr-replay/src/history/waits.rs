//! How long a task was runnable and did not run, and who did meanwhile.

use std::collections::HashMap;

use super::blind::Blind;
use super::words::is_runnable;
use super::{HistoryLog, LoggedStep, MissingSteps};
use crate::trace::record::HistoryWhat;
use crate::units::{Cpu, GuestNs};

/// A time in which a task was runnable and did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The task.
    pub pid: u32,
    /// From this time on.
    pub since: GuestNs,
    /// It began then: it was woken, or its CPU was taken from it. Else it waited at least since then, and steps before are missing.
    pub begun: bool,
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

impl Blind {
    /// What is known of a wait that is over. Where steps of its CPU are missing, the task may have run and slept: that it was runnable is
    /// known from when on all CPUs are seen again, as its wakeup would have been noted.
    fn known(&self, wait: Wait) -> Option<Wait> {
        if !self.since(wait.cpu, wait.since) {
            return Some(wait);
        }
        (self.all < wait.until).then_some(Wait { since: self.all, begun: false, ..wait })
    }
}

impl HistoryLog {
    /// The longest wait of the task `pid`, as far as the history goes. Steps that are missing of the CPU on whose runqueue it is cut it;
    /// of those that are missing of other CPUs [`missing_of`](Self::missing_of) tells: it may have run there.
    #[must_use]
    pub fn longest_wait(&self, pid: u32) -> Option<Wait> {
        let is = |place| self.pid(place) == Some(pid);
        let mut longest: Option<Wait> = None;
        let mut keep = |wait: Wait| {
            if longest.is_none_or(|known| wait.length_ns() > known.length_ns()) {
                longest = Some(wait);
            }
        };
        let mut gaps: Vec<&MissingSteps> = self.missing.iter().collect();
        gaps.sort_by_key(|missing| missing.span());
        let mut gaps = gaps.into_iter().peekable();
        let mut blind = Blind::default();
        let mut waits: Option<Wait> = None;
        // Since its wakeup or its last turn it may be running already: a wakeup of one that runs begins no wait.
        let mut runs: Option<Cpu> = None;
        let mut seen = GuestNs(0);
        for LoggedStep { at, cpu, what } in self.steps.iter().copied() {
            // One that begins with this step is behind it.
            while let Some(missing) = gaps.next_if(|missing| missing.span().0 < at) {
                blind.begin(missing);
            }
            let begun = Wait { pid, since: at, begun: true, until: at, ended: false, cpu };
            match what {
                HistoryWhat::Switch { next, .. } if is(next) => {
                    let unseen = Wait { since: blind.all, begun: false, ..begun };
                    let wait = waits.take().or((seen < blind.all && blind.all < at).then_some(unseen));
                    if let Some(wait) =
                        wait.and_then(|wait| blind.known(Wait { until: at, ended: true, ..wait }))
                    {
                        keep(wait);
                    }
                    (runs, seen) = (Some(cpu), at);
                }
                HistoryWhat::Switch { prev, state, .. } if is(prev) => {
                    waits = is_runnable(state).then_some(begun);
                    (runs, seen) = (None, at);
                }
                HistoryWhat::Wakeup { task, to, .. } if is(task) => {
                    let goes_on = |wait: &Wait| !blind.since(wait.cpu, wait.since);
                    if runs.is_none_or(|on| blind.since(on, seen)) {
                        waits = Some(Wait { cpu: to, ..waits.filter(goes_on).unwrap_or(begun) });
                        runs = None;
                    }
                    seen = at;
                }
                // One that is being woken is moved, too: what was not seen before is not known by this.
                HistoryWhat::Migrate { task, to, .. } if is(task) => {
                    let goes_on = |wait: &Wait| !blind.since(wait.cpu, wait.since);
                    waits = waits.filter(goes_on).map(|wait| Wait { cpu: to, ..wait });
                }
                _ => {}
            }
        }
        if let (Some(wait), Some(last)) = (waits, self.steps.last())
            && let Some(wait) = blind.known(Wait { until: last.at, ..wait })
        {
            keep(wait);
        }
        longest
    }

    /// Who ran on `cpu` during a wait, the longest first. Empty where no context switch of the CPU tells. Who ran while steps are missing
    /// is not known, and nobody is said to have.
    #[must_use]
    pub fn ran(&self, cpu: Cpu, wait: &Wait) -> Vec<Ran> {
        let of_cpu = self.missing.iter().filter(|missing| missing.cpu == cpu);
        let mut gaps: Vec<(GuestNs, GuestNs)> = of_cpu.map(MissingSteps::span).collect();
        gaps.sort_unstable();
        let mut gaps = gaps.into_iter().peekable();
        let mut times: HashMap<u32, u64> = HashMap::new();
        let mut add = |place: u32, from: GuestNs, until: GuestNs| {
            let time = times.entry(place).or_default();
            *time = time.saturating_add(until.min(wait.until).saturating_since(from));
        };
        let switches = self.steps.iter().filter(|step| step.cpu == cpu).filter_map(|step| match step.what {
            HistoryWhat::Switch { prev, next, .. } => Some((step.at, Some((prev, next)))),
            _ => None,
        });
        let mut runs: Option<u32> = None;
        let mut from = wait.since;
        // Behind the last one goes on what ran then.
        for (at, switch) in switches.chain([(wait.until, None)]) {
            while let Some((begun, over)) = gaps.next_if(|(begun, _)| *begun < at) {
                if let Some(place) = runs.take() {
                    add(place, from, begun);
                }
                from = from.max(over);
            }
            if let Some(place) = switch.map(|(prev, _)| prev).or(runs) {
                add(place, from, at);
            }
            from = from.max(at);
            runs = switch.map(|(_, next)| next);
            if at >= wait.until {
                break;
            }
        }
        // One task may have several places, as it changes its name or its priority.
        let mut by_pid: HashMap<u32, Ran> = HashMap::new();
        for (place, ns) in times.into_iter().filter(|(_, ns)| *ns > 0) {
            let Some(task) = self.task(place) else { continue };
            let ran =
                by_pid.entry(task.pid).or_insert_with(|| Ran { pid: task.pid, comm: String::new(), ns: 0 });
            ran.ns = ran.ns.saturating_add(ns);
        }
        // The name that each had last.
        for task in &self.tasks {
            if let Some(ran) = by_pid.get_mut(&task.pid) {
                ran.comm.clone_from(&task.comm);
            }
        }
        let mut all: Vec<Ran> = by_pid.into_values().collect();
        all.sort_by_key(|ran| (std::cmp::Reverse(ran.ns), ran.pid));
        all
    }

    /// How many steps of `cpu` are missing in the time of a wait.
    #[must_use]
    pub fn missing_in(&self, cpu: Cpu, wait: &Wait) -> u64 {
        self.missing_of(|of| of == cpu, wait)
    }

    /// How many steps of the CPUs that `is_of` takes are missing in the time of a wait.
    #[must_use]
    pub fn missing_of(&self, is_of: impl Fn(Cpu) -> bool, wait: &Wait) -> u64 {
        self.missing_between(is_of, wait.since, wait.until)
    }

    /// How many steps of the CPUs that `is_of` takes are missing between two times.
    pub(crate) fn missing_between(&self, is_of: impl Fn(Cpu) -> bool, since: GuestNs, until: GuestNs) -> u64 {
        let within = self.missing.iter().filter(|missing| {
            let (after, before) = missing.span();
            is_of(missing.cpu) && before > since && after < until
        });
        within
            .fold(0, |sum, missing| sum.saturating_add(missing.overwritten).saturating_add(missing.left_out))
    }
}
