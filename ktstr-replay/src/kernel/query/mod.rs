//! Numbers anywhere in the kernel's memory, by symbol, type and path: what `kernel.`, `rq[..]`, `task[..]` of claims are.
//!
//! A path is walked pointer by pointer: the object is read whole, [`Value`](crate::value::Value) takes the part, and where
//! `->` follows, that part is the address of the next object.

mod error;
mod landmark;
mod locate;
mod nodes;
mod root;
#[cfg(test)]
mod tests;
mod types;
mod walk;

pub(crate) use error::NULL_POINTER;
pub use error::QueryError;
pub use landmark::{Landmark, Landmarks};
pub(crate) use locate::locate_with_end;
pub use locate::{Located, locate, locate_variable, pointers_in, pointers_of};
pub use walk::{Reading, Start, at_end, count, count_at, each_node, follow, number, pointee};
pub(crate) use walk::{of_value, proof_of};

use super::task::TaskName;
