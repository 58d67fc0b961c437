//! What test authors use, and the programs `ktstr` and `cargo-ktstr`.
//!
//! A test is a function with `#[ktstr_test]` ([`prelude`]). Its `#[test]` runs in two places: on the host it
//! boots a machine, records a trace and judges it (`host`), in the guest it runs the body (`guest`).

pub mod assert;
pub mod cgroup;
pub mod cli;
pub mod cpu_set;
pub mod ctx;
mod guest;
pub mod guest_topo;
mod host;
pub mod prelude;
pub mod scenario;
pub mod test_def;
pub mod worker;
mod workspace;

/// What the macros' expansions name. Not for people.
#[doc(hidden)]
pub mod __private {
    pub use crate::host::{TestFailure, run};
    pub use crate::test_def::{
        Checkpoint, HostCheck, Pages, Scheduler, SchedulerSource, TestDef, Topology, resolve_topology,
    };
}
