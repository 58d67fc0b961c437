//! A VM: its memory, its interrupt controllers, its clock, and a thread for each vCPU.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ktstr_replay::trace::record::{GuestEnd, VcpuRegs};
use ktstr_replay::units::Cpu;
use kvm_bindings::{CpuId, kvm_clock_data};
use kvm_ioctls::{Kvm, VmFd};

use super::chips::Chips;
use super::confine;
use super::error::{failed, refused};
use super::means::Means;
use super::memory::Slots;
use super::ports::{COM1_GSI, Ports};
use super::regs;
use super::stages::TSS_ADDRESS;
use super::thread::{Report, VcpuThread};
use super::vcpu::{Shared, Vcpu, Why, lock};
use super::watch::Watches;
use crate::machine::error::MachineError;
use crate::machine::interface::WatchId;
use crate::machine::ram::GuestRam;
use crate::machine::served::Patience;

/// How long vCPUs may take to come back, or to make a single step: they need tens of microseconds, unless the host is
/// starved.
const COME_BACK: Duration = Duration::from_secs(10);

/// A VM. Its vCPUs all run, or none does.
pub(super) struct Vm {
    // First, so that it is dropped first: the threads end before what they use.
    pub(super) vcpus: Vec<VcpuThread>,
    pub(super) fd: Arc<VmFd>,
    pub(super) slots: Slots,
    pub(super) shared: Arc<Shared>,
    reports: Receiver<Report>,
    /// vCPUs that run and have not come back.
    out: usize,
    running: bool,
    /// What has happened and was not handed over.
    happened: VecDeque<VmEvent>,
    ended: Option<VmEvent>,
    /// The breakpoint that each vCPU reported last and stands at.
    stands_at: Vec<Option<u64>>,
    /// `None` while it runs, and before it has.
    pub(super) stopped: Option<Stopped>,
    pub(super) means: Means,
    /// The threads of the vCPUs, as the kernel numbers them.
    pub(super) tids: Vec<u32>,
}

/// What a vCPU is.
pub(super) struct CpuSpec {
    /// KVM's number of it, too.
    pub(super) apic_id: u32,
    pub(super) cpuid: CpuId,
}

/// Where a VM stopped, or was restored to.
pub(super) struct Stopped {
    /// When it did, or had its timer restored: since then ticks come due that the guest does not get.
    pub(super) since: Instant,
    /// kvmclock then, in ns.
    pub(super) clock_ns: u64,
}

/// What can happen to a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VmEvent {
    /// The doorbell was rung, with this number. The instruction is complete.
    Rang { cpu: Cpu, id: u32 },
    /// A watch fired: after the store, or before the instruction.
    Fired { cpu: Cpu, id: WatchId },
    /// The guest ended.
    Ended { end: GuestEnd, detail: String },
}

impl Vm {
    /// A VM with all of `ram`, and a vCPU for each of `cpus`, watched by `means`. It is stopped; its vCPUs are as after power-on.
    pub(super) fn new(
        kvm: &Kvm,
        ram: Arc<GuestRam>,
        cpus: &[CpuSpec],
        means: Means,
    ) -> Result<Self, MachineError> {
        Self::tuned(kvm, ram, cpus, means, |_| ())
    }

