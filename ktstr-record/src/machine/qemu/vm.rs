//! The emulated machine while it runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest_init::layout::DOORBELL_PAGE;
use ktstr_replay::trace::record::{GuestEnd, VcpuRegs};
use ktstr_replay::units::Cpu;
use serde_json::Value;

use super::gdb::{Gdb, StopReply};
use super::nops;
use super::process::{Process, read_from};
use super::qmp::{Event, Qmp};
use super::regs::RegLayout;
use super::saved::Saved;
use super::socket::wait_readable;
use super::stale::{Mender, Places};
use crate::machine::cpu_use::CpuUse;
use crate::machine::error::MachineError;
use crate::machine::interface::{Machine, MachineEvent, StaleBreakpoint, Watch, WatchId, WatchSupport};
use crate::machine::ram::GuestRam;
use crate::machine::slots::CpuSlots;

/// How long the emulator may take to answer, of the time in which the host runs it: it answers in under 10 ms.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// The monitor tells of the guest's end right after the gdbstub has.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Begins the line in which the kernel says why it panics (`kernel/panic.c`).
const PANIC_MARK: &str = "Kernel panic - not syncing";
/// The emulator compares every store to a watched page with all watches, and has no limits of its own.
const WATCHES: WatchSupport =
    WatchSupport { most: 64, write_bytes: 4096, execute: true, disturbed: Duration::from_micros(800) };
/// How long the guest runs slowly after a stop at a breakpoint whose emulator then forgets what it has translated: longer than that takes
/// to be translated again on a host whose CPUs five others want.
const TRANSLATING: Duration = Duration::from_millis(25);
/// The first release that does not (`gdb_vm_state_change` in `gdbstub/system.c`).
const KEEPS_TRANSLATIONS: (u64, u64) = (10, 2);
/// The instruction that waits for an interrupt.
const HLT: u8 = 0xf4;
/// The doorbell. It is a user address, of the process that maps the page there.
const DOORBELL: Watch = Watch::Write { at: DOORBELL_PAGE, bytes: 8 };

/// An emulator and its VM.
#[derive(Debug)]
pub(in crate::machine) struct Vm {
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
    state: VmState,
    /// What is armed, the doorbell among them.
    watches: BTreeMap<WatchId, Watch>,
    /// Something beside the doorbell was ever armed.
    has_watched: bool,
    /// A watch that fired while nobody waited for it, not yet handed over.
    fired: Option<Fired>,
    /// The breakpoint that stopped the machine last, and its vCPU, which still has to execute that instruction.
    at_breakpoint: Option<(u64, Cpu)>,
    /// Once the kernel can be read.
    mender: Option<Mender>,
    /// The host's CPUs, until the emulator is gone.
    slots: Option<CpuSlots>,
    /// What the doorbell page held when it was rung last.
    last_ring: u64,
    ended: Option<MachineEvent>,
    /// What it had of the host's CPUs before it was ended for a fault.
    last_use: Option<CpuUse>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VmState {
    Running,
    Stopped,
}

/// Why the VM stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopCause {
    /// Because it was told to, or at its end.
    Plain,
    /// A watch fired.
    Fired(Fired),
    /// For what the machine does by itself, and has done.
    Internal,
}

/// A watch that fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fired {
    id: WatchId,
    vcpu: Cpu,
}

/// The two ways to speak to an emulator, and how it describes registers.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) qmp: Qmp,
    pub(super) gdb: Gdb,
    pub(super) layout: RegLayout,
}

impl Vm {
    /// A VM that is stopped, with its doorbell armed.
    pub(super) fn new(
        process: Process,
        connections: Connections,
        ram: Arc<GuestRam>,
        console: File,
        state_file: File,
        vcpus: u32,
    ) -> Result<Self, MachineError> {
        let Connections { qmp, gdb, layout } = connections;
        let mut vm = Self {
            process,
            qmp,
            gdb,
            layout,
            ram,
            console,
            console_read: 0,
            state_file,
            vcpus,
            state: VmState::Stopped,
            watches: BTreeMap::new(),
            has_watched: false,
            fired: None,
            at_breakpoint: None,
            mender: None,
            slots: None,
            last_ring: 0,
            ended: None,
            last_use: None,
        };
        vm.arm(WatchId::DOORBELL, DOORBELL)?;
        Ok(vm)
    }

