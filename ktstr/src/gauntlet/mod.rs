//! The gauntlet: every test on many machines.

mod presets;
mod constraints;
mod choose;

pub use choose::{Candidate, choose};
pub use constraints::{Constraints, check_constraints};
pub use presets::{PRESETS, Preset, test_of_variant};
