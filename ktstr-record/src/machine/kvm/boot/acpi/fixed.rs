//! FADT, FACS and DSDT: what every machine has.

use acpi_tables::aml::{Device, EISAName, IO, Interrupt, Name, Package, ResourceTemplate, Scope, ZERO};
use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, bytes, table};

/// The port of two 16-bit registers: PM1 status, whose bits are cleared by writing 1, and PM1 enable. Nothing ever sets a
/// status bit.
pub const PM1_EVENT_PORT: u16 = 0x600;
/// The port of the 16-bit PM1 control register. Bit 0 reads as 1. The guest powers off by writing bit 13 (`SLP_EN`) with 0 in
/// bits 10 to 12 (`SLP_TYP`, as `\_S5` says).
pub const PM1_CONTROL_PORT: u16 = 0x604;
/// The guest resets itself by writing [`RESET_VALUE`] to this 8-bit port, as on a PC.
pub const RESET_PORT: u16 = 0xcf9;
/// See [`RESET_PORT`].
pub const RESET_VALUE: u8 = 0x06;
/// ACPI's own interrupt, which nothing raises.
pub const SCI_GSI: u16 = 9;

/// The first serial port.
const SERIAL_PORT: u16 = 0x3f8;
const SERIAL_PORT_BYTES: u8 = 8;
const SERIAL_IRQ: u32 = 4;

/// There are devices on an ISA bus: the serial port. (5.2.9.3)
const LEGACY_DEVICES: u16 = 1;
/// There is no VGA. There is no 8042 either: its bit is not set, and the kernel does not wait for one.
const NO_VGA: u16 = 1 << 2;
/// There is no clock in CMOS: the time is kvmclock's.
const NO_CMOS_CLOCK: u16 = 1 << 5;

/// Not "hardware-reduced", which would make Linux do without PIT and 8259 where there are some.
pub(super) fn fadt(dsdt: u64, facs: u64) -> Vec<u8> {
    let port = |bits, access, port: u16| GAS::new(AddressSpace::SystemIo, bits, 0, access, port.into());
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .dsdt_64(dsdt)
        .firmware_ctrl_32(facs as u32)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        // Power and sleep buttons, and the clock's alarm, are not among the fixed registers.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless);
    // Without a command port for SMIs ACPI is on from the start.
    fadt.sci_int = SCI_GSI.into();
    fadt.pm1a_evt_blk = u32::from(PM1_EVENT_PORT).into();
    fadt.pm1_evt_len = 4;
    fadt.x_pm1a_evt_blk = port(32, AccessSize::WordAccess, PM1_EVENT_PORT);
    fadt.pm1a_cnt_blk = u32::from(PM1_CONTROL_PORT).into();
    fadt.pm1_cnt_len = 2;
    fadt.x_pm1a_cnt_blk = port(16, AccessSize::WordAccess, PM1_CONTROL_PORT);
    // Higher latencies than these mean that the CPU has no such state.
    fadt.p_lvl2_lat = 0xfff.into();
    fadt.p_lvl3_lat = 0xfff.into();
    fadt.iapc_boot_arch = (LEGACY_DEVICES | NO_VGA | NO_CMOS_CLOCK).into();
    fadt.reset_reg = port(8, AccessSize::ByteAccess, RESET_PORT);
    fadt.reset_value = RESET_VALUE;
    bytes(&fadt.finalize())
}

pub(super) fn facs() -> Vec<u8> {
    bytes(&FACS::new())
}

/// The serial port, and how to power off.
pub(super) fn dsdt() -> Vec<u8> {
    let power_off = Package::new(vec![&ZERO, &ZERO, &ZERO, &ZERO]);
    let mut body = bytes(&Name::new("_S5_".into(), &power_off));
    let irq = Interrupt::new(true, true, false, false, SERIAL_IRQ);
    let ports = IO::new(SERIAL_PORT, SERIAL_PORT, 1, SERIAL_PORT_BYTES);
    let resources = Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ports, &irq]));
    let kind = Name::new("_HID".into(), &EISAName::new("PNP0501"));
    let number = Name::new("_UID".into(), &ZERO);
    let serial = Device::new("COM1".into(), vec![&kind, &number, &resources]);
    body.extend(bytes(&Scope::new("_SB_".into(), vec![&serial])));
    table(*b"DSDT", 2, &body)
}
