//! A recorded run as judges and reports read it: the decoded trace ([`Run`]), how its scheduler ended ([`SchedulerExit`],
//! [`Dump`]), and its checkpoints as kernels that can be read ([`Checkpoints`]).
//!
//! Everything here is a fact of the run, and none of it is text for people beyond names and titles.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ktstr_replay::judge::CheckSource;
//! use ktstr_replay::report::render;
//! use ktstr_replay::run::Run;
//! use ktstr_replay::trace::Trace;
//!
//! let trace = Trace::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../traces/stall.trace.zst").as_ref())?;
//! let run = Run::load(&trace);
//! let verdict = run.judge(None, CheckSource::Recorded);
//! assert_eq!(verdict.exit_code(), 1);
//! assert!(render(&run, &verdict).starts_with("FAIL "));
//! # Ok(())
//! # }
//! ```

mod backtrace;
mod checkpoints;
mod decoded;
mod detached;
mod dump;
mod exit;
mod long_waits;
mod spawned;
mod sub_schedulers;
mod below;

pub(crate) use backtrace::{Caller, backtrace};
pub(crate) use below::SubSchedulerFailure;
pub use checkpoints::{CheckpointError, Checkpoints, OpenCheckpoint};
pub use decoded::{Run, periodic_due};
pub use detached::DetachedTimes;
use dump::frame;
pub use dump::{Dump, DumpCpu, DumpTask, DumpTrigger};
pub(crate) use dump::{named, trigger};
pub(crate) use exit::{STALL_KIND, STALL_REASON};
pub use exit::{SchedulerExit, gone_words};
pub use spawned::{NotSpawned, SpawnedWorkers};
pub use sub_schedulers::tells_of_sub_scheduler_error;
pub(crate) use sub_schedulers::{SubSchedulerNews, sub_scheduler_without_text};
