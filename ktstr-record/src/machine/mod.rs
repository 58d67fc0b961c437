//! Machines: a VM that runs a kernel, stops and goes on when told, and says what happens to it.
//!
//! ```text
//! start()    checks the host, waits for its CPUs, restores a template or boots     start.rs
//!   limits   what the host can hold                                                limits.rs
//!   slots    host CPUs shared among parallel VMs                                   slots.rs
//!   template a VM saved when it was ready for its first job                        template/
//!   qemu     the emulated machine: arguments, process, QMP, gdbstub                qemu/
//! Machine    the seam: everything above it is the same for every kind of machine
//! GuestRam   the guest's RAM, mapped by the emulator and by us                     ram.rs
//! RamHole    the guest channel's place in it                                       hole.rs
//! ```

mod error;
mod files;
mod hole;
mod kaslr;
mod limits;
mod qemu;
mod ram;
mod slots;
mod start;
mod template;
mod waker;

use std::sync::Arc;
use std::time::Duration;

use ktstr_replay::trace::record::{GuestEnd, VcpuRegs};

pub use error::{MachineError, StartError};
pub use hole::RamHole;
pub use limits::{HostLimits, MAX_VCPUS, MIN_MEMORY_MIB, OVERCOMMIT};
pub use ram::GuestRam;
pub use start::{Start, StartKind, StartPolicy, start};
pub use waker::Waker;

/// A running VM.
///
/// It is either *running* or *stopped*. It stops by [`pause`](Machine::pause), at a doorbell and at its end, and only
/// [`resume`](Machine::resume) makes it go on. Dropping it kills it and leaves nothing behind.
pub trait Machine: Send {
    /// The guest's RAM. It stays readable after the machine's end.
    fn ram(&self) -> Arc<GuestRam>;

    /// Stop all vCPUs; returns how long that took. A stopped machine stays stopped, in no time.
    ///
    /// # Errors
    /// [`MachineError`] when the machine's process is gone or does not answer.
    fn pause(&mut self) -> Result<Duration, MachineError>;

    /// Let all vCPUs go on; returns how long that took. A running machine runs on, in no time.
    ///
    /// When a doorbell was rung at the very instant of a pause, the machine stays stopped and the next
    /// [`wait_event`](Machine::wait_event) hands it over.
    ///
    /// # Errors
    /// [`MachineError`] when the machine's process is gone, does not answer, or the guest has ended.
    fn resume(&mut self) -> Result<Duration, MachineError>;

    /// Registers of all vCPUs, ascending, while the machine is stopped.
    ///
    /// # Errors
    /// [`MachineError`] when the machine runs, is gone or does not answer.
    fn registers(&mut self) -> Result<Vec<VcpuRegs>, MachineError>;

    /// Wait for something to happen, for at most `timeout` or until a [`Waker`] interrupts.
    ///
    /// After [`MachineEvent::Ended`] every further call returns it again.
    fn wait_event(&mut self, timeout: Duration) -> Option<MachineEvent>;

    /// A handle by which another thread ends a wait in [`wait_event`](Machine::wait_event), or the next one.
    fn waker(&self) -> Waker;

    /// Bytes that the guest wrote to its serial console since the last call. Works after the end, too.
    fn console(&mut self) -> Vec<u8>;

    /// End the machine now. RAM and console stay readable.
    fn kill(&mut self);
}

/// What can happen to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineEvent {
    /// The guest stored to its doorbell page. The machine is stopped at the instruction after the store.
    Doorbell {
        /// The vCPU that stored.
        vcpu: u32,
    },
    /// The guest ended, or the machine did. Unless the machine's process died, it is stopped, and memory and
    /// registers are as the guest left them.
    Ended {
        /// How. Never `TimedOut` or `Interrupted`, which are decisions of the caller.
        end: GuestEnd,
        /// For people: the line of the panic, or the last words of the emulator.
        detail: String,
    },
}

/// A spec for unit tests, of files that do not exist.
#[cfg(test)]
pub(crate) fn test_spec() -> crate::spec::MachineSpec {
    use crate::spec::{Emulator, Kernel, MachineSpec, Topology};

    MachineSpec {
        emulator: Emulator {
            command: vec!["/nonexistent/qemu".into()],
            env: Vec::new(),
            version: "10.0.13".into(),
            origin: "PATH".into(),
        },
        kernel: Kernel {
            asked: "7.3".into(),
            release: "7.3.4".into(),
            vmlinux: "/nonexistent/vmlinux".into(),
            bzimage: None,
            id: "00".into(),
            has_sched_ext: true,
        },
        topology: Topology { numa_nodes: 1, llcs: 1, cores_per_llc: 2, threads_per_core: 1 },
        memory_mib: 512,
        kaslr: false,
        kargs: Vec::new(),
    }
}
