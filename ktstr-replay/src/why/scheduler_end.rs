//! The scheduler's end: the guest's scheduling at the last checkpoints before it, and the kernel's own dump of it.

use std::collections::HashSet;

use super::raised::Raised;
use crate::kernel::KernelError;
use crate::kernel::dsq::{Dsq, Dsqs, read_dsqs};
use crate::kernel::runqueue::{Runqueues, read_runqueue_details};
use crate::kernel::task::{Task, Tasks, read_tasks};
use crate::kernel::unwind::{Stack, Unwinder};
use crate::run::{
    CheckpointError, Checkpoints, Dump, DumpTask, DumpTrigger, OpenCheckpoint, Run, SchedulerExit,
    SubSchedulerFailure,
};
use crate::text::escaped;
use crate::trace::CheckpointInfo;
use crate::trace::record::ScxState;
use crate::units::{Cpu, CpuList, GuestNs};

/// A task that waited for less counts as stalled only if the kernel says so: five slices of the default length, in ns.
const LONG_NS: i64 = 100_000_000;
/// Most checkpoints that are searched for the longest wait.
const SEARCHED: usize = 128;
/// Where the kernel's own count is not known, two captures see the same wait if it began within so much, in ns.
const SAME_NS: u64 = 20_000_000;

/// What is named as evidence of an end of which no capture is.
pub(super) const KERNEL_LOG: &str = "kernel log";

/// The guest's scheduling at one checkpoint.
#[derive(Default)]
pub(crate) struct SchedState {
    /// Tag of its capture.
    pub tag: String,
    /// Guest time, in ns.
    pub guest_ns: GuestNs,
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
    /// It is what the kernel's dump has: without times, without places in queues, and of the CPUs that it has.
    pub of_dump: bool,
    /// CPUs that there are besides those of the runqueues.
    pub other_cpus: Vec<Cpu>,
}

/// The kernel's memory before the scheduler's end (or, if it did not end, when a task waited for longest), and its dump.
#[derive(Default)]
pub(crate) struct SchedulerEnd {
    /// What the scheduler is called.
    pub scheduler: String,
    /// Tag of the capture that has the exit.
    pub exit_tag: Option<String>,
    /// Time of the exit since the body began, in ns, where it is known.
    pub exit_since_start_ns: Option<i64>,
    /// Where it is the end of one below the root: that in words, which is of the kernel's log where no capture has it.
    pub below: Option<String>,
    /// How the scheduler ended, if it did; the names of tasks that memory knows are on one line in its dump.
    pub exit: Option<SchedulerExit>,
    /// The state at the checkpoints before the end, the latest first; as many as were asked for.
    pub states: Vec<SchedState>,
    /// The kernel's dump at the scheduler's end, without `unknown`.
    pub dump: Dump,
    /// What the dump has that is no task in memory: a name that looks like one.
    pub unknown: Vec<DumpTask>,
    /// Pid of the task that the exit's message names.
    pub named: Option<i64>,
    /// Who raised the error, if somebody did.
    pub raised: Option<Raised>,
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
    /// The tick at which it began to wait, as the kernel has it; 0 where that is not known.
    pub since_tick: u64,
}

