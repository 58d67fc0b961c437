//! `cargo ktstr test`: provision, then run the tests.

mod child;
mod kernels;
mod planned;
mod profile;
mod reuse;
mod runner;
mod runs;
pub(super) mod table;
mod threads;

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::SignedDuration;
use ktstr_record::machine::MachineKind;
use ktstr_record::provision::cargo;

use self::child::exit_code;
pub(super) use self::child::{Signals, run_to_end};
use self::kernels::{KernelChoice, Pass};
pub(super) use self::profile::optimizes_reader;
use self::reuse::{Built, Metadata};
use self::runner::RunnerOptions;
pub(super) use self::runner::{NO_FAIL_FAST, Runner, split_filters};
use self::runs::{print_traces, print_untraced, remove_left, remove_old_runs, take_in_left, take_in_of};
use self::table::{Column, Row, TestName};
use self::threads::ToolConfig;
use super::asked::{NotBuilt, ask, binaries};
use super::commands::CommandArgs;
use super::gauntlet::Plan;
use super::list::unreadable;
use super::out;
use crate::description::TestDescription;
use crate::host::environment;
use crate::host::live::LiveFolder;
use crate::host::results::{RUNS, new_run_name};
use crate::host::say::LeftOpen;
use crate::workspace::{Package, Workspace};

/// The package that tests are written with.
const LIBRARY: &str = "ktstr";

/// How long tests whose runner was killed may take to notice it and to close their traces.
const TO_CLOSE: Duration = Duration::from_secs(30);
/// After which part of that it is said.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// Run the workspace's ktstr tests: boot, record, judge.
#[derive(Args, Clone, Debug, Default)]
pub struct TestArgs {
    /// Run the tests of the test target of this name, else those whose names contain it.
    filter: Option<String>,
    #[command(flatten)]
    kernels: KernelChoice,
    /// The machine that runs the tests: kvm or qemu (default: kvm where the probe finds that KVM executes guests; `ktstr
    /// machine` tells).
    #[arg(long, value_name = "KIND")]
    machine: Option<MachineKind>,
    /// Put the machines of all tests into performance mode: CPUs and a cache of the host of their own, and what else it permits.
    /// A host that has no such CPUs refuses the tests.
    #[arg(long)]
    performance: bool,
    /// Boot each machine, even when there is a template to restore.
    #[arg(long)]
    cold: bool,
    /// Pages that checkpoints keep: kernel, which is what decoders read, or all (default: as each test says).
    #[arg(long, value_name = "WHICH", value_parser = ["kernel", "all"])]
    pages: Option<String>,
    /// Remove all but the newest N runs' traces first. Those of runs that go on stay.
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
    #[command(flatten)]
    options: RunnerOptions,
    /// Other arguments for cargo nextest run, or cargo test where nextest is not installed.
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

impl TestArgs {
    /// Those tests, of those packages, with these arguments for the runner.
    pub(super) fn of(filter: Option<String>, package: Vec<String>, rest: Vec<String>) -> Self {
        Self { filter, package, rest, ..Self::default() }
    }

    /// The same with other arguments for the runner.
    pub(super) fn with_rest(self, rest: Vec<String>) -> Self {
        Self { rest, options: RunnerOptions::default(), ..self }
    }

    /// What selects tests by name.
    pub(super) fn filter(&self) -> Option<&str> {
        self.filter.as_deref()
    }

    /// Whether the tests are built and run as the workspace says, and nothing else is asked for.
    fn is_plain(&self) -> bool {
        self.rest.is_empty() && !self.gauntlet
    }

    /// cargo, for whatever builds, lists or runs the tests: for the gauntlet their variants are compiled. With another value it would
    /// compile them anew, without those.
    pub(super) fn cargo(&self) -> Command {
        let mut command = Command::new(cargo());
        command.envs(self.gauntlet.then_some((environment::GAUNTLET, "1")));
        command
    }

    /// Names of the packages whose tests are run; none where no package uses ktstr.
    fn packages<'a>(&'a self, workspace: &'a Workspace) -> Vec<&'a str> {
        if self.package.is_empty() {
            return workspace.dependents(LIBRARY).map(|package| package.name.as_str()).collect();
        }
        self.package.iter().map(String::as_str).collect()
    }

    /// What the runner is given besides the tests: what is to be optimized, its options, and what was behind `--`.
    fn runner_words(&self, workspace: &Workspace, runner: Runner) -> Result<Vec<String>> {
        let mut words = profile::words(&workspace.workspace_root);
        words.extend(self.options.with(runner, &self.rest)?);
        Ok(words)
    }

