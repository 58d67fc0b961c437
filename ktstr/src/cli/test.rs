//! `cargo ktstr test`: provision, then run the tests.

mod kernels;
pub(super) mod table;

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::SignedDuration;
use ktstr_record::machine;
use ktstr_record::provision::cargo;
use ktstr_replay::report;
use ktstr_replay::run::Run;
use ktstr_replay::text;
use ktstr_replay::trace::Trace;
use signal_hook::consts::SIGINT;
use signal_hook::flag;

use self::kernels::{KernelChoice, Pass};
use self::table::{Column, Row, TestName};
use super::asked::descriptions;
use super::commands::CommandArgs;
use super::gauntlet::Plan;
use super::out;
use crate::host::environment;
use crate::host::results::{RUNS, TRACE_SUFFIX, new_run_name};
use crate::host::shell::for_shell;
use crate::workspace::{Package, Workspace};

/// The package that tests are written with.
const LIBRARY: &str = "ktstr";

/// What is said where nextest is needed.
pub(super) const NEEDS_NEXTEST: &str =
    "--partition is cargo nextest's, which is not installed: cargo install cargo-nextest --locked";
/// Has both runners go on after a test that failed.
pub(super) const NO_FAIL_FAST: &str = "--no-fail-fast";
/// Exit code of what Ctrl-C ended, as shells have it.
const INTERRUPTED: u8 = 130;

/// Run the workspace's ktstr tests: boot, record, judge.
#[derive(Args, Clone, Debug, Default)]
pub struct TestArgs {
    /// Run the tests of the test target of this name, else those whose names contain it.
    filter: Option<String>,
    #[command(flatten)]
    kernels: KernelChoice,
    /// Boot each machine, even when there is a template to restore.
    #[arg(long)]
    cold: bool,
    /// Pages that checkpoints keep: kernel, which is what decoders read, or all (default: as each test says).
    #[arg(long, value_name = "WHICH", value_parser = ["kernel", "all"])]
    pages: Option<String>,
    /// Remove all but the newest N runs' traces first.
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    /// Run the tests of these packages only (default: all that depend on ktstr).
    #[arg(short, long, value_name = "NAME")]
    package: Vec<String>,
    /// Run the tests on the machines of the gauntlet, from 4 to 252 CPUs, in place of their own: those that each test is for
    /// and that this host can carry.
    #[arg(long)]
    gauntlet: bool,
    /// With --gauntlet: run what shows most in about this time, as 10m or 2h.
    #[arg(long, value_name = "TIME", requires = "gauntlet", value_parser = budget)]
    budget: Option<Duration>,
    /// The part of the tests that this run is for, as count:1/4, of cargo nextest: for CI jobs that share them.
    #[arg(long, value_name = "PART")]
    partition: Option<String>,
    /// Arguments for cargo nextest run, or cargo test where nextest is not installed.
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

/// What runs test binaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runner {
    Nextest,
    CargoTest,
}

impl TestArgs {
    /// Those tests, of those packages, with these arguments for the runner.
    pub(super) fn of(filter: Option<String>, package: Vec<String>, rest: Vec<String>) -> Self {
        Self { filter, package, rest, ..Self::default() }
    }

    /// The same with other arguments for the runner.
    pub(super) fn with_rest(self, rest: Vec<String>) -> Self {
        Self { rest, partition: None, ..self }
    }

    /// What selects tests by name.
    pub(super) fn filter(&self) -> Option<&str> {
        self.filter.as_deref()
    }

    /// Names of the packages whose tests are run; none where no package uses ktstr.
    fn packages<'a>(&'a self, workspace: &'a Workspace) -> Vec<&'a str> {
        if self.package.is_empty() {
            return workspace.dependents(LIBRARY).map(|package| package.name.as_str()).collect();
        }
        self.package.iter().map(String::as_str).collect()
    }

