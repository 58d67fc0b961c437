//! Boot a VM and write its trace.
//!
//! Knows nothing of claims or cgroups: it records what happens.

pub mod channel;
pub mod checkpoint;
mod init_image;
pub mod initramfs;
pub mod job;
pub mod machine;
pub mod provision;
pub mod recorder;
pub mod scheduler;
pub mod spec;

pub use init_image::init_image;
