//! `cargo ktstr test --gauntlet`: which tests are run on which machines.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ktstr_record::machine::StartError;
use ktstr_record::spec::MachineSpec;
use ktstr_replay::text::{Align, layout};
use serde::Deserialize;

use super::test::table::TestName;
use super::test::{NO_FAIL_FAST, Runner, split_filters};
use crate::description::TestDescription;
use crate::gauntlet::{Candidate, PRESETS, Preset, choose};

/// What a run takes besides its workload window where the machine has few CPUs, at a guess, on an emulated machine.
const BASE_COST: Duration = Duration::from_secs(8);
/// What each CPU of the machine adds to that.
const COST_PER_CPU: Duration = Duration::from_millis(750);

/// What `cargo nextest list --message-format json` prints, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(rename = "rust-suites")]
    suites: BTreeMap<String, ListedSuite>,
}

impl Listed {
    /// Of a test that the filters and the part have.
    const IN_PART: &str = "matches";
}

#[derive(Debug, Deserialize)]
struct ListedSuite {
    #[serde(rename = "package-name")]
    package: String,
    #[serde(rename = "binary-name")]
    binary: String,
    #[serde(rename = "testcases")]
    tests: BTreeMap<String, ListedTest>,
}

#[derive(Debug, Deserialize)]
struct ListedTest {
    #[serde(rename = "filter-match")]
    filter: ListedFilter,
}

#[derive(Debug, Deserialize)]
struct ListedFilter {
    status: String,
}

/// Which variants are run, and why the others are not.
#[derive(Debug)]
pub(super) struct Plan {
    variants: Vec<Variant>,
}

/// A target of cargo's with tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target<'a> {
    package: &'a str,
    name: &'a str,
    kind: &'a str,
}

impl Target<'_> {
    /// What makes cargo build it and no other.
    fn words(&self) -> Vec<String> {
        let Self { package, name, kind } = *self;
        let mut words = vec!["-p".to_owned(), package.to_owned()];
        match kind {
            "test" | "bin" | "example" | "bench" => words.extend([format!("--{kind}"), name.to_owned()]),
            _ => words.push("--lib".to_owned()),
        }
        words
    }
}

/// A test on a machine.
#[derive(Debug)]
struct Variant {
    /// Number of the test among those that were asked.
    test: usize,
    package: String,
    target: String,
    /// Of the target.
    kind: String,
    name: String,
    preset: &'static Preset,
    cost: Duration,
    /// Why it is not run.
    skipped: Option<String>,
}

impl Plan {
    /// Of these tests, on machines like `base`, within `budget` if there is one.
    ///
    /// # Errors
    /// No variant that can be run.
    pub(super) fn new(
        tests: &[TestDescription],
        base: &MachineSpec,
        budget: Option<Duration>,
        carries: impl Fn(&MachineSpec) -> Result<(), StartError>,
    ) -> Result<Self> {
        let mut variants: Vec<Variant> =
            tests.iter().enumerate().flat_map(|(n, test)| of(n, test, base, &carries)).collect();
        if let Some(budget) = budget {
            keep_within(&mut variants, budget);
        }
        let plan = Self { variants };
        if plan.runs().next().is_none() {
            bail!("no variant can be run:\n{}", plan.reasons());
        }
        Ok(plan)
    }

    fn runs(&self) -> impl Iterator<Item = &Variant> {
        self.variants.iter().filter(|variant| variant.skipped.is_none())
    }

