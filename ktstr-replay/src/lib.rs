//! What a trace is, and all that can be said of one.
//!
//! Nothing here knows that VMs exist: memory is read through [`memory::Memory`], which a live VM, a
//! checkpoint in a trace and a byte array all implement.
//!
//! The modules stand in the order of their layers: none uses one that is below it in this list. `tests/layers.rs` keeps it.

#![forbid(unsafe_code)]

pub mod units;
pub mod memory;
pub mod text;
pub mod btf;
pub mod path;
pub mod trace;
pub mod value;
pub mod kernel;
pub mod debuginfo;
pub mod watch;
pub mod history;
pub mod probe;
pub mod timeline;
mod columns;
pub mod series;
pub mod verdict;
pub mod claim;
pub mod run;
pub mod judge;
pub mod view;
pub mod pasted;
pub mod why;
pub mod repro;
pub mod report;
pub mod diff;
pub mod export;
pub mod import;
pub mod slim;

// For the tests of this crate and of others; it says why it is no feature.
#[doc(hidden)]
pub mod testing;
