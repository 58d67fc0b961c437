//! Symbols: what the kernel calls its addresses.
//!
//! [`kallsyms`] decodes them from the kernel's own compressed table in guest memory; [`table`] holds them, and encodes them for a
//! trace.

mod kallsyms;
mod table;

pub use table::{Symbol, Symbols, SymbolsError};
