//! The call chain of a failure: the functions that led to it and the values that it changed, by the kernel's record of the exit
//! and the scheduler's programs.

use std::fmt;

use serde::Serialize;

use super::failure::Failure;
use crate::kernel::BpfProgram;
use crate::kernel::maps::BpfObjects;
use crate::path::SchedulerName;
use crate::run::{CheckpointError, Checkpoints, Run, SubSchedulerFailure, backtrace};
use crate::text::{Align, clean, layout, seconds};
use crate::trace::CheckpointInfo;
use crate::trace::record::{SchedulerMaps, ScxState, Stage};

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
const OPERATIONS: [&str; 9] = [
    "select_cpu",
    "select_cid",
    "enqueue",
    "dequeue",
    "dispatch",
    "runnable",
    "running",
    "stopping",
    "quiescent",
];
/// Those of them that are given a task, `p`.
const OF_TASKS: [&str; 8] =
    ["select_cpu", "select_cid", "enqueue", "dequeue", "runnable", "running", "stopping", "quiescent"];
/// By which every CPU comes all the time, whatever led there: they begin so, or are called that. A stop at them tells nothing, and takes
/// the place of one that would.
const BEGINS_ON_THE_WAY: [&str; 6] =
    ["asm_", "sysvec_", "irqentry_", "entry_SYSCALL_", "do_syscall_", "ret_from_fork"];
const ON_THE_WAY: [&str; 2] = ["schedule", "__schedule"];
/// What tells that the scheduler is being ended, and by whom.
pub(super) const EXIT_KIND: &str = "scx_root->exit_kind";
/// The same of one below it.
pub(super) const EXIT_KIND_BELOW: &str = "->exit_kind";

