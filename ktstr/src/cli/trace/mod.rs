//! `ktstr trace`: what a trace file is made of, whether it is whole, and making it so.

mod verify;
mod info;
mod repair;
mod unfinished;
mod slim;
mod diff;
mod export;
#[cfg(test)]
mod tests;

use clap::Command;
use serde::Serialize;

use super::commands::{Row, run_row, with_rows};
use super::out;
pub(super) use unfinished::remove_at_signals;

/// The commands, in the order in which help lists them.
const COMMANDS: &[Row] = &[
    Row::new::<info::InfoArgs>("info"),
    Row::new::<verify::VerifyArgs>("verify"),
    Row::new::<repair::RepairArgs>("repair"),
    Row::new::<slim::SlimArgs>("slim"),
    Row::new::<diff::DiffArgs>("diff"),
    Row::new::<export::ExportArgs>("export"),
];

/// The command `trace`.
pub(super) const ROW: Row = Row::group("trace", describe, |matches| run_row(matches, COMMANDS));

fn describe(command: Command) -> Command {
    with_rows(command.about("Look at a trace file, verify it, or repair it"), COMMANDS)
}

fn print<T: Serialize>(value: &T, json: bool, text: impl Fn(&T) -> String) -> anyhow::Result<()> {
    if json { out::write_json(value) } else { out::write(&text(value)) }
}
