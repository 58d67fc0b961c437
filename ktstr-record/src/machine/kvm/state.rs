//! The whole state of a VM but its memory, saved and restored.
//!
//! The order in which it is put back matters to KVM: the TSC's rate first, the local APIC before the timer's deadline (an
//! MSR), events last.

use std::time::Instant;

use kvm_bindings::{
    KVM_MAX_MSR_ENTRIES, Msrs, Xsave, kvm_debugregs, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs,
    kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};

use super::boot::MTRR_DEF_TYPE;
use super::chips::SavedChips;
use super::error::refused;
use super::ports::SavedPorts;
use super::vcpu::{Vcpu, lock};
use super::vm::{Stopped, Vm};
use crate::machine::error::MachineError;

/// Changes with what is saved.
const VERSION: u32 = 3;
/// Words of a saved FPU of the size that every KVM has.
const XSAVE_WORDS: usize = size_of::<kvm_xsave>() / 4;

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    vcpus: Vec<SavedVcpu>,
    chips: SavedChips,
    /// kvmclock, in ns.
    clock_ns: u64,
    ports: SavedPorts,
}

#[derive(Serialize, Deserialize)]
struct SavedVcpu {
    tsc_khz: u32,
    mp_state: kvm_mp_state,
    regs: kvm_regs,
    sregs: kvm_sregs,
    xcrs: kvm_xcrs,
    xsave: Vec<u32>,
    debugregs: kvm_debugregs,
    lapic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
    events: kvm_vcpu_events,
}

impl Vm {
    /// The state of vCPUs, interrupt controllers, timer, clock and ports, as bytes. It must be stopped.
    pub(super) fn save(&self, kvm: &Kvm) -> Result<Vec<u8>, MachineError> {
        let indices = kvm.get_msr_index_list().map_err(refused("list model-specific registers"))?;
        let mut indices = indices.as_slice().to_vec();
        // KVM's list has no MTRRs. This is the one that a guest is given (`Entry::msrs`).
        if !indices.contains(&MTRR_DEF_TYPE.0) {
            indices.push(MTRR_DEF_TYPE.0);
        }
        let xsave_words = xsave_words(&self.fd);
        let vcpus = self.ask_all(move |vcpu| save_vcpu(vcpu, &indices, xsave_words))?;
        let clock_ns = match &self.stopped {
            Some(stopped) => stopped.clock_ns,
            None => self.fd.get_clock().map_err(refused("read the guest's clock"))?.clock,
        };
        let saved = Saved {
            version: VERSION,
            vcpus,
            chips: self.shared.chips.save()?,
            clock_ns,
            ports: lock(&self.shared.ports).save(),
        };
        serde_json::to_vec(&saved).map_err(|error| MachineError::Io {
            what: "encode the machine's state".into(),
            source: error.into(),
        })
    }

    /// Take over a state that was saved of a VM of as many vCPUs. It must be stopped.
    ///
    /// # Errors
    /// [`MachineError::Unsupported`] for what is no such state, [`MachineError::Running`] if it is not stopped.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> Result<(), MachineError> {
        if self.is_running() {
            // Its vCPUs would answer when they come back, which nobody tells them to.
            return Err(MachineError::Running);
        }
        let unfit = |why: String| MachineError::Unsupported { what: format!("restore this state: {why}") };
        let saved: Saved = serde_json::from_slice(bytes).map_err(|error| unfit(error.to_string()))?;
        let Saved { version, vcpus, chips, clock_ns, ports } = saved;
        if version != VERSION {
            return Err(unfit(format!("it is version {version}, not {VERSION}")));
        }
        if vcpus.len() != self.vcpus.len() {
            return Err(unfit(format!("it has {} vCPUs, the machine {}", vcpus.len(), self.vcpus.len())));
        }
        let xsave_words = xsave_words(&self.fd);
        if vcpus.iter().any(|vcpu| vcpu.xsave.len() > xsave_words) {
            return Err(unfit("its FPU is larger than this host's".into()));
        }
        if let Some(why) = self.shared.chips.unfit(&chips) {
            return Err(unfit(why));
        }
        lock(&self.shared.ports).restore(ports).map_err(unfit)?;
        let answers: Vec<_> = self
            .vcpus
            .iter()
            .zip(vcpus)
            .map(|(vcpu, saved)| vcpu.ask(move |vcpu| restore_vcpu(vcpu, &saved, xsave_words)))
            .collect();
        answers.into_iter().try_for_each(super::thread::Answer::wait)?;
        // KVM's timer counts from here on, and the guest goes on later.
        self.stopped = Some(Stopped { since: Instant::now(), clock_ns });
        self.shared.chips.restore(chips)?;
        Ok(())
    }
}

