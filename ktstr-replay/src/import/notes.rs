//! Notes of a core: the registers of its CPUs, and what the kernel says of itself.
//!
//! Sources: `struct elf_prstatus` of `include/linux/elfcore.h` with `struct user_regs_struct` of `arch/x86/include/uapi/asm/ptrace-abi.h`;
//! `QEMUCPUState` of `target/i386/arch_dump.c` of QEMU; `kernel/vmcore_info.c` of Linux.

use std::collections::BTreeSet;

use super::source::Words;
use crate::trace::record::VcpuRegs;
use crate::units::Cpu;

const NT_PRSTATUS: u32 = 1;
/// Where the id is in a `struct elf_prstatus`.
const PID: usize = 32;
/// Where the registers are in it.
const REGISTERS: usize = 112;
/// Most CPUs: `NR_CPUS` of distribution kernels.
const MAX_CPUS: usize = 8192;

/// What the notes of a core say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// Registers, by CPU: as the kernel or an emulator saved them.
    pub vcpus: Vec<VcpuRegs>,
    /// The notes say of which CPU each is; else they are numbered in their order.
    pub names_cpus: bool,
    /// The text in which the kernel describes itself.
    pub vmcoreinfo: Option<Vec<u8>>,
}

impl Notes {
    /// Notes up to the first that does not hold together.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut notes = Self::default();
        let (mut states, mut ids) = (Vec::new(), Vec::new());
        let mut rest = bytes;
        while let Some(Note { name, kind, content, after }) = next(rest) {
            rest = after;
            match (name, kind) {
                (b"CORE", NT_PRSTATUS) if notes.vcpus.len() < MAX_CPUS => {
                    let cpu = Cpu(notes.vcpus.len() as u32);
                    if let Some(vcpu) = registers(content, cpu) {
                        notes.vcpus.push(vcpu);
                        ids.push(Words(content).u32(PID).unwrap_or_default());
                    }
                }
                (b"QEMU", 0) if states.len() < MAX_CPUS => states.push(content),
                (b"VMCOREINFO", 0) => notes.vmcoreinfo = Some(content.to_vec()),
                _ => {}
            }
        }
        for (vcpu, state) in notes.vcpus.iter_mut().zip(&states) {
            add_state(vcpu, state);
        }
        // The id is of the task that ran, where the kernel wrote it; QEMU has the CPU's number there, from 1.
        let distinct: BTreeSet<u32> = ids.iter().copied().collect();
        let is_number = |id: &u32| (1..=MAX_CPUS as u32).contains(id);
        notes.names_cpus = !ids.is_empty()
            && states.len() == ids.len()
            && distinct.len() == ids.len()
            && ids.iter().all(is_number);
        if notes.names_cpus {
            notes.vcpus.iter_mut().zip(ids).for_each(|(vcpu, id)| vcpu.cpu = Cpu(id - 1));
            notes.vcpus.sort_by_key(|vcpu| vcpu.cpu);
        }
        notes
    }
}

/// A note, and what follows it.
struct Note<'b> {
    name: &'b [u8],
    kind: u32,
    content: &'b [u8],
    after: &'b [u8],
}

/// The first note; `None` at the end.
fn next(bytes: &[u8]) -> Option<Note<'_>> {
    let words = Words(bytes);
    let size = |at| words.u32(at).and_then(|size| usize::try_from(size).ok());
    let (name_bytes, content_bytes, kind) = (size(0)?, size(4)?, words.u32(8)?);
    // What pads one note segment to the next has no name.
    if name_bytes == 0 && content_bytes == 0 {
        let rest = bytes.get(4..)?;
        let used = rest.iter().position(|byte| *byte != 0)? + 4;
        return next(bytes.get(used & !3..)?);
    }
    let (name, rest) = bytes.get(12..)?.split_at_checked(name_bytes.checked_next_multiple_of(4)?)?;
    let (content, rest) = rest.split_at_checked(content_bytes)?;
    let padding = content_bytes.checked_next_multiple_of(4)? - content_bytes;
    let name = name.split(|byte| *byte == 0).next()?;
    Some(Note { name, kind, content, after: rest.get(padding..).unwrap_or_default() })
}

