//! What an unwound stack is, and what its code is called.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::kernel::prog_lines::line_of;
use crate::kernel::{BpfPrograms, JitSymbol, KernelView, Symbols};
use crate::units::KernelVirt;

/// A stack, from the innermost frame out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stack {
    /// Its frames.
    pub frames: Vec<Frame>,
    /// Why there are no more.
    pub end: StackEnd,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// What runs there next: the instruction pointer, or a return address.
    #[serde(serialize_with = "hex")]
    pub ip: KernelVirt,
    /// The stack pointer of the frame.
    #[serde(serialize_with = "hex")]
    pub sp: KernelVirt,
    /// What the address is in; `None` where nothing has a name.
    pub name: Option<CodeName>,
    /// How it was found.
    pub kind: FrameKind,
    /// Which stack it is on: `task`, `irq`, `NMI`, ...
    pub area: &'static str,
    /// What it was compiled from, the innermost inlined function first; empty without [`DebugInfo`](crate::debuginfo::DebugInfo).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<SourceLine>,
}

/// A place in a kernel's source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceLine {
    /// The function; inlined into that of the next line, or the one that has a symbol.
    pub function: Option<String>,
    /// The file, from the top of the kernel's tree.
    pub file: Option<String>,
    /// The line.
    pub line: Option<u32>,
}

impl fmt::Display for SourceLine {
    /// `kernel/sched/core.c:7001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_deref().unwrap_or("?");
        match self.line {
            Some(line) => write!(f, "{file}:{line}"),
            None => f.write_str(file),
        }
    }
}

/// How a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrameKind {
    /// It is where the registers are: the instruction at `ip` has not run yet.
    Registers,
    /// It called the frame before.
    Call,
    /// It called the frame before, and is BPF code: by its frame pointer, as such code has no unwind tables.
    Bpf,
    /// An interrupt or exception came before the instruction at `ip`.
    Interrupted,
    /// A word on the stack that looks like a return address: it may be a leftover of an earlier call.
    Guess,
}

/// Why a stack has no more frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum StackEnd {
    /// The kernel was entered from user space there.
    User {
        /// The user's instruction pointer.
        ip: u64,
        /// The user's stack pointer.
        sp: u64,
    },
    /// The unwind tables say that nothing called this frame.
    Bottom,
    /// There is no stack any more: the kernel has freed it, as it does when a task has ended and is not waited for yet.
    Freed,
    /// The walk could not go on.
    Broken {
        /// What was wrong, and where.
        reason: String,
    },
}

impl Frame {
    /// The address by which the frame's code is looked up: a return address may be the first of what follows the
    /// calling function, where that does not return.
    #[must_use]
    pub(crate) fn lookup(&self) -> KernelVirt {
        match self.kind {
            FrameKind::Registers | FrameKind::Interrupted => self.ip,
            FrameKind::Call | FrameKind::Bpf | FrameKind::Guess => KernelVirt(self.ip.0.wrapping_sub(1)),
        }
    }

    /// As the kernel prints it: `schedule+0x2d/0xb0`, with `? ` before a guess.
    #[must_use]
    pub fn text(&self) -> String {
        let mark = if self.kind == FrameKind::Guess { "? " } else { "" };
        match &self.name {
            Some(name) => format!("{mark}{name}"),
            None => format!("{mark}{}", self.ip),
        }
    }
}

impl Stack {
    /// A stack without frames.
    pub(super) fn none(end: StackEnd) -> Self {
        Self { frames: Vec::new(), end }
    }

    /// A line for each frame, with `<irq>` and `</irq>` around those that are not on the task's own stack, and a last one
    /// that says where it came from. With debug information the functions that were inlined into a frame come before it.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::with_capacity(self.frames.len() + 1);
        let mut on = "task";
        for frame in &self.frames {
            if frame.area != on {
                if on != "task" {
                    lines.push(format!("</{on}>"));
                }
                if frame.area != "task" {
                    lines.push(format!("<{}>", frame.area));
                }
                on = frame.area;
            }
            let what = if frame.kind == FrameKind::Interrupted { "  (interrupted)" } else { "" };
            let (own, inlined) =
                frame.source.split_last().map_or((None, &[][..]), |(own, rest)| (Some(own), rest));
            for line in inlined {
                let function = line.function.as_deref().unwrap_or("?");
                lines.push(format!("{function}  (inlined)  {line}"));
            }
            let source = own.map(|own| format!("  {own}")).unwrap_or_default();
            lines.push(format!("{}{what}{source}", frame.text()));
        }
        if on != "task" {
            lines.push(format!("</{on}>"));
        }
        lines.extend(self.end.text());
        lines
    }
}

impl StackEnd {
    /// For people; `None` for the usual end.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Self::User { ip, .. } => Some(format!("user space at {ip:#x}")),
            Self::Bottom => None,
            Self::Freed => Some("(no stack: it was freed when the task ended)".to_owned()),
            Self::Broken { reason } => Some(format!("(the stack cannot be followed: {reason})")),
        }
    }
}

fn hex<S: Serializer>(at: &KernelVirt, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(at)
}

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
    bpf: Arc<BpfPrograms>,
}

impl<'k> Code<'k> {
    /// The functions of a kernel, and its BPF code.
    #[must_use]
    pub fn new(view: &KernelView<'k>, bpf: impl Into<Arc<BpfPrograms>>) -> Self {
        let symbols = view.profile().symbols();
        let range = |(from, to)| Some((symbols.address(from)?.0, symbols.address(to)?.0));
        let text = [("_stext", "_etext"), ("_sinittext", "_einittext")].into_iter().filter_map(range);
        Self { symbols, text: text.collect(), bpf: bpf.into() }
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

    /// The BPF code that is there.
    pub(super) fn bpf_at(&self, at: KernelVirt) -> Option<&JitSymbol> {
        self.bpf.at(at).map(|(code, _)| code)
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

    /// The function or BPF program that the instruction before `ip` is in, and the source line of a program's instruction.
    #[must_use]
    pub fn before(&self, view: &KernelView<'_>, ip: KernelVirt) -> (String, Option<String>) {
        let before = KernelVirt(ip.0.wrapping_sub(1));
        let name = self.name(ip, before).map_or_else(|| ip.to_string(), |name| name.to_string());
        let code = self.bpf_at(before);
        let line = code.and_then(|code| line_of(view, code.program?, code.start, before).ok().flatten());
        (name, line)
    }
}
