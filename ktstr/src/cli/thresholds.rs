//! `cargo ktstr show-thresholds`: by what limits a test is judged.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{self, Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use ktstr_record::provision::cargo;

use super::commands::CommandArgs;
use super::out;
use super::test::{Runner, TestArgs, arguments};
use crate::host::environment;
use crate::host::results::RUNS;
use crate::workspace::Workspace;

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
        let here = env::current_dir().context("could not find the working folder")?;
        let workspace = Workspace::around(&here)?;
        let build = self.command(&workspace, &["--no-run"])?.status().context("could not start cargo")?;
        if !build.success() {
            bail!("the tests could not be built");
        }
        let folder = workspace.target_directory.join(RUNS).join(format!("thresholds-{}", process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        let shown = self.ask(&workspace, &folder);
        let removed = fs::remove_dir_all(&folder);
        let shown = shown?;
        removed.with_context(|| format!("could not remove {}", folder.display()))?;
        if shown.is_empty() {
            bail!("no test with #[ktstr_test] has `{}` in its name", self.filter);
        }
        out::write(&shown.join("\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl ShowThresholdsArgs {
    /// `cargo test` on what is asked for.
    fn command(&self, workspace: &Workspace, rest: &[&str]) -> Result<Command> {
        let release = self.release.then_some("--release");
        let rest = release.into_iter().chain(rest.iter().copied()).map(str::to_owned).collect();
        let args = TestArgs::of(&self.filter, &self.package, rest);
        let mut command = Command::new(cargo());
        command.args(arguments(&args, workspace, Runner::CargoTest)?);
        Ok(command)
    }

    /// What each test says, in the order of their names.
    fn ask(&self, workspace: &Workspace, folder: &Path) -> Result<Vec<String>> {
        let mut command = self.command(workspace, &["--no-fail-fast", "--", "--include-ignored"])?;
        // A test that is asked does not pass, so that nothing can mistake this for a run.
        command.env(environment::SHOW_THRESHOLDS, folder).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().context("could not start cargo")?;
        let entries = fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?;
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let read = |path: &std::path::PathBuf| {
            fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
        };
        paths.iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Dependency, Package};

    #[test]
    fn the_tests_are_asked_by_cargos_own_runner_ignored_ones_too() {
        let package = Package {
            name: "a".to_owned(),
            dependencies: vec![Dependency { name: "ktstr".to_owned() }],
            targets: Vec::new(),
        };
        let workspace = Workspace { packages: vec![package], target_directory: "/t".into() };
        let args = ShowThresholdsArgs { filter: "two".to_owned(), package: Vec::new(), release: true };
        let command = args.command(&workspace, &["--", "--include-ignored"]).expect("a command");
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        assert_eq!(words.join(" "), "test -p a two --release -- --include-ignored");
    }
}
