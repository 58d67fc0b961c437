//! `cargo ktstr show-thresholds`: by what limits a test is judged.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::asked::{descriptions, workspace};
use super::commands::CommandArgs;
use super::out;
use super::test::{Runner, TestArgs};

/// Show the limits that tests are judged by, and which layer each comes from: the test, its scheduler, or `not_starved`.
///
/// The test binaries are built and asked; nothing is booted.
#[derive(Args, Clone, Debug)]
pub struct ShowThresholdsArgs {
    /// The tests of the test target of this name, else those whose names contain it.
    #[arg(value_name = "TEST")]
    filter: String,
    /// The tests of these packages only (default: all that depend on ktstr).
    #[arg(short, long, value_name = "NAME")]
    package: Vec<String>,
    /// Ask a release build, whose `not_starved` is stricter.
    #[arg(long)]
    release: bool,
}

impl CommandArgs for ShowThresholdsArgs {
    fn run(self) -> Result<ExitCode> {
        let workspace = workspace()?;
        let rest = self.release.then(|| "--release".to_owned()).into_iter().collect();
        let tests = descriptions(
            &workspace,
            &TestArgs::of(Some(self.filter), self.package, rest),
            Runner::CargoTest,
        )?;
        let shown = tests
            .iter()
            .map(|test| format!("{}::{} ({})\n{}", test.target, test.name, test.scheduler, test.limits));
        out::write(&shown.collect::<Vec<_>>().join("\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}
