//! What runs test binaries, and which of its options are taken as `cargo ktstr test`'s own.

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use clap::Args;
use ktstr_record::provision::cargo;

/// Has both runners go on after a test that failed.
pub(in super::super) const NO_FAIL_FAST: &str = "--no-fail-fast";

/// What runs test binaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Runner {
    Nextest,
    CargoTest,
}

impl Runner {
    /// The words of its command.
    pub(super) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Nextest => &["nextest", "run"],
            Self::CargoTest => &["test"],
        }
    }

    /// That of this host.
    pub(super) fn installed() -> Self {
        let mut probe = Command::new(cargo());
        probe.args(["nextest", "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match probe.status() {
            Ok(status) if status.success() => Self::Nextest,
            _ => Self::CargoTest,
        }
    }
}

/// Options of the runner. Others go behind `--`.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct RunnerOptions {
    /// Go on after a test that failed.
    #[arg(long)]
    pub(super) no_fail_fast: bool,
    /// Run this many tests at a time. Each still waits until the CPUs of its machine are free on the host.
    #[arg(short = 'j', long, value_name = "N", allow_negative_numbers = true)]
    test_threads: Option<String>,
    /// Run tests that `#[ktstr_test(ignore)]` leaves out, too (all), or no others (only).
    #[arg(long, value_name = "WHICH", value_parser = ["default", "only", "all"], conflicts_with = "gauntlet")]
    run_ignored: Option<String>,
    /// Run a test that failed up to N times more, of cargo nextest.
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// The profile of the nextest configuration, of cargo nextest. A profile of cargo's goes behind `--`, as
    /// `-- --cargo-profile NAME`.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// The part of the tests that this run is for, as count:1/4, of cargo nextest: for CI jobs that share them.
    #[arg(long, value_name = "PART")]
    partition: Option<String>,
}

/// Variable with nextest's option of the same name.
const THREADS_VARIABLE: &str = "NEXTEST_TEST_THREADS";

impl RunnerOptions {
    /// How many tests nextest runs at a time, by these options, `rest`, which was behind `--`, or its environment; else as many as the
    /// `host` has CPUs.
    pub(super) fn threads(&self, rest: &[String], host: u32) -> u32 {
        let given = self.test_threads.clone().or_else(|| value_in(rest, &THREADS));
        let given = given.or_else(|| env::var(THREADS_VARIABLE).ok());
        match given.and_then(|text| text.trim().parse::<i32>().ok()) {
            Some(below) if below < 0 => host.saturating_sub(below.unsigned_abs()).max(1),
            Some(threads) if threads > 0 => threads.unsigned_abs(),
            // `num-cpus`, and what nextest refuses.
            _ => host,
        }
    }

    /// The part of the tests that nextest runs, by these options or `rest`, which was behind `--`.
    pub(super) fn part(&self, rest: &[String]) -> Option<String> {
        self.partition.clone().or_else(|| value_in(rest, &["--partition"]))
    }

    /// The words by which nextest finds its configuration, which has filters of its own, by these options or `rest`.
    pub(super) fn configuration_words(&self, rest: &[String]) -> Vec<String> {
        let mut words = Vec::new();
        for (name, names) in CONFIGURATION {
            let own = self.profile.clone().filter(|_| *name == "--profile");
            let value = own.or_else(|| value_in(rest, names));
            words.extend(value.into_iter().flat_map(|value| [(*name).to_owned(), value]));
        }
        let (before, _) = split_at_test_words(rest);
        words.extend(before.iter().filter(|word| *word == NO_DEFAULT_FILTER).cloned());
        words
    }

    /// These options and `rest`, which was behind `--`, as the runner takes them.
    ///
    /// # Errors
    /// An option that only nextest has, where it is not installed.
    pub(super) fn with(&self, runner: Runner, rest: &[String]) -> Result<Vec<String>> {
        let (mut words, mut last) = (Vec::new(), Vec::new());
        let (before, behind) = split_at_test_words(rest);
        if self.no_fail_fast && !before.iter().any(|word| word == NO_FAIL_FAST) {
            words.push(NO_FAIL_FAST.to_owned());
        }
        let retries = self.retries.map(|retries| retries.to_string());
        let of_nextest = [
            ("--retries", retries.as_ref()),
            ("--profile", self.profile.as_ref()),
            ("--partition", self.partition.as_ref()),
        ];
        for (name, value) in of_nextest {
            let Some(value) = value else { continue };
            if runner == Runner::CargoTest {
                bail!(
                    "{name} is cargo nextest's, which is not installed: cargo install cargo-nextest --locked"
                );
            }
            words.extend([name.to_owned(), value.clone()]);
        }
        match runner {
            Runner::Nextest => {
                words.extend(self.test_threads.iter().flat_map(|n| ["--test-threads".to_owned(), n.clone()]));
                words.extend(self.run_ignored.iter().flat_map(|of| ["--run-ignored".to_owned(), of.clone()]));
            }
            // What libtest takes, behind a `--` of its own.
            Runner::CargoTest => {
                last.extend(self.test_threads.iter().map(|n| format!("--test-threads={n}")));
                last.extend(match self.run_ignored.as_deref() {
                    Some("only") => Some("--ignored".to_owned()),
                    Some("all") => Some("--include-ignored".to_owned()),
                    _ => None,
                });
            }
        }
        words.extend_from_slice(before);
        if behind.is_empty() && !last.is_empty() {
            words.push("--".to_owned());
        }
        words.extend_from_slice(behind);
        words.extend(last);
        Ok(words)
    }
}

