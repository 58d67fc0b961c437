//! The commands of `ktstr`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::completions::CompletionsArgs;
use super::shared::Shared;

/// Record-and-replay tests for Linux schedulers: look at traces, get what runs need.
#[derive(Debug, Parser)]
#[command(name = "ktstr", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Ktstr {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Shared(Shared),
    /// Print a script that completes the command line of a shell.
    Completions(CompletionsArgs),
}

impl Ktstr {
    /// Do it.
    ///
    /// # Errors
    /// Those of the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Shared(command) => command.run(),
            Command::Completions(args) => args.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Ktstr::command().debug_assert();
    }
}