    /// The runner's commands, for exactly these variants, each with `rest` behind it. nextest's expressions in `rest` choose among them.
    pub(super) fn commands(&self, runner: Runner, rest: &[String]) -> Vec<Vec<OsString>> {
        let targets = self.targets();
        let go_on = (!rest.iter().any(|word| word == NO_FAIL_FAST)).then_some(NO_FAIL_FAST);
        let commands: Vec<Vec<String>> = match runner {
            // One for all, so that what is to be shared among jobs is shared.
            Runner::Nextest => {
                let mut words: Vec<String> = ["nextest", "run"].map(str::to_owned).to_vec();
                let (filters, rest) = split_filters(rest);
                words.extend(self.selection(&filters));
                words.extend(go_on.map(str::to_owned));
                words.extend(rest);
                vec![words]
            }
            // One for each target: names are the same in several.
            Runner::CargoTest => {
                let (before, after) = match rest.iter().position(|word| word == "--") {
                    Some(at) => (&rest[..at], &rest[at + 1..]),
                    None => (rest, &rest[rest.len()..]),
                };
                let of = |(target, variants): (&Target<'_>, &Vec<&Variant>)| {
                    let mut words = vec!["test".to_owned()];
                    words.extend(target.words());
                    words.extend_from_slice(before);
                    words.extend(["--", "--ignored", "--exact"].map(str::to_owned));
                    words.extend(variants.iter().map(|variant| variant.name.clone()));
                    words.extend_from_slice(after);
                    words
                };
                targets.iter().map(of).collect()
            }
        };
        commands.into_iter().map(|words| words.into_iter().map(OsString::from).collect()).collect()
    }

    /// The variants that are run, by their targets.
    fn targets(&self) -> BTreeMap<Target<'_>, Vec<&Variant>> {
        let mut targets: BTreeMap<Target<'_>, Vec<&Variant>> = BTreeMap::new();
        for variant in self.runs() {
            targets.entry(variant.target()).or_default().push(variant);
        }
        targets
    }

    /// What has nextest take exactly these variants; where there are `filters`, those that one of them has. nextest runs what any of its
    /// expressions has, so that each of ours has theirs in it.
    fn selection(&self, filters: &[String]) -> Vec<String> {
        let chosen = filters.iter().map(|filter| format!("({filter})")).collect::<Vec<_>>().join(" | ");
        let and_chosen = if chosen.is_empty() { chosen } else { format!(" & ({chosen})") };
        let targets = self.targets();
        let mut words: Vec<String> = targets.keys().flat_map(Target::words).collect();
        words.extend(["--run-ignored", "only"].map(str::to_owned));
        for (target, variants) in &targets {
            let of = |variant: &&Variant| {
                let Target { package, name, .. } = target;
                format!("package(={package}) & binary(={name}) & test(={}){and_chosen}", variant.name)
            };
            words.extend(variants.iter().flat_map(|variant| ["-E".to_owned(), of(variant)]));
        }
        words
    }

    /// nextest's command that lists which of the variants it would run in this `part` of them, if there is one, with `rest` behind it, which
    /// decides what is built. Its expressions in `rest` choose as in [`Plan::commands`].
    pub(super) fn listing(&self, part: Option<&str>, rest: &[String]) -> Vec<String> {
        let mut words: Vec<String> =
            ["nextest", "list", "--message-format", "json"].map(str::to_owned).to_vec();
        words.extend(part.into_iter().flat_map(|part| ["--partition".to_owned(), part.to_owned()]));
        let (filters, rest) = split_filters(rest);
        words.extend(self.selection(&filters));
        words.extend(rest);
        words
    }

    /// Plan only what `listed`, which nextest has printed for [`Plan::listing`], has of it. The others are another job's, or not asked for.
    ///
    /// # Errors
    /// Something that is not nextest's list.
    pub(super) fn keep_listed(&mut self, listed: &str) -> Result<()> {
        let listed: Listed =
            serde_json::from_str(listed).context("could not read the list of cargo nextest")?;
        let is_listed = |variant: &Variant| {
            listed.suites.values().any(|suite| {
                suite.package == variant.package
                    && suite.binary == variant.target
                    && suite
                        .tests
                        .get(&variant.name)
                        .is_some_and(|test| test.filter.status == Listed::IN_PART)
            })
        };
        for variant in self.variants.iter_mut().filter(|variant| variant.skipped.is_none()) {
            if !is_listed(variant) {
                variant.skipped = Some("of another part, or not chosen".to_owned());
            }
        }
        Ok(())
    }

    /// How many variants are run.
    pub(super) fn count(&self) -> usize {
        self.runs().count()
    }

    /// The topologies that something is run on, in the order of the table.
    pub(super) fn topologies(&self) -> Vec<String> {
        let is_run = |preset: &&Preset| self.runs().any(|variant| variant.preset == *preset);
        PRESETS.iter().filter(is_run).map(|preset| preset.topology.to_string()).collect()
    }

    /// The tests of which something is run.
    pub(super) fn tests(&self) -> Vec<TestName> {
        let mut tests: Vec<TestName> = self.runs().map(Variant::test_name).collect();
        tests.sort();
        tests.dedup();
        tests
    }

    /// Whether a test, by its package, target and name, is run on a machine.
    pub(super) fn runs_on(&self, test: &TestName, topology: &str) -> bool {
        self.runs()
            .any(|variant| variant.test_name() == *test && variant.preset.topology.to_string() == topology)
    }

    /// How much is run, what that takes, and why the rest is not run.
    pub(super) fn summary(&self) -> String {
        let (runs, all) = (self.runs().count(), self.variants.len());
        let cost: Duration = self.runs().map(|variant| variant.cost).sum();
        let minutes = cost.as_secs().div_ceil(60).max(1);
        let reasons = self.reasons();
        let mut text = format!("gauntlet: {runs} of {all} variants, about {minutes} min\n");
        if !reasons.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, "not run:\n{reasons}");
        }
        text
    }

    /// The reasons, each with the number of variants that it keeps from being run.
    fn reasons(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for why in self.variants.iter().filter_map(|variant| variant.skipped.as_deref()) {
            *counts.entry(why).or_default() += 1;
        }
        let rows: Vec<Vec<String>> =
            counts.iter().map(|(why, count)| vec![format!("  {count}"), (*why).to_owned()]).collect();
        layout(&[Align::Right, Align::Left], &rows).iter().map(|line| format!("{line}\n")).collect()
    }
}