    /// Hold `slots` as long as the emulator lives.
    pub(super) fn hold(&mut self, slots: CpuSlots) {
        self.slots = Some(slots);
    }

    /// The threads that emulate its vCPUs, ascending by vCPU.
    pub(super) fn vcpu_threads(&mut self) -> Result<Vec<u32>, MachineError> {
        let answer = self.qmp.command("query-cpus-fast", serde_json::json!({}), COMMAND_TIMEOUT);
        let answer = answer.map_err(|error| self.explain(error))?;
        let of = |cpu: &Value| {
            let number = |name: &str| cpu.get(name)?.as_u64().and_then(|number| u32::try_from(number).ok());
            Some((number("cpu-index")?, number("thread-id")?))
        };
        let threads: Option<Vec<_>> = answer.as_array().and_then(|cpus| cpus.iter().map(of).collect());
        let mut threads = threads.ok_or_else(|| MachineError::Protocol {
            what: "query-cpus-fast".into(),
            answer: answer.to_string(),
        })?;
        threads.sort_unstable();
        Ok(threads.into_iter().map(|(_, thread)| thread).collect())
    }

    /// Add the emulator's last output to the error that says that it died.
    fn explain(&self, error: MachineError) -> MachineError {
        match error {
            MachineError::Died { .. } => MachineError::Died { stderr: self.process.stderr_tail() },
            other => other,
        }
    }

    /// Mend stale breakpoints of the kernel that has these places, from now on. The VM is stopped.
    pub(super) fn mend_stale_breakpoints(&mut self, places: Places) -> Result<(), MachineError> {
        self.mender = Some(Mender::new(places, &mut self.gdb).map_err(|e| self.explain(e))?);
        Ok(())
    }

    /// Take note of a stop.
    fn stopped(&mut self, reply: StopReply) -> Result<StopCause, MachineError> {
        self.state = VmState::Stopped;
        if reply.is_end() {
            self.await_end()?;
        }
        if let Some(address) = reply.watched() {
            return self.stopped_by_watch(address, reply.vcpu());
        }
        if reply.is_plain_trap() { self.stopped_by_breakpoint(reply.vcpu()) } else { Ok(StopCause::Plain) }
    }

    fn stopped_by_watch(&mut self, address: u64, vcpu: Cpu) -> Result<StopCause, MachineError> {
        if let Some(mender) = self.mender.as_mut().filter(|mender| mender.watches(address)) {
            mender.alert(&mut self.gdb)?;
            return Ok(StopCause::Internal);
        }
        let is_it =
            |watch: &Watch| matches!(watch, Watch::Write { at, bytes } if address.wrapping_sub(*at) < *bytes);
        // A store just before its watch was taken away can be told of after that.
        let Some(fired) = self.armed(is_it, vcpu) else { return Ok(StopCause::Internal) };
        if fired.id == WatchId::DOORBELL {
            let value = self.gdb.read_u64(&[vcpu], DOORBELL_PAGE)?;
            self.last_ring = value.first().copied().flatten().unwrap_or_default();
        }
        Ok(StopCause::Fired(fired))
    }

    fn stopped_by_breakpoint(&mut self, vcpu: Cpu) -> Result<StopCause, MachineError> {
        let registers = self.registers()?;
        let Some(registers) = registers.iter().find(|r| r.cpu == vcpu) else { return Ok(StopCause::Plain) };
        let rip = registers.rip;
        let is_menders = self.mender.as_ref().is_some_and(|mender| mender.stops_at(rip));
        if let Some(mender) = self.mender.as_mut().filter(|_| is_menders)
            && mender.mend(&mut self.gdb, &self.layout, registers)?
        {
            return Ok(StopCause::Internal);
        }
        let fired = self.armed(|watch| matches!(watch, Watch::Execute { at } if *at == rip), vcpu);
        if is_menders || fired.is_some() {
            self.at_breakpoint = Some((rip, vcpu));
        }
        // Of several vCPUs that stop at the same time, one can be told of when what it has stopped at is done with.
        let is_alert = self.mender.as_ref().is_some_and(Mender::is_alert);
        // One that hit a watch which was taken away at the same stop is told of as if it was at a breakpoint.
        let is_ours = is_alert || self.has_watched;
        Ok(fired.map_or(if is_ours { StopCause::Internal } else { StopCause::Plain }, StopCause::Fired))
    }

