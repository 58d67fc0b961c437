//! What a test needs in the guest, packed and delivered.
//!
//! Every file has the path in the guest that it has on the host, so that run paths, `$ORIGIN` and the programs'
//! own ideas of where things are hold there as well.
//!
//! ```text
//! JobBuilder   programs and files in, a job out      builder.rs
//!   libraries  where the dynamic loader finds them   libraries.rs
//!   payload    programs that the test starts         payload.rs
//!   include    files and folders that it reads       include.rs
//!   read       a file of the host, as far as needed  read.rs
//! PackedJob    streams it through the channel        packed.rs
//! ```

mod packed;
mod read;
mod libraries;
mod builder;
mod include;
mod payload;

pub use builder::{JobBuilder, JobLimits};
pub use packed::{ByChannel, ClockAndSeed, Delivered, JobError, JobParts, PackedJob, Way};
