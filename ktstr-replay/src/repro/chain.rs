//! The call chain of a failure: the functions that led to it and the values that it changed, by the kernel's record of the exit
//! and the scheduler's programs.

use std::fmt;

use serde::Serialize;

use crate::kernel::BpfProgram;
use crate::kernel::maps::BpfObjects;
use crate::run::{CheckpointError, Checkpoints, Run, backtrace};
use crate::text::{Align, clean, layout, seconds};
use crate::trace::record::{ScxState, Stage};

/// Most targets in all.
const TARGETS: usize = 48;
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
/// By which every CPU comes all the time, whatever led there: they begin so, or are called that. A stop at them tells nothing, and takes
/// the place of one that would.
const BEGINS_ON_THE_WAY: [&str; 6] =
    ["asm_", "sysvec_", "irqentry_", "entry_SYSCALL_", "do_syscall_", "ret_from_fork"];
const ON_THE_WAY: [&str; 2] = ["schedule", "__schedule"];
/// What tells that a scheduler is being ended, and by whom.
pub(super) const EXIT_KIND: &str = "scx_root->exit_kind";

/// What a second machine is to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// How the scheduler ended, in words.
    pub failure: String,
    /// Command name and pid of the task that it is about, if the kernel named one.
    pub task: Option<(String, i64)>,
    /// How long after the begin of the body it was seen, in ns of the guest: shortly before that the second machine takes captures.
    pub after_ns: u64,
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
        let exit = run
            .scheduler_exit()
            .filter(|exit| exit.is_crash || !exit.is_orderly())
            .ok_or(NoChain::NoFailure)?;
        let Some((_, body, _)) = run.stage(Stage::BodyStarted) else { return Err(NoChain::NoBody) };
        let after_ns = exit.at_ns.saturating_since(body.guest_ns);
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
        for caller in exit.dump.as_deref().map(backtrace).unwrap_or_default() {
            let function = caller.name;
            match programs.iter().find(|program| function == program.symbol()) {
                Some(program) => add(TargetKind::Probe, &program.name, "it is in the backtrace of the exit"),
                // Trampolines are no functions of anybody.
                None if function.starts_with("bpf_") || is_on_the_way(function) => {}
                None => add(TargetKind::Probe, function, "it is in the backtrace of the exit"),
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
        Ok(Self { failure: exit.in_words(), task: exit.named_task(), after_ns, targets })
    }

    /// As text, a line for each target.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = format!("{}\n", clean(&self.failure));
        if let Some((comm, pid)) = &self.task {
            out.push_str(&format!("  the task: {}[{pid}]\n", clean(comm)));
        }
        let after = i64::try_from(self.after_ns).unwrap_or(i64::MAX);
        out.push_str(&format!("  the time: {} after the body began\n", seconds(after)));
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

fn is_on_the_way(function: &str) -> bool {
    ON_THE_WAY.contains(&function) || BEGINS_ON_THE_WAY.iter().any(|begin| function.starts_with(begin))
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
