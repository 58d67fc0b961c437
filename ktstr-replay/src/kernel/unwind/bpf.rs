//! Where the caller of BPF machine code is. Such code has no unwind tables, but it keeps a frame pointer once it has begun,
//! and what it does before and after is told by its own instructions.
//!
//! ```text
//! endbr64; nop or call of a tracer; nop or clearing rax   the caller's address is at the stack pointer
//! push %rbp                                              ... above the caller's frame pointer
//! mov %rsp,%rbp                                          both are where %rbp points, up to and with `leave`
//! leave; [add $8,%rsp;] ret, or a jump to a return thunk  the caller's address is at the stack pointer
//! ```
//!
//! Source: `emit_prologue`, `emit_return` and `__arch_prepare_bpf_trampoline` of `arch/x86/net/bpf_jit_comp.c` of Linux.

use super::orc::{Base, Rule};
use crate::kernel::{JitSymbol, KernelError, KernelView};
use crate::units::KernelVirt;

/// What may stand before `push %rbp`, in this order, each of them or not.
const BEFORE_PUSH: [&[&[u8]]; 3] = [
    &[ENDBR64],
    // Where a tracer is called, or is not.
    &[&[0x0f, 0x1f, 0x44, 0x00, 0x00], &[CALL], &[JUMP]],
    // The count of tail calls begins: `xor %rax,%rax` or `xor %eax,%eax`, or a nop of that length.
    &[&[0x48, 0x31, 0xc0], &[0x0f, 0x1f, 0x00], &[0x31, 0xc0], &[0x66, 0x90]],
];
const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
const CALL: u8 = 0xe8;
const JUMP: u8 = 0xe9;
/// Length of a call or jump with a 32-bit distance.
const NEAR: usize = 5;
const PUSH_BP: usize = 1;
/// `push %rbp; mov %rsp,%rbp`.
const FRAME: &[u8] = &[0x55, 0x48, 0x89, 0xe5];
const RETURN: u8 = 0xc3;
/// `add $8,%rsp`: a tracer's trampoline returns past the function that it was called from.
const SKIP_FRAME: &[u8] = &[0x48, 0x83, 0xc4, 0x08];
/// Longest beginning that is looked at, in bytes: all that may stand there.
const PROLOGUE: u64 = 24;
/// What all of the kernel's return thunks have in their names.
const RETURN_THUNK: &str = "return_thunk";

/// Why the caller of BPF code cannot be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    /// Its code cannot be read.
    #[error("{0}")]
    Unread(String),
    /// It does not begin as the kernel's compiler has it.
    #[error("the code of {0} does not begin with a frame pointer")]
    NoFrame(String),
}

/// The caller's frame, of the BPF code `code` when the instruction at `ip` of it is the next to run.
///
/// `name_of` is asked what a jump leads to.
///
/// # Errors
/// [`Unknown`].
pub(super) fn caller(
    view: &KernelView<'_>,
    code: &JitSymbol,
    ip: u64,
    name_of: impl Fn(KernelVirt) -> Option<String>,
) -> Result<Rule, Unknown> {
    let unread = |error: KernelError| Unknown::Unread(format!("the code of {}: {error}", code.name));
    let len = code.end.0.saturating_sub(code.start.0).min(PROLOGUE);
    let offset = ip.wrapping_sub(code.start.0);
    if offset < len {
        let begin = view.bytes(code.start, len as usize).map_err(unread)?;
        let push = before_push(&begin).ok_or_else(|| Unknown::NoFrame(code.name.clone()))?;
        match offset.checked_sub(push as u64) {
            None | Some(0) => return Ok(Rule::call(Base::Sp, 8, Base::Undefined, 0)),
            Some(into) if into == PUSH_BP as u64 => return Ok(Rule::call(Base::Sp, 16, Base::PrevSp, -16)),
            Some(_) => {}
        }
    }
    // Not past the end: what is there is of another program.
    let rest = code.end.0.saturating_sub(ip).min((SKIP_FRAME.len() + NEAR) as u64);
    let here = view.bytes(KernelVirt(ip), rest as usize).map_err(unread)?;
    let (skipped, at) = match here.strip_prefix(SKIP_FRAME) {
        Some(after) => (8, after),
        None => (0, here.as_slice()),
    };
    let returns = match at {
        [RETURN, ..] => true,
        [JUMP, distance @ ..] => distance.first_chunk().is_some_and(|distance| {
            let next = ip.wrapping_add((here.len() - at.len() + NEAR) as u64);
            let to = next.wrapping_add_signed(i32::from_le_bytes(*distance).into());
            name_of(KernelVirt(to)).is_some_and(|name| name.contains(RETURN_THUNK))
        }),
        _ => false,
    };
    Ok(match returns {
        true => Rule::call(Base::Sp, 8 + skipped, Base::Undefined, 0),
        false => framed(),
    })
}

/// Where the caller is while the code has its frame: the caller's frame pointer where %rbp points, the return address above.
pub(super) fn framed() -> Rule {
    Rule::call(Base::Bp, 16, Base::PrevSp, -16)
}

/// Where `push %rbp; mov %rsp,%rbp` is, if nothing stands before it but what may.
fn before_push(begin: &[u8]) -> Option<usize> {
    let mut rest = begin;
    for forms in BEFORE_PUSH {
        if let Some(form) = forms.iter().find(|form| rest.starts_with(form)) {
            let len = if matches!(*form, [CALL] | [JUMP]) { NEAR } else { form.len() };
            rest = rest.get(len..)?;
        }
    }
    rest.starts_with(FRAME).then_some(begin.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_of_programs_and_trampolines_are_known() {
        for (begin, push) in [
            // A program of 7.3, one that a tracer is attached to, one with tail calls; a trampoline of struct_ops, one of a
            // tracer; a program of a kernel without control-flow protection.
            (&b"\xf3\x0f\x1e\xfa\x0f\x1f\x44\0\0\x0f\x1f\0\x55\x48\x89\xe5\xf3\x0f\x1e\xfa"[..], Some(12)),
            (b"\xf3\x0f\x1e\xfa\xe8\x12\x34\x56\x78\x0f\x1f\0\x55\x48\x89\xe5", Some(12)),
            (b"\xf3\x0f\x1e\xfa\x0f\x1f\x44\0\0\x48\x31\xc0\x55\x48\x89\xe5", Some(12)),
            (b"\xf3\x0f\x1e\xfa\x55\x48\x89\xe5\x48\x83\xec\x30", Some(4)),
            (b"\x55\x48\x89\xe5\x48\x83\xec\x30", Some(0)),
            (b"\x0f\x1f\x44\0\0\x66\x90\x55\x48\x89\xe5", Some(7)),
            // A callback for exceptions takes the stack of another; a dispatcher has no frame.
            (b"\xf3\x0f\x1e\xfa\x0f\x1f\x44\0\0\x0f\x1f\0\x48\x89\xf4\x48\x89\xd5", None),
            (b"\x48\x81\xfa\0\0\0\0\x0f\x84", None),
            (b"\xf3\x0f\x1e\xfa\xe8\x12", None),
            (b"", None),
        ] {
            assert_eq!(before_push(begin), push, "{begin:02x?}");
        }
    }
}
