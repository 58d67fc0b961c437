//! The kernel's own names for BPF code: `bpf_prog_<tag>_<name>`, `bpf_trampoline_<key>`, `bpf__<struct>_<op>`.

use serde::{Serialize, Serializer};

use super::{BpfProgram, Ksym, KsymName};
use crate::kernel::{Gaps, KernelError, KernelView, list_entries};
use crate::units::KernelVirt;

/// Most names that are read.
const MAX_SYMBOLS: usize = 65_536;
/// Longest code that is of one name, in bytes. A longer range is none, and its name, 512 bytes, is not read: a list of
/// garbage ends soon.
const MAX_CODE_BYTES: u64 = 64 << 20;

/// A range of BPF machine code with its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JitSymbol {
    /// First byte.
    #[serde(serialize_with = "in_hexadecimal")]
    pub start: KernelVirt,
    /// Just past the last byte.
    #[serde(serialize_with = "in_hexadecimal")]
    pub end: KernelVirt,
    /// The kernel's name for it: `bpf_prog_6deef7357e7b4530_demo_dispatch`.
    pub name: String,
    /// Id of the program that it is the code of; `None` for trampolines and the like.
    pub program: Option<u32>,
}

impl JitSymbol {
    /// The name that the kernel would give a program's code.
    pub(super) fn of_program(program: &BpfProgram) -> Option<Self> {
        let end = program.jited_at.0.checked_add(u64::from(program.jited_bytes))?;
        (program.jited_bytes != 0).then(|| Self {
            start: program.jited_at,
            end: KernelVirt(end),
            name: match program.name.as_str() {
                "" => format!("bpf_prog_{}", program.tag),
                name => format!("bpf_prog_{}_{name}", program.tag),
            },
            program: Some(program.id),
        })
    }
}

/// An address as JSON's readers take it whole: a string.
pub(super) fn in_hexadecimal<S: Serializer>(at: &KernelVirt, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(at)
}

/// The list `bpf_kallsyms`. What cannot be read goes to `gaps`; what names nothing is left out.
pub(super) fn read(view: &KernelView<'_>, gaps: &mut Gaps) -> Result<Vec<JitSymbol>, KernelError> {
    let head = view.symbol("bpf_kallsyms")?;
    let named =
        list_entries(view, head, ("bpf_ksym", "lnode"), MAX_SYMBOLS, gaps).into_iter().filter_map(|at| {
            let ksym: Ksym = gaps.read(format_args!("the name at {at}"), view.mirror(at))?;
            let bytes = ksym.end.checked_sub(ksym.start)?;
            if !(1..=MAX_CODE_BYTES).contains(&bytes) {
                return None;
            }
            let name: KsymName = gaps.read(format_args!("the name at {at}"), view.mirror(at))?;
            let (start, end) = (KernelVirt(ksym.start), KernelVirt(ksym.end));
            Some(JitSymbol { start, end, name: name.name.0, program: None })
        });
    Ok(named.collect())
}
