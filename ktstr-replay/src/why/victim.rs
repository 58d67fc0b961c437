//! The sentences about the stalled task: how long it waited and where, which CPUs it may run on, and how the queue went past it.

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::kernel::dsq::{Dsq, DsqOrder, QueuedTask};
use crate::kernel::task::Task;
use crate::run::Run;
use crate::text::{counted, escaped, seconds};
use crate::trace::record::{Sample, ScxState};
use crate::units::{CpuList, GuestNs, KernelVirt};

use super::{Evidence, SchedState, SchedulerEnd, Sentence, Waiting, vtime};

/// Steps from one checkpoint to the next of which it is said what a queue did.
const BETWEEN: usize = 3;
/// Captures, and idle CPUs, that are named.
const NAMED: usize = 4;

/// The stalled task, at each checkpoint back from the end.
pub(super) fn victim(run: Option<&Run<'_>>, end: &SchedulerEnd) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    let (Some(pid), Some(last)) = (end.stalled_task(), end.last()) else { return sentences };
    let Some(task) = last.tasks.by_pid(pid) else { return sentences };
    let waiting = SchedState::waiting(task);
    if let Some(waiting) = &waiting {
        sentences.push(Sentence::seen_at(last, waited(task, waiting, last)));
    }
    sentences.extend(bound(task, last));
    let Some(waiting) = waiting else { return sentences };
    let waits = end.waits(pid);
    sentences.extend(run.map(|run| idle(run, end, task, &waiting)).unwrap_or_default());
    let Some((dsq, _)) = last.queue_of(pid) else { return sentences };
    sentences.extend(watchdog(end, last, dsq));
    sentences.extend(vtime::far(last, dsq));
    sentences.extend(passed(task, &waits));
    // How the queue came to this, back to the first checkpoint that does not show the same.
    let mut later = (last, dsq);
    for state in end.states.iter().skip(1).take(BETWEEN) {
        let Some(earlier) = state.dsqs.dsqs.iter().find(|dsq| same_queue(dsq, later.1)) else { break };
        let Some(sentence) = between(state, earlier, later) else { break };
        sentences.push(sentence);
        later = (state, earlier);
    }
    sentences
}

fn waited(task: &Task, waiting: &Waiting, last: &SchedState) -> String {
    let since = last.moment().map(|now| seconds(now.saturating_sub(waiting.age_ns)));
    let since = since.map_or_else(String::new, |since| format!(" (since {since})"));
    let place = match last.queue_of(task.pid) {
        Some((dsq, _)) if last.of_dump => {
            format!(
                "one of {} of the dump in queue {} ({})",
                counted(dsq.tasks.len(), "task"),
                dsq.id,
                dsq.whose
            )
        }
        Some((dsq, position)) => {
            format!("at position {position} of {} in queue {} ({})", dsq.tasks.len(), dsq.id, dsq.whose)
        }
        None => format!("in no queue, {}", holder(task)),
    };
    let on = waiting.cpu.map_or_else(String::new, |cpu| format!(", on the runqueue of CPU {cpu}"));
    format!(
        "{}[{}] had been runnable for {}{since}, {place}{on}",
        escaped(&waiting.comm),
        waiting.pid,
        seconds(waiting.age_ns)
    )
}

/// Who holds a runnable task that is in no queue.
fn holder(task: &Task) -> String {
    match task.scx.as_ref().map(|scx| scx.ops_state.as_str()) {
        Some("QUEUED") => {
            "held by the BPF scheduler, which was given it and has not dispatched it".to_owned()
        }
        Some(state) => format!("in state {state}"),
        None => "unknown to sched_ext".to_owned(),
    }
}

/// `CPU 1 only`, `CPUs 0-2`: a task's CPUs, against those that run.
pub(super) fn on_cpus(cpus: &CpuList, state: &SchedState) -> String {
    let only = if *cpus == state.online() { "" } else { " only" };
    match cpus.len() {
        1 => format!("CPU {cpus}{only}"),
        _ => format!("CPUs {cpus}{only}"),
    }
}

