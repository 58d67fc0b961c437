//! The notes of a core.

use crate::trace::record::VcpuRegs;

const NT_PRSTATUS: u32 = 1;
/// The note of vmcoreinfo has type 0.
const VMCOREINFO: u32 = 0;

/// Version of [`cpu_state`].
const CPU_STATE: u32 = 1;

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
    let pid = regs.cpu.wrapping_add(1);
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
