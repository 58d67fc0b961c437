//! A vCPU's registers, as a trace has them.

use ktstr_replay::trace::record::VcpuRegs;
use kvm_bindings::{Msrs, kvm_msr_entry};

use super::error::refused;
use super::vcpu::Vcpu;
use crate::machine::error::MachineError;

/// The model-specific register that `swapgs` swaps in.
const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// The registers of `vcpu`, which does not run.
pub(super) fn read(vcpu: &mut Vcpu) -> Result<VcpuRegs, MachineError> {
    let cpu = vcpu.cpu();
    let fd = vcpu.fd();
    let regs = fd.get_regs().map_err(refused("read a vCPU's registers"))?;
    let sregs = fd.get_sregs().map_err(refused("read a vCPU's system registers"))?;
    let asked = kvm_msr_entry { index: MSR_KERNEL_GS_BASE, ..kvm_msr_entry::default() };
    let mut msrs = Msrs::from_entries(&[asked])
        .map_err(|_| MachineError::Unsupported { what: "ask for a model-specific register".into() })?;
    let read = fd.get_msrs(&mut msrs).map_err(refused("read a vCPU's model-specific registers"))?;
    let kernel_gs_base = msrs.as_slice().first().filter(|_| read == 1).map_or(0, |entry| entry.data);
    let segments = [sregs.cs, sregs.ss, sregs.ds, sregs.es, sregs.fs, sregs.gs];
    Ok(VcpuRegs {
        cpu,
        gpr: [
            regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.rsp, regs.r8, regs.r9,
            regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ],
        rip: regs.rip,
        rflags: regs.rflags,
        segments: segments.map(|segment| segment.selector.into()),
        fs_base: sregs.fs.base,
        gs_base: sregs.gs.base,
        kernel_gs_base,
        cr0: sregs.cr0,
        cr2: sregs.cr2,
        cr3: sregs.cr3,
        cr4: sregs.cr4,
        efer: sregs.efer,
    })
}
