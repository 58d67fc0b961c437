//! The trace file.

pub mod record;
