//! Segments: several machines of one run in one file, each a trace of its own.

use std::fs;
use std::path::{Path, PathBuf};

use ktstr_replay::judge::CheckSource;
use ktstr_replay::report;
use ktstr_replay::run::Run;
use ktstr_replay::slim::{Dropped, KeepPages, SlimOptions, slim, slim_for_upload};
use ktstr_replay::trace::record::Manifest;
use ktstr_replay::trace::record::manifest::{ReproAttempt, ReproInfo};
use ktstr_replay::trace::{AppendError, Trace, append_segment, repair};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces").join(name)
}

fn info() -> ReproInfo {
    let attempt = ReproAttempt { seed: 7, reproduced: true, ended: "it failed".into(), took_ms: 3 };
    ReproInfo { attempts: vec![attempt], targets: vec!["enqueue_task_scx".into()] }
}

/// The golden stall, with the golden steady run as its second machine.
fn joined(folder: &Path) -> PathBuf {
    let path = folder.join("joined.trace.zst");
    fs::copy(golden("stall.trace.zst"), &path).unwrap();
    let number = append_segment(&path, &golden("steady.trace.zst"), |manifest: &mut Manifest| {
        manifest.repro = Some(info())
    });
    assert_eq!(number.unwrap(), 1);
    path
}

/// Begins the part of a report about the second machine.
const AGAIN: &str = "run again, to see how the scheduler died\n";

/// What is said of a trace: its report, judged anew, without the part about the second machine.
fn judged(trace: &Trace) -> String {
    let run = Run::load(trace);
    let report = report::render(&run, &run.judge(None, CheckSource::Recorded));
    let (before, rest) = report.split_once(AGAIN).unwrap_or((&report, ""));
    let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
    format!("{before}{after}")
}

/// That a segment says what the trace that it was made of says.
fn assert_same(segment: &Trace, name: &str) {
    let alone = Trace::open(&golden(name)).unwrap();
    assert_eq!(segment.events(), alone.events(), "{name}");
    assert_eq!(segment.checkpoints(), alone.checkpoints(), "{name}");
    let samples = |trace: &Trace| trace.samples().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(samples(segment), samples(&alone), "{name}");
    assert_eq!(segment.verdict_json().unwrap(), alone.verdict_json().unwrap(), "{name}");
    // What is cut off of a file is said.
    if segment.is_finalized() {
        assert_eq!(judged(segment), judged(&alone), "{name}");
    }
}

#[test]
fn each_machine_is_a_trace_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let trace = Trace::open(&joined(folder.path())).unwrap();
    assert!(trace.verify().is_clean(), "{:?}", trace.verify());
    assert_eq!((trace.segment_number(), trace.segments()), (0, vec![1]));
    assert!(trace.segment(2).is_none());
    let second = trace.segment(1).unwrap();
    assert_eq!(second.manifest().unwrap().repro, Some(info()));
    let run = Run::load(&trace);
    let report = report::render(&run, &run.judge(None, CheckSource::Recorded));
    assert!(
        report.contains(AGAIN) && report.contains("again, in 1 of 1 attempt (100 %); the last is segment 1"),
        "{report}"
    );
    assert_same(&trace, "stall.trace.zst");
    assert_same(&second, "steady.trace.zst");
    assert_same(&second.segment(0).unwrap(), "stall.trace.zst");
    // From memory, too.
    let bytes = fs::read(trace.path()).unwrap();
    assert_same(&Trace::from_bytes(bytes).unwrap().segment(1).unwrap(), "steady.trace.zst");
}

#[test]
fn the_other_machines_are_dropped_when_that_is_asked_for_or_nothing_else_makes_it_small() {
    let folder = tempfile::tempdir().unwrap();
    let trace = Trace::open(&joined(folder.path())).unwrap();
    let kept = SlimOptions { level: 3, ..SlimOptions::default() };
    let drop = SlimOptions { drop: vec![Dropped::Segments], ..kept.clone() };
    let first = folder.path().join("first");
    let slimmed = slim(trace.path(), &first, &drop).unwrap();
    assert_eq!(slimmed.dropped.get(&Dropped::Segments), Some(&1));
    let alone = Trace::open(&first).unwrap();
    assert!(alone.verify().is_clean() && alone.segments().is_empty());
    let losses = alone.losses();
    let said = losses.iter().find(|loss| loss.detail.starts_with("segments dropped on purpose"));
    assert_eq!(said.map(|loss| loss.count), Some(1), "{losses:?}");
    assert_eq!(alone.events(), trace.events());

    // For a forge they go last.
    let [with, without, to] = ["with", "without", "to"].map(|name| folder.path().join(name));
    let all = slim_for_upload(&trace, &with, &kept, &[KeepPages::Lean], 1 << 30).unwrap();
    assert!(all.slimmed.dropped.is_empty() && Trace::open(&with).unwrap().segments() == [1]);
    let small =
        slim_for_upload(&trace, &without, &drop, &[KeepPages::Lean], 1 << 30).unwrap().slimmed.to_bytes;
    assert!(small < all.slimmed.to_bytes);
    let most = all.slimmed.to_bytes - 1;
    let upload = slim_for_upload(&trace, &to, &kept, &[KeepPages::Lean], most).unwrap();
    assert_eq!(upload.slimmed.dropped.get(&Dropped::Segments), Some(&1));
    assert!(Trace::open(&to).unwrap().segments().is_empty());
}

