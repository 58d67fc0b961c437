//! Each subcommand on small traces.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ktstr_replay::trace::record::{Loss, LossKind, Manifest};
use ktstr_replay::trace::{Trace, TraceWriter, append_segment};
use ktstr_replay::units::HostNs;

use super::info::Info;
use super::repair::RepairedTrace;
use super::verify::{Verified, VerifyArgs};
use crate::cli::commands::CommandArgs;

fn written(dir: &Path, finish: bool) -> PathBuf {
    let path = dir.join(if finish { "finished.trace.zst" } else { "killed.trace.zst" });
    let mut manifest = Manifest { taints: vec!["emulated".to_owned()], ..Manifest::default() };
    manifest.test.name = "demo::\x1b[31mred".to_owned();
    let mut writer = TraceWriter::create(&path, &manifest).unwrap();
    let loss = Loss { host_ns: HostNs(1), kind: LossKind::Kmsg, count: 3, detail: "ring full".to_owned() };
    writer.loss(&loss).unwrap();
    if finish {
        writer.finish().unwrap();
    }
    path
}

#[test]
fn info_tells_taints_losses_and_sizes_and_sends_no_control_characters() {
    let dir = tempfile::tempdir().unwrap();
    let info = Info::of(&Trace::open(&written(dir.path(), true)).unwrap());
    let text = info.text();
    for expected in ["emulated", "3 x Kmsg: ring full", "finished", "demo::red", "\nloss "] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    assert!(!text.contains('\x1b'));
    let json = serde_json::to_value(&info).unwrap();
    assert_eq!(json["kinds"][0]["kind"], "manifest");
    assert_eq!(json["losses"][0]["count"], 3);
    assert_eq!(json["manifest"]["taints"][0], "emulated");
}

#[test]
fn info_names_the_further_machines_where_there_are_any() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), true);
    assert!(!Info::of(&Trace::open(&path).unwrap()).text().contains("segments"));
    let second = dir.path().join("second.trace.zst");
    TraceWriter::create(&second, &Manifest::default()).unwrap().finish().unwrap();
    append_segment(&path, &second, |_| {}).unwrap();
    let info = Info::of(&Trace::open(&path).unwrap());
    assert!(info.text().contains("\nsegments     1 besides; "), "{}", info.text());
    assert_eq!(serde_json::to_value(&info).unwrap()["segments"], serde_json::json!([1]));
}

#[test]
fn verify_fails_for_an_unfinished_trace_and_passes_for_its_repair() {
    let dir = tempfile::tempdir().unwrap();
    let killed = written(dir.path(), false);
    let verify = |trace: &Path| VerifyArgs { trace: trace.to_owned(), json: true }.run().unwrap();
    assert_eq!(verify(&killed), ExitCode::FAILURE);
    assert!(Verified::of(&Trace::open(&killed).unwrap()).text().contains("not finished"));
    let to = dir.path().join("repaired.trace.zst");
    let repaired = RepairedTrace::make(&killed, &to).unwrap();
    assert_eq!(repaired.kept_records, 2);
    assert_eq!(verify(&to), ExitCode::SUCCESS);
    assert!(RepairedTrace::make(&killed, &to).is_err(), "the file exists now");
}

#[test]
fn verify_names_a_fault_with_its_offset() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), true);
    let loss = Trace::open(&path).unwrap().records().iter().find(|r| r.kind == 9).unwrap().offset;
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[loss as usize + 130] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let verified = Verified::of(&Trace::open(&path).unwrap());
    assert_eq!(verified.faults[0].offset, loss);
    assert!(verified.text().contains(&format!("loss record 2 at offset {loss}: its checksum")));
    assert!(!verified.clean);
}
