//! sched_ext: what a sample has of it (`read_scx`), and all that a checkpoint tells ([`read_schedulers`]).

mod objects;
mod owners;
pub(crate) mod said;
mod schedulers;
mod state;

pub(crate) use objects::SchedulerObjects;
pub(crate) use owners::holds;
pub(in crate::kernel) use owners::{Holder, OwnerReader, holders, owners, owners_now};
pub use schedulers::{EventCounter, SchedExt, Scheduler, read_schedulers};
pub(in crate::kernel) use schedulers::{identity, scheduler_addresses, scheduler_name};
pub(in crate::kernel) use state::{read_scx, state_of};
