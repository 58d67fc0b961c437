//! Probes that a test asked for: functions found in the guest's memory, a breakpoint at each, and every call recorded.
//!
//! ```text
//! asked for ──► waiting ──► armed ──► called as often as it may: spent
//!                  ▲          │ ▲
//!                  └──────────┘ └──► resting, where calls stop the machine too often
//! ```
//!
//! A program is looked for again when a scheduler comes or goes, at the store that says so: its first call is seen.

mod pacing;
mod probed;
mod returns;
mod set;

pub(super) use set::Probes;