/// Which CPUs a task may run on, where it may not run on all.
fn bound(task: &Task, last: &SchedState) -> Option<Sentence> {
    let usable = last.bound_to(task)?;
    let who = format!("{}[{}]", escaped(&task.comm), task.pid);
    let allowed = task.cpus_allowed.clone().unwrap_or_default();
    let offline: CpuList = allowed.iter().filter(|cpu| !usable.contains(*cpu)).collect();
    let mut text = match usable.is_empty() {
        true => format!("{who} may run on no CPU that is online"),
        false => format!("{who} may run on {}", on_cpus(&usable, last)),
    };
    if !offline.is_empty() {
        let are = if offline.len() == 1 { "is" } else { "are" };
        text.push_str(&format!(" (it may run on {offline} too, which {are} offline)"));
    }
    Some(Sentence::seen_at(last, text))
}

/// The CPUs that it may run on and that were idle while it waited, over all captures.
fn idle(run: &Run<'_>, end: &SchedulerEnd, task: &Task, waiting: &Waiting) -> Vec<Sentence> {
    let (Some(last), Some(allowed)) = (end.last(), task.cpus_allowed.as_ref()) else { return Vec::new() };
    let age_ns = u64::try_from(waiting.age_ns).unwrap_or_default();
    let since = GuestNs(last.guest_ns.0.saturating_sub(age_ns));
    let within = |sample: &&Sample| {
        (since..=last.guest_ns).contains(&sample.guest_ns)
            && sample.scx.as_ref().is_none_or(ScxState::is_enabled)
    };
    let samples: Vec<&Sample> = run.taken().filter(within).collect();
    let Some(first) = samples.first() else { return Vec::new() };
    let who = format!("{}[{}]", escaped(&waiting.comm), waiting.pid);
    let of_cpu = |cpu| {
        let is_idle =
            |sample: &&&Sample| sample.cpus.iter().any(|state| state.cpu == cpu && state.curr_pid == Some(0));
        let tags: Vec<String> = samples.iter().filter(is_idle).map(|sample| sample.tag.clone()).collect();
        if tags.is_empty() {
            return None;
        }
        let named: Vec<_> = tags.iter().take(NAMED).cloned().collect();
        let more = if tags.len() > NAMED { ", ..." } else { "" };
        let text = format!(
            "CPU {cpu}, on which {who} may run, was idle in {} of the {} in which it waited: {}{more}",
            tags.len(),
            counted(samples.len(), "capture"),
            named.join(", ")
        );
        Some((tags.len(), Sentence { evidence: Evidence::Seen(tags), ..Sentence::seen(run, first, text) }))
    };
    let mut idle: Vec<_> = allowed.iter().filter_map(of_cpu).collect();
    idle.sort_by_key(|(captures, _)| Reverse(*captures));
    idle.into_iter().take(NAMED).map(|(_, sentence)| sentence).collect()
}

/// How others went past it in its queue, and which CPUs took none: from the first to the last of the checkpoints at which it waited
/// in the same queue.
fn passed(task: &Task, waits: &[(&SchedState, Waiting)]) -> Option<Sentence> {
    let last = waits.first()?.0;
    let (later, _) = last.queue_of(task.pid)?;
    let in_it = waits.iter().filter_map(|(state, _)| Some((*state, state.queue_of(task.pid)?)));
    let in_it: Vec<_> = in_it.filter(|(_, (dsq, _))| same_queue(dsq, later)).collect();
    let (first, (earlier, position)) = in_it.last().filter(|_| in_it.len() > 1)?;
    let taken = taken(earlier, later)?;
    // All that were in it at first may be among those that left it, but it.
    let passed = taken.saturating_sub(earlier.tasks.len().saturating_sub(1) as u64);
    if passed == 0 {
        return None;
    }
    let who = format!("{}[{}]", escaped(&task.comm), task.pid);
    let until = format!("{} ({})", last.tag, seconds(last.since_start_ns));
    let mut text = format!(
        "from here to {until}, at least {} that came later went past {who} in queue {}",
        counted(usize::try_from(passed).unwrap_or(usize::MAX), "task"),
        later.id
    );
    // A CPU takes the first that may run there: with none before it gone, none of its CPUs took any.
    let before = earlier.tasks.get(..position - 1)?;
    let stayed = still_in(before, later) == before.len();
    if stayed
        && earlier.order == DsqOrder::Fifo
        && let Some(usable) = last.bound_to(task)
    {
        text.push_str(&format!(
            "; {} took nothing from it, as the first that may run there is taken",
            on_cpus(&usable, last).trim_end_matches(" only")
        ));
    }
    let from = [format!("queue {} in {} and {}", later.id, first.tag, last.tag)];
    Some(Sentence::inferred(first, from, text))
}

