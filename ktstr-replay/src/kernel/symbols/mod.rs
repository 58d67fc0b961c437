//! Symbols: what the kernel calls its addresses.
//!
//! [`kallsyms`] decodes them from the kernel's own compressed table in guest memory; [`encoding`] is how they travel in
//! a trace.

mod encoding;
mod kallsyms;
mod table;

pub use table::{Symbol, Symbols};

/// Why symbols cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SymbolsError {
    /// vmcoreinfo does not say where a table is.
    #[error("vmcoreinfo does not say where `{0}` is")]
    NoTable(&'static str),
    /// A table that contradicts itself.
    #[error("the table is damaged at symbol {at} of {count}: {why}")]
    Damaged {
        /// Position of the symbol, from 0.
        at: u64,
        /// How many symbols the table claims to have.
        count: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The decoded addresses are not those that the kernel states elsewhere.
    #[error("the decoded address of `init_top_pgt` is {decoded:x?}, and vmcoreinfo says {stated:#x}")]
    Disagree {
        /// As decoded.
        decoded: Option<u64>,
        /// As vmcoreinfo has it.
        stated: u64,
    },
    /// A blob of a trace that is no symbol blob, or a damaged one.
    #[error("the symbols of the trace are not readable: {0}")]
    BadBlob(&'static str),
}
