//! Core files of a kernel that ktstr did not record, made traces of one checkpoint.
//!
//! ```text
//! file ─► flattened? ─► ELF: PT_LOAD, PT_NOTE ──────────┐
//!                 └───► kdump: bitmap, page descriptors ─┴─► Core: memory, notes ─► kernel, sample, checkpoint ─► trace
//! ```
//!
//! Core files are not trusted: sizes are checked before memory is taken, and a page is decompressed into the room of a page.

mod core;
mod elf;
mod flattened;
mod kdump;
mod lzo;
mod notes;
mod snappy;
mod source;
#[cfg(test)]
mod tests;
mod write;

pub use core::{Core, CoreError};
pub use write::{ImportError, Imported, import_core};
