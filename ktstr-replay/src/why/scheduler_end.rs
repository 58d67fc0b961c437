//! The scheduler's end: the guest's scheduling at the last checkpoints before it, and the kernel's own dump of it.

use crate::kernel::KernelError;
use crate::kernel::dsq::{Dsq, Dsqs, read_dsqs};
use crate::kernel::runqueue::{Runqueues, read_runqueue_details};
use crate::kernel::task::{Task, Tasks, read_tasks};
use crate::kernel::unwind::{Stack, Unwinder};
use crate::run::{CheckpointError, Checkpoints, Dump, OpenCheckpoint, Run, SchedulerExit};

/// A task that waited for less counts as stalled only if the kernel says so: five slices of the default length, in ns.
const LONG_NS: i64 = 100_000_000;

/// The guest's scheduling at one checkpoint.
pub(crate) struct SchedState {
    /// Tag of its capture.
    pub tag: String,
    /// Guest time since the body began, in ns.
    pub since_start_ns: i64,
    /// Which checkpoint it is, for people.
    pub title: String,
    /// All tasks.
    pub tasks: Tasks,
    /// All runqueues.
    pub runqueues: Runqueues,
    /// All dispatch queues.
    pub dsqs: Dsqs,
    /// The stack of the task that waited longest, or of the one that the exit names.
    pub stack: Option<(i64, Stack)>,
}

/// The kernel's memory before the scheduler's end (or, if it did not end, at the end of the run), and its dump.
pub(crate) struct SchedulerEnd {
    /// The state at the checkpoints before the end, the latest first; as many as were asked for.
    pub states: Vec<SchedState>,
    /// The kernel's dump at the scheduler's end.
    pub dump: Dump,
    /// The task that the exit's message names.
    pub named: Option<(String, i64)>,
}

/// A task that waited for a CPU.
pub(crate) struct Waiting {
    /// Thread id.
    pub pid: i64,
    /// Command name.
    pub comm: String,
    /// How long it had been runnable, in ns.
    pub age_ns: i64,
    /// CPU whose runqueue it was on.
    pub cpu: Option<u64>,
}

impl SchedulerEnd {
    /// What is known of the scheduler's end in `run`, from the last `count` checkpoints before it.
    ///
    /// # Errors
    /// [`CheckpointError`] when there is memory, and it cannot be read.
    pub(crate) fn of(run: &Run<'_>, count: usize) -> Result<Self, CheckpointError> {
        let exit = run.scheduler_exit();
        let dump = exit.and_then(|exit| exit.dump.as_deref()).map(Dump::parse).unwrap_or_default();
        let named = exit.and_then(SchedulerExit::named_task);
        let mut end = Self { states: Vec::new(), dump, named };
        let checkpoints = match Checkpoints::of(run) {
            Ok(checkpoints) => checkpoints,
            Err(CheckpointError::NoCheckpoint) => return Ok(end),
            Err(error) => return Err(error),
        };
        for info in checkpoints.all().iter().rev() {
            if end.states.len() >= count {
                break;
            }
            let checkpoint = checkpoints.open(*info)?;
            // An ejected scheduler's tasks are in other queues: the kernel takes them at once.
            let alive = || {
                checkpoint
                    .sample()
                    .and_then(|sample| sample.scx.as_ref())
                    .is_none_or(|scx| scx.state == "enabled")
            };
            if exit.as_ref().is_none_or(|exit| info.guest_ns <= exit.at_ns && alive()) {
                end.states.push(SchedState::of(&checkpoint)?);
                if end.states.len() == 1 {
                    end.unwind(&checkpoint);
                }
            }
        }
        Ok(end)
    }

    /// Follow the stalled task's stack at the last checkpoint.
    fn unwind(&mut self, checkpoint: &OpenCheckpoint<'_>) {
        let Some(pid) = self.stalled_task() else { return };
        let Some(last) = self.states.first_mut() else { return };
        let Some(task) = last.tasks.by_pid(pid) else { return };
        let view = checkpoint.kernel();
        last.stack = Some((pid, Unwinder::new(&view, checkpoint.vcpus()).task(task.at).1));
    }

    /// The state at the last checkpoint.
    pub(crate) fn last(&self) -> Option<&SchedState> {
        self.states.first()
    }

    /// The pid of the stalled task: the one that the exit names, if there is one of that pid, else the one that waited longest,
    /// by the kernel's dump or else by the last checkpoint.
    pub(crate) fn stalled_task(&self) -> Option<i64> {
        let exists = |pid: &i64| self.last().is_none_or(|state| state.tasks.by_pid(*pid).is_some());
        let named = self.named.as_ref().map(|(_, pid)| *pid).filter(exists);
        named
            .or_else(|| self.dump.longest().map(|task| task.pid))
            .or_else(|| self.last()?.longest().filter(|task| task.age_ns >= LONG_NS).map(|task| task.pid))
    }
}

impl SchedState {
    fn of(checkpoint: &OpenCheckpoint<'_>) -> Result<Self, KernelError> {
        let view = checkpoint.kernel();
        Ok(Self {
            tag: checkpoint.tag().to_owned(),
            since_start_ns: checkpoint.since_start_ns(),
            title: checkpoint.title(),
            tasks: read_tasks(&view)?,
            runqueues: read_runqueue_details(&view)?,
            dsqs: read_dsqs(&view)?,
            stack: None,
        })
    }

    /// The task of sched_ext that has waited longest for a CPU.
    pub(crate) fn longest(&self) -> Option<Waiting> {
        self.tasks.tasks.iter().filter_map(Self::waiting).max_by_key(|task| task.age_ns)
    }

    /// How long a task waits, if it does.
    pub(crate) fn waiting(task: &Task) -> Option<Waiting> {
        let scx = task.scx.as_ref().filter(|scx| scx.runnable && !task.on_cpu && task.class == "ext")?;
        let (pid, comm) = (task.pid, task.comm.clone());
        Some(Waiting { pid, comm, age_ns: scx.runnable_age_ns?, cpu: task.cpu })
    }

    /// The queue that a task is in, and its position from 1.
    pub(crate) fn queue_of(&self, pid: i64) -> Option<(&Dsq, usize)> {
        self.dsqs.dsqs.iter().find_map(|dsq| {
            let position = dsq.tasks.iter().position(|task| task.pid == pid)?;
            Some((dsq, position + 1))
        })
    }
}
