//! Which CPUs the cpusets of the cgroups allowed each worker, by what the scenario did.

use std::collections::{BTreeMap, BTreeSet};

use crate::run::{Run, SpawnedWorkers};
use crate::trace::record::EventBody;

/// Highest CPU number that is believed; `NR_CPUS` of Linux is at most this.
const MAX_CPU: u32 = 8192;

/// Steps after which a trace is not looked at further: more than the operations of any scenario take.
const MAX_STEPS: usize = 2_000_000;

/// CPU numbers.
pub(super) type Cpus = BTreeSet<u32>;

/// What a worker's cgroup allowed it, from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// These, of all cpusets that it had.
    Cpus(Cpus),
    /// There was no cpuset, at least for a time.
    Any,
    /// It cannot be told, and why.
    Unknown(String),
}

/// The cgroups as they are at one event.
#[derive(Default)]
struct Cgroups {
    /// Own cpusets, by name; an error where the trace's operation cannot be parsed.
    cpusets: BTreeMap<String, Result<Cpus, String>>,
    /// What was allowed since the first of the workers that are alive was started.
    live: BTreeMap<String, Live>,
    offline: Cpus,
    steps: usize,
}

struct Live {
    workers: usize,
    allowed: Allowed,
}

/// For each report of a worker, in order.
///
/// A worker that lived while its cgroup had one cpuset and then another may have run in both.
pub(super) fn allowed(run: &Run<'_>) -> Vec<Allowed> {
    let mut cgroups = Cgroups::default();
    let mut found = Vec::new();
    for event in &run.events {
        match &event.body {
            EventBody::Op { name, detail } => cgroups.apply(name, detail),
            EventBody::Worker(report) => found.push(cgroups.ended(&report.cgroup)),
            _ => {}
        }
    }
    found
}

impl Cgroups {
    fn apply(&mut self, op: &str, detail: &str) {
        match op {
            SpawnedWorkers::OP => {
                if let Ok(spawned) = detail.parse::<SpawnedWorkers>() {
                    self.started(spawned);
                }
                return;
            }
            "add_cgroup" | "remove_cgroup" | "clear_cpuset" => {
                self.cpusets.remove(detail);
            }
            "set_cpuset" => {
                let (name, text) = detail.rsplit_once(": ").unwrap_or((detail, ""));
                let cpus = parse(text).ok_or_else(|| format!("its cpuset {text:?} is no list of CPUs"));
                self.cpusets.insert(name.to_owned(), cpus);
            }
            "offline" => self.offline.extend(last_number(detail)),
            "online" => {
                last_number(detail).iter().for_each(|cpu| {
                    self.offline.remove(cpu);
                });
            }
            _ if op.starts_with("move") => {
                let why = format!("the scenario moved tasks ({op} {detail})");
                // `2 from a to b`; whatever else is written, those that it names.
                let from = detail.split_once(" from ").and_then(|(_, names)| names.rsplit_once(" to "));
                let is_moved = |name: &str| from.map_or(detail.contains(name), |(from, _)| from == name);
                for (name, live) in self.live.iter_mut().filter(|(name, _)| is_moved(name)) {
                    live.allowed = Allowed::Unknown(format!("{why} of {name}"));
                }
                return;
            }
            _ if op.contains("cpuset") && !op.ends_with("mems") => {
                let why = format!("this release does not know what {op} did to cpusets");
                self.live.values_mut().for_each(|live| live.allowed = Allowed::Unknown(why.clone()));
                self.cpusets.values_mut().for_each(|cpus| *cpus = Err(why.clone()));
                return;
            }
            _ => return,
        }
        self.steps += self.live.len();
        if self.steps > MAX_STEPS {
            return;
        }
        let names: Vec<String> = self.live.keys().cloned().collect();
        for name in names {
            let now = self.of(&name);
            if let Some(live) = self.live.get_mut(&name) {
                live.allowed.widen(now);
            }
        }
    }

    fn started(&mut self, spawned: SpawnedWorkers) {
        let now = self.of(&spawned.cgroup);
        let live =
            self.live.entry(spawned.cgroup).or_insert_with(|| Live { workers: 0, allowed: now.clone() });
        match live.workers {
            0 => live.allowed = now,
            _ => live.allowed.widen(now),
        }
        live.workers = live.workers.saturating_add(spawned.count);
    }

    fn ended(&mut self, cgroup: &str) -> Allowed {
        let now = self.of(cgroup);
        let Some(live) = self.live.get_mut(cgroup).filter(|live| live.workers > 0) else {
            // A body that starts workers by itself need not say so.
            return now;
        };
        live.workers -= 1;
        if let Allowed::Cpus(cpus) = &live.allowed {
            self.steps += cpus.len();
        }
        live.allowed.clone()
    }

