//! `cargo ktstr test --gauntlet`: which tests are run on which machines.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use ktstr_record::machine;
use ktstr_record::spec::MachineSpec;
use ktstr_replay::text::{Align, layout};

use super::test::Runner;
use crate::description::TestDescription;
use crate::gauntlet::{Candidate, PRESETS, Preset, choose};

/// What a run takes besides its workload window where the machine has few CPUs, at a guess, on an emulated machine.
const BASE_COST: Duration = Duration::from_secs(8);
/// What each CPU of the machine adds to that.
const COST_PER_CPU: Duration = Duration::from_millis(750);

/// Which variants are run, and why the others are not.
#[derive(Debug)]
pub(super) struct Plan {
    variants: Vec<Variant>,
}

/// A test on a machine.
#[derive(Debug)]
struct Variant {
    /// Number of the test among those that were asked.
    test: usize,
    package: String,
    target: String,
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
    ) -> Result<Self> {
        let mut variants: Vec<Variant> =
            tests.iter().enumerate().flat_map(|(n, test)| of(n, test, base)).collect();
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

    /// What the runner is given, for exactly these variants, and after it `rest`.
    ///
    /// # Errors
    /// Arguments for nextest where there is none.
    pub(super) fn arguments(
        &self,
        runner: Runner,
        partition: Option<&str>,
        rest: &[String],
    ) -> Result<Vec<OsString>> {
        let mut packages: Vec<&str> = self.runs().map(|variant| variant.package.as_str()).collect();
        packages.sort_unstable();
        packages.dedup();
        let mut targets: Vec<&str> = self.runs().map(|variant| variant.target.as_str()).collect();
        targets.sort_unstable();
        targets.dedup();
        let mut words: Vec<String> = Vec::new();
        let mut of = |flag: &str, names: Vec<&str>| {
            for name in names {
                words.extend([flag.to_owned(), name.to_owned()]);
            }
        };
        of("-p", packages);
        of("--test", targets);
        match runner {
            Runner::Nextest => {
                words.splice(0..0, ["nextest", "run"].map(str::to_owned));
                words.extend(["--run-ignored", "only"].map(str::to_owned));
                if let Some(partition) = partition {
                    words.extend(["--partition".to_owned(), partition.to_owned()]);
                }
                for Variant { package, target, name, .. } in self.runs() {
                    words.extend([
                        "-E".to_owned(),
                        format!("package(={package}) & binary(={target}) & test(={name})"),
                    ]);
                }
                words.extend_from_slice(rest);
            }
            Runner::CargoTest => {
                if partition.is_some() {
                    bail!(
                        "--partition is cargo nextest's, which is not installed: cargo install cargo-nextest --locked"
                    );
                }
                words.insert(0, "test".to_owned());
                words.push("--no-fail-fast".to_owned());
                let (before, after) = match rest.iter().position(|word| word == "--") {
                    Some(at) => (&rest[..at], &rest[at + 1..]),
                    None => (rest, &rest[rest.len()..]),
                };
                words.extend_from_slice(before);
                words.extend(["--", "--ignored", "--exact"].map(str::to_owned));
                words.extend(self.runs().map(|variant| variant.name.clone()));
                words.extend_from_slice(after);
            }
        }
        Ok(words.into_iter().map(OsString::from).collect())
    }

    /// How much is run, what that takes, and why the rest is not run.
    pub(super) fn summary(&self) -> String {
        let (runs, all) = (self.runs().count(), self.variants.len());
        let cost: Duration = self.runs().map(|variant| variant.cost).sum();
        let minutes = cost.as_secs().div_ceil(60);
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

/// A test on every machine.
fn of(number: usize, test: &TestDescription, base: &MachineSpec) -> Vec<Variant> {
    let variants = test.variants.iter().filter_map(|variant| {
        let preset = PRESETS.iter().find(|preset| preset.name == variant.preset)?;
        let spec = MachineSpec { topology: preset.topology, memory_mib: variant.memory_mib, ..base.clone() };
        let too_large = || machine::carries(&spec).err().filter(machine::StartError::is_limit);
        let skipped = variant.excluded.clone().or_else(|| too_large().map(|error| error.to_string()));
        Some(Variant {
            test: number,
            package: test.package.clone(),
            target: test.target.clone(),
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
        }
    }

    fn plan(budget: Option<Duration>) -> Plan {
        let mut tests = vec![TestDescription::of(&TEST), TestDescription::of(&TEST)];
        for test in &mut tests {
            // What this host could carry is not the question here.
            test.variants.truncate(6);
        }
        Plan::new(&tests, &machine(), budget).expect("a plan")
    }

    fn line(plan: &Plan, runner: Runner, partition: Option<&str>, rest: &[&str]) -> String {
        let rest: Vec<String> = rest.iter().map(|&word| word.to_owned()).collect();
        let words = plan.arguments(runner, partition, &rest).expect("arguments");
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn nextest_is_given_each_variant_by_name() {
        let line = line(&plan(None), Runner::Nextest, Some("count:1/2"), &["--no-capture"]);
        let begin = "nextest run -p demo --test demo --run-ignored only --partition count:1/2 \
                     -E package(=demo) & binary(=demo) & test(=gauntlet_two::llcs1_cpus4) -E ";
        assert!(line.starts_with(begin), "{line}");
        assert!(line.ends_with("--no-capture"), "{line}");
        assert_eq!(line.matches(" -E ").count(), 12);
    }

    #[test]
    fn cargo_test_is_given_the_names_behind_its_own_arguments() {
        let line = line(&plan(None), Runner::CargoTest, None, &["--release", "--", "--nocapture"]);
        let begin = "test -p demo --test demo --no-fail-fast --release -- --ignored --exact gauntlet_two::llcs1_cpus4 ";
        assert!(line.starts_with(begin), "{line}");
        assert!(line.ends_with(" --nocapture"), "{line}");
        let error = plan(None).arguments(Runner::CargoTest, Some("count:1/2"), &[]).expect_err("no nextest");
        assert!(error.to_string().contains("cargo install cargo-nextest"), "{error}");
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
        let error = Plan::new(&[test], &machine(), None).expect_err("nothing to run").to_string();
        assert!(error.contains("16  1 LLC, `min_llcs` is 99"), "{error}");
    }
}
