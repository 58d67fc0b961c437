//! The commands that `ktstr` and `cargo ktstr` have in common.

use std::process::ExitCode;

use clap::Subcommand;

use super::kernel::KernelArgs;
use super::replay::ReplayArgs;
use super::setup::SetupArgs;
use super::trace::{self, TraceArgs};
use super::why::WhyArgs;

/// A command of both programs.
#[derive(Debug, Subcommand)]
pub enum Shared {
    /// Explain a recorded run, judge it again, or print what it recorded.
    Replay(ReplayArgs),
    /// Tell why a recorded run ended as it did, from the verdict back.
    Why(WhyArgs),
    /// Look at a trace file, verify it, or repair it.
    Trace(TraceArgs),
    /// List, fetch and remove kernels.
    Kernel(KernelArgs),
    /// Fetch the emulator, a kernel and the BPF toolchain, or remove all that was fetched.
    Setup(SetupArgs),
}

impl Shared {
    /// Do it.
    ///
    /// # Errors
    /// Those of the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Replay(args) => args.run(),
            Self::Why(args) => args.run(),
            Self::Trace(args) => trace::run(&args),
            Self::Kernel(args) => args.run(),
            Self::Setup(args) => args.run(),
        }
    }
}
