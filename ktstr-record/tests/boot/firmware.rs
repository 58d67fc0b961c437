//! The firmware of an emulator that has our memory and is to have our registers: from the reset vector into the state that
//! KVM would be given, and nothing else. It makes no tables, so that a kernel finds none but ours.

use kvm_bindings::{kvm_regs, kvm_sregs};

/// A PC maps 64 KiB of firmware below 4 GiB.
const BYTES: usize = 1 << 16;
const BASE: u32 = 0xffff_0000;
/// Where a CPU begins, in the firmware.
const RESET: usize = 0xfff0;
const REAL_MODE: usize = 0xf000;
const PROTECTED_MODE: usize = 0xf040;
/// Its own GDT: nothing, flat code, flat data.
const GDT: usize = 0xfe00;
const OWN_GDTR: usize = 0xfe40;
const GUEST_GDTR: usize = 0xfe48;

/// The power management function of the emulated PC (PIIX4, function 3 of device 1) as PCI's port 0xcf8 names it.
const POWER_MANAGEMENT: u32 = 0x8000_0b00;

/// 64 KiB that put the first vCPU into the state of `regs`, `sregs` and `msrs`, with the ports of power management at
/// `pm_port`.
pub fn firmware(regs: &kvm_regs, sregs: &kvm_sregs, msrs: &[(u32, u64)], pm_port: u16) -> Vec<u8> {
    let mut image = vec![0xf4; BYTES];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    // jmp near
    let distance = (REAL_MODE as i32 - (RESET as i32 + 3)) as i16;
    put(RESET, &[&[0xe9][..], &distance.to_le_bytes()].concat());
    let far = |offset: u32, selector: u16| [&offset.to_le_bytes()[..], &selector.to_le_bytes()].concat();
    put(
        REAL_MODE,
        &[
            &[0xfa][..],                     // cli
            &[0x2e, 0x66, 0x0f, 0x01, 0x16], // lgdt cs:[OWN_GDTR]
            &(OWN_GDTR as u16).to_le_bytes(),
            &[0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0], // mov eax, cr0; or al, 1; mov cr0, eax
            &[0x66, 0xea],                                     // jmp far
            &far(BASE + PROTECTED_MODE as u32, 0x08),
        ]
        .concat(),
    );
    for (n, descriptor) in [0_u64, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff].iter().enumerate() {
        put(GDT + n * 8, &descriptor.to_le_bytes());
    }
    let gdtr = |limit: u16, base: u32| [&limit.to_le_bytes()[..], &base.to_le_bytes()].concat();
    put(OWN_GDTR, &gdtr(23, BASE + GDT as u32));
    put(GUEST_GDTR, &gdtr(sregs.gdt.limit, low(sregs.gdt.base)));

    let mut code = segments(0x10);
    for (register, value) in [(0x40, u32::from(pm_port) | 1), (0x80, 1)] {
        code.extend(out(0xcf8, POWER_MANAGEMENT | register));
        code.extend(out(0xcfc, value));
    }
    // Setting LMA is the CPU's, when paging goes on.
    let efer = (0xc000_0080, sregs.efer & !(1 << 10));
    for (msr, value) in msrs.iter().copied().chain([efer]) {
        code.extend([&[0xb9][..], &msr.to_le_bytes()].concat()); // mov ecx
        code.extend(mov_eax(low(value)));
        code.extend([&[0xba][..], &low(value >> 32).to_le_bytes()].concat()); // mov edx
        code.extend([0x0f, 0x30]); // wrmsr
    }
    code.extend([mov_eax(low(sregs.cr4)), vec![0x0f, 0x22, 0xe0]].concat()); // mov cr4, eax
    code.extend([mov_eax(low(sregs.cr3)), vec![0x0f, 0x22, 0xd8]].concat()); // mov cr3, eax
    code.extend([&[0x0f, 0x01, 0x15][..], &(BASE + GUEST_GDTR as u32).to_le_bytes()].concat()); // lgdt
    code.extend([mov_eax(low(sregs.cr0)), vec![0x0f, 0x22, 0xc0]].concat()); // mov cr0, eax
    code.extend(segments(sregs.ds.selector));
    code.extend([&[0xbc][..], &low(regs.rsp).to_le_bytes()].concat()); // mov esp
    code.extend([&[0xbe][..], &low(regs.rsi).to_le_bytes()].concat()); // mov esi
    code.extend([&[0xbb][..], &low(regs.rbx).to_le_bytes()].concat()); // mov ebx
    code.push(0xea); // jmp far, which loads CS from the guest's GDT: 64-bit code, if it is that
    code.extend(far(low(regs.rip), sregs.cs.selector));
    assert!(PROTECTED_MODE + code.len() < GDT);
    put(PROTECTED_MODE, &code);
    image
}

/// The value of a register that 32-bit code can load.
fn low(value: u64) -> u32 {
    value as u32
}

fn mov_eax(value: u32) -> Vec<u8> {
    [&[0xb8][..], &value.to_le_bytes()].concat()
}

/// `mov dx, port; out dx, eax`
fn out(port: u16, value: u32) -> Vec<u8> {
    [&mov_eax(value)[..], &[0x66, 0xba], &port.to_le_bytes(), &[0xef]].concat()
}

/// `mov ax, selector`, and from there into DS, ES, SS, FS, GS
fn segments(selector: u16) -> Vec<u8> {
    let load = [0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0x8e, 0xe0, 0x8e, 0xe8];
    [&[0x66, 0xb8][..], &selector.to_le_bytes(), &load].concat()
}
