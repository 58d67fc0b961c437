//! Values: bytes with a BTF type.
//!
//! Variables of `.bss`, entries of maps and structs of the kernel are all a [`Value`]; paths, numbers, text, JSON and
//! comparison are written once. [`Snapshot`] finds values in a recorded sample by name.

mod cast;
mod container;
mod error;
mod map;
mod number;
mod owners;
mod render;
mod scalar;
mod scope;
mod stats;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;
mod typed;

pub(crate) use cast::cast_scalar;
pub(crate) use container::Container;
pub use error::ValueError;
pub use map::{MapEntry, MapView};
pub(crate) use owners::{MOST_OF_ONE_MAP, MapOwners};
pub(crate) use render::Beyond;
pub use scalar::Scalar;
pub(crate) use scope::Scope;
pub use snapshot::Snapshot;
pub(crate) use snapshot::{Leaf, changing, leaves};
pub(crate) use stats::{MAX_LEAVES, StatsAnswers, StatsReply, stats_leaves};
pub use stats::{StatsError, StatsValue};
pub(crate) use typed::Place;
pub use typed::Value;
