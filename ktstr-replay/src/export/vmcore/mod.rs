//! Guest memory of a checkpoint as an ELF core, as kdump makes it and drgn and crash open it.
//!
//! ```text
//! ELF header, program headers
//! PT_NOTE   PRSTATUS ("CORE") and QEMUCPUState ("QEMU") of each vCPU, VMCOREINFO as the kernel wrote it
//! PT_LOAD   kernel image: p_vaddr in the kernel's mapping, p_paddr where it lies
//! PT_LOAD   each run of pages that the trace has: p_vaddr in the direct map, p_paddr
//! data      page at (its distance from the beginning of its RAM range); holes for zero pages
//! ```
//!
//! Pages that the checkpoint does not have (left out by policy, or damaged in the file) are in no `PT_LOAD`: a tool that
//! asks for one is told that it is not there, and never reads zeros that were not zeros. `p_filesz` is always `p_memsz`.
//! Zero pages are holes of a sparse file.
//!
//! Sources: `kernel/crash_core.c`, `kernel/vmcore_info.c`, `include/linux/elfcore.h` of Linux; System V ABI, "Program
//! Header".

mod elf;
#[cfg(test)]
mod tests;
mod write;

pub use write::{VmcoreError, VmcoreWritten, write_vmcore};
