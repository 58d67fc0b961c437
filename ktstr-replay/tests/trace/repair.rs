//! Repair: a new file from what is intact, the old one untouched.

use std::fs;

use ktstr_replay::trace::record::LossKind;
use ktstr_replay::trace::{Kind, RepairError, Trace, WriterOptions, repair};

use crate::small::{event, write_small, write_small_cut};

#[test]
fn an_unfinished_trace_becomes_a_finished_one_with_the_same_contents() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.trace.zst"), dir.path().join("new.trace.zst"));
    let bytes = write_small_cut(&old);
    let before = Trace::open(&old).unwrap();

    let repaired = repair(&old, &new).unwrap();
    assert_eq!(fs::read(&old).unwrap(), bytes, "the old file was touched");
    let trace = Trace::open(&new).unwrap();
    assert!(trace.verify().is_clean(), "{:?}", trace.verify());
    assert_eq!(trace.manifest().unwrap(), before.manifest().unwrap());
    assert_eq!(trace.events(), before.events());
    assert_eq!(trace.checkpoints(), before.checkpoints());
    assert_eq!(repaired.uncommitted_records, 6);
    let losses = trace.losses();
    assert!(losses.iter().any(|loss| loss.kind == LossKind::Records && loss.count == 6), "{losses:?}");
    assert!(losses.iter().any(|loss| loss.detail.contains("before the record does")), "{losses:?}");
}

#[test]
fn a_damaged_record_is_left_behind_and_named_in_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.trace.zst"), dir.path().join("new.trace.zst"));
    write_small(&old, WriterOptions::default()).finish().unwrap();
    let mut bytes = fs::read(&old).unwrap();
    let events: Vec<_> = Trace::open(&old)
        .unwrap()
        .records()
        .iter()
        .filter(|r| r.kind == Kind::Events.code())
        .copied()
        .collect();
    bytes[events[0].offset as usize + 140] ^= 1;
    fs::write(&old, &bytes).unwrap();

    let repaired = repair(&old, &new).unwrap();
    assert_eq!(repaired.faults.len(), 1);
    assert_eq!(repaired.faults[0].offset, events[0].offset);
    let trace = Trace::open(&new).unwrap();
    assert!(trace.verify().is_clean());
    assert_eq!(trace.events(), [event(3), event(4)]);
    let detail = trace.losses().pop().unwrap().detail;
    assert!(detail.contains(&format!("offset {}", events[0].offset)), "{detail}");
}

#[test]
fn repair_overwrites_nothing_and_leaves_nothing_of_a_foreign_file() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.trace.zst"), dir.path().join("new.trace.zst"));
    write_small(&old, WriterOptions::default()).finish().unwrap();
    let bytes = fs::read(&old).unwrap();
    assert!(matches!(repair(&old, &old), Err(RepairError::Write(_))));
    assert_eq!(fs::read(&old).unwrap(), bytes);

    let text = dir.path().join("text");
    fs::write(&text, "not a trace").unwrap();
    assert!(matches!(repair(&text, &new), Err(RepairError::Open(_))));
    assert!(!new.exists());
}
