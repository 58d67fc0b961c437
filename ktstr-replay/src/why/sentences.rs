//! The sentences about a scheduler's end: who waited by then, in which queue, what the CPUs did meanwhile, and which variables
//! of the scheduler moved, and then did not.

use std::cmp::Reverse;

use crate::kernel::dsq::Dsq;
use crate::kernel::task::Task;
use crate::run::{DumpTask, Run};
use crate::text::seconds;
use crate::trace::record::Sample;
use crate::units::GuestNs;
use crate::value::{Snapshot, Value, changing};

use super::{SchedState, SchedulerEnd, Sentence};

/// Tasks of the dump that are named.
const TASKS: usize = 4;
/// Variables of each sort that are named.
const VARIABLES: usize = 4;
/// Captures of which it is said what stopped at them.
const STOPPED: usize = 2;

/// The scheduler's exit, and who had waited by then.
pub(super) fn exit(run: &Run<'_>, end: &SchedulerEnd) -> Vec<Sentence> {
    let Some(exit) = run.scheduler_exit() else { return Vec::new() };
    let tag = exit.sample.and_then(|index| run.sample(index)).map(|sample| sample.tag.clone());
    let at = Some(run.since_start_ns(exit.at_ns));
    let seen_in = tag.unwrap_or_else(|| "exit".to_owned());
    let mut text = format!("{} ended: {}", run.scheduler_name(), exit.title());
    if let Some(cause) = exit.cause() {
        text.push_str(&format!(": {cause}"));
    }
    let mut sentences = vec![Sentence { since_start_ns: at, seen_in: seen_in.clone(), text }];
    let mut waited: Vec<_> = end.dump.tasks.iter().filter(|task| !task.running).collect();
    waited.sort_by_key(|task| Reverse(task.runnable_ms));
    let one = |task: &&DumpTask| {
        format!("{}[{}] for {:.3}s {}", task.comm, task.pid, task.runnable_ms as f64 / 1e3, task.place())
    };
    if !waited.is_empty() {
        let named: Vec<_> = waited.iter().take(TASKS).map(one).collect();
        let more = waited.len().saturating_sub(TASKS);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let text = format!("by the kernel's dump, runnable and waiting: {}{more}", named.join(", "));
        sentences.push(Sentence { since_start_ns: at, seen_in, text });
    }
    sentences
}

