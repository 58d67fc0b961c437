//! The capture side of checkpoints: which pages of a guest changed since the last one.
//!
//! While the guest stands still, [`ChangeTracker`] reads the populated part of its RAM once, and copies the pages that
//! differ. The copies are owned; hashing for the trace, compression and writing happen later, on another thread.

mod pieces;
mod tracker;

pub use tracker::ChangeTracker;
