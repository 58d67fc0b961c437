//! Traces of second machines whose process was killed. Such a trace is a file beside that of the first machine until it becomes a part of
//! that (see `repro`), and stays there if nobody is left to see to it. What is in it is not lost: it becomes that part later.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use jiff::Timestamp;
use ktstr_replay::repro::is_same_failure;
use ktstr_replay::run::Run;
use ktstr_replay::trace::record::Manifest;
use ktstr_replay::trace::record::manifest::{ReproAttempt, ReproInfo};
use ktstr_replay::trace::{Trace, append_segment};
use ktstr_replay::units::millis;
use ktstr_replay::watch::WatchLog;

use super::results::TRACE_SUFFIX;

/// Ends the name of a second machine's trace while it is being recorded.
const PART: &str = "repro";
/// What is said of how it ended.
const KILLED: &str = "its process was killed";

/// Where a second machine is recorded until it becomes a part of the trace at `first`.
pub fn beside(first: &Path) -> PathBuf {
    let name = first.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(TRACE_SUFFIX).unwrap_or(&name);
    first.with_file_name(format!("{stem}.{PART}{TRACE_SUFFIX}"))
}

/// The trace of the first machine, if `path` is named as that of a second one.
fn first_of(path: &Path) -> Option<PathBuf> {
    let stem = path.file_name()?.to_str()?.strip_suffix(TRACE_SUFFIX)?;
    // A number tells it from one that was left before.
    let unnumbered =
        stem.rsplit_once('.').filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
    let stem = unnumbered.map_or(stem, |(stem, _)| stem).strip_suffix(PART)?.strip_suffix('.')?;
    Some(path.with_file_name(format!("{stem}{TRACE_SUFFIX}")))
}

/// Make the traces of second machines in a folder parts of those of the first ones. Nobody may write into it. Returns the traces that
/// have such a part now, or those that stay as they are, with the reason.
///
/// # Errors
/// A folder that cannot be read.
pub fn take_in(folder: &Path) -> io::Result<Vec<(PathBuf, Result<()>)>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let pairs = paths.into_iter().filter_map(|path| Some((first_of(&path)?, path)));
    Ok(pairs
        .filter_map(|(first, second)| match take_in_one(&first, &second) {
            Ok(false) => None,
            Ok(true) => Some((first, Ok(()))),
            Err(error) => Some((second, Err(error))),
        })
        .collect())
}

/// Whether the trace at `second` is one of a second machine of the run at `first`, which it is a part of now.
fn take_in_one(first: &Path, second: &Path) -> Result<bool> {
    // What cannot be read is shown as it is by who lists traces.
    let (Ok(trace), Ok(more)) = (Trace::open(first), Trace::open(second)) else { return Ok(false) };
    let (Ok(of_first), Ok(of_second)) = (trace.manifest(), more.manifest()) else { return Ok(false) };
    // A test may be called as a part is.
    let test = |manifest: &Manifest| (manifest.test.package.clone(), manifest.test.name.clone());
    if test(of_first) != test(of_second) {
        return Ok(false);
    }
    let is_in = trace.segments().into_iter().any(|number| {
        let segment = trace.segment(number);
        segment
            .is_some_and(|segment| segment.manifest().is_ok_and(|of| of.started_at == of_second.started_at))
    });
    if !is_in {
        let watches = WatchLog::of(&more.events()).watches;
        let targets = watches.into_iter().map(|watch| watch.target).collect();
        let reproduced = is_same_failure(&Run::load(&trace), &Run::load(&more));
        let took_ms = millis(took(second, of_second));
        let attempt =
            ReproAttempt { seed: of_second.test.seed, reproduced, ended: KILLED.to_owned(), took_ms };
        let info = ReproInfo { attempts: vec![attempt], targets };
        append_segment(first, second, |manifest| manifest.repro = Some(info))
            .context("it could not be made a part of the first machine's trace")?;
    }
    fs::remove_file(second).context("it is a part of the first machine's trace, and could not be removed")?;
    Ok(true)
}

