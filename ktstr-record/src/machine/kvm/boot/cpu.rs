//! The state in which the first vCPU enters the kernel: GDT, page tables, registers, MSRs.

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};

use super::kernel::Protocol;
use super::layout::{GDT, PAGE_TABLES, PARAMS, STACK_TOP};

/// Protection on.
const CR0_PE: u64 = 1;
/// The x87 bit that is always 1.
const CR0_ET: u64 = 1 << 4;
/// Paging on.
const CR0_PG: u64 = 1 << 31;
/// Entries of 64 bits.
const CR4_PAE: u64 = 1 << 5;
/// Long mode enabled, and active.
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// The bit of RFLAGS that is always 1.
const RFLAGS_ALWAYS: u64 = 1 << 1;

/// `IA32_MTRR_DEF_TYPE`: MTRRs on, memory is write-back. As it is after a reset, memory would be uncached, and Linux would
/// do without PAT.
pub(in crate::machine::kvm) const MTRR_DEF_TYPE: (u32, u64) = (0x2ff, 0x806);
/// `IA32_MISC_ENABLE`: fast string operations. Its other bits say what the CPU has, which KVM knows.
pub(in crate::machine::kvm) const MISC_ENABLE: (u32, u64) = (0x1a0, 1);

const PAGE: usize = 4096;
const ENTRIES: usize = 512;
/// Page tables map this many GiB, all that a 32-bit address can name.
const GIB_MAPPED: usize = 4;
const LARGE_PAGE: u64 = 2 << 20;
/// Present, writable.
const TABLE: u64 = 0b11;
/// Present, writable, accessed, dirty, large: nothing that the CPU would have to write.
const LARGE: u64 = 0b1110_0011;

/// Descriptors of the GDT, by which selectors the kernel asks for them: `__BOOT_CS` is 0x10, `__BOOT_DS` 0x18.
const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
const TASK_SELECTOR: u16 = 0x20;
const DESCRIPTORS: usize = 6;

/// Types of segments. Source: Intel's Software Developer's Manual, volume 3, tables 3-1 and 3-2.
const CODE_READ_ACCESSED: u8 = 0b1011;
const DATA_WRITE_ACCESSED: u8 = 0b0011;
const TASK_BUSY: u8 = 0b1011;

/// Registers at the kernel's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelEntry {
    rip: u64,
    protocol: Protocol,
}

impl KernelEntry {
    pub(in crate::machine::kvm) fn new(rip: u64, protocol: Protocol) -> Self {
        Self { rip, protocol }
    }

    /// Put them into what KVM holds of the first vCPU after its reset. What they do not say, as the APIC's base, stays.
    pub fn set(&self, regs: &mut kvm_regs, sregs: &mut kvm_sregs) {
        *regs = kvm_regs { rip: self.rip, rsp: STACK_TOP, rflags: RFLAGS_ALWAYS, ..kvm_regs::default() };
        let long = self.protocol == Protocol::Linux64;
        if long {
            regs.rsi = PARAMS;
            (sregs.cr3, sregs.cr4, sregs.efer) = (PAGE_TABLES, CR4_PAE, EFER_LME | EFER_LMA);
            sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
        } else {
            regs.rbx = PARAMS;
            (sregs.cr3, sregs.cr4, sregs.efer) = (0, 0, 0);
            sregs.cr0 = CR0_PE | CR0_ET;
        }
        sregs.gdt = kvm_dtable { base: GDT, limit: (DESCRIPTORS * 8 - 1) as u16, ..kvm_dtable::default() };
        // An interrupt before the kernel has its own IDT is a fault that cannot be handled.
        sregs.idt = kvm_dtable::default();
        let [code, data, task] = self.segments();
        sregs.cs = code;
        [sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss] = [data; 5];
        sregs.tr = task;
        sregs.ldt = kvm_segment { unusable: 1, ..kvm_segment::default() };
    }

    /// MSRs that every vCPU has to begin with: number and value. Of the second, `IA32_MISC_ENABLE`, these are bits to set.
    #[must_use]
    pub fn msrs(&self) -> [(u32, u64); 2] {
        [MTRR_DEF_TYPE, MISC_ENABLE]
    }

    /// Flat segments: code, data, task state.
    fn segments(&self) -> [kvm_segment; 3] {
        let flat = kvm_segment { limit: 0xffff_ffff, present: 1, s: 1, g: 1, ..kvm_segment::default() };
        let long = u8::from(self.protocol == Protocol::Linux64);
        let code =
            kvm_segment { selector: CODE_SELECTOR, type_: CODE_READ_ACCESSED, l: long, db: 1 - long, ..flat };
        let data = kvm_segment { selector: DATA_SELECTOR, type_: DATA_WRITE_ACCESSED, db: 1, ..flat };
        let task = kvm_segment {
            selector: TASK_SELECTOR,
            type_: TASK_BUSY,
            limit: 0x67,
            present: 1,
            ..kvm_segment::default()
        };
        [code, data, task]
    }