fn same_queue(one: &Dsq, other: &Dsq) -> bool {
    one.at == other.at && one.id == other.id && one.whose == other.whose
}

/// The kernel's watchdog is work of a kernel thread: if that thread waits too, it cannot look.
fn watchdog(end: &SchedulerEnd, last: &SchedState, dsq: &Dsq) -> Vec<Sentence> {
    let message = end.exit.as_ref().and_then(|exit| exit.message.as_deref()).unwrap_or_default();
    if end.named.is_some() || !message.contains("watchdog failed to check in") {
        return Vec::new();
    }
    let worker = dsq.tasks.iter().find(|task| task.comm.starts_with("kworker/u"));
    let Some((worker, age_ns)) = worker.and_then(|worker| Some((worker, worker.runnable_age_ns?))) else {
        return Vec::new();
    };
    let name = format!("{}[{}]", escaped(&worker.comm), worker.pid);
    let seen = format!("{name} waited in the same queue, for {} at that time", seconds(age_ns));
    let inferred = format!(
        "the watchdog may not have checked in because {name} waited: it is work of the unbound workqueue"
    );
    let from = [format!("the name of {name}, a worker of that workqueue"), "the exit's message".to_owned()];
    vec![Sentence::seen_at(last, seen), Sentence::inferred(last, from, inferred)]
}

/// How many of `tasks` are in a later state of their queue.
fn still_in(tasks: &[QueuedTask], later: &Dsq) -> usize {
    let there: HashSet<KernelVirt> = later.tasks.iter().map(|task| task.at).collect();
    tasks.iter().filter(|task| there.contains(&task.at)).count()
}

/// How many tasks left a queue from one checkpoint to a later one.
fn taken(earlier: &Dsq, later: &Dsq) -> Option<u64> {
    let put = later.seq?.checked_sub(earlier.seq?)?;
    earlier.nr.saturating_add(put).checked_sub(later.nr)
}

/// How a queue changed from one checkpoint to the next: `None` where neither was anything put in nor left.
fn between(at: &SchedState, earlier: &Dsq, (later_at, later): (&SchedState, &Dsq)) -> Option<Sentence> {
    let put = later.seq?.checked_sub(earlier.seq?)?;
    let until = format!("{} ({})", later_at.tag, seconds(later_at.since_start_ns));
    let stayed = still_in(&earlier.tasks, later);
    let text = match taken(earlier, later)? {
        0 => format!(
            "from here to {until}, nothing was taken from queue {}: {} in it, {put} put in, {} in the end, {stayed} of \
             them the same",
            later.id,
            tasks(earlier.nr),
            later.nr
        ),
        taken => {
            format!("from here to {until}, {} taken from queue {}, {put} put in", tasks(taken), later.id)
        }
    };
    let from = [format!("the counts of queue {} in {} and {}", later.id, at.tag, later_at.tag)];
    Some(Sentence::inferred(at, from, text))
}

