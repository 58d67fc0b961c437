//! What each page of RAM is to the kernel, so that a checkpoint can leave out what no decoder reads.
//!
//! ```text
//! struct page[] (vmemmap_base) ──► free block of the buddy allocator, or of a CPU ───► Free
//!                                  mapping: an anon_vma that holds together ───────► User
//!                                  mapping: an address_space that its inode knows ─► PageCache
//! symbols _text to _etext ───────────────────────────────────────────────────────► KernelText
//!         __start_BTF to __stop_BTF ─────────────────────────────────────────────► KernelTypes
//!         tables of kallsyms ────────────────────────────────────────────────────► KernelSymbols
//!                                  all else, and whatever is in doubt ─────────────► kept
//! ```
//!
//! Slab, vmalloc (BPF arrays and arenas, kernel stacks), per-CPU memory, page tables, the kernel's data and the array
//! of `struct page` itself have no such mapping, so they are kept without being named here.
//!
//! Source: `include/linux/page-flags.h`, `mm/page_alloc.c`, `include/linux/mm_types.h` of Linux.

mod classify;
mod image;
mod structs;

pub use classify::{PageClasses, PageClassifier};
pub(crate) use image::{constant_pages, image_pages, symbol_pages};

#[cfg(test)]
mod tests;