#[test]
fn a_third_machine_comes_behind_the_second() {
    let folder = tempfile::tempdir().unwrap();
    let path = joined(folder.path());
    assert_eq!(append_segment(&path, &golden("stall.trace.zst"), |_| {}).unwrap(), 2);
    let trace = Trace::open(&path).unwrap();
    assert!(trace.verify().is_clean());
    assert_eq!(trace.segments(), [1, 2]);
    assert_same(&trace.segment(1).unwrap(), "steady.trace.zst");
    assert_same(&trace.segment(2).unwrap(), "stall.trace.zst");
}

#[test]
fn a_file_that_cannot_be_appended_to_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = joined(folder.path());
    let before = fs::read(&path).unwrap();
    let no_trace = folder.path().join("no trace");
    fs::write(&no_trace, "nothing").unwrap();
    let error = append_segment(&path, &no_trace, |_| {}).unwrap_err();
    assert!(matches!(error, AppendError::Open(_)), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
}

/// The disk may fail while the first is copied: what was read badly was left out, and the file replaced.
#[test]
fn a_file_of_which_a_record_cannot_be_read_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = joined(folder.path());
    let trace = Trace::open(&path).unwrap();
    let sample = *trace.records().iter().find(|record| record.kind_name() == "sample").unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[sample.offset as usize + 140] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = append_segment(&path, &golden("steady.trace.zst"), |_| {}).unwrap_err();
    assert!(matches!(error, AppendError::NotWhole(1)), "{error}");
    assert!(fs::read(&path).unwrap() == bytes);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn damage_to_one_machine_costs_the_other_nothing_and_verifying_finds_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = joined(folder.path());
    let trace = Trace::open(&path).unwrap();
    let record = trace.segment(1).unwrap().records()[1];
    let mut bytes = fs::read(&path).unwrap();
    bytes[record.offset as usize + 140] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let trace = Trace::open(&path).unwrap();
    assert_same(&trace, "stall.trace.zst");
    let verification = trace.verify();
    let found: Vec<u64> = verification.faults.iter().map(|fault| fault.offset).collect();
    assert_eq!(found, [record.offset]);

    let repaired = folder.path().join("repaired");
    assert_eq!(repair(&path, &repaired).unwrap().faults.len(), 1);
    let trace = Trace::open(&repaired).unwrap();
    assert!(trace.verify().is_clean());
    assert_eq!(trace.segments(), [1]);
    assert_eq!(trace.segment(1).unwrap().manifest().unwrap().repro, Some(info()));
}

#[test]
fn a_trace_that_was_cut_has_what_was_committed_of_each_machine() {
    let folder = tempfile::tempdir().unwrap();
    let path = joined(folder.path());
    let bytes = fs::read(&path).unwrap();
    // The tail and the end of the index are gone: the headers are gone through.
    let trace = Trace::from_bytes(bytes[..bytes.len() - 100].to_vec()).unwrap();
    assert!(!trace.is_finalized());
    assert_same(&trace.segment(1).unwrap(), "steady.trace.zst");
}

#[test]
fn a_slim_trace_has_every_machine() {
    let folder = tempfile::tempdir().unwrap();
    let path = joined(folder.path());
    for redact in [false, true] {
        let to = folder.path().join(format!("slim-{redact}"));
        slim(&path, &to, &SlimOptions { level: 1, redact, ..SlimOptions::default() }).unwrap();
        let trace = Trace::open(&to).unwrap();
        assert_eq!(trace.segments(), [1]);
        let second = trace.segment(1).unwrap();
        let alone = Trace::open(&golden("steady.trace.zst")).unwrap();
        assert_eq!(second.sample_count(), alone.sample_count());
        assert_eq!(second.checkpoints().len(), alone.checkpoints().len());
        let repro = second.manifest().unwrap().repro.clone().unwrap();
        assert_eq!(repro.targets, info().targets);
        assert_eq!(repro.attempts[0].ended == "it failed", !redact, "{repro:?}");
        assert!(second.verdict_json().unwrap().is_some());
    }
}