/// The names of nextest's option for how many tests run at a time.
const THREADS: [&str; 3] = ["--test-threads", "--jobs", "-j"];
/// nextest's options that say what its configuration is, each with its names.
const CONFIGURATION: &[(&str, &[&str])] = &[
    ("--profile", &["--profile", "-P"]),
    ("--config-file", &["--config-file"]),
    ("--user-config-file", &["--user-config-file"]),
    ("--tool-config-file", &["--tool-config-file"]),
];
/// Has nextest take what the filter of its configuration leaves out.
const NO_DEFAULT_FILTER: &str = "--ignore-default-filter";
/// The names of nextest's option that has an expression which tests must match. Of several, one.
const FILTERS: [&str; 3] = ["--filterset", "--filter-expr", "-E"];

/// The expressions among words for nextest that say which tests it runs, and the other words.
pub(in super::super) fn split_filters(words: &[String]) -> (Vec<String>, Vec<String>) {
    let (before, behind) = split_at_test_words(words);
    let (mut filters, mut others) = (Vec::new(), Vec::new());
    let mut before = before.iter();
    while let Some(word) = before.next() {
        if FILTERS.contains(&word.as_str())
            && let Some(value) = before.as_slice().first()
        {
            filters.push(value.clone());
            before.next();
        } else if let Some(value) = FILTERS.iter().find_map(|name| joined_value(word, name)) {
            filters.push(value.to_owned());
        } else {
            others.push(word.clone());
        }
    }
    others.extend_from_slice(behind);
    (filters, others)
}

/// The words for nextest that surely are parts of tests' names: neither options nor what may be the value of one.
pub(super) fn names_in(words: &[String]) -> Vec<String> {
    let (before, _) = split_at_test_words(words);
    let mut may_be_value = false;
    let is_name = |word: &&String| {
        let is_option = word.starts_with('-');
        let is_name = !is_option && !may_be_value;
        may_be_value = is_option && !word.contains('=');
        is_name
    };
    before.iter().filter(is_name).cloned().collect()
}

/// The words of the runner itself, and from the `--` on those of the test binaries.
pub(in super::super) fn split_at_test_words(words: &[String]) -> (&[String], &[String]) {
    words.split_at(words.iter().position(|word| word == "--").unwrap_or(words.len()))
}

/// The value of the option `name` where it is in the same word: `--name=value`, `-nvalue` and `-n=value`; `--name-of-another` is none of
/// these.
fn joined_value<'w>(word: &'w str, name: &str) -> Option<&'w str> {
    match (word.strip_prefix(name)?, name.starts_with("--")) {
        ("", _) => None,
        (value, true) => value.strip_prefix('='),
        (value, false) => Some(value.trim_start_matches('=')),
    }
}

