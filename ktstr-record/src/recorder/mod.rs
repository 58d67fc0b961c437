//! The recorder: the loop that turns a machine into a trace.
//!
//! ```text
//!  machine ── doorbell, end ──►┐                       ┌── events, losses ──►┐
//!  channel ── frames ─────────►│  the loop (`run`)     │                     │ writer thread ──► trace
//!  cadence ── due ────────────►│  pause, read, resume  ├── captures ────────►┘ (compresses, commits)
//!                              └───────────────────────┘
//! ```
//!
//! The loop never waits for the writer: what the writer cannot take becomes a loss record and the run goes on.

mod cadence;
mod capture;
mod clock;
mod error;
mod events;
mod interrupt;
mod manifest;
mod outbox;
mod profile;
mod request;
mod run;
mod session;
mod writer;

pub use cadence::Cadence;
pub use error::RecordError;
pub use request::{CapturePlan, CheckpointPolicy, PageSelection, RecordRequest};
pub use run::{Recording, record};
