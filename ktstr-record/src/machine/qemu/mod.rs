//! The emulated machine: QEMU with TCG, as a child process.
//!
//! It shares with us nothing that has a name: RAM, console, initramfs and saved state are memory files, QMP and the
//! gdbstub are socket pairs, all inherited by number. When either process dies, the kernel frees everything.
//!
//! The gdbstub stops the VM, lets it go on, watches and reads registers; QMP tells of the guest's end and saves and
//! restores (`docs/decisions/stopping-the-emulator.md`).

mod limits;
mod process;
mod args;
mod vmlinux;
mod stub;
mod kaslr;
mod socket;
mod qmp;
mod gdb;
mod nops;
mod regs;
mod stale;
mod saved;
mod vm;
mod backend;

pub(super) use backend::Qemu;
