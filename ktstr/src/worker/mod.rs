//! Workers: the processes and threads that load the guest's CPUs, and what they report.
//!
//! A worker is a forked child, or a thread of one, that, until it exits, touches nothing but its own stack, memory that it
//! maps and a part of memory that it shares with the test (`slot`): it may have been forked from a process with threads, and
//! a lock that one of them held is never released in the child. So a kind of work (`work`) neither allocates nor prints nor
//! panics.
//!
//! Workers start in two phases. First each applies its [`Settings`] to itself, in the cgroup that it was placed into
//! meanwhile, and says so. Then all workers of a [`WorkloadHandle`], or of several, begin at one moment, and end when told
//! to. One that does not end in time, or ended on its own, is reported with its fault and never as idle.

mod settings;
mod affinity;
mod clock;
mod latency;
mod slot;
mod shared;
mod sys;
mod signal;
mod links;
mod apply;
mod comm;
mod meter;
mod member;
mod work;
mod spec;
mod group;
mod process;
mod fork;
mod churned;
mod error;
mod report;
mod workload;
#[cfg(test)]
mod tests;

pub use affinity::{Affinity, AffinityError};
pub(crate) use clock::monotonic_ns;
pub use error::WorkerError;
pub use group::{GroupError, WorkerGroup};
#[cfg(test)]
pub(crate) use latency::SAMPLES;
pub use member::Worker;
pub use settings::{CloneMode, MemPolicy, RangeError, SchedPolicy, Settings};
pub(crate) use spec::worker_setters;
pub use spec::{CountError, WorkSpec, WorkerCount};
pub use work::{Gang, WorkType, kinds};
pub use workload::WorkloadHandle;
