//! What nextest is told of the CPUs that tests take, so that it does not start those that would wait: a wait in a test counts as its time.
//!
//! nextest weighs tests: one with `threads-required = 2` is run as two of its threads. A machine holds as many CPUs of the host as it has
//! vCPUs, at most all (see `ktstr_record::machine`), which is its weight, and the weights of a test group do not exceed that of the
//! host. With fewer threads than the host has CPUs (`-j`), weights are shares of these threads.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};

use super::super::asked::asked_folder;
use crate::description::TestDescription;
use crate::gauntlet::{PRESETS, Preset};
use crate::host::live::LiveFolder;
use crate::workspace::Workspace;

/// The test group. nextest wants the groups of tools called so.
const GROUP: &str = "@tool:ktstr:cpus";
/// The file's name.
const FILE: &str = "nextest.toml";

/// A configuration file of nextest for one run, which is there as long as this.
#[derive(Debug)]
pub(super) struct ToolConfig {
    folder: PathBuf,
    _held: LiveFolder,
}

impl ToolConfig {
    /// Write it, if there is something to tell. `threads`: how many tests nextest runs at a time on a host of so many CPUs.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(super) fn write(
        workspace: &Workspace,
        tests: &[TestDescription],
        threads: impl FnOnce(u32) -> u32,
    ) -> Result<Option<Self>> {
        let cpus =
            thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
        let Some(text) = text(tests, cpus, threads(cpus)) else { return Ok(None) };
        let folder = asked_folder(workspace);
        let held =
            LiveFolder::make(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        let config = Self { folder, _held: held };
        fs::write(config.path(), text)
            .with_context(|| format!("could not write {}", config.path().display()))?;
        Ok(Some(config))
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// What nextest is given. Its own configuration in the workspace has precedence.
    pub(super) fn words(&self) -> [OsString; 2] {
        let mut file = OsString::from("ktstr:");
        file.push(self.path());
        ["--tool-config-file".into(), file]
    }
}

impl Drop for ToolConfig {
    fn drop(&mut self) {
        // What stays is removed with the traces of old runs.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The file, for a host of so many CPUs and so many tests at a time; none where no test takes any.
fn text(tests: &[TestDescription], host: u32, threads: u32) -> Option<String> {
    let (host, threads) = (host.max(1), threads.clamp(1, host.max(1)));
    let weight = |cpus: u32| (u64::from(cpus.min(host)) * u64::from(threads)).div_ceil(u64::from(host));
    // By weight, and then by package and target.
    let mut names: BTreeMap<u64, BTreeMap<(&str, &str), Vec<&str>>> = BTreeMap::new();
    for test in tests.iter().filter(|test| test.cpus > 0) {
        let targets = names.entry(weight(test.cpus)).or_default();
        targets.entry((&test.package, &test.target)).or_default().push(&test.name);
    }
    let mut filters: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (weight, targets) in names {
        let of = |((package, target), names): (_, Vec<&str>)| {
            format!("(package(={package}) & binary(={target}) & test(/^({})$/))", names.join("|"))
        };
        filters.entry(weight).or_default().extend(targets.into_iter().map(of));
    }
    if filters.is_empty() {
        return None;
    }
    let mut presets: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for Preset { name, topology } in &PRESETS {
        presets.entry(weight(topology.cpus())).or_default().push(name);
    }
    for (weight, names) in presets {
        filters
            .entry(weight)
            .or_default()
            .push(format!("test(/(^|::)gauntlet_[^:]+::({})$/)", names.join("|")));
    }
    let mut text = format!(
        "# Of `cargo ktstr test`: tests whose machines do not fit on this host together are not started together.\n\
         [test-groups.\"{GROUP}\"]\nmax-threads = {threads}\n"
    );
    for (weight, filters) in filters {
        // Names of packages, targets and tests have no quotes.
        let filter = filters.join(" | ");
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[[profile.default.overrides]]\nfilter = '{filter}'\nthreads-required = {weight}\ntest-group = \"{GROUP}\"\n"
        );
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use ktstr_record::spec::Topology;
    use tempfile::TempDir;
    use toml::Table;

    use super::*;
    use crate::host::tests::TEST;
    use crate::test_def::TestDef;

    fn test(path: &'static str, cpus: u32) -> TestDescription {
        let topology = Topology { cores_per_llc: cpus, ..TEST.topology };
        TestDescription::of(&TestDef { path, topology, ..TEST })
    }

    /// Each test's weight by its filter, and how much runs at a time.
    fn weights(tests: &[TestDescription], host: u32, threads: u32) -> (Vec<(String, i64)>, i64) {
        let table: Table = text(tests, host, threads).expect("a file").parse().expect("TOML");
        let overrides = table["profile"]["default"]["overrides"].as_array().expect("overrides");
        let weights = overrides.iter().map(|of| {
            assert_eq!(of["test-group"].as_str(), Some(GROUP));
            let filter = of["filter"].as_str().expect("a filter").to_owned();
            (filter, of["threads-required"].as_integer().expect("a weight"))
        });
        (weights.collect(), table["test-groups"][GROUP]["max-threads"].as_integer().expect("a number"))
    }

    fn weight_of(name: &str, (weights, _): &(Vec<(String, i64)>, i64)) -> i64 {
        let found: Vec<i64> =
            weights.iter().filter(|(filter, _)| filter.contains(name)).map(|(_, weight)| *weight).collect();
        assert_eq!(found.len(), 1, "{name} in {weights:?}");
        found[0]
    }

    #[test]
    fn a_test_weighs_as_many_cpus_as_its_machine_holds() {
        let tests = [test("demo::one", 1), test("demo::m::three", 3), test("demo::many", 64)];
        let all = weights(&tests, 4, 4);
        assert_eq!(all.1, 4);
        assert_eq!(
            ["one", "m::three", "many", "llcs1_cpus4"].map(|name| weight_of(name, &all)),
            [1, 3, 4, 4]
        );
        let (filter, _) = &all.0[1];
        assert!(filter.starts_with("(package(=demo) & binary(=demo) & test(/^(m::three)$/))"), "{filter}");
        // More threads are more tests that wait.
        assert_eq!(weights(&tests, 4, 100), all);
    }

    #[test]
    fn with_fewer_threads_than_cpus_as_many_tests_run_as_there_are_threads() {
        let tests = [test("demo::one", 1), test("demo::half", 4), test("demo::all", 8)];
        let all = weights(&tests, 8, 2);
        assert_eq!(all.1, 2);
        assert_eq!(["one", "half", "all"].map(|name| weight_of(name, &all)), [1, 1, 2]);
        assert!(weights(&tests, 8, 1).0.iter().all(|(_, weight)| *weight == 1));
    }

    #[test]
    fn tests_without_a_machine_weigh_nothing() {
        let on_host = TestDescription::of(&TestDef { host_only: true, ..TEST });
        assert_eq!(text(std::slice::from_ref(&on_host), 4, 4), None);
        let all = weights(&[on_host, test("demo::one", 1)], 4, 4);
        assert!(all.0.iter().all(|(filter, _)| !filter.contains("two")), "{all:?}");
    }

    #[test]
    fn the_file_is_there_as_long_as_the_run() {
        let dir = TempDir::new().expect("a folder");
        let workspace = Workspace { target_directory: dir.path().to_owned(), ..Workspace::default() };
        assert!(ToolConfig::write(&workspace, &[], |host| host).expect("nothing to tell").is_none());
        let config = ToolConfig::write(&workspace, &[test("demo::one", 1)], |host| host).expect("written");
        let config = config.expect("a file");
        let [option, file] = config.words();
        assert_eq!(option, "--tool-config-file");
        let file =
            file.to_str().and_then(|file| file.strip_prefix("ktstr:")).expect("a tool and a path").to_owned();
        assert!(fs::read_to_string(&file).expect("a file").contains("threads-required"));
        drop(config);
        assert!(!dir.path().join("ktstr").read_dir().expect("a folder").any(|_| true), "{file} is left");
    }
}
