//! `cargo ktstr shell`: a shell in the guest of a test.

use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use clap::Args;
use ktstr_record::provision::KernelSpec;

use super::asked::{Binary, ask, binaries, workspace};
use super::commands::CommandArgs;
use super::test::{Runner, Signals, TestArgs, run_to_end};
use crate::description::TestDescription;
use crate::gauntlet::test_of_variant;
use crate::host::environment::{COLD, KERNEL, SHELL, SHELL_MACHINE};
use crate::host::person::ENDED;
use crate::workspace::Workspace;

/// Have a shell in the guest of a test: its machine, kernel and files, with the scheduler attached.
///
/// The shell takes the place of the test's body, and the run is recorded like others: what was typed for and written is in the trace, whose
/// path is printed at the end. `exit` ends it, as the end of the input does: `echo uptime | cargo ktstr shell TEST`. In a terminal, Ctrl-C
/// is the guest's, and Ctrl-] typed three times leaves a guest that hangs. It ends a second after the scheduler has gone.
#[derive(Args, Clone, Debug)]
pub struct ShellArgs {
    /// The test of this name, else the one whose name contains it; `target::name` tells those that are called the same apart. Or a variant of
    /// it, as `gauntlet_two::llcs2_cpus4`: the same on that machine of the gauntlet.
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
        // Before anything is built for it: a variable that is empty counts as none.
        if let Some(kernel) = &self.kernel {
            KernelSpec::parse(kernel)?;
        }
        let workspace = workspace()?;
        // The variants of a test need not be compiled: each is the test on another machine.
        let wanted = test_of_variant(&self.test);
        let found = self.find(&workspace, &wanted)?;
        let names: Vec<String> = found.iter().map(|(test, _)| full_name(test)).collect();
        if names.is_empty() {
            bail!("no test with #[ktstr_test] has `{wanted}` in its name");
        }
        let Some(only) = chosen(&names, &wanted).and_then(|at| found.get(at)) else {
            bail!(
                "`{wanted}` is {} tests, and a shell is in the guest of one:\n  {}",
                names.len(),
                names.join("\n  ")
            );
        };
        let (test, binary) = only;
        let machine = self.machine_of(&wanted, test)?;
        let mut command = Command::new(&binary.path);
        command
            .args(["--exact", &test.name, "--nocapture", "--include-ignored", "--test-threads=1"])
            .current_dir(&binary.package_folder)
            .env("CARGO_MANIFEST_DIR", &binary.package_folder)
            .env(SHELL, "1");
        command.envs(self.variables());
        command.envs(machine.map(|machine| (SHELL_MACHINE, machine)));
        let _unheard = writeln!(
            io::stderr(),
            "ktstr: a shell in the guest of {}{} is coming up; `exit` or the end of the input ends it",
            full_name(test),
            machine.map(|machine| format!(" on {machine}")).unwrap_or_default()
        );
        // The run is closed and reported, whoever is sent a signal, and its machine does not outlive this process.
        let mut signals = Signals::take_over().context("could not take over the signals that end runs")?;
        let status = run_to_end(&mut command, &mut signals)?;
        Ok(if status.code() == Some(ENDED) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl ShellArgs {
    /// The variables that tell the test what was asked for.
    fn variables(&self) -> Vec<(&'static str, &str)> {
        let kernel = self.kernel.as_deref().map(|kernel| (KERNEL, kernel));
        kernel.into_iter().chain(self.cold.then_some((COLD, "1"))).collect()
    }

    /// The tests whose names contain `wanted`, each with its test binary.
    ///
    /// # Errors
    /// Tests that cannot be built or do not answer.
    fn find(&self, workspace: &Workspace, wanted: &str) -> Result<Vec<(TestDescription, Rc<Binary>)>> {
        let tests = |filter: &str| {
            let args = TestArgs::of(Some(filter.to_owned()), self.package.clone(), Vec::new());
            let mut found = ask(workspace, &args, binaries(workspace, &args, Runner::CargoTest, None)?)?;
            found.retain(|(test, _)| full_name(test).contains(wanted));
            Ok::<_, anyhow::Error>(found)
        };
        // Where it names a test target nothing else has to be built.
        if let Some((target, _)) = wanted.split_once("::") {
            let args = TestArgs::of(Some(target.to_owned()), self.package.clone(), Vec::new());
            if args.named_target(workspace).is_some() {
                let found = tests(target)?;
                if !found.is_empty() {
                    return Ok(found);
                }
            }
        }
        // By its last part, as the names of tests do not have that of their target.
        tests(wanted.rsplit("::").next().unwrap_or_default())
    }

    /// The machine of the gauntlet whose variant of the test is asked for; `None`: the test itself, which `wanted` is then.
    ///
    /// # Errors
    /// A variant that is not run, with the reason.
    fn machine_of<'t>(&self, wanted: &str, test: &'t TestDescription) -> Result<Option<&'t str>> {
        if wanted == self.test {
            return Ok(None);
        }
        let machine = self.test.rsplit("::").next().unwrap_or_default();
        let Some(variant) = test.variants.iter().find(|variant| variant.preset == machine) else {
            bail!("{} has no variants, as it is `ignore`d or `host_only`", full_name(test));
        };
        match &variant.excluded {
            Some(why) => bail!("{} is not run on {machine}: {why}", full_name(test)),
            None => Ok(Some(variant.preset.as_str())),
        }
    }
}

fn full_name(test: &TestDescription) -> String {
    format!("{}::{}", test.target, test.name)
}

/// Which of these tests is meant: the one that is called so, else the only one.
fn chosen(names: &[String], wanted: &str) -> Option<usize> {
    let end = format!("::{wanted}");
    let is_called = |name: &String| name == wanted || name.ends_with(&end);
    let mut called = names.iter().enumerate().filter(|(_, name)| is_called(name)).map(|(at, _)| at);
    match (called.next(), called.next()) {
        (Some(at), None) => Some(at),
        (None, _) if names.len() == 1 => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parsed;

    #[test]
    fn the_test_is_told_by_variables_what_was_asked_for() {
        let parsed = |words: &[&str]| parsed::<ShellArgs>(&[&["two"], words].concat()).expect("arguments");
        assert_eq!(parsed(&[]).variables(), []);
        assert_eq!(parsed(&["--kernel", "7.3"]).variables(), [("KTSTR_KERNEL", "7.3")]);
        assert_eq!(parsed(&["--cold"]).variables(), [("KTSTR_COLD", "1")]);
        assert_eq!(parsed(&["-p", "a", "--package", "b"]).package, ["a", "b"]);
    }

    #[test]
    fn a_test_is_chosen_by_what_tells_it_apart() {
        let names = ["one::runs", "two::runs", "two::runs_long"].map(str::to_owned);
        assert_eq!(chosen(&names, "runs"), None, "two are called so");
        assert_eq!(chosen(&names, "two::runs"), Some(1));
        assert_eq!(chosen(&names, "runs_long"), Some(2));
        assert_eq!(chosen(&names, "run"), None);
        assert_eq!(chosen(&names[2..], "run"), Some(0));
    }
}