impl SchedulerEnd {
    /// What is known of the scheduler's end in `run`, from the last `count` checkpoints before it; where it did not end, of the error by
    /// which one below it did; where none did, from those up to the one at which a task had waited for longest.
    ///
    /// # Errors
    /// [`CheckpointError`] when there is memory, and it cannot be read.
    pub(crate) fn of(run: &Run<'_>, count: usize) -> Result<Self, CheckpointError> {
        let checkpoints = match Checkpoints::of(run) {
            Ok(checkpoints) => Some(checkpoints),
            Err(CheckpointError::NoCheckpoint) => None,
            Err(error) => return Err(error),
        };
        let mut exit = run.scheduler_exit().cloned();
        let below = || SubSchedulerFailure::of(run, checkpoints.as_ref());
        let below = if exit.is_none() { below() } else { None };
        exit = exit.or_else(|| below.as_ref().map(|below| below.exit.clone()));
        let sample = exit.as_ref().and_then(|exit| exit.sample).and_then(|index| run.sample(index));
        let mut end = Self {
            scheduler: below
                .as_ref()
                .map_or_else(|| run.scheduler_name().to_owned(), SubSchedulerFailure::in_words),
            exit_tag: sample
                .map(|sample| sample.tag.clone())
                .or_else(|| below.as_ref().map(|_| KERNEL_LOG.to_owned())),
            below: below.as_ref().map(SubSchedulerFailure::end_in_words),
            exit_since_start_ns: exit.as_ref().map(|exit| run.since_start_ns(exit.at_ns)),
            exit,
            ..Self::default()
        };
        let Some(checkpoints) = checkpoints else {
            end.read_exit(None);
            return Ok(end);
        };
        let chosen = end.choose(run, &checkpoints, count)?;
        let chosen: Vec<_> =
            chosen.into_iter().map(|info| checkpoints.open(info)).collect::<Result<_, _>>()?;
        end.states = chosen.iter().map(SchedState::of).collect::<Result<_, _>>()?;
        // Memory at the exit itself has the dump's tasks, but its queues are those after the scheduler's end.
        let at_exit = end.exit.as_ref().and_then(|exit| exit.sample);
        let at_exit = checkpoints.all().iter().find(|info| info.sample.is_some() && info.sample == at_exit);
        let mut known = end.states.first().map(|state| state.tasks.tasks.clone()).unwrap_or_default();
        if let Some(info) = at_exit {
            known.extend(read_tasks(&checkpoints.open(*info)?.kernel())?.tasks);
        }
        end.read_exit(Some(&known));
        // The programs are in memory as long as the scheduler's process is.
        if let (Some(raised), Some(checkpoint)) = (&mut end.raised, chosen.first()) {
            raised.find_line(checkpoint);
        }
        if let Some(last) = chosen.first() {
            end.unwind(last);
        }
        Ok(end)
    }

    /// The checkpoints that are looked at, the latest first.
    fn choose(
        &self,
        run: &Run<'_>,
        checkpoints: &Checkpoints<'_>,
        count: usize,
    ) -> Result<Vec<CheckpointInfo>, CheckpointError> {
        let mut enabled = Vec::new();
        for info in checkpoints.all().iter().rev() {
            // An ejected scheduler's tasks are in other queues: the kernel takes them at once, and while it is in
            // bypass, as it is when it makes its dump.
            let sample = info.sample.and_then(|index| run.sample(index));
            let scx = sample.and_then(|sample| sample.scx.as_ref());
            let in_time = self.exit.as_ref().is_none_or(|exit| info.guest_ns <= exit.at_ns);
            if in_time && scx.is_none_or(ScxState::is_enabled) {
                enabled.push((*info, scx.is_none_or(|scx| scx.bypass_depth.unwrap_or_default() <= 0)));
            }
        }
        if enabled.iter().any(|(_, schedules)| *schedules) {
            enabled.retain(|(_, schedules)| *schedules);
        }
        let mut enabled: Vec<CheckpointInfo> = enabled.into_iter().map(|(info, _)| info).collect();
        if self.exit.is_none() {
            let mut longest = None;
            for (position, info) in enabled.iter().take(SEARCHED).enumerate() {
                let tasks = read_tasks(&checkpoints.open(*info)?.kernel())?;
                let waits = tasks.tasks.iter().filter_map(SchedState::waiting).map(|task| task.age_ns).max();
                if waits.is_some_and(|ns| ns >= LONG_NS && longest.is_none_or(|(most, _)| ns > most)) {
                    longest = waits.map(|ns| (ns, position));
                }
            }
            enabled.drain(..longest.map_or(0, |(_, position)| position));
        }
        enabled.truncate(count);
        Ok(enabled)
    }