    /// The GDT that these segments come from. A task segment has two places in long mode, the second of which is zero.
    pub(super) fn gdt(&self) -> Vec<u8> {
        let [code, data, task] = self.segments();
        let mut descriptors = [0; DESCRIPTORS];
        for segment in [code, data, task] {
            descriptors[usize::from(segment.selector / 8)] = descriptor(&segment);
        }
        descriptors.iter().flat_map(|descriptor| descriptor.to_le_bytes()).collect()
    }

    /// The page tables that CR3 points to; none where paging is off.
    pub(super) fn page_tables(&self) -> Option<Vec<u8>> {
        (self.protocol == Protocol::Linux64).then(identity_map)
    }
}

/// A segment as it stands in a GDT, with its base 0. Source: Intel's Software Developer's Manual, volume 3, figure 3-8.
fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = u64::from(if segment.g == 1 { segment.limit >> 12 } else { segment.limit });
    let bit = |value: u8, at: u32| u64::from(value) << at;
    limit & 0xffff
        | bit(segment.type_, 40)
        | bit(segment.s, 44)
        | bit(segment.present, 47)
        | (limit >> 16 & 0xf) << 48
        | bit(segment.l, 53)
        | bit(segment.db, 54)
        | bit(segment.g, 55)
}

/// Four-level page tables from [`PAGE_TABLES`] on, in which the first 4 GiB are mapped to themselves by large pages: one
/// table of the highest level, one of the next, one for each GiB.
fn identity_map() -> Vec<u8> {
    let mut tables = vec![0_u64; (2 + GIB_MAPPED) * ENTRIES];
    let table = |n: usize| (PAGE_TABLES + (n * PAGE) as u64) | TABLE;
    tables[0] = table(1);
    for gib in 0..GIB_MAPPED {
        tables[ENTRIES + gib] = table(2 + gib);
    }
    for (page, entry) in tables[2 * ENTRIES..].iter_mut().enumerate() {
        *entry = (page as u64 * LARGE_PAGE) | LARGE;
    }
    tables.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use kvm_bindings::{kvm_regs, kvm_sregs};

    use super::*;

    fn state(protocol: Protocol) -> (kvm_regs, kvm_sregs) {
        let (mut regs, mut sregs) = (kvm_regs::default(), kvm_sregs::default());
        (regs.rsi, sregs.apic_base) = (1, 0xfee0_0900);
        KernelEntry::new(0x100_0200, protocol).set(&mut regs, &mut sregs);
        (regs, sregs)
    }

    /// The descriptors that the boot protocol asks for: flat, 4 GiB, execute and read, read and write.
    #[test]
    fn the_gdt_is_that_of_the_boot_protocol() {
        let words = |protocol| {
            let gdt = KernelEntry::new(0, protocol).gdt();
            gdt.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())).collect::<Vec<_>>()
        };
        let (data, task) = (0x00cf_9300_0000_ffff, 0x0000_8b00_0000_0067);
        assert_eq!(words(Protocol::Linux64), [0, 0, 0x00af_9b00_0000_ffff, data, task, 0]);
        assert_eq!(words(Protocol::Pvh), [0, 0, 0x00cf_9b00_0000_ffff, data, task, 0]);
    }

    #[test]
    fn registers_are_those_of_the_protocol() {
        let (regs, sregs) = state(Protocol::Linux64);
        assert_eq!((regs.rip, regs.rsi, regs.rbx, regs.rflags), (0x100_0200, 0x2000, 0, 2));
        assert_eq!((sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer), (0x8000_0011, 0x9000, 0x20, 0x500));
        assert_eq!((sregs.cs.selector, sregs.cs.l, sregs.cs.db), (0x10, 1, 0));
        assert_eq!((sregs.gdt.base, sregs.gdt.limit, sregs.apic_base), (0x1000, 47, 0xfee0_0900));
        let (regs, sregs) = state(Protocol::Pvh);
        assert_eq!((regs.rsi, regs.rbx), (0, 0x2000));
        assert_eq!((sregs.cr0, sregs.cr4, sregs.efer), (0x11, 0, 0));
        assert_eq!((sregs.cs.l, sregs.cs.db, sregs.ss.selector), (0, 1, 0x18));
    }

    /// Walks as the CPU does.
    #[test]
    fn four_gib_are_mapped_to_themselves() {
        let bytes = identity_map();
        let read = |at: u64| {
            let at = (at - PAGE_TABLES) as usize;
            u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
        };
        let walk = |address: u64| {
            let next = |table: u64, shift: u32| {
                let entry = read((table & !0xfff) + (address >> shift & 511) * 8);
                (entry & 1 == 1).then_some(entry)
            };
            let entry = next(next(next(PAGE_TABLES, 39)?, 30)?, 21)?;
            (entry & 1 << 7 != 0).then_some((entry & !0x1f_ffff) | address & 0x1f_ffff)
        };
        for address in [0, 0x2000, 0x100_0200, 0x3fff_ffff, 0x4000_0000, 0xffff_ffff] {
            assert_eq!(walk(address), Some(address), "{address:#x}");
        }
        assert_eq!(walk(1 << 32), None);
        assert_eq!(KernelEntry::new(0, Protocol::Pvh).page_tables(), None);
    }
}
