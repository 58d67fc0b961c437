//! A trace in the forms that other tools read: JSON lines, CSV, and memory as an ELF core ([`vmcore`]).
//!
//! The first two have the events and the captures, with every global variable of the scheduler. What a trace says of itself is
//! `ktstr trace info --json`.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ktstr_replay::export::json_lines;
//! use ktstr_replay::run::Run;
//! use ktstr_replay::trace::Trace;
//!
//! let trace = Trace::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../traces/stall.trace.zst").as_ref())?;
//! let mut lines = Vec::new();
//! json_lines(&Run::load(&trace), &mut lines)?;
//! assert!(lines.starts_with(b"{") && lines.ends_with(b"}\n"));
//! # Ok(())
//! # }
//! ```

mod payload;
mod watch;
mod probe;
mod lines;
pub mod vmcore;

pub use lines::{events_csv, json_lines, series_csv};
