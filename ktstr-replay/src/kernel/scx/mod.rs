//! sched_ext: what a sample has of it (`read_scx`), and all that a checkpoint tells ([`read_schedulers`]).

mod schedulers;
mod state;

pub use schedulers::{EventCounter, SchedExt, Scheduler, read_schedulers};
pub(in crate::kernel) use schedulers::{scheduler_addresses, scheduler_name};
pub(in crate::kernel) use state::held_by;
pub(in crate::kernel) use state::{read_scx, state_of};
