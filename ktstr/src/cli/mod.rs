//! The commands of `ktstr` and `cargo ktstr`, one file each.
//!
//! Output for people is on stdout, what went wrong on stderr. Exit codes: 0 pass or skip, 1 fail, 2 inconclusive,
//! 3 when the command could not do its work (wrong usage included), so that a script can tell a verdict from that.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "all output goes through `out`")]

mod cargo;
mod completions;
mod kernel;
mod ktstr;
mod out;
mod replay;
mod setup;
mod shared;
mod test;
mod trace;
mod why;

use std::process::ExitCode;

use clap::Parser;

/// Exit code of a command that could not do its work.
const COULD_NOT: u8 = 3;

/// The program `ktstr`.
pub fn ktstr() -> ExitCode {
    run(ktstr::Ktstr::run)
}

/// The program `cargo-ktstr`, started by cargo as `cargo-ktstr ktstr ...`.
pub fn cargo_ktstr() -> ExitCode {
    run(cargo::Cargo::run)
}

/// Parse the command line and do what it says; an error goes to stderr with its causes.
fn run<C: Parser>(command: impl FnOnce(C) -> anyhow::Result<ExitCode>) -> ExitCode {
    let parsed = match C::try_parse() {
        Ok(parsed) => parsed,
        Err(e) => {
            // Help and version are "errors" too, of those that go to stdout. A closed pipe is nobody's fault.
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(COULD_NOT) } else { ExitCode::SUCCESS };
        }
    };
    command(parsed).unwrap_or_else(|error| {
        out::error(&error);
        ExitCode::from(COULD_NOT)
    })
}
