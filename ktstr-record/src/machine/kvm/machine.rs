//! A VM as a [`Machine`].

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ktstr_replay::trace::record::{GuestEnd, VcpuRegs};
use ktstr_replay::units::Cpu;
use kvm_ioctls::Kvm;

use super::vm::{Vm, VmEvent};
use crate::checkpoint::push_gfn;
use crate::machine::cpu_use::CpuUse;
use crate::machine::error::MachineError;
use crate::machine::interface::{Machine, MachineEvent, StaleBreakpoint, Watch, WatchId, WatchSupport};
use crate::machine::ram::GuestRam;
use crate::machine::slots::CpuSlots;

/// A machine of KVM.
pub(in crate::machine) struct KvmMachine {
    kvm: Kvm,
    /// Until it is killed.
    vm: Option<Vm>,
    ram: Arc<GuestRam>,
    /// The console of a machine that was killed.
    console: Vec<u8>,
    /// What of the console was taken.
    console_read: usize,
    support: WatchSupport,
    /// Set when the machine itself came to its end.
    died: Option<MachineEvent>,
    /// The host's CPUs that it holds; dropped after the vCPUs.
    slots: Option<CpuSlots>,
}

impl KvmMachine {
    /// `vm`, which is stopped.
    pub(super) fn new(kvm: Kvm, vm: Vm) -> Self {
        let (ram, support) = (Arc::clone(&vm.shared.ram), vm.watch_support());
        Self {
            kvm,
            vm: Some(vm),
            ram,
            console: Vec::new(),
            console_read: 0,
            support,
            died: None,
            slots: None,
        }
    }

    /// Keep `slots` until the machine is gone.
    pub(super) fn hold(&mut self, slots: CpuSlots) {
        self.slots = Some(slots);
    }

    /// The threads of its vCPUs, ascending by vCPU.
    pub(super) fn vcpu_threads(&self) -> Result<Vec<u32>, MachineError> {
        self.vm.as_ref().map(|vm| vm.tids.clone()).ok_or(MachineError::Ended)
    }

    fn vm(&mut self) -> Result<&mut Vm, MachineError> {
        self.vm.as_mut().ok_or(MachineError::Ended)
    }

    fn stopped(&mut self) -> Result<&mut Vm, MachineError> {
        let vm = self.vm()?;
        if vm.is_running() { Err(MachineError::Running) } else { Ok(vm) }
    }

    fn end(&mut self, detail: String) -> MachineEvent {
        if let Some(vm) = self.vm.take() {
            self.console = vm.console();
        }
        self.slots = None;
        let ended = MachineEvent::Ended { end: GuestEnd::MachineDied, detail };
        self.died.get_or_insert(ended).clone()
    }
}

impl Machine for KvmMachine {
    fn ram(&self) -> Arc<GuestRam> {
        Arc::clone(&self.ram)
    }

    fn pause(&mut self) -> Result<Duration, MachineError> {
        let begun = Instant::now();
        let vm = self.vm()?;
        if !vm.is_running() {
            return Ok(Duration::ZERO);
        }
        vm.pause()?;
        Ok(begun.elapsed())
    }

    fn resume(&mut self) -> Result<Duration, MachineError> {
        let begun = Instant::now();
        let vm = self.vm()?;
        if vm.is_running() {
            return Ok(Duration::ZERO);
        }
        vm.resume()?;
        Ok(begun.elapsed())
    }

    fn registers(&mut self) -> Result<Vec<VcpuRegs>, MachineError> {
        self.stopped()?.registers()
    }

    fn wait_event(&mut self, timeout: Duration) -> Option<MachineEvent> {
        if let Some(died) = &self.died {
            return Some(died.clone());
        }
        match self.vm().and_then(|vm| vm.wait(timeout)) {
            Ok(event) => event.map(|event| match event {
                VmEvent::Rang { cpu, .. } => MachineEvent::Watch { id: WatchId::DOORBELL, vcpu: cpu },
                VmEvent::Fired { cpu, id } => MachineEvent::Watch { id, vcpu: cpu },
                VmEvent::Ended { end, detail } => MachineEvent::Ended { end, detail },
            }),
            Err(error) => Some(self.end(error.to_string())),
        }
    }

    fn tend(&mut self) {
        if let Err(error) = self.vm().and_then(Vm::attend)
            && self.died.is_none()
        {
            self.end(error.to_string());
        }
    }

    fn watch_support(&self) -> WatchSupport {
        self.support
    }

    fn arm(&mut self, id: WatchId, watch: Watch) -> Result<(), MachineError> {
        if id == WatchId::DOORBELL {
            return Err(MachineError::Unsupported { what: format!("arm watch {} twice", id.0) });
        }
        self.stopped()?.arm(id, watch)
    }

    fn disarm(&mut self, id: WatchId) -> Result<(), MachineError> {
        self.stopped()?.disarm(id)
    }

    fn untold(&mut self, id: WatchId) -> Result<Option<Cpu>, MachineError> {
        Ok(self.stopped()?.take_fired(id))
    }

    fn written(&mut self) -> Option<Vec<Range<u64>>> {
        // Where the log could not be read, any page may have been written.
        let pages = self.stopped().and_then(Vm::dirty).ok()?;
        let mut ranges = Vec::new();
        for page in pages {
            push_gfn(&mut ranges, page);
        }
        Some(ranges)
    }

    fn cpu_use(&self) -> Option<CpuUse> {
        let tids = &self.vm.as_ref()?.tids;
        let mut used = CpuUse::of(std::process::id())?;
        used.threads.retain(|thread| tids.contains(&thread.id));
        Some(used)
    }

    fn stale_breakpoints(&mut self) -> Vec<StaleBreakpoint> {
        // A CPU executes none.
        Vec::new()
    }

    fn console(&mut self) -> Vec<u8> {
        let read = self.console_read;
        let new = match &self.vm {
            Some(vm) => vm.console_from(read),
            None => self.console.get(read..).unwrap_or_default().to_vec(),
        };
        self.console_read += new.len();
        new
    }

    fn console_text(&self) -> String {
        let all = self.vm.as_ref().map_or_else(|| self.console.clone(), Vm::console);
        String::from_utf8_lossy(&all).into_owned()
    }

    fn save(&mut self) -> Result<Vec<u8>, MachineError> {
        self.stopped()?;
        let Self { kvm, vm, .. } = self;
        vm.as_ref().ok_or(MachineError::Ended)?.save(kvm)
    }

    fn kill(&mut self) {
        self.end("the machine was killed".into());
    }
}
