//! Starting and saving the emulated machine.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ktstr_replay::trace::record::Manifest;
use ktstr_replay::trace::record::manifest::PerformancePart;
use serde_json::{Value, json};

use super::args::{Inherited, build};
use super::gdb::Gdb;
use super::process::{Process, inherited_path};
use super::qmp::Qmp;
use super::regs::RegLayout;
use super::saved::Saved;
use super::stale::Places;
use super::vm::{COMMAND_TIMEOUT, Connections, Vm};
use super::{kaslr, limits};
use crate::machine::error::{MachineError, StartError};
use crate::machine::interface::{AttemptError, Backend, Machine, guest_ram};
use crate::machine::limits::HostLimits;
use crate::machine::performance::Tuning;
use crate::machine::ram::{GuestRam, memfd};
use crate::machine::served::Patience;
use crate::machine::slots::CpuSlots;
use crate::machine::template::Template;
use crate::spec::{Emulator, MachineSpec};

/// How long a fresh emulator may take to open its monitor (measured: 50 to 230 ms).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The verifier's and the compiler's work on an emulated CPU, against the host's own: 5 to 10 times, and more where
/// several tests share the host.
const SLOWDOWN: u32 = 10;

/// Why an emulated machine has no huge pages.
const NO_HUGE_PAGES: &str = "captures of an emulated machine find what the guest has touched by the holes of its memory's file, and one of huge pages has none";
/// Why it cannot be kept from leaving the guest.
const NO_EXITS: &str = "an emulated CPU has no exits";

/// QEMU with TCG, for the machine of `spec`.
#[derive(Clone, Copy, Debug)]
pub(in crate::machine) struct Qemu<'a> {
    pub(in crate::machine) spec: &'a MachineSpec,
    pub(in crate::machine) emulator: &'a Emulator,
}

impl Backend for Qemu<'_> {
    type Machine = Vm;

    fn check(&self, host: &HostLimits) -> Result<(), StartError> {
        limits::check(self.spec, host)
    }

    fn key(&self) -> Value {
        // The arguments as they would be, except for what differs from run to run and place to place: numbers of
        // file descriptors and the kernel's path, for which its identity stands.
        let fds = Inherited {
            ram: vec![0; self.spec.topology.numa_nodes as usize],
            initrd: 0,
            console: 0,
            qmp: 0,
            gdb: 0,
        };
        let args = build(self.spec, Path::new(&self.spec.boot_image_id()), &fds, false);
        json!({
            "emulator": {
                "version": self.emulator.version,
                "command": self.emulator.command,
                "env": self.emulator.env,
            },
            "args": args.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>(),
        })
    }

    fn describe(&self, manifest: &mut Manifest) {
        let machine = &mut manifest.machine;
        machine.kind = String::from("qemu");
        machine.version = format!("QEMU {} ({})", self.emulator.version, self.emulator.origin);
        manifest.taints.push(String::from(Manifest::EMULATED));
    }

    fn slowdown(&self) -> u32 {
        SLOWDOWN
    }

    fn boot(&self, initrd: &[u8], mut tuning: Option<&mut Tuning>) -> Result<Vm, AttemptError> {
        let mut ram = self.ram(tuning.as_deref_mut())?;
        let kernel = match kaslr::wanted(self.spec).then(|| kaslr::place(self.spec, &ram)) {
            Some(Ok(image)) => Some(image),
            Some(Err(_)) => {
                // The kernel's own loader can do it, a second later. It is given RAM as on a real machine: empty.
                if let Some(tuning) = tuning.as_deref_mut() {
                    tuning.begin();
                }
                ram = self.ram(tuning)?;
                None
            }
            None => None,
        };
        self.spawn(&ram, kernel.as_deref(), initrd, None)?.connect().map_err(AttemptError::Machine)
    }

    fn restore(
        &self,
        initrd: &[u8],
        template: &Template,
        tuning: Option<&mut Tuning>,
    ) -> Result<Vm, AttemptError> {
        let ram = self.ram(tuning)?;
        let kernel = kaslr::wanted(self.spec).then(|| kaslr::for_restore(self.spec)).and_then(Result::ok);
        let saved =
            Saved::decode(&template.state).map_err(|why| AttemptError::Template(template.damaged(why)))?;
        let starting = self.spawn(&ram, kernel.as_deref(), initrd, Some(saved.state))?;
        // The emulator comes up meanwhile; it does not look at RAM before it is told to load the state.
        template.load(&ram).map_err(AttemptError::Template)?;
        let mut machine = starting.connect().map_err(AttemptError::Machine)?;
        if let Some(places) = saved.places {
            machine.mend_stale_breakpoints(places).map_err(AttemptError::Machine)?;
        }
        Ok(machine)
    }

    fn vcpu_threads(machine: &mut Vm) -> Result<Vec<u32>, MachineError> {
        machine.vcpu_threads()
    }

    fn ready(machine: &mut Vm) -> Result<(), MachineError> {
        // Of a kernel that cannot be read, every capture says so.
        Places::find(&*machine.ram()).map_or(Ok(()), |places| {
            machine.pause()?;
            machine.mend_stale_breakpoints(places)?;
            machine.resume().map(|_| ())
        })
    }

    fn hold(machine: &mut Vm, slots: CpuSlots) {
        machine.hold(slots);
    }
}

