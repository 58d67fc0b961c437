//! Boot a VM and write its trace.
//!
//! Knows nothing of claims or cgroups: it records what happens.

pub mod channel;
mod init_image;
pub mod initramfs;
pub mod machine;
pub mod provision;
pub mod spec;

pub use init_image::init_image;
