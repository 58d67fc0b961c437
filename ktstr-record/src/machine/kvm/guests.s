# The tiny guests of the probe and of `ktstr selftest kvm`, in long mode (guests.rs). Intel syntax.
#
# On entry: rdi = the data area, rsp = the top of the vCPU's stack, interrupts off, memory below 4 GiB mapped one to one.
# Each is loaded at an address of its own choice, so none may name an address of its own code. Interrupt vectors 1, 3
# and 0x20 lead to offset 256 of the guest.
#
# What kernel-mode code may use on a KVM that emulates it is little: no int3, no SSE arithmetic, no cmpxchg16b outside
# of the probe.

.macro guest name
    .balign 16
    .globl ktstr_guest_\name
ktstr_guest_\name:
.endm

.macro done name
    .globl ktstr_guest_\name\()_end
ktstr_guest_\name\()_end:
.endm

# Offset `at` of the guest `name`.
.macro at name, at
    .org ktstr_guest_\name + \at, 0x90
.endm

.macro ring
    mov dx, 0x5f0
    out dx, eax
.endm

.macro power_off
    mov ax, 0x2000
    mov dx, 0x604
    out dx, ax
8:  hlt
    jmp 8b
.endm

    .pushsection .rodata.ktstr_guests, "a", @progbits

# What a kernel needs and KVMs that emulate lack. [rdi] is the stage that was reached.
guest probe
    mov dword ptr [rdi], 1
    xor eax, eax
    xor edx, edx
    mov ebx, 5
    mov ecx, 7
    lock cmpxchg16b xmmword ptr [rdi + 16]
    mov dword ptr [rdi], 2
    mov eax, 0x1111
    movq xmm0, rax
    paddq xmm0, xmm0
    movq rax, xmm0
    mov [rdi + 8], rax
    mov dword ptr [rdi], 3
    mov edx, 16
    lzcnt rcx, rdx
    mov [rdi + 32], rcx
    mov dword ptr [rdi], 4
    int3
    mov dword ptr [rdi], 5
    hlt
    at probe, 256
    mov dword ptr [rdi + 40], 3
    iretq
done probe

# [rdi] times two instructions, and the end.
guest count
    mov ecx, [rdi]
9:  dec ecx
    jnz 9b
    hlt
done count

# Port input and output: the console, two rings of the doorbell, a port that nothing answers, what ACPI enables.
guest ports
    mov dx, 0x3f8
    mov al, 'o'
    out dx, al
    mov al, 'k'
    out dx, al
    mov al, 10
    out dx, al
    mov dx, 0x3fd
    xor eax, eax
    in al, dx
    mov [rdi], eax
    mov dx, 0x2f0
    xor eax, eax
    in ax, dx
    mov [rdi + 4], eax
    mov dx, 0x602
    mov ax, 0x120
    out dx, ax
    xor eax, eax
    in ax, dx
    mov [rdi + 8], eax
    mov eax, 41
    ring
    mov eax, 0x12345678
    ring
    power_off
done ports

# Memory-mapped input and output at rsi, where there is nothing.
guest mmio
    mov dword ptr [rsi], 0x55
    mov rax, [rsi + 8]
    mov [rdi], rax
    xor eax, eax
    mov al, [rsi + 16]
    mov [rdi + 8], rax
    power_off
done mmio

# Twenty interrupts of the local APIC's timer, each awaited in HLT; [rdi] counts them.
guest timer
    mov esi, 0xfee00000
    mov dword ptr [rsi + 0xf0], 0x1ff
    mov dword ptr [rsi + 0x3e0], 3
    mov dword ptr [rsi + 0x320], 0x20020
    mov dword ptr [rsi + 0x380], 62500
9:  cli
    cmp qword ptr [rdi], 20
    jae 2f
    sti
    hlt
    jmp 9b
2:  power_off
    at timer, 256
    inc qword ptr [rdi]
    mov dword ptr [rsi + 0xb0], 0
    iretq
done timer

# Interrupts of the PIT every 1193 of its clocks, 1 ms, by pin 2 of the IOAPIC and not by the 8259s, for ever; [rdi] counts them.
guest pit
    mov al, 0xff
    out 0x21, al
    out 0xa1, al
    mov esi, 0xfee00000
    mov dword ptr [rsi + 0xf0], 0x1ff
    mov r9d, 0xfec00000
    mov dword ptr [r9], 0x15
    mov dword ptr [r9 + 16], 0
    mov dword ptr [r9], 0x14
    mov dword ptr [r9 + 16], 0x20
    mov al, 0x34
    out 0x43, al
    mov al, 0xa9
    out 0x40, al
    mov al, 4
    out 0x40, al
    sti
9:  hlt
    jmp 9b
    at pit, 256
    inc qword ptr [rdi]
    mov dword ptr [rsi + 0xb0], 0
    iretq
done pit

