//! The commands of `ktstr` and `cargo ktstr`, one file each.

mod cargo;
mod kernel;
mod ktstr;
mod setup;
mod shared;
mod test;
mod trace;

use std::process::ExitCode;

use clap::Parser;

/// The program `ktstr`.
pub fn ktstr() -> ExitCode {
    finish(ktstr::Ktstr::parse().run())
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