    /// The package with the test target that the filter names, if it names one.
    pub(super) fn named_target<'w>(&self, workspace: &'w Workspace) -> Option<&'w Package> {
        let (name, packages) = (self.filter.as_deref()?, self.packages(workspace));
        let fits =
            |package: &&Package| packages.contains(&&*package.name) && package.has_target("test", Some(name));
        workspace.packages.iter().find(fits)
    }

    /// Those of the runner's arguments that decide what is built, how and where, as cargo itself takes them. What is built before the
    /// run must not do what the run is told not to do, such as write a new `Cargo.lock`.
    pub(super) fn build_words(&self, runner: Runner) -> Vec<String> {
        // nextest has a `--profile` of its own, and calls cargo's `--cargo-profile`.
        self.words_of_build(
            if runner == Runner::Nextest { "--cargo-profile" } else { "--profile" },
            "--profile",
        )
    }

    /// The same, with cargo's profile called `profile` among the runner's arguments, and `told` in what is returned.
    fn words_of_build(&self, profile: &str, told: &str) -> Vec<String> {
        const ALONE: [&str; 8] = [
            "--release",
            "-r",
            "--all-features",
            "--no-default-features",
            "--locked",
            "--offline",
            "--frozen",
            "--ignore-rust-version",
        ];
        let with_value = ["--features", "-F", "--target", "--target-dir", "--config", "-Z", profile];
        let is_joined = |name: &str| ["-F", "-Z"].iter().any(|of| name.starts_with(of) && name != *of);
        let mut words = Vec::new();
        let mut rest = self.rest.iter().take_while(|word| *word != "--");
        while let Some(word) = rest.next() {
            let (name, value) =
                word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            if ALONE.contains(&name) || is_joined(name) {
                words.push(word.clone());
            } else if with_value.contains(&name) {
                words.push(if name == profile { told } else { name }.to_owned());
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
        // Both wait for programs.
        let (found, passes) = thread::scope(|scope| {
            let found = scope.spawn(|| {
                let runner = Runner::installed();
                Ok::<_, anyhow::Error>((runner, Metadata::find(&here, &self, runner)?))
            });
            let passes = self.kernels.provision(self.machine);
            (joined(found), passes)
        });
        let (runner, (workspace, metadata)) = found?;
        let given = env::var_os(environment::RESULTS).filter(|folder| !folder.is_empty());
        let runs = given.map_or_else(|| workspace.target_directory.join(RUNS), |folder| here.join(folder));
        let passes = passes?;
        let mut signals = Signals::take_over().context("could not take over the signals that end runs")?;
        let (tests, built) = match self.tests(&workspace, runner, metadata, passes.len(), &mut signals) {
            Ok(found) => found,
            // cargo has said why, or was told to end.
            Err(error) => match error.downcast::<NotBuilt>() {
                Ok(NotBuilt(status)) => return Ok(ExitCode::from(exit_code(status))),
                Err(error) => return Err(error),
            },
        };
        if let Some(code) = signals.exit_code() {
            return Ok(ExitCode::from(code));
        }
        // What the runner tells of a test it tells when that has ended.
        tests.iter().filter(|test| !test.ignored).filter_map(unreadable).for_each(|text| out::note(&text));
        let mut plan = self.plan(&tests, &passes)?;
        take_in_left(&runs);
        remove_left(&workspace.target_directory.join(RUNS));
        if let Some(keep) = self.keep {
            remove_old_runs(&runs, keep)?;
        }
        let threads = match runner {
            Runner::Nextest => {
                let threads = |host| self.options.threads(&self.rest, host);
                ToolConfig::write(&workspace, &tests, self.performance_of_all(), threads)?
            }
            Runner::CargoTest => None,
        };
        let mut commands = match &plan {
            Some(plan) => plan.commands(runner, &self.runner_words(&workspace, runner)?),
            None => vec![match &built {
                Some(built) => built.arguments(&self.over_all(&passes), &workspace)?,
                None => arguments(&self.over_all(&passes), &workspace, runner)?,
            }],
        };
        // What the runner is given is all of it, as that is what it makes parts of.
        if let Some(plan) = plan.as_mut().filter(|_| runner == Runner::Nextest && self.chooses(&workspace)) {
            let kept = self.keep_listed(plan, &workspace, &mut signals);
            if let Some(code) = signals.exit_code() {
                return Ok(ExitCode::from(code));
            }
            kept?;
        }
        if let Some(threads) = &threads {
            // Behind `nextest run`: what is behind a `--` is the test binaries'.
            commands.iter_mut().for_each(|words| drop(words.splice(2..2, threads.words())));
        }
        let run = hold(&runs.join(new_run_name()))?;
        let stderr = LeftOpen::stderr();
        let (mut rows, mut untraced, mut worst) = (Vec::new(), Vec::new(), 0);
        for (number, pass) in (1..).zip(&passes) {
            let folder = match passes.len() {
                1 => None,
                all => {
                    out::note(&format!("ktstr: kernel {number} of {all}: {}", pass.label));
                    Some(hold(&run.path().join(pass.folder(number)))?)
                }
            };
            let results = folder.as_ref().unwrap_or(&run);
            for words in &commands {
                let mut command = self.command(pass, words, results.path());
                command.envs(stderr.iter().map(|stderr| (environment::SAY, stderr.variable())));
                // Both runners have 0 for a pass, and larger codes for what is worse.
                worst = worst.max(exit_code(run_to_end(&mut command, &mut signals)?));
                wait_for_tests(results, &mut signals);
                if signals.exit_code().is_some() {
                    break;
                }
            }
            if results.wait_until_alone(Duration::ZERO) {
                take_in_of(results.path());
            }
            rows.extend(print_traces(results.path(), &pass.label)?);
            untraced.extend(print_untraced(results.path(), &pass.label)?);
            if let Some(folder) = folder {
                folder.leave();
            }
            if let Some(code) = signals.exit_code() {
                worst = worst.max(code);
                break;
            }
        }
        run.leave();
        if let Some(plan) = &plan {
            let planned = plan.count() * passes.len();
            let run_of = |row: &Row| (row.test.clone(), row.topology.clone(), row.kernel.clone());
            let left = rows.iter().map(run_of).collect::<BTreeSet<_>>().len();
            rows.extend(untraced);
            out::write(&format!("\n{}", of_gauntlet(&rows, plan, &passes)))?;
            if worst == 0 && left < planned {
                bail!("{planned} runs were planned, and {left} left a trace");
            }
        } else if passes.len() > 1 {
            rows.extend(untraced);
            let columns: Vec<Column> =
                passes.iter().map(|pass| Column::of(None, pass, pass.label.clone())).collect();
            out::write(&format!("\n{}", table::render(&rows, &[], &columns, |_, _| true)))?;
        }
        Ok(ExitCode::from(worst))
    }
}

impl TestArgs {
    /// The tests, built and asked what they are, where that has to be known before they run: the gauntlet is made of it, and nextest is
    /// told what CPUs they take. Empty where it need not be known. What does not compile does so on no kernel, so that it is built once for
    /// all of them. And what was built, where nextest is to run it as it is.
    ///
    /// # Errors
    /// [`NotBuilt`]; for the gauntlet, tests that do not answer.
    fn tests(
        &self,
        workspace: &Workspace,
        runner: Runner,
        metadata: Option<Metadata>,
        kernels: usize,
        signals: &mut Signals,
    ) -> Result<(Vec<TestDescription>, Option<Built>)> {
        if !self.gauntlet && runner == Runner::CargoTest && kernels == 1 {
            return Ok((Vec::new(), None));
        }
        let built = match metadata {
            Some(metadata) => Built::build(workspace, self, metadata, signals)?,
            None => None,
        };
        let (binaries, built) = match built {
            Some((binaries, built)) => (binaries, Some(built)),
            None => (binaries(workspace, self, runner, Some(signals))?, None),
        };
        match ask(workspace, self, binaries) {
            Ok(asked) => Ok((asked.into_iter().map(|(test, _)| test).collect(), built)),
            // They may be another host's, which a runner of cargo's configuration starts.
            Err(error) if !self.gauntlet => {
                out::note(&format!("ktstr: it is not known which CPUs the tests take: {error:#}"));
                Ok((Vec::new(), built))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the machines of all tests are in performance mode.
    fn performance_of_all(&self) -> bool {
        self.performance || environment::Environment::read().performance
    }

    /// The same; on several kernels with the runner told to go on after a failure.
    fn over_all(&self, passes: &[Pass]) -> Self {
        let mut args = self.clone();
        args.options.no_fail_fast |= passes.len() > 1;
        args
    }

    /// What runs the tests on the kernel of `pass`.
    fn command(&self, pass: &Pass, words: &[OsString], results: &Path) -> Command {
        let mut command = self.cargo();
        command.args(words).envs(self.variables(results)).envs(pass.variables());
        command
    }

    /// The variables that tell the tests where their traces go, and what was asked for.
    fn variables(&self, results: &Path) -> Vec<(&'static str, OsString)> {
        // The second one is for these tests alone: tests of theirs have folders of their own.
        let mut variables =
            vec![(environment::RESULTS, results.into()), (environment::REASONS, results.into())];
        variables.extend(self.machine.map(|machine| (environment::MACHINE, machine.as_str().into())));
        variables.extend(self.performance.then(|| (environment::PERFORMANCE, "1".into())));
        variables.extend(self.cold.then(|| (environment::COLD, "1".into())));
        variables.extend(self.pages.as_ref().map(|pages| (environment::PAGES, pages.into())));
        variables
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

/// Make a folder for traces, which other runs do not remove while it is held.
fn hold(folder: &Path) -> Result<LiveFolder> {
    LiveFolder::make(folder)
        .with_context(|| format!("could not make the folder {} for traces", folder.display()))
}

/// Wait until all tests that write into a folder have ended: those whose runner was killed close their traces still.
fn wait_for_tests(results: &LiveFolder, signals: &mut Signals) {
    let begun = Instant::now();
    // What has ended the runner is not meant for the wait.
    signals.new_one();
    while !results.wait_until_alone(TELL_AFTER) {
        if begun.elapsed() < TELL_AFTER * 2 {
            out::note("ktstr: the runner has ended; waiting for tests that close their traces");
        }
        // Who asks again does not want to wait.
        if begun.elapsed() >= TO_CLOSE || signals.new_one().is_some() {
            break;
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
    let further = args.runner_words(workspace, runner)?;
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
    words.extend(further.iter().map(String::as_str));
    Ok(words.into_iter().map(OsString::from).collect())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::cli::parsed;
    use crate::workspace::{Dependency, Package, Target};

    fn workspace() -> Workspace {
        let package = |name: &str, uses: &[&str], tests: &[&str]| Package {
            name: name.to_owned(),
            dependencies: uses.iter().map(|name| Dependency { name: (*name).to_owned() }).collect(),
            targets: tests
                .iter()
                .map(|name| Target { name: (*name).to_owned(), kind: vec!["test".to_owned()] })
                .collect(),
            ..Package::default()
        };
        Workspace {
            packages: vec![
                package("lib", &[], &["unit"]),
                package("a", &["ktstr"], &["demo", "more"]),
                package("b", &["lib", "ktstr"], &["other"]),
            ],
            target_directory: PathBuf::from("/t"),
            workspace_root: PathBuf::from("/nonexistent"),
            workspace_members: Vec::new(),
        }
    }

    fn line(args: &TestArgs, runner: Runner) -> String {
        let words = arguments(args, &workspace(), runner).expect("a command");
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn with_filter(filter: &str) -> TestArgs {
        TestArgs { filter: Some(filter.to_owned()), ..TestArgs::default() }
    }

    /// What each variable does has a test in which it is set.
    #[test]
    fn the_tests_are_told_by_variables_what_was_asked_for() {
        let told = |words: &str| {
            let words: Vec<&str> = words.split_ascii_whitespace().collect();
            let args: TestArgs = parsed(&words).expect("arguments");
            let told = args.variables(Path::new("/r"));
            let told = told.iter().map(|(name, value)| format!("{name}={}", value.display()));
            told.collect::<Vec<_>>().join(" ")
        };
        let always = "KTSTR_RESULTS=/r KTSTR_REASONS=/r";
        assert_eq!(told("demo"), always);
        for (option, variable) in [
            ("--machine qemu", "KTSTR_MACHINE=qemu"),
            ("--performance", "KTSTR_PERFORMANCE=1"),
            ("--cold", "KTSTR_COLD=1"),
            ("--pages all", "KTSTR_PAGES=all"),
        ] {
            assert_eq!(told(option), format!("{always} {variable}"));
        }
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

    /// What was built first wrote a `Cargo.lock`, and the run that was told `--locked` found it in order.
    #[test]
    fn what_is_built_before_a_run_is_built_as_the_run_is_told() {
        let of = |runner, rest: &str| {
            let rest: Vec<String> = rest.split_ascii_whitespace().map(str::to_owned).collect();
            TestArgs::of(None, Vec::new(), rest).build_words(runner).join(" ")
        };
        for words in [
            "--release --locked --offline --frozen --ignore-rust-version",
            "--target-dir /t --config profile.dev.opt-level=2 -Z unstable-options -Zno-index-update",
            "--features a,b -Fc",
        ] {
            for runner in [Runner::Nextest, Runner::CargoTest] {
                assert_eq!(of(runner, words), words);
            }
        }
        assert_eq!(of(Runner::Nextest, "--profile ci --cargo-profile=fast"), "--profile fast");
        assert_eq!(of(Runner::CargoTest, "--profile=fast"), "--profile fast");
        let rest = ["--profile", "ci", "--cargo-profile=fast", "-r"].map(str::to_owned).to_vec();
        let listed =
            TestArgs::of(None, Vec::new(), rest).words_of_build("--cargo-profile", "--cargo-profile");
        assert_eq!(listed.join(" "), "--cargo-profile fast -r");
        assert_eq!(of(Runner::Nextest, "--retries 2 -E none() -- --release"), "");
    }

    #[test]
    fn a_workspace_without_ktstr_tests_is_an_error_that_lists_its_packages() {
        let mut workspace = workspace();
        workspace.packages.truncate(1);
        let error =
            arguments(&TestArgs::default(), &workspace, Runner::Nextest).expect_err("none").to_string();
        assert_eq!(error, "no package of the workspace depends on ktstr; it has lib");
    }
}