    /// The package with the test target that the filter names, if it names one.
    pub(super) fn named_target<'w>(&self, workspace: &'w Workspace) -> Option<&'w Package> {
        let (name, packages) = (self.filter.as_deref()?, self.packages(workspace));
        let fits =
            |package: &&Package| packages.contains(&&*package.name) && package.has_target("test", Some(name));
        workspace.packages.iter().find(fits)
    }

    /// Those of the runner's arguments that decide what is built, as cargo itself takes them.
    pub(super) fn build_words(&self, runner: Runner) -> Vec<String> {
        const ALONE: [&str; 4] = ["--release", "-r", "--all-features", "--no-default-features"];
        // nextest has a `--profile` of its own, and calls cargo's `--cargo-profile`.
        let profile = if runner == Runner::Nextest { "--cargo-profile" } else { "--profile" };
        let with_value = ["--features", "-F", "--target", profile];
        let mut words = Vec::new();
        let mut rest = self.rest.iter().take_while(|word| *word != "--");
        while let Some(word) = rest.next() {
            let (name, value) =
                word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            if ALONE.contains(&name) || (name.starts_with("-F") && name != "-F") {
                words.push(word.clone());
            } else if with_value.contains(&name) {
                words.push(if name == profile { "--profile" } else { name }.to_owned());
                words.extend(value.map(str::to_owned).or_else(|| rest.next().cloned()));
            }
        }
        words
    }
}

impl CommandArgs for TestArgs {
    /// The exit code is the runner's; of several runs of it the worst.
    fn run(self) -> Result<ExitCode> {
        let here = env::current_dir().context("could not find the working folder")?;
        // Each of the three waits for programs.
        let (workspace, runner, passes) = thread::scope(|scope| {
            let workspace = scope.spawn(|| Workspace::around(&here));
            let runner = scope.spawn(Runner::installed);
            let passes = self.kernels.provision();
            (joined(workspace), joined(runner), passes)
        });
        let workspace = workspace?;
        let runs = workspace.target_directory.join(RUNS);
        let passes = passes?;
        let plan = self.plan(&workspace, runner, &passes)?;
        let commands = match &plan {
            Some(plan) => plan.commands(runner, self.partition.as_deref(), &self.rest)?,
            None => vec![arguments(&self.over_all(&passes), &workspace, runner)?],
        };
        if let Some(keep) = self.keep {
            remove_old_runs(&runs, keep)?;
        }
        let interrupted = Arc::new(AtomicBool::new(false));
        flag::register(SIGINT, Arc::clone(&interrupted)).context("could not take over Ctrl-C")?;
        // What does not compile does so on no kernel. What the gauntlet needs has been built to be asked.
        if passes.len() > 1 && plan.is_none() {
            let built = self.build(&workspace, runner)?;
            if !built.success() {
                return Ok(ExitCode::from(exit_code(built)));
            }
        }
        let results = runs.join(new_run_name());
        let (mut rows, mut worst) = (Vec::new(), 0);
        for (number, pass) in (1..).zip(&passes) {
            let results = match passes.len() {
                1 => results.clone(),
                all => {
                    out::note(&format!("ktstr: kernel {number} of {all}: {}", pass.label));
                    results.join(pass.folder(number))
                }
            };
            for words in &commands {
                // Both runners have 0 for a pass, and larger codes for what is worse.
                worst = worst.max(exit_code(run_to_end(&mut self.command(pass, words, &results))?));
            }
            rows.extend(print_traces(&results, &pass.label)?);
            if interrupted.load(Ordering::Relaxed) {
                worst = worst.max(INTERRUPTED);
                break;
            }
        }
        if let Some(plan) = &plan {
            out::write(&format!("\n{}", of_gauntlet(&rows, plan, &passes)))?;
            let planned = plan.count() * passes.len();
            let runs: BTreeSet<_> = rows.iter().map(|row| (&row.test, &row.topology, &row.kernel)).collect();
            // A part of them is another job's.
            if worst == 0 && self.partition.is_none() && runs.len() < planned {
                bail!("{planned} runs were planned, and {} left a trace", runs.len());
            }
        } else if passes.len() > 1 {
            let columns: Vec<Column> =
                passes.iter().map(|pass| Column::of(None, pass, pass.label.clone())).collect();
            out::write(&format!("\n{}", table::render(&rows, &[], &columns, |_, _| true)))?;
        }
        Ok(ExitCode::from(worst))
    }
}

