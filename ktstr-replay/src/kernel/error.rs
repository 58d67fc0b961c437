//! What can go wrong while reading a kernel, and what a view of it could not show.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde::Serialize;

use crate::btf::BtfError;
use crate::kernel::SymbolsError;
use crate::memory::MemoryError;
use crate::text::Candidates;
use crate::units::KernelVirt;

/// Why something could not be read out of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// No kernel was found: it has not come up yet, or was built without `CONFIG_VMCORE_INFO`.
    #[error("no vmcoreinfo in {pages} populated pages: the kernel has not set it up yet, or has none")]
    NoVmcoreinfo {
        /// Pages that were looked at.
        pages: u64,
    },
    /// A page that looks like vmcoreinfo, but lacks a value or contradicts itself.
    #[error("the vmcoreinfo found is not usable: {0}")]
    BadVmcoreinfo(String),
    /// Guest memory that cannot be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A virtual address without a page.
    #[error("kernel address {at} is not mapped (its level {level} entry is {entry:#x})")]
    NotMapped {
        /// The address.
        at: KernelVirt,
        /// Level of the table whose entry ends the walk; 1 is the lowest.
        level: u8,
        /// That entry.
        entry: u64,
    },
    /// A null pointer where the kernel should have had something.
    #[error("{what} is a null pointer")]
    Null {
        /// What was to be read.
        what: String,
    },
    /// This kernel has no such symbol.
    #[error("kernel {release} has no symbol `{name}`")]
    NoSymbol {
        /// The symbol.
        name: String,
        /// `uname -r` of the kernel.
        release: String,
    },
    /// This kernel has no unwind tables that can be used, so that its stacks cannot be followed.
    #[error("kernel {release} has no unwind tables that can be used: {why}")]
    NoUnwindTables {
        /// `uname -r` of the kernel.
        release: String,
        /// Which table it lacks, and since when or by which option a kernel has it.
        why: &'static str,
    },
    /// This guest keeps no history of its scheduling, or none that can be used.
    #[error("the guest keeps no history: {why}")]
    NoHistory {
        /// What is missing, or wrong with it.
        why: String,
    },
    /// The kernel's symbol table cannot be decoded.
    #[error("cannot decode the kernel's symbols")]
    Symbols(#[from] SymbolsError),
    /// There is no such BPF map.
    #[error("there is no BPF map `{name}`{candidates}")]
    NoMap {
        /// Its name or id.
        name: String,
        /// Maps that are there.
        candidates: Box<Candidates>,
    },
    /// This kernel's struct has no such field.
    #[error(transparent)]
    Field(#[from] FieldMissing),
    /// The kernel's types cannot be used.
    #[error(transparent)]
    Types(#[from] BtfError),
    /// A structure that goes in circles, or is larger than its bound.
    #[error("{what} at {at} is inconsistent: {why}")]
    Broken {
        /// What was walked.
        what: &'static str,
        /// Where it begins.
        at: KernelVirt,
        /// What is wrong with it.
        why: String,
    },
}

/// A field that this kernel does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`struct {struct_name}` of kernel {release} has no field {}{}", listed(.fields), note(.why))]
pub struct FieldMissing {
    /// The struct, by its kernel name.
    pub struct_name: String,
    /// The field's paths that were tried.
    pub fields: Vec<String>,
    /// `uname -r` of the kernel.
    pub release: String,
    /// More than that it is absent; may be empty.
    pub why: String,
}

fn listed(fields: &[String]) -> String {
    fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(" or ")
}

fn note(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(" ({why})") }
}

/// Most faults that are kept: memory that is all wrong has one for each object.
const MAX_FAULTS: usize = 64;

/// What is absent from a view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gaps {
    /// Fields that this kernel does not have; the view shows `-`, or null, in their place.
    pub missing: BTreeSet<String>,
    /// What the kernel has and that could not be read, in the order in which it was met.
    pub faults: Vec<String>,
    /// Faults beyond those in `faults`.
    pub more_faults: usize,
}

impl Gaps {
    /// The field's value; where the kernel has no such field, the reason is kept.
    pub fn field<T>(&mut self, field: Result<T, FieldMissing>) -> Option<T> {
        field.map_err(|missing| self.missing.insert(missing.to_string())).ok()
    }

    /// Keep a fault.
    pub fn fault(&mut self, fault: impl Display) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault.to_string());
        } else {
            self.more_faults += 1;
        }
    }

    /// The value; an error is kept as a fault of `what`.
    pub fn read<T, E: Display>(&mut self, what: impl Display, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.fault(format_args!("{what}: {error}"))).ok()
    }

    /// Whether nothing is absent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.faults.is_empty()
    }
}
