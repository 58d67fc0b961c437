//! The names of tasks that a run had: an event of a task that there never was cannot happen, and its name is misspelt.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::Timeline;
use crate::kernel::task::read_tasks;
use crate::kernel::{KernelProfile, KernelView};
use crate::path::{EventCondition, EventPath, Test};
use crate::text::Candidates;
use crate::trace::Trace;
use crate::trace::record::EventBody;

/// The fields of events that are names of tasks.
const NAMES: [&str; 3] = ["comm", "prev_comm", "next_comm"];

/// Names of tasks, read out of the whole trace when one is first asked for.
#[derive(Clone)]
pub(super) struct TaskNames(Arc<(Option<Trace>, OnceLock<BTreeSet<String>>)>);

impl fmt::Debug for TaskNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskNames").field(&self.0.1).finish()
    }
}

impl TaskNames {
    pub(super) fn of(trace: &Trace) -> Self {
        Self(Arc::new((trace.segment(trace.segment_number()), OnceLock::new())))
    }

    /// Those of the captures: in their samples, and in the memory that was kept with them.
    fn in_captures(&self) -> &BTreeSet<String> {
        let (trace, names) = &*self.0;
        names.get_or_init(|| trace.as_ref().map(of_captures).unwrap_or_default())
    }
}

fn of_captures(trace: &Trace) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let profile = KernelProfile::of_trace(trace);
    for sample in trace.samples().flatten() {
        names.extend(sample.cpus.into_iter().filter_map(|cpu| cpu.curr_comm));
        let memory = sample.checkpoint.and_then(|index| trace.checkpoint_memory(index).ok());
        let (Some(memory), Ok(profile)) = (memory, &profile) else { continue };
        if let Ok(found) = read_tasks(&KernelView::new(profile, &memory)) {
            names.extend(found.tasks.into_iter().map(|task| task.comm));
        }
    }
    for event in trace.events() {
        if let EventBody::LongWait(wait) = event.body {
            names.insert(wait.comm);
        }
    }
    names
}

impl Timeline {
    /// The condition of `path` that asks for a task by a whole name which no task of the run had: no such event could happen. `None`
    /// where there is none, or where nobody noted which tasks there were.
    pub(crate) fn never_seen(&self, path: &EventPath) -> Option<String> {
        self.history_read?;
        path.filter.iter().find_map(|condition| self.names_nobody(condition))
    }

    fn names_nobody(&self, condition: &EventCondition) -> Option<String> {
        let Test::Is(true, name) = &condition.test else { return None };
        if !NAMES.contains(&condition.field.as_str()) {
            return None;
        }
        let watches = self.watches.watches.iter().flat_map(|watch| &watch.fires);
        let probes = self.probes.probes.iter().flat_map(|probe| &probe.calls);
        let noted = || {
            let of_history = self.history.task_names();
            of_history
                .chain(watches.clone().map(|(_, fire)| fire.comm.as_str()))
                .chain(probes.clone().map(|call| call.hit.comm.as_str()))
        };
        if noted().any(|other| other == name) || self.tasks.in_captures().contains(name) {
            return None;
        }
        let all: BTreeSet<&str> =
            noted().chain(self.tasks.in_captures().iter().map(String::as_str)).collect();
        Some(format!("no task of the run was called `{name}`{}", Candidates::new(name, all)))
    }
}
