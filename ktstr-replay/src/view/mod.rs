//! Views: the kernel's memory at one checkpoint, as tables for people and JSON for programs.
//!
//! A [`View`] of an [`OpenCheckpoint`] gives [`Shown`]. Each view is a row of the table below, and a file with a function
//! `show` that lays out what a reader in [`crate::kernel`] found; the report prints parts of the same. The options of
//! `ktstr replay` are made from [`VIEWS`], and a test compares the documentation with it.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ktstr_replay::run::{CheckpointError, Checkpoints, Run};
//! use ktstr_replay::trace::Trace;
//! use ktstr_replay::view::View;
//!
//! let trace = Trace::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../traces/stall.trace.zst").as_ref())?;
//! let run = Run::load(&trace);
//! match Checkpoints::of(&run) {
//!     // Of the scheduler's exit, or the last one.
//!     Ok(checkpoints) => println!("{}", View::Tasks.show(&checkpoints.at(None)?)?.lines.join("\n")),
//!     Err(CheckpointError::NoCheckpoint) => println!("it was recorded without memory"),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```

mod cgroups;
mod cpu_time;
pub(crate) mod dmesg;
pub(crate) mod dsqs;
mod dump;
pub(crate) mod events;
mod map;
mod maps;
mod progs;
pub(crate) mod runqueues;
mod scx;
mod stacks;
mod stats;
mod tasks;
pub(crate) mod probes;
pub(crate) mod watches;
#[cfg(test)]
mod tests;

use std::fmt::{self, Display};

use serde::Serialize;
use serde_json::Value;

use crate::columns::millis;
use crate::kernel::{Gaps, KernelError};
use crate::run::{OpenCheckpoint, Run};
use crate::text::clean;

pub use dump::{NoDump, show_dump};
pub use events::{EventFilter, NoHistory, show_events};
pub use probes::{NoProbes, show_probes};
pub use stats::{NoStats, show_stats};
pub use watches::{NoWatches, show_watches};

/// A row of the table of views: its option of `ktstr replay`.
#[derive(Clone, Copy, Debug)]
pub struct ViewInfo {
    /// Name of its option, and of its part of the JSON.
    pub name: &'static str,
    /// What it shows.
    pub help: &'static str,
    /// What the value of its option is, such as `NAME|ID`; `None` for an option without a value.
    pub value: Option<&'static str>,
    /// Name and help of the further options that only this view has; they take no value.
    pub flags: &'static [(&'static str, &'static str)],
}

/// The views from their rows: `Variant { field: "VALUE", flag: "its help" } in file as "name": "help"`, where the braces
/// are for a view of one thing that its option names, and the name is that of the file where none is given.
macro_rules! views {
    ($($name:ident $({ $wanted:ident: $value:literal $(, $flag:ident: $flag_help:literal)* })?
       in $file:ident $(as $option:literal)?: $help:literal;)*) => {
        /// What can be looked at.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum View {
            $(#[doc = $help]
            $name $({
                #[doc = concat!("Which one: its ", $value, ".")]
                $wanted: String,
                $(#[doc = $flag_help] $flag: bool,)*
            })?,)*
        }

        /// All views, in the order in which they are listed and printed.
        pub const VIEWS: &[ViewInfo] = &[$(ViewInfo {
            name: views!(@name $file $($option)?),
            help: $help,
            value: views!(@value $($value)?),
            flags: &[$($((stringify!($flag), $flag_help)),*)?],
        }),*];

        impl View {
            /// The views that a command line asks for. `has` says whether an option without a value is there, `value` gives
            /// that of one with a value.
            pub fn asked(has: impl Fn(&str) -> bool, value: impl Fn(&str) -> Option<String>) -> Vec<Self> {
                let mut views = Vec::new();
                $({
                    let option = views!(@name $file $($option)?);
                    views.extend(views!(@asked has value option, $name $({ $wanted $($flag)* })?));
                })*
                views
            }

            /// Name of its option, and of its part of the JSON.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name { .. } => views!(@name $file $($option)?)),* }
            }

            /// Look.
            ///
            /// # Errors
            /// [`KernelError`] when nothing of it can be read; what is missing in parts is in [`Shown`].
            pub fn show(&self, checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
                match self {
                    $(Self::$name $({ $wanted $(, $flag)* })? =>
                        $file::show(checkpoint $(, $wanted $(, *$flag)*)?),)*
                }
            }
        }
    };
    (@name $file:ident) => { stringify!($file) };
    (@name $file:ident $option:literal) => { $option };
    (@value) => { None };
    (@value $value:literal) => { Some($value) };
    (@asked $has:ident $get:ident $option:ident, $name:ident) => { $has($option).then_some(Self::$name) };
    (@asked $has:ident $get:ident $option:ident, $name:ident { $wanted:ident $($flag:ident)* }) => {
        $get($option).map(|$wanted| Self::$name { $wanted, $($flag: $has(stringify!($flag))),* })
    };
}

