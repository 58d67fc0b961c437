//! What a call was given and what it returned, out of a vCPU's registers and memory.

use super::ProbeSite;
use super::site::{Convention, position};
use crate::btf::{TypeId, plain, plain_number};
use crate::kernel::KernelView;
use crate::kernel::query::{Start, at_end, of_value};
use crate::path::{FieldPath, Step};
use crate::trace::record::{ProbeValue, VcpuRegs};
use crate::units::KernelVirt;
use crate::value::{Scalar, Scope, Value};

/// Longest text that is kept of a value, and of why there is none, in characters.
const TEXT_CHARS: usize = 256;
/// Positions in `VcpuRegs::gpr`.
const RAX: usize = 0;
const RDI: usize = 5;
const RSP: usize = 7;
/// Of the arguments, in order: rdi, rsi, rdx, rcx, r8, r9.
const ARGUMENTS: [usize; 6] = [RDI, 4, 3, 2, 8, 9];

impl ProbeSite {
    /// What is read at a call, for which the vCPU with these registers stands at [`ProbeSite::at`]. In the order of
    /// [`ProbeSite::names`].
    #[must_use]
    pub fn read(&self, view: &KernelView<'_>, registers: &VcpuRegs) -> Vec<ProbeValue> {
        self.values.iter().map(|path| self.value(view, registers, path).unwrap_or_else(unread)).collect()
    }

    fn value(
        &self,
        view: &KernelView<'_>,
        registers: &VcpuRegs,
        path: &FieldPath,
    ) -> Result<ProbeValue, String> {
        let Some((Step::Field(name), rest)) = path.steps().split_first() else {
            return Err(format!("`{path}` begins with no argument"));
        };
        let (nth, parameter) = position(&self.parameters, name)
            .and_then(|nth| Some((nth, self.parameters.get(nth)?)))
            .ok_or_else(|| format!("there is no argument `{name}`"))?;
        of_word(view, self.word(view, registers, nth)?, parameter.id, name, rest)
    }

    /// The word that an argument is.
    fn word(&self, view: &KernelView<'_>, registers: &VcpuRegs, nth: usize) -> Result<u64, String> {
        let register = |number: usize| registers.gpr.get(number).copied().unwrap_or_default();
        let above = |base: u64, words: usize| {
            let at = KernelVirt(base.wrapping_add(words as u64 * 8));
            view.u64(at).map_err(|error| format!("argument {nth}: {error}"))
        };
        match (self.convention, ARGUMENTS.get(nth)) {
            (Convention::SystemV, Some(number)) => Ok(register(*number)),
            // Below them is the return address.
            (Convention::SystemV, None) => above(register(RSP), 1 + nth - ARGUMENTS.len()),
            (Convention::Context, _) => above(register(RDI), nth),
        }
    }

    /// Where the call returns to, and the stack pointer with which it does: the vCPU stands at [`ProbeSite::at`].
    ///
    /// # Errors
    /// Why its stack cannot be read.
    pub fn return_of(
        &self,
        view: &KernelView<'_>,
        registers: &VcpuRegs,
    ) -> Result<(KernelVirt, u64), String> {
        let sp = registers.gpr.get(RSP).copied().unwrap_or_default();
        let to = view.u64(KernelVirt(sp)).map_err(|error| error.to_string())?;
        Ok((KernelVirt(to), sp.wrapping_add(8)))
    }

    /// What the call returned, for which the vCPU with these registers stands where it returned to; `None` for a function that
    /// returns nothing.
    #[must_use]
    pub fn returned(&self, view: &KernelView<'_>, registers: &VcpuRegs) -> Option<ProbeValue> {
        let word = registers.gpr.get(RAX).copied().unwrap_or_default();
        let id = self.returns?;
        Some(of_word(view, word, id, "what it returned", &[]).unwrap_or_else(unread))
    }

    /// The stack pointer of a vCPU with these registers.
    #[must_use]
    pub fn stack_of(registers: &VcpuRegs) -> u64 {
        registers.gpr.get(RSP).copied().unwrap_or_default()
    }
}

/// The value that `steps` lead to from a word of that type.
fn of_word(
    view: &KernelView<'_>,
    word: u64,
    id: TypeId,
    name: &str,
    steps: &[Step],
) -> Result<ProbeValue, String> {
    let bytes = word.to_le_bytes();
    let value = match (id, plain_number(8)) {
        (TypeId(0), Some(number)) => Value::new(plain(), number, &bytes),
        _ => Value::new(view.types(), id, &bytes),
    };
    let value = value.map_err(|error| error.to_string())?;
    let value = value.within(Scope { kernel: Some(view.types()), ..Scope::default() });
    at_end(view, &value, Start { root: &name, steps }, said).map_err(|error| error.to_string())?
}

