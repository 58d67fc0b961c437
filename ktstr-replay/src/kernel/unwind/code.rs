//! What code an address is in.

use std::fmt;

use serde::Serialize;

use crate::kernel::{BpfPrograms, KernelView, Symbols};
use crate::units::KernelVirt;

/// The name of an address of code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CodeName {
    /// The function, or BPF program.
    pub name: String,
    /// Distance of the address from its beginning, in bytes.
    pub offset: u64,
    /// Its length in bytes, up to the next symbol.
    pub size: u64,
}

impl fmt::Display for CodeName {
    /// As the kernel prints it: `schedule+0x2d/0xb0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}/{:#x}", self.name, self.offset, self.size)
    }
}

/// The code of a kernel: its functions, and the BPF code that was compiled while it ran.
pub struct Code<'k> {
    symbols: &'k Symbols,
    /// First and just past the last address of the kernel's functions.
    text: Vec<(u64, u64)>,
    bpf: BpfPrograms,
}

impl<'k> Code<'k> {
    /// The functions of a kernel, and its BPF code.
    #[must_use]
    pub fn new(view: &KernelView<'k>, bpf: BpfPrograms) -> Self {
        let symbols = view.profile().symbols();
        let range = |(from, to)| Some((symbols.address(from)?.0, symbols.address(to)?.0));
        let text = [("_stext", "_etext"), ("_sinittext", "_einittext")].into_iter().filter_map(range);
        Self { symbols, text: text.collect(), bpf }
    }

    /// Whether the kernel's own functions are there.
    #[must_use]
    pub fn is_kernel(&self, at: KernelVirt) -> bool {
        self.text.iter().any(|(from, to)| (*from..*to).contains(&at.0))
    }

    /// Whether BPF code is there.
    #[must_use]
    pub fn is_bpf(&self, at: KernelVirt) -> bool {
        self.bpf.at(at).is_some()
    }

    /// The name of `ip`, by what `lookup` is in (the same address, or the one before it).
    pub(super) fn name(&self, ip: KernelVirt, lookup: KernelVirt) -> Option<CodeName> {
        if let Some((code, _)) = self.bpf.at(lookup) {
            let (offset, size) = (ip.0 - code.start.0, code.end.0 - code.start.0);
            return Some(CodeName { name: code.name.clone(), offset, size });
        }
        if !self.is_kernel(lookup) {
            return None;
        }
        let (symbol, size) = self.symbols.containing(lookup)?;
        Some(CodeName { name: symbol.name.to_owned(), offset: ip.0.wrapping_sub(symbol.address.0), size })
    }
}
