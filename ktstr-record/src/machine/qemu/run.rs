//! The emulated machine as a [`Machine`].

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest_init::layout::DOORBELL_PAGE;
use ktstr_replay::trace::record::{GuestEnd, VcpuRegs};
use serde_json::Value;

use super::args::{Inherited, build, node_bytes};
use super::gdb::{Gdb, Stop};
use super::process::Process;
use super::qmp::{Event, Qmp};
use super::regs::RegLayout;
use super::state;
use crate::machine::files::{inherited_path, memfd, read_from, tail};
use crate::machine::slots::Slots;
use crate::machine::waker::{Wakeable, wait_readable};
use crate::machine::{GuestRam, Machine, MachineError, MachineEvent, Waker};
use crate::spec::MachineSpec;

/// How long the emulator may take to answer: it answers in under 10 ms unless the host is starved.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a fresh emulator may take to open its monitor (measured: 50 to 230 ms).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// The monitor tells of the guest's end right after the gdbstub has.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// What is shown of the console in errors.
const CONSOLE_TAIL_BYTES: u64 = 4000;
/// How the kernel begins its last words (`kernel/panic.c`).
const PANIC_MARK: &str = "Kernel panic - not syncing";

/// An emulator and its VM.
#[derive(Debug)]
pub(in crate::machine) struct Qemu {
    // First, so that it is dropped first: nothing below may go while the emulator uses it.
    process: Process,
    qmp: Qmp,
    gdb: Gdb,
    layout: RegLayout,
    ram: Arc<GuestRam>,
    console: File,
    console_read: u64,
    state_file: File,
    vcpus: u32,
    wakeable: Wakeable,
    run: Run,
    /// The vCPU that rang while the machine was being paused, not yet handed over.
    rung: Option<u32>,
    /// The host's CPUs, until the emulator is gone.
    slots: Option<Slots>,
    /// What the doorbell page held when it was rung last.
    last_ring: u64,
    ended: Option<MachineEvent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    Running,
    Stopped,
}

/// Files and sockets to give to an emulator, before it is started.
pub(in crate::machine) struct Parts<'a> {
    /// RAM, all hole for a boot; the saved pages may still be on their way for a restore.
    pub ram: Arc<GuestRam>,
    /// The image to boot, if not the file that the spec names.
    pub kernel: Option<&'a [u8]>,
    /// The initramfs archive.
    pub initrd: &'a [u8],
    /// The saved state of CPUs and devices, for a restore.
    pub state: Option<&'a [u8]>,
}

impl Qemu {
    /// Memory for the guest of `spec`, all hole.
    pub(in crate::machine) fn ram(spec: &MachineSpec) -> std::io::Result<Arc<GuestRam>> {
        GuestRam::new(&node_bytes(spec)).map(Arc::new)
    }

