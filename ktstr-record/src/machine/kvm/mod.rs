//! The KVM machine: our own VMM, for hosts whose CPU executes guests.
//!
//! ```text
//! probe     whether it is one, found out by executing a guest of a few instructions          probe.rs
//!   stages    what that guest does, in a throw-away VM                                        stages.rs
//!   memo      what was found out since the host booted                                        memo.rs
//! boot      what a guest boots from: kernel, page tables, ACPI, CPUID                        boot/
//! guests    guests of a few instructions                                                     guests.rs, guests.s
//! kick      how a thread is taken out of KVM_RUN                                              kick.rs
//! fault     why KVM could not go on, in words                                                 fault.rs
//! Vm        memory, interrupt controllers, clock and vCPUs, all running or all stopped        vm.rs
//!   memory    its slots, read-only pages, the dirty log                                       memory.rs
//!   ports     devices on ports: console, doorbell, reset, power-off                           ports.rs
//!   chips     its interrupt controllers; ioapic: one of ours, for many CPUs                   chips.rs, ioapic.rs
//!   vcpu      what a vCPU does while it runs                                                  vcpu.rs
//!   thread    the thread that it does that on; confine: what that may ask of the kernel       thread.rs, confine.rs
//!   regs      its registers, as traces have them                                              regs.rs
//!   watch     what is watched; watching: arming it; means: what this host's KVM can do        watch.rs, watching.rs, means.rs
//!   routing   which interrupt arrives at which pin, or as which message                       routing.rs
//!   state     saving and restoring all of it but memory                                       state.rs
//!   stats     what KVM counts of a vCPU                                                   stats.rs
//!   exits     halts and pauses that do not leave the guest, for performance mode              exits.rs
//!   entry     its vCPUs before the kernel's first instruction                                 entry.rs
//! KvmMachine  a VM as a `Machine`                                                           machine.rs
//! KvmBackend  from a spec to such a machine; limits: what one can hold                      backend.rs, limits.rs
//! tiny_kernel  what a whole machine boots where no real kernel would run                     tiny_kernel.rs
//! selftest  everything above, shown by tiny guests                                            selftest/
//! ```

mod error;
pub mod boot;
mod kick;
mod fault;
mod guests;
mod stages;
mod memo;
mod probe;
mod ports;
mod memory;
mod watch;
mod ioapic;
mod routing;
mod chips;
mod vcpu;
mod confine;
mod thread;
mod regs;
mod exits;
mod vm;
mod stats;
mod watching;
mod tiny;
pub(crate) mod tiny_kernel;
mod means;
mod state;
mod entry;
mod machine;
mod limits;
mod backend;
mod selftest;

pub(super) use backend::KvmBackend;
pub use probe::KvmProbe;
pub use selftest::{KvmSelfTest, SelfTestOutcome, selftest_kvm};
