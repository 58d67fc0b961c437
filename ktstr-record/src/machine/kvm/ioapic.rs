//! An IOAPIC, for guests with APIC ids that KVM's own does not reach.
//!
//! ```text
//! 0xfec00000  selects a register                 0x00  id              0x02  arbitration
//! 0xfec00010  the register that is selected      0x01  version, pins   0x10  the redirection table, two for each pin
//! ```
//!
//! What the guest writes to the redirection table is handed to KVM as the message of that pin's interrupt (`routing.rs`), so that
//! a device raises its line without asking here. Ids have 15 bits: those of bits 8 to 14 are where Linux puts them when it is told
//! `KVM_FEATURE_MSI_EXT_DEST_ID`. Lines are edges; nothing here has a level, so that no pin waits for the end of an interrupt.
//!
//! Sources: Intel's 82093AA; `IO_APIC_route_entry` of `arch/x86/include/asm/io_apic.h`.

use serde::{Deserialize, Serialize};

/// Where it is, as on every PC and as MADT says.
const AT: u64 = 0xfec0_0000;
const BYTES: u64 = 0x1000;
/// In its page: what selects a register, and that register.
const SELECT: u64 = 0;
const WINDOW: u64 = 0x10;
/// Registers that are no pin's.
const ID: u8 = 0;
const VERSION: u8 = 1;
const ARBITRATION: u8 = 2;
/// The first register of the redirection table.
const TABLE: u8 = 0x10;
/// Its pins, which are the interrupts of a machine.
pub(super) const PINS: usize = 24;
/// That of an 82093AA, which has no register for the end of an interrupt.
const THIS_VERSION: u32 = 0x11;

/// An entry of the table: what can be written, and parts of it.
const WRITABLE: u64 = 0xfffe_0000_0001_afff;
const VECTOR: u64 = 0xff;
const DELIVERY_SHIFT: u32 = 8;
const DELIVERY: u64 = 7;
/// An interrupt of an 8259, which the machine has none of.
const EXTERNAL: u64 = 7;
const LOGICAL: u64 = 1 << 11;
const MASKED: u64 = 1 << 16;
/// The id: bits 8 to 14, then bits 0 to 7.
const HIGH_ID_SHIFT: u32 = 49;
const HIGH_ID: u64 = 0x7f;
const LOW_ID_SHIFT: u32 = 56;

/// The IOAPIC. As after power-on all its pins are masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ioapic {
    selected: u8,
    id: u32,
    table: [u64; PINS],
}

/// To whom the interrupt of a pin goes, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The pin, and the interrupt.
    pub(super) pin: u32,
    /// An APIC id, or a logical destination.
    pub(super) destination: u32,
    pub(super) logical: bool,
    /// Fixed, lowest priority, NMI and so on, by their numbers.
    pub(super) delivery: u32,
    pub(super) vector: u32,
}

impl Default for Ioapic {
    fn default() -> Self {
        Self { selected: 0, id: 0, table: [MASKED; PINS] }
    }
}

impl Ioapic {
    /// Where in its page `at` is, when it is there.
    pub(super) fn offset(at: u64) -> Option<u64> {
        at.checked_sub(AT).filter(|offset| *offset < BYTES)
    }

    /// The pin whose half an entry the selected register is, and whether it is the upper one.
    fn entry(&self) -> Option<(usize, bool)> {
        let register = self.selected.checked_sub(TABLE)?;
        let pin = usize::from(register / 2);
        (pin < PINS).then_some((pin, register % 2 == 1))
    }

