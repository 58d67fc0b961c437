//! The port bus: what answers when the guest reads or writes a port.
//!
//! ```text
//! 0x3f8  COM1, the console
//! 0x5f0  the doorbell: a write of 32 bits rings it with that number
//! 0x600  ACPI's PM1 event registers, status and enable: the latter keeps what is written, and nothing ever happens
//! 0x604  ACPI's PM1 control register: SLP_EN with SLP_TYP 0 powers off
//! 0xcf9  reset control: bit 2 resets
//! 0x64   keyboard controller: 0xfe resets
//! ```
//!
//! The guest is not trusted: whatever it writes, of whatever width, costs bounded memory and time here.

use std::io::{self, Write};

use guest_init::layout::DOORBELL_PORT;
use vm_superio::serial::NoEvents;
use vm_superio::{Serial, SerialState, Trigger};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// COM1, the console.
const COM1: u16 = 0x3f8;
const COM1_END: u16 = COM1 + 8;
/// Its interrupt line.
pub(super) const COM1_GSI: u32 = 4;
/// ACPI's PM1 event registers (ACPI 6.5, 4.8.3.1).
const PM1_EVENT: u16 = 0x600;
const PM1_EVENT_END: u16 = PM1_EVENT + 4;
const PM1_ENABLE: u16 = PM1_EVENT + 2;
/// ACPI's PM1 control register (ACPI 6.5, 4.8.3.2): that ACPI is on, the kind of sleep, and the bit that begins it.
const PM1_CONTROL: u16 = 0x604;
const SCI_EN: u16 = 1;
const SLP_TYP: u16 = 7 << 10;
const SLP_EN: u16 = 1 << 13;
const KEYBOARD: u16 = 0x64;
const KEYBOARD_RESET: u8 = 0xfe;
const RESET_CONTROL: u16 = 0xcf9;
const RESET_CPU: u8 = 1 << 2;
/// What is kept of the console. A guest that says more than that is not listened to.
const CONSOLE_BYTES: usize = 64 << 20;

/// What a write asks of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The doorbell was rung.
    Ring(u32),
    /// The guest powers itself off.
    PowerOff,
    /// The guest resets itself.
    Reset,
}

/// All devices on ports.
pub(super) struct Ports {
    serial: Serial<Interrupt, NoEvents, Console>,
    /// Which of ACPI's fixed events the guest wants to hear of. Linux looks whether it was taken.
    pm1_enable: u16,
}

/// The end of an interrupt line.
struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// What the guest wrote to its console.
#[derive(Debug, Default)]
struct Console {
    all: Vec<u8>,
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CONSOLE_BYTES.saturating_sub(self.all.len());
        self.all.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Ports {
    /// Devices after power-on, and the event that raises the console's interrupt.
    pub(super) fn new() -> io::Result<(Self, EventFd)> {
        let line = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let theirs = line.try_clone()?;
        Ok((Self { serial: Serial::new(Interrupt(line), Console::default()), pm1_enable: 0 }, theirs))
    }

    /// A write of `data` to `port`.
    pub(super) fn write(&mut self, port: u16, data: &[u8]) -> Option<Wish> {
        match (port, data) {
            // More than one byte is a string instruction (`rep outsb`), which writes them all to the same port.
            (COM1..COM1_END, bytes) => {
                for byte in bytes {
                    // It fails when nobody takes the interrupt, which is the guest's loss.
                    let _ = self.serial.write((port - COM1) as u8, *byte);
                }
                None
            }
            (DOORBELL_PORT, &[a, b, c, d]) => Some(Wish::Ring(u32::from_le_bytes([a, b, c, d]))),
            (PM1_ENABLE, &[low, high]) => {
                self.pm1_enable = u16::from_le_bytes([low, high]);
                None
            }
            (PM1_CONTROL, &[low, high]) if u16::from_le_bytes([low, high]) & (SLP_EN | SLP_TYP) == SLP_EN => {
                Some(Wish::PowerOff)
            }
            (KEYBOARD, &[KEYBOARD_RESET]) => Some(Wish::Reset),
            (RESET_CONTROL, &[byte]) if byte & RESET_CPU != 0 => Some(Wish::Reset),
            _ => None,
        }
    }

    /// A read of as many bytes as `data` has from `port`.
    pub(super) fn read(&mut self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        match (port, data) {
            (COM1..COM1_END, bytes) => bytes.fill_with(|| self.serial.read((port - COM1) as u8)),
            (PM1_ENABLE, bytes @ [_, _]) => bytes.copy_from_slice(&self.pm1_enable.to_le_bytes()),
            (PM1_EVENT..PM1_EVENT_END, bytes) => bytes.fill(0),
            (PM1_CONTROL, bytes @ [_, _]) => bytes.copy_from_slice(&SCI_EN.to_le_bytes()),
            // A keyboard controller that is never busy and has nothing to say.
            (KEYBOARD, [byte]) => *byte = 0,
            _ => {}
        }
    }

    /// All of the console so far.
    pub(super) fn console(&self) -> &[u8] {
        &self.serial.writer().all
    }

    /// The state of the devices, the console's text aside.
    pub(super) fn save(&self) -> SavedPorts {
        let SerialState {
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable,
            interrupt_identification,
            line_control,
            line_status,
            modem_control,
            modem_status,
            scratch,
            in_buffer,
        } = self.serial.state();
        let serial = SavedSerial {
            registers: [
                baud_divisor_low,
                baud_divisor_high,
                interrupt_enable,
                interrupt_identification,
                line_control,
                line_status,
                modem_control,
                modem_status,
                scratch,
            ],
            in_buffer,
        };
        SavedPorts { serial, pm1_enable: self.pm1_enable }
    }

    /// Take over a state that was saved.
    pub(super) fn restore(&mut self, saved: SavedPorts) -> Result<(), String> {
        let SavedPorts { serial: saved, pm1_enable } = saved;
        let [
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable,
            interrupt_identification,
            line_control,
            line_status,
            modem_control,
            modem_status,
            scratch,
        ] = saved.registers;
        let state = SerialState {
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable,
            interrupt_identification,
            line_control,
            line_status,
            modem_control,
            modem_status,
            scratch,
            in_buffer: saved.in_buffer,
        };
        let line = self.serial.interrupt_evt().0.try_clone().map_err(|error| error.to_string())?;
        self.serial = Serial::from_state(&state, Interrupt(line), NoEvents, Console::default())
            .map_err(|error| format!("the serial port: {error:?}"))?;
        self.pm1_enable = pm1_enable;
        Ok(())
    }
}

/// The devices' state, the console's text aside.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct SavedPorts {
    serial: SavedSerial,
    pm1_enable: u16,
}