impl TestArgs {
    /// What of the gauntlet is run, if it is asked for; its reader is told.
    fn plan(&self, workspace: &Workspace, runner: Runner, passes: &[Pass]) -> Result<Option<Plan>> {
        if !self.gauntlet {
            return Ok(None);
        }
        let machine = passes.first().context("no kernel")?.machine();
        let tests = descriptions(workspace, self, runner)?;
        let plan = Plan::new(&tests, &machine, self.budget, machine::carries)?;
        out::note(&plan.summary());
        Ok(Some(plan))
    }

    /// The same; on several kernels with the runner told to go on after a failure.
    fn over_all(&self, passes: &[Pass]) -> Self {
        let mut args = self.clone();
        if passes.len() > 1 && !args.rest.iter().any(|word| word == NO_FAIL_FAST) {
            args.rest.insert(0, NO_FAIL_FAST.to_owned());
        }
        args
    }

    /// Build the tests.
    fn build(&self, workspace: &Workspace, runner: Runner) -> Result<ExitStatus> {
        let mut words = self.build_words(runner);
        words.push("--no-run".to_owned());
        let build = arguments(&self.clone().with_rest(words), workspace, Runner::CargoTest)?;
        run_to_end(Command::new(cargo()).args(build))
    }

    /// What runs the tests on the kernel of `pass`.
    fn command(&self, pass: &Pass, words: &[OsString], results: &Path) -> Command {
        let mut command = Command::new(cargo());
        command.args(words).env(environment::RESULTS, results).envs(pass.variables());
        if self.cold {
            command.env(environment::COLD, "1");
        }
        if let Some(pages) = &self.pages {
            command.env(environment::PAGES, pages);
        }
        command
    }
}

impl Column {
    fn of(topology: Option<&str>, pass: &Pass, head: String) -> Self {
        Self { topology: topology.map(str::to_owned), kernel: pass.label.clone(), head }
    }
}

/// The table of a gauntlet: a column for each machine, and of several kernels for each machine and kernel.
fn of_gauntlet(rows: &[Row], plan: &Plan, passes: &[Pass]) -> String {
    let topologies = plan.topologies();
    let of = |topology: &String, pass: &Pass| {
        let head = if passes.len() > 1 { format!("{topology}, {}", pass.label) } else { topology.clone() };
        Column::of(Some(topology), pass, head)
    };
    let columns: Vec<Column> =
        topologies.iter().flat_map(|topology| passes.iter().map(move |pass| of(topology, pass))).collect();
    let is_planned = |test: &TestName, column: &Column| {
        column.topology.as_ref().is_some_and(|topology| plan.runs_on(test, topology))
    };
    table::render(rows, &plan.tests(), &columns, is_planned)
}

/// A thread's result; its panic is raised again here.
fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A time as people write it: `90s`, `10m`, `1h 30m`.
fn budget(text: &str) -> Result<Duration, String> {
    let span: SignedDuration = text.parse().map_err(|error| format!("{error}; write it as 10m or 2h"))?;
    let time = Duration::try_from(span).map_err(|_| "a time cannot be negative".to_owned())?;
    if time.is_zero() { Err("nothing can be run in no time".to_owned()) } else { Ok(time) }
}

impl Runner {
    /// The words of its command.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Nextest => &["nextest", "run"],
            Self::CargoTest => &["test"],
        }
    }

    fn installed() -> Self {
        let mut probe = Command::new(cargo());
        probe.args(["nextest", "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match probe.status() {
            Ok(status) if status.success() => Self::Nextest,
            _ => Self::CargoTest,
        }
    }
}

/// What cargo is given: only packages that use ktstr are built, and of those only the test target that the filter
/// names, if it names one.
pub(super) fn arguments(args: &TestArgs, workspace: &Workspace, runner: Runner) -> Result<Vec<OsString>> {
    let packages = args.packages(workspace);
    if packages.is_empty() {
        let names: Vec<&str> = workspace.packages.iter().map(|package| package.name.as_str()).collect();
        bail!("no package of the workspace depends on {LIBRARY}; it has {}", names.join(", "));
    }
    let mut words = runner.words().to_vec();
    for package in &packages {
        words.extend(["-p", package]);
    }
    let mut filter = args.filter.as_deref();
    if let (Some(name), Some(package)) = (filter, args.named_target(workspace)) {
        // Of other packages nothing is wanted then.
        words.truncate(runner.words().len());
        words.extend(["-p", &package.name, "--test", name]);
        filter = None;
    }
    words.extend(filter);
    if let Some(partition) = &args.partition {
        if runner == Runner::CargoTest {
            bail!(NEEDS_NEXTEST);
        }
        words.extend(["--partition", partition]);
    }
    words.extend(args.rest.iter().map(String::as_str));
    Ok(words.into_iter().map(OsString::from).collect())
}

