//! What traces come in: pipes, gzip files, zip archives, with something behind them, two in one file.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use ktstr_replay::slim::{KeepPages, SlimError, SlimOptions, slim_for_upload};
use ktstr_replay::trace::{AfterEnd, Trace, TraceError, WriterOptions, repair};
use rawzip::{CompressionMethod, ZipArchiveWriter};
use tempfile::TempDir;

use crate::small::write_small;

/// A small trace, finished or not, and its bytes.
fn small(dir: &TempDir, name: &str, finish: bool) -> (PathBuf, Vec<u8>) {
    let path = dir.path().join(name);
    let writer = write_small(&path, WriterOptions::default());
    if finish {
        writer.finish().unwrap();
    }
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

fn is_the_trace(path: &Path, bytes: &[u8]) {
    let (found, expected) = (Trace::open(path).unwrap(), Trace::from_bytes(bytes.to_vec()).unwrap());
    assert_eq!(found.records(), expected.records());
    assert!(found.verify().is_clean(), "{:?}", found.verify());
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut archive = ZipArchiveWriter::new(&mut packed);
    archive.new_dir("folder/").create().unwrap();
    for (name, bytes) in entries {
        let (mut entry, config) =
            archive.new_file(name).compression_method(CompressionMethod::DEFLATE).start().unwrap();
        let mut writer = config.wrap(DeflateEncoder::new(&mut entry, Compression::default()));
        writer.write_all(bytes).unwrap();
        let (encoder, descriptor) = writer.finish().unwrap();
        encoder.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    packed
}

#[test]
fn a_pipe_is_read_as_a_file_is() {
    let dir = tempfile::tempdir().unwrap();
    let (_, bytes) = small(&dir, "t.trace.zst", true);
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).stdout(Stdio::null()).status().unwrap().success());
    thread::scope(|scope| {
        scope.spawn(|| fs::write(&pipe, &bytes).unwrap());
        is_the_trace(&pipe, &bytes);
    });
}

#[test]
fn what_forges_take_is_opened_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (_, bytes) = small(&dir, "t.trace.zst", true);
    let at = dir.path().join("packed");
    for packed in [
        gzip(&bytes),
        zip(&[("t.trace.zst", &bytes)]),
        zip(&[("README.md", b"read me"), ("t.trace.zst", &bytes)]),
        // As a forge's archive of an attachment.
        zip(&[("t.trace.zst.gz", &gzip(&bytes))]),
    ] {
        fs::write(&at, packed).unwrap();
        is_the_trace(&at, &bytes);
    }
}

#[test]
fn an_archive_that_does_not_say_which_trace_is_one_error_that_does() {
    let dir = tempfile::tempdir().unwrap();
    let (_, bytes) = small(&dir, "t.trace.zst", true);
    let at = dir.path().join("packed");
    let error = |packed: Vec<u8>| {
        fs::write(&at, packed).unwrap();
        match Trace::open(&at).err() {
            Some(TraceError::Io { source, .. }) => source.to_string(),
            Some(other) => other.to_string(),
            None => panic!("it opens"),
        }
    };
    let two = error(zip(&[("a.trace.zst", &bytes), ("b.trace.zst", &bytes)]));
    assert!(two.contains("2 files") && two.contains("a.trace.zst, b.trace.zst"), "{two}");
    assert!(error(zip(&[])).contains("is empty"));
    let mut cut = zip(&[("t.trace.zst", &bytes)]);
    cut.truncate(cut.len() / 2);
    assert!(error(cut).contains("zip archive could not be unpacked"));
    let mut cut = gzip(&bytes);
    cut.truncate(cut.len() / 2);
    assert!(error(cut).contains("gzip data could not be unpacked"));
    assert!(error(gzip(b"no trace")).contains("is not a ktstr trace"));
}

#[test]
fn what_follows_a_whole_trace_costs_it_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = small(&dir, "t.trace.zst", true);
    for junk in [&b"\n"[..], b"\r\n", &[0; 100_000], &[b'x'; 70_000]] {
        fs::write(&path, [&bytes, junk].concat()).unwrap();
        let trace = Trace::open(&path).unwrap();
        assert!(trace.is_finalized() && trace.verify().is_clean(), "{:?}", trace.verify());
        let (offset, junk_len) = (bytes.len() as u64, junk.len() as u64);
        let after = AfterEnd { offset, bytes: junk_len, is_trace: false, skipped: 0 };
        assert_eq!(trace.after_end(), Some(after));
        let to = dir.path().join("repaired");
        let repaired = repair(&path, &to).unwrap();
        assert_eq!((repaired.junk_bytes, repaired.faults), (junk.len() as u64, vec![]));
        assert!(Trace::open(&to).unwrap().verify().is_clean());
        fs::remove_file(to).unwrap();
    }
    assert_eq!(Trace::from_bytes(bytes).unwrap().after_end(), None);
}

