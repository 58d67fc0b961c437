//! The commands of `cargo ktstr`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::shared::Shared;
use super::test::{self, TestArgs};

/// cargo starts the plugin as `cargo-ktstr ktstr ...`.
#[derive(Debug, Parser)]
#[command(name = "cargo", bin_name = "cargo")]
pub enum Cargo {
    /// Record-and-replay tests for Linux schedulers.
    #[command(version, subcommand_required = true, arg_required_else_help = true)]
    Ktstr {
        /// What to do.
        #[command(subcommand)]
        command: Command,
    },
}

/// A command of the plugin.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the workspace's ktstr tests: boot, record, judge.
    Test(TestArgs),
    /// Those of `ktstr`.
    #[command(flatten)]
    Shared(Shared),
}

impl Cargo {
    /// Do it.
    ///
    /// # Errors
    /// Those of the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Ktstr { command } = self;
        match command {
            Command::Test(args) => test::run(&args),
            Command::Shared(command) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cargo::command().debug_assert();
    }

    #[test]
    fn arguments_after_two_dashes_are_the_runners() {
        let line = "cargo ktstr test demo --kernel 7.3 --cold -- --release -- --nocapture";
        let Cargo::Ktstr { command } = Cargo::try_parse_from(line.split(' ')).expect("a command");
        let Command::Test(args) = command else { panic!("another command: {command:?}") };
        assert!(format!("{args:?}").contains(r#"rest: ["--release", "--", "--nocapture"]"#), "{args:?}");
    }

    #[test]
    fn the_commands_of_ktstr_are_here_too() {
        for line in ["cargo ktstr setup", "cargo ktstr kernel list", "cargo ktstr trace info x.trace.zst"] {
            let parsed = Cargo::try_parse_from(line.split(' '));
            assert!(matches!(parsed, Ok(Cargo::Ktstr { command: Command::Shared(_) })), "{line}: {parsed:?}");
        }
    }
}
