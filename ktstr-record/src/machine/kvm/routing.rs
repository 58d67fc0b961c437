//! Which interrupt arrives at which pin of which controller.

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
    KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_irqchip,
};
use kvm_ioctls::VmFd;

use super::error::refused;
use crate::machine::error::MachineError;

/// Pins of the IOAPIC, and interrupts of the two 8259s.
const IOAPIC_PINS: u32 = 24;
const PIC_PINS: u32 = 16;
/// Where the timer's interrupt 0 arrives at the IOAPIC, as on every PC and as MADT says. KVM's own choice would be pin 0.
const TIMER_PIN: u32 = 2;

/// Route `vm`'s interrupts as a PC has them.
pub(super) fn set(vm: &VmFd) -> Result<(), MachineError> {
    let entries: Vec<_> = pins().map(|(gsi, chip, pin)| entry(gsi, chip, pin)).collect();
    let routing = KvmIrqRouting::from_entries(&entries)
        .map_err(|_| MachineError::Unsupported { what: "route interrupts".into() })?;
    vm.set_gsi_routing(&routing).map_err(refused("route interrupts"))
}

/// Interrupt, controller and its pin.
fn pins() -> impl Iterator<Item = (u32, u32, u32)> {
    let pic = (0..PIC_PINS).filter(|gsi| *gsi != TIMER_PIN).map(|gsi| match gsi {
        0..8 => (gsi, KVM_IRQCHIP_PIC_MASTER, gsi),
        _ => (gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8),
    });
    // Interrupt 2 is the second 8259's way to the first: no device has it.
    let ioapic = (0..IOAPIC_PINS).filter(|gsi| *gsi != TIMER_PIN).map(|gsi| match gsi {
        0 => (gsi, KVM_IRQCHIP_IOAPIC, TIMER_PIN),
        _ => (gsi, KVM_IRQCHIP_IOAPIC, gsi),
    });
    pic.chain(ioapic)
}

fn entry(gsi: u32, irqchip: u32, pin: u32) -> kvm_irq_routing_entry {
    kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        u: kvm_irq_routing_entry__bindgen_ty_1 { irqchip: kvm_irq_routing_irqchip { irqchip, pin } },
        ..kvm_irq_routing_entry::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, pins};

    #[test]
    fn the_timer_arrives_at_pin_2_and_no_pin_has_two_interrupts() {
        let all: Vec<_> = pins().collect();
        let of_gsi = |wanted: u32| {
            let found = all.iter().filter(|(gsi, _, _)| *gsi == wanted);
            found.map(|&(_, chip, pin)| (chip, pin)).collect::<Vec<_>>()
        };
        assert_eq!(of_gsi(0), [(KVM_IRQCHIP_PIC_MASTER, 0), (KVM_IRQCHIP_IOAPIC, 2)]);
        assert_eq!(of_gsi(4), [(KVM_IRQCHIP_PIC_MASTER, 4), (KVM_IRQCHIP_IOAPIC, 4)]);
        assert_eq!(of_gsi(9), [(KVM_IRQCHIP_PIC_SLAVE, 1), (KVM_IRQCHIP_IOAPIC, 9)]);
        assert_eq!(of_gsi(23), [(KVM_IRQCHIP_IOAPIC, 23)]);
        let pins: BTreeSet<_> = all.iter().map(|&(_, chip, pin)| (chip, pin)).collect();
        assert_eq!(pins.len(), all.len());
    }
}
