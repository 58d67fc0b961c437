//! The commands of `cargo ktstr`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
        let Cargo::Ktstr { command: Command::Test(args) } =
            Cargo::try_parse_from(line.split(' ')).expect("a command");
        assert!(format!("{args:?}").contains(r#"rest: ["--release", "--", "--nocapture"]"#), "{args:?}");
    }
}