views! {
    Tasks in tasks: "The tasks of the guest, with their sched_ext state";
    Runqueues in runqueues: "The runqueues, with their sched_ext state and runnable tasks";
    Dsqs in dsqs: "The dispatch queues, with the tasks in them in order";
    Scx in scx: "sched_ext: its schedulers, how they ended, their event counters";
    Cgroups in cgroups: "The cgroups, with their tasks and weights";
    CpuTime in cpu_time as "cpu-time": "Where each CPU's time went";
    Dmesg in dmesg: "The kernel log";
    Maps in maps: "The BPF maps; those of the running scheduler have a star";
    Map {
        wanted: "NAME|ID",
        follow: "With --map: what the pointers in its entries point at, in the kernel or a BPF arena, and numbers that are addresses of tasks or of an arena"
    } in map: "The entries of a BPF map, by its name or id";
    Progs in progs: "The BPF programs; those of the running scheduler have a star";
    Stacks in stacks: "The stack of every task and vCPU";
}

/// A view of what was recorded besides memory: its option of `ktstr replay`. A trace without checkpoints has them, too.
#[derive(Clone, Copy, Debug)]
pub struct RunView {
    /// Name of its option, and of its part of the JSON.
    pub name: &'static str,
    /// What it shows.
    pub help: &'static str,
    /// Whether one capture of it can be asked for.
    pub of_captures: bool,
    show: fn(&Run<'_>, &Asked<'_>) -> Result<Shown, NothingToShow>,
}

/// Which part of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The capture, by its tag or a time, for a view of captures; `None`: all.
    pub at: Option<&'a str>,
    /// Which steps of the history.
    pub events: EventFilter,
}

/// Why a view of a run has nothing to show.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum NothingToShow {
    /// No statistics.
    Stats(#[from] NoStats),
    /// Nothing was watched.
    Watches(#[from] NoWatches),
    /// No dump.
    Dump(#[from] NoDump),
    /// No history.
    Events(#[from] NoHistory),
    /// Nothing was probed.
    Probes(#[from] NoProbes),
}

/// All of them, in the order in which they are listed and printed.
pub const RUN_VIEWS: &[RunView] = &[
    RunView {
        name: "stats",
        help: "The statistics that the scheduler served (scx_stats), of all captures; with --at of one. It needs no checkpoint",
        of_captures: true,
        show: |run, asked| Ok(show_stats(run, asked.at)?),
    },
    RunView {
        name: "watches",
        help: "What was watched for stores, and each store: who, where in the code, the value before and after. It needs no checkpoint",
        of_captures: false,
        show: |run, _| Ok(show_watches(run)?),
    },
    RunView {
        name: "dump",
        help: "The dump that the kernel made when the scheduler ended with an error, whole. It needs no checkpoint",
        of_captures: false,
        show: |run, _| Ok(show_dump(run)?),
    },
    RunView {
        name: "events",
        help: "The history: context switches, wakeups, migrations and events of sched_ext, as the guest's kernel noted them. It needs no checkpoint",
        of_captures: false,
        show: |run, asked| Ok(show_events(run, &asked.events)?),
    },
    RunView {
        name: "probes",
        help: "The functions whose calls were recorded, and each call: the task, its arguments, where from, what it returned. It needs no checkpoint",
        of_captures: false,
        show: |run, _| Ok(show_probes(run)?),
    },
];

impl RunView {
    /// Look.
    ///
    /// # Errors
    /// [`NothingToShow`].
    pub fn show(&self, run: &Run<'_>, asked: &Asked<'_>) -> Result<Shown, NothingToShow> {
        (self.show)(run, asked)
    }
}

impl View {
    /// The views that take no name.
    #[must_use]
    pub fn plain() -> Vec<Self> {
        Self::asked(|_| true, |_| None)
    }
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
