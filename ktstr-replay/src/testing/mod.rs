//! What tests, benchmarks and fuzzing make their inputs of: traces of a demo scheduler, and a toy kernel in guest memory.
//!
//! It is no feature: `cargo run` and `cargo test` would then build this crate, and all that use it, twice, for the sake of a
//! thousand lines that the linker drops from programs.

pub mod btf;
mod guest;
mod layout;
pub mod memory;
pub mod small;
mod structs;
mod toy;
mod trace;

pub use guest::{DIRECT_MAP, Guest, Object, PER_CPU_BYTES};
pub use toy::{Overwrite, overwrite, toy_kernel, write_checkpoints, write_with_memory};
pub use trace::{BODY_MS, DEMO_BTF, TraceBuilder, missed, sample, stalled};

/// Seeds of kernels' layouts: a test of a kernel holds for each.
pub const SEEDS: std::ops::Range<u64> = 0..4;