    /// Read what the exit says, by the tasks that memory has, if there is any.
    fn read_exit(&mut self, known: Option<&[Task]>) {
        let Some(exit) = &mut self.exit else { return };
        self.raised = exit.dump.as_deref().and_then(Raised::of);
        let Some(known) = known else {
            self.dump = exit.dump.as_deref().map(Dump::parse).unwrap_or_default();
            self.named = exit.named_task().map(|(_, pid)| pid);
            return;
        };
        self.named = exit.named_of(known).map(|task| task.pid);
        exit.dump = exit.dump.take().map(|text| Dump::names_on_one_line(&text, known).into_owned());
        self.dump = exit.dump.as_deref().map(Dump::parse).unwrap_or_default();
        let names: HashSet<(i64, String)> = known.iter().map(|one| (one.pid, escaped(&one.comm))).collect();
        let is_known = |task: &DumpTask| names.is_empty() || names.contains(&(task.pid, task.comm.clone()));
        let (tasks, unknown) = std::mem::take(&mut self.dump.tasks).into_iter().partition(is_known);
        (self.dump.tasks, self.unknown) = (tasks, unknown);
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
    /// by the kernel's dump or else by the last checkpoint. A dump that was cut may lack that one. Some task always waits a little:
    /// of an error that was raised, and not found by the watchdog, that is no part.
    pub(crate) fn stalled_task(&self) -> Option<i64> {
        let exists =
            |pid: &i64| self.last().is_none_or(|state| state.of_dump || state.tasks.by_pid(*pid).is_some());
        let dumped = || self.dump.longest().filter(|task| self.is_told(task)).map(|task| task.pid);
        let by_memory = || self.last()?.longest().filter(|task| task.age_ns >= LONG_NS).map(|task| task.pid);
        let longest = || match self.dump.cut {
            true => by_memory().or_else(dumped),
            false => dumped().or_else(by_memory),
        };
        self.named.filter(exists).or_else(longest)
    }

    /// Whether the wait of a task in the dump has to do with the end.
    pub(super) fn is_told(&self, task: &DumpTask) -> bool {
        self.raised.is_none() || i128::from(task.runnable_ms) * 1_000_000 >= i128::from(LONG_NS)
    }

    /// Of an error that was raised: the CPU that raised it, where the kernel says so, and what it ran when the dump was made.
    pub(crate) fn raised_on(&self) -> Option<&DumpTrigger> {
        self.raised.as_ref().and(self.dump.trigger.as_ref())
    }

    /// The checkpoints at which the task `pid` waited as it did at the last one, the latest first: the wait had begun, and
    /// had not been interrupted since.
    pub(crate) fn waits(&self, pid: i64) -> Vec<(&SchedState, Waiting)> {
        let mut since = None;
        let at = |state: &SchedState| state.tasks.by_pid(pid).and_then(SchedState::waiting);
        self.states
            .iter()
            .map_while(|state| {
                let waiting = at(state)?;
                let began = state.guest_ns.0.saturating_sub(u64::try_from(waiting.age_ns).unwrap_or(0));
                // When it began is as good as the host's estimate of the captures' times, of which a busy host makes a poor one; the
                // kernel's tick is that of one wait.
                let same = since.is_none_or(|(tick, since): (u64, u64)| match (tick, waiting.since_tick) {
                    (0, _) | (_, 0) => since.abs_diff(began) <= SAME_NS,
                    (one, other) => one == other,
                });
                since.get_or_insert((waiting.since_tick, began));
                same.then_some((state, waiting))
            })
            .collect()
    }
}

impl SchedState {
    fn of(checkpoint: &OpenCheckpoint<'_>) -> Result<Self, KernelError> {
        let view = checkpoint.kernel();
        Ok(Self {
            tag: checkpoint.tag().to_owned(),
            guest_ns: checkpoint.info().guest_ns,
            since_start_ns: checkpoint.since_start_ns(),
            title: checkpoint.title(),
            tasks: read_tasks(&view)?,
            runqueues: read_runqueue_details(&view)?,
            dsqs: read_dsqs(&view)?,
            ..Self::default()
        })
    }

    /// Guest time since the body began, in ns, where there is such a time.
    pub(crate) fn moment(&self) -> Option<i64> {
        (!self.of_dump).then_some(self.since_start_ns)
    }

    /// The task of sched_ext that has waited longest for a CPU.
    pub(crate) fn longest(&self) -> Option<Waiting> {
        self.tasks.tasks.iter().filter_map(Self::waiting).max_by_key(|task| task.age_ns)
    }

    /// How long a task waits, if it does.
    pub(crate) fn waiting(task: &Task) -> Option<Waiting> {
        let scx = task.scx.as_ref().filter(|scx| scx.runnable && !task.on_cpu && task.class == "ext")?;
        let (pid, comm) = (task.pid, task.comm.clone());
        let since_tick = scx.runnable_at;
        Some(Waiting { pid, comm, age_ns: scx.runnable_age_ns?, cpu: task.cpu, since_tick })
    }

