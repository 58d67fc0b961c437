//! Headers, notes and pieces against what reads them.

use std::ops::Range;

use proptest::prelude::*;

use super::elf::{self, PT_LOAD, PT_NOTE, Program, notes};
use super::write::{Places, intersect, subtract};
use crate::trace::record::VcpuRegs;
use crate::units::Cpu;

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn program_headers_are_where_the_elf_header_says() {
    let load =
        Program { kind: PT_LOAD, offset: 0x2000, vaddr: 0xffff_8880_0000_0000, paddr: 0, bytes: 0x3000 };
    let note = Program { kind: PT_NOTE, offset: 0xf0, vaddr: 0, paddr: 0, bytes: 0x10 };
    let bytes = elf::headers(&[note, load]);
    assert_eq!(bytes.len() as u64, elf::headers_bytes(2));
    assert_eq!(&bytes[..5], b"\x7fELF\x02");
    assert_eq!(bytes[16..20], [4, 0, 62, 0]);
    let at = word(&bytes, 32) as usize;
    assert_eq!(u16::from_le_bytes([bytes[54], bytes[55]]), 56);
    assert_eq!(u16::from_le_bytes([bytes[56], bytes[57]]), 2);
    let second = at + 56;
    assert_eq!(bytes[second..second + 4], [1, 0, 0, 0]);
    let fields: Vec<_> = (1..6).map(|n| word(&bytes, second + n * 8)).collect();
    assert_eq!(fields, [0x2000, 0xffff_8880_0000_0000, 0, 0x3000, 0x3000]);
}

#[test]
fn more_programs_than_the_header_has_room_for_are_counted_in_a_section() {
    let load = Program { kind: PT_LOAD, offset: 0, vaddr: 0, paddr: 0, bytes: 1 };
    let bytes = elf::headers(&vec![load; 70_000]);
    assert_eq!(u16::from_le_bytes([bytes[56], bytes[57]]), 0xffff);
    let section = word(&bytes, 40) as usize;
    let info = &bytes[section + 44..section + 48];
    assert_eq!(u32::from_le_bytes(info.try_into().unwrap()), 70_000);
    assert_eq!(bytes.len() as u64, elf::headers_bytes(70_000));
}

#[test]
fn notes_hold_registers_in_the_order_of_core_files() {
    let mut regs = VcpuRegs { cpu: Cpu(1), rip: 0xaaaa, rflags: 0x202, gs_base: 0x77, ..VcpuRegs::default() };
    (regs.cr3, regs.kernel_gs_base) = (0xc3, 0x99);
    regs.gpr[0] = 0x1; // rax
    regs.gpr[7] = 0x5; // rsp
    regs.gpr[15] = 0xf; // r15
    regs.segments = [0x10, 0x18, 0, 0, 0, 0x2b];
    let bytes = notes(&[regs], b"OSRELEASE=1\n");
    // namesz, descsz, type, "CORE" padded to 8.
    assert_eq!(bytes[..12], [5, 0, 0, 0, 0x50, 1, 0, 0, 1, 0, 0, 0]);
    let status = &bytes[20..20 + 336];
    assert_eq!(u32::from_le_bytes(status[32..36].try_into().unwrap()), 2);
    // The places of `pr_reg` in `struct elf_prstatus` as gdb, drgn and crash know them.
    let reg = |n: usize| word(status, 112 + n * 8);
    assert_eq!([reg(0), reg(10), reg(16), reg(17), reg(18), reg(19)], [0xf, 1, 0xaaaa, 0x10, 0x202, 5]);
    assert_eq!([reg(20), reg(22), reg(26)], [0x18, 0x77, 0x2b]);
    let state = &bytes[20 + 336..];
    assert_eq!(state[..20], *b"\x05\0\0\0\xb8\x01\0\0\0\0\0\0QEMU\0\0\0\0");
    // `QEMUCPUState` begins with its version and its own length.
    assert_eq!(state[20..28], [1, 0, 0, 0, 0xb8, 1, 0, 0]);
    let reg = |n: usize| word(&state[28..], n * 8);
    assert_eq!([reg(0), reg(6), reg(15), reg(16), reg(17), reg(18)], [1, 5, 0xf, 0xaaaa, 0x202, 0x10]);
    assert_eq!([reg(32), reg(51), reg(53)], [0x77, 0xc3, 0x99]);
    let info = &state[20 + 440..];
    assert_eq!(info[..12], [11, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&info[12..], b"VMCOREINFO\0\0OSRELEASE=1\n");
}

/// Ranges of small numbers, ascending and disjoint.
fn ranges() -> impl Strategy<Value = Vec<Range<u64>>> {
    proptest::collection::vec((1u64..9, 1u64..9), 0..12).prop_map(|steps| {
        let mut end = 0;
        let mut out = Vec::new();
        for (gap, len) in steps {
            out.push(end + gap..end + gap + len);
            end += gap + len;
        }
        out
    })
}

fn numbers(ranges: &[Range<u64>]) -> Vec<u64> {
    ranges.iter().cloned().flatten().collect()
}

proptest! {
    #[test]
    fn pieces_are_what_set_arithmetic_says(all in ranges(), without in ranges(), within in ranges()) {
        let left = numbers(&all).into_iter().filter(|n| !without.iter().any(|gap| gap.contains(n)));
        prop_assert_eq!(numbers(&subtract(&all, &without)), left.collect::<Vec<_>>());
        for window in within {
            let inside = numbers(&all).into_iter().filter(|n| window.contains(n));
            prop_assert_eq!(numbers(&intersect(&all, &window)), inside.collect::<Vec<_>>());
        }
    }

    #[test]
    fn each_byte_of_ram_has_a_place_of_its_own(ram in ranges()) {
        let places = Places::new(&ram, 100).unwrap();
        let at: Vec<_> = numbers(&ram).into_iter().map(|n| places.of(n).unwrap()).collect();
        prop_assert_eq!(at, (100..places.end).collect::<Vec<_>>());
        prop_assert_eq!(places.of(0), None);
    }
}

#[test]
fn memory_that_no_file_can_hold_has_no_places() {
    assert!(Places::new(&[0..4096, 8192..u64::MAX], 4096).is_none());
}
