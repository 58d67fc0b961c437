//! What a trace is, and all that can be said of one.
//!
//! Nothing here knows that VMs exist: memory is read through [`memory::Memory`], which a live VM, a
//! checkpoint in a trace and a byte array all implement.

pub mod btf;
pub mod claim;
pub mod debuginfo;
pub mod diff;
pub mod export;
pub mod judge;
pub mod kernel;
pub mod memory;
pub mod report;
pub mod series;
pub mod trace;
pub mod units;
pub mod value;
pub mod verdict;
pub mod view;
pub mod why;

// The traces that tests make are made by one file, for the tests of this crate and of others.
#[cfg(test)]
extern crate self as ktstr_replay;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod testing;
