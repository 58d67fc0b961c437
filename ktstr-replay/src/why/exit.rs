//! The sentences about the scheduler's exit and the kernel's dump of it.

use std::cmp::Reverse;

use crate::run::{DumpTask, Run, SubSchedulerNews};
use crate::text::{counted, escaped, seconds};

use super::scheduler_end::KERNEL_LOG;
use super::{Evidence, SchedState, SchedulerEnd, Sentence};

/// Tasks of the dump that are named.
const TASKS: usize = 4;

/// The scheduler's exit.
pub(super) fn exit(end: &SchedulerEnd) -> Vec<Sentence> {
    let Some(exit) = &end.exit else { return Vec::new() };
    let text = end.below.clone().unwrap_or_else(|| format!("{} ended: {}", end.scheduler, exit.in_words()));
    vec![at_exit(end, text)]
}

/// The ends of schedulers below it, as the kernel's log has them, but for the one that `end` is.
pub(super) fn below(run: &Run<'_>, end: &SchedulerEnd) -> Vec<Sentence> {
    let failure = || run.sub_scheduler_failures().into_iter().next();
    let told = end.below.as_ref().and_then(|_| failure());
    let is_told = |news: &SubSchedulerNews| told.as_ref() == Some(news);
    let ended = run.sub_schedulers().into_iter().filter(|news| news.end.is_some() && !is_told(news));
    let seen = |news: SubSchedulerNews| {
        let evidence = Evidence::Seen(vec![KERNEL_LOG.to_owned()]);
        Sentence {
            since_start_ns: Some(run.since_start_ns(news.at)),
            evidence,
            text: escaped(&news.in_words()),
        }
    };
    ended.take(TASKS).map(seen).collect()
}

/// A sentence about what the capture of the exit has.
pub(super) fn at_exit(end: &SchedulerEnd, text: String) -> Sentence {
    let tag = end.exit_tag.clone().unwrap_or_else(|| "exit".to_owned());
    Sentence { since_start_ns: end.exit_since_start_ns, evidence: Evidence::Seen(vec![tag]), text }
}

/// Who had waited by then, as the kernel's dump has it; and what it lost, as memory has that.
pub(super) fn dump(end: &SchedulerEnd) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    let mut waited: Vec<_> =
        end.dump.tasks.iter().filter(|task| !task.running && end.is_told(task)).collect();
    waited.sort_by_key(|task| Reverse(task.runnable_ms));
    let one = |task: &&DumpTask| {
        format!("{}[{}] for {:.3}s {}", task.comm, task.pid, task.runnable_ms as f64 / 1e3, task.place())
    };
    let cut = end.dump.cut;
    if !waited.is_empty() {
        let named: Vec<_> = waited.iter().take(TASKS).map(one).collect();
        let more = waited.len().saturating_sub(TASKS);
        let more = if more > 0 && !cut { format!(", and {more} more") } else { String::new() };
        let whole = if cut { " as far as it goes" } else { "" };
        let text = format!("by the kernel's dump{whole}, runnable and waiting: {}{more}", named.join(", "));
        sentences.push(at_exit(end, text));
    }
    if let Some(text) = unknown(&end.unknown) {
        sentences.push(at_exit(end, text));
    }
    if cut {
        let text = "the kernel's dump was cut for want of room: who else waited is not in it".to_owned();
        sentences.push(at_exit(end, text));
        sentences.extend(end.last().filter(|state| !state.of_dump).map(instead));
    }
    sentences
}

/// What the dump says of tasks that memory does not have.
fn unknown(tasks: &[DumpTask]) -> Option<String> {
    let names: Vec<_> = tasks.iter().take(TASKS).map(|task| format!("{}[{}]", task.comm, task.pid)).collect();
    let are = if tasks.len() == 1 { "is no task" } else { "are no tasks" };
    (!names.is_empty()).then(|| format!("the kernel's dump has {}, which {are} in memory", names.join(", ")))
}

/// Who waited by the memory of a checkpoint, in place of a dump that was cut.
fn instead(state: &SchedState) -> Sentence {
    let mut waiting: Vec<_> = state.tasks.tasks.iter().filter_map(SchedState::waiting).collect();
    waiting.sort_by_key(|task| Reverse(task.age_ns));
    let one =
        |task: &super::Waiting| format!("{}[{}] for {}", escaped(&task.comm), task.pid, seconds(task.age_ns));
    let longest: Vec<_> = waiting.iter().take(TASKS).map(one).collect();
    let tasks = counted(waiting.len(), "task");
    let text = match longest.is_empty() {
        true => "by memory, no task of sched_ext waited".to_owned(),
        false => format!("by memory, {tasks} of sched_ext waited, for longest {}", longest.join(", ")),
    };
    Sentence::seen_at(state, text)
}