    /// The first watch that is armed and is it, as fired by `vcpu`.
    fn armed(&self, is_it: impl Fn(&Watch) -> bool, vcpu: Cpu) -> Option<Fired> {
        self.watches.iter().find(|(_, watch)| is_it(watch)).map(|(&id, _)| Fired { id, vcpu })
    }

    /// A store to the doorbell at the very instant of a pause stops its vCPU, but the emulator reports the pause
    /// alone (1 of 13 pauses, when each falls within a millisecond of a store). Such a vCPU is in user mode and sees
    /// a new value in the doorbell page.
    ///
    /// The same can happen to the watch that looks out for stale breakpoints.
    fn look_for_what_is_not_told(&mut self) -> Result<(), MachineError> {
        let registers = self.registers()?;
        if let Some(mender) = &mut self.mender
            && registers.iter().any(|r| mender.may_have_stopped(r.rip))
        {
            mender.alert(&mut self.gdb)?;
        }
        let user: Vec<Cpu> = registers.iter().filter(|r| r.segments[0] & 3 == 3).map(|r| r.cpu).collect();
        let values = self.gdb.read_u64(&user, DOORBELL_PAGE)?;
        let rung = user.into_iter().zip(values).find(|(_, value)| value.is_some_and(|v| v != self.last_ring));
        let Some((vcpu, value)) = rung else { return Ok(()) };
        self.last_ring = value.unwrap_or_default();
        self.fired = Some(Fired { id: WatchId::DOORBELL, vcpu });
        // The emulator still remembers the hit and would report the next one too late. A step of that vCPU alone makes
        // it report this one.
        self.gdb.step(vcpu).map(|_| ())
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
        loop {
            self.drain_qmp()?;
            if self.ended.is_some() {
                return Ok(());
            }
            if !self.qmp.await_input(END_TIMEOUT)? {
                let answer = "a stop without a reason".into();
                return Err(MachineError::Protocol { what: "gdb's c".into(), answer });
            }
        }
    }

    /// Wait for one thing; `None` when the time is over.
    fn wait(&mut self, deadline: Instant) -> Result<Option<MachineEvent>, MachineError> {
        loop {
            self.drain_qmp()?;
            if let Some(ended) = &self.ended {
                let ended = ended.clone();
                if self.state == VmState::Running {
                    // The stub reports the stop, too, and answers nothing before that is read.
                    if let Ok(reply) = self.gdb.await_stop(END_TIMEOUT)? {
                        self.stopped(reply)?;
                    }
                }
                return Ok(Some(ended));
            }
            if self.state == VmState::Running && self.mender.as_ref().is_some_and(Mender::is_over) {
                self.end_alert()?;
                continue;
            }
            if let Some(Fired { id, vcpu }) = self.fired.take() {
                return Ok(Some(MachineEvent::Watch { id, vcpu }));
            }
            // Without waiting: what has come may be an acknowledgement alone, and then the other socket is waited for as well.
            let Some(reply) = self.gdb.stop(Instant::now())? else {
                match wait_readable([self.gdb.as_fd(), self.qmp.as_fd()], deadline)? {
                    [false, false] => return Ok(None),
                    _ => continue,
                }
            };
            let told = format!("{reply:?}");
            match self.stopped(reply)? {
                StopCause::Fired(Fired { id, vcpu }) => return Ok(Some(MachineEvent::Watch { id, vcpu })),
                StopCause::Internal => {
                    self.look_for_what_is_not_told()?;
                    self.resume()?;
                }
                StopCause::Plain if self.ended.is_none() => {
                    let answer = format!("a stop that was not asked for: {told}");
                    return Err(MachineError::Protocol { what: "gdb's c".into(), answer });
                }
                StopCause::Plain => {}
            }
        }
    }

    /// Stop to take the breakpoint at `die` away, and go on.
    fn end_alert(&mut self) -> Result<(), MachineError> {
        self.pause()?;
        if self.ended.is_some() {
            return Ok(());
        }
        let registers = self.registers()?;
        if let Some(mender) = &mut self.mender {
            // A vCPU that has just come to it would be told of when the VM goes on.
            match registers.iter().any(|r| mender.stops_at(r.rip)) {
                true => mender.alert(&mut self.gdb)?,
                false => mender.calm(&mut self.gdb)?,
            }
        }
        self.resume().map(|_| ())
    }

