//! Boot a VM and write its trace.
//!
//! Knows nothing of claims or cgroups: it records what happens.

pub mod provision;
pub mod spec;
