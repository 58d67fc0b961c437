//! Values: bytes with a BTF type.
//!
//! Variables of `.bss`, entries of maps and structs of the kernel are all a [`Value`]; paths, numbers, text, JSON and
//! comparison are written once. [`Snapshot`] finds values in a recorded sample by name.

mod error;
mod map;
mod render;
mod scalar;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;
mod typed;

pub use error::ValueError;
pub use map::{MapEntry, MapView};
pub(crate) use render::Pointee;
pub use scalar::Scalar;
pub use snapshot::Snapshot;
pub(crate) use snapshot::{Leaf, changing, leaves};
pub use typed::Value;
