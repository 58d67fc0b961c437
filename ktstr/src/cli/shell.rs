//! `cargo ktstr shell`: a shell in the guest of a test.

use std::env;
use std::io::{self, Write};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::asked::with_binaries;
use super::commands::CommandArgs;
use super::test::{Runner, TestArgs};
use crate::host::environment::{COLD, KERNEL, SHELL};
use crate::host::person::ENDED;
use crate::workspace::Workspace;

/// Have a shell in the guest of a test: its machine, kernel and files, with the scheduler attached.
///
/// The shell takes the place of the test's body, and the run is recorded like others: what was typed for and written is in the trace, whose
/// path is printed at the end. `exit` ends it, as the end of the input does: `echo uptime | cargo ktstr shell TEST`. In a terminal, Ctrl-C
/// is the guest's. It ends a second after the scheduler has gone.
#[derive(Args, Clone, Debug)]
pub struct ShellArgs {
    /// The test of this name, else the one whose name contains it.
    #[arg(value_name = "TEST")]
    test: String,
    /// The tests of these packages only (default: all that depend on ktstr).
    #[arg(short, long, value_name = "NAME")]
    package: Vec<String>,
    /// The kernel: a path, a version or its prefix, or latest.
    #[arg(long, value_name = "KERNEL")]
    kernel: Option<String>,
    /// Boot and load the scheduler anew, even where there is a template.
    #[arg(long)]
    cold: bool,
}

impl CommandArgs for ShellArgs {
    fn run(self) -> Result<ExitCode> {
        let here = env::current_dir().context("could not find the working folder")?;
        let workspace = Workspace::around(&here)?;
        let args = TestArgs::of(Some(self.test.clone()), self.package.clone(), Vec::new());
        let found = with_binaries(&workspace, &args, Runner::CargoTest)?;
        let full = |target: &str, name: &str| format!("{target}::{name}");
        let names: Vec<String> = found.iter().map(|(test, _)| full(&test.target, &test.name)).collect();
        let named = |name: &str| name == self.test || name.ends_with(&format!("::{}", self.test));
        let mut exact = names.iter().zip(&found).filter(|(name, _)| named(name));
        let only = match (found.as_slice(), exact.next(), exact.next()) {
            ([only], ..) => only,
            (_, Some((_, one)), None) => one,
            _ => bail!(
                "`{}` is {} tests, and a shell is in the guest of one:\n  {}",
                self.test,
                names.len(),
                names.join("\n  ")
            ),
        };
        let (test, binary) = only;
        let mut command = Command::new(&binary.path);
        command
            .args(["--exact", &test.name, "--nocapture", "--include-ignored", "--test-threads=1"])
            .current_dir(&binary.package_folder)
            .env("CARGO_MANIFEST_DIR", &binary.package_folder)
            .env(SHELL, "1");
        if let Some(kernel) = &self.kernel {
            command.env(KERNEL, kernel);
        }
        if self.cold {
            command.env(COLD, "1");
        }
        let _unheard = writeln!(
            io::stderr(),
            "ktstr: a shell in the guest of {}::{} is coming up; `exit` or the end of the input ends it",
            test.target,
            test.name
        );
        let status =
            command.status().with_context(|| format!("could not start {}", binary.path.display()))?;
        Ok(if status.code() == Some(ENDED) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
