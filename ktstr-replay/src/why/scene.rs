//! The last moment before the end of which there is memory.

use crate::kernel::KernelError;
use crate::kernel::dsq::{Dsq, Dsqs, read_dsqs};
use crate::kernel::runqueue::{Runqueues, read_runqueue_details};
use crate::kernel::task::{Task, Tasks, read_tasks};
use crate::kernel::unwind::{Stack, Unwinder};
use crate::run::Run;
use crate::run::{CheckpointError, Checkpoints, OpenCheckpoint};

use super::Dump;

/// A task that waited for less is no victim unless the kernel says so: five slices of the default length, in ns.
const LONG_NS: i64 = 100_000_000;

/// What a checkpoint has of the guest's scheduling.
pub(crate) struct Moment {
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
pub(crate) struct Scene {
    /// The moments before the end, the latest first; as many as were asked for.
    pub moments: Vec<Moment>,
    /// The kernel's dump at the scheduler's end.
    pub dump: Dump,
    /// The task that the exit's message names.
    pub named: Option<(String, i64)>,
}

/// A task that waited for a CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Thread id.
    pub pid: i64,
    /// Command name.
    pub comm: String,
    /// How long it had been runnable, in ns.
    pub age_ns: i64,
    /// CPU whose runqueue it was on.
    pub cpu: Option<u64>,
}

impl Scene {
    /// What is known of the end of `run`, from the last `moments` checkpoints before it.
    ///
    /// # Errors
    /// [`CheckpointError`] when there is memory, and it cannot be read.
    pub(crate) fn of(run: &Run<'_>, moments: usize) -> Result<Self, CheckpointError> {
        let exit = run.scheduler_exit();
        let said = exit.as_ref().and_then(|exit| exit.message.as_deref());
        let dump = exit.as_ref().and_then(|exit| exit.dump.as_deref()).map(Dump::parse).unwrap_or_default();
        let mut scene = Self { moments: Vec::new(), dump, named: said.and_then(named_in) };
        let checkpoints = match Checkpoints::of(run) {
            Ok(checkpoints) => checkpoints,
            Err(CheckpointError::NoCheckpoint) => return Ok(scene),
            Err(error) => return Err(error),
        };
        for info in checkpoints.all().iter().rev() {
            if scene.moments.len() >= moments {
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
                let moment = Moment::of(&checkpoint)?;
                scene.moments.push(moment);
                if scene.moments.len() == 1 {
                    scene.unwind(&checkpoint);
                }
            }
        }
        Ok(scene)
    }

    /// Follow the victim's stack at the last moment.
    fn unwind(&mut self, checkpoint: &OpenCheckpoint<'_>) {
        let Some(victim) = self.victim() else { return };
        let Some(last) = self.moments.first_mut() else { return };
        let Some(task) = last.tasks.by_pid(victim) else { return };
        let view = checkpoint.kernel();
        last.stack = Some((victim, Unwinder::new(&view, checkpoint.vcpus()).task(task.at).1));
    }

    /// The last moment.
    pub(crate) fn last(&self) -> Option<&Moment> {
        self.moments.first()
    }

    /// The pid of the task that the story is about: the one that the exit names, else the one that waited longest, by the
    /// kernel's dump or else by the last checkpoint.
    pub(crate) fn victim(&self) -> Option<i64> {
        let named = self.named.as_ref().map(|(_, pid)| *pid);
        named
            .or_else(|| self.dump.longest().map(|task| task.pid))
            .or_else(|| self.last()?.longest().filter(|task| task.age_ns >= LONG_NS).map(|task| task.pid))
    }
}

impl Moment {
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

/// The task in `stalled[105] failed to run for 2.004s`.
fn named_in(message: &str) -> Option<(String, i64)> {
    let before = message.split_once(" failed to run for ")?.0;
    let (comm, pid) = before.strip_suffix(']')?.rsplit_once('[')?;
    Some((comm.to_owned(), pid.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_names_its_task() {
        assert_eq!(named_in("a[b[105] failed to run for 2.004s"), Some(("a[b".to_owned(), 105)));
        assert_eq!(named_in("watchdog failed to check in for 2.004s"), None);
    }
}
