//! The commands of `ktstr`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::completions::CompletionsArgs;
use super::kernel::KernelArgs;
use super::replay::ReplayArgs;
use super::setup::SetupArgs;
use super::trace::{self, TraceArgs};

/// Look at recorded runs of scheduler tests, and keep what they need.
#[derive(Debug, Parser)]
#[command(name = "ktstr", version, arg_required_else_help = true, subcommand_required = true)]
pub struct Ktstr {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Shared(Shared),
    /// Print a script that completes the command line of a shell
    Completions(CompletionsArgs),
}

/// Commands that `cargo ktstr` has too.
#[derive(Debug, Subcommand)]
pub enum Shared {
    /// Explain a recorded run, judge it again, or print what it recorded
    Replay(ReplayArgs),
    /// Look at a trace file, verify it, or repair it
    Trace(TraceArgs),
    /// List, fetch and remove kernels
    Kernel(KernelArgs),
    /// Fetch the emulator, a kernel and the BPF toolchain, or remove all that was fetched
    Setup(SetupArgs),
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

impl Shared {
    /// Do it.
    ///
    /// # Errors
    /// Those of the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Replay(args) => args.run(),
            Self::Trace(args) => trace::run(&args),
            Self::Kernel(args) => args.run(),
            Self::Setup(args) => args.run(),
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
