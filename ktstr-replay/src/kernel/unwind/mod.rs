//! Stacks: how each task and each vCPU came to where it is, by the kernel's own ORC tables.
//!
//! ```text
//! registers of a vCPU, or of a task that sleeps
//!   -> OrcTables: where is the caller's frame?   -> Areas: is that on a stack of this task or CPU?
//!   -> the next Frame, and so on                 -> Code: what is the address called?
//! ```
//!
//! Nothing but recorded memory is read: no DWARF, no file. A stack that does not hold together ends with the reason, and
//! what looks like return addresses beyond that point is given as a guess, marked `?` as the kernel does.
//!
//! Sources: `arch/x86/kernel/unwind_orc.c`, `dumpstack_64.c`, `arch/x86/include/asm/orc_types.h` of Linux.

mod bpf;
mod orc;
mod registers;
mod stack;
#[cfg(test)]
mod tests;
mod walk;

pub use stack::{Code, CodeName, Frame, FrameKind, SourceLine, Stack, StackEnd};
pub use walk::{OnCpu, Stacks, TaskStack, Unwinder};