/// Words that KVM needs for a vCPU's FPU. KVMs before Linux 5.17 do not say, and need those that all have.
fn xsave_words(vm: &VmFd) -> usize {
    let bytes = usize::try_from(vm.check_extension_int(Cap::Xsave2)).unwrap_or(0);
    bytes.div_ceil(4).max(XSAVE_WORDS)
}

fn save_vcpu(vcpu: &mut Vcpu, indices: &[u32], xsave_words: usize) -> Result<SavedVcpu, MachineError> {
    let fd = vcpu.fd();
    Ok(SavedVcpu {
        tsc_khz: fd.get_tsc_khz().map_err(refused("read the TSC's rate"))?,
        // First, as it makes KVM settle what it has pending.
        mp_state: fd.get_mp_state().map_err(refused("read whether a vCPU halts"))?,
        regs: fd.get_regs().map_err(refused("read a vCPU's registers"))?,
        sregs: fd.get_sregs().map_err(refused("read a vCPU's system registers"))?,
        xcrs: fd.get_xcrs().map_err(refused("read a vCPU's XCRs"))?,
        xsave: read_xsave(fd, xsave_words)?,
        debugregs: fd.get_debug_regs().map_err(refused("read a vCPU's debug registers"))?,
        lapic: fd.get_lapic().map_err(refused("read a local APIC"))?,
        msrs: read_msrs(fd, indices)?,
        events: fd.get_vcpu_events().map_err(refused("read a vCPU's events"))?,
    })
}

fn restore_vcpu(vcpu: &mut Vcpu, saved: &SavedVcpu, xsave_words: usize) -> Result<(), MachineError> {
    let fd = vcpu.fd();
    // KVMs that cannot scale the TSC refuse all but their own rate.
    if fd.get_tsc_khz().map_err(refused("read the TSC's rate"))? != saved.tsc_khz {
        fd.set_tsc_khz(saved.tsc_khz).map_err(refused("set the TSC's rate"))?;
    }
    fd.set_mp_state(saved.mp_state).map_err(refused("set whether a vCPU halts"))?;
    fd.set_regs(&saved.regs).map_err(refused("set a vCPU's registers"))?;
    fd.set_sregs(&saved.sregs).map_err(refused("set a vCPU's system registers"))?;
    fd.set_xcrs(&saved.xcrs).map_err(refused("set a vCPU's XCRs"))?;
    write_xsave(fd, &saved.xsave, xsave_words)?;
    fd.set_debug_regs(&saved.debugregs).map_err(refused("set a vCPU's debug registers"))?;
    fd.set_lapic(&saved.lapic).map_err(refused("set a local APIC"))?;
    write_msrs(fd, &saved.msrs)?;
    fd.set_vcpu_events(&saved.events).map_err(refused("set a vCPU's events"))
}

