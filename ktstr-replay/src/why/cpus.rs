//! The sentences about CPUs: what they did while a task waited, and whether a task of a higher class had them all along.

use crate::kernel::runqueue::Runqueue;
use crate::kernel::task::Task;
use crate::text::{escaped, seconds};
use crate::units::{Cpu, CpuList};

use super::stalled::on_cpus;
use super::{SchedState, SchedulerEnd, Sentence};

/// The classes that come before sched_ext's, in their order in `include/asm-generic/vmlinux.lds.h`: no scheduler of sched_ext can
/// take a CPU from their tasks. `fair` has tasks where the scheduler switched only those of `SCHED_EXT`.
const ABOVE: [&str; 4] = ["stop", "dl", "rt", "fair"];
/// Part of the time for which a task must have run to be the one that had the CPU all along.
const ALL_ALONG: f64 = 0.8;

/// What the CPUs did while tasks waited.
pub(super) fn cpus(end: &SchedulerEnd) -> Vec<Sentence> {
    let Some(last) = end.last() else { return Vec::new() };
    if end.stalled_task().is_none() {
        return Vec::new();
    }
    let did: Vec<String> = last.runqueues.runqueues.iter().map(did).collect();
    vec![Sentence::seen_at(last, did.join("; "))]
}

fn did(rq: &Runqueue) -> String {
    let runnable = rq.scx_nr_running.unwrap_or(rq.nr_running);
    match &rq.curr {
        _ if !rq.online => format!("CPU {} was offline", rq.cpu),
        Some(task) if task.pid == 0 && runnable > 0 => {
            format!("CPU {} was idle with {runnable} tasks of sched_ext on its runqueue", rq.cpu)
        }
        Some(task) if task.pid == 0 => format!("CPU {} was idle", rq.cpu),
        Some(task) => format!(
            "CPU {} ran {}[{}] ({}) with {runnable} tasks of sched_ext on its runqueue",
            rq.cpu,
            escaped(&task.comm),
            task.pid,
            task.class
        ),
        None => format!("what CPU {} ran is not known", rq.cpu),
    }
}

/// Whether tasks of higher classes run on every CPU that the stalled task may run on, at the last checkpoint: earlier ones may tell
/// for how long.
pub(crate) fn may_be_hogged(end: &SchedulerEnd) -> bool {
    let task = end.stalled_task().zip(end.last()).and_then(|(pid, last)| last.tasks.by_pid(pid));
    let (Some(last), Some(allowed)) = (end.last(), task.and_then(|task| task.cpus_allowed.as_ref())) else {
        return false;
    };
    let online = last.online();
    let mut usable = online.iter().filter(|cpu| allowed.contains(*cpu)).peekable();
    usable.peek().is_some() && usable.all(|cpu| runs_above(last, cpu).is_some())
}

/// Whether a class comes before sched_ext's.
pub(super) fn class_is_above(class: &str) -> bool {
    ABOVE.contains(&class)
}

/// The task of a higher class that `cpu` runs.
fn runs_above(state: &SchedState, cpu: Cpu) -> Option<i64> {
    let rq = state.runqueues.runqueues.iter().find(|rq| rq.cpu == cpu)?;
    rq.curr.as_ref().filter(|task| class_is_above(&task.class)).map(|task| task.pid)
}

/// A task of a higher class that had a CPU all the time.
struct Hog<'e> {
    cpu: Cpu,
    task: &'e Task,
    /// For how long it ran from the first to the last of the checkpoints, in ns.
    ran_ns: u64,
}