/// From the beginning of a recording until its file was last written.
fn took(path: &Path, manifest: &Manifest) -> Duration {
    let begun = manifest.started_at.parse::<Timestamp>().ok().map(SystemTime::from);
    let written = fs::metadata(path).and_then(|of| of.modified()).ok();
    begun.zip(written).and_then(|(begun, written)| written.duration_since(begun).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use ktstr_replay::trace::TraceWriter;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_second_machine_is_recorded_beside_the_first() {
        assert_eq!(beside(Path::new("/t/a.b.trace.zst")), Path::new("/t/a.b.repro.trace.zst"));
        for second in ["/t/a.b.repro.trace.zst", "/t/a.b.repro.2.trace.zst"] {
            assert_eq!(
                first_of(Path::new(second)).as_deref(),
                Some(Path::new("/t/a.b.trace.zst")),
                "{second}"
            );
        }
        for other in [
            "/t/a.trace.zst",
            "/t/a.2.trace.zst",
            "/t/repro.trace.zst",
            "/t/a.repro",
            "/t/a.repro.x.trace.zst",
        ] {
            assert_eq!(first_of(Path::new(other)), None, "{other}");
        }
    }

    fn manifest(test: &str, started_at: &str) -> Manifest {
        let mut manifest = Manifest { started_at: started_at.to_owned(), ..Manifest::default() };
        manifest.test.name = test.to_owned();
        manifest
    }

    /// Its process was killed: no footer, no verdict.
    fn cut_off(path: &Path, manifest: &Manifest) {
        TraceWriter::create(path, manifest).and_then(|mut writer| writer.commit()).expect("a trace");
    }

    fn whole(path: &Path, manifest: &Manifest) {
        TraceWriter::create(path, manifest).and_then(TraceWriter::finish).expect("a trace");
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = folder.read_dir().expect("a folder").flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// It stayed beside the first for ever, as another trace of a test that had one.
    #[test]
    fn a_second_machines_trace_that_is_left_becomes_a_part_of_the_first_one_once() {
        let dir = TempDir::new().expect("a folder");
        let first = dir.path().join("a.trace.zst");
        whole(&first, &manifest("a", "2026-11-27T01:11:52Z"));
        let of_second = manifest("a", "2026-11-27T01:12:52Z");
        for _ in 0..2 {
            cut_off(&beside(&first), &of_second);
            let taken = take_in(dir.path()).expect("a folder");
            assert!(matches!(taken.as_slice(), [(path, Ok(()))] if *path == first), "{taken:?}");
            assert_eq!(names(dir.path()), ["a.trace.zst"]);
            // The second time it was removed, being there already.
            let trace = Trace::open(&first).expect("a trace");
            assert!(trace.is_finalized() && trace.verify().is_clean());
            assert_eq!(trace.segments(), [1]);
            let repro = trace.segment(1).expect("a part").manifest().expect("a manifest").repro.clone();
            let attempts = repro.expect("what it was for").attempts;
            assert!(
                matches!(attempts.as_slice(), [one] if one.ended == KILLED && !one.reproduced),
                "{attempts:?}"
            );
            assert!(attempts[0].took_ms < 1000 * 60 * 60 * 24 * 366 * 100);
        }
        assert!(take_in(dir.path()).expect("a folder").is_empty());
    }

    #[test]
    fn what_is_no_second_machines_stays_as_it_is() {
        let dir = TempDir::new().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        // Tests `a` and `a::repro`; one whose first trace is gone; one that is no trace.
        whole(&path("a.trace.zst"), &manifest("a", "1"));
        whole(&path("a.repro.trace.zst"), &manifest("a::repro", "2"));
        cut_off(&path("b.repro.trace.zst"), &manifest("b", "3"));
        whole(&path("c.trace.zst"), &manifest("c", "4"));
        fs::write(path("c.repro.trace.zst"), "no trace").expect("a file");
        let before = names(dir.path());
        assert!(take_in(dir.path()).expect("a folder").is_empty());
        assert_eq!(names(dir.path()), before);
        assert!(take_in(&path("none")).is_err());
    }
}