/// The registers of a `struct elf_prstatus`.
fn registers(status: &[u8], cpu: Cpu) -> Option<VcpuRegs> {
    let words = Words(status);
    let reg = |n: usize| words.u64(REGISTERS + n * 8);
    // As `struct user_regs_struct` has them: r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi.
    let places = [10, 5, 11, 12, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0];
    let mut gpr = [0; 16];
    for (register, place) in gpr.iter_mut().zip(places) {
        *register = reg(place)?;
    }
    let segments = [17, 20, 23, 24, 25, 26].map(|place| reg(place).map(|selector| selector as u32));
    let [cs, ss, ds, es, fs, gs] = segments;
    Some(VcpuRegs {
        cpu,
        gpr,
        rip: reg(16)?,
        rflags: reg(18)?,
        segments: [cs?, ss?, ds?, es?, fs?, gs?],
        fs_base: reg(21)?,
        gs_base: reg(22)?,
        ..VcpuRegs::default()
    })
}

/// What `QEMUCPUState` has besides: bases of segments and control registers.
fn add_state(vcpu: &mut VcpuRegs, state: &[u8]) {
    let words = Words(state);
    // 18 registers, then segments of 24 bytes: cs ds es fs gs ss ldt tr gdt idt; then cr0 to cr4 and the other base of gs.
    let word = |n: usize| words.u64(8 + n * 8);
    let base = |segment: usize| word(18 + segment * 3 + 2);
    let control = |n: usize| word(18 + 10 * 3 + n);
    if words.u32(0) != Some(1) {
        return;
    }
    if let (Some(fs), Some(gs), Some(cr0), Some(cr2), Some(cr3), Some(cr4)) =
        (base(3), base(4), control(0), control(2), control(3), control(4))
    {
        (vcpu.fs_base, vcpu.gs_base) = (fs, gs);
        (vcpu.cr0, vcpu.cr2, vcpu.cr3, vcpu.cr4) = (cr0, cr2, cr3, cr4);
        vcpu.kernel_gs_base = control(5).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &str, kind: u32, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [name.len() as u32 + 1, content.len() as u32, kind] {
            out.extend(word.to_le_bytes());
        }
        out.extend(name.bytes());
        out.resize((out.len() + 1).next_multiple_of(4), 0);
        out.extend(content);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    /// The CPU of each note, by its instruction pointer, and whether the notes said so.
    fn cpus(ids: &[u32], states: usize) -> (Vec<(u32, u64)>, bool) {
        let mut bytes = Vec::new();
        for (rip, id) in (100u64..).zip(ids) {
            let mut status = vec![0; 336];
            status[PID..PID + 4].copy_from_slice(&id.to_le_bytes());
            status[REGISTERS + 128..REGISTERS + 136].copy_from_slice(&rip.to_le_bytes());
            bytes.extend(note("CORE", NT_PRSTATUS, &status));
        }
        (0..states).for_each(|_| bytes.extend(note("QEMU", 0, &[0; 440])));
        let notes = Notes::parse(&bytes);
        (notes.vcpus.iter().map(|vcpu| (vcpu.cpu.0, vcpu.rip)).collect(), notes.names_cpus)
    }

    #[test]
    fn registers_are_of_the_cpu_that_qemu_names_and_else_in_their_order() {
        assert_eq!(cpus(&[4, 1], 2), (vec![(0, 101), (3, 100)], true));
        // What the kernel wrote has pids, which may look like numbers of CPUs.
        assert_eq!(cpus(&[4, 1], 0), (vec![(0, 100), (1, 101)], false));
        for ids in [[0, 1], [2, 2], [1, 8193]] {
            assert_eq!(cpus(&ids, 2), (vec![(0, 100), (1, 101)], false), "{ids:?}");
        }
        assert_eq!(cpus(&[], 0), (vec![], false));
    }
}
