//! What a test needs in the guest, packed and delivered.
//!
//! Every file has the path in the guest that it has on the host, so that run paths, `$ORIGIN` and the programs'
//! own ideas of where things are hold there as well.
//!
//! ```text
//! JobBuilder   programs and files in, a Job out        builder.rs
//!   elf        what an ELF says that it needs          elf.rs
//!   libraries  where the dynamic loader finds that     libraries.rs, ld_cache.rs
//!   strip      programs without their debug sections   strip.rs
//! PackedJob    streams it through the channel          packed.rs
//! ```

mod builder;
mod elf;
mod error;
mod ld_cache;
mod libraries;
mod packed;
mod strip;

pub use builder::{JobBuilder, JobLimits};
pub use error::JobError;
pub use packed::{ClockAndSeed, Delivered, PackedJob};
