//! Workers: the processes that load the guest's CPUs, and what they report.
//!
//! A worker is a forked child that, until it exits, touches nothing but its own stack and a page of shared
//! memory (`shared`): it may have been forked from a process with threads, and a lock that one of them held is
//! never released in the child. So a work type ([`work`]) neither allocates nor prints nor panics.
//!
//! All workers of a [`WorkloadHandle`] begin at one moment, when the flag that they sleep on is set, and end when told
//! to. One that does not end in time, or ended on its own, is reported with its fault and never as idle.

mod shared;
mod meter;
mod links;
mod work;
mod settings;
mod affinity;
mod spec;
mod process;
mod workload;

pub use affinity::{Affinity, AffinityError};
pub use settings::{CloneMode, MemPolicy, RangeError, SchedPolicy, Settings};
pub use spec::{CountError, WorkSpec, WorkerCount};
pub use work::WorkType;
pub use workload::{WorkerError, WorkerGroup, WorkloadHandle};