# Interrupts of COM1 by an IOAPIC, to the APIC id whose bits are the upper half of a redirection entry in esi: rings when it has
# routed them, has three, one for each byte that it says, and none while the pin is masked. [rdi] counts them, [rdi+8] is the
# IOAPIC's version, [rdi+16] and [rdi+20] are the entry.
guest ioapic
    mov ecx, 0x1b
    rdmsr
    or eax, 0xc00
    wrmsr
    mov ecx, 0x80f
    mov eax, 0x1ff
    xor edx, edx
    wrmsr
    mov r9d, 0xfec00000
    mov dword ptr [r9], 1
    mov eax, [r9 + 16]
    mov [rdi + 8], eax
    mov dword ptr [r9], 0x19
    mov [r9 + 16], esi
    mov eax, [r9 + 16]
    mov [rdi + 20], eax
    mov dword ptr [r9], 0x18
    mov dword ptr [r9 + 16], 0x20
    mov eax, [r9 + 16]
    mov [rdi + 16], eax
    mov eax, 1
    ring
    mov dx, 0x3f9
    mov al, 2
    out dx, al
    xor ebx, ebx
9:  cli
    mov dx, 0x3f8
    mov al, 0x78
    out dx, al
2:  cmp [rdi], rbx
    jne 3f
    sti
    hlt
    cli
    jmp 2b
3:  inc ebx
    cmp ebx, 3
    jb 9b
    mov dword ptr [r9 + 16], 0x10020
    sti
    mov dx, 0x3f8
    mov al, 0x79
    out dx, al
    mov eax, 2
    ring
    power_off
    at ioapic, 256
    inc qword ptr [rdi]
    push rax
    push rcx
    push rdx
    mov dx, 0x3fa
    in al, dx
    mov ecx, 0x80b
    xor eax, eax
    xor edx, edx
    wrmsr
    pop rdx
    pop rcx
    pop rax
    iretq
done ioapic

# Counts at [rdi] for ever, with a port access every 64 rounds.
guest spin
9:  inc qword ptr [rdi]
    test byte ptr [rdi], 63
    jnz 9b
    mov dx, 0x2f0
    in al, dx
    jmp 9b
done spin

# Writes ecx pages from rdi on, rsi bytes apart; rings; writes the pages after those; rings; ends.
guest dirty
    mov ebx, 2
9:  mov r8d, ecx
2:  mov [rdi], rbx
    add rdi, rsi
    dec r8d
    jnz 2b
    mov eax, ebx
    ring
    dec ebx
    jnz 9b
    power_off
done dirty

# All registers of known values, then the doorbell.
guest registers
    mov ecx, 0xc0000102
    mov eax, 0x12345000
    mov edx, 0xffff8880
    wrmsr
    mov ecx, 0xc0000100
    mov eax, 0x7000
    xor edx, edx
    wrmsr
    mov ecx, 0xc0000101
    mov eax, 0x8000
    wrmsr
    mov rbx, 0x1111111111111111
    mov rcx, 0x2222222222222222
    mov rsi, 0x4444444444444444
    mov rdi, 0x5555555555555555
    mov rbp, 0x6666666666666666
    mov r8, 0x8888888888888888
    mov r9, 0x9999999999999999
    mov r10, 0xaaaaaaaaaaaaaaaa
    mov r11, 0xbbbbbbbbbbbbbbbb
    mov r12, 0xcccccccccccccccc
    mov r13, 0xdddddddddddddddd
    mov r14, 0xeeeeeeeeeeeeeeee
    mov r15, 0xffffffffffffffff
    mov eax, 7
    ring
    at registers, 256
    power_off
done registers

# Counts rax to 5, from offset 64 on.
guest breakpoint
    xor eax, eax
    at breakpoint, 64
9:  inc rax
    cmp rax, 5
    jne 9b
    power_off
done breakpoint

# Steps through some instructions of its own; [rdi] counts the debug exceptions.
guest steps
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    nop
    nop
    nop
    pushfq
    and dword ptr [rsp], 0xfffffeff
    popfq
    nop
    power_off
    at steps, 256
    inc qword ptr [rdi]
    iretq
done steps

# Stores 1 to 5 at [rdi] and, each time, the same beside it.
guest watch
    xor eax, eax
9:  inc rax
    mov [rdi], rax
    mov [rdi + 64], rax
    cmp rax, 5
    jne 9b
    power_off
done watch

# Twelve numbers, each out of registers, memory, an SSE register and flags, by the doorbell.
guest sequence
    movdqu xmm3, xmmword ptr [rdi]
    mov rbx, 0x123456789abcdef
    mov rsi, 6364136223846793005
    mov r9d, 12
9:  imul rbx, rsi
    adc rbx, 0x1234567
    movdqu xmmword ptr [rdi + 64], xmm3
    add rbx, [rdi + 64]
    add [rdi + 128], rbx
    mov rax, [rdi + 128]
    shr rax, 32
    ring
    dec r9d
    jnz 9b
    power_off
done sequence

# A fault with no handler to lead to.
guest triple_fault
    ud2
done triple_fault

# What a kernel does when it panics: the line, and a reset by the keyboard controller.
guest panic
    lea rsi, [rip + 2f]
9:  mov al, [rsi]
    test al, al
    jz 3f
    mov dx, 0x3f8
    out dx, al
    inc rsi
    jmp 9b
