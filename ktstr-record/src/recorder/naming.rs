//! The name of a trace: it is looked for and taken in one step, so that no two runs of a folder want the same.

use std::io;
use std::iter;
use std::path::{Path, PathBuf};

use ktstr_replay::trace::record::{ClaimRecord, Manifest};
use ktstr_replay::trace::{TraceWriter, WriteError};

/// How traces are named.
pub const TRACE_SUFFIX: &str = ".trace.zst";

/// Tries of a test in one folder. More are a loop that nobody meant.
const MOST_TRIES: u32 = 10_000;

/// Begin a trace at `wanted`, or where there is one already at the same name with a number: `x.2.trace.zst` is the second
/// of `x.trace.zst`. The file is made by whoever finds that it is not there, in one step.
///
/// # Errors
/// A file that cannot be made.
pub fn begin_trace(wanted: &Path, manifest: &Manifest) -> Result<(PathBuf, TraceWriter), WriteError> {
    let numbered = (2..MOST_TRIES).map(|number| with_number(wanted, number));
    for path in iter::once(wanted.to_owned()).chain(numbered) {
        match TraceWriter::create(&path, manifest) {
            Ok(writer) => return Ok((path, writer)),
            Err(WriteError::Create { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let source = io::Error::from(io::ErrorKind::AlreadyExists);
    Err(WriteError::Create { path: wanted.to_owned(), source })
}

/// As [`begin_trace`], and write the claims into it. They are in the file when this returns.
///
/// # Errors
/// A file that cannot be made or written.
pub(super) fn begin_with_claims(
    wanted: &Path,
    manifest: &Manifest,
    claims: &[ClaimRecord],
) -> Result<(PathBuf, TraceWriter), WriteError> {
    let (path, mut writer) = begin_trace(wanted, manifest)?;
    for claim in claims {
        writer.claim(claim)?;
    }
    writer.commit()?;
    Ok((path, writer))
}

fn with_number(path: &Path, number: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = match name.strip_suffix(TRACE_SUFFIX) {
        Some(stem) => format!("{stem}.{number}{TRACE_SUFFIX}"),
        None => format!("{name}.{number}"),
    };
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use super::*;

    /// Two packages with a test of the same name wanted the same file, and the later one failed when it had booted.
    #[test]
    fn runs_that_begin_at_once_have_a_file_each() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = dir.path().join("a.sched.stall.trace.zst");
        let paths: Vec<PathBuf> = thread::scope(|scope| {
            let begin = || {
                let (path, mut writer) = begin_trace(&wanted, &Manifest::default()).unwrap();
                writer.commit().unwrap();
                path
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(begin)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let names: BTreeSet<_> =
            paths.iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
        assert_eq!(names.len(), 8, "{paths:?}");
        assert!(names.contains("a.sched.stall.trace.zst") && names.contains("a.sched.stall.8.trace.zst"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_and_no_search() {
        let dir = tempfile::tempdir().unwrap();
        let error = begin_trace(&dir.path().join("none/x.trace.zst"), &Manifest::default()).err();
        assert!(matches!(error, Some(WriteError::Create { .. })), "{error:?}");
    }

    #[test]
    fn a_name_without_the_suffix_gets_its_number_at_the_end() {
        assert_eq!(with_number(Path::new("/t/x"), 3), Path::new("/t/x.3"));
    }
}