/// A value as it is recorded.
fn said(value: &Value<'_>) -> Result<ProbeValue, String> {
    match of_value(value) {
        Ok(reading) => Ok(match reading.scalar {
            Scalar::Int(number) => ProbeValue::Int(number),
            Scalar::Bool(truth) => ProbeValue::Int(truth.into()),
            Scalar::Pointer(at) => ProbeValue::Pointer(at),
            Scalar::Float(number) => ProbeValue::Text(number.to_string()),
        }),
        Err(error) => match value.as_str() {
            Ok(text) => Ok(ProbeValue::Text(text.chars().take(TEXT_CHARS).collect())),
            Err(_) => Err(error.to_string()),
        },
    }
}

fn unread(why: String) -> ProbeValue {
    ProbeValue::Unread { why: why.chars().take(TEXT_CHARS).collect() }
}

#[cfg(test)]
mod tests {
    use super::super::site::Parameter;
    use super::*;
    use crate::btf::Kind;
    use crate::kernel::task::read_tasks;
    use crate::testing::toy_kernel;
    use crate::units::Cpu;

    fn site(id: TypeId, convention: Convention, values: &[&str]) -> ProbeSite {
        let parameters =
            ["p", "flags"].map(|name| (name.to_owned(), if name == "p" { id } else { TypeId(0) }));
        ProbeSite {
            at: KernelVirt(1),
            place: "f".to_owned(),
            clones: Vec::new(),
            is_program: false,
            values: values.iter().map(|path| path.parse().expect("a path")).collect(),
            parameters: parameters.map(|(name, id)| Parameter { name, id }).to_vec(),
            convention,
            returns: Some(id),
        }
    }

    #[test]
    fn arguments_are_read_where_the_convention_has_them() {
        let (guest, _) = toy_kernel(0);
        let (profile, memory) = (guest.profile(), guest.ram);
        let view = KernelView::new(&profile, &memory);
        let types = view.types();
        let is_pointer = |id: &TypeId| types.describe(*id) == "struct task_struct *";
        let pointer = types.of_kind(Kind::Ptr).find(is_pointer).expect("a pointer to a task");
        let tasks = read_tasks(&view).expect("tasks").tasks;
        let task = tasks.last().expect("a task");
        let mut registers = VcpuRegs { cpu: Cpu(0), ..VcpuRegs::default() };
        (registers.gpr[RDI], registers.gpr[4]) = (task.at.0, 7);
        let asked = ["p->pid", "p->comm", "flags", "p", "q", "p->no_such"];
        let read = site(pointer, Convention::SystemV, &asked).read(&view, &registers);
        assert_eq!(
            read[..3],
            [ProbeValue::Int(task.pid.into()), ProbeValue::Text(task.comm.clone()), ProbeValue::Int(7)]
        );
        assert_eq!(read[3], ProbeValue::Pointer(task.at.0));
        assert!(matches!(&read[4], ProbeValue::Unread { why } if why == "there is no argument `q`"));
        assert!(matches!(&read[5], ProbeValue::Unread { why } if why.contains("no_such")), "{read:?}");
        // A null pointer, and one to nowhere.
        registers.gpr[RDI] = 0;
        let null = site(pointer, Convention::SystemV, &["p", "p->pid"]).read(&view, &registers);
        assert_eq!(null[0], ProbeValue::Pointer(0));
        assert!(matches!(&null[1], ProbeValue::Unread { why } if why.contains("null")), "{null:?}");
        // A program's arguments are words that rdi points at: here the word of the kernel's pointer to its scheduler.
        let place = view.symbol("scx_root").expect("a symbol");
        let there = view.u64(place).expect("a word");
        registers.gpr[RDI] = place.0;
        let read = site(pointer, Convention::Context, &["p"]).read(&view, &registers);
        assert_eq!(read, [ProbeValue::Pointer(there)]);
        // What it returns is in rax.
        registers.gpr[RAX] = 0xff;
        let returned = site(pointer, Convention::SystemV, &[]).returned(&view, &registers);
        assert_eq!(returned, Some(ProbeValue::Pointer(0xff)));
        let nothing = ProbeSite { returns: None, ..site(pointer, Convention::SystemV, &[]) };
        assert_eq!(nothing.returned(&view, &registers), None);
    }
}