/// The value of nextest's option of these names in words for it.
fn value_in(rest: &[String], names: &[&str]) -> Option<String> {
    let mut words = rest.iter().take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if names.contains(&word.as_str()) {
            return words.next().cloned();
        }
        if let Some(value) = names.iter().find_map(|name| joined_value(word, name)) {
            return Some(value.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(options: &RunnerOptions, runner: Runner, rest: &str) -> String {
        let rest: Vec<String> = rest.split_ascii_whitespace().map(str::to_owned).collect();
        options.with(runner, &rest).expect("words").join(" ")
    }

    #[test]
    fn each_runner_is_given_options_in_its_own_words() {
        let options = RunnerOptions {
            no_fail_fast: true,
            test_threads: Some("2".to_owned()),
            run_ignored: Some("all".to_owned()),
            ..RunnerOptions::default()
        };
        assert_eq!(
            line(&options, Runner::Nextest, "--release"),
            "--no-fail-fast --test-threads 2 --run-ignored all --release"
        );
        assert_eq!(
            line(&options, Runner::CargoTest, "--release -- --nocapture"),
            "--no-fail-fast --release -- --nocapture --test-threads=2 --include-ignored"
        );
        assert_eq!(
            line(&options, Runner::CargoTest, "--no-fail-fast"),
            "--no-fail-fast -- --test-threads=2 --include-ignored"
        );
        assert_eq!(line(&RunnerOptions::default(), Runner::CargoTest, "--release"), "--release");
    }

    #[test]
    fn the_number_of_threads_is_found_wherever_it_is_given() {
        let of = |own: Option<&str>, rest: &str| {
            let options = RunnerOptions { test_threads: own.map(str::to_owned), ..RunnerOptions::default() };
            let rest: Vec<String> = rest.split_ascii_whitespace().map(str::to_owned).collect();
            options.threads(&rest, 8)
        };
        assert_eq!(of(Some("3"), "-j 5"), 3);
        assert_eq!(of(Some("-3"), ""), 5);
        assert_eq!(of(Some("-9"), ""), 1);
        assert_eq!(of(Some("num-cpus"), ""), 8);
        for rest in
            ["-j 5", "-j5", "-j=5", "--release --test-threads 5", "--test-threads=5", "--jobs 5 -- -j 1"]
        {
            assert_eq!(of(None, rest), 5, "{rest}");
        }
        for rest in ["", "--release", "-- -j 1", "-j"] {
            assert_eq!(of(None, rest), 8, "{rest}");
        }
    }

    #[test]
    fn the_part_and_the_profile_are_found_wherever_they_are_given() {
        let words = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let of = |partition: Option<&str>, rest: &str| {
            let options =
                RunnerOptions { partition: partition.map(str::to_owned), ..RunnerOptions::default() };
            options.part(&words(rest))
        };
        assert_eq!(of(Some("hash:2/3"), "").as_deref(), Some("hash:2/3"));
        assert_eq!(of(None, "--release --partition count:1/2").as_deref(), Some("count:1/2"));
        assert_eq!(of(None, "--partition=count:1/2").as_deref(), Some("count:1/2"));
        assert_eq!(of(None, "--partitions=2 -- --partition count:1/2"), None);
        let profile = |rest: &str| RunnerOptions::default().configuration_words(&words(rest)).join(" ");
        assert_eq!(
            (profile("-P ci"), profile("--profile=ci")),
            ("--profile ci".into(), "--profile ci".into())
        );
        assert_eq!(profile("--release"), "");
        assert_eq!(
            profile("--config-file=a.toml --ignore-default-filter -P ci -- --ignore-default-filter"),
            "--profile ci --config-file a.toml --ignore-default-filter"
        );
        let options = RunnerOptions { profile: Some("own".to_owned()), ..RunnerOptions::default() };
        assert_eq!(options.configuration_words(&words("-P ci")).join(" "), "--profile own");
    }

    #[test]
    fn names_of_tests_are_told_from_options_and_their_values() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names_in(&words("a --retries 2 b --config=x c --no-capture d -- e")), ["a", "b", "c"]);
        assert_eq!(names_in(&words("--release")), Vec::<String>::new());
    }

    #[test]
    fn expressions_are_told_from_other_words() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (filters, others) = split_filters(&words(
            "--release -E test(a) -Etest(b) --filterset=test(c) --filter-expr test(d) --retries 2 -- -E x",
        ));
        assert_eq!(filters, ["test(a)", "test(b)", "test(c)", "test(d)"]);
        assert_eq!(others.join(" "), "--release --retries 2 -- -E x");
        // What nextest is to refuse stays what it was.
        assert_eq!(split_filters(&words("-j 2 -E")), (Vec::new(), words("-j 2 -E")));
    }

    #[test]
    fn what_only_nextest_has_is_an_error_that_says_how_to_get_it() {
        for (options, name) in [
            (RunnerOptions { retries: Some(2), ..RunnerOptions::default() }, "--retries"),
            (RunnerOptions { profile: Some("ci".into()), ..RunnerOptions::default() }, "--profile"),
            (
                RunnerOptions { partition: Some("count:1/2".into()), ..RunnerOptions::default() },
                "--partition",
            ),
        ] {
            let error = options.with(Runner::CargoTest, &[]).expect_err("no nextest").to_string();
            assert!(error.starts_with(name) && error.contains("cargo install cargo-nextest"), "{error}");
            assert!(line(&options, Runner::Nextest, "").starts_with(name));
        }
    }
}
