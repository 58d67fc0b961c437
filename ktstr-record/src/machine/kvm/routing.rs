//! Where an interrupt arrives: at a pin of a controller, or as a message at a local APIC.

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_irqchip, kvm_irq_routing_msi,
};
use kvm_ioctls::VmFd;

use super::error::refused;
use super::ioapic::{Message, PINS};
use crate::machine::error::MachineError;

/// Pins of the IOAPIC, and interrupts of the two 8259s.
const IOAPIC_PINS: u32 = PINS as u32;
const PIC_PINS: u32 = 16;
/// Where the timer's interrupt 0 arrives at the IOAPIC, as on every PC and as MADT says. KVM's own choice would be pin 0.
const TIMER_PIN: u32 = 2;

/// Where messages to local APICs are written to, and where in that address and the rest of the message things are.
const MESSAGES: u32 = 0xfee0_0000;
const LOW_ID_SHIFT: u32 = 12;
const LOGICAL_SHIFT: u32 = 2;
const DELIVERY_SHIFT: u32 = 8;

/// Route `vm`'s interrupts as a PC has them.
pub(super) fn set(vm: &VmFd) -> Result<(), MachineError> {
    let entries: Vec<_> = pins().map(|(gsi, chip, pin)| entry(gsi, chip, pin)).collect();
    route(vm, &entries)
}

/// Route those of `vm`'s interrupts that are `messages`, and no other.
pub(super) fn set_messages(vm: &VmFd, messages: impl Iterator<Item = Message>) -> Result<(), MachineError> {
    route(vm, &messages.map(message).collect::<Vec<_>>())
}

fn route(vm: &VmFd, entries: &[kvm_irq_routing_entry]) -> Result<(), MachineError> {
    let routing = KvmIrqRouting::from_entries(entries)
        .map_err(|_| MachineError::Unsupported { what: "route interrupts".into() })?;
    vm.set_gsi_routing(&routing).map_err(refused("route interrupts"))
}

/// As KVM takes messages whose ids have 32 bits (`KVM_X2APIC_API_USE_32BIT_IDS`): bits 8 and up of the id in the upper half of
/// the address.
fn message(message: Message) -> kvm_irq_routing_entry {
    let Message { pin, destination, logical, delivery, vector } = message;
    let msi = kvm_irq_routing_msi {
        address_lo: MESSAGES | (destination & 0xff) << LOW_ID_SHIFT | u32::from(logical) << LOGICAL_SHIFT,
        address_hi: destination & !0xff,
        data: vector | delivery << DELIVERY_SHIFT,
        ..kvm_irq_routing_msi::default()
    };
    kvm_irq_routing_entry {
        gsi: pin,
        type_: KVM_IRQ_ROUTING_MSI,
        u: kvm_irq_routing_entry__bindgen_ty_1 { msi },
        ..kvm_irq_routing_entry::default()
    }
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

    use super::{KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, Message, message, pins};

    #[test]
    fn a_message_has_its_id_in_both_halves_of_the_address() {
        let to_433 = Message { pin: 4, destination: 433, logical: false, delivery: 1, vector: 0x31 };
        let entry = message(to_433);
        // SAFETY: it was made as one of a message.
        let msi = unsafe { entry.u.msi };
        assert_eq!((entry.gsi, msi.address_lo, msi.address_hi, msi.data), (4, 0xfeeb_1000, 0x100, 0x131));
        let to_all = message(Message { logical: true, destination: 0xff, ..to_433 });
        // SAFETY: as above.
        assert_eq!(unsafe { to_all.u.msi.address_lo }, 0xfeef_f004);
    }

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
