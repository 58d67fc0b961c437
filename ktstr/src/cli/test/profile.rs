//! What of a workspace's build has to be optimized, handed to cargo where the workspace does not say it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use toml::{Table, Value};

use crate::host::optimized::overrides;

/// The profiles that tests are built with, unless they are to be a release.
const OF_TESTS: [&str; 2] = ["dev", "test"];
/// The package that reads traces.
const READER: &str = "ktstr-replay";
/// The profiles that take nothing from these.
const OF_RELEASES: [&str; 2] = ["release", "bench"];

/// Arguments for cargo by which the packages that record and judge are optimized in a debug build. Those that the workspace's
/// Cargo.toml has settings for are left as it says, and all where it optimizes its debug builds or what they depend on. None where it
/// cannot be read: cargo says what is wrong with it.
pub(super) fn words(workspace: &Path) -> Vec<String> {
    let text = fs::read_to_string(workspace.join("Cargo.toml")).ok();
    let Some(manifest) = text.and_then(|text| text.parse::<Table>().ok()) else { return Vec::new() };
    if is_optimized(&manifest) {
        return Vec::new();
    }
    let own = own(&manifest);
    let missing = overrides().filter(|package| !own.contains(package.package));
    missing
        .flat_map(|of| {
            let setting = format!("profile.dev.package.{}.opt-level={}", of.package, of.level);
            ["--config".to_owned(), setting]
        })
        .collect()
}

/// Whether a workspace's manifest has what reads traces optimized in tests, for itself or with all else. One that cannot be
/// read does not.
pub(in super::super) fn optimizes_reader(manifest: &str) -> bool {
    let manifest = manifest.parse::<Table>();
    manifest.is_ok_and(|manifest| is_optimized(&manifest) || optimizes_package(&manifest, READER))
}

/// Whether the manifest has all packages of a debug build optimized, or all that the workspace depends on.
fn is_optimized(manifest: &Table) -> bool {
    of_tests(manifest).any(has_level) || optimizes_package(manifest, "*")
}

/// Whether the manifest has this package, or `*`, optimized in tests.
fn optimizes_package(manifest: &Table, package: &str) -> bool {
    of_tests(manifest).filter_map(|settings| settings.get("package")?.get(package)).any(has_level)
}

/// The settings of the profiles that tests are built with.
fn of_tests(manifest: &Table) -> impl Iterator<Item = &Value> {
    OF_TESTS.iter().filter_map(|name| manifest.get("profile")?.get(*name))
}

/// Whether these settings turn optimization on.
fn has_level(settings: &Value) -> bool {
    let level = settings.get("opt-level");
    level.is_some_and(|level| level.as_integer() != Some(0) && level.as_str() != Some("0"))
}

/// The packages that have settings in a profile of the manifest. To name one of them twice is an error of cargo's, though it is
/// once by its name and once by its name and version.
fn own(manifest: &Table) -> BTreeSet<&str> {
    let profiles = manifest.get("profile").and_then(Value::as_table);
    let profiles = profiles.into_iter().flat_map(Table::iter);
    let profiles = profiles.filter(|(name, _)| !OF_RELEASES.contains(&name.as_str()));
    let packages = profiles.filter_map(|(_, profile)| profile.get("package")?.as_table());
    packages.flat_map(Table::keys).map(|spec| package_of(spec)).collect()
}