/// Where tasks of higher classes had every CPU that the stalled task may run on: who, for how long, and that no scheduler of
/// sched_ext can help it.
pub(crate) fn hogs(end: &SchedulerEnd) -> Vec<Sentence> {
    let Some(pid) = end.stalled_task() else { return Vec::new() };
    let waits = end.waits(pid);
    // One checkpoint shows who runs, and not for how long.
    let [(last, waiting), .., (first, _)] = waits.as_slice() else { return Vec::new() };
    let Some(task) = last.tasks.by_pid(pid) else { return Vec::new() };
    let Some(allowed) = task.cpus_allowed.as_ref() else { return Vec::new() };
    let states: Vec<&SchedState> = waits.iter().map(|(state, _)| *state).collect();
    let cpus: Vec<Cpu> = last.online().iter().filter(|cpu| allowed.contains(*cpu)).collect();
    let hogs: Option<Vec<Hog<'_>>> = cpus.iter().map(|cpu| hog(*cpu, &states)).collect();
    let Some(hogs) = hogs.filter(|hogs| !hogs.is_empty()) else { return Vec::new() };
    let span_ns = last.since_start_ns.saturating_sub(first.since_start_ns);
    let tags: Vec<String> = states.iter().rev().map(|state| state.tag.clone()).collect();
    let mut sentences: Vec<Sentence> = hogs
        .iter()
        .map(|hog| {
            // The kernel counts to the last tick, captures are made between ticks.
            let ran_ns = i64::try_from(hog.ran_ns).unwrap_or(i64::MAX).min(span_ns);
            let text = format!(
                "{} had CPU {}: it ran for {} of the {} from here to {} ({})",
                described(hog.task),
                hog.cpu,
                seconds(ran_ns),
                seconds(span_ns),
                last.tag,
                seconds(last.since_start_ns)
            );
            Sentence::seen_from(first, tags.clone(), text)
        })
        .collect();
    let who = format!("{}[{pid}]", escaped(&waiting.comm));
    let list: CpuList = cpus.iter().copied().collect();
    let names: Vec<String> = hogs.iter().map(|hog| name(hog.task)).collect();
    let text = format!(
        "the scheduler is not the cause: {who} may run on {}, where {} ran: sched_ext gets a CPU only when the classes before it \
         leave it",
        on_cpus(&list, last),
        names.join(", ")
    );
    let plural = if cpus.len() == 1 { "" } else { "s" };
    let of_cpus = format!("what CPU{plural} {list} ran in {}", tags.join(", "));
    let from = [of_cpus, format!("the allowed CPUs of {who} in {}", last.tag)];
    sentences.push(Sentence::inferred(last, from, text));
    sentences
}

/// The task that had `cpu` at all of these checkpoints, the latest first, and ran nearly all the time from the first to the last.
fn hog<'e>(cpu: Cpu, states: &[&'e SchedState]) -> Option<Hog<'e>> {
    let (last, first) = (states.first()?, states.last()?);
    let pid = runs_above(last, cpu).filter(|pid| *pid != 0)?;
    if !states.iter().all(|state| runs_above(state, cpu) == Some(pid)) {
        return None;
    }
    let (task, before) = (last.tasks.by_pid(pid)?, first.tasks.by_pid(pid)?);
    let ran_ns = task.sum_exec_runtime_ns.checked_sub(before.sum_exec_runtime_ns)?;
    let span_ns = last.guest_ns.saturating_since(first.guest_ns);
    (ran_ns > 0 && ran_ns as f64 >= span_ns as f64 * ALL_ALONG).then_some(Hog { cpu, task, ran_ns })
}

fn name(task: &Task) -> String {
    format!("{}[{}]", escaped(&task.comm), task.pid)
}