    /// Start an emulator; the VM is stopped before its first instruction, or waits for its saved state.
    pub(in crate::machine) fn spawn(spec: &MachineSpec, parts: Parts<'_>) -> Result<Starting, MachineError> {
        let io = |what: &str| {
            let what = what.to_owned();
            move |source| MachineError::Io { what, source }
        };
        let file = |name: &str, bytes: &[u8]| {
            let mut file = memfd(name, 0)?;
            file.write_all(bytes).map(|()| file)
        };
        let initrd = file("ktstr-initrd", parts.initrd).map_err(io("put the initramfs into memory"))?;
        let kernel = match parts.kernel {
            None => None,
            Some(image) => Some(file("ktstr-kernel", image).map_err(io("put the kernel into memory"))?),
        };
        let state_file =
            file("ktstr-state", parts.state.unwrap_or_default()).map_err(io("put the state into memory"))?;
        let console = memfd("ktstr-console", 0).map_err(io("make the console's file"))?;
        let stderr = memfd("ktstr-stderr", 0).map_err(io("make the emulator's log"))?;
        let (qmp, qmp_theirs) = UnixStream::pair().map_err(io("make the QMP socket"))?;
        let (gdb, gdb_theirs) = UnixStream::pair().map_err(io("make the gdb socket"))?;
        let wakeable = Wakeable::new().map_err(io("make the waker"))?;
        let inherited = Inherited {
            ram: parts.ram.nodes().iter().map(|n| n.file.as_raw_fd()).collect(),
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
        let image = image.as_deref().unwrap_or(spec.boot_image());
        let args = build(spec, image, &inherited, parts.state.is_some());
        let program = spec.emulator.command.first().map_or_else(String::new, |p| p.display().to_string());
        let process = Process::spawn(&spec.emulator, &args, fds, stderr)
            .map_err(io(&format!("start the emulator {program}")))?;
        Ok(Starting {
            process,
            qmp,
            gdb,
            ram: parts.ram,
            console,
            state_file,
            vcpus: spec.topology.cpus(),
            wakeable,
            restore: parts.state.is_some(),
        })
    }

    /// Save the state of CPUs and devices of the stopped machine, and return it. RAM is not in it.
    pub(in crate::machine) fn save_state(&mut self) -> Result<Vec<u8>, MachineError> {
        state::save(&mut self.qmp, &self.state_file).map_err(|e| self.explain(e))?;
        let state = read_from(&self.state_file, 0)
            .map_err(|source| MachineError::Io { what: "read the saved state".into(), source })?;
        Ok(state)
    }

    /// Hold `slots` as long as the emulator lives.
    pub(in crate::machine) fn hold(&mut self, slots: Slots) {
        self.slots = Some(slots);
    }

    /// The end of the console, for errors.
    pub(in crate::machine) fn console_tail(&self) -> String {
        tail(&self.console, CONSOLE_TAIL_BYTES)
    }

    /// All of the console so far.
    pub(in crate::machine) fn console_text(&self) -> String {
        String::from_utf8_lossy(&read_from(&self.console, 0).unwrap_or_default()).into_owned()
    }

    /// Give a death its last words.
    fn explain(&self, error: MachineError) -> MachineError {
        match error {
            MachineError::Died { .. } => MachineError::Died { stderr: self.process.stderr_tail() },
            other => other,
        }
    }

    /// Take note of a stop. Returns the vCPU that rang the doorbell, if that is what stopped it.
    fn stopped(&mut self, stop: Stop) -> Result<Option<u32>, MachineError> {
        self.run = Run::Stopped;
        if stop.is_end() {
            self.await_end()?;
        }
        let Some(vcpu) = stop.watched(DOORBELL_PAGE) else { return Ok(None) };
        let value = self.gdb.read_u64(&[vcpu], DOORBELL_PAGE)?;
        self.last_ring = value.first().copied().flatten().unwrap_or_default();
        Ok(Some(vcpu))
    }

    /// A store to the doorbell at the very instant of a pause stops its vCPU, but the emulator reports the pause
    /// alone (1 of 13 pauses, when each falls within a millisecond of a store). Such a vCPU is in user mode and sees
    /// a new value in the doorbell page.
    fn look_for_ring(&mut self) -> Result<(), MachineError> {
        let user: Vec<u32> =
            self.registers()?.iter().filter(|r| r.segments[0] & 3 == 3).map(|r| r.cpu).collect();
        let values = self.gdb.read_u64(&user, DOORBELL_PAGE)?;
        let rung = user.into_iter().zip(values).find(|(_, value)| value.is_some_and(|v| v != self.last_ring));
        let Some((vcpu, value)) = rung else { return Ok(()) };
        self.last_ring = value.unwrap_or_default();
        self.rung = Some(vcpu);
        // The emulator still remembers the hit and would report the next one too late. A step of that vCPU alone makes
        // it report this one.
        self.gdb.step(vcpu)
    }

    /// The events of QMP that have arrived; remembers the guest's end.
    fn drain_qmp(&mut self) -> Result<(), MachineError> {
        while let Some(event) = self.qmp.event()? {
            if self.ended.is_none() && event.name == "SHUTDOWN" {
                self.ended = Some(self.shutdown(&event));
            }
        }
        Ok(())
    }

    fn shutdown(&self, event: &Event) -> MachineEvent {
        let reason = event.data.get("reason").and_then(Value::as_str).unwrap_or("no reason");
        let console = self.console_text();
        let panic = console.lines().rev().find(|line| line.contains(PANIC_MARK));
        let (end, detail) = match (reason, panic) {
            (_, Some(line)) => (GuestEnd::Panicked, line.trim().to_owned()),
            ("guest-shutdown", None) => (GuestEnd::PoweredOff, reason.to_owned()),
            ("guest-reset", None) => (GuestEnd::Reset, reason.to_owned()),
            (other, None) => (GuestEnd::MachineDied, format!("the emulator ended the guest: {other}")),
        };
        MachineEvent::Ended { end, detail }
    }

    /// After a stop that no one asked for: the monitor says why.
    fn await_end(&mut self) -> Result<(), MachineError> {
        let deadline = Instant::now() + END_TIMEOUT;
        loop {
            self.drain_qmp()?;
            if self.ended.is_some() {
                return Ok(());
            }
            let [told] = wait_readable([self.qmp.as_fd()], deadline).map_err(poll_error)?;
            if !told {
                let answer = "a stop without a reason".into();
                return Err(MachineError::Protocol { what: "gdb's c".into(), answer });
            }
        }
    }

    /// Wait for one thing; `None` when the time is over or the waker spoke.
    fn wait(&mut self, deadline: Instant) -> Result<Option<MachineEvent>, MachineError> {
        loop {
            self.drain_qmp()?;
            if let Some(ended) = &self.ended {
                let ended = ended.clone();
                if self.run == Run::Running {
                    // The stub reports the stop, too, and answers nothing before that is read.
                    if let Some(stop) = self.gdb.stop(Instant::now() + END_TIMEOUT)? {
                        self.stopped(stop)?;
                    }
                }
                return Ok(Some(ended));
            }
            if let Some(vcpu) = self.rung.take() {
                return Ok(Some(MachineEvent::Doorbell { vcpu }));
            }
            let watched = [self.wakeable.as_fd(), self.gdb.as_fd(), self.qmp.as_fd()];
            let [woken, gdb, qmp] = wait_readable(watched, deadline).map_err(poll_error)?;
            if gdb {
                if let Some(stop) = self.gdb.stop(Instant::now())? {
                    match self.stopped(stop)? {
                        Some(vcpu) => return Ok(Some(MachineEvent::Doorbell { vcpu })),
                        None if self.ended.is_none() => {
                            let answer = "a stop that was not asked for".into();
                            return Err(MachineError::Protocol { what: "gdb's c".into(), answer });
                        }
                        None => {}
                    }
                }
            } else if woken {
                self.wakeable.clear();
                return Ok(None);
            } else if !qmp {
                return Ok(None);
            }
        }
    }

    fn go_on(&mut self) -> Result<(), MachineError> {
        self.gdb.go_on()?;
        self.run = Run::Running;
        Ok(())
    }

    /// The emulator is gone or out of order: end it and say so from now on.
    fn failed(&mut self, error: MachineError) -> MachineEvent {
        let status = match error {
            MachineError::Died { .. } => self.process.status(),
            _ => None,
        };
        let error = self.explain(error);
        self.process.kill();
        self.slots = None;
        let detail = match status {
            Some(status) => format!("{error} ({status})"),
            None => error.to_string(),
        };
        let ended = MachineEvent::Ended { end: GuestEnd::MachineDied, detail };
        self.ended = Some(ended.clone());
        ended
    }
}

impl Machine for Qemu {
    fn ram(&self) -> Arc<GuestRam> {
        Arc::clone(&self.ram)
    }

