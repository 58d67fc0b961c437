//! The commands of `ktstr` and `cargo ktstr`, one file each.

pub mod kernel;
pub mod setup;

use std::process::ExitCode;

/// The program `ktstr`.
pub fn ktstr() -> ExitCode {
    ExitCode::SUCCESS
}

/// The program `cargo-ktstr`, started by cargo as `cargo-ktstr ktstr ...`.
pub fn cargo_ktstr() -> ExitCode {
    ExitCode::SUCCESS
}
