//! Why a test failed before it had a trace, for `cargo ktstr test`, which tells what became of each test by its trace.
//!
//! The reason is a file beside where the trace would be. Only `cargo ktstr test` asks for it, and takes it away when it has told it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ktstr_record::recorder::is_interrupted;

use super::environment::Environment;
use super::results::{TRACE_SUFFIX, trace_path};
use crate::test_def::TestDef;

/// Ends the name of such a file.
const SUFFIX: &str = ".untraced";
/// Bytes of a reason that are kept: a compiler may write much.
const REASON: usize = 64 << 10;

/// A test that left no trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untraced {
    /// Its package.
    pub package: String,
    /// Its test target, and its name there.
    pub target: String,
    /// See `target`.
    pub name: String,
    /// Its error, of one or more lines.
    pub reason: String,
}

/// Leave the reason of a failed test that has no trace, if whoever runs it asked for it; of another one, take away what an earlier try left.
pub fn leave(def: &TestDef, environment: &Environment, result: &anyhow::Result<()>) {
    let wanted = environment.reasons.is_some() && environment.reasons == environment.results;
    if !wanted || environment.describe.is_some() || environment.shell || is_interrupted() {
        return;
    }
    let Ok(trace) = trace_path(def, environment) else { return };
    let Some(path) = beside(&trace) else { return };
    // What cannot be written is told by the test itself as well.
    let _ = match result {
        Err(error) if !trace.exists() => {
            let mut reason = format!("{error:#}");
            reason.truncate(reason.floor_char_boundary(REASON));
            fs::write(path, format!("{}\n{}\n{}\n{reason}", def.package, def.target(), def.libtest_name()))
        }
        _ => fs::remove_file(path),
    };
}

fn beside(trace: &Path) -> Option<PathBuf> {
    Some(PathBuf::from(format!("{}{SUFFIX}", trace.to_str()?.strip_suffix(TRACE_SUFFIX)?)))
}

/// Take the reasons of a folder away, by the names of their files; none where there is no folder.
///
/// # Errors
/// A folder that cannot be listed.
pub fn take(results: &Path) -> io::Result<Vec<Untraced>> {
    if !results.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(results)?.flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.to_str().is_some_and(|name| name.ends_with(SUFFIX))).collect();
    paths.sort();
    Ok(paths.iter().filter_map(|path| taken(path)).collect())
}

fn taken(path: &Path) -> Option<Untraced> {
    let text = fs::read_to_string(path).ok()?;
    // What cannot be taken away is told all the same.
    let _ = fs::remove_file(path);
    // A later try that was killed has a trace, and could not take away what the one before it left.
    let trace = format!("{}{TRACE_SUFFIX}", path.to_str()?.strip_suffix(SUFFIX)?);
    if Path::new(&trace).exists() {
        return None;
    }
    let mut parts = text.splitn(4, '\n').map(str::to_owned);
    Some(Untraced {
        package: parts.next()?,
        target: parts.next()?,
        name: parts.next()?,
        reason: parts.next()?,
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use tempfile::TempDir;

    use super::*;
    use crate::host::tests::TEST;

    fn asked(folder: &TempDir) -> Environment {
        let folder = Some(folder.path().to_owned());
        Environment { results: folder.clone(), reasons: folder, ..Environment::default() }
    }

    #[test]
    fn a_reason_is_left_where_it_is_asked_for_and_taken_once() {
        let folder = TempDir::new().expect("a folder");
        let failed = || Err(anyhow!("no such file\n  | caret\n").context("could not build it"));
        leave(&TEST, &asked(&folder), &failed());
        let found = take(folder.path()).expect("listed");
        let reason = "could not build it: no such file\n  | caret\n".to_owned();
        let (target, name) = ("demo".into(), "two".into());
        assert_eq!(found, [Untraced { package: "demo".into(), target, name, reason }]);
        assert_eq!(take(folder.path()).expect("listed"), []);
        // A try that went well, or that has a trace.
        leave(&TEST, &asked(&folder), &failed());
        leave(&TEST, &asked(&folder), &Ok(()));
        assert_eq!(take(folder.path()).expect("listed"), []);
        fs::write(folder.path().join(format!("demo.demo.two{TRACE_SUFFIX}")), "").expect("a file");
        leave(&TEST, &asked(&folder), &failed());
        assert_eq!(take(folder.path()).expect("listed"), []);
        assert_eq!(take(&folder.path().join("none")).expect("no folder"), []);
    }

    /// It was told to have left no trace, below what was told of its trace.
    #[test]
    fn a_reason_is_not_told_beside_the_trace_of_a_later_try_that_was_killed() {
        let folder = TempDir::new().expect("a folder");
        leave(&TEST, &asked(&folder), &Err(anyhow!("no")));
        let trace = folder.path().join(format!("demo.demo.two{TRACE_SUFFIX}"));
        fs::write(&trace, "").expect("a file");
        assert_eq!(take(folder.path()).expect("listed"), []);
        fs::remove_file(trace).expect("removed");
        assert_eq!(take(folder.path()).expect("listed"), [], "it was taken away");
    }

    #[test]
    fn nothing_is_left_for_others() {
        let folder = TempDir::new().expect("a folder");
        let other = TempDir::new().expect("a folder");
        let own = asked(&folder);
        for environment in [
            Environment { reasons: None, ..own.clone() },
            // A test that a test of such a run starts.
            Environment { reasons: Some(other.path().to_owned()), ..own.clone() },
            Environment { describe: Some(other.path().to_owned()), ..own.clone() },
            Environment { shell: true, ..own.clone() },
        ] {
            leave(&TEST, &environment, &Err(anyhow!("no")));
        }
        assert_eq!(take(folder.path()).expect("listed"), []);
        assert_eq!(take(other.path()).expect("listed"), []);
    }

    #[test]
    fn a_reason_without_end_is_cut() {
        let folder = TempDir::new().expect("a folder");
        leave(&TEST, &asked(&folder), &Err(anyhow!("ä".repeat(REASON))));
        assert_eq!(take(folder.path()).expect("listed")[0].reason.len(), REASON);
    }
}