2:  .asciz "[    1.0] Kernel panic - not syncing: out of luck\n"
3:  mov al, 0xfe
    out 0x64, al
4:  hlt
    jmp 4b
done panic

# A reset without a panic.
guest reset
    mov al, 6
    mov dx, 0xcf9
    out dx, al
4:  hlt
    jmp 4b
done reset

# Executes what is no memory, which KVM cannot carry out.
guest nowhere
    jmp rsi
done nowhere

# For the guest `kernel`: add the frames that its word `told` counts to the ring, of which rsi and rdi are the places, and move its
# head to the word after it.
.macro hand_over told
    mov rcx, [r15 + \told]
    rep movsq
    mov rax, [r15 + \told + 8]
    mov [r9 + 0x40], rax
.endm

# Ring for a capture, and wait until it is served.
.macro ring_for capture
    mov eax, \capture
    ring
5:  mov dx, 0x2f0
    in al, dx
    cmp qword ptr [r9 + 0x140], \capture
    jne 5b
.endm

# A whole machine's guest, entered as a kernel is by the 64-bit boot protocol (tiny_kernel.rs): rsi = boot_params, memory
# below 4 GiB mapped one to one. What it is told is 2048 bytes from its start, frames for the host from 4096 on:
#
#   0  the channel memory    8  its words of version and state: ready, busy, done     32  other vCPUs
#  40  three times: 8-byte words of the frames that follow, and the ring's head behind them
#
# What it finds goes to the page at 0x30000. It starts all other vCPUs by INIT and SIPI; waits for its job; hands over frames
# and rings for capture 1; writes 40 pages; hands over frames and rings for capture 2; hands over frames and powers off.
guest kernel
    lea r15, [rip + ktstr_guest_kernel + 2048]
    mov ebp, 0x30000
    mov eax, [rsi + 0x202]
    mov [rbp], rax
    mov eax, [rsi + 0x228]
    mov rax, [rax]
    mov [rbp + 8], rax
    lea rsi, [rip + 7f]
6:  mov al, [rsi]
    test al, al
    jz 1f
    mov dx, 0x3f8
    out dx, al
    inc rsi
    jmp 6b
1:  cmp qword ptr [r15 + 32], 0
    je 3f
    # The trampoline, where a SIPI can lead to.
    lea rsi, [rip + ktstr_guest_trampoline]
    mov edi, 0x20000
    mov ecx, 256
    cld
    rep movsb
    mov ebx, 0xfee00000
    mov dword ptr [rbx + 0xf0], 0x1ff
    mov dword ptr [rbx + 0x300], 0xc4500
    mov dword ptr [rbx + 0x300], 0xc4620
    # Seconds on a CPU: the threads of the others may have to wait for one. Whoever runs this looks at how many came up.
    mov ecx, 5000000
2:  mov rax, [rbp + 16]
    cmp rax, [r15 + 32]
    jae 3f
    mov dx, 0x2f0
    in al, dx
    dec ecx
    jnz 2b
3:  mov rdi, [r15]
    mov rax, [r15 + 8]
    mov [rdi + 8], rax
    movabs rax, 0x314843525453544b
    mov [rdi], rax
4:  mov dx, 0x2f0
    in al, dx
    cmp qword ptr [rdi + 0xc0], 0
    je 4b
    mov rax, [r15 + 16]
    mov [rdi + 8], rax
    lea rsi, [r15 + 2048]
    mov r9, rdi
    lea rdi, [r9 + 0x401000]
    cld
    hand_over 40
    ring_for 1
    mov ebx, 0x2000000
    mov ecx, 40
2:  mov [rbx], rcx
    add rbx, 0x3000
    dec ecx
    jnz 2b
    hand_over 56
    ring_for 2
    hand_over 72
    mov rax, [r15 + 24]
    mov [r9 + 8], rax
    power_off
7:  .asciz "a tiny guest\n"

# Where another vCPU begins: in real mode at 0x2000:0. It goes to long mode as a kernel's would, leaves its APIC id in the page
# of its number and counts itself.
    .balign 16
ktstr_guest_trampoline:
    .code16
    cli
    .byte 0x66, 0x2e, 0x0f, 0x01, 0x16      # lgdt cs:[8f - begin], 32 bits
    .word 8f - ktstr_guest_trampoline
    mov eax, 0x20
    mov cr4, eax
    mov eax, 0x9000
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, 0x80000011
    mov cr0, eax
    .byte 0x66, 0xea                        # jmp 0x10:9f
    .long 0x20000 + 9f - ktstr_guest_trampoline
    .word 0x10
8:  .word 47
    .long 0x1000
    .code64
9:  mov eax, 0x18
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, 0xb
    xor ecx, ecx
    cpuid
    mov ebx, 0x30000
    mov eax, 1
    lock xadd [rbx + 24], rax
    mov [rbx + rax * 8 + 64], edx
    lock inc qword ptr [rbx + 16]
1:  cli
    hlt
    jmp 1b
    .org ktstr_guest_kernel + 2048, 0
done kernel

    .popsection
