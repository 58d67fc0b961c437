//! sched_ext: what a sample has of it ([`read_scx`]), and all that a checkpoint tells ([`read_schedulers`]).

mod events;
mod schedulers;
mod state;

pub use events::{EventCounter, read_events};
pub use schedulers::{SchedExt, Scheduler, read_schedulers, scheduler_addresses};
pub(in crate::kernel) use state::held_by;
pub use state::read_scx;
