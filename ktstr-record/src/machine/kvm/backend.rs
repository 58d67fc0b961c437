//! Starting and saving the machine of KVM.

use std::fs;
use std::io;
use std::sync::LazyLock;

use ktstr_replay::trace::record::Manifest;
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::{Kvm, VmFd};
use serde_json::{Value, json};

use super::boot::{ApicIds, BootError, Guest, Protocol, build};
use super::error::refused;
use super::exits;
use super::limits;
use super::machine::KvmMachine;
use super::means::Means;
use super::memo;
use super::probe::KvmProbe;
use super::vm::{CpuSpec, Vm};
use crate::machine::error::{MachineError, StartError};
use crate::machine::interface::{AttemptError, Backend, guest_ram};
use crate::machine::limits::HostLimits;
use crate::machine::performance::Tuning;
use crate::machine::slots::CpuSlots;
use crate::machine::template::Template;
use crate::spec::{KvmBoots, KvmSpec, MachineSpec};

/// What this host's KVM is good for, found out once in this process, whatever was kept of it.
static PROBE: LazyLock<KvmProbe> = LazyLock::new(KvmProbe::again);

/// Our own VMM, for the machine of `spec`.
#[derive(Clone, Copy, Debug)]
pub(in crate::machine) struct KvmBackend<'a> {
    pub(in crate::machine) spec: &'a MachineSpec,
    pub(in crate::machine) kvm: &'a KvmSpec,
}

impl Backend for KvmBackend<'_> {
    type Machine = KvmMachine;

    fn check(&self, host: &HostLimits) -> Result<(), StartError> {
        if self.kvm.boots == KvmBoots::Kernel && !PROBE.executes() {
            return Err(StartError::Kvm { why: PROBE.to_string() });
        }
        limits::check(self.spec, host)
    }

    fn templates(&self) -> bool {
        self.kvm.templates
    }

    fn key(&self) -> Value {
        json!({
            "kvm": {
                "program": env!("CARGO_PKG_VERSION"),
                // What KVM offers, and what it makes of a state, is the same until then.
                "host_boot": memo::boot_id(),
            },
            "kernel": self.spec.boot_image_id(),
            "cmdline": self.spec.cmdline(),
            "topology": self.spec.topology.to_string(),
            "memory_mib": self.spec.memory_mib,
        })
    }

    fn describe(&self, manifest: &mut Manifest) {
        let machine = &mut manifest.machine;
        machine.kind = String::from("kvm");
        machine.version = format!("KVM of Linux {}", rustix::system::uname().release().to_string_lossy());
    }

    fn slowdown(&self) -> u32 {
        1
    }

    fn boot(&self, initrd: &[u8], tuning: Option<&mut Tuning>) -> Result<KvmMachine, AttemptError> {
        let path = self.spec.boot_image();
        let missing = |source| {
            AttemptError::Host(StartError::Missing { what: "the kernel", path: path.to_owned(), source })
        };
        let kernel = fs::read(path).map_err(missing)?;
        let node_bytes = self.spec.node_bytes();
        let cmdline = self.spec.cmdline();
        let guest = Guest {
            topology: self.spec.topology,
            node_bytes: &node_bytes,
            kernel: &kernel,
            initramfs: initrd,
            cmdline: &cmdline,
            protocol: Protocol::Linux64,
        };
        let image = build(&guest).map_err(laid_out)?;
        let (kvm, vm) = self.vm(&image.apic_ids, tuning)?;
        for region in &image.regions {
            let written = vm.shared.ram.write(ktstr_replay::units::GuestPhys(region.at), &region.bytes);
            written.map_err(|error| {
                AttemptError::host("load the kernel into the guest's memory")(io::Error::other(error))
            })?;
        }
        vm.enter_by(&image.entry).map_err(AttemptError::Machine)?;
        Ok(KvmMachine::new(kvm, vm))
    }

    fn restore(
        &self,
        _initrd: &[u8],
        template: &Template,
        tuning: Option<&mut Tuning>,
    ) -> Result<KvmMachine, AttemptError> {
        let ids = ApicIds::new(self.spec.topology).map_err(laid_out)?;
        let (kvm, mut vm) = self.vm(&ids, tuning)?;
        template.load(&vm.shared.ram).map_err(AttemptError::Template)?;
        vm.restore(&template.state).map_err(AttemptError::Machine)?;
        Ok(KvmMachine::new(kvm, vm))
    }

    fn vcpu_threads(machine: &mut KvmMachine) -> Result<Vec<u32>, MachineError> {
        machine.vcpu_threads()
    }

    fn ready(_: &mut KvmMachine) -> Result<(), MachineError> {
        // There is nothing of the kernel that this machine would have to know.
        Ok(())
    }

    fn hold(machine: &mut KvmMachine, slots: CpuSlots) {
        machine.hold(slots);
    }
}

