//! A Linux kernel, read out of guest memory.
//!
//! ```text
//! Memory -> paging -> vmcoreinfo -> symbols ---\
//!                          \------> BTF types --+-> KernelProfile -+-> KernelView -> mirrors -> walkers -> views
//!                                                    (one boot)    |    (one capture)
//!                                                     Memory ------/
//! ```
//!
//! [`KernelProfile`] is what stays the same while a kernel runs: where its symbols are and what its types look like.
//! It is read once and travels in the trace as blobs. [`KernelView`] is a profile over the memory of one capture.
//! [`SampleReader`] makes the part of a sample that comes from the kernel.
//!
//! Memory may be torn (the guest runs) or hostile (the trace is a stranger's): every walk has a bound, every address
//! is computed with checks, and what cannot be read becomes an error or a fault line, never a panic.
//!
//! **No offset is written by hand**: kernel structs are declared as `mirror`s and matched by name through BTF.

mod bytes;
pub mod cgroup;
pub mod cputime;
pub mod dsq;
mod error;
pub mod history;
#[cfg(test)]
pub(crate) mod hostile;
mod lists;
pub mod log;
pub mod maps;
mod mirror;
mod pages;
mod profile;
mod prog_lines;
mod progs;
pub mod proven;
pub mod query;
pub mod runqueue;
mod sample;
pub mod scx;
mod symbols;
pub mod task;
mod trees;
pub mod unwind;
mod view;
mod virt;
mod vmcoreinfo;
pub mod waits;

pub use cputime::Jiffies;
pub use error::{FieldMissing, Gaps, KernelError};
use lists::{hlist_nodes, list_entries, list_nodes};
pub use pages::{PageClasses, PageClassifier};
pub(crate) use pages::{constant_pages, image_pages, symbol_pages};
pub use profile::{KernelProfile, ProfileError};
pub(in crate::kernel) use progs::UsedMaps;
pub use progs::{BpfProgram, BpfPrograms, JitSymbol};
use runqueue::read_runqueues;
pub use sample::{Caps, SampleReader, SampleState};
use scx::read_scx;
pub use symbols::{Symbol, Symbols, SymbolsError};
pub use view::{Cpus, KernelView};
use view::{mask, nr_cpu_ids};
pub use virt::{Levels, PageTable, VirtualMemory};
pub use vmcoreinfo::Vmcoreinfo;