/// The queue that the stalled task waited in, at each checkpoint back from the end.
pub(super) fn queues(run: &Run<'_>, end: &SchedulerEnd) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    let (Some(pid), Some(last)) = (end.stalled_task(), end.last()) else { return sentences };
    let Some(task) = last.tasks.by_pid(pid) else { return sentences };
    let Some(waiting) = SchedState::waiting(task) else { return sentences };
    let sentence = |state: &SchedState, text: String| Sentence {
        since_start_ns: Some(state.since_start_ns),
        seen_in: state.tag.clone(),
        text,
    };
    let since = seconds(last.since_start_ns.saturating_sub(waiting.age_ns));
    let place = match last.queue_of(pid) {
        Some((dsq, position)) => {
            format!("at position {position} of {} in queue {} ({})", dsq.tasks.len(), dsq.id, dsq.whose)
        }
        None => format!("in no queue, {}", holder(task)),
    };
    let on = waiting.cpu.map_or_else(String::new, |cpu| format!(", on the runqueue of CPU {cpu}"));
    let text = format!(
        "{}[{}] had been runnable for {} (since {since}), {place}{on}",
        waiting.comm,
        waiting.pid,
        seconds(waiting.age_ns)
    );
    sentences.push(sentence(last, text));
    let Some((dsq, _)) = last.queue_of(pid) else { return sentences };
    sentences.extend(watchdog(run, end, last, dsq).map(|text| sentence(last, text)));
    // How the queue came to this, back to the first checkpoint that does not show the same.
    let mut later = (last, dsq);
    for state in end.states.iter().skip(1) {
        let Some(earlier) = state.dsqs.dsqs.iter().find(|dsq| same_queue(dsq, later.1)) else { break };
        let Some(text) = between(state, earlier, later) else { break };
        sentences.push(sentence(state, text));
        later = (state, earlier);
    }
    sentences
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

fn same_queue(one: &Dsq, other: &Dsq) -> bool {
    one.at == other.at && one.id == other.id && one.whose == other.whose
}

/// The kernel's watchdog is work of a kernel thread: if that thread waits too, it cannot look.
fn watchdog(run: &Run<'_>, end: &SchedulerEnd, last: &SchedState, dsq: &Dsq) -> Option<String> {
    let message = run.scheduler_exit()?.message.as_deref()?;
    if end.named.is_some() || !message.contains("watchdog failed to check in") {
        return None;
    }
    let worker = dsq.tasks.iter().find(|task| task.comm.starts_with("kworker/u"))?;
    let age = seconds(worker.runnable_age_ns?);
    let before = seconds(last.since_start_ns);
    Some(format!(
        "{}[{}], a worker of the unbound workqueue that the watchdog runs on, waited in the same queue for {age} at {before}: \
         this may be why the watchdog did not check in",
        worker.comm, worker.pid
    ))
}

/// How a queue changed from one checkpoint to the next: `None` where neither was anything put in nor left.
fn between(at: &SchedState, earlier: &Dsq, (later_at, later): (&SchedState, &Dsq)) -> Option<String> {
    let put = later.seq?.checked_sub(earlier.seq?)?;
    let taken = earlier.nr.saturating_add(put).checked_sub(later.nr)?;
    let until = format!("{} ({})", later_at.tag, seconds(later_at.since_start_ns));
    let stayed =
        earlier.tasks.iter().filter(|task| later.tasks.iter().any(|other| other.at == task.at)).count();
    let from = seconds(at.since_start_ns);
    Some(match taken {
        0 => format!(
            "from here ({from}) to {until}, nothing was taken from queue {}: {} in it, {put} put in, {} in the end, \
             {stayed} of them the same",
            later.id,
            tasks(earlier.nr),
            later.nr
        ),
        taken => format!(
            "from here ({from}) to {until}, {} taken from queue {}, {put} put in",
            tasks(taken),
            later.id
        ),
    })
}

fn tasks(nr: u64) -> String {
    if nr == 1 { "1 task was".to_owned() } else { format!("{nr} tasks were") }
}

/// What the CPUs did while tasks waited.
pub(super) fn cpus(end: &SchedulerEnd) -> Vec<Sentence> {
    let Some(last) = end.last() else { return Vec::new() };
    if end.stalled_task().is_none() {
        return Vec::new();
    }
    let did = last.runqueues.runqueues.iter().map(|rq| {
        let runnable = rq.scx_nr_running.unwrap_or(rq.nr_running);
        match &rq.curr {
            Some(task) if task.pid == 0 && runnable > 0 => {
                format!("CPU {} was idle with {runnable} tasks of sched_ext on its runqueue", rq.cpu)
            }
            Some(task) if task.pid == 0 => format!("CPU {} was idle", rq.cpu),
            Some(task) => format!(
                "CPU {} ran {}[{}] ({}) with {runnable} tasks of sched_ext on its runqueue",
                rq.cpu, task.comm, task.pid, task.class
            ),
            None => format!("what CPU {} ran is not known", rq.cpu),
        }
    });
    let text = did.collect::<Vec<_>>().join("; ");
    vec![Sentence { since_start_ns: Some(last.since_start_ns), seen_in: last.tag.clone(), text }]
}

/// Of the captures up to the end: the variables that had moved before and did not over the last of them, and those of
/// named values (enums) that changed.
pub(super) fn variables(run: &Run<'_>) -> Vec<Sentence> {
    let exit = run.scheduler_exit();
    let until = exit.as_ref().map_or(GuestNs(u64::MAX), |exit| exit.at_ns);
    let samples: Vec<&Sample> = run.with_maps().filter(|sample| sample.guest_ns <= until).collect();
    let snapshots: Vec<Snapshot<'_>> = samples.iter().map(|s| run.samples.snapshot(s)).collect();
    let Some(last) = snapshots.last() else { return Vec::new() };
    let (mut sentences, mut stuck) = (Vec::new(), Vec::new());
    for (name, value) in changing(last) {
        let history: Vec<Option<Value<'_>>> = snapshots.iter().map(|s| s.var(&name).ok()).collect();
        // The last capture whose value is another than the one after it has.
        let same = |at: &usize| matches!((&history[*at], &history[at + 1]), (Some(a), Some(b)) if a.same(b));
        let Some(changed) = (0..history.len() - 1).rev().find(|at| !same(at)) else { continue };
        let (Some(before), Some(after)) = (&history[changed], &history[changed + 1]) else { continue };
        if let (Ok(Some(old)), Ok(Some(new))) = (before.enumerator(), after.enumerator()) {
            let (from, to) = (samples[changed], samples[changed + 1]);
            let text = format!(
                "{name} was {old} in {} ({}), and {new} from here on",
                from.tag,
                seconds(run.since_start_ns(from.guest_ns))
            );
            sentences.push((to.guest_ns, Sentence::at(run, to, text)));
        } else if changed + 2 < history.len() && only_rose(&history) {
            // Still over two captures at least.
            stuck.push((samples[changed + 1], name, value.render()));
        }
    }
    sentences.truncate(VARIABLES);
    // Those that stopped last: what stopped long before is seldom of the end.
    let mut stopped_at: Vec<&Sample> = stuck.iter().map(|(sample, ..)| *sample).collect();
    stopped_at.sort_by_key(|sample| Reverse(sample.index));
    stopped_at.dedup_by_key(|sample| sample.index);
    for (first, end) in stopped_at.into_iter().take(STOPPED).zip(samples.last().into_iter().cycle()) {
        let together = stuck.iter().filter(|(sample, ..)| sample.index == first.index);
        let each: Vec<_> = together.map(|(_, name, value)| format!("{name} {value}")).collect();
        let more = each.len().saturating_sub(VARIABLES);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        let text = format!(
            "what had only risen before did not from here to {} ({}): {}{more}",
            end.tag,
            seconds(run.since_start_ns(end.guest_ns)),
            each.into_iter().take(VARIABLES).collect::<Vec<_>>().join(", ")
        );
        sentences.push((first.guest_ns, Sentence::at(run, first, text)));
    }
    sentences.sort_by_key(|(at, _)| Reverse(*at));
    sentences.into_iter().map(|(_, sentence)| sentence).collect()
}

/// They are numbers, none smaller than the one before it.
fn only_rose(history: &[Option<Value<'_>>]) -> bool {
    let numbers: Vec<_> = history.iter().flatten().map(|value| value.as_u64().ok()).collect();
    numbers.iter().all(Option::is_some) && numbers.is_sorted()
}
