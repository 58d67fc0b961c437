//! The commands of `ktstr`.

use std::process::ExitCode;

use clap::Parser;

use super::shared::Shared;

/// Record-and-replay tests for Linux schedulers: look at traces, get what runs need.
#[derive(Debug, Parser)]
#[command(name = "ktstr", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Ktstr {
    #[command(subcommand)]
    command: Shared,
}

impl Ktstr {
    /// Do it.
    ///
    /// # Errors
    /// Those of the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        self.command.run()
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
