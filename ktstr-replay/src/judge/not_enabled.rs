//! A scheduler that was not enabled: its output, its threads' stacks, and what it may lack.

use super::refusal;
use crate::kernel::task::{Task, Tasks, read_tasks};
use crate::kernel::unwind::{TaskStack, Unwinder};
use crate::run::{CheckpointError, Checkpoints, Run};
use crate::text::{clean, escaped};
use crate::trace::record::{CaptureKind, OutputSource, Stage};
use crate::units::GuestNs;
use crate::verdict::{Finding, Origin, Outcome};

/// Lines of a scheduler's output that are kept as evidence: the end of a verifier's log. Kernels from 7.3 on explain a
/// rejection over some forty lines.
const OUTPUT_LINES: usize = 64;
/// Threads whose stacks are shown.
const THREADS: usize = 8;
/// Frames of a stack that are shown.
const FRAMES: usize = 16;
/// Longest command name of a thread (`TASK_COMM_LEN` of the kernel's `include/linux/sched.h`, without the zero).
const COMM_BYTES: usize = 15;
/// How functions begin in which a thread waits, whatever it waits for.
const WAITING: [&str; 4] = ["__schedule", "schedule", "preempt_schedule", "__cond_resched"];

/// A finding about the scheduler.
pub(super) fn scheduler(outcome: Outcome, summary: String) -> Finding {
    Finding::new(Origin::Run, "scheduler", outcome, summary)
}

/// What kept the scheduler from being enabled, as far as it is known.
pub(super) fn judge(run: &Run<'_>, name: &str) -> Finding {
    let exited = run.stage(Stage::SchedulerExited);
    if exited.is_none() && run.is_partial() {
        return scheduler(Outcome::Inconclusive, format!("nothing is recorded of {name} being enabled"));
    }
    if run.stage(Stage::SchedulerStarted).is_none() {
        return scheduler(Outcome::Fail, format!("{name} was never started"));
    }
    let (output, mut lines) = (Output::of(run), Vec::new());
    let found = if run.samples.iter().any(|sample| sample.kind == CaptureKind::NotEnabled) {
        let threads = Threads::read(run);
        lines.extend(threads.lines());
        too_late(run, name, &output, &threads)
    } else {
        format!("{name} did not load: {}", why(run, &output, &mut lines))
    };
    lines.splice(0..0, output.lines());
    if run.manifest.kernel.config.is_none() {
        lines.insert(
            0,
            "note: the guest had no kernel configuration, without which a scheduler with `__kconfig` variables does \
             not load: `cargo ktstr test --kernel-config FILE` gives one"
                .to_owned(),
        );
    }
    scheduler(Outcome::Fail, found).with_lines(lines)
}

/// The reason first, as far as anybody gave one, then how its process ended. What is known of that reason goes to `lines`.
fn why(run: &Run<'_>, output: &Output, lines: &mut Vec<String>) -> String {
    let ended = how_it_ended(run);
    if let Some(reason) = refused(run) {
        return format!("{reason}; {ended}");
    }
    let Some(last) = output.0.last() else { return ended };
    lines.extend(refusal::unsaid(run, last));
    format!("it last wrote `{}`; {ended}", clean(last.trim()))
}

/// What the kernel, or libbpf, had against it.
fn refused(run: &Run<'_>) -> Option<String> {
    let since = run.stage(Stage::SchedulerStarted).map(|(_, event, _)| event.guest_ns)?;
    let scheduler = run.manifest.scheduler.as_ref()?;
    refusal::refusal(run, &(since..=GuestNs(u64::MAX)), &[&scheduler.name, &scheduler.binary])
}

fn how_it_ended(run: &Run<'_>) -> String {
    match run.stage(Stage::SchedulerExited) {
        Some((_, _, "")) => "its process ended".to_owned(),
        Some((_, _, detail)) => detail.to_owned(),
        None => {
            run.stage(Stage::InitFailed).map(|(_, _, detail)| detail).filter(|d| !d.is_empty()).map_or_else(
                || "its process ran, but sched_ext was not enabled in time".to_owned(),
                str::to_owned,
            )
        }
    }
}

/// It was ended because its time was up.
fn too_late(run: &Run<'_>, name: &str, output: &Output, threads: &Threads) -> String {
    let limit_ms = run.manifest.scheduler.as_ref().map_or(0, |scheduler| scheduler.enable_timeout_ms);
    let mut found = format!("{name} was not enabled within {}", crate::text::seconds(limit_ns(limit_ms)));
    if let Some(reason) = refused(run) {
        found.push_str(&format!("; {reason}"));
    }
    match output.0.last() {
        Some(last) => found.push_str(&format!("; it last wrote `{}`", clean(last.trim()))),
        None => found.push_str("; it wrote nothing"),
    }
    if let Threads::Of(stacks) = threads
        && let Some(first) = stacks.first()
    {
        found.push_str(&format!("; {}", doing(first)));
    }
    found
}