    /// What the cgroup allows now: its own cpuset, else that of the nearest one above it. The kernel lets tasks of a cpuset
    /// whose CPUs are all offline run elsewhere.
    fn of(&mut self, cgroup: &str) -> Allowed {
        if self.steps > MAX_STEPS {
            return Allowed::Unknown("the scenario did too much to be followed".to_owned());
        }
        let above = std::iter::successors(Some(cgroup), |name| Some(name.rsplit_once('/')?.0));
        match above.filter_map(|name| self.cpusets.get(name)).next() {
            None => Allowed::Any,
            Some(Ok(cpus)) if cpus.is_subset(&self.offline) => Allowed::Any,
            Some(Ok(cpus)) => {
                self.steps += cpus.len();
                Allowed::Cpus(cpus.clone())
            }
            Some(Err(why)) => Allowed::Unknown(why.clone()),
        }
    }
}

impl Allowed {
    /// It was also this, for a time.
    fn widen(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Unknown(_), _) | (Self::Any, Self::Cpus(_) | Self::Any) => {}
            (Self::Cpus(cpus), Self::Cpus(more)) => cpus.extend(more),
            (_, other) => *self = other,
        }
    }
}

/// A list of CPUs in the kernel's format (`0-3,8`); an empty one is none.
fn parse(text: &str) -> Option<Cpus> {
    let mut cpus = Cpus::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last >= MAX_CPU || first > last {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// In the kernel's format.
pub(super) fn list(cpus: impl IntoIterator<Item = u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(cpu) => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let text = |(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

/// The CPU in `3`, `cpu3` or `CPU 3`.
fn last_number(detail: &str) -> Option<u32> {
    detail.split(|c: char| !c.is_ascii_digit()).rfind(|digits| !digits.is_empty())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_the_kernels() {
        for text in ["0", "0-3", "0-1,4,6-7"] {
            assert_eq!(list(parse(text).expect(text)), text);
        }
        for text in ["", "3-1", "0-4000000000", "x", "1,,2"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    fn after(ops: &[(&str, &str)]) -> Allowed {
        let mut cgroups = Cgroups::default();
        ops.iter().for_each(|(op, detail)| cgroups.apply(op, detail));
        cgroups.ended("a/b")
    }

    fn cpus(text: &str) -> Allowed {
        Allowed::Cpus(parse(text).expect(text))
    }

    #[test]
    fn a_worker_may_run_in_every_cpuset_that_its_cgroup_had_in_its_life() {
        let (set, spawn) = ("set_cpuset", ("spawn", "a/b: 1 spin_wait"));
        assert_eq!(after(&[(set, "a/b: 0-1"), spawn]), cpus("0-1"));
        assert_eq!(after(&[(set, "a/b: 0-1"), (set, "a/b: 2"), spawn]), cpus("2"));
        assert_eq!(after(&[(set, "a/b: 0-1"), spawn, (set, "a/b: 2")]), cpus("0-2"));
        assert_eq!(after(&[(set, "a/b: 0-1"), spawn, ("clear_cpuset", "a/b")]), Allowed::Any);
        assert_eq!(after(&[spawn]), Allowed::Any);
        // The cpuset of another cgroup is none of its own, that of the one above is.
        assert_eq!(after(&[(set, "b: 0"), spawn]), Allowed::Any);
        assert_eq!(after(&[(set, "a: 0"), spawn]), cpus("0"));
    }

    #[test]
    fn a_cpuset_without_an_online_cpu_holds_nobody() {
        let ops = [("set_cpuset", "a/b: 1"), ("spawn", "a/b: 1 x"), ("offline", "CPU 1")];
        assert_eq!(after(&ops), Allowed::Any);
        let ops = [("set_cpuset", "a/b: 0-1"), ("spawn", "a/b: 1 x"), ("offline", "CPU 1")];
        assert_eq!(after(&ops), cpus("0-1"));
    }

    #[test]
    fn tasks_that_come_from_elsewhere_change_nothing_for_those_that_are_there() {
        let ops = [("set_cpuset", "a/b: 1"), ("spawn", "a/b: 1 x"), ("move_tasks", "2 from c to a/b")];
        assert_eq!(after(&ops), cpus("1"));
    }

    #[test]
    fn what_is_not_understood_is_unknown() {
        for ops in [
            [("set_cpuset", "a/b: most"), ("spawn", "a/b: 1 x")],
            [("spawn", "a/b: 1 x"), ("move_tasks", "2 from a/b to c")],
            [("spawn", "a/b: 1 x"), ("rotate_cpuset", "all")],
        ] {
            assert!(matches!(after(&ops), Allowed::Unknown(_)), "{ops:?}");
        }
    }
}