impl Variant {
    fn target(&self) -> Target<'_> {
        Target { package: &self.package, name: &self.target, kind: &self.kind }
    }

    fn test_name(&self) -> TestName {
        TestName::of(&self.package, &self.target, &self.name)
    }
}

/// A test on every machine.
fn of(
    number: usize,
    test: &TestDescription,
    base: &MachineSpec,
    carries: &impl Fn(&MachineSpec) -> Result<(), StartError>,
) -> Vec<Variant> {
    let variants = test.variants.iter().filter_map(|variant| {
        let preset = PRESETS.iter().find(|preset| preset.name == variant.preset)?;
        let spec = MachineSpec {
            topology: preset.topology,
            memory_mib: variant.memory_mib,
            performance: base.performance || test.performance,
            ..base.clone()
        };
        let too_large = || carries(&spec).err().filter(StartError::is_limit);
        let skipped = variant.excluded.clone().or_else(|| too_large().map(|error| error.to_string()));
        Some(Variant {
            test: number,
            package: test.package.clone(),
            target: test.target.clone(),
            kind: test.kind.clone(),
            name: variant.name.clone(),
            preset,
            cost: cost(preset, test.duration_s),
            skipped,
        })
    });
    variants.collect()
}

/// How much longer the whole run takes for a variant: machines that leave CPUs of the host free run beside others.
fn cost(preset: &Preset, duration_s: u64) -> Duration {
    let host =
        thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
    let cpus = preset.topology.cpus();
    let alone = BASE_COST + COST_PER_CPU * cpus + Duration::from_secs(duration_s);
    alone * cpus.min(host) / host
}

