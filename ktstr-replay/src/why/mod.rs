//! Why a run ended as it did: what the evidence tells, from the verdict back.
//!
//! [`explain`] gives the [`Explanation`] that `ktstr why` prints. `SchedulerEnd` (the last checkpoints before the scheduler's
//! end, and the kernel's own dump) is what it and the report have in common. Everything here is a function of the trace. Every
//! [`Sentence`] has its [`Evidence`]: the captures that it was seen in, or that it was inferred, and from what.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ktstr_replay::judge::CheckSource;
//! use ktstr_replay::run::Run;
//! use ktstr_replay::trace::Trace;
//! use ktstr_replay::why::explain;
//!
//! let trace = Trace::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../traces/stall.trace.zst").as_ref())?;
//! let run = Run::load(&trace);
//! let explanation = explain(&run, &run.judge(None, CheckSource::Recorded))?;
//! assert!(explanation.sentences.iter().any(|sentence| sentence.text.contains("ended: SCX_EXIT_ERROR_STALL")));
//! # Ok(())
//! # }
//! ```

mod antagonists;
mod cpus;
mod evidence;
mod exit;
mod explanation;
mod maps;
mod pasted;
mod raised;
mod scheduler_end;
mod stalled;
mod variables;
mod vtime;
mod waits;

pub(crate) use cpus::{hogs, may_be_hogged};
pub use evidence::{Evidence, Sentence};
pub use explanation::{Explanation, explain};
pub use pasted::explain_pasted;
pub(crate) use raised::raised;
pub(crate) use scheduler_end::{SchedState, SchedulerEnd, Waiting};
