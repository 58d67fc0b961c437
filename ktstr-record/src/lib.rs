//! Boot a VM and write its trace.
//!
//! Knows nothing of claims or cgroups: it records what happens.

mod initramfs;
mod elf;
mod tsc;
pub mod spec;
pub mod channel;
pub mod checkpoint;
pub mod machine;
pub mod provision;
pub mod job;
pub mod scheduler;
pub mod recorder;
pub mod selftest;

pub use initramfs::{TooLarge, init_image};
