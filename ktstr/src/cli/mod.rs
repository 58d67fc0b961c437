//! The commands of `ktstr` and `cargo ktstr`, one file each.
//!
//! Output for people is on stdout, what went wrong on stderr. Exit codes: 0 pass or skip, 1 fail, 2 inconclusive,
//! 3 when the command could not do its work (wrong usage included), so that a script can tell a verdict from that.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "all output goes through `out`")]

mod out;
mod opened;
mod asked;
mod completions;
mod doctor;
mod gauntlet;
mod import;
mod kernel;
mod list;
mod machine;
mod new;
mod replay;
mod selftest;
mod setup;
mod shell;
mod test;
mod thresholds;
mod trace;
mod why;
mod commands;

use std::process::ExitCode;

use commands::Program;

/// Exit code of a command that could not do its work.
const COULD_NOT: u8 = 3;

/// The program `ktstr`.
pub fn ktstr() -> ExitCode {
    run(Program::Ktstr)
}

/// The program `cargo-ktstr`, started by cargo as `cargo-ktstr ktstr ...`.
pub fn cargo_ktstr() -> ExitCode {
    run(Program::CargoKtstr)
}

/// What a command takes these words for, for the tests of commands.
#[cfg(test)]
fn parsed<A: clap::Args>(words: &[&str]) -> Result<A, clap::Error> {
    let command = A::augment_args(clap::Command::new("command").no_binary_name(true));
    A::from_arg_matches(&command.try_get_matches_from(words)?)
}

/// Parse the command line and do what it says; an error goes to stderr with its causes.
fn run(program: Program) -> ExitCode {
    let matches = match program.command().try_get_matches() {
        Ok(matches) => matches,
        Err(e) => {
            // Help and version are "errors" too, of those that go to stdout. A closed pipe is not an error.
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(COULD_NOT) } else { ExitCode::SUCCESS };
        }
    };
    program.run(&matches).unwrap_or_else(|error| {
        out::error(&error);
        ExitCode::from(COULD_NOT)
    })
}
