//! Slim: a smaller file that says the same, or says what it does not.

use std::fs;

use ktstr_replay::memory::{LeftOut, Memory};
use ktstr_replay::slim::{Dropped, KeepCheckpoints, KeepPages, SlimError, SlimOptions, slim};
use ktstr_replay::trace::record::{LossKind, PAGE_BYTES};
use ktstr_replay::trace::{Trace, WriterOptions};
use ktstr_replay::units::GuestPhys;

use crate::small::{write_small, write_small_cut};

/// All of guest memory at a checkpoint; `None` for pages that cannot be read.
fn memory(trace: &Trace, index: u32) -> Vec<Option<Vec<u8>>> {
    let memory = trace.checkpoint_memory(index).unwrap();
    let frames = memory.ram().iter().flat_map(|range| (range.start..range.end).step_by(PAGE_BYTES));
    let pages = frames.map(|at| {
        let mut page = vec![0; PAGE_BYTES];
        memory.read(GuestPhys(at), &mut page).ok().map(|()| page)
    });
    pages.collect()
}

#[test]
fn nothing_is_lost_unless_asked_for_and_the_old_file_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.trace.zst"), dir.path().join("new.trace.zst"));
    write_small(&old, WriterOptions::default()).finish().unwrap();
    let bytes = fs::read(&old).unwrap();
    let slimmed = slim(&old, &new, &SlimOptions::default()).unwrap();
    assert_eq!(fs::read(&old).unwrap(), bytes);
    assert_eq!(slimmed.from_bytes, bytes.len() as u64);
    assert_eq!(slimmed.to_bytes, fs::metadata(&new).unwrap().len());

    let (before, after) = (Trace::open(&old).unwrap(), Trace::open(&new).unwrap());
    assert!(after.verify().is_clean(), "{:?}", after.verify());
    assert_eq!(after.manifest().unwrap(), before.manifest().unwrap());
    assert_eq!(after.events(), before.events());
    assert_eq!(after.claims(), before.claims());
    assert_eq!(after.losses(), before.losses());
    assert_eq!(after.clocks(), before.clocks());
    assert_eq!(after.verdict_json().unwrap(), before.verdict_json().unwrap());
    let samples = |trace: &Trace| trace.samples().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(samples(&after), samples(&before));
    assert!(before.checkpoints().len() > 1, "too few checkpoints to test with");
    for info in before.checkpoints() {
        assert_eq!(memory(&after, info.index), memory(&before, info.index));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "something else was left behind");
}

#[test]
fn what_an_unfinished_trace_has_after_its_last_commit_is_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.trace.zst"), dir.path().join("new.trace.zst"));
    write_small_cut(&old);
    let lost = Trace::open(&old).unwrap().completeness().uncommitted_records;
    assert!(lost > 0);
    slim(&old, &new, &SlimOptions::default()).unwrap();
    let losses = Trace::open(&new).unwrap().losses();
    assert!(losses.iter().any(|loss| loss.kind == LossKind::Records && loss.count == lost), "{losses:?}");
}

/// The trace has no kernel that could be read, so its pages are of use to no view.
#[test]
fn pages_that_no_view_reads_are_left_out_for_that_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.trace.zst"), dir.path().join("new.trace.zst"));
    write_small(&old, WriterOptions::default()).finish().unwrap();
    let options = SlimOptions { pages: KeepPages::Read, ..SlimOptions::default() };
    slim(&old, &new, &options).unwrap();
    let (before, after) = (Trace::open(&old).unwrap(), Trace::open(&new).unwrap());
    assert!(after.verify().is_clean(), "{:?}", after.verify());
    for info in before.checkpoints() {
        let is_zero = |page: &Vec<u8>| page.iter().all(|byte| *byte == 0);
        let zeros = memory(&before, info.index).into_iter().map(|page| page.filter(is_zero));
        assert_eq!(memory(&after, info.index), zeros.collect::<Vec<_>>());
        let left_out = after.checkpoint_memory(info.index).unwrap().left_out();
        assert!(left_out.iter().any(|(_, why)| *why == LeftOut::NotRead), "{left_out:?}");
    }
}

#[test]
fn only_the_checkpoints_that_are_asked_for_are_kept_and_the_rest_is_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.trace.zst"), dir.path().join("new.trace.zst"));
    write_small(&old, WriterOptions::default()).finish().unwrap();
    let before = Trace::open(&old).unwrap();
    let last = before.checkpoints().last().unwrap().index;
    let options = SlimOptions { keep: KeepCheckpoints::Last(1), ..SlimOptions::default() };
    assert_eq!(slim(&old, &new, &options).unwrap().checkpoints, 1);
    let after = Trace::open(&new).unwrap();
    assert!(after.verify().is_clean(), "{:?}", after.verify());
    assert_eq!(after.checkpoints().len(), 1);
    assert_eq!(memory(&after, 0), memory(&before, last));
    assert!(after.losses().iter().any(|loss| loss.kind == LossKind::Pages && loss.count == u64::from(last)));
    for sample in after.samples().map(Result::unwrap) {
        assert!(sample.checkpoint.is_none_or(|index| index == 0), "{:?}", sample.checkpoint);
    }

    let quiet = dir.path().join("quiet.trace.zst");
    let options = SlimOptions { drop: vec![Dropped::Console], ..SlimOptions::default() };
    assert_eq!(slim(&old, &quiet, &options).unwrap().dropped[&Dropped::Console], 5);
    let quiet = Trace::open(&quiet).unwrap();
    assert!(quiet.events().is_empty());
    assert!(quiet.losses().iter().any(|loss| loss.kind == LossKind::Records && loss.count == 5));

    let none = dir.path().join("none.trace.zst");
    let options = SlimOptions { drop: vec![Dropped::Checkpoints], ..SlimOptions::default() };
    slim(&old, &none, &options).unwrap();
    let none = Trace::open(&none).unwrap();
    assert!(none.checkpoints().is_empty());
    assert!(!none.records().iter().any(|record| record.kind == 5), "pages that nothing refers to");
}

#[test]
fn a_tag_that_has_no_checkpoint_and_a_file_that_exists_are_errors_that_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.trace.zst"), dir.path().join("new.trace.zst"));
    write_small(&old, WriterOptions::default()).finish().unwrap();
    let options = SlimOptions { keep: KeepCheckpoints::Tag("nowhere".into()), ..SlimOptions::default() };
    assert!(matches!(slim(&old, &new, &options), Err(SlimError::NoSuchTag { .. })));
    // Memory without a kernel in it: what its pages are cannot be told, so nothing can be redacted.
    let options = SlimOptions { redact: true, ..SlimOptions::default() };
    assert!(matches!(slim(&old, &new, &options), Err(SlimError::Pages { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    fs::write(&new, "mine").unwrap();
    assert!(matches!(slim(&old, &new, &SlimOptions::default()), Err(SlimError::Exists(_))));
    assert_eq!(fs::read(&new).unwrap(), b"mine");
}