fn limit_ns(limit_ms: u64) -> i64 {
    i64::try_from(limit_ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
}

/// The lines that the scheduler wrote.
struct Output(Vec<String>);

impl Output {
    fn of(run: &Run<'_>) -> Self {
        let text = run.output(OutputSource::Scheduler);
        Self(text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// The last of them, below a line that says what they are.
    fn lines(&self) -> Vec<String> {
        let from = self.0.len().saturating_sub(OUTPUT_LINES);
        let mut lines = vec![if self.0.is_empty() {
            "it wrote nothing".to_owned()
        } else if from > 0 {
            format!("the end of what it wrote ({from} lines before it):")
        } else {
            "what it wrote:".to_owned()
        }];
        lines.extend(self.0.iter().skip(from).map(|line| format!("  {line}")));
        lines
    }
}

/// The scheduler's threads when its time was up.
enum Threads {
    /// Those that run or could run come first.
    Of(Vec<TaskStack>),
    /// Why they are not known.
    Unknown(String),
}

impl Threads {
    fn read(run: &Run<'_>) -> Self {
        match stacks(run) {
            Ok(stacks) if stacks.is_empty() => Self::Unknown("its process is not among the tasks".to_owned()),
            Ok(stacks) => Self::Of(stacks),
            Err(error) => Self::Unknown(error.to_string()),
        }
    }

    fn lines(&self) -> Vec<String> {
        match self {
            Self::Unknown(why) => vec![format!("its threads cannot be shown: {why}")],
            Self::Of(stacks) => {
                let mut lines = vec!["its threads at that time:".to_owned()];
                for thread in stacks.iter().take(THREADS) {
                    lines.push(format!("  {}", doing(thread)));
                    lines.extend(
                        thread.stack.lines().iter().take(FRAMES).map(|line| format!("    {}", clean(line))),
                    );
                }
                if stacks.len() > THREADS {
                    lines.push(format!("  and {} more", stacks.len() - THREADS));
                }
                lines
            }
        }
    }
}

/// The stacks of the scheduler's process at the capture of its failure.
fn stacks(run: &Run<'_>) -> Result<Vec<TaskStack>, CheckpointError> {
    let capture = run.samples.iter().find(|sample| sample.kind == CaptureKind::NotEnabled);
    let checkpoints = Checkpoints::of(run)?;
    let checkpoint = checkpoints.at(capture.map(|capture| capture.tag.as_str()))?;
    let kernel = checkpoint.kernel();
    let tasks = read_tasks(&kernel)?;
    let own = Tasks { tasks: of_scheduler(run, tasks.tasks), gaps: tasks.gaps };
    let mut stacks = Unwinder::new(&kernel, checkpoint.vcpus()).all(&own).tasks;
    stacks.sort_by_key(|thread| (thread.running_on.is_none(), thread.state != 'R', thread.state != 'D'));
    Ok(stacks)
}

/// The threads of the process that has the name of the scheduler's program.
fn of_scheduler(run: &Run<'_>, tasks: Vec<Task>) -> Vec<Task> {
    let program = run.manifest.scheduler.as_ref().map_or("", |scheduler| scheduler.binary.as_str());
    let is_program = |task: &Task| task.pid == task.tgid && comm(program) == task.comm.as_bytes();
    let process = tasks.iter().find(|task| !task.kernel_thread && is_program(task)).map(|task| task.tgid);
    tasks.into_iter().filter(|task| Some(task.tgid) == process).collect()
}

/// The command name that the kernel gives to a program.
fn comm(program: &str) -> &[u8] {
    &program.as_bytes()[..program.len().min(COMM_BYTES)]
}

/// `its thread scx_lavd[103] ran on CPU 2, in do_check+0x10/0x90`.
fn doing(thread: &TaskStack) -> String {
    let state = match (thread.running_on, thread.state) {
        (Some(cpu), _) => format!("ran on CPU {cpu}"),
        (None, 'R') => "waited for a CPU".to_owned(),
        (None, state) => format!("was in state {state}"),
    };
    let waits = |text: &str| WAITING.iter().any(|name| text.starts_with(name));
    let place = thread.stack.frames.iter().map(|frame| frame.text()).find(|text| !waits(text));
    let place = place.map_or_else(|| "in user space".to_owned(), |place| format!("in {place}"));
    clean(&format!("its thread {}[{}] {state}, {place}", escaped(&thread.comm), thread.pid))
}
