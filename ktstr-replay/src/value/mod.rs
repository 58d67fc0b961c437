//! Values: bytes with a BTF type.
//!
//! Variables of `.bss`, entries of maps and structs of the kernel are all a [`Value`]; paths, numbers, text, JSON and
//! comparison are written once. [`snapshot::Snapshot`] finds values in a recorded sample by name.

mod compare;
mod error;
mod known;
mod leaves;
mod map;
mod path;
mod render;
mod scalar;
pub mod snapshot;
#[cfg(test)]
mod tests;
mod typed;

pub use error::ValueError;
pub(crate) use leaves::changing;
pub use leaves::{Leaf, leaves};
pub use map::{Entry, MapView};
pub use render::Pointee;
pub use scalar::Scalar;
pub use snapshot::{Blobs, Snapshot};
pub use typed::Value;
