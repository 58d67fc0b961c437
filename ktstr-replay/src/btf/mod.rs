//! Types: what the bytes of a kernel or of a BPF map mean.
//!
//! [`Types`] holds one BTF blob. The blob may come from a stranger's trace or from torn guest memory, so it is
//! checked whole before `btf-rs` decodes any of it, and decoded a chunk at a time as types are asked for: opening
//! the kernel's 150,000 types costs milliseconds.
//!
//! Format: `include/uapi/linux/btf.h` and `Documentation/bpf/btf.rst` of Linux.

mod index;
mod layout;
mod name_index;
mod plain;
#[cfg(test)]
mod tests;
mod types;
mod words;

pub use index::{BtfError, Kind};
pub use layout::{Enumerator, Field, Signature, Variable};
pub(crate) use name_index::NameIndex;
pub(crate) use plain::{plain, plain_number, plain_pointer};
pub use types::{TypeId, Types};
pub(crate) use words::{CType, alike, bare_name};