    /// The queue that a task is in, and its position from 1.
    pub(crate) fn queue_of(&self, pid: i64) -> Option<(&Dsq, usize)> {
        self.dsqs.dsqs.iter().find_map(|dsq| {
            let position = dsq.tasks.iter().position(|task| task.pid == pid)?;
            Some((dsq, position + 1))
        })
    }

    /// The CPUs that run.
    pub(crate) fn online(&self) -> CpuList {
        let online = self.runqueues.runqueues.iter().filter(|rq| rq.online).map(|rq| rq.cpu);
        online.chain(self.other_cpus.iter().copied()).collect()
    }

    /// The online CPUs that a task may run on, where they are not all that are online.
    pub(crate) fn bound_to(&self, task: &Task) -> Option<CpuList> {
        let (online, allowed) = (self.online(), task.cpus_allowed.as_ref()?);
        let usable: CpuList = online.iter().filter(|cpu| allowed.contains(*cpu)).collect();
        (usable != online).then_some(usable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::KernelView;
    use crate::testing::{Guest, TraceBuilder, sample, stalled, toy_kernel, write_checkpoints};
    use crate::trace::Trace;
    use crate::trace::record::{CaptureKind, CpuState, Sample};

    /// The toy kernel, whose tasks 101 and 102 are of sched_ext and have waited for `jiffies` of 4 ms, the second
    /// one for one less.
    fn waiting_for(jiffies: u64) -> Guest {
        let (mut guest, _) = toy_kernel(0);
        let tasks = read_tasks(&KernelView::new(&guest.profile(), &guest.ram)).unwrap().tasks;
        let class = guest.alloc(8);
        guest.symbol("ext_sched_class", class);
        let [of_class, since] =
            ["sched_class", "scx.runnable_at"].map(|field| guest.offset("task_struct", field));
        for task in tasks.iter().filter(|task| task.pid != 0) {
            guest.write_u64(task.at.0 + of_class, class);
            guest.write_u64(task.at.0 + since, 1000 - jiffies + u64::from(task.pid == 102));
        }
        guest
    }

    fn periodic(number: u32, bypass_depth: i64) -> Sample {
        let at_ms = i64::from(number + 1) * 1000;
        let mut sample = sample(&format!("periodic_{number:03}"), CaptureKind::Periodic, at_ms, &[1, 2, 3]);
        sample.checkpoint = Some(number);
        sample.cpus = vec![CpuState { cpu: Cpu(0), curr_pid: Some(0), ..CpuState::default() }];
        if let Some(scx) = &mut sample.scx {
            scx.bypass_depth = Some(bypass_depth);
        }
        sample
    }

    /// What the end of `run` is, whose checkpoints 0, 1, ... are of these memories, a second apart; and its explanation.
    fn of(run: TraceBuilder, memories: &[&Guest]) -> (SchedulerEnd, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.trace.zst");
        let checkpoints: Vec<_> =
            (1..).zip(memories).map(|(number, guest)| (number, u64::from(number) * 1000, *guest)).collect();
        write_checkpoints(&run.ended(), &path, &checkpoints);
        let trace = Trace::open(&path).unwrap();
        let run = Run::load(&trace);
        let verdict = run.judge(None, crate::judge::CheckSource::Recorded);
        (SchedulerEnd::of(&run, 4).unwrap(), crate::why::explain(&run, &verdict).unwrap().render())
    }

    #[test]
    fn a_run_whose_scheduler_stayed_is_told_by_its_longest_wait() {
        let (short, long) = (waiting_for(5), waiting_for(250));
        let mut run = TraceBuilder::begun().claim("always(nr_dispatched > 7)");
        for number in 0..3 {
            run = run.sample(periodic(number, 0));
        }
        let (end, why) = of(run, &[&short, &long, &short]);
        assert_eq!(
            end.states.iter().map(|state| state.tag.as_str()).collect::<Vec<_>>(),
            ["periodic_001", "periodic_000"]
        );
        assert_eq!(end.stalled_task(), Some(101));
        assert!(why.contains("waits[101] had been runnable for 1.000s (since 1.000s)"), "{why}");
        assert!(why.contains("CPU 0, on which waits[101] may run, was idle in 2 of the 2 captures"), "{why}");
    }

    #[test]
    fn a_checkpoint_in_bypass_does_not_stand_for_the_wait() {
        let long = waiting_for(250);
        let run = TraceBuilder::begun()
            .sample(periodic(0, 0))
            .sample(periodic(1, 1))
            .sample(stalled(2500, &[1, 2, 3]));
        let (end, _) = of(run, &[&long, &long]);
        assert_eq!(end.states.iter().map(|state| state.tag.as_str()).collect::<Vec<_>>(), ["periodic_000"]);
        // One that is in bypass all along is better than none.
        let run = TraceBuilder::begun().sample(periodic(0, 1)).sample(stalled(2500, &[1, 2, 3]));
        assert_eq!(of(run, &[&long]).0.states.len(), 1);
    }

    #[test]
    fn a_dump_that_was_cut_gives_no_total_and_memory_the_rest() {
        let long = waiting_for(250);
        let told = |cut: &str| {
            let task = "  R waits[102] -900ms\n      scx_state/flags=3/0x9 dsq_flags=0x0\n\n";
            let forged = "  R nobody[55] -9000ms\n      scx_state/flags=3/0x9 dsq_flags=0x0\n\n";
            let mut exit = stalled(2500, &[1, 2, 3]);
            if let Some(scx) = &mut exit.scx {
                scx.exit_message = Some("watchdog failed to check in for 2.004s".into());
                scx.exit_dump =
                    Some(format!("CPU 0   : nr_run=3 flags=0x1\n{}{forged}{cut}", task.repeat(6)));
            }
            of(TraceBuilder::begun().sample(periodic(0, 0)).sample(exit), &[&long])
        };
        let (end, why) = told("\n~~~~ TRUNCATED ~~~~\n");
        assert!(why.contains("the kernel's dump was cut for want of room") && !why.contains("more"), "{why}");
        assert!(
            why.contains("by memory, 2 tasks of sched_ext waited, for longest waits[101] for 1.000s"),
            "{why}"
        );
        assert_eq!(end.stalled_task(), Some(101), "by memory, as the dump may lack it");
        let (end, why) = told("");
        assert!(why.contains("and 2 more") && !why.contains("was cut"), "{why}");
        assert_eq!(end.stalled_task(), Some(102));
        // What memory does not have is told as that, and waited for nothing.
        assert!(why.contains("the kernel's dump has nobody[55], which is no task in memory"), "{why}");
        assert!(!why.contains("nobody[55] for"), "{why}");
    }

    #[test]
    fn who_waited_a_little_has_nothing_to_do_with_an_error_that_was_raised() {
        let told = |waited_ms: u32| {
            let mut exit = stalled(2500, &[1, 2, 3]);
            if let Some(scx) = &mut exit.scx {
                scx.exit_message = Some("the demo gave up".into());
                scx.exit_dump = Some(format!(
                    "busy[101] triggered exit kind 1025 on CPU 0:\n  scx_bpf_error (the demo gave up)\n\nBacktrace:\n  scx_exit_bstr+0xdd/0x110\n  \
                     bpf_prog_0123456789abcdef_give_up+0x31/0x3f\n\nCPU 0   : nr_run=3 flags=0x1\n  R waits[102] -{waited_ms}ms\n      \
                     scx_state/flags=3/0x9 dsq_flags=0x0\n\n"
                ));
            }
            let short = waiting_for(5);
            of(TraceBuilder::begun().sample(periodic(0, 0)).sample(exit), &[&short])
        };
        let (end, why) = told(48);
        assert_eq!(end.stalled_task(), None);
        assert_eq!(end.raised_on().and_then(|trigger| trigger.cpu), Some(Cpu(0)));
        assert!(!why.contains("waits[102]"), "{why}");
        let words = "busy[101] ran on CPU 0, which raised it, when the kernel made its dump there";
        assert!(why.contains(words), "{why}");
        // A program may give up because of one that waited for long.
        let (end, why) = told(900);
        assert_eq!(end.stalled_task(), Some(102));
        assert!(why.contains("runnable and waiting: waits[102] for 0.900s"), "{why}");
    }
}
