//! Source lines and inlined functions, out of a kernel's DWARF.
//!
//! A trace holds symbols and types, and needs no `vmlinux` to be read. DWARF is the one thing that stays outside: some
//! hundred megabytes that only add source lines. It is taken from a file whose build-id is that of the kernel which was
//! recorded (`BUILD-ID` of vmcoreinfo), so that no other kernel's lines can be shown.

mod find;
mod source;
#[cfg(test)]
mod tests;

pub use find::{BuildId, DebugInfoError};
pub use source::DebugInfo;
