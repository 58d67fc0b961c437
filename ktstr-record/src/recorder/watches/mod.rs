//! Watches that a test asked for: found in the guest's memory, armed, and every store to them recorded.
//!
//! A target is looked for again whenever a pointer on the way to it is stored to, which is watched as well, and when a scheduler comes
//! or goes.

mod fire;
mod marks;
mod pacing;
mod set;
mod watched;

pub(super) use set::Watches;
