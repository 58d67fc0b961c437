//! The call chain of a failure: the functions that led to it and the values that it changed, by the kernel's record of the exit
//! and the scheduler's programs.

use std::fmt;

use serde::Serialize;

use crate::kernel::BpfProgram;
use crate::kernel::maps::BpfObjects;
use crate::run::{CheckpointError, Checkpoints, Run, frame};
use crate::text::{Align, clean, layout};
use crate::trace::record::{ScxState, Stage};

/// Most functions of a backtrace that are taken.
const FRAMES: usize = 16;
/// Most targets in all.
const TARGETS: usize = 48;
/// What stands above the addresses of where the exit was asked for. Source: `scx_dump_state` in `kernel/sched/ext.c`.
const BACKTRACE: &str = "Backtrace:";
/// Functions by which the kernel ends a scheduler, and takes the backtrace: those below them asked for it.
const OF_THE_EXIT: [&str; 6] =
    ["scx_exit", "scx_vexit", "scx_error", "scx_verror", "__scx_exit", "stack_trace_save"];
/// The watchdog: a stall is found there, and made elsewhere, so that nothing in its backtrace has led to it.
const OF_THE_WATCHDOG: [&str; 3] = ["scx_watchdog_workfn", "scx_tick", "check_rq_for_timeouts"];
/// What the kernel does with a task of sched_ext, whatever the scheduler. Source: `kernel/sched/ext.c`.
const OF_A_TASK: [(&str, &str); 4] = [
    ("enqueue_task_scx", "the kernel makes a task runnable"),
    ("dequeue_task_scx", "the kernel takes a task off its runqueue"),
    ("set_next_task_scx", "the kernel lets a task run"),
    ("put_prev_task_scx", "the kernel takes the CPU from a task"),
];
/// Operations through which a scheduler decides about tasks. Those that are called all the time for no task are left out.
const OPERATIONS: [&str; 8] =
    ["select_cpu", "enqueue", "dequeue", "dispatch", "runnable", "running", "stopping", "quiescent"];
/// Those of them that are given a task, `p`.
const OF_TASKS: [&str; 7] =
    ["select_cpu", "enqueue", "dequeue", "runnable", "running", "stopping", "quiescent"];
/// What tells that a scheduler is being ended, and by whom.
pub(super) const EXIT_KIND: &str = "scx_root->exit_kind";

/// What a second machine is to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// How the scheduler ended, in words.
    pub failure: String,
    /// Command name and pid of the task that it is about, if the kernel named one.
    pub task: Option<(String, i64)>,
    /// The functions and values, the nearest to the failure first.
    pub targets: Vec<Target>,
}

/// A function or a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// What is done with it.
    pub kind: TargetKind,
    /// Its name, as a test's own probe or watch would have it.
    pub name: String,
    /// Why it is looked at.
    pub because: String,
    /// It is given a task that is called `p`.
    #[serde(skip)]
    pub has_task: bool,
}

/// What is read of a task that a function is given, in the place of all its arguments.
const OF_THE_TASK: &str = "p->pid, p->comm, p->scx.slice, p->scx.dsq_vtime, p->scx.flags";

impl Target {
    /// The text of a test's own probe or watch of it.
    #[must_use]
    pub fn text(&self) -> String {
        let is_word = self.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match (self.kind, is_word) {
            (TargetKind::Watch, _) => self.name.clone(),
            (TargetKind::Probe, true) if self.has_task => format!("{}({OF_THE_TASK})", self.name),
            (TargetKind::Probe, true) => self.name.clone(),
            // What the compiler has split off has other arguments.
            (TargetKind::Probe, false) => format!("\"{}\"()", self.name),
        }
    }
}

/// What is done with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// A function: each call is recorded with its arguments.
    Probe,
    /// A value: each store to it is recorded.
    Watch,
}

/// Why there is nothing to do again.
#[derive(Debug, thiserror::Error)]
pub enum NoChain {
    /// The scheduler did not die.
    #[error("the scheduler did not end with an error: there is nothing to make happen again")]
    NoFailure,
    /// What failed came before the test.
    #[error("the test's body never began: what failed came before it")]
    NoBody,
    /// The trace has memory, and it cannot be read.
    #[error("the scheduler's programs cannot be read")]
    Memory(#[from] CheckpointError),
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Probe => "probe",
            Self::Watch => "watch",
        })
    }
}