    fn pause(&mut self) -> Result<Duration, MachineError> {
        if self.run == Run::Stopped {
            return Ok(Duration::ZERO);
        }
        let begun = Instant::now();
        let stop = (|| {
            self.gdb.interrupt()?;
            let silent = || MachineError::Silent { what: "a stop".into(), after: COMMAND_TIMEOUT };
            self.gdb.stop(begun + COMMAND_TIMEOUT)?.ok_or_else(silent)
        })();
        let stop = stop.map_err(|e| self.explain(e))?;
        match self.stopped(stop).map_err(|e| self.explain(e))? {
            Some(vcpu) => self.rung = Some(vcpu),
            None => self.look_for_ring().map_err(|e| self.explain(e))?,
        }
        Ok(begun.elapsed())
    }

    fn resume(&mut self) -> Result<Duration, MachineError> {
        if self.run == Run::Running || self.rung.is_some() {
            return Ok(Duration::ZERO);
        }
        if self.ended.is_some() {
            return Err(MachineError::Ended);
        }
        let begun = Instant::now();
        self.go_on().map_err(|e| self.explain(e))?;
        Ok(begun.elapsed())
    }

    fn registers(&mut self) -> Result<Vec<VcpuRegs>, MachineError> {
        if self.run == Run::Running {
            return Err(MachineError::Running);
        }
        let files = self.gdb.registers(self.vcpus).map_err(|e| self.explain(e))?;
        (0..).zip(&files).map(|(cpu, file)| self.layout.decode(cpu, file)).collect()
    }

