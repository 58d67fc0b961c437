//! Machines: a VM that runs a kernel, stops and goes on when told, and says what happens to it.
//!
//! ```text
//! start()     checks the host, waits for its CPUs, restores a template or boots     start.rs
//!   limits    what the host has                                                     limits.rs
//!   served    limits of the time in which the host runs a machine                   served.rs
//!   host_cpus its CPUs, and what they share                                         host_cpus.rs
//!   placing   which of them the vCPUs of a machine in performance mode get          placing.rs
//!   slots     host CPUs shared among parallel VMs                                   slots.rs
//!   performance  the parts of performance mode                                      performance.rs
//!   template  a VM saved when it was ready for its first job, or had its scheduler  template.rs
//!   attached  saving the latter                                                     attached.rs
//! Machine     what every running machine can do                                     interface.rs
//! Backend     what every kind of machine does to start and save one                 interface.rs
//!   qemu      the emulated machine: arguments, process, QMP, gdbstub                qemu/
//!   kvm       our own VMM                                                           kvm/
//! choice      which kind runs tests on this host                                    choice.rs
//! GuestRam    the guest's RAM, mapped by what runs the machine and by us            ram.rs
//! ChannelRam  the channel memory in it                                              ram.rs
//! ```

mod error;
mod cpu_use;
mod ram;
mod limits;
mod served;
mod host_cpus;
mod placing;
mod slots;
mod performance;
mod template;
mod interface;
mod attached;
mod qemu;
mod kvm;
mod choice;
mod start;
#[cfg(test)]
pub(crate) mod testing;

use std::path::Path;

use ktstr_replay::trace::record::Manifest;

use crate::spec::{BackendSpec, MachineSpec};
use interface::Backend;

pub use attached::{AttachedTemplate, NotSaved};
pub use choice::{MachineChoice, MachineKind};
pub use cpu_use::{CpuUse, ThreadUse};
pub use error::{MachineError, StartError};
pub use interface::{Machine, MachineEvent, StaleBreakpoint, Watch, WatchId, WatchSupport};
pub(crate) use kvm::tiny_kernel;
pub use kvm::{KvmProbe, KvmSelfTest, SelfTestOutcome, boot, selftest_kvm};
pub use ram::{ChannelRam, GuestRam};
pub(crate) use served::{Lateness, Look, MOST_TIMES, ServedLimit, Withheld};
pub(crate) use start::kernel_fault;
pub use start::{Start, StartKind, StartPolicy, Started};

/// The kinds of machines, one row for each: evaluates `$body` with `$backend` as the one that `$spec` names.
macro_rules! with_backend {
    ($spec:expr, |$backend:ident| $body:expr) => {
        match &$spec.backend {
            BackendSpec::Qemu(emulator) => {
                let $backend = qemu::Qemu { spec: $spec, emulator };
                $body
            }
            BackendSpec::Kvm(kvm) => {
                let $backend = kvm::KvmBackend { spec: $spec, kvm };
                $body
            }
        }
    };
}

/// Start the machine of `spec` with `init` as its only program, up to the point where init waits for its job. It runs.
///
/// # Errors
/// [`StartError`], before anything is started if the spec cannot be carried out here.
pub fn start(
    spec: &MachineSpec,
    init: &[u8],
    cache_dir: &Path,
    policy: StartPolicy,
) -> Result<(Box<dyn Machine>, Start), StartError> {
    start_for(spec, init, cache_dir, policy, None).map(|started| (started.machine, started.start))
}

/// As [`start`], for a job whose scheduler has this digest ([`PackedJob::scheduler_digest`]): where there is a template of
/// the machine with that scheduler enabled, init waits for the test alone.
///
/// [`PackedJob::scheduler_digest`]: crate::job::PackedJob::scheduler_digest
///
/// # Errors
/// As [`start`].
pub fn start_for(
    spec: &MachineSpec,
    init: &[u8],
    cache_dir: &Path,
    policy: StartPolicy,
    scheduler: Option<&str>,
) -> Result<Started, StartError> {
    with_backend!(spec, |backend| start::start(&backend, spec, init, cache_dir, policy, scheduler))
}

/// Whether this host can carry the machine of `spec` when nothing else runs on it.
///
/// # Errors
/// [`StartError`], as [`start`] would give it before anything is started.
pub fn carries(spec: &MachineSpec) -> Result<(), StartError> {
    with_backend!(spec, |backend| backend.check(&limits::HostLimits::capacity()))?;
    match spec.performance {
        true => start::placing(spec, &host_cpus::HostCpus::read()).map(|_| ()),
        false => Ok(()),
    }
}

/// How many times as long as on hardware the guest's work may take on the machine of `spec`: a factor for limits that
/// nobody has set.
#[must_use]
pub fn slowdown(spec: &MachineSpec) -> u32 {
    with_backend!(spec, |backend| backend.slowdown())
}

/// Put the machine of `spec` into the manifest, with the taints that its kind brings.
pub(crate) fn describe(spec: &MachineSpec, manifest: &mut Manifest) {
    manifest.machine.topology = spec.topology.to_string();
    manifest.machine.cpus = spec.topology.cpus();
    manifest.machine.memory_mib = spec.memory_mib;
    manifest.machine.host_cpus = limits::host_cpus();
    with_backend!(spec, |backend| backend.describe(manifest));
}
