//! Which interrupt controllers a VM has: those of a PC, all of them in KVM, or, where APIC ids are beyond what KVM's IOAPIC reaches,
//! local APICs in KVM and an IOAPIC of ours.
//!
//! KVM gives no 8259 and no PIT to a VM of the second kind. Linux needs neither there: MADT says that there is no 8259, and with
//! the TSC's rate known of kvmclock and a local timer with deadlines it does not calibrate anything (`apic_needs_pit`).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X2APIC_API, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_SPEAKER_DUMMY, KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
    KVM_X2APIC_API_USE_32BIT_IDS, kvm_enable_cap, kvm_irqchip, kvm_pit_config, kvm_pit_state2,
};
use kvm_ioctls::{Cap, VmFd};
use serde::{Deserialize, Serialize};

use super::boot::XAPIC_MAX;
use super::error::refused;
use super::ioapic::{Ioapic, PINS};
use super::routing;
use super::vcpu::lock;
use crate::machine::error::MachineError;

/// How often the PIT counts in a second.
const PIT_HZ: u64 = 1_193_182;
/// The modes in which a channel of the PIT counts down again and again.
const PERIODIC: [u8; 2] = [2, 3];
const PC: [u32; 3] = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];

/// The interrupt controllers of a VM.
pub(super) struct Chips {
    vm: Arc<VmFd>,
    /// The IOAPIC, where it is ours.
    ioapic: Option<Mutex<Ioapic>>,
}

/// Their state, and that of the PIT, which comes with the first kind.
#[derive(Serialize, Deserialize)]
pub(super) enum SavedChips {
    Pc { irqchips: Vec<kvm_irqchip>, pit: Box<kvm_pit_state2> },
    Wide(Ioapic),
}

impl Chips {
    /// Give `vm`, which has no vCPU yet, what it needs for vCPUs whose largest APIC id is `largest`.
    ///
    /// # Errors
    /// [`MachineError::Unsupported`] for ids that this KVM cannot have.
    pub(super) fn new(vm: Arc<VmFd>, largest: u32) -> Result<Self, MachineError> {
        if largest <= XAPIC_MAX {
            vm.create_irq_chip().map_err(refused("create interrupt controllers"))?;
            let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..kvm_pit_config::default() };
            vm.create_pit2(pit).map_err(refused("create a timer"))?;
            routing::set(&vm)?;
            return Ok(Self { vm, ioapic: None });
        }
        let unsupported = |why: String| MachineError::Unsupported {
            what: format!("have a vCPU with APIC id {largest}: {why}"),
        };
        // Its ids are below that number; KVMs before Linux 4.7 do not say it.
        let below = u32::try_from(vm.check_extension_int(Cap::MaxVcpuId)).unwrap_or(0);
        if largest >= below {
            return Err(unsupported(format!("this KVM's go up to {}", below.saturating_sub(1))));
        }
        let ids = u64::from(KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
        for (name, cap, argument) in [
            ("KVM_CAP_X2APIC_API", KVM_CAP_X2APIC_API, ids),
            ("KVM_CAP_SPLIT_IRQCHIP", KVM_CAP_SPLIT_IRQCHIP, PINS as u64),
        ] {
            let enable = kvm_enable_cap { cap, args: [argument, 0, 0, 0], ..kvm_enable_cap::default() };
            vm.enable_cap(&enable)
                .map_err(|error| unsupported(format!("this KVM refuses {name}: {error}")))?;
        }
        Ok(Self { vm, ioapic: Some(Mutex::default()) })
    }

    /// The guest reads memory at `at`. Says whether it is theirs.
    pub(super) fn read(&self, at: u64, data: &mut [u8]) -> bool {
        match (&self.ioapic, Ioapic::offset(at)) {
            (Some(ioapic), Some(offset)) => {
                lock(ioapic).read(offset, data);
                true
            }
            _ => false,
        }
    }