/// What a second machine is to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// How the scheduler ended, in words; with its name where it is one below the root.
    pub failure: String,
    /// Where it is one below the root, what paths call it, in `scheduler(..)`: several where they cannot be told apart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub below: Vec<String>,
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
    /// The function's own name, without whose it is; of a value, the whole name.
    #[serde(skip)]
    pub function: String,
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
        let is_word = self.function.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match (self.kind, is_word) {
            (TargetKind::Watch, _) => self.name.clone(),
            (TargetKind::Probe, true) if self.has_task => format!("{}({OF_THE_TASK})", self.name),
            (TargetKind::Probe, true) => self.name.clone(),
            // What the compiler has split off has other arguments.
            (TargetKind::Probe, false) => {
                let whose = self.name.strip_suffix(self.function.as_str()).unwrap_or_default();
                format!("{whose}\"{}\"()", self.function)
            }
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
    /// The scheduler did not die, nor one below it.
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
        let checkpoints = Checkpoints::of(run);
        let failure = Failure::of(run, checkpoints.as_ref().ok()).ok_or(NoChain::NoFailure)?;
        let Some((_, body, _)) = run.stage(Stage::BodyStarted) else { return Err(NoChain::NoBody) };
        let checkpoints = match checkpoints {
            Ok(checkpoints) => Some(checkpoints),
            Err(CheckpointError::NoCheckpoint) => None,
            Err(error) => return Err(error.into()),
        };
        let exit = failure.exit();
        let after_ns = exit.at_ns.saturating_since(body.guest_ns);
        let (below, programs) = match &failure {
            Failure::Root(_) => (Vec::new(), programs(run, checkpoints.as_ref())?),
            Failure::Below(below) => {
                let names = below.path_names().into_iter().map(str::to_owned).collect();
                (names, programs_below(below, checkpoints.as_ref())?)
            }
        };
        let mut chosen = Chosen { below, programs, targets: Vec::new() };
        chosen.watch();
        for caller in exit.dump.as_deref().map(backtrace).unwrap_or_default() {
            let because = "it is in the backtrace of the exit";
            let function = caller.name;
            match chosen.programs.iter().find(|program| function == program.symbol()) {
                Some(program) => chosen.program(&program.clone(), because),
                // Trampolines are no functions of anybody.
                None if function.starts_with("bpf_") || is_on_the_way(function) => {}
                None => chosen.function(function, because),
            }
        }
        for operation in OPERATIONS {
            let is_it = |program: &&BpfProgram| program.attach_to.as_deref() == Some(operation);
            for program in chosen.programs.iter().filter(is_it).cloned().collect::<Vec<_>>() {
                chosen.program(&program, &format!("it is the scheduler's {operation}"));
            }
        }
        for (function, because) in OF_A_TASK {
            chosen.function(function, because);
        }
        let Chosen { below, targets, .. } = chosen;
        Ok(Self { failure: failure.in_words(), below, task: exit.named_task(), after_ns, targets })
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

/// What was chosen so far.
struct Chosen {
    below: Vec<String>,
    programs: Vec<BpfProgram>,
    targets: Vec<Target>,
}

impl Chosen {
    fn add(&mut self, target: Target) {
        if self.targets.len() < TARGETS && self.targets.iter().all(|known| known.name != target.name) {
            self.targets.push(target);
        }
    }

    /// What is stored to when the scheduler is ended.
    fn watch(&mut self) {
        let of_root = || vec![EXIT_KIND.to_owned()];
        let below = |name: &String| format!("{}{EXIT_KIND_BELOW}", SchedulerName(name));
        let names = if self.below.is_empty() { of_root() } else { self.below.iter().map(below).collect() };
        for name in names {
            let because = "who ends the scheduler".to_owned();
            self.add(Target {
                kind: TargetKind::Watch,
                function: name.clone(),
                name,
                because,
                has_task: false,
            });
        }
    }

    /// A function of the kernel.
    fn function(&mut self, name: &str, because: &str) {
        self.probe(name.to_owned(), name, because, OF_A_TASK.iter().any(|(function, _)| *function == name));
    }

    /// A program of the scheduler, or of each that it may be.
    fn program(&mut self, program: &BpfProgram, because: &str) {
        let has_task = program.attach_to.as_deref().is_some_and(|operation| OF_TASKS.contains(&operation));
        if self.below.is_empty() {
            return self.probe(program.name.clone(), &program.name, because, has_task);
        }
        for whose in self.below.clone() {
            let name = format!("{}.{}", SchedulerName(&whose), program.name);
            self.probe(name, &program.name, because, has_task);
        }
    }

    fn probe(&mut self, name: String, function: &str, because: &str, has_task: bool) {
        let (function, because) = (function.to_owned(), because.to_owned());
        self.add(Target { kind: TargetKind::Probe, name, because, function, has_task });
    }
}

/// The scheduler's programs at the last checkpoint at which it was enabled; none where there is no memory.
fn programs(
    run: &Run<'_>,
    checkpoints: Option<&Checkpoints<'_>>,
) -> Result<Vec<BpfProgram>, CheckpointError> {
    let is_enabled = |sample: Option<u32>| {
        let scx = sample.and_then(|index| run.sample(index)).and_then(|sample| sample.scx.as_ref());
        scx.is_none_or(ScxState::is_enabled)
    };
    let last = |checkpoints: &&Checkpoints<'_>| {
        checkpoints.all().iter().rev().find(|info| is_enabled(info.sample)).copied()
    };
    let Some((checkpoints, info)) = checkpoints.and_then(|all| Some((all, last(&all)?))) else {
        return Ok(Vec::new());
    };
    programs_at(checkpoints, info, |program| program.of_scheduler)
}

/// Those of a scheduler below the root; none where no memory has it.
fn programs_below(
    below: &SubSchedulerFailure,
    checkpoints: Option<&Checkpoints<'_>>,
) -> Result<Vec<BpfProgram>, CheckpointError> {
    let Some((checkpoints, info)) = checkpoints.zip(below.checkpoint) else { return Ok(Vec::new()) };
    let its: Vec<String> = below.which.iter().map(SchedulerMaps::in_words).collect();
    programs_at(checkpoints, info, |program| {
        program.scheduler.as_ref().is_some_and(|name| its.contains(name))
    })
}

fn programs_at(
    checkpoints: &Checkpoints<'_>,
    info: CheckpointInfo,
    is_its: impl Fn(&BpfProgram) -> bool,
) -> Result<Vec<BpfProgram>, CheckpointError> {
    let checkpoint = checkpoints.open(info)?;
    let objects = BpfObjects::read(&checkpoint.kernel())?;
    Ok(objects.programs().programs().iter().filter(|program| is_its(program)).cloned().collect())
}
