//! What every kind of machine has to offer: [`Machine`] while it runs, [`Backend`] to start and save it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ktstr_replay::trace::record::{GuestEnd, Manifest, VcpuRegs};
use ktstr_replay::units::{Cpu, KernelVirt};
use serde_json::Value;

use super::cpu_use::CpuUse;
use super::error::{MachineError, StartError};
use super::limits::HostLimits;
use super::performance::Tuning;
use super::ram::GuestRam;
use super::slots::CpuSlots;
use super::template::{Damage, Template};
use crate::spec::MachineSpec;

/// A running VM.
///
/// It is either *running* or *stopped*. It stops by [`pause`](Machine::pause), at a watch and at its end, and only
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
    /// When a watch fired at the very instant of a pause, the machine stays stopped and the next
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

    /// Wait for something to happen, for at most `timeout`.
    ///
    /// After [`MachineEvent::Ended`] every further call returns it again.
    fn wait_event(&mut self, timeout: Duration) -> Option<MachineEvent>;

    /// Do what the machine does by itself, which [`wait_event`](Machine::wait_event) does as well: a caller that waits for
    /// something else calls this meanwhile, or a machine that stopped for such a thing stays stopped. What happens is
    /// handed over by the next wait.
    fn tend(&mut self);

    /// Which watches this machine can have.
    fn watch_support(&self) -> WatchSupport;

    /// Stop the machine whenever `watch` fires, as [`MachineEvent::Watch`] with this id. The machine must be stopped.
    ///
    /// # Errors
    /// [`MachineError::Unsupported`] for what [`watch_support`](Machine::watch_support) excludes and for an id that is
    /// armed already; otherwise as [`registers`](Machine::registers).
    fn arm(&mut self, id: WatchId, watch: Watch) -> Result<(), MachineError>;

    /// Take the watch with this id away; nothing happens where there is none. The machine must be stopped.
    ///
    /// # Errors
    /// As [`registers`](Machine::registers).
    fn disarm(&mut self, id: WatchId) -> Result<(), MachineError>;

    /// Whether the watch with this id fired without being handed over yet, and the vCPU: at the very instant of a pause, of which some
    /// machines tell alone, or beside another watch. It is handed over by this, then. To be asked by who sees that what is watched
    /// has changed. The machine must be stopped.
    ///
    /// # Errors
    /// As [`registers`](Machine::registers).
    fn untold(&mut self, id: WatchId) -> Result<Option<Cpu>, MachineError> {
        let _ = id;
        Ok(None)
    }

    /// The page frames that were written since this was called last, by the guest or for it: ascending, disjoint. `None` where that is
    /// not known: any may have been. The machine must be stopped.
    fn written(&mut self) -> Option<Vec<Range<u64>>> {
        None
    }

    /// The CPU time of the host that the machine has had so far; `None` where that is not known.
    fn cpu_use(&self) -> Option<CpuUse>;
    /// Breakpoints of the guest's kernel that the machine executed though they were gone, and mended, since the last call.
    fn stale_breakpoints(&mut self) -> Vec<StaleBreakpoint>;

    /// Bytes that the guest wrote to its serial console since the last call. Works after the end, too.
    fn console(&mut self) -> Vec<u8>;

    /// All of the console so far, as text, whether [`console`](Machine::console) took it or not.
    fn console_text(&self) -> String;

    /// The state of CPUs and devices while the machine is stopped, for a template of it. RAM is not in it.
    ///
    /// # Errors
    /// [`MachineError`] when the machine runs, is gone or does not answer.
    fn save(&mut self) -> Result<Vec<u8>, MachineError>;

    /// End the machine now. RAM and console stay readable.
    fn kill(&mut self);
}

