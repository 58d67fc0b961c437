//! The scheduler's exit, and who had waited by then.

use crate::run::Run;

use super::{Scene, Sentence};

/// Tasks of the dump that are named.
const NAMED: usize = 4;

pub(super) fn tell(run: &Run<'_>, scene: &Scene) -> Vec<Sentence> {
    let Some(exit) = run.scheduler_exit() else { return Vec::new() };
    let tag =
        exit.sample.and_then(|index| run.samples.iter().find(|s| s.index == index)).map(|s| s.tag.clone());
    let at = Some(run.since_start_ns(exit.at_ns));
    let seen_in = tag.unwrap_or_else(|| "exit".to_owned());
    let name = run.manifest.scheduler.as_ref().map_or("the scheduler", |s| s.name.as_str());
    let mut text = format!("{name} ended: {}", exit.title());
    if let Some(cause) = exit.cause() {
        text.push_str(&format!(": {cause}"));
    }
    let mut told = vec![Sentence { since_start_ns: at, seen_in: seen_in.clone(), text }];
    let mut waited: Vec<_> = scene.dump.tasks.iter().filter(|task| !task.running).collect();
    waited.sort_by_key(|task| std::cmp::Reverse(task.runnable_ms));
    let one = |task: &&super::DumpTask| {
        let queue = task.dsq.map_or_else(|| "in no queue".to_owned(), |id| format!("in queue {id:#x}"));
        format!("{}[{}] for {:.3}s {queue}", task.comm, task.pid, task.runnable_ms as f64 / 1e3)
    };
    if !waited.is_empty() {
        let named: Vec<_> = waited.iter().take(NAMED).map(one).collect();
        let more = waited.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let text = format!("by the kernel's dump, runnable and waiting: {}{more}", named.join(", "));
        told.push(Sentence { since_start_ns: at, seen_in, text });
    }
    told
}