    fn wait_event(&mut self, timeout: Duration) -> Option<MachineEvent> {
        if let (Some(ended), Run::Stopped) = (&self.ended, self.run) {
            return Some(ended.clone());
        }
        match self.wait(Instant::now() + timeout) {
            Ok(event) => event,
            Err(error) => {
                self.run = Run::Stopped;
                Some(self.failed(error))
            }
        }
    }

    fn waker(&self) -> Waker {
        self.wakeable.waker()
    }

    fn console(&mut self) -> Vec<u8> {
        let bytes = read_from(&self.console, self.console_read).unwrap_or_default();
        self.console_read += bytes.len() as u64;
        bytes
    }

    fn kill(&mut self) {
        self.process.kill();
        self.slots = None;
        if self.ended.is_none() {
            let detail = String::from("the machine was killed");
            self.ended = Some(MachineEvent::Ended { end: GuestEnd::MachineDied, detail });
        }
        self.run = Run::Stopped;
    }
}

/// An emulator that was started and has not been spoken to: the time that it takes to come up can be used.
#[derive(Debug)]
pub(in crate::machine) struct Starting {
    process: Process,
    qmp: UnixStream,
    gdb: UnixStream,
    ram: Arc<GuestRam>,
    console: File,
    state_file: File,
    vcpus: u32,
    wakeable: Wakeable,
    restore: bool,
}

impl Starting {
    /// Connect to it, load the saved state if there is one, arm the doorbell. The VM is stopped.
    pub(in crate::machine) fn connect(self) -> Result<Qemu, MachineError> {
        let Self { process, qmp, gdb, ram, console, state_file, vcpus, wakeable, restore } = self;
        let connected = (|| {
            let mut qmp = Qmp::connect(qmp, CONNECT_TIMEOUT)?;
            if restore {
                state::load(&mut qmp, &state_file)?;
            }
            let mut gdb = Gdb::connect(gdb, COMMAND_TIMEOUT)?;
            let layout = RegLayout::of(&mut gdb)?;
            gdb.watch_writes(DOORBELL_PAGE, 8)?;
            Ok((qmp, gdb, layout))
        })();
        let (qmp, gdb, layout) = match connected {
            Ok(connected) => connected,
            Err(MachineError::Died { .. }) => {
                return Err(MachineError::Died { stderr: process.stderr_tail() });
            }
            Err(other) => return Err(other),
        };
        Ok(Qemu {
            process,
            qmp,
            gdb,
            layout,
            ram,
            console,
            console_read: 0,
            state_file,
            vcpus,
            wakeable,
            run: Run::Stopped,
            rung: None,
            slots: None,
            last_ring: 0,
            ended: None,
        })
    }
}

fn poll_error(source: std::io::Error) -> MachineError {
    MachineError::Io { what: "wait for the emulator".into(), source }
}
