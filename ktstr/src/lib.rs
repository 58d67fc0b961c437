//! What test authors use, and the programs `ktstr` and `cargo-ktstr`.
//!
//! A test is a function with `#[ktstr_test]`. Its `#[test]` runs in two places: on the host it boots a machine, records a
//! trace and judges it (`host`), in the guest it runs the body (`guest`). All that an author needs is in [`prelude`].
//!
//! The modules stand in layers: each imports only from those above it in this list.

// The macros' expansions name this library, and one of them is its own: `TestDef::NEW`.
extern crate self as ktstr;

/// What a test's body finds out in the guest.
mod assert;
/// Sets of CPU numbers, in the kernel's list format.
mod cpu_set;
/// The CPUs of the running machine, as its `/sys` shows them.
mod guest_topo;
/// The processes and threads that load the guest's CPUs.
mod worker;
/// Programs that a test runs in its guest.
mod payload;
/// Control groups, and how a test describes them.
mod cgroup;
/// The limits of a test, layer by layer.
mod limits;
/// The gauntlet: every test on many machines.
mod gauntlet;
/// A scheduler, as `declare_scheduler!` describes it.
mod scheduler;
/// Watches, as a test describes them.
mod watch;
/// Probes, as a test describes them.
mod probe;
/// The socket to guest-init.
mod channel;
/// Whether the scheduler under test still schedules.
mod scheduler_life;
/// What a test's body is given.
mod ctx;
/// Running payloads from a test's body.
mod payload_call;
/// Phases of set-up, hold and teardown.
mod scenario;
/// What the macros make: descriptions of a test and of a scheduler.
mod test_def;
/// What a test says of itself when it is asked, and not run.
mod description;
/// A shell in the place of the body, in the guest.
mod shell;
/// Running the body, in the guest.
mod guest;
/// The cargo workspace that a test is in.
mod workspace;
/// From a test's description to its verdict, on the host.
mod host;
/// The function that every `#[test]` calls, wherever it runs.
mod run;
/// Everything that the author of a test needs.
pub mod prelude;
/// The commands of `ktstr` and `cargo ktstr`.
pub mod cli;

/// What the macros' expansions name. Not for people.
#[doc(hidden)]
pub mod __private {
    pub use crate::gauntlet::{Constraints, check_constraints};
    pub use crate::limits::Assert;
    pub use crate::payload::{MetricDef, PayloadDef, check_payloads, definition_of};
    pub use crate::run::{TestFailure, run, run_variant};
    pub use crate::scheduler::{Scheduler, SchedulerSource, check_config, check_staged};
    pub use crate::test_def::{
        Checkpoint, HostCheck, IncludeFiles, Pages, TestDef, Topology, check_inherited, inherit_topology,
        resolve_topology,
    };
    pub use ktstr_replay::trace::record::{PayloadOutput, Polarity};
}
