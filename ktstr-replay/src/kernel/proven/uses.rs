//! What becomes of the value of a register: by that it is told which arguments and results the compiler has left as a function's type
//! says.

use std::collections::BTreeSet;

use super::code::{ARGUMENTS, Does, Function, Next};
use super::flow::{Code, Signature};

/// Most instructions that are looked at for whether a register is read.
const MAX_LOOKED_AT: usize = 1 << 12;
/// The same, after a call.
const MAX_AFTER_CALL: usize = 1 << 8;

/// Whether a function reads each register that its type has a parameter for, before it has another value: on its first, straight
/// stretch, or, for one that it saves, wherever. An argument that is never read may be one that the compiler left out, and those
/// after it are in other registers than the type says.
pub(super) fn reads_all(code: &Code<'_>, function: &Function, signature: &Signature) -> bool {
    let count = signature.parameters.len();
    count <= ARGUMENTS
        && (1..=count)
            .all(|register| use_of(code, function, function.from, register, MAX_LOOKED_AT) == Use::Read)
}

/// What becomes of what a call returned that is before `after`.
pub(super) fn use_of_result(code: &Code<'_>, function: &Function, after: usize) -> Use {
    use_of(code, function, after, 0, MAX_AFTER_CALL)
}

/// What becomes of a register's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// An instruction reads it.
    Read,
    /// None does, and it may be what the function returns.
    Returned,
    /// Neither is known.
    None,
}

/// What becomes of the value that a register has at `from`, on any way, within `most` instructions.
fn use_of(code: &Code<'_>, function: &Function, from: usize, register: usize, most: usize) -> Use {
    let (mut waiting, mut met) = (vec![from], BTreeSet::new());
    let mut found = Use::None;
    while let Some(at) = waiting.pop() {
        let Some(insn) = code.insns.get(at).filter(|_| (function.from..function.until).contains(&at)) else {
            continue;
        };
        if !met.insert(at) {
            continue;
        }
        code.charge(1);
        if met.len() > most || code.steps.get() == 0 {
            return Use::None;
        }
        // A call takes what its callee takes, which is not known here.
        let is_call = matches!(insn.does(), Does::Call | Does::KernelCall | Does::TailCall);
        if insn.reads(register) && !is_call {
            return Use::Read;
        }
        if insn.writes(register) {
            continue;
        }
        let to = |by: i32| usize::try_from((at as i64).saturating_add(1).saturating_add(by.into())).ok();
        match insn.next() {
            Next::Return if register == 0 => found = Use::Returned,
            Next::Return | Next::Anywhere => {}
            Next::Jump(by) => waiting.extend(to(by)),
            Next::Branch(by) => waiting.extend([to(by), to(0)].into_iter().flatten()),
            Next::On => {
                let wide = matches!(insn.does(), Does::Wide { .. } | Does::FunctionAddress { .. });
                waiting.extend(to(i32::from(wide)));
            }
        }
    }
    found
}