/// The name in a package ID specification: `NAME`, `NAME@VERSION`, `URL`, `URL#VERSION`, `URL#NAME@VERSION`.
fn package_of(spec: &str) -> &str {
    let (url, name) = match spec.rsplit_once('#') {
        Some((url, name)) => (url, name),
        None if spec.contains("://") => (spec, ""),
        None => ("", spec),
    };
    // No package's name begins with a digit.
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    }
    name.split(['@', ':']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_profile_that_optimizes_the_reader_is_known_in_each_way_to_write_it() {
        for yes in [
            "[profile.dev]\nopt-level = 1\n",
            "[profile.dev.package.ktstr-replay]\nopt-level = 3 # fast\n",
            "[profile.dev.package.\"*\"]\nopt-level = 2\n",
            "[profile.test]\nopt-level = 1\n",
            "[profile.dev.package]\n\"*\" = { opt-level = 0 }\nktstr-replay = { opt-level = 3, debug = false }\n",
        ] {
            assert!(optimizes_reader(yes), "{yes}");
        }
        for no in [
            "",
            "[package]\nname = \"x\"\n",
            "[profile.dev]\nopt-level = 0\n",
            "[profile.release]\nopt-level = 3\n",
            "[profile.dev.package]\nktstr-replay = { opt-level = 0 }\nserde = { opt-level = 3 }\n",
            "# [profile.dev]\n# opt-level = 1\n",
        ] {
            assert!(!optimizes_reader(no), "{no}");
        }
    }

    fn of(manifest: &str) -> Vec<String> {
        let dir = TempDir::new().expect("a folder");
        fs::write(dir.path().join("Cargo.toml"), manifest).expect("a file");
        words(dir.path())
    }

    /// A newcomer's crate built the recorder at level 0, and a test of 5 s took 16.
    #[test]
    fn a_workspace_without_profiles_is_handed_all_and_its_own_settings_are_left() {
        let all = of("[package]\nname = \"x\"\n");
        assert_eq!(all.len(), 2 * overrides().count());
        let pair = ["--config".to_owned(), "profile.dev.package.ktstr-record.opt-level=2".to_owned()];
        assert!(all.windows(2).any(|words| words == pair), "{all:?}");
        let some = of(
            "[profile.dev.package]\nktstr-record = { opt-level = 1 }\n[profile.test.package.memchr]\ndebug = true\n",
        );
        assert_eq!(some.len(), all.len() - 4);
        assert!(
            !some.iter().any(|word| word.contains("ktstr-record") || word.contains("memchr")),
            "{some:?}"
        );
    }

    /// cargo refused to build: "multiple package overrides in profile `dev` match package".
    #[test]
    fn a_package_is_known_by_each_specification_of_it() {
        for spec in [
            "ktstr-record",
            "ktstr-record@0.1.0",
            "ktstr-record:0.1.0",
            "file:///w/ktstr-record",
            "https://example.org/x/ktstr-record#0.1.0",
            "git+https://example.org/x/ktstr?tag=a#ktstr-record@0.1.0",
        ] {
            assert_eq!(package_of(spec), "ktstr-record", "{spec}");
            let words = of(&format!("[profile.dev.package.{spec:?}]\nopt-level = 1\n"));
            assert_eq!(words.len(), 2 * (overrides().count() - 1), "{spec}");
        }
    }

    #[test]
    fn what_is_optimized_already_is_left_and_settings_of_releases_are_none_of_debug_builds() {
        for manifest in [
            "[profile.dev]\nopt-level = 1\n",
            "[profile.test]\nopt-level = \"s\"\n",
            "[profile.dev.package.\"*\"]\nopt-level = 3\n",
        ] {
            assert!(of(manifest).is_empty(), "{manifest}");
        }
        let all = 2 * overrides().count();
        for manifest in [
            "[profile.dev]\nopt-level = 0\n",
            "[profile.dev.package.\"*\"]\ndebug = false\n",
            "[profile.release.package.ktstr-record]\ndebug = true\n",
        ] {
            assert_eq!(of(manifest).len(), all, "{manifest}");
        }
    }

    #[test]
    fn nothing_is_handed_where_the_manifest_cannot_be_read() {
        assert!(words(Path::new("/nonexistent")).is_empty());
        assert!(of("[profile\n").is_empty());
    }

    #[test]
    fn a_new_scheduler_says_it_all_itself() {
        let template = include_str!("../../../templates/new/Cargo.toml.template");
        assert!(of(&template.replace("@LIBRARY@", "\"/ktstr\"")).is_empty());
    }
}
