//! Steps in words, and as JSON.

use serde_json::{Value as Json, json};

use super::{HistoryLog, LoggedStep, MissingSteps};
use crate::text::{counted, escaped};
use crate::trace::record::{HistoryTask, HistoryWhat, Loss, LossKind};
use crate::units::GuestNs;

/// A state is reported with this bit when the task's CPU was taken from it (`TASK_REPORT_MAX`, `include/linux/sched.h`).
const PREEMPTED: u32 = 0x100;
/// The states by their bits, as the kernel's tracepoint prints them (`include/trace/events/sched.h`).
const STATES: [&str; 8] = ["S", "D", "T", "t", "X", "Z", "P", "I"];

/// Whether a task in this state could run on.
pub(super) fn is_runnable(state: u32) -> bool {
    state & (PREEMPTED - 1) == 0
}

/// A state in letters: `R` runnable, `R+` as its CPU was taken from it, `S` asleep.
pub(crate) fn letters(state: u32) -> String {
    let set = (0..).zip(STATES).filter(|(bit, _)| state & 1 << bit != 0).map(|(_, letter)| letter);
    let letters = if is_runnable(state) { "R".to_owned() } else { set.collect::<Vec<_>>().join("|") };
    if state & PREEMPTED == 0 { letters } else { letters + "+" }
}

/// `worker[105]`.
fn named(task: Option<&HistoryTask>) -> String {
    task.map_or_else(|| "?".to_owned(), |task| format!("{}[{}]", escaped(&task.comm), task.pid))
}

impl HistoryLog {
    /// What kind of step it is, by the name of its tracepoint: `switch`, `wakeup`, `wakeup_new`, `migrate`, `sched_ext`.
    #[must_use]
    pub fn kind(&self, step: &LoggedStep) -> &'static str {
        match step.what {
            HistoryWhat::Switch { .. } => "switch",
            HistoryWhat::Wakeup { is_new: false, .. } => "wakeup",
            HistoryWhat::Wakeup { is_new: true, .. } => "wakeup_new",
            HistoryWhat::Migrate { .. } => "migrate",
            HistoryWhat::SchedExt { .. } => "sched_ext",
        }
    }

    /// A step in words, for a terminal: `hog[99] (R+) -> victim[105]`.
    #[must_use]
    pub fn words(&self, step: &LoggedStep) -> String {
        let task = |place| named(self.task(place));
        match step.what {
            HistoryWhat::Switch { prev, state, next } => {
                format!("{} ({}) -> {}", task(prev), letters(state), task(next))
            }
            HistoryWhat::Wakeup { task: of, by, to, .. } => format!("{} on CPU {to}, by {by}", task(of)),
            HistoryWhat::Migrate { task: of, by, from, to } => {
                format!("{} from CPU {from} to CPU {to}, by {by}", task(of))
            }
            HistoryWhat::SchedExt { name, by, count } => {
                format!("{} {count:+}, by {by}", escaped(self.name(name).unwrap_or("?")))
            }
        }
    }

    /// A step for programs.
    #[must_use]
    pub fn json(&self, step: &LoggedStep) -> Json {
        let task = |place| {
            self.task(place).map(|task| json!({ "pid": task.pid, "prio": task.prio, "comm": task.comm }))
        };
        let mut json = match step.what {
            HistoryWhat::Switch { prev, state, next } => {
                json!({ "prev": task(prev), "state": letters(state), "next": task(next) })
            }
            HistoryWhat::Wakeup { task: of, by, to, .. } => json!({ "task": task(of), "by": by, "to": to }),
            HistoryWhat::Migrate { task: of, by, from, to } => {
                json!({ "task": task(of), "by": by, "from": from, "to": to })
            }
            HistoryWhat::SchedExt { name, by, count } => {
                json!({ "name": self.name(name), "by": by, "count": count })
            }
        };
        json["event"] = self.kind(step).into();
        json["guest_ns"] = json!(step.at);
        json["cpu"] = json!(step.cpu);
        json
    }
}

/// `1 step`, `2 steps`.
pub(crate) fn counted_steps(count: u64) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), "step")
}

impl MissingSteps {
    /// How many steps are missing.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.overwritten.saturating_add(self.left_out)
    }

    /// What is missing, in words; `time` says a guest time.
    pub(crate) fn words(&self, time: impl Fn(GuestNs) -> String) -> String {
        let place = match (self.after, self.until) {
            (Some(after), Some(until)) => format!(" between {} and {}", time(after), time(until)),
            (None, Some(until)) => format!(" before {}", time(until)),
            (Some(after), None) => format!(" after {}", time(after)),
            (None, None) => String::new(),
        };
        let parts =
            [(self.overwritten, "overwritten by the kernel"), (self.left_out, "more than a trace keeps")];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, why)| format!("{} {why}", counted_steps(count)))
            .collect();
        format!("missing of CPU {}{place}: {}", self.cpu, parts.join(", "))
    }
}

/// Why a trace without a history has none, by its losses.
pub(crate) fn why_none(losses: &[Loss]) -> String {
    let said = losses.iter().find(|loss| loss.kind == LossKind::SchedEvents);
    said.map_or_else(
        || "the test has `history = false`, or the trace is of an older release".to_owned(),
        |loss| loss.detail.clone(),
    )
}
