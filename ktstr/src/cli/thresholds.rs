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

impl ShowThresholdsArgs {
    /// Which tests, of which build.
    fn tests(self) -> TestArgs {
        let rest = self.release.then(|| "--release".to_owned()).into_iter().collect();
        TestArgs::of(Some(self.filter), self.package, rest)
    }
}

impl CommandArgs for ShowThresholdsArgs {
    fn run(self) -> Result<ExitCode> {
        let workspace = workspace()?;
        let tests = descriptions(&workspace, &self.tests(), Runner::CargoTest)?;
        let shown = tests
            .iter()
            .map(|test| format!("{}::{} ({})\n{}", test.target, test.name, test.scheduler, test.limits));
        out::write(&shown.collect::<Vec<_>>().join("\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parsed;

    #[test]
    fn the_build_that_is_asked_is_the_one_that_was_asked_for() {
        let words = |words: &[&str]| {
            let args: ShowThresholdsArgs = parsed(&[&["two"], words].concat()).expect("arguments");
            let tests = args.tests();
            assert_eq!(tests.filter(), Some("two"));
            tests.build_words(Runner::CargoTest)
        };
        assert_eq!(words(&["--release"]), ["--release"]);
        assert!(words(&[]).is_empty());
    }
}
