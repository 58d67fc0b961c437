//! What the CPUs did while tasks waited.

use super::{Scene, Sentence};

pub(super) fn tell(scene: &Scene) -> Vec<Sentence> {
    let Some(last) = scene.last() else { return Vec::new() };
    if scene.victim().is_none() {
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