/// What can happen to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineEvent {
    /// A watch fired, and the machine is stopped: after the store of a write watch, before the instruction of a
    /// breakpoint.
    Watch {
        /// Which watch.
        id: WatchId,
        /// The vCPU that stored or is about to execute.
        vcpu: Cpu,
    },
    /// The guest ended, or the machine did. Unless the machine's process died, it is stopped, and memory and
    /// registers are as the guest left them.
    Ended {
        /// How. Never `TimedOut` or `Interrupted`, which are decisions of the caller.
        end: GuestEnd,
        /// For people: the line of the panic, or the emulator's last output.
        detail: String,
    },
}

/// Names a watch; whoever arms it chooses the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u32);

impl WatchId {
    /// init's doorbell, which every machine has armed when it is handed out.
    pub const DOORBELL: Self = Self(0);
}

/// What to watch, at a virtual address of whatever address space is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Stores to any of `bytes` bytes at `at`.
    Write {
        /// The first byte.
        at: u64,
        /// How many.
        bytes: u64,
    },
    /// The execution of the instruction at `at`.
    Execute {
        /// Its first byte.
        at: u64,
    },
}

/// A breakpoint (`int3`) that a vCPU executed and nobody in the guest's kernel knew of. The machine made the vCPU execute
/// that instruction again, as it is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleBreakpoint {
    /// The vCPU.
    pub vcpu: Cpu,
    /// Where the instruction is.
    pub at: KernelVirt,
    /// Memory held another instruction by then. Else it still, or again, held the breakpoint; if the kernel does not know
    /// it the second time either, it dies of it.
    pub replaced: bool,
}

/// Which watches a machine can have. The doorbell is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchSupport {
    /// How many can be armed at the same time, of both kinds together.
    pub most: usize,
    /// The largest [`Watch::Write`], in bytes; 0 when there can be none.
    pub write_bytes: u64,
    /// Whether there can be [`Watch::Execute`].
    pub execute: bool,
    /// How long the guest's time is disturbed by a stop at one, beyond the stop itself.
    pub disturbed: Duration,
}

impl WatchSupport {
    /// Whether `watch` can be armed beside `armed` others.
    pub(super) fn check(&self, armed: usize, watch: &Watch) -> Result<(), MachineError> {
        let what = match *watch {
            Watch::Write { bytes: 0, .. } => "watch 0 bytes".into(),
            Watch::Write { bytes, .. } if bytes > self.write_bytes => {
                format!("watch {bytes} bytes (at most {})", self.write_bytes)
            }
            Watch::Execute { .. } if !self.execute => "stop at instructions".into(),
            _ if armed >= self.most => format!("have more than {} watches", self.most),
            _ => return Ok(()),
        };
        Err(MachineError::Unsupported { what })
    }
}

/// A kind of machine, with the spec that it is to carry out.
pub(super) trait Backend {
    /// What it starts.
    type Machine: Machine + 'static;

    /// Whether the spec can be carried out on this host.
    fn check(&self, host: &HostLimits) -> Result<(), StartError>;

    /// Everything that a saved machine depends on, the initramfs and the host's CPU aside: its part of the template's
    /// key.
    fn key(&self) -> Value;

    /// Whether templates of it are made and used.
    fn templates(&self) -> bool {
        true
    }

    /// Put what runs the machine into the manifest, with the taints that this kind of machine brings.
    fn describe(&self, manifest: &mut Manifest);

    /// How many times as long as on hardware the guest's work may take.
    fn slowdown(&self) -> u32;

    /// A machine before its first instruction. It is stopped and its doorbell is armed. With `tuning` all is done for performance that
    /// has to be done while it is made, and said there.
    fn boot(&self, initrd: &[u8], tuning: Option<&mut Tuning>) -> Result<Self::Machine, AttemptError>;

    /// The machine that was saved as `template`, likewise.
    fn restore(
        &self,
        initrd: &[u8],
        template: &Template,
        tuning: Option<&mut Tuning>,
    ) -> Result<Self::Machine, AttemptError>;