fn tasks(nr: u64) -> String {
    if nr == 1 { "1 task was".to_owned() } else { format!("{nr} tasks were") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::runqueue::{Runqueue, Runqueues};
    use crate::kernel::task::DsqId;
    use crate::units::Cpu;

    /// CPUs 0 to 2 run, CPU 3 is offline.
    fn state() -> SchedState {
        let rq = |cpu| Runqueue { cpu: Cpu(cpu), online: cpu < 3, ..Runqueue::default() };
        let runqueues = Runqueues { runqueues: (0..4).map(rq).collect(), ..Runqueues::default() };
        SchedState { runqueues, ..SchedState::default() }
    }

    fn task(pid: i64, allowed: &[u32]) -> Task {
        let cpus_allowed = Some(allowed.iter().copied().map(Cpu).collect());
        Task { pid, comm: "victim".into(), cpus_allowed, ..Task::default() }
    }

    #[test]
    fn the_cpus_that_a_task_may_run_on_are_said_where_they_are_not_all() {
        for (allowed, told) in [
            (&[1][..], Some("victim[7] may run on CPU 1 only")),
            (&[0, 1], Some("victim[7] may run on CPUs 0-1 only")),
            (&[1, 3], Some("victim[7] may run on CPU 1 only (it may run on 3 too, which is offline)")),
            (
                &[3],
                Some("victim[7] may run on no CPU that is online (it may run on 3 too, which is offline)"),
            ),
            (&[0, 1, 2], None),
            (&[0, 1, 2, 3], None),
        ] {
            let sentence = bound(&task(7, allowed), &state());
            assert_eq!(sentence.map(|sentence| sentence.text).as_deref(), told, "{allowed:?}");
        }
    }

    fn queued(pid: i64) -> QueuedTask {
        QueuedTask {
            pid,
            comm: "victim".into(),
            cpu: None,
            vtime: 0,
            slice_ns: 0,
            cpus_allowed: None,
            runnable_age_ns: None,
            at: KernelVirt(pid.cast_unsigned()),
        }
    }

    /// What is said of task 7, that was in a queue behind `before` and with others behind it, into which `put` more were put.
    fn told(before: &[i64], put: u64, after: &[i64], order: DsqOrder) -> Option<String> {
        let at = |pids: &[i64], seq: u64| {
            let tasks: Vec<_> = pids.iter().copied().map(queued).collect();
            let (id, nr) = (DsqId::of_dump(9), tasks.len() as u64);
            let dsq = Dsq { id, whose: "user".into(), nr, order, seq: Some(seq), tasks, at: KernelVirt(1) };
            SchedState { dsqs: crate::kernel::dsq::Dsqs { dsqs: vec![dsq], ..Default::default() }, ..state() }
        };
        let waiting = || Waiting { pid: 7, comm: "victim".into(), age_ns: 1, cpu: None, since_tick: 0 };
        let (later, earlier) = (at(after, 100 + put), at(before, 100));
        passed(&task(7, &[1]), &[(&later, waiting()), (&earlier, waiting())]).map(|sentence| sentence.text)
    }

    #[test]
    fn those_that_went_past_are_counted_and_a_cpu_is_named_only_if_it_took_none() {
        use DsqOrder::{Fifo, Vtime};
        let fifo =
            told(&[7, 8], 40, &[7, 9, 10], Fifo).expect("39 left, one of which may have been there before");
        assert!(
            fifo.contains("at least 38 tasks that came later went past victim[7] in queue 0x9"),
            "{fifo}"
        );
        assert!(fifo.contains("; CPU 1 took nothing from it"), "{fifo}");
        // One that was before it is gone, and a CPU of its own may have taken that; by vtime others may come before it.
        for (before, order) in [(&[6, 7][..], Fifo), (&[7, 8], Vtime)] {
            let other = told(before, 40, &[7, 9, 10], order).expect("some left");
            assert!(!other.contains("took nothing"), "{other}");
        }
        assert_eq!(told(&[7], 2, &[7, 8, 9], Fifo), None, "none left");
    }
}
