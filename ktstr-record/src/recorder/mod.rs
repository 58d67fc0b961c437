//! The recorder: the loop that turns a machine into a trace.
//!
//! ```text
//!  machine ── doorbell, end ──►┐                       ┌── events, losses ──►┐
//!  channel ── frames ─────────►│  the loop (`run`)     │                     │ writer thread ──► trace
//!  cadence ── due ────────────►│  pause, read, resume  ├── captures ────────►┘ (compresses, commits)
//!  claims ── broken ──────────►│ (fail_fast)           │
//!                              └───────────────────────┘
//! ```
//!
//! The loop never waits for the writer: what the writer cannot take becomes a loss record and the run goes on.

mod clock;
mod naming;
mod request;
mod events;
mod host_time;
mod long_waits;
mod interrupt;
mod history;
mod capture;
mod writer;
mod outbox;
mod enabling;
mod fail_fast;
mod attached;
mod placing;
mod terminal;
mod asked;
mod watches;
mod probes;
mod session;
mod run;
mod on_host;

pub use events::recorded_worker;
pub use interrupt::{Guard as SignalGuard, heeded, is_interrupted, remember_runner};
pub use naming::{TRACE_SUFFIX, begin_trace};
pub use on_host::{HostRequest, record_on_host};
pub use request::{CapturePlan, CheckpointPolicy, PageSelection, RecordError, RecordRequest, is_optimized};
pub use run::{Recording, record};
pub use terminal::is_terminal;