    /// The threads that run the vCPUs of a machine, as the kernel numbers them, ascending by vCPU. The machine is stopped.
    fn vcpu_threads(machine: &mut Self::Machine) -> Result<Vec<u32>, MachineError>;

    /// init of a machine that was booted is ready, so that its kernel can be read. The machine runs, before and after.
    fn ready(machine: &mut Self::Machine) -> Result<(), MachineError>;

    /// Keep `slots` until the machine is gone.
    fn hold(machine: &mut Self::Machine, slots: CpuSlots);
}

/// Why one attempt to boot or restore a machine failed.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// The host lacks something, so that every attempt would fail.
    Host(StartError),
    /// The machine did not come up.
    Machine(MachineError),
    /// The template is damaged.
    Template(Damage),
}

impl AttemptError {
    /// The host could not do `what`.
    pub(super) fn host(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Host(StartError::Host { what, source })
    }
}

/// Memory for the guest of `spec`, empty; where it is tuned in huge pages, unless `small` says why not.
pub(super) fn guest_ram(
    spec: &MachineSpec,
    tuning: Option<&mut Tuning>,
    small: Option<&str>,
) -> Result<Arc<GuestRam>, AttemptError> {
    let what = format!("map {} MiB of shared memory", spec.memory_mib);
    let nodes = spec.node_bytes();
    let ram = match tuning {
        Some(tuning) => tuning.memory(&nodes, small),
        None => GuestRam::new(&nodes).map(Arc::new),
    };
    ram.map_err(AttemptError::host(what))
}

/// What every backend's [`key`](Backend::key) is tried with.
#[cfg(test)]
pub(super) mod keys {
    use serde_json::Value;

    use crate::spec::{MachineSpec, test_spec};

    /// What a change changes, and how.
    pub(in crate::machine) type Change = (&'static str, fn(&mut MachineSpec));

    /// Each of these changes, and each that counts for all machines, makes another `key`; that the kernel lies elsewhere does not.
    pub(in crate::machine) fn assert_every_input_changes(
        key: impl Fn(&MachineSpec) -> Value,
        more: &[Change],
    ) {
        let common: [Change; 6] = [
            ("kernel", |s| s.kernel.id = "01".into()),
            ("llcs", |s| s.topology.llcs = 2),
            ("threads", |s| (s.topology.cores_per_llc, s.topology.threads_per_core) = (1, 2)),
            ("memory", |s| s.memory_mib = 1024),
            ("kaslr", |s| s.kaslr = true),
            ("command line", |s| s.kargs.push("quiet".into())),
        ];
        let base = key(&test_spec());
        assert_eq!(base, key(&test_spec()));
        let mut seen = vec![base.clone()];
        for (what, change) in more.iter().chain(&common) {
            let mut spec = test_spec();
            change(&mut spec);
            let key = key(&spec);
            assert!(!seen.contains(&key), "{what} does not change the key");
            seen.push(key);
        }
        let mut moved = test_spec();
        moved.kernel.vmlinux = "/elsewhere/vmlinux".into();
        assert_eq!(key(&moved), base);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Watch, WatchSupport};

    #[test]
    fn what_a_machine_cannot_watch_is_said() {
        let at = 0x1000;
        let support = WatchSupport { most: 4, write_bytes: 8, execute: false, disturbed: Duration::ZERO };
        support.check(3, &Watch::Write { at, bytes: 8 }).unwrap();
        let refused = [
            (0, Watch::Write { at, bytes: 0 }, "this machine cannot watch 0 bytes"),
            (0, Watch::Write { at, bytes: 9 }, "this machine cannot watch 9 bytes (at most 8)"),
            (0, Watch::Execute { at }, "this machine cannot stop at instructions"),
            (4, Watch::Write { at, bytes: 8 }, "this machine cannot have more than 4 watches"),
        ];
        for (armed, watch, text) in refused {
            assert_eq!(support.check(armed, &watch).unwrap_err().to_string(), text);
        }
    }
}
