//! Templates: machines that were booted until init was ready for its first job, and saved.
//!
//! ```text
//! <cache>/templates/
//!   lock-XX          guards the templates whose keys begin with these digits: shared to restore, exclusive to save
//!   .tmp-*           a template being written, or removed
//!   <key>/
//!     meta.json      what it was made from, where its pages belong, checksums; its mtime is the time of last use
//!     ram            the pages that are not zero, one after another
//!     state          the emulator's CPUs and devices
//! ```
//!
//! A template appears by one rename, so that it is whole or absent. It holds nothing of any test: jobs arrive after the
//! restore. All of its restores share what the boot had drawn at random (KASLR's placement, the kernel's entropy, to
//! which init adds the job's seed).

mod evict;
mod key;
mod pages;
mod store;

pub(super) use key::Key;
pub(super) use store::{Store, Template};
