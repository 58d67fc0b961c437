//! The emulated machine: QEMU with TCG, as a child process.
//!
//! It shares with us nothing that has a name: RAM, console, initramfs and saved state are memory files, QMP and the
//! gdbstub are socket pairs, all inherited by number. When either process dies, the kernel frees everything.
//!
//! The gdbstub stops the VM, lets it go on and reads registers; QMP tells of the guest's end and saves and restores
//! (`docs/decisions/stopping-the-emulator.md`).

mod args;
mod gdb;
mod process;
mod qmp;
mod regs;
mod run;
mod state;

pub(super) use args::{Inherited, build};
pub(super) use run::{Parts, Qemu};
