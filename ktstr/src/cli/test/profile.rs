//! What of a workspace's build has to be optimized, handed to cargo where the workspace does not say it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use toml::{Table, Value};

use crate::host::optimized::overrides;

/// Arguments for cargo by which the packages that record and judge are optimized in a debug build. Those that the workspace's
/// Cargo.toml has settings for are left as it says. None where it cannot be read: cargo says what is wrong with it.
pub(super) fn words(workspace: &Path) -> Vec<String> {
    let text = fs::read_to_string(workspace.join("Cargo.toml")).ok();
    let Some(manifest) = text.and_then(|text| text.parse::<Table>().ok()) else { return Vec::new() };
    let own = own(&manifest);
    let missing = overrides().filter(|package| !own.contains(package.package));
    missing
        .flat_map(|of| {
            let setting = format!("profile.dev.package.{}.opt-level={}", of.package, of.level);
            ["--config".to_owned(), setting]
        })
        .collect()
}

/// The packages that have settings in any profile of the manifest.
fn own(manifest: &Table) -> BTreeSet<&str> {
    let profiles = manifest.get("profile").and_then(Value::as_table);
    let profiles = profiles.into_iter().flat_map(Table::values);
    let packages = profiles.filter_map(|profile| profile.get("package")?.as_table());
    packages.flat_map(Table::keys).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

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
