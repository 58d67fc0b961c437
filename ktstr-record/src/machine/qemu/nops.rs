//! Instructions that do nothing, as functions begin with.
//!
//! Sources: `arch/x86/include/asm/nops.h` and `ibt.h` of Linux, `emit_prologue` of `arch/x86/net/bpf_jit_comp.c`.

/// Bytes of the longest.
pub(super) const LONGEST: usize = 8;

/// `endbr64` and what a kernel puts in its place where it is not needed; the nops of one to eight bytes that the kernel writes. A
/// guest with control-flow enforcement would be in the wrong state behind an `endbr64` that it has not executed; the emulator has none.
const NOPS: [&[u8]; 11] = [
    &[0xf3, 0x0f, 0x1e, 0xfa],
    &[0x0f, 0x1f, 0x40, 0xd6],
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0x66, 0x66, 0x90],
];

/// Length of the instruction that these bytes begin with, if it does nothing.
pub(super) fn length(bytes: &[u8; LONGEST]) -> Option<usize> {
    NOPS.iter().find(|nop| bytes.starts_with(nop)).map(|nop| nop.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_nothing_is_known_and_nothing_else() {
        let at = |bytes: &[u8]| {
            let mut all = [0x55; LONGEST];
            all[..bytes.len()].copy_from_slice(bytes);
            length(&all)
        };
        // `endbr64`, the place of a tracer's call, a count of tail calls that is not kept.
        assert_eq!(at(&[0xf3, 0x0f, 0x1e, 0xfa]), Some(4));
        assert_eq!(at(&[0x0f, 0x1f, 0x44, 0x00, 0x00]), Some(5));
        assert_eq!(at(&[0x0f, 0x1f, 0x00]), Some(3));
        // `push %rbp`, a tracer's call, `ud2`, the breakpoint of the kernel's own code patching, a nop of which a byte is another.
        for other in
            [&[0x55][..], &[0xe8, 0, 0, 0, 0], &[0x0f, 0x0b], &[0xcc], &[0x0f, 0x1f, 0x44, 0x00, 0x01]]
        {
            assert_eq!(at(other), None, "{other:02x?}");
        }
    }
}