/// `rt-hog[104] (rt, FIFO with priority 50)`.
fn described(task: &Task) -> String {
    let priority =
        if task.class == "rt" { format!(" with priority {}", task.rt_priority) } else { String::new() };
    format!("{} ({}, {}{priority})", name(task), task.class, task.policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::runqueue::{RunnableTask, Runqueues};
    use crate::kernel::task::{Entity, Tasks};
    use crate::units::GuestNs;

    const SECOND: u64 = 1_000_000_000;

    /// At `at_s`, task 7 has waited since 0 s and may run on `allowed`; CPU 0 runs task 8 of `class`, which has run for `ran_s`, and
    /// CPU 1 idles.
    fn state(at_s: u64, allowed: &[u32], (pid, class, ran_s): (i64, &str, u64)) -> SchedState {
        let age_ns = Some((at_s * SECOND).cast_signed());
        let victim = Task {
            pid: 7,
            comm: "victim".into(),
            class: "ext".into(),
            cpus_allowed: Some(allowed.iter().copied().map(Cpu).collect()),
            scx: Some(Entity { runnable: true, runnable_age_ns: age_ns, ..Entity::default() }),
            ..Task::default()
        };
        let hog = |pid| Task {
            pid,
            comm: "hog".into(),
            class: class.into(),
            policy: "FIFO".into(),
            rt_priority: 50,
            sum_exec_runtime_ns: ran_s * SECOND,
            ..Task::default()
        };
        let rq = |cpu, pid, class: &str| Runqueue {
            cpu: Cpu(cpu),
            online: true,
            curr: Some(RunnableTask { pid, class: class.into(), ..RunnableTask::default() }),
            ..Runqueue::default()
        };
        let tasks = Tasks { tasks: vec![victim, hog(8), hog(9)], ..Tasks::default() };
        let runqueues = vec![rq(0, pid, class), rq(1, 0, "idle")];
        SchedState {
            tag: format!("at_{at_s}"),
            guest_ns: GuestNs(at_s * SECOND),
            since_start_ns: (at_s * SECOND).cast_signed(),
            tasks,
            runqueues: Runqueues { runqueues, ..Runqueues::default() },
            ..SchedState::default()
        }
    }

    fn told(states: Vec<SchedState>) -> Vec<String> {
        let end = SchedulerEnd { states, named: Some(7), ..SchedulerEnd::default() };
        hogs(&end).into_iter().map(|sentence| sentence.text).collect()
    }

    /// On a busy host the estimate of the guest's time is wrong by some 100 ms, until the guest says something.
    #[test]
    fn a_wait_is_one_by_the_kernels_count_however_captures_are_dated() {
        let at = |at_s: u64, ran_s: u64, tick: u64, wrong_by_ns: u64| {
            let mut state = state(at_s, &[0], (8, "rt", ran_s));
            state.guest_ns = GuestNs(state.guest_ns.0 + wrong_by_ns);
            state
                .tasks
                .tasks
                .iter_mut()
                .filter_map(|task| task.scx.as_mut())
                .for_each(|scx| scx.runnable_at = tick);
            state
        };
        assert_eq!(told(vec![at(3, 12, 4000, 100_000_000), at(1, 10, 4000, 0)]).len(), 2);
        assert_eq!(told(vec![at(3, 12, 4001, 0), at(1, 10, 4000, 0)]), [""; 0], "another wait");
        assert_eq!(told(vec![at(3, 12, 0, 100_000_000), at(1, 10, 0, 0)]), [""; 0], "nobody knows");
    }

    #[test]
    fn a_hog_is_named_with_how_long_it_ran() {
        let sentences = told(vec![state(3, &[0], (8, "rt", 12)), state(1, &[0], (8, "rt", 10))]);
        let [hog, scheduler] = sentences.as_slice() else { panic!("{sentences:?}") };
        let ran = "hog[8] (rt, FIFO with priority 50) had CPU 0: it ran for 2.000s of the 2.000s from here to at_3 (3.000s)";
        assert_eq!(hog, ran);
        assert!(
            scheduler.starts_with("the scheduler is not the cause: victim[7] may run on CPU 0 only"),
            "{scheduler}"
        );
        for class in ["dl", "fair"] {
            assert_eq!(told(vec![state(3, &[0], (8, class, 12)), state(1, &[0], (8, class, 10))]).len(), 2);
        }
    }

    #[test]
    fn the_scheduler_is_not_cleared_without_one() {
        let first = || state(1, &[0], (8, "rt", 10));
        for (why, states) in [
            ("one checkpoint does not show for how long", vec![first()]),
            ("it ran for half of the time", vec![state(3, &[0], (8, "rt", 11)), first()]),
            (
                "another one ran in between",
                vec![state(3, &[0], (8, "rt", 12)), state(2, &[0], (9, "rt", 11)), first()],
            ),
            (
                "its class is the scheduler's own",
                vec![state(3, &[0], (8, "ext", 12)), state(1, &[0], (8, "ext", 10))],
            ),
            (
                "another CPU was free",
                vec![state(3, &[0, 1], (8, "rt", 12)), state(1, &[0, 1], (8, "rt", 10))],
            ),
            ("it may run on no CPU", vec![state(3, &[], (8, "rt", 12)), state(1, &[], (8, "rt", 10))]),
        ] {
            assert_eq!(told(states), Vec::<String>::new(), "{why}");
        }
    }
}
