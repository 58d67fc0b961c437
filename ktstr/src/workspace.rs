//! The cargo workspace that a test is in, by `cargo metadata`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr_record::provision::cargo;
use serde::Deserialize;

/// What tests run on, as rustc calls it.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// What `cargo metadata` says, as far as it matters here.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Workspace {
    /// The packages of the workspace.
    pub packages: Vec<Package>,
    /// Its folder.
    pub workspace_root: PathBuf,
    /// Where cargo builds.
    pub target_directory: PathBuf,
    /// The ids of its packages.
    #[serde(default)]
    pub workspace_members: Vec<String>,
}

/// A package of the workspace.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// What cargo calls it.
    #[serde(default)]
    pub id: String,
    /// Its `Cargo.toml`.
    #[serde(default)]
    pub manifest_path: PathBuf,
    /// What it depends on, for whatever purpose.
    pub dependencies: Vec<Dependency>,
    /// What it builds.
    pub targets: Vec<Target>,
}

/// A dependency of a package.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Dependency {
    /// Name of the other package.
    pub name: String,
}

/// A target of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// `bin`, `lib`, `test` and so on.
    pub kind: Vec<String>,
}

/// Why the workspace is not known.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// cargo could not be started.
    #[error("could not start `{}`", cargo().display())]
    Start(#[source] io::Error),
    /// cargo refused.
    #[error("`cargo metadata` in {} failed: {stderr}", dir.display())]
    Refused {
        /// Where it was run.
        dir: PathBuf,
        /// What it said.
        stderr: String,
    },
    /// Its answer is not understood.
    #[error("the answer of `cargo metadata` is not understood")]
    Answer(#[source] serde_json::Error),
}

impl Workspace {
    /// The workspace around a folder.
    ///
    /// # Errors
    /// A folder without a package, a cargo that cannot be started.
    pub fn around(dir: &Path) -> Result<Self, WorkspaceError> {
        Self::read(&metadata(dir, &["--no-deps"])?)
    }

    /// The same, and all that cargo says of it and of what it depends on, as cargo nextest asks for it: JSON. cargo may write a
    /// `Cargo.lock` and download what is missing.
    ///
    /// # Errors
    /// As [`around`](Self::around); dependencies that cannot be had.
    pub fn with_dependencies(dir: &Path) -> Result<(Self, Vec<u8>), WorkspaceError> {
        // What only other systems need may not be there.
        let json = metadata(dir, &["--all-features", "--filter-platform", PLATFORM])?;
        Ok((Self::read(&json)?, json))
    }

    fn read(json: &[u8]) -> Result<Self, WorkspaceError> {
        let mut workspace: Self = serde_json::from_slice(json).map_err(WorkspaceError::Answer)?;
        let Self { packages, workspace_members, .. } = &mut workspace;
        packages.retain(|package| workspace_members.contains(&package.id));
        Ok(workspace)
    }

    /// The packages that depend on `name`.
    pub fn dependents(&self, name: &str) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(move |package| package.dependencies.iter().any(|other| other.name == name))
    }

    /// Whether a package of this name builds a program.
    pub fn has_program(&self, name: &str) -> bool {
        self.programs().contains(&name)
    }

    /// The names of the packages that build a program.
    pub fn programs(&self) -> Vec<&str> {
        let builds_program = |package: &&Package| package.has_target("bin", None);
        self.packages.iter().filter(builds_program).map(|package| package.name.as_str()).collect()
    }
}

fn metadata(dir: &Path, words: &[&str]) -> Result<Vec<u8>, WorkspaceError> {
    let output = Command::new(cargo())
        .args(["metadata", "--format-version", "1"])
        .args(words)
        .current_dir(dir)
        .output()
        .map_err(WorkspaceError::Start)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(WorkspaceError::Refused { dir: dir.to_owned(), stderr });
    }
    Ok(output.stdout)
}

impl Package {
    /// Whether it has a target of a kind, of this name if one is given.
    pub fn has_target(&self, kind: &str, name: Option<&str>) -> bool {
        let fits = |target: &Target| {
            target.kind.iter().any(|of| of == kind) && name.is_none_or(|name| target.name == name)
        };
        self.targets.iter().any(fits)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn this_workspace_is_understood() {
        let workspace = Workspace::around(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("a workspace");
        let dependents: Vec<&str> =
            workspace.dependents("ktstr").map(|package| package.name.as_str()).collect();
        assert_eq!(dependents, ["ktstr-tests"]);
        assert!(workspace.has_program("ktstr") && !workspace.has_program("ktstr-replay"));
        let (with_dependencies, json) =
            Workspace::with_dependencies(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("a workspace");
        let ids = |of: &Workspace| of.packages.iter().map(|of| of.id.clone()).collect::<BTreeSet<_>>();
        assert_eq!(ids(&with_dependencies), ids(&workspace), "packages of others are not of the workspace");
        let all: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert!(all["resolve"].is_object() && all["packages"].as_array().is_some_and(|all| all.len() > 100));
    }

    #[test]
    fn a_folder_without_a_package_is_an_error_with_what_cargo_says() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let error = Workspace::around(dir.path()).expect_err("nothing there").to_string();
        assert!(error.contains("could not find `Cargo.toml`"), "{error}");
    }
}
