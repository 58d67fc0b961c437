//! The tiny guests: their code, and the state in which a vCPU executes it.
//!
//! ```text
//! 0x1000   page tables: 4 GiB mapped one to one, by 2 MiB
//! 0x7000   GDT: null, code, data          0x8000   IDT: vectors 1, 3 and 0x20
//! 0xa000   end of the stack of all vCPUs, of which only the first takes interrupts
//! DATA     what the first vCPU works on; a page more for each further one
//! CODE     the guest
//! ```

use std::arch::global_asm;

use ktstr_replay::memory::MemoryError;
use ktstr_replay::units::GuestPhys;
use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};

use crate::machine::ram::GuestRam;

global_asm!(include_str!("guests.s"), options(raw));

/// Where the code is.
pub(super) const CODE: u64 = 2 << 20;
/// Where the data is.
pub(super) const DATA: u64 = 0x1_0000;
/// RAM of a tiny guest, in bytes.
pub(super) const RAM_BYTES: u64 = 8 << 20;
/// Where no tiny guest has memory.
pub(super) const NOWHERE: u64 = 0x3000_0000;

const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PD: u64 = 0x3000;
const GDT: u64 = 0x7000;
const IDT: u64 = 0x8000;
const STACK_END: u64 = 0xa000;
/// Where interrupts lead to, from the guest's start.
const HANDLER: u64 = 256;
/// Vectors that lead there: debug exceptions, `int3` and the timer's.
const VECTORS: [u64; 3] = [1, 3, 0x20];

/// The first and last pages that the tables above lie in.
pub(super) const TABLE_PAGES: std::ops::RangeInclusive<u64> = PML4 / 4096..=IDT / 4096;

/// A function for each guest that gives its code.
macro_rules! guests {
    ($($name:ident: $start:ident $end:ident,)*) => {
        unsafe extern "C" {
            $(static $start: u8; static $end: u8;)*
        }
        $(
            /// The guest of this name in `guests.s`.
            pub(super) fn $name() -> &'static [u8] {
                let (start, end) = (&raw const $start, &raw const $end);
                // SAFETY: both are labels of one section of this program that is never written, the second after the first.
                unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
            }
        )*
    };
}

guests! {
    probe: ktstr_guest_probe ktstr_guest_probe_end,
    count: ktstr_guest_count ktstr_guest_count_end,
    ports: ktstr_guest_ports ktstr_guest_ports_end,
    mmio: ktstr_guest_mmio ktstr_guest_mmio_end,
    timer: ktstr_guest_timer ktstr_guest_timer_end,
    pit: ktstr_guest_pit ktstr_guest_pit_end,
    ioapic: ktstr_guest_ioapic ktstr_guest_ioapic_end,
    spin: ktstr_guest_spin ktstr_guest_spin_end,
    dirty: ktstr_guest_dirty ktstr_guest_dirty_end,
    registers: ktstr_guest_registers ktstr_guest_registers_end,
    breakpoint: ktstr_guest_breakpoint ktstr_guest_breakpoint_end,
    steps: ktstr_guest_steps ktstr_guest_steps_end,
    watch: ktstr_guest_watch ktstr_guest_watch_end,
    sequence: ktstr_guest_sequence ktstr_guest_sequence_end,
    triple_fault: ktstr_guest_triple_fault ktstr_guest_triple_fault_end,
    panic: ktstr_guest_panic ktstr_guest_panic_end,
    reset: ktstr_guest_reset ktstr_guest_reset_end,
    nowhere: ktstr_guest_nowhere ktstr_guest_nowhere_end,
    kernel: ktstr_guest_kernel ktstr_guest_kernel_end,
}

/// Put `code` and all that it needs into `ram`.
///
/// The tables have their accessed and dirty bits set already, so that the CPU has no reason to write to them.
pub(super) fn load(ram: &GuestRam, code: &[u8]) -> Result<(), MemoryError> {
    let put = |at: u64, values: &[u64]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        ram.write(GuestPhys(at), &bytes)
    };
    put(PML4, &[PDPT | 0x23])?;
    let directories: Vec<u64> = (0..4).map(|n| (PD + n * 0x1000) | 0x23).collect();
    put(PDPT, &directories)?;
    let pages: Vec<u64> = (0..4 * 512).map(|n: u64| (n << 21) | 0xe3).collect();
    put(PD, &pages)?;
    put(GDT, &[0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff])?;
    for vector in VECTORS {
        let to = CODE + HANDLER;
        let gate = (to & 0xffff) | 0x08 << 16 | 0x8e00 << 32 | (to >> 16 & 0xffff) << 48;
        put(IDT + vector * 16, &[gate, to >> 32])?;
    }
    ram.write(GuestPhys(CODE), code)
}

/// The general registers of vCPU `cpu` before its first instruction.
pub(super) fn regs(cpu: u64) -> kvm_regs {
    kvm_regs { rip: CODE, rsp: STACK_END, rdi: DATA + cpu * 0x1000, rflags: 2, ..kvm_regs::default() }
}

/// `old` with everything that makes a vCPU execute in long mode.
pub(super) fn long_mode(old: kvm_sregs) -> kvm_sregs {
    let code = kvm_segment {
        limit: u32::MAX,
        selector: 0x08,
        type_: 11,
        present: 1,
        s: 1,
        l: 1,
        g: 1,
        ..kvm_segment::default()
    };
    let data = kvm_segment { selector: 0x10, type_: 3, l: 0, db: 1, ..code };
    // A busy task state segment, without which VMX does not enter a guest.
    let tr = kvm_segment { limit: 0x67, type_: 11, present: 1, ..kvm_segment::default() };
    kvm_sregs {
        cs: code,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr,
        gdt: kvm_dtable { base: GDT, limit: 23, ..kvm_dtable::default() },
        idt: kvm_dtable { base: IDT, limit: 0xfff, ..kvm_dtable::default() },
        cr0: 0x8005_0033,
        cr3: PML4,
        // PAE, OSFXSR, OSXMMEXCPT.
        cr4: 0x620,
        efer: 0x500,
        ..old
    }
}
