//! Where traces go: `target/ktstr/<run>/<target>.<test>.trace.zst`.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::OnceLock;

use jiff::Timestamp;

use super::environment::Environment;
use crate::test_def::TestDef;

/// Where cargo marks its target folder.
const TARGET_MARK: &str = "CACHEDIR.TAG";
/// How traces are named.
pub const TRACE_SUFFIX: &str = ".trace.zst";
/// Folder of all runs, in the target folder.
pub const RUNS: &str = "ktstr";
/// nextest's name of a run, the same in all of its test processes.
const NEXTEST_RUN: &str = "NEXTEST_RUN_ID";

/// A folder for traces that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not make the folder {} for traces", path.display())]
pub struct ResultsError {
    path: PathBuf,
    source: io::Error,
}

/// The path of a test's trace. Its folder is made; the name is free: a test that is tried again in one run gets a number.
///
/// # Errors
/// A folder that cannot be made.
pub fn trace_path(def: &TestDef, environment: &Environment) -> Result<PathBuf, ResultsError> {
    Ok(free_path(&folder(environment)?, &def.path.replace("::", ".")))
}

/// The folder of this run's results, which is made.
fn folder(environment: &Environment) -> Result<PathBuf, ResultsError> {
    let folder = match &environment.results {
        Some(folder) => folder.clone(),
        None => {
            let exe = env::current_exe().unwrap_or_default();
            target_folder(&exe).join(RUNS).join(run_name())
        }
    };
    match fs::create_dir_all(&folder) {
        Ok(()) => Ok(folder),
        Err(source) => Err(ResultsError { path: folder, source }),
    }
}

/// A name for a run that begins now: sorts by time, and no two runs of a host share it.
pub fn new_run_name() -> String {
    format!("{}-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"), process::id())
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
fn target_folder(exe: &Path) -> PathBuf {
    let marked = exe.ancestors().skip(1).find(|folder| folder.join(TARGET_MARK).is_file());
    let by_layout = || {
        let deps = exe.parent().filter(|folder| folder.ends_with("deps"))?;
        deps.ancestors().nth(2)
    };
    marked.or_else(by_layout).map_or_else(|| PathBuf::from("target"), Path::to_owned)
}

fn free_path(folder: &Path, name: &str) -> PathBuf {
    let first = folder.join(format!("{name}{TRACE_SUFFIX}"));
    let numbered = (2_u32..).map(|number| folder.join(format!("{name}.{number}{TRACE_SUFFIX}")));
    std::iter::once(first.clone()).chain(numbered).find(|path| !path.exists()).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_target_folder_is_the_marked_one() {
        let dir = TempDir::new().expect("a folder");
        let exe = dir.path().join("target/x86_64-unknown-linux-gnu/debug/deps/demo-1");
        fs::create_dir_all(exe.parent().expect("a parent")).expect("folders");
        fs::write(dir.path().join("target").join(TARGET_MARK), "").expect("a mark");
        assert_eq!(target_folder(&exe), dir.path().join("target"));
        assert_eq!(target_folder(Path::new("/usr/bin/demo")), Path::new("target"));
    }

    /// Traces of tests in a package's folder went to `PACKAGE/target`, which no .gitignore covers.
    #[test]
    fn a_target_folder_without_a_mark_is_known_by_its_layout() {
        assert_eq!(target_folder(Path::new("/work/target/debug/deps/demo-1")), Path::new("/work/target"));
    }

    #[test]
    fn a_second_try_gets_a_number() {
        let dir = TempDir::new().expect("a folder");
        let name = |path: PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let first = free_path(dir.path(), "demo.two");
        fs::write(&first, "").expect("a file");
        assert_eq!(name(first).as_deref(), Some("demo.two.trace.zst"));
        assert_eq!(name(free_path(dir.path(), "demo.two")).as_deref(), Some("demo.two.2.trace.zst"));
    }
}
