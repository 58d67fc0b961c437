//! The queue that the victim waited in, at each checkpoint back from the end.

use crate::kernel::dsq::Dsq;
use crate::run::Run;
use crate::text::seconds;

use super::scene::Moment;
use super::{Scene, Sentence};

pub(super) fn tell(run: &Run<'_>, scene: &Scene) -> Vec<Sentence> {
    let mut told = Vec::new();
    let (Some(victim), Some(last)) = (scene.victim(), scene.last()) else { return told };
    let Some(task) = last.tasks.by_pid(victim) else { return told };
    let Some(waiting) = Moment::waiting(task) else { return told };
    let sentence = |moment: &Moment, text: String| Sentence {
        since_start_ns: Some(moment.since_start_ns),
        seen_in: moment.tag.clone(),
        text,
    };
    let since = seconds(last.since_start_ns.saturating_sub(waiting.age_ns));
    let place = match last.queue_of(victim) {
        Some((dsq, position)) => {
            format!("at position {position} of {} in queue {} ({})", dsq.tasks.len(), dsq.id, dsq.whose)
        }
        None => format!("in no queue, {}", custody(task)),
    };
    let on = waiting.cpu.map_or_else(String::new, |cpu| format!(", on the runqueue of CPU {cpu}"));
    let text = format!(
        "{}[{}] had been runnable for {} (since {since}), {place}{on}",
        waiting.comm,
        waiting.pid,
        seconds(waiting.age_ns)
    );
    told.push(sentence(last, text));
    let Some((dsq, _)) = last.queue_of(victim) else { return told };
    told.extend(watchdog(run, scene, last, dsq).map(|text| sentence(last, text)));
    // How the queue came to this, back to the first checkpoint that does not show the same.
    let mut later = (last, dsq);
    for moment in scene.moments.iter().skip(1) {
        let Some(earlier) = moment.dsqs.dsqs.iter().find(|dsq| same_queue(dsq, later.1)) else { break };
        let Some(text) = between(moment, earlier, later) else { break };
        told.push(sentence(moment, text));
        later = (moment, earlier);
    }
    told
}

/// Who has a runnable task that is in no queue.
fn custody(task: &crate::kernel::task::Task) -> String {
    match task.scx.as_ref().map(|scx| scx.ops_state.as_str()) {
        Some("QUEUED") => {
            "in the hands of the BPF scheduler, which was given it and has not dispatched it".to_owned()
        }
        Some(state) => format!("in state {state}"),
        None => "unknown to sched_ext".to_owned(),
    }
}

fn same_queue(one: &Dsq, other: &Dsq) -> bool {
    one.at == other.at && one.id == other.id && one.whose == other.whose
}

/// The kernel's watchdog is work of a kernel thread: if that thread waits too, it cannot look.
fn watchdog(run: &Run<'_>, scene: &Scene, last: &Moment, dsq: &Dsq) -> Option<String> {
    let message = run.scheduler_exit()?.message?;
    if scene.named.is_some() || !message.contains("watchdog failed to check in") {
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

/// What became of a queue from one checkpoint to the next: `None` where neither was anything put in nor left.
fn between(at: &Moment, earlier: &Dsq, (later_at, later): (&Moment, &Dsq)) -> Option<String> {
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
