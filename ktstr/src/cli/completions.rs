//! `ktstr completions`: command-line completion.

use std::process::ExitCode;

use clap::Args;
use clap_complete::{Shell, generate};

use super::commands::{CommandArgs, Program};
use super::out;

/// Print a script that completes the command line of a shell
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CommandArgs for CompletionsArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        generate(self.shell, &mut Program::Ktstr.command(), "ktstr", &mut script);
        out::write_as_is(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