/// The serial port's registers, in the order of [`SerialState`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct SavedSerial {
    registers: [u8; 9],
    in_buffer: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Ports, Wish};

    #[test]
    fn what_is_written_to_com1_is_the_console() {
        let (mut ports, _line) = Ports::new().unwrap();
        for byte in *b"hello\n" {
            assert_eq!(ports.write(0x3f8, &[byte]), None);
        }
        assert_eq!(ports.write(0x3f8, b"more\n"), None);
        assert_eq!(ports.console(), b"hello\nmore\n");
        let mut status = [0];
        ports.read(0x3fd, &mut status);
        assert_eq!(status[0] & 0x20, 0x20, "the transmitter is empty");
    }

    #[test]
    fn only_what_is_meant_so_ends_the_guest() {
        let (mut ports, _line) = Ports::new().unwrap();
        assert_eq!(ports.write(0x5f0, &7u32.to_le_bytes()), Some(Wish::Ring(7)));
        assert_eq!(ports.write(0x604, &[1, 0x20]), Some(Wish::PowerOff));
        assert_eq!(ports.write(0x64, &[0xfe]), Some(Wish::Reset));
        assert_eq!(ports.write(0xcf9, &[6]), Some(Wish::Reset));
        for (port, data) in [
            (0x5f0, &[7][..]),
            (0x604, &[0, 0x24]),
            (0x604, &[1, 0]),
            (0x64, &[0xd1]),
            (0xcf9, &[2]),
            (0x80, &[0]),
        ] {
            assert_eq!(ports.write(port, data), None, "{port:#x}");
        }
    }

    #[test]
    fn what_acpi_enables_is_kept_and_no_event_ever_happens() {
        let (mut ports, _line) = Ports::new().unwrap();
        let read = |ports: &mut Ports, port| {
            let mut data = [0xff; 2];
            ports.read(port, &mut data);
            u16::from_le_bytes(data)
        };
        assert_eq!((read(&mut ports, 0x600), read(&mut ports, 0x602)), (0, 0));
        assert_eq!(ports.write(0x602, &[0x20, 0x01]), None);
        assert_eq!(ports.write(0x600, &[0xff, 0xff]), None);
        assert_eq!((read(&mut ports, 0x600), read(&mut ports, 0x602)), (0, 0x120));
        let (mut other, _line) = Ports::new().unwrap();
        other.restore(ports.save()).unwrap();
        assert_eq!(read(&mut other, 0x602), 0x120);
    }

    #[test]
    fn the_serial_port_is_saved_and_restored() {
        let (mut ports, _line) = Ports::new().unwrap();
        ports.write(0x3fb, &[0x83]);
        ports.write(0x3f8, &[0x55]);
        ports.write(0x3fb, &[0x03]);
        ports.write(0x3ff, &[0x77]);
        let saved = ports.save();
        let (mut other, _line) = Ports::new().unwrap();
        assert_ne!(other.save(), saved);
        other.restore(saved.clone()).unwrap();
        assert_eq!(other.save(), saved);
        let mut scratch = [0];
        other.read(0x3ff, &mut scratch);
        assert_eq!(scratch, [0x77]);
    }

    proptest! {
        #[test]
        fn no_access_of_any_port_panics(
            accesses in prop::collection::vec((0u16..0x1000, any::<bool>(), prop::collection::vec(any::<u8>(), 0..9)), 0..200)
        ) {
            let (mut ports, _line) = Ports::new().unwrap();
            for (port, reads, mut data) in accesses {
                if reads { ports.read(port, &mut data) } else { ports.write(port, &data); }
            }
            let saved = ports.save();
            prop_assert!(ports.restore(saved).is_ok());
        }
    }
}
