//! The history of a run: what its CPUs did, as the trace has it, and what can be said of it: how long a task waited, and who ran
//! meanwhile.
//!
//! ```
//! use ktstr_replay::history::HistoryLog;
//! use ktstr_replay::trace::record::{Event, EventBody, History, HistoryStep, HistoryTask, HistoryWhat};
//! use ktstr_replay::units::{Cpu, GuestNs, HostNs};
//!
//! let task = |pid| HistoryTask { pid, prio: 120, comm: format!("t{pid}") };
//! let step = |after_ns, what| HistoryStep { after_ns, what };
//! let history = History {
//!     cpu: Cpu(0),
//!     tasks: vec![task(1), task(2)],
//!     steps: vec![
//!         step(0, HistoryWhat::Wakeup { task: 1, by: 1, to: Cpu(0), is_new: false }),
//!         step(500, HistoryWhat::Switch { prev: 0, state: 1, next: 1 }),
//!     ],
//!     ..History::default()
//! };
//! let body = EventBody::History(Box::new(history));
//! let log = HistoryLog::of(&[Event { guest_ns: GuestNs(500), host_ns: HostNs(0), body }]);
//! let wait = log.longest_wait(2).expect("it waited");
//! assert_eq!(wait.length_ns(), 500);
//! assert_eq!(log.ran(Cpu(0), &wait)[0].pid, 1);
//! ```

mod blind;
mod log;
mod measured;
mod words;
mod waits;
#[cfg(test)]
mod tests;

pub use log::{HistoryLog, LoggedStep, MissingSteps};
pub use measured::Measured;
pub use waits::{Ran, Wait};
pub(crate) use words::{counted_steps, letters, why_none};