fn keep_within(variants: &mut [Variant], budget: Duration) {
    let numbers: Vec<usize> = (0..variants.len()).filter(|&n| variants[n].skipped.is_none()).collect();
    let candidates: Vec<Candidate> = numbers
        .iter()
        .map(|&n| Candidate {
            test: variants[n].test,
            topology: variants[n].preset.topology,
            cost: variants[n].cost,
        })
        .collect();
    let chosen = choose(&candidates, budget);
    for (index, number) in numbers.into_iter().enumerate() {
        if !chosen.contains(&index) {
            variants[number].skipped = Some("beyond the budget".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use ktstr_record::spec::{Emulator, Kernel};

    use super::*;
    use crate::host::tests::TEST;

    fn machine() -> MachineSpec {
        MachineSpec {
            backend: Emulator {
                command: vec!["/nonexistent/qemu".into()],
                env: Vec::new(),
                version: "10.0".to_owned(),
                origin: "PATH".to_owned(),
            }
            .into(),
            kernel: Kernel {
                asked: "7.3".to_owned(),
                release: "7.3.4".to_owned(),
                vmlinux: "/nonexistent/vmlinux".into(),
                bzimage: None,
                id: "00".to_owned(),
                has_sched_ext: true,
            },
            topology: TEST.topology,
            memory_mib: TEST.memory_mib,
            kaslr: false,
            kargs: Vec::new(),
            performance: false,
        }
    }

    /// Two tests of the same names in two targets, each on six machines that every host can carry.
    fn plan(budget: Option<Duration>) -> Plan {
        let mut tests = vec![TestDescription::of(&TEST), TestDescription::of(&TEST)];
        for (test, target) in tests.iter_mut().zip(["demo", "my-demo"]) {
            test.variants.truncate(6);
            test.target = target.to_owned();
            test.kind = "test".to_owned();
        }
        Plan::new(&tests, &machine(), budget, |_| Ok(())).expect("a plan")
    }

    fn lines(plan: &Plan, runner: Runner, rest: &[&str]) -> Vec<String> {
        let rest: Vec<String> = rest.iter().map(|&word| word.to_owned()).collect();
        let commands = plan.commands(runner, &rest);
        let line = |words: &Vec<OsString>| {
            words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
        };
        commands.iter().map(line).collect()
    }

    #[test]
    fn nextest_is_given_each_variant_by_name_and_told_to_go_on() {
        let lines = lines(&plan(None), Runner::Nextest, &["--partition", "count:1/2", "--no-capture"]);
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        let begin = "nextest run -p demo --test demo -p demo --test my-demo --run-ignored only \
                     -E package(=demo) & binary(=demo) & test(=gauntlet_two::llcs1_cpus4) -E ";
        assert!(line.starts_with(begin), "{line}");
        assert!(
            line.contains("binary(=my-demo)")
                && line.ends_with(" --no-fail-fast --partition count:1/2 --no-capture"),
            "{line}"
        );
        assert_eq!(line.matches(" -E ").count(), 12);
    }

    #[test]
    fn of_a_part_only_what_nextest_lists_in_it_is_planned() {
        let mut plan = plan(None);
        let words = plan.listing(Some("count:1/2"), &["--release".to_owned()]).join(" ");
        assert!(
            words.starts_with("nextest list --message-format json --partition count:1/2 -p demo"),
            "{words}"
        );
        assert!(
            words.contains("--run-ignored only -E package(=demo)") && words.ends_with(" --release"),
            "{words}"
        );
        let case =
            |name: &str, filter: &str| format!(r#""gauntlet_two::{name}":{{"filter-match":{filter}}}"#);
        let matches = r#"{"status":"matches"}"#;
        let cases = [
            case("llcs1_cpus4", matches),
            case("llcs2_cpus4", r#"{"status":"mismatch","reason":"partition"}"#),
        ];
        let suite = |binary: &str, cases: &str| {
            format!(
                r#""demo::{binary}":{{"package-name":"demo","binary-name":"{binary}","testcases":{{{cases}}}}}"#
            )
        };
        let other = suite("other", &case("llcs2_cpus4", matches));
        let listed = format!(r#"{{"rust-suites":{{{},{other}}}}}"#, suite("my-demo", &cases.join(",")));
        plan.keep_listed(&listed).expect("a list");
        assert_eq!(plan.count(), 1);
        assert!(plan.runs_on(&TestName::of("demo", "my-demo", "gauntlet_two::llcs1_cpus4"), "1n1l4c1t"));
        let error = plan.keep_listed("nothing").expect_err("no list").to_string();
        assert!(error.contains("the list of cargo nextest"), "{error}");
    }

    /// nextest takes what any of its expressions has: with the plan's beside a person's, all of the plan was run, and tests that are none
    /// of its variants besides.
    #[test]
    fn a_persons_expressions_choose_among_the_variants() {
        let plan = plan(None);
        let rest = ["--partition", "count:1/2", "-E", "test(a)", "--filterset=test(b) | test(c)"];
        let lines = lines(&plan, Runner::Nextest, &rest);
        let rest = rest.map(str::to_owned);
        for line in [&lines[0], &plan.listing(None, &rest[2..]).join(" ")] {
            let ours = line.split(" -E ").skip(1);
            let theirs = "& test(=gauntlet_two::llcs1_cpus4) & ((test(a)) | (test(b) | test(c)))";
            assert_eq!(ours.clone().count(), 12, "{line}");
            assert!(ours.clone().all(|one| one.contains(" & ((test(a)) | (test(b) | test(c)))")), "{line}");
            assert!(line.contains(theirs) && !line.contains("--filterset"), "{line}");
        }
        assert!(lines[0].ends_with(" --no-fail-fast --partition count:1/2"), "{}", lines[0]);
    }

    #[test]
    fn cargo_test_is_given_the_names_of_each_target_behind_its_own_arguments() {
        let lines = lines(&plan(None), Runner::CargoTest, &["--release", "--", "--nocapture"]);
        assert_eq!(lines.len(), 2);
        for (line, target) in lines.iter().zip(["demo", "my-demo"]) {
            let begin = format!(
                "test -p demo --test {target} --release -- --ignored --exact gauntlet_two::llcs1_cpus4 "
            );
            assert!(line.starts_with(&begin) && line.ends_with(" --nocapture"), "{line}");
            assert_eq!(line.matches("gauntlet_two::").count(), 6);
        }
    }

    #[test]
    fn a_test_of_a_library_is_asked_for_by_its_kind() {
        let target = |kind| Target { package: "p", name: "n", kind }.words().join(" ");
        assert_eq!((target("lib"), target("bin")), ("-p p --lib".to_owned(), "-p p --bin n".to_owned()));
    }

    #[test]
    fn the_plan_knows_what_runs_where() {
        let plan = plan(None);
        assert_eq!(plan.topologies().len(), 6);
        let test = TestName::of("demo", "my-demo", "gauntlet_two::llcs1_cpus4");
        assert!(plan.runs_on(&test, "1n1l4c1t") && !plan.runs_on(&test, "2n2l4c1t"));
        assert_eq!(plan.tests(), [TestName::of("demo", "demo", "two"), test]);
    }

    #[test]
    fn what_is_beyond_the_budget_is_counted() {
        let all = plan(None);
        assert!(all.summary().starts_with("gauntlet: 12 of 12 variants"), "{}", all.summary());
        let cost = all.runs().next().expect("one").cost;
        let some = plan(Some(cost * 3));
        let runs = some.runs().count();
        assert!((1..12).contains(&runs), "{runs}");
        assert!(some.summary().contains("beyond the budget"), "{}", some.summary());
    }

    #[test]
    fn a_plan_without_a_variant_says_why() {
        let mut test = TestDescription::of(&TEST);
        for variant in &mut test.variants {
            variant.excluded = Some("1 LLC, `min_llcs` is 99".to_owned());
        }
        let error = Plan::new(&[test], &machine(), None, |_| Ok(())).expect_err("nothing to run").to_string();
        assert!(error.contains("16  1 LLC, `min_llcs` is 99"), "{error}");
    }
}