/// Set all of `entries`. Some KVMs refuse to set what they list and give, even to the value that it has: that is no loss.
pub(super) fn write_msrs(fd: &VcpuFd, entries: &[kvm_msr_entry]) -> Result<(), MachineError> {
    let mut left = entries;
    while !left.is_empty() {
        let some = &left[..left.len().min(KVM_MAX_MSR_ENTRIES)];
        let set = fd.set_msrs(&msrs(some)?).map_err(refused("set a vCPU's model-specific registers"))?;
        // KVM stops at the first that it does not take.
        if let Some(entry) = some.get(set)
            && !read_msrs(fd, &[entry.index])?.iter().any(|has| has.data == entry.data)
        {
            return Err(MachineError::Unsupported {
                what: format!("set the model-specific register {:#x}", entry.index),
            });
        }
        let refused = usize::from(set < some.len());
        left = &left[(set + refused).min(left.len())..];
    }
    Ok(())
}

fn msrs(entries: &[kvm_msr_entry]) -> Result<Msrs, MachineError> {
    let what = || format!("handle {} model-specific registers at once", entries.len());
    Msrs::from_entries(entries).map_err(|_| MachineError::Unsupported { what: what() })
}

/// The model-specific registers among `indices` that can be read: KVM lists some that depend on the guest's CPUID.
pub(super) fn read_msrs(fd: &VcpuFd, indices: &[u32]) -> Result<Vec<kvm_msr_entry>, MachineError> {
    let mut found = Vec::new();
    let mut left = indices;
    while !left.is_empty() {
        let some = &left[..left.len().min(KVM_MAX_MSR_ENTRIES)];
        let entries: Vec<_> =
            some.iter().map(|&index| kvm_msr_entry { index, ..kvm_msr_entry::default() }).collect();
        let mut msrs = msrs(&entries)?;
        let read = fd.get_msrs(&mut msrs).map_err(refused("read a vCPU's model-specific registers"))?;
        found.extend_from_slice(&msrs.as_slice()[..read.min(entries.len())]);
        // KVM stops at the first that it does not give.
        let refused = usize::from(read < some.len());
        left = &left[(read + refused).min(left.len())..];
    }
    Ok(found)
}

fn xsave(words: usize) -> Result<Xsave, MachineError> {
    Xsave::new(words - XSAVE_WORDS)
        .map_err(|_| MachineError::Unsupported { what: format!("keep an FPU of {words} words") })
}

fn read_xsave(fd: &VcpuFd, words: usize) -> Result<Vec<u32>, MachineError> {
    if words == XSAVE_WORDS {
        return Ok(fd.get_xsave().map_err(refused("read a vCPU's FPU"))?.region.to_vec());
    }
    let mut xsave = xsave(words)?;
    // SAFETY: it has the size that KVM said, and this process asks for no further FPU features.
    unsafe { fd.get_xsave2(&mut xsave) }.map_err(refused("read a vCPU's FPU"))?;
    let mut all = xsave.as_fam_struct_ref().xsave.region.to_vec();
    all.extend_from_slice(xsave.as_slice());
    Ok(all)
}

fn write_xsave(fd: &VcpuFd, saved: &[u32], words: usize) -> Result<(), MachineError> {
    let mut padded = saved.to_vec();
    padded.resize(words, 0);
    let (region, extra) = padded.split_at(XSAVE_WORDS);
    if extra.is_empty() {
        let mut xsave = kvm_xsave::default();
        xsave.region.copy_from_slice(region);
        // SAFETY: KVM said that it needs no more than this, and this process asks for no further FPU features.
        return unsafe { fd.set_xsave(&xsave) }.map_err(refused("set a vCPU's FPU"));
    }
    let mut xsave = xsave(words)?;
    xsave.as_mut_slice().copy_from_slice(extra);
    // SAFETY: only the region is written; the length of what follows it stays as it is.
    let whole = unsafe { xsave.as_mut_fam_struct() };
    whole.xsave.region.copy_from_slice(region);
    // SAFETY: it has the size that KVM said, and this process asks for no further FPU features.
    unsafe { fd.set_xsave2(&xsave) }.map_err(refused("set a vCPU's FPU"))
}
