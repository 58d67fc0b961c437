//! Views: the kernel's memory at one checkpoint, as tables for people and JSON for programs.
//!
//! [`Checkpoints`] are the checkpoints of a run, [`OpenCheckpoint`] is one of them, and a [`View`] of it gives [`Shown`]. Each view has a
//! file here that lays out what a reader in [`crate::kernel`] found; the report prints parts of the same.

mod cgroups;
mod cpu_time;
pub(crate) mod dmesg;
pub(crate) mod dsqs;
mod map;
mod maps;
mod progs;
pub(crate) mod runqueues;
mod scx;
mod stacks;
mod tasks;
#[cfg(test)]
mod tests;

use std::fmt::{self, Display};

use serde::Serialize;
use serde_json::Value;

use crate::kernel::{Gaps, KernelError};
use crate::run::OpenCheckpoint;
use crate::text::clean;

/// What can be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// Tasks and their sched_ext state.
    Tasks,
    /// Runqueues and per-CPU sched_ext state.
    Runqueues,
    /// Dispatch queues and the tasks in them.
    Dsqs,
    /// sched_ext and its schedulers.
    Scx,
    /// The tree of cgroups.
    Cgroups,
    /// Where each CPU's time went.
    CpuTime,
    /// The kernel log.
    Dmesg,
    /// BPF maps.
    Maps,
    /// The entries of a BPF map.
    Map {
        /// Its name or id.
        wanted: String,
        /// Show what pointers in them point at.
        follow: bool,
    },
    /// BPF programs.
    Progs,
    /// The stack of every task and vCPU.
    Stacks,
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A view, laid out.
#[derive(Clone, Debug)]
pub struct Shown {
    /// For people; fit for a terminal.
    pub lines: Vec<String>,
    /// For programs; has what is cut or left out of the lines.
    pub json: Value,
}

impl View {
    /// Those that need no name of what to look at.
    pub const PLAIN: [Self; 10] = [
        Self::Tasks,
        Self::Runqueues,
        Self::Dsqs,
        Self::Scx,
        Self::Cgroups,
        Self::CpuTime,
        Self::Dmesg,
        Self::Maps,
        Self::Progs,
        Self::Stacks,
    ];

    /// Its name: that of its option, and of its part of the JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Runqueues => "runqueues",
            Self::Dsqs => "dsqs",
            Self::Scx => "scx",
            Self::Cgroups => "cgroups",
            Self::CpuTime => "cpu-time",
            Self::Dmesg => "dmesg",
            Self::Maps => "maps",
            Self::Map { .. } => "map",
            Self::Progs => "progs",
            Self::Stacks => "stacks",
        }
    }

    /// Look.
    ///
    /// # Errors
    /// [`KernelError`] when nothing of it can be read; what is missing in parts is in [`Shown`].
    pub fn show(&self, checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
        match self {
            Self::Tasks => tasks::show(checkpoint),
            Self::Runqueues => runqueues::show(checkpoint),
            Self::Dsqs => dsqs::show(checkpoint),
            Self::Scx => scx::show(checkpoint),
            Self::Cgroups => cgroups::show(checkpoint),
            Self::CpuTime => cpu_time::show(checkpoint),
            Self::Dmesg => dmesg::show(checkpoint),
            Self::Maps => maps::show(checkpoint),
            Self::Map { wanted, follow } => map::show(checkpoint, wanted, *follow),
            Self::Progs => progs::show(checkpoint),
            Self::Stacks => stacks::show(checkpoint),
        }
    }
}

impl Shown {
    /// Lines, what is absent from them, and `all` as JSON.
    fn new(mut lines: Vec<String>, gaps: &Gaps, all: &impl Serialize) -> Self {
        lines.extend(absent(gaps));
        let json = serde_json::to_value(all).unwrap_or_else(|error| Value::String(error.to_string()));
        Self { lines, json }
    }
}

/// Lines for what is absent from a view.
fn absent(gaps: &Gaps) -> Vec<String> {
    let missing = gaps.missing.iter().map(|missing| format!("not on this kernel: {missing}"));
    let mut lines: Vec<_> =
        missing.chain(gaps.faults.iter().map(|fault| format!("not read: {fault}"))).collect();
    if gaps.more_faults > 0 {
        lines.push(format!("and {} more that were not read", gaps.more_faults));
    }
    lines.iter().map(|line| clean(line)).collect()
}

/// A cell, or `-` where there is nothing.
fn cell(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| clean(&value.to_string()))
}

/// A time in ms with one digit.
fn millis(ns: i64) -> String {
    format!("{:.1}", ns as f64 / 1e6)
}
