//! Who waited when the run went wrong: the task, its queue and its stack, then all runqueues and dispatch queues of the last
//! checkpoint before.

use crate::run::Run;
use crate::text::seconds;
use crate::view::{dsqs, runqueues};
use crate::why::{Moment, Scene};

use super::Section;
use crate::text::clean;

/// Tasks of a queue that are listed.
const QUEUED: usize = 12;
/// Frames of a stack that are shown.
const FRAMES: usize = 12;

pub(super) fn sections(run: &Run<'_>) -> Vec<Section> {
    if !run.has_scheduler() {
        return Vec::new();
    }
    let scene = match Scene::of(run, 1) {
        Ok(scene) => scene,
        Err(error) => {
            let mut lines = vec![clean(&error.to_string())];
            lines.extend(std::error::Error::source(&error).map(|cause| clean(&format!("  {cause}"))));
            return vec![Section { title: "the kernel's memory could not be read".to_owned(), lines }];
        }
    };
    let mut sections = vec![Section { title: "who waited".to_owned(), lines: victim(&scene) }];
    if let Some(last) = scene.last() {
        let at = |what: &str| format!("{what} ({})", last.title);
        let rqs = runqueues::table(&last.runqueues.runqueues);
        sections.push(Section { title: at("runqueues"), lines: rqs });
        sections.push(Section { title: at("dispatch queues"), lines: dsqs::queues(&last.dsqs.dsqs) });
    }
    sections
}

/// The task that waited longest, or that the exit names: at the exit, and at the last checkpoint before.
fn victim(scene: &Scene) -> Vec<String> {
    let Some(pid) = scene.victim() else { return Vec::new() };
    let mut lines = Vec::new();
    let dumped = scene.dump.tasks.iter().find(|task| task.pid == pid);
    if let Some(task) = dumped {
        let queue = task.dsq.map_or_else(|| "in no queue".to_owned(), |id| format!("in queue {id:#x}"));
        lines.push(format!(
            "at the exit (the kernel's dump): {}[{}] had been runnable for {:.3}s, {queue}, on CPU {}",
            task.comm,
            task.pid,
            task.runnable_ms as f64 / 1e3,
            task.cpu
        ));
        // The kernel cannot follow a stack that begins in an interrupt's; our own tables can.
        if scene.last().is_none_or(|last| last.stack.is_none()) {
            lines.extend(task.stack.iter().take(FRAMES).map(|frame| format!("    {frame}")));
        }
    }
    if let Some(last) = scene.last() {
        lines.extend(at_checkpoint(last, pid));
    }
    lines.iter().map(|line| clean(line)).collect()
}

fn at_checkpoint(last: &Moment, pid: i64) -> Vec<String> {
    let Some(task) = last.tasks.by_pid(pid) else { return Vec::new() };
    let Some(waiting) = Moment::waiting(task) else { return Vec::new() };
    let cpu = waiting.cpu.map_or_else(String::new, |cpu| format!(", on CPU {cpu}"));
    let who =
        format!("in {}: {}[{pid}] had been runnable for {}", last.title, task.comm, seconds(waiting.age_ns));
    let own = last.stack.as_ref().filter(|(of, _)| *of == pid);
    let stack = own.map(|(_, stack)| stack.lines()).unwrap_or_default();
    let stack = stack.iter().take(FRAMES).map(|frame| format!("    {frame}"));
    let Some((dsq, position)) = last.queue_of(pid) else {
        return std::iter::once(format!("{who}, in no queue{cpu}")).chain(stack).collect();
    };
    let count = dsq.tasks.len();
    let mut lines = vec![format!("{who}, {position} of {count} in queue {} ({}){cpu}", dsq.id, dsq.whose)];
    lines.extend(stack);
    lines.extend(dsqs::tasks(dsq, QUEUED).iter().map(|line| format!("  {line}")));
    lines
}