    /// The guest writes memory at `at`. Says whether it is theirs.
    ///
    /// # Errors
    /// When KVM does not take where interrupts go to now.
    pub(super) fn write(&self, at: u64, data: &[u8]) -> Result<bool, MachineError> {
        let (Some(ioapic), Some(offset)) = (&self.ioapic, Ioapic::offset(at)) else { return Ok(false) };
        // Held, so that of two vCPUs that write at once the second one's routes are the last.
        let mut ioapic = lock(ioapic);
        if ioapic.write(offset, data) {
            routing::set_messages(&self.vm, ioapic.messages())?;
        }
        Ok(true)
    }

    /// Have those of the PIT's interrupts lost that came due in a stop of this length (or as long after a restore), before the guest goes
    /// on, but for the first: that one waits in the local APIC. KVM has counted the others and would hand them over one right after the
    /// other, by which the guest would see the stop. The countdown begins anew.
    ///
    /// That KVM does not count them (`KVM_REINJECT_CONTROL`) costs 15 to 25 ms when a VM is made.
    pub(super) fn lose_late_ticks(&self, stop: Duration) -> Result<(), MachineError> {
        if self.ioapic.is_some() {
            // There is no PIT.
            return Ok(());
        }
        let pit = self.vm.get_pit2().map_err(refused("read the timer"))?;
        if !PERIODIC.contains(&pit.channels[0].mode) || stop <= period(pit.channels[0].count) {
            return Ok(());
        }
        self.vm.set_pit2(&pit).map_err(refused("set the timer"))
    }

    /// Their state.
    pub(super) fn save(&self) -> Result<SavedChips, MachineError> {
        if let Some(ioapic) = &self.ioapic {
            return Ok(SavedChips::Wide(lock(ioapic).clone()));
        }
        let chip = |chip_id| {
            let mut chip = kvm_irqchip { chip_id, ..kvm_irqchip::default() };
            self.vm.get_irqchip(&mut chip).map_err(refused("read an interrupt controller"))?;
            Ok(chip)
        };
        Ok(SavedChips::Pc {
            irqchips: PC.into_iter().map(chip).collect::<Result<_, MachineError>>()?,
            pit: Box::new(self.vm.get_pit2().map_err(refused("read the timer"))?),
        })
    }

    /// Why `saved` is not of the same kind of controllers, if it is not.
    pub(super) fn unfit(&self, saved: &SavedChips) -> Option<String> {
        match (saved, &self.ioapic) {
            (SavedChips::Pc { irqchips, .. }, None) => {
                let found: Vec<u32> = irqchips.iter().map(|chip| chip.chip_id).collect();
                (found != PC).then(|| format!("its interrupt controllers are {found:?}"))
            }
            (SavedChips::Wide(_), Some(_)) => None,
            (SavedChips::Pc { .. }, Some(_)) => Some("its IOAPIC is KVM's, the machine's is not".into()),
            (SavedChips::Wide(_), None) => Some("its IOAPIC is not KVM's, the machine's is".into()),
        }
    }

    /// Take over a state that is not [unfit](Self::unfit).
    pub(super) fn restore(&self, saved: SavedChips) -> Result<(), MachineError> {
        match (saved, &self.ioapic) {
            (SavedChips::Pc { irqchips, pit }, _) => {
                for chip in &irqchips {
                    self.vm.set_irqchip(chip).map_err(refused("set an interrupt controller"))?;
                }
                self.vm.set_pit2(&pit).map_err(refused("set the timer"))
            }
            (SavedChips::Wide(saved), Some(ioapic)) => {
                let mut ioapic = lock(ioapic);
                *ioapic = saved;
                routing::set_messages(&self.vm, ioapic.messages())
            }
            (SavedChips::Wide(_), None) => Ok(()),
        }
    }
}

/// How long the PIT takes to count down from `count`, which is 0 for the largest.
fn period(count: u32) -> Duration {
    let clocks = if count == 0 { 1 << 16 } else { u64::from(count) };
    Duration::from_nanos(clocks * 1_000_000_000 / PIT_HZ)
}

#[cfg(test)]
mod tests {
    use super::period;

    #[test]
    fn the_pit_counts_for_its_period() {
        assert_eq!(period(1193).as_micros(), 999);
        assert_eq!(period(0).as_micros(), 54_925);
        assert!(period(u32::MAX).as_secs() > 3000);
    }
}