/// Run a command to its end. Ctrl-C reaches the command too, which ends in its own way; this process has to outlive it, and
/// has taken over Ctrl-C for that.
fn run_to_end(command: &mut Command) -> Result<ExitStatus> {
    let shown = format!("{} {}", command.get_program().display(), words(command));
    command.status().with_context(|| format!("could not start `{shown}`"))
}

fn words(command: &Command) -> String {
    command.get_args().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The runner's own code; 128 and the signal's number when it was killed.
fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// Say of each trace how its run ended, what was verified, and how to look at it again. Returns the rows of those that can be read.
fn print_traces(results: &Path, kernel: &str) -> Result<Vec<Row>> {
    let here = env::current_dir().unwrap_or_default();
    let mut rows = Vec::new();
    for path in traces(results)? {
        let shown = for_shell(path.strip_prefix(&here).unwrap_or(&path));
        let (summary, row) = look_at(&path, kernel);
        out::write(&format!("{summary}\n  again: ktstr replay {shown} --assert\n"))?;
        rows.extend(row);
    }
    Ok(rows)
}

/// The first two lines of a trace's report, or why there are none; and its row, if it can be read.
fn look_at(path: &Path, kernel: &str) -> (String, Option<Row>) {
    let trace = match Trace::open(path) {
        Ok(trace) => trace,
        Err(error) => return (format!("the trace cannot be read: {error}"), None),
    };
    let run = Run::load(&trace);
    let verdict = run.recorded_verdict();
    let summary = match &verdict {
        Some(verdict) => report::render(&run, verdict).lines().take(2).collect::<Vec<_>>().join("\n"),
        None => format!(
            "{} was not judged: its run was ended from outside",
            text::printable(&run.manifest().test.name)
        ),
    };
    (summary, Some(Row::of(run.manifest(), verdict.as_ref(), path, kernel)))
}

/// The traces in a folder, by name; none when there is no folder, as no test was run.
fn traces(results: &Path) -> Result<Vec<PathBuf>> {
    if !results.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(results).with_context(|| format!("could not list {}", results.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.to_str().is_some_and(|name| name.ends_with(TRACE_SUFFIX))).collect();
    paths.sort();
    Ok(paths)
}

/// Remove the folders of all but the newest runs.
fn remove_old_runs(runs: &Path, keep: usize) -> Result<()> {
    if !runs.exists() {
        return Ok(());
    }
    let entries = fs::read_dir(runs).with_context(|| format!("could not list {}", runs.display()))?;
    let mut folders: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    folders.sort();
    let old = folders.len().saturating_sub(keep);
    for (_, folder) in folders.into_iter().take(old) {
        fs::remove_dir_all(&folder).with_context(|| format!("could not remove {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ktstr_replay::trace::TraceWriter;
    use ktstr_replay::trace::record::Manifest;
    use ktstr_replay::verdict::{Finding, Origin, Outcome, Verdict};
    use tempfile::TempDir;

    use super::*;
    use crate::workspace::{Dependency, Package, Target};

    fn workspace() -> Workspace {
        let package = |name: &str, uses: &[&str], tests: &[&str]| Package {
            name: name.to_owned(),
            dependencies: uses.iter().map(|name| Dependency { name: (*name).to_owned() }).collect(),
            targets: tests
                .iter()
                .map(|name| Target { name: (*name).to_owned(), kind: vec!["test".to_owned()] })
                .collect(),
        };
        Workspace {
            packages: vec![
                package("lib", &[], &["unit"]),
                package("a", &["ktstr"], &["demo", "more"]),
                package("b", &["lib", "ktstr"], &["other"]),
            ],
            target_directory: PathBuf::from("/t"),
        }
    }

    fn line(args: &TestArgs, runner: Runner) -> String {
        let words = arguments(args, &workspace(), runner).expect("a command");
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn with_filter(filter: &str) -> TestArgs {
        TestArgs { filter: Some(filter.to_owned()), ..TestArgs::default() }
    }

    #[test]
    fn only_packages_that_use_ktstr_are_run() {
        assert_eq!(line(&TestArgs::default(), Runner::Nextest), "nextest run -p a -p b");
        assert_eq!(line(&TestArgs::default(), Runner::CargoTest), "test -p a -p b");
    }

    #[test]
    fn the_name_of_a_test_target_builds_that_target_only() {
        assert_eq!(line(&with_filter("demo"), Runner::Nextest), "nextest run -p a --test demo");
        assert_eq!(line(&with_filter("demo"), Runner::CargoTest), "test -p a --test demo");
    }

    #[test]
    fn another_filter_selects_by_the_tests_names() {
        // A test target of a package that does not use ktstr is none of ours.
        assert_eq!(line(&with_filter("unit"), Runner::Nextest), "nextest run -p a -p b unit");
        assert_eq!(line(&with_filter("two"), Runner::CargoTest), "test -p a -p b two");
    }

    #[test]
    fn packages_and_further_arguments_are_passed_on() {
        let args = TestArgs {
            package: vec!["b".to_owned()],
            rest: vec!["--release".to_owned(), "--".to_owned(), "--nocapture".to_owned()],
            ..TestArgs::default()
        };
        assert_eq!(line(&args, Runner::CargoTest), "test -p b --release -- --nocapture");
    }

    #[test]
    fn a_workspace_without_ktstr_tests_is_an_error_that_lists_its_packages() {
        let mut workspace = workspace();
        workspace.packages.truncate(1);
        let error =
            arguments(&TestArgs::default(), &workspace, Runner::Nextest).expect_err("none").to_string();
        assert_eq!(error, "no package of the workspace depends on ktstr; it has lib");
    }

    #[test]
    fn the_exit_code_of_the_runner_is_kept() {
        let code = |script: &str| {
            let status = Command::new("sh").args(["-c", script]).status().expect("a shell");
            exit_code(status)
        };
        assert_eq!(code("exit 100"), 100);
        assert_eq!(code("kill -TERM $$"), 143);
    }

    #[test]
    fn only_the_newest_runs_are_kept() {
        let dir = TempDir::new().expect("a folder");
        for name in ["1", "2", "3"] {
            fs::create_dir(dir.path().join(name)).expect("a folder");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        remove_old_runs(dir.path(), 1).expect("removed");
        let left: Vec<_> =
            fs::read_dir(dir.path()).expect("a folder").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["3"]);
        remove_old_runs(&dir.path().join("none"), 1).expect("nothing to remove");
    }

    #[test]
    fn a_trace_is_summed_up_by_its_verdict() {
        let dir = TempDir::new().expect("a folder");
        let path = dir.path().join("x.trace.zst");
        let (said, row) = look_at(&path, "7.3");
        assert!(said.starts_with("the trace cannot be read"));
        assert_eq!(row, None);
        let mut manifest = Manifest::default();
        manifest.test.name = "two".to_owned();
        let mut writer = TraceWriter::create(&path, &manifest).expect("a trace");
        writer.commit().expect("committed");
        assert_eq!(look_at(&path, "7.3").0, "two was not judged: its run was ended from outside");
        let mut verdict = Verdict::new();
        verdict.add(Finding::new(Origin::Run, "body", Outcome::Fail, "fell over"));
        writer.verdict(&verdict).expect("a verdict");
        writer.finish().expect("finished");
        let (text, _) = look_at(&path, "7.3");
        assert!(text.starts_with("FAIL two: fell over\n  checked: "), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn traces_are_listed_by_name() {
        let dir = TempDir::new().expect("a folder");
        for name in ["b.trace.zst", "a.trace.zst", "c.txt"] {
            fs::write(dir.path().join(name), "").expect("a file");
        }
        let names: Vec<_> = traces(dir.path()).expect("a list");
        assert_eq!(names, [dir.path().join("a.trace.zst"), dir.path().join("b.trace.zst")]);
        assert!(traces(&dir.path().join("none")).expect("no folder").is_empty());
    }
}