impl Qemu<'_> {
    /// Memory for the guest. What of performance mode is for KVM alone is refused where it is tuned.
    fn ram(&self, mut tuning: Option<&mut Tuning>) -> Result<Arc<GuestRam>, AttemptError> {
        if let Some(tuning) = tuning.as_deref_mut() {
            for what in [PerformancePart::HALT_POLL, PerformancePart::HALTS, PerformancePart::PAUSES] {
                tuning.note(what, Err(NO_EXITS.to_owned()));
            }
        }
        guest_ram(self.spec, tuning, Some(NO_HUGE_PAGES))
    }

    /// Start an emulator: the VM is stopped before its first instruction, or waits for its saved `state`. It boots
    /// `kernel`, if not the file that the spec names.
    fn spawn(
        &self,
        ram: &Arc<GuestRam>,
        kernel: Option<&[u8]>,
        initrd: &[u8],
        state: Option<&[u8]>,
    ) -> Result<Starting, AttemptError> {
        let failed = |what: &'static str| AttemptError::host(what);
        let initrd = memory_file("ktstr-initrd", initrd).map_err(failed("put the initramfs into memory"))?;
        let kernel = kernel.map(|image| memory_file("ktstr-kernel", image)).transpose();
        let kernel = kernel.map_err(failed("put the kernel into memory"))?;
        let state_file = memory_file("ktstr-state", state.unwrap_or_default());
        let state_file = state_file.map_err(failed("put the state into memory"))?;
        let console = memfd("ktstr-console", 0).map_err(failed("make the console's file"))?;
        let stderr = memfd("ktstr-stderr", 0).map_err(failed("make the emulator's log"))?;
        let (qmp, qmp_theirs) = UnixStream::pair().map_err(failed("make the QMP socket"))?;
        let (gdb, gdb_theirs) = UnixStream::pair().map_err(failed("make the gdb socket"))?;
        let inherited = Inherited {
            ram: ram.nodes().iter().map(|n| n.file.as_raw_fd()).collect(),
            initrd: initrd.as_raw_fd(),
            console: console.as_raw_fd(),
            qmp: qmp_theirs.as_raw_fd(),
            gdb: gdb_theirs.as_raw_fd(),
        };
        let mut fds = inherited.ram.clone();
        fds.extend([
            inherited.initrd,
            inherited.console,
            inherited.qmp,
            inherited.gdb,
            state_file.as_raw_fd(),
        ]);
        fds.extend(kernel.as_ref().map(AsRawFd::as_raw_fd));
        let image = kernel.as_ref().map(|file| inherited_path(file.as_raw_fd()));
        let image = image.as_deref().unwrap_or(self.spec.boot_image());
        let args = build(self.spec, image, &inherited, state.is_some());
        let program = self.emulator.command.first().map_or_else(String::new, |p| p.display().to_string());
        let process = Process::spawn(self.emulator, &args, fds, stderr)
            .map_err(AttemptError::host(format!("start the emulator {program}")))?;
        Ok(Starting {
            process,
            qmp,
            gdb,
            ram: Arc::clone(ram),
            console,
            state_file,
            vcpus: self.spec.topology.cpus(),
            restore: state.is_some(),
        })
    }
}

fn memory_file(name: &str, bytes: &[u8]) -> io::Result<File> {
    let mut file = memfd(name, 0)?;
    file.write_all(bytes)?;
    Ok(file)
}

/// An emulator that was started and that nobody has connected to yet: the caller can work while it comes up.
#[derive(Debug)]
struct Starting {
    process: Process,
    qmp: UnixStream,
    gdb: UnixStream,
    ram: Arc<GuestRam>,
    console: File,
    state_file: File,
    vcpus: u32,
    restore: bool,
}

impl Starting {
    /// Connect to it, load the saved state if there is one, arm the doorbell. The VM is stopped.
    fn connect(self) -> Result<Vm, MachineError> {
        let Self { process, qmp, gdb, ram, console, state_file, vcpus, restore } = self;
        let connected = (|| {
            let patience = |limit| Patience { limit, process: Some(process.id()) };
            let mut qmp = Qmp::connect(qmp, patience(CONNECT_TIMEOUT))?;
            if restore {
                qmp.load_state(&state_file)?;
            }
            let mut gdb = Gdb::connect(gdb, patience(COMMAND_TIMEOUT))?;
            let layout = RegLayout::of(&mut gdb)?;
            Ok(Connections { qmp, gdb, layout })
        })();
        let connections = match connected {
            Ok(connections) => connections,
            Err(MachineError::Died { .. }) => {
                return Err(MachineError::Died { stderr: process.stderr_tail() });
            }
            Err(other) => return Err(other),
        };
        Vm::new(process, connections, ram, console, state_file, vcpus)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::Qemu;
    use crate::machine::interface::Backend;
    use crate::machine::interface::keys::assert_every_input_changes;
    use crate::spec::{BackendSpec, Emulator, MachineSpec};

    fn emulator(spec: &mut MachineSpec) -> &mut Emulator {
        match &mut spec.backend {
            BackendSpec::Qemu(emulator) => emulator,
            other => panic!("{other:?}"),
        }
    }

    fn key(spec: &MachineSpec) -> Value {
        let BackendSpec::Qemu(emulator) = &spec.backend else { panic!("{:?}", spec.backend) };
        Qemu { spec, emulator }.key()
    }

    #[test]
    fn every_input_changes_the_key_and_the_place_of_the_kernel_does_not() {
        assert_every_input_changes(
            key,
            &[
                ("emulator version", |s| emulator(s).version = "10.1".into()),
                ("emulator command", |s| emulator(s).command.push("-L".into())),
                ("emulator environment", |s| emulator(s).env.push(("A".into(), "b".into()))),
            ],
        );
    }
}
