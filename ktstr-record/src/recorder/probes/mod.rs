//! Probes that a test asked for: functions found in the guest's memory, a breakpoint at each, and every call recorded.
//!
//! A program is looked for again when a scheduler comes or goes, at the store that says so: its first call is seen.

mod pacing;
mod probed;
mod returns;
mod set;

#[cfg(test)]
pub(super) use probed::OfProbe;
pub(super) use set::Probes;
