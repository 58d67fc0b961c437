//! Headers and notes of an ELF64 core.

use crate::trace::record::VcpuRegs;

/// Bytes of the ELF header.
pub(super) const HEADER: u64 = 64;
/// Bytes of a program header.
pub(super) const PROGRAM: u64 = 56;
/// Bytes of a section header.
pub(super) const SECTION: u64 = 64;
/// `e_phnum` where the number of program headers does not fit: it is in section header 0 then (`PN_XNUM`).
const MANY: u16 = 0xffff;

pub(super) const PT_LOAD: u32 = 1;
pub(super) const PT_NOTE: u32 = 4;
const NT_PRSTATUS: u32 = 1;
/// The note of vmcoreinfo has type 0.
const VMCOREINFO: u32 = 0;

/// Version of [`cpu_state`].
const CPU_STATE: u32 = 1;

/// A program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub kind: u32,
    pub offset: u64,
    pub vaddr: u64,
    pub paddr: u64,
    /// In the file and in memory.
    pub bytes: u64,
}

/// How long all headers are together, for `programs` program headers.
pub(super) fn headers_bytes(programs: u64) -> u64 {
    HEADER + SECTION + programs.saturating_mul(PROGRAM)
}

/// The headers. Source: System V ABI, chapters 4 and 5; `include/uapi/linux/elf.h`.
pub(super) fn headers(programs: &[Program]) -> Vec<u8> {
    let count = programs.len();
    let many = count >= usize::from(MANY);
    let mut out = Vec::with_capacity(headers_bytes(count as u64) as usize);
    // 64 bits, little-endian, version 1, System V.
    out.extend_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut halves =
        |halves: &[u16]| halves.iter().for_each(|half| out.extend_from_slice(&half.to_le_bytes()));
    // ET_CORE, EM_X86_64.
    halves(&[4, 62]);
    out.extend_from_slice(&1u32.to_le_bytes());
    // Entry point, program headers, section headers. makedumpfile looks for program headers right behind this header, whatever it says.
    let behind = HEADER.saturating_add((count as u64).saturating_mul(PROGRAM));
    for word in [0, HEADER, if many { behind } else { 0 }] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&0u32.to_le_bytes());
    let number = if many { MANY } else { count as u16 };
    let sections = if many { [SECTION as u16, 1, 0] } else { [0, 0, 0] };
    for half in [HEADER as u16, PROGRAM as u16, number].into_iter().chain(sections) {
        out.extend_from_slice(&half.to_le_bytes());
    }
    for program in programs {
        out.extend_from_slice(&program.kind.to_le_bytes());
        // Read, write, execute: as kdump has it.
        out.extend_from_slice(&(if program.kind == PT_LOAD { 7u32 } else { 0 }).to_le_bytes());
        let Program { offset, vaddr, paddr, bytes, .. } = *program;
        for word in [offset, vaddr, paddr, bytes, bytes, 0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    // Section header 0: `sh_info` is the number of program headers, where `e_phnum` has no room for it.
    let mut section = [0u8; SECTION as usize];
    if many {
        section[44..48].copy_from_slice(&(count as u32).to_le_bytes());
    }
    out.extend_from_slice(&section);
    out
}

/// The notes, as QEMU's `dump-guest-memory` writes them: registers of each vCPU, as the kernel has them and as QEMU has them,
/// and vmcoreinfo. They say that the vCPUs were stopped from outside, without the kernel's help: drgn and crash then take the
/// registers from here, and else from the kernel's `crash_notes`, which only a kernel that crashed has filled.
pub(super) fn notes(vcpus: &[VcpuRegs], vmcoreinfo: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut states = Vec::new();
    for regs in vcpus {
        note(&mut out, "CORE", NT_PRSTATUS, &prstatus(regs));
        note(&mut states, "QEMU", 0, &cpu_state(regs));
    }
    out.extend(states);
    note(&mut out, "VMCOREINFO", VMCOREINFO, vmcoreinfo);
    out
}

fn note(out: &mut Vec<u8>, name: &str, kind: u32, content: &[u8]) {
    for word in [name.len() as u32 + 1, content.len() as u32, kind] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// `struct elf_prstatus` of x86-64, whose layout is part of the ABI of core files: `include/linux/elfcore.h`, and
/// `struct user_regs_struct` of `arch/x86/include/uapi/asm/ptrace-abi.h` in it.
fn prstatus(regs: &VcpuRegs) -> Vec<u8> {
    // In place of a pid, QEMU and those who read its cores have the number of the CPU, from 1.
    let pid = regs.cpu.0.wrapping_add(1);
    // Signal numbers and sets, before the four ids; four times of 16 bytes after them.
    let mut out = vec![0; 32];
    out.extend_from_slice(&pid.to_le_bytes());
    out.resize(out.len() + 12 + 64, 0);
    let [rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15] = regs.gpr;
    let [cs, ss, ds, es, fs, gs] = regs.segments.map(u64::from);
    // No system call is being entered there.
    let orig_rax = u64::MAX;
    let words = [
        r15,
        r14,
        r13,
        r12,
        rbp,
        rbx,
        r11,
        r10,
        r9,
        r8,
        rax,
        rcx,
        rdx,
        rsi,
        rdi,
        orig_rax,
        regs.rip,
        cs,
        regs.rflags,
        rsp,
        ss,
        regs.fs_base,
        regs.gs_base,
        ds,
        es,
        fs,
        gs,
    ];
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
    // No floating-point registers follow.
    out.extend_from_slice(&[0; 8]);
    out
}

/// `QEMUCPUState` of `target/i386/arch_dump.c` of QEMU, as its `dump-guest-memory` writes it.
fn cpu_state(regs: &VcpuRegs) -> Vec<u8> {
    let [rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, others @ ..] = regs.gpr;
    let mut words = vec![rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp];
    words.extend(others);
    words.extend([regs.rip, regs.rflags]);
    let [cs, ss, ds, es, fs, gs] = regs.segments.map(u64::from);
    // Selector, limit, flags, base: limits, flags and the tables' registers are not recorded.
    let segment = |selector: u64, base: u64| [selector, 0, base];
    let segments = [(cs, 0), (ds, 0), (es, 0), (fs, regs.fs_base), (gs, regs.gs_base), (ss, 0)];
    words.extend(segments.into_iter().flat_map(|(selector, base)| segment(selector, base)));
    words.extend([0; 4 * 3]);
    words.extend([regs.cr0, 0, regs.cr2, regs.cr3, regs.cr4, regs.kernel_gs_base]);
    let bytes = 8 + words.len() * 8;
    let mut out = Vec::with_capacity(bytes);
    for word in [CPU_STATE, bytes as u32] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    out
}