    /// A read of as many bytes as `data` has. Registers have 32 bits; what is beyond is 0.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        let value = match (offset, self.selected, self.entry()) {
            (SELECT, ..) => self.selected.into(),
            (WINDOW, ID | ARBITRATION, _) => self.id,
            (WINDOW, VERSION, _) => THIS_VERSION | (PINS as u32 - 1) << 16,
            (WINDOW, _, Some((pin, upper))) => (self.table[pin] >> if upper { 32 } else { 0 }) as u32,
            _ => 0,
        };
        data.fill(0);
        data.iter_mut().zip(value.to_le_bytes()).for_each(|(byte, of_value)| *byte = of_value);
    }

    /// A write of `data`. Says whether an interrupt goes elsewhere from now on.
    #[must_use]
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> bool {
        // Other widths are undefined.
        let Ok(bytes) = <[u8; 4]>::try_from(data) else { return false };
        let value = u32::from_le_bytes(bytes);
        match (offset, self.selected, self.entry()) {
            (SELECT, ..) => self.selected = value as u8,
            (WINDOW, ID, _) => self.id = value & 0x0f00_0000,
            (WINDOW, _, Some((pin, upper))) => {
                let old = self.message(pin);
                let shift = if upper { 32 } else { 0 };
                let kept = self.table[pin] & !(u64::from(u32::MAX) << shift);
                self.table[pin] = (kept | u64::from(value) << shift) & WRITABLE;
                return self.message(pin) != old;
            }
            _ => {}
        }
        false
    }

    fn message(&self, pin: usize) -> Option<Message> {
        let entry = self.table[pin];
        let delivery = entry >> DELIVERY_SHIFT & DELIVERY;
        if entry & MASKED != 0 || delivery == EXTERNAL {
            return None;
        }
        let id = entry >> LOW_ID_SHIFT | (entry >> HIGH_ID_SHIFT & HIGH_ID) << 8;
        Some(Message {
            pin: pin as u32,
            destination: id as u32,
            logical: entry & LOGICAL != 0,
            delivery: delivery as u32,
            vector: (entry & VECTOR) as u32,
        })
    }

    /// What the interrupts of all pins that are not masked are, ascending.
    pub(super) fn messages(&self) -> impl Iterator<Item = Message> + '_ {
        (0..PINS).filter_map(|pin| self.message(pin))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Ioapic, Message, PINS};

    fn read(ioapic: &mut Ioapic, register: u8) -> u32 {
        assert!(!ioapic.write(0, &u32::from(register).to_le_bytes()));
        let mut data = [0; 4];
        ioapic.read(0x10, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(ioapic: &mut Ioapic, register: u8, value: u32) -> bool {
        assert!(!ioapic.write(0, &u32::from(register).to_le_bytes()));
        ioapic.write(0x10, &value.to_le_bytes())
    }

    #[test]
    fn it_says_what_it_is() {
        let mut ioapic = Ioapic::default();
        assert_eq!(read(&mut ioapic, 1), 0x0017_0011);
        assert_eq!((read(&mut ioapic, 0x10), read(&mut ioapic, 0x3f)), (1 << 16, 0));
        assert_eq!((read(&mut ioapic, 0x40), read(&mut ioapic, 3)), (0, 0));
        write(&mut ioapic, 0, u32::MAX);
        assert_eq!((read(&mut ioapic, 0), read(&mut ioapic, 2)), (0x0f00_0000, 0x0f00_0000));
        assert_eq!(ioapic.messages().count(), 0);
        assert_eq!((Ioapic::offset(0xfec0_0010), Ioapic::offset(0xfec0_1000)), (Some(0x10), None));
        assert_eq!(Ioapic::offset(0xfebf_fffc), None);
    }

    /// Linux writes the upper half first, then the lower one, which is no longer masked (`__ioapic_write_entry`).
    #[test]
    fn a_pin_that_is_not_masked_has_a_message_to_ids_of_fifteen_bits() {
        let mut ioapic = Ioapic::default();
        // 433 is 0x1b1.
        assert!(!write(&mut ioapic, 0x19, 0xb1 << 24 | 1 << 17), "it is masked");
        assert!(write(&mut ioapic, 0x18, 0x0000_0031));
        let to_433 = Message { pin: 4, destination: 433, logical: false, delivery: 0, vector: 0x31 };
        assert_eq!(ioapic.messages().collect::<Vec<_>>(), [to_433]);
        assert!(!write(&mut ioapic, 0x18, 0x0000_0031), "nothing is new");
        assert!(
            !write(&mut ioapic, 0x18, 0x0000_5031),
            "status and the wait for an end are not the guest's to write"
        );
        assert_eq!(read(&mut ioapic, 0x18), 0x0000_0031);
        assert!(write(&mut ioapic, 0x19, 0xff << 24 | 0x7f << 17));
        assert_eq!(ioapic.messages().next().map(|message| message.destination), Some(0x7fff));
        assert!(write(&mut ioapic, 0x18, 0x0001_0031));
        assert_eq!(ioapic.messages().next(), None);
        assert!(write(&mut ioapic, 0x3e, 0x0000_0d40), "pin 23, to a set of processors");
        let last = ioapic.messages().last().map(|message| (message.pin, message.logical, message.delivery));
        assert_eq!(last, Some((23, true, 5)));
        assert!(write(&mut ioapic, 0x3e, 0x0000_0740), "there is no 8259 to ask for a vector");
        assert_eq!(ioapic.messages().next(), None);
    }

    proptest! {
        #[test]
        fn whatever_is_written_its_state_stays_one_and_a_message_names_what_there_can_be(
            accesses in prop::collection::vec((0_u64..0x1000, prop::collection::vec(any::<u8>(), 0..9), any::<bool>()), 0..200)
        ) {
            let mut ioapic = Ioapic::default();
            for (offset, mut data, aligned) in accesses {
                let offset = if aligned { offset & 0x10 } else { offset };
                let before: Vec<_> = ioapic.messages().collect();
                let says = ioapic.write(offset, &data);
                let after: Vec<_> = ioapic.messages().collect();
                prop_assert_eq!(says, before != after);
                for message in after {
                    prop_assert!(message.pin < PINS as u32 && message.destination < 1 << 15);
                    prop_assert!(message.delivery < 7 && message.vector < 256);
                }
                ioapic.read(offset, &mut data);
            }
        }
    }
}
