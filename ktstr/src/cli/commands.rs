//! The commands of both programs: one row each.

use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgMatches, Args, Command};

use super::completions::CompletionsArgs;
use super::doctor::DoctorArgs;
use super::import::ImportArgs;
use super::kernel::KernelArgs;
use super::list::ListArgs;
use super::machine::MachineArgs;
use super::new::NewArgs;
use super::replay::ReplayArgs;
use super::selftest::SelftestArgs;
use super::setup::SetupArgs;
use super::shell::ShellArgs;
use super::test::TestArgs;
use super::thresholds::ShowThresholdsArgs;
use super::trace;
use super::why::WhyArgs;

/// Every command, in the order in which help lists them. To add one: a file with its options, their documentation and
/// what it does, and a row here.
const COMMANDS: &[Row] = &[
    Row::new::<TestArgs>("test").only(Program::CargoKtstr),
    Row::new::<NewArgs>("new").only(Program::CargoKtstr),
    Row::new::<ListArgs>("list").only(Program::CargoKtstr),
    Row::new::<ShellArgs>("shell").only(Program::CargoKtstr),
    Row::new::<ShowThresholdsArgs>("show-thresholds").only(Program::CargoKtstr),
    Row::new::<ReplayArgs>("replay"),
    Row::new::<WhyArgs>("why"),
    trace::ROW,
    Row::new::<ImportArgs>("import"),
    Row::new::<KernelArgs>("kernel"),
    Row::new::<SetupArgs>("setup"),
    Row::new::<MachineArgs>("machine"),
    Row::new::<SelftestArgs>("selftest"),
    Row::new::<DoctorArgs>("doctor"),
    Row::new::<CompletionsArgs>("completions").only(Program::Ktstr),
];

/// The options of a command, whose documentation is the command's, and what it does with them.
pub(super) trait CommandArgs: Args {
    /// Do it.
    ///
    /// # Errors
    /// When it could not be done.
    fn run(self) -> anyhow::Result<ExitCode>;
}

/// A command.
pub(super) struct Row {
    name: &'static str,
    /// The one program that has it; `None`: both have it.
    only: Option<Program>,
    /// Adds its documentation and options.
    describe: fn(Command) -> Command,
    run: fn(&ArgMatches) -> anyhow::Result<ExitCode>,
}

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Ktstr,
    /// Started by cargo as `cargo-ktstr ktstr ...`.
    CargoKtstr,
}

impl Row {
    /// The command whose options are `A`.
    pub(super) const fn new<A: CommandArgs>(name: &'static str) -> Self {
        let run = |matches: &ArgMatches| A::from_arg_matches(matches)?.run();
        Self { name, only: None, describe: A::augment_args, run }
    }

    /// A command that consists of others.
    pub(super) const fn group(
        name: &'static str,
        describe: fn(Command) -> Command,
        run: fn(&ArgMatches) -> anyhow::Result<ExitCode>,
    ) -> Self {
        Self { name, only: None, describe, run }
    }

    const fn only(self, program: Program) -> Self {
        Self { only: Some(program), ..self }
    }
}

/// Give `command` these commands.
pub(super) fn with_rows<'a>(command: Command, rows: impl IntoIterator<Item = &'a Row>) -> Command {
    let command = command.subcommand_required(true).arg_required_else_help(true);
    rows.into_iter().fold(command, |command, row| command.subcommand((row.describe)(Command::new(row.name))))
}

/// Run the one of these commands that was given.
pub(super) fn run_row(matches: &ArgMatches, rows: &[Row]) -> anyhow::Result<ExitCode> {
    let (name, matches) = matches.subcommand().context("no command was given")?;
    let row = rows.iter().find(|row| row.name == name);
    let row = row.with_context(|| format!("there is no command `{name}`"))?;
    (row.run)(matches)
}

impl Program {
    /// Its command line.
    pub(super) fn command(self) -> Command {
        let about = match self {
            Self::Ktstr => "Record-and-replay tests for Linux schedulers: look at traces, get what runs need",
            Self::CargoKtstr => "Record-and-replay tests for Linux schedulers",
        };
        let ktstr = Command::new("ktstr").version(env!("CARGO_PKG_VERSION")).about(about);
        let ktstr = with_rows(ktstr, COMMANDS.iter().filter(|row| row.only.is_none_or(|only| only == self)));
        match self {
            Self::Ktstr => ktstr,
            Self::CargoKtstr => {
                let cargo = Command::new("cargo").bin_name("cargo");
                cargo.subcommand_required(true).arg_required_else_help(true).subcommand(ktstr)
            }
        }
    }

    /// Run the command that was given.
    ///
    /// # Errors
    /// Those of the command.
    pub(super) fn run(self, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
        let matches = match self {
            Self::Ktstr => matches,
            Self::CargoKtstr => matches.subcommand_matches("ktstr").context("no command was given")?,
        };
        run_row(matches, COMMANDS)
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn parsed(program: Program, line: &str) -> Result<ArgMatches, clap::Error> {
        program.command().try_get_matches_from(line.split(' '))
    }

    #[test]
    fn the_command_lines_are_consistent() {
        Program::Ktstr.command().debug_assert();
        Program::CargoKtstr.command().debug_assert();
    }

    #[test]
    fn arguments_after_two_dashes_are_the_runners() {
        let line = "cargo ktstr test demo --kernel 7.3 --cold -- --release -- --nocapture";
        let matches = parsed(Program::CargoKtstr, line).expect("a command");
        let matches = matches.subcommand_matches("ktstr").and_then(|ktstr| ktstr.subcommand_matches("test"));
        let args = TestArgs::from_arg_matches(matches.expect("the command `test`")).expect("its options");
        assert!(format!("{args:?}").contains(r#"rest: ["--release", "--", "--nocapture"]"#), "{args:?}");
    }

    #[test]
    fn both_programs_have_the_commands_that_are_not_of_one() {
        for line in ["ktstr setup", "ktstr kernel list", "ktstr trace info x.trace.zst"] {
            assert!(parsed(Program::Ktstr, line).is_ok(), "{line}");
            assert!(parsed(Program::CargoKtstr, &format!("cargo {line}")).is_ok(), "cargo {line}");
        }
        assert!(parsed(Program::Ktstr, "ktstr test").is_err());
        assert!(parsed(Program::CargoKtstr, "cargo ktstr completions bash").is_err());
    }
}
