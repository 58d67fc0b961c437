//! Where traces go: `target/ktstr/<run>/<package>.<target>.<test>.trace.zst`, or into the folder of `KTSTR_RESULTS`.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
pub use ktstr_record::recorder::TRACE_SUFFIX;

use super::environment::{Environment, RESULTS};
use super::live::LiveFolder;
use super::say::say;
use super::sources::Sources;
use crate::test_def::TestDef;

/// Where cargo marks its target folder.
const TARGET_MARK: &str = "CACHEDIR.TAG";
/// cargo's name for its target folder.
const TARGET: &str = "target";
/// Folder of all runs, in the target folder.
pub const RUNS: &str = "ktstr";
/// nextest's name of a run, the same in all of its test processes.
const NEXTEST_RUN: &str = "NEXTEST_RUN_ID";
/// Begins the name of the folder into which nextest unpacks an archive, and which it removes when the run has ended.
const NEXTEST_ARCHIVE: &str = "nextest-archive-";

/// Begins the name of a folder into which tests write what they are. Its process's ID follows.
pub const ASKED: &str = "asked-";

/// A folder for traces that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not make the folder {} for traces", path.display())]
pub struct ResultsError {
    path: PathBuf,
    source: io::Error,
}

/// The path of a test's trace: by its package, target and name, as another package may have a test that is called the same.
/// Its folder is made, and is not removed by others as long as this process lives.
///
/// # Errors
/// A folder that cannot be made.
pub fn trace_path(def: &TestDef, environment: &Environment) -> Result<PathBuf, ResultsError> {
    let name = format!("{}.{}{TRACE_SUFFIX}", def.package, def.path.replace("::", "."));
    Ok(folder(def, environment)?.join(name))
}

/// The folder of this run's results, which is made and held.
fn folder(def: &TestDef, environment: &Environment) -> Result<PathBuf, ResultsError> {
    static HELD: Mutex<BTreeMap<PathBuf, LiveFolder>> = Mutex::new(BTreeMap::new());
    let folder = match &environment.results {
        Some(folder) => folder.clone(),
        None => {
            let exe = env::current_exe().unwrap_or_default();
            target_folder(&exe, Sources::of(def).workspace()).join(RUNS).join(run_name())
        }
    };
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if !held.contains_key(&folder) {
        let live =
            LiveFolder::make(&folder).map_err(|source| ResultsError { path: folder.clone(), source })?;
        // Who gave the folder knows it.
        if environment.results.is_none() {
            say(&format!("traces go to {} (set {RESULTS} for another folder)", folder.display()));
        }
        held.insert(folder.clone(), live);
    }
    Ok(folder)
}

/// A name for a run that begins now: sorts by time, and no two runs of a host share it.
pub fn new_run_name() -> String {
    format!("{}-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"), process::id())
}

/// Whether a folder is called as those of runs are: by [`new_run_name`], or by nextest, which takes a UUID. `KTSTR_RESULTS` may name
/// a folder in which there are others.
pub fn is_run_name(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(process) = name.strip_prefix(ASKED) {
        return is_number(process);
    }
    // 0 stands for any digit, h for a hexadecimal one.
    let has_form = |text: &str, form: &str| {
        let fits = |(byte, of): (u8, u8)| match of {
            b'0' => byte.is_ascii_digit(),
            b'h' => byte.is_ascii_hexdigit(),
            other => byte == other,
        };
        text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits)
    };
    let is_ours = |(time, process): (&str, &str)| has_form(time, "00000000T000000Z") && is_number(process);
    name.split_once('-').is_some_and(is_ours) || has_form(name, "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh")
}

/// The run that this process is a part of.
fn run_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| env::var(NEXTEST_RUN).unwrap_or_else(|_| new_run_name()))
}

/// The target folder that a test binary is in, else `target` in the working folder.
///
/// Cargo marks the folders that it makes itself. One that was there before, such as a restored cache, has no mark, and is
/// known by its layout: `TARGET/debug/deps/TEST-HASH`. The working folder cannot be used: it is that of the test's package.
/// What nextest has unpacked does not outlive the run: then it is that of the workspace.
fn target_folder(exe: &Path, workspace: Option<&Path>) -> PathBuf {
    let is_of_archive = |folder: &Path| {
        let name = folder.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(NEXTEST_ARCHIVE))
    };
    if let Some(workspace) = workspace.filter(|_| exe.ancestors().any(is_of_archive)) {
        return workspace.join(TARGET);
    }
    let marked = exe.ancestors().skip(1).find(|folder| folder.join(TARGET_MARK).is_file());
    let by_layout = || {
        let deps = exe.parent().filter(|folder| folder.ends_with("deps"))?;
        deps.ancestors().nth(2)
    };
    marked.or_else(by_layout).map_or_else(|| PathBuf::from(TARGET), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::host::live::remove_unless_live;
    use crate::host::tests::TEST;

    #[test]
    fn the_target_folder_is_the_marked_one() {
        let dir = TempDir::new().expect("a folder");
        let exe = dir.path().join("target/x86_64-unknown-linux-gnu/debug/deps/demo-1");
        fs::create_dir_all(exe.parent().expect("a parent")).expect("folders");
        fs::write(dir.path().join("target").join(TARGET_MARK), "").expect("a mark");
        assert_eq!(target_folder(&exe, None), dir.path().join("target"));
        assert_eq!(target_folder(&exe, Some(Path::new("/ws"))), dir.path().join("target"));
        assert_eq!(target_folder(Path::new("/usr/bin/demo"), None), Path::new("target"));
    }

    #[test]
    fn a_run_is_known_by_its_name() {
        let new = new_run_name();
        for run in [new.as_str(), "20261127T011152Z-7", "0c2dd5d6-4a44-4b8e-9f67-a1b2c3d4e5f6", "asked-12"] {
            assert!(is_run_name(run), "{run}");
        }
        for other in
            ["", "src", "20261127", "20261127T011152Z-", "asked-", "asked-me", "2026-11-27", "v1.0-7"]
        {
            assert!(!is_run_name(other), "{other}");
        }
    }

    /// Traces of tests in a package's folder went to `PACKAGE/target`, which no .gitignore covers.
    #[test]
    fn a_target_folder_without_a_mark_is_known_by_its_layout() {
        assert_eq!(
            target_folder(Path::new("/work/target/debug/deps/demo-1"), None),
            Path::new("/work/target")
        );
    }

    /// Traces were removed together with what nextest had unpacked.
    #[test]
    fn traces_of_an_unpacked_archive_go_to_the_workspace() {
        let exe = Path::new("/tmp/nextest-archive-x1/target/debug/deps/demo-1");
        assert_eq!(target_folder(exe, Some(Path::new("/ws"))), Path::new("/ws/target"));
    }

    #[test]
    fn a_trace_is_named_by_package_target_and_test_and_its_folder_is_held() {
        let dir = TempDir::new().expect("a folder");
        let run = dir.path().join("run");
        let environment = Environment { results: Some(run.clone()), ..Environment::default() };
        let path = |package| trace_path(&TestDef { package, ..TEST }, &environment).expect("a path");
        assert_eq!(path("a"), run.join("a.demo.two.trace.zst"));
        assert_eq!(path("b"), run.join("b.demo.two.trace.zst"));
        assert!(!remove_unless_live(&run).expect("asked"), "this run goes on");
    }
}