#[test]
fn a_trace_behind_a_newline_is_found_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (_, bytes) = small(&dir, "one", true);
    let joined = dir.path().join("joined");
    fs::write(&joined, [bytes.as_slice(), b"\r\n", &bytes].concat()).unwrap();
    let len = bytes.len() as u64;
    let after = AfterEnd { offset: len + 2, bytes: len, is_trace: true, skipped: 2 };
    assert_eq!(Trace::open(&joined).unwrap().after_end(), Some(after));
    let to = dir.path().join("new");
    let repaired = repair(&joined, &to).unwrap();
    let (second, of_second) = *repaired.next.unwrap();
    assert_eq!((repaired.junk_bytes, of_second.junk_bytes), (2, 0));
    for path in [to, second] {
        assert!(Trace::open(&path).unwrap().verify().is_clean(), "{}", path.display());
    }
}

#[test]
fn gzip_data_in_parts_is_one_file_and_what_follows_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (_, bytes) = small(&dir, "t.trace.zst", true);
    let at = dir.path().join("packed");
    let (first, second) = bytes.split_at(bytes.len() / 2);
    fs::write(&at, [gzip(first), gzip(second), b"\n".to_vec()].concat()).unwrap();
    is_the_trace(&at, &bytes);
    let after = Trace::open(&at).unwrap().after_end().unwrap();
    assert_eq!((after.offset, after.bytes, after.is_trace), (bytes.len() as u64, 1, false));
}

#[test]
fn of_joined_traces_the_next_is_named_and_repair_makes_a_file_of_each() {
    for (first_is_finished, second_is_finished) in
        [(true, true), (true, false), (false, true), (false, false)]
    {
        let dir = tempfile::tempdir().unwrap();
        let (_, first) = small(&dir, "one", first_is_finished);
        let (_, second) = small(&dir, "two", second_is_finished);
        let joined = dir.path().join("joined");
        fs::write(&joined, [first.as_slice(), &second, &first].concat()).unwrap();
        let trace = Trace::open(&joined).unwrap();
        let case = format!("{first_is_finished} {second_is_finished}");
        assert_eq!(trace.is_finalized(), first_is_finished, "{case}");
        assert_eq!(trace.records(), Trace::from_bytes(first.clone()).unwrap().records(), "{case}");
        let after = trace.after_end().unwrap();
        assert_eq!((after.offset, after.is_trace), (first.len() as u64, true), "{case}");
        let next = trace.next_in_file().unwrap().unwrap();
        assert_eq!(next.records(), Trace::from_bytes(second.clone()).unwrap().records(), "{case}");

        let to = dir.path().join("new.trace.zst");
        let repaired = repair(&joined, &to).unwrap();
        let (second_file, of_second) = *repaired.next.unwrap();
        assert_eq!(second_file, dir.path().join("new-2.trace.zst"));
        let (third_file, of_third) = *of_second.next.unwrap();
        assert_eq!((third_file, of_third.next), (dir.path().join("new-3.trace.zst"), None));
        for (name, bytes) in [("new", &first), ("new-2", &second), ("new-3", &first)] {
            let trace = Trace::open(&dir.path().join(format!("{name}.trace.zst"))).unwrap();
            assert!(trace.verify().is_clean(), "{case}");
            assert_eq!(trace.events(), Trace::from_bytes(bytes.clone()).unwrap().events(), "{case}");
        }
    }
}

#[test]
fn a_trace_that_was_cut_before_another_does_not_hide_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_, first) = small(&dir, "one", true);
    let (_, second) = small(&dir, "two", true);
    let joined = dir.path().join("joined");
    for cut in (200..first.len()).step_by(61) {
        fs::write(&joined, [&first[..cut], &second].concat()).unwrap();
        let trace = Trace::open(&joined).unwrap();
        let after =
            trace.after_end().unwrap_or_else(|| panic!("cut at {cut}: the second trace is not named"));
        assert_eq!((after.offset, after.is_trace), (cut as u64, true), "cut at {cut}");
        let next = trace.next_in_file().unwrap().unwrap();
        assert!(next.verify().is_clean(), "cut at {cut}");
    }
}

#[test]
fn a_trace_for_a_forge_is_short_enough_or_says_what_it_consists_of() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = small(&dir, "t.trace.zst", true);
    let trace = Trace::open(&path).unwrap();
    let to = dir.path().join("t.trace.zst.gz");
    let options = SlimOptions { level: 3, ..SlimOptions::default() };
    let small = slim_for_upload(&trace, &to, &options, &[KeepPages::Lean], 100).unwrap_err();
    assert!(matches!(&small, SlimError::TooLarge { max_bytes: 100, .. }), "{small}");
    assert!(small.to_string().contains("MB guest memory"), "{small}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was left behind");

    // The pages that nothing reads are what makes it too long.
    let lean = slim_for_upload(&trace, &to, &options, &[KeepPages::Lean], 1 << 20).unwrap().slimmed.to_bytes;
    fs::remove_file(&to).unwrap();
    let choices = [KeepPages::Lean, KeepPages::Kernel, KeepPages::Read];
    let upload = slim_for_upload(&trace, &to, &options, &choices, lean - 1).unwrap();
    assert_eq!(upload.pages, KeepPages::Read);
    assert_eq!(upload.slimmed.to_bytes, File::open(&to).unwrap().metadata().unwrap().len());
    assert!(Trace::open(&to).unwrap().verify().is_clean());
    assert_eq!(Trace::open(&to).unwrap().events(), trace.events());
    let again = slim_for_upload(&trace, &to, &options, &choices, 1 << 20);
    assert!(matches!(again, Err(SlimError::Exists(_))));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "something was left behind");
}