impl KvmBackend<'_> {
    /// A VM with this machine's memory, all hole, and vCPUs as after power-on.
    fn vm(&self, ids: &ApicIds, mut tuning: Option<&mut Tuning>) -> Result<(Kvm, Vm), AttemptError> {
        let ram = guest_ram(self.spec, tuning.as_deref_mut(), None)?;
        let kvm = Kvm::new().map_err(|error| AttemptError::host("open /dev/kvm")(error.into()))?;
        let tune = |vm: &VmFd| {
            if let Some(tuning) = tuning {
                exits::suppress(vm, tuning);
            }
        };
        let made = || {
            let supported =
                kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(refused("read KVM's CPUID"))?;
            let of = |(cpu, apic_id)| {
                let entries = ids.cpuid(supported.as_slice(), cpu);
                let cpuid = CpuId::from_entries(&entries).map_err(|_| MachineError::Unsupported {
                    what: format!("have {} entries of CPUID", entries.len()),
                })?;
                Ok(CpuSpec { apic_id, cpuid })
            };
            let cpus = (0..).zip(ids.ids()).map(of).collect::<Result<Vec<_>, MachineError>>()?;
            Vm::tuned(&kvm, ram, &cpus, Means::known(&kvm)?, tune)
        };
        let vm = made().map_err(AttemptError::Machine)?;
        Ok((kvm, vm))
    }
}

/// What the guest boots from cannot be made, however often it is tried.
fn laid_out(error: BootError) -> AttemptError {
    AttemptError::Host(StartError::BootImage(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::interface::keys::assert_every_input_changes;
    use crate::spec::{BackendSpec, test_spec};

    const TINY: KvmSpec = KvmSpec { boots: KvmBoots::Tiny, templates: true };

    fn key(spec: &MachineSpec) -> Value {
        KvmBackend { spec, kvm: &TINY }.key()
    }

    #[test]
    fn every_input_changes_the_key_and_the_place_of_the_kernel_does_not() {
        assert_every_input_changes(key, &[]);
    }

    #[test]
    fn a_trace_of_it_has_no_taint_of_emulation() {
        let (spec, mut manifest) = (test_spec(), Manifest::default());
        let backend = KvmBackend { spec: &spec, kvm: &TINY };
        backend.describe(&mut manifest);
        assert_eq!((manifest.machine.kind.as_str(), manifest.is_emulated()), ("kvm", false));
        assert!(manifest.machine.version.starts_with("KVM of Linux "), "{}", manifest.machine.version);
        assert_eq!(backend.slowdown(), 1);
    }

    /// Where KVM emulates, or is not there, a kernel is refused with the reason, before anything is started.
    #[test]
    fn a_kernel_is_refused_where_kvm_does_not_execute_guests() {
        let mut spec = test_spec();
        let kernel = KvmSpec::default();
        spec.backend = BackendSpec::Kvm(kernel);
        let checked = |kvm| KvmBackend { spec: &spec, kvm }.check(&HostLimits { cpus: 16, free_mib: 8000 });
        match (&*PROBE, checked(&kernel)) {
            (KvmProbe::Executes { .. }, found) => found.unwrap(),
            (probe, found) => {
                let refused = found.unwrap_err().to_string();
                assert!(
                    refused.contains(&probe.to_string()) && refused.contains("KTSTR_MACHINE=qemu"),
                    "{refused}"
                );
            }
        }
        checked(&TINY).unwrap();
    }
}