    /// Let the VM go on, unless a watch fires at its first instruction.
    fn go_on(&mut self) -> Result<(), MachineError> {
        // A breakpoint fires before its instruction, so that without this it would fire again and again.
        if let Some((at, vcpu)) = self.at_breakpoint.take()
            && (self.armed(|watch| *watch == Watch::Execute { at }, vcpu).is_some()
                || self.mender.as_ref().is_some_and(|mender| mender.stops_at(at)))
            && !self.pass_nop(vcpu, at)?
        {
            let reply = self.gdb.step(vcpu)?;
            if !reply.is_plain_trap() {
                if let StopCause::Fired(fired) = self.stopped(reply)? {
                    self.fired = Some(fired);
                }
                if self.fired.is_some() || self.ended.is_some() {
                    return Ok(());
                }
            }
        }
        self.gdb.go_on()?;
        self.state = VmState::Running;
        Ok(())
    }

    /// Have a vCPU that stands before an instruction which does nothing stand behind it; whether there is one. Functions begin
    /// with one. QEMU before 10.2 forgets all that it has translated at each step, which takes the guest milliseconds.
    fn pass_nop(&mut self, vcpu: Cpu, at: u64) -> Result<bool, MachineError> {
        let bytes: Option<[u8; nops::LONGEST]> = self.gdb.read(vcpu, at)?;
        let Some(length) = bytes.and_then(|bytes| nops::length(&bytes)) else { return Ok(false) };
        self.gdb.set_register(vcpu, self.layout.rip_number, at.wrapping_add(length as u64))?;
        Ok(true)
    }

    /// The emulator is gone or out of order: end it and say so from now on.
    fn failed(&mut self, error: MachineError) -> MachineEvent {
        // The report says itself that the emulator died: `detail` is how.
        let detail = match error {
            MachineError::Died { .. } => self.process.end(),
            other => other.to_string(),
        };
        self.last_use = CpuUse::of(self.process.id());
        self.process.kill();
        self.slots = None;
        let ended = MachineEvent::Ended { end: GuestEnd::MachineDied, detail };
        self.ended = Some(ended.clone());
        ended
    }
}

impl Machine for Vm {
    fn ram(&self) -> Arc<GuestRam> {
        Arc::clone(&self.ram)
    }

    fn pause(&mut self) -> Result<Duration, MachineError> {
        if self.state == VmState::Stopped {
            return Ok(Duration::ZERO);
        }
        let begun = Instant::now();
        let reply = (|| {
            self.gdb.interrupt()?;
            self.gdb.await_stop(COMMAND_TIMEOUT)?.map_err(|silence| silence.to("a stop"))
        })();
        let reply = reply.map_err(|e| self.explain(e))?;
        match self.stopped(reply).map_err(|e| self.explain(e))? {
            StopCause::Fired(fired) => self.fired = Some(fired),
            StopCause::Plain | StopCause::Internal => {
                self.look_for_what_is_not_told().map_err(|e| self.explain(e))?
            }
        }
        Ok(begun.elapsed())
    }