    /// The same, with what `tune` does before there are vCPUs.
    pub(super) fn tuned(
        kvm: &Kvm,
        ram: Arc<GuestRam>,
        cpus: &[CpuSpec],
        means: Means,
        tune: impl FnOnce(&VmFd),
    ) -> Result<Self, MachineError> {
        let fd = Arc::new(kvm.create_vm().map_err(refused("create a VM"))?);
        tune(&fd);
        fd.set_tss_address(TSS_ADDRESS).map_err(refused("place the VM's task state segment"))?;
        let largest_id = cpus.iter().map(|cpu| cpu.apic_id).max().unwrap_or(0);
        let chips = Chips::new(Arc::clone(&fd), largest_id)?;
        // SAFETY: `shared` keeps `ram`, and drops it after `chips`, which has the last of `fd` that is not dropped before.
        let slots = unsafe { Slots::new(&fd, ram.mapped()) }?;
        let (ports, interrupt) = Ports::new().map_err(failed("make the console's interrupt"))?;
        fd.register_irqfd(&interrupt, COM1_GSI).map_err(refused("connect the console's interrupt"))?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            threads: Mutex::default(),
            ports: Mutex::new(ports),
            watches: Mutex::new(Watches::default()),
            chips,
            ram,
        });
        let (say, reports) = mpsc::channel();
        let filter = Arc::new(confine::filter().map_err(failed("make the filter of system calls"))?);
        let mut vcpus = Vec::new();
        for (cpu, CpuSpec { apic_id, cpuid }) in (0u32..).zip(cpus) {
            let vcpu = fd.create_vcpu((*apic_id).into()).map_err(refused("create a vCPU"))?;
            vcpu.set_cpuid2(cpuid).map_err(refused("set a vCPU's CPUID"))?;
            let thread =
                VcpuThread::spawn(vcpu, Cpu(cpu), Arc::clone(&shared), say.clone(), Arc::clone(&filter));
            vcpus.push(thread.map_err(failed("start a vCPU's thread"))?);
        }
        let stands_at = vec![None; vcpus.len()];
        let mut vm = Self {
            vcpus,
            fd,
            slots,
            shared,
            reports,
            out: 0,
            running: false,
            happened: VecDeque::new(),
            ended: None,
            stands_at,
            stopped: None,
            means,
            tids: Vec::new(),
        };
        // When it answers, it can be kicked.
        vm.tids = vm.ask_all(|_| Ok(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()))?;
        Ok(vm)
    }

    /// Have each vCPU, none of which runs, do `what`; their answers, ascending.
    pub(super) fn ask_all<R: Send + 'static>(
        &self,
        what: impl Fn(&mut Vcpu) -> Result<R, MachineError> + Clone + Send + 'static,
    ) -> Result<Vec<R>, MachineError> {
        if self.running {
            return Err(MachineError::Running);
        }
        let answers: Vec<_> = self.vcpus.iter().map(|vcpu| vcpu.ask(what.clone())).collect();
        answers.into_iter().map(|answer| answer.wait()).collect()
    }

    /// Have vCPU `cpu`, which does not run, do `what`.
    pub(super) fn ask<R: Send + 'static>(
        &self,
        cpu: Cpu,
        what: impl FnOnce(&mut Vcpu) -> Result<R, MachineError> + Send + 'static,
    ) -> Result<R, MachineError> {
        if self.running {
            return Err(MachineError::Running);
        }
        let vcpu = self.vcpus.get(cpu.0 as usize);
        vcpu.ok_or_else(|| MachineError::Unsupported { what: format!("ask vCPU {}", cpu.0) })?
            .ask(what)
            .wait()
    }

    /// Let all vCPUs go on. When something has happened that was not handed over, the VM stays stopped.
    ///
    /// # Errors
    /// [`MachineError::Ended`] after the guest's end.
    pub(super) fn resume(&mut self) -> Result<(), MachineError> {
        if self.running || !self.happened.is_empty() {
            return Ok(());
        }
        if self.ended.is_some() {
            return Err(MachineError::Ended);
        }
        for cpu in 0..self.vcpus.len() {
            if let Some(at) = self.stands_at[cpu].take() {
                self.step_over(Cpu(cpu as u32), at)?;
            }
        }
        if !self.happened.is_empty() {
            return Ok(());
        }
        if let Some(Stopped { since, clock_ns }) = self.stopped.take() {
            // The guest does not see the pause. So it is not told of one by KVM_KVMCLOCK_CTRL either, which is for pauses that
            // it does see: at each, the kernel's watchdogs (soft lockups, RCU stalls, hung tasks) begin anew, and with a capture
            // every second none of them would ever bark.
            let clock = kvm_clock_data { clock: clock_ns, ..kvm_clock_data::default() };
            self.fd.set_clock(&clock).map_err(refused("set the guest's clock"))?;
            self.shared.chips.lose_late_ticks(since.elapsed())?;
        }
        self.shared.stop.store(false, Ordering::SeqCst);
        self.running = true;
        for vcpu in &self.vcpus {
            vcpu.run()?;
            self.out += 1;
        }
        Ok(())
    }

    /// Stop all vCPUs.
    pub(super) fn pause(&mut self) -> Result<(), MachineError> {
        if self.running {
            self.shared.stop_all();
            self.come_back()?;
        }
        Ok(())
    }

    /// What happens next, within `timeout`; the VM is stopped then. After the guest's end that is returned again.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<Option<VmEvent>, MachineError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = self.happened.pop_front() {
                return Ok(Some(event));
            }
            if !self.running {
                return Ok(self.ended.clone());
            }
            match self.reports.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(report) => {
                    self.note(report);
                    // It told all others to come back.
                    self.come_back()?;
                }
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
            }
        }
    }

    /// Take in what has happened, for the next [`wait`](Self::wait).
    pub(super) fn attend(&mut self) -> Result<(), MachineError> {
        if self.running
            && let Ok(report) = self.reports.try_recv()
        {
            self.note(report);
            self.come_back()?;
        }
        Ok(())
    }

    /// Wait for all vCPUs that run.
    fn come_back(&mut self) -> Result<(), MachineError> {
        let patience = Patience { limit: COME_BACK, process: Some(std::process::id()) };
        let all_back = patience.wait(|until| {
            while self.out > 0 {
                match self.reports.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(report) => self.note(report),
                    Err(RecvTimeoutError::Timeout) => return Ok(None),
                    Err(RecvTimeoutError::Disconnected) => return Err(gone()),
                }
            }
            Ok(Some(()))
        })?;
        all_back.map_err(|_| gone())?;
        self.running = false;
        let since = Instant::now();
        let clock_ns = self.fd.get_clock().map_err(refused("read the guest's clock"))?.clock;
        self.stopped = Some(Stopped { since, clock_ns });
        Ok(())
    }

    fn note(&mut self, Report { cpu, why, rip }: Report) {
        self.out -= 1;
        match why {
            Why::Asked | Why::Stepped => {}
            Why::Rang(id) => self.happened.push_back(VmEvent::Rang { cpu, id }),
            Why::Fired(id) => {
                let stands = rip.filter(|at| lock(&self.shared.watches).is_breakpoint(id, *at));
                self.stands_at[cpu.0 as usize] = stands;
                self.happened.push_back(VmEvent::Fired { cpu, id });
            }
            // The first end is the one that counts; it comes after what happened before.
            Why::Ended { end, detail } if self.ended.is_none() => {
                self.ended = Some(VmEvent::Ended { end, detail });
            }
            Why::Ended { .. } => {}
        }
    }

    /// Have vCPU `cpu` execute the instruction at `at`, where it stands at a breakpoint, and no other one.
    fn step_over(&mut self, cpu: Cpu, at: u64) -> Result<(), MachineError> {
        let rip = self.ask(cpu, |vcpu| vcpu.fd().get_regs().map_err(refused("read a vCPU's registers")))?.rip;
        if rip != at || !lock(&self.shared.watches).stops_at(at) {
            return Ok(());
        }
        let block_irq = self.means.block_irq;
        let debug = move |debugging| move |vcpu: &mut Vcpu| vcpu.set_debugging(debugging, block_irq);
        let stepping = lock(&self.shared.watches).stepping();
        self.ask(cpu, debug(stepping))?;
        self.shared.stop.store(false, Ordering::SeqCst);
        self.vcpus[cpu.0 as usize].run()?;
        self.out += 1;
        match self.reports.recv_timeout(COME_BACK) {
            Ok(report) => self.note(report),
            Err(_) => {
                self.shared.stop_all();
                self.come_back()?;
            }
        }
        let debugging = lock(&self.shared.watches).debugging();
        self.ask(cpu, debug(debugging))
    }

    /// Registers of all vCPUs, ascending.
    pub(super) fn registers(&self) -> Result<Vec<VcpuRegs>, MachineError> {
        self.ask_all(regs::read)
    }

    /// The pages that were written since this was called last, ascending, by the guest or for it.
    pub(super) fn dirty(&mut self) -> Result<BTreeSet<u64>, MachineError> {
        if self.running {
            return Err(MachineError::Running);
        }
        let mut pages = self.slots.dirty(&self.fd)?;
        // What we write, KVM does not log.
        pages.extend(self.shared.ram.take_written().into_iter().flatten());
        Ok(pages)
    }

    /// Whether the vCPUs run.
    pub(super) fn is_running(&self) -> bool {
        self.running
    }

    /// Put what is watched into all vCPUs and into the memory slots.
    pub(super) fn apply_watches(&mut self) -> Result<(), MachineError> {
        let (debugging, read_only) = {
            let watches = lock(&self.shared.watches);
            (watches.debugging(), watches.read_only())
        };
        let block_irq = self.means.block_irq;
        self.ask_all(move |vcpu| vcpu.set_debugging(debugging, block_irq))?;
        self.slots.lay_out(&self.fd, &read_only)
    }

    /// Take it that `id` fired, if that was not handed over yet: the vCPU.
    pub(super) fn take_fired(&mut self, id: WatchId) -> Option<Cpu> {
        let is_it = |event: &VmEvent| matches!(event, VmEvent::Fired { id: fired, .. } if *fired == id);
        let at = self.happened.iter().position(is_it)?;
        match self.happened.remove(at) {
            Some(VmEvent::Fired { cpu, .. }) => Some(cpu),
            _ => None,
        }
    }

    /// Forget that `id` fired.
    pub(super) fn forget(&mut self, id: WatchId) {
        self.happened.retain(|event| !matches!(event, VmEvent::Fired { id: fired, .. } if *fired == id));
    }

    /// All of the console so far.
    pub(super) fn console(&self) -> Vec<u8> {
        self.console_from(0)
    }

    /// What of the console comes after its first `read` bytes: a guest can fill much of it, and it is asked for often.
    pub(super) fn console_from(&self, read: usize) -> Vec<u8> {
        lock(&self.shared.ports).console().get(read..).unwrap_or_default().to_vec()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.shared.stop_all();
        let deadline = Instant::now() + COME_BACK;
        while self.out > 0
            && self.reports.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
        {
            self.out -= 1;
        }
        // From now on nobody is told to stop, and threads may end.
        lock(&self.shared.threads).clear();
        if self.out > 0 {
            // To wait for one that hangs in KVM would be to hang, too. Each thread keeps what it uses: its vCPU, with it the
            // VM, and by `shared` the memory.
            self.vcpus.drain(..).for_each(VcpuThread::abandon);
        }
        self.vcpus.clear();
    }
}

fn gone() -> MachineError {
    let source = io::Error::new(io::ErrorKind::TimedOut, "a vCPU does not come back out of the guest");
    MachineError::Io { what: "stop the machine".into(), source }
}
