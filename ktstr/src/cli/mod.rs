//! The commands of `ktstr` and `cargo ktstr`, one file each.

pub mod trace;
mod cargo;
mod test;
pub mod kernel;
pub mod setup;

use std::process::ExitCode;

use clap::Parser;

/// The program `ktstr`.
pub fn ktstr() -> ExitCode {
    ExitCode::SUCCESS
}

/// The program `cargo-ktstr`, started by cargo as `cargo-ktstr ktstr ...`.
pub fn cargo_ktstr() -> ExitCode {
    finish(cargo::Cargo::parse().run())
}

/// An error on stderr, with its causes, and exit code 1.
fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