impl Chain {
    /// The chain of the failure of a run.
    ///
    /// # Errors
    /// [`NoChain`]: why there is none.
    pub fn of(run: &Run<'_>) -> Result<Self, NoChain> {
        let exit = run.scheduler_exit().filter(|exit| !exit.is_orderly()).ok_or(NoChain::NoFailure)?;
        if run.stage(Stage::BodyStarted).is_none() {
            return Err(NoChain::NoBody);
        }
        let programs = programs(run)?;
        let mut targets = Vec::new();
        let mut add = |kind, name: &str, because: &str| {
            if targets.len() < TARGETS && targets.iter().all(|target: &Target| target.name != name) {
                let of_operation = |operation: &str| OF_TASKS.contains(&operation);
                let program = programs.iter().find(|program| program.name == name);
                let has_task = OF_A_TASK.iter().any(|(function, _)| *function == name)
                    || program.and_then(|program| program.attach_to.as_deref()).is_some_and(of_operation);
                targets.push(Target { kind, name: name.to_owned(), because: because.to_owned(), has_task });
            }
        };
        add(TargetKind::Watch, EXIT_KIND, "who ends the scheduler");
        for function in exit.dump.as_deref().map(backtrace).unwrap_or_default() {
            match programs.iter().find(|program| function == program.symbol()) {
                Some(program) => add(TargetKind::Probe, &program.name, "it is in the backtrace of the exit"),
                // Trampolines are no functions of anybody.
                None if function.starts_with("bpf_") => {}
                None => add(TargetKind::Probe, &function, "it is in the backtrace of the exit"),
            }
        }
        for operation in OPERATIONS {
            let is_it = |program: &&BpfProgram| program.attach_to.as_deref() == Some(operation);
            for program in programs.iter().filter(is_it) {
                add(TargetKind::Probe, &program.name, &format!("it is the scheduler's {operation}"));
            }
        }
        for (function, because) in OF_A_TASK {
            add(TargetKind::Probe, function, because);
        }
        Ok(Self { failure: exit.in_words(), task: exit.named_task(), targets })
    }

    /// As text, a line for each target.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = format!("{}\n", clean(&self.failure));
        if let Some((comm, pid)) = &self.task {
            out.push_str(&format!("  the task: {}[{pid}]\n", clean(comm)));
        }
        let row =
            |target: &Target| vec![target.kind.to_string(), clean(&target.name), clean(&target.because)];
        let rows: Vec<_> = self.targets.iter().map(row).collect();
        for line in layout(&[Align::Left, Align::Left, Align::Left], &rows) {
            out.push_str(format!("  {line}").trim_end());
            out.push('\n');
        }
        out
    }
}

/// The functions of the backtrace in a dump, the innermost first, without those that every exit or stall has.
fn backtrace(dump: &str) -> Vec<String> {
    let lines = dump.lines().skip_while(|line| line.trim() != BACKTRACE).skip(1);
    let frames = lines.map(str::trim).map_while(frame);
    let mut found: Vec<String> = Vec::new();
    for name in frames.take(4 * FRAMES) {
        // gcc splits functions: `x.isra.0` and `x.cold` are of `x`.
        let base = name.split('.').next().unwrap_or(name);
        if OF_THE_EXIT.contains(&base) {
            // What was above it is the exit's own doing.
            found.clear();
        } else if OF_THE_WATCHDOG.contains(&base) {
            return Vec::new();
        } else if found.len() < FRAMES {
            found.push(name.to_owned());
        }
    }
    found
}

/// The scheduler's programs at the last checkpoint at which it was enabled; none where there is no memory.
fn programs(run: &Run<'_>) -> Result<Vec<BpfProgram>, CheckpointError> {
    let checkpoints = match Checkpoints::of(run) {
        Ok(checkpoints) => checkpoints,
        Err(CheckpointError::NoCheckpoint) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let is_enabled = |sample: Option<u32>| {
        let scx = sample.and_then(|index| run.sample(index)).and_then(|sample| sample.scx.as_ref());
        scx.is_none_or(ScxState::is_enabled)
    };
    let Some(info) = checkpoints.all().iter().rev().find(|info| is_enabled(info.sample)) else {
        return Ok(Vec::new());
    };
    let checkpoint = checkpoints.open(*info)?;
    let objects = BpfObjects::read(&checkpoint.kernel())?;
    Ok(objects.programs().programs().iter().filter(|program| program.of_scheduler).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kernel 7.3 printed it, shortened.
    const OF_AN_ERROR: &str = "\
demo[103] triggered exit kind 1025:
  scx_bpf_error (no room)

Backtrace:
  scx_vexit+0x5c/0xb0
  scx_bpf_error_bstr+0x7d/0x80
  bpf_prog_0123456789abcdef_demo_enqueue+0x101/0x3f0
  bpf__sched_ext_ops_enqueue+0x47/0x8f
  do_enqueue_task+0x13c/0x2d0
  enqueue_task_scx.isra.0+0x1bb/0x2b0

CPU states
----------
";

    #[test]
    fn a_backtrace_has_who_asked_for_the_exit_and_not_how_it_is_made() {
        let found = backtrace(OF_AN_ERROR);
        assert_eq!(found.first().map(String::as_str), Some("scx_bpf_error_bstr"));
        assert!(found.contains(&"do_enqueue_task".to_owned()), "{found:?}");
        assert!(!found.iter().any(|name| name == "scx_vexit" || name == "CPU"), "{found:?}");
    }

    #[test]
    fn the_watchdog_has_not_made_the_stall_that_it_found() {
        for watchdog in ["scx_watchdog_workfn", "scx_tick", "check_rq_for_timeouts.isra.0"] {
            let dump =
                format!("Backtrace:\n  __scx_exit+0x1/0x2\n  {watchdog}+0x1/0x2\n  kthread+0x1/0x2\n\n");
            assert_eq!(backtrace(&dump), Vec::<String>::new());
        }
        assert_eq!(backtrace("no backtrace+0x1/0x2\n"), Vec::<String>::new());
    }
}
