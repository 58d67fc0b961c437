//! `--tasks` and its like: the kernel's memory at one checkpoint, as `ktstr_replay::view` shows it.
//!
//! To add a view: a variant of `View` with its file in `ktstr-replay/src/view/`, and here its option and its line in
//! [`ViewArgs::wanted`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use ktstr_replay::run::Run;
use ktstr_replay::run::{Checkpoints, OpenCheckpoint};
use ktstr_replay::view::View;
use serde_json::{Value, json};

use crate::cli::out;

/// Which views, and of when.
#[derive(Args, Debug)]
#[group(id = "views", multiple = true)]
pub(super) struct ViewArgs {
    /// The tasks of the guest, with their sched_ext state
    #[arg(long, help_heading = "Views of one checkpoint")]
    tasks: bool,
    /// The runqueues, with their sched_ext state and runnable tasks
    #[arg(long, help_heading = "Views of one checkpoint")]
    runqueues: bool,
    /// The dispatch queues, with the tasks in them in order
    #[arg(long, help_heading = "Views of one checkpoint")]
    dsqs: bool,
    /// sched_ext: its schedulers, how they ended, their event counters
    #[arg(long, help_heading = "Views of one checkpoint")]
    scx: bool,
    /// The cgroups, with their tasks and weights
    #[arg(long, help_heading = "Views of one checkpoint")]
    cgroups: bool,
    /// Where each CPU's time went
    #[arg(long, help_heading = "Views of one checkpoint")]
    cpu_time: bool,
    /// The kernel log
    #[arg(long, help_heading = "Views of one checkpoint")]
    dmesg: bool,
    /// The BPF maps; those of the running scheduler have a star
    #[arg(long, help_heading = "Views of one checkpoint")]
    maps: bool,
    /// The entries of a BPF map, by its name or id
    #[arg(long, value_name = "NAME|ID", help_heading = "Views of one checkpoint")]
    map: Option<String>,
    /// With --map: what the pointers in its entries point at, in the kernel or a BPF arena
    #[arg(long, requires = "map", help_heading = "Views of one checkpoint")]
    follow: bool,
    /// The BPF programs; those of the running scheduler have a star
    #[arg(long, help_heading = "Views of one checkpoint")]
    progs: bool,
    /// The stack of every task and vCPU
    #[arg(long, help_heading = "Views of one checkpoint")]
    stacks: bool,
    /// With --stacks: source lines and inlined functions, from the kernel's vmlinux with DWARF, or from the folder that its
    /// debug package was unpacked to; without PATH, from where this system keeps debug information
    #[arg(long, value_name = "PATH", num_args = 0..=1, requires = "stacks")]
    #[arg(help_heading = "Views of one checkpoint")]
    debuginfo: Option<Option<PathBuf>>,
    /// Which checkpoint: a capture's tag, or the last one at or before a time (2.5s, -300ms); default: that of the
    /// scheduler's exit, or the last
    #[arg(long, value_name = "T|TAG", allow_hyphen_values = true)]
    #[arg(help_heading = "Views of one checkpoint")]
    at: Option<String>,
}

impl ViewArgs {
    /// Whether a checkpoint is named without a view of it, which would print what is of no checkpoint.
    pub(super) fn only_when(&self) -> bool {
        self.at.is_some() && self.wanted().is_empty()
    }

    /// The views that are asked for, in the order in which they are printed.
    pub(super) fn wanted(&self) -> Vec<View> {
        let flags = [
            (self.scx, View::Scx),
            (self.tasks, View::Tasks),
            (self.runqueues, View::Runqueues),
            (self.dsqs, View::Dsqs),
            (self.stacks, View::Stacks),
            (self.cgroups, View::Cgroups),
            (self.cpu_time, View::CpuTime),
            (self.dmesg, View::Dmesg),
            (self.maps, View::Maps),
            (self.progs, View::Progs),
        ];
        let named = self.map.clone().map(|wanted| View::Map { wanted, follow: self.follow });
        flags.into_iter().filter_map(|(asked, view)| asked.then_some(view)).chain(named).collect()
    }

    /// Print the views.
    ///
    /// # Errors
    /// A trace without such a checkpoint, or whose kernel cannot be read; a view that cannot be made.
    pub(super) fn print(&self, trace: &Path, run: &Run<'_>, as_json: bool) -> anyhow::Result<ExitCode> {
        let mut checkpoints = Checkpoints::of(run)?;
        if let Some(given) = &self.debuginfo {
            checkpoints = checkpoints.with_debuginfo(given.as_deref())?;
        }
        let checkpoint = checkpoints.at(self.at.as_deref())?;
        let mut shown = Vec::new();
        for view in self.wanted() {
            shown.push((view.name(), view.show(&checkpoint)?));
        }
        if as_json {
            let views: serde_json::Map<String, Value> =
                shown.into_iter().map(|(name, shown)| (name.to_owned(), shown.json)).collect();
            out::write_json(
                &json!({ "trace": trace, "checkpoint": checkpoint_json(&checkpoint), "views": views }),
            )?;
        } else {
            let mut text = format!("{}\n", checkpoint.title());
            for (name, shown) in shown {
                text.push_str(&format!("\n{name}\n"));
                for line in shown.lines {
                    text.push_str(format!("  {line}").trim_end());
                    text.push('\n');
                }
            }
            out::write(&text)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn checkpoint_json(checkpoint: &OpenCheckpoint<'_>) -> Value {
    json!({
        "index": checkpoint.info().index,
        "tag": checkpoint.tag(),
        "guest_ns": checkpoint.info().guest_ns,
        "since_start_ns": checkpoint.since_start_ns(),
        "kernel": checkpoint.kernel().profile().release(),
    })
}