    fn resume(&mut self) -> Result<Duration, MachineError> {
        if self.state == VmState::Running || self.fired.is_some() {
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
        if self.state == VmState::Running {
            return Err(MachineError::Running);
        }
        let files = self.gdb.registers(self.vcpus).map_err(|e| self.explain(e))?;
        (0..).zip(&files).map(|(cpu, file)| self.layout.decode(Cpu(cpu), file)).collect()
    }

    fn wait_event(&mut self, timeout: Duration) -> Option<MachineEvent> {
        if let (Some(ended), VmState::Stopped) = (&self.ended, self.state) {
            return Some(ended.clone());
        }
        match self.wait(Instant::now() + timeout) {
            Ok(event) => event,
            Err(error) => {
                self.state = VmState::Stopped;
                Some(self.failed(error))
            }
        }
    }

    fn cpu_use(&self) -> Option<CpuUse> {
        self.last_use.clone().or_else(|| CpuUse::of(self.process.id()))
    }

    fn tend(&mut self) {
        if self.fired.is_none()
            && let Some(MachineEvent::Watch { id, vcpu }) = self.wait_event(Duration::ZERO)
        {
            self.fired = Some(Fired { id, vcpu });
        }
    }

    fn watch_support(&self) -> WatchSupport {
        match self.qmp.release() < KEEPS_TRANSLATIONS {
            true => WatchSupport { disturbed: TRANSLATING, ..WATCHES },
            false => WATCHES,
        }
    }

    fn arm(&mut self, id: WatchId, watch: Watch) -> Result<(), MachineError> {
        if self.state == VmState::Running {
            return Err(MachineError::Running);
        }
        let armed = self.watches.keys().filter(|id| **id != WatchId::DOORBELL).count();
        WATCHES.check(armed, &watch)?;
        if self.watches.contains_key(&id) {
            let what = format!("arm watch {} twice", id.0);
            return Err(MachineError::Unsupported { what });
        }
        self.gdb.insert(&watch).map_err(|e| self.explain(e))?;
        self.has_watched |= id != WatchId::DOORBELL;
        self.watches.insert(id, watch);
        Ok(())
    }

    fn disarm(&mut self, id: WatchId) -> Result<(), MachineError> {
        if self.state == VmState::Running {
            return Err(MachineError::Running);
        }
        let Some(watch) = self.watches.get(&id) else { return Ok(()) };
        self.gdb.remove(watch).map_err(|e| self.explain(e))?;
        self.watches.remove(&id);
        self.fired = self.fired.filter(|fired| fired.id != id);
        Ok(())
    }

    fn untold(&mut self, id: WatchId) -> Result<Option<Cpu>, MachineError> {
        let watch = self.watches.get(&id).copied();
        let (Some(Watch::Write { at, bytes }), None) = (watch, &self.ended) else { return Ok(None) };
        // It fired at the very instant of a pause, and nobody has waited for it yet.
        if let Some(fired) = self.fired.filter(|fired| self.watches.get(&fired.id) == watch.as_ref()) {
            self.fired = None;
            return Ok(Some(fired.vcpu));
        }
        for registers in self.registers()? {
            // A vCPU that waits for an interrupt has not just stored, and a step of it would wait as well.
            let before = registers.rip.wrapping_sub(1);
            let word = self.gdb.read_u64(&[registers.cpu], before).map_err(|e| self.explain(e))?;
            if word.first().copied().flatten().is_none_or(|word| word as u8 == HLT) {
                continue;
            }
            // A step makes the emulator tell of a hit that it has not told of, as for the doorbell.
            let reply = self.gdb.step(registers.cpu).map_err(|e| self.explain(e))?;
            if reply.watched().is_some_and(|address| address.wrapping_sub(at) < bytes) {
                return Ok(Some(reply.vcpu()));
            }
            if !reply.is_plain_trap()
                && let StopCause::Fired(fired) = self.stopped(reply).map_err(|e| self.explain(e))?
            {
                // What waits to be handed over, such as the doorbell, is not lost for it.
                self.fired = self.fired.or(Some(fired));
            }
            if self.ended.is_some() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn stale_breakpoints(&mut self) -> Vec<StaleBreakpoint> {
        self.mender.as_mut().map(Mender::take).unwrap_or_default()
    }

    fn console(&mut self) -> Vec<u8> {
        let bytes = read_from(&self.console, self.console_read).unwrap_or_default();
        self.console_read += bytes.len() as u64;
        bytes
    }

    fn console_text(&self) -> String {
        String::from_utf8_lossy(&read_from(&self.console, 0).unwrap_or_default()).into_owned()
    }

    fn save(&mut self) -> Result<Vec<u8>, MachineError> {
        self.qmp.save_state(&self.state_file).map_err(|e| self.explain(e))?;
        let state = read_from(&self.state_file, 0)
            .map_err(|source| MachineError::Io { what: "read the saved state".into(), source })?;
        let places = self.mender.as_ref().map(|mender| mender.places().clone());
        Ok(Saved { places, state }.encode())
    }

    fn kill(&mut self) {
        self.process.kill();
        self.slots = None;
        if self.ended.is_none() {
            let detail = String::from("the machine was killed");
            self.ended = Some(MachineEvent::Ended { end: GuestEnd::MachineDied, detail });
        }
        self.state = VmState::Stopped;
    }
}
