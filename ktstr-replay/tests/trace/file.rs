//! A trace is written, read, finished, or not finished.

use std::process::Command;

use crate::small::{self, RAM, event, manifest, page, sample, write_small};
use ktstr_replay::memory::LeftOut;
use ktstr_replay::memory::{Memory, MemoryError};
use ktstr_replay::trace::record::{BlobRole, PAGE_BYTES, blob_id};
use ktstr_replay::trace::{
    CaptureBase, Durability, Trace, TraceError, TraceWriter, WriteError, WriterOptions,
};
use ktstr_replay::units::GuestPhys;

fn assert_whole(trace: &Trace) {
    assert_eq!(trace.manifest().unwrap(), &manifest());
    assert_eq!(trace.events(), (0..5).map(event).collect::<Vec<_>>());
    assert_eq!(trace.sample_count(), 2);
    assert_eq!(trace.sample(1).unwrap(), sample(1));
    assert_eq!(trace.samples().map(Result::unwrap).collect::<Vec<_>>(), [sample(0), sample(1)]);
    assert_eq!(trace.claims()[0].text, "final(x >= 1)");
    assert_eq!(trace.losses()[0].detail, "ring full");
    assert_eq!(trace.clocks().len(), 1);
    let ids = trace.blobs(BlobRole::Vmcoreinfo);
    assert_eq!(ids, [blob_id(b"OSRELEASE=7.3.4\n")]);
    assert_eq!(trace.blob(&ids[0]).unwrap(), b"OSRELEASE=7.3.4\n"[..]);
    assert!(trace.blobs(BlobRole::KernelBtf).is_empty());
    let verdict: serde_json::Value = serde_json::from_str(&trace.verdict_json().unwrap().unwrap()).unwrap();
    assert_eq!(verdict["outcome"], "pass");

    let info = trace.checkpoints();
    assert_eq!(info.iter().map(|c| (c.index, c.parent)).collect::<Vec<_>>(), [(0, None), (1, Some(0))]);
    let at = |index: u32, gfn: u64| {
        let mut out = [0xaa; PAGE_BYTES];
        trace.checkpoint_memory(index).unwrap().read(GuestPhys(gfn << 12), &mut out).map(|()| out)
    };
    let zero = [0; PAGE_BYTES];
    for (gfn, first, second) in [
        (0, zero, zero),
        (1, page(1), page(1)),
        (2, page(2), page(4)),
        (5, page(1), page(1)),
        (256, page(3), zero),
    ] {
        assert_eq!((at(0, gfn), at(1, gfn)), (Ok(first), Ok(second)), "frame {gfn}");
    }
    assert_eq!(at(1, 8), Err(MemoryError::LeftOut { at: GuestPhys(8 << 12), why: LeftOut::Channel }));
    assert!(matches!(at(1, 32), Err(MemoryError::OutOfRange { .. })));
    let memory = trace.checkpoint_memory(0).unwrap();
    assert_eq!(memory.ram(), RAM);
    assert_eq!(memory.left_out(), [(8..10, LeftOut::Channel)]);
    assert_eq!(memory.populated(), [4096..3 * 4096, 5 * 4096..6 * 4096, 256 * 4096..257 * 4096]);
    // Over a page boundary, from a stored page into a stored page and on into a zero one.
    let mut out = vec![0xaa; 2 * PAGE_BYTES + 6];
    memory.read(GuestPhys((1 << 12) - 3), &mut out).unwrap();
    let expected: Vec<u8> = [&[0; 3], &page(1)[..], &page(2)[..], &[0; 3]].concat();
    assert_eq!(out, expected);
    assert_eq!(trace.faults(), []);
}

#[test]
fn a_finished_trace_reads_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.trace.zst");
    write_small(&path, WriterOptions::default()).finish().unwrap();
    let trace = Trace::open(&path).unwrap();
    assert!(trace.is_finalized());
    assert_whole(&trace);
    assert!(trace.verify().is_clean());
    assert_whole(&Trace::from_bytes(std::fs::read(&path).unwrap()).unwrap());
}

#[test]
fn a_trace_that_is_still_written_reads_up_to_the_last_commit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.trace.zst");
    let options = WriterOptions { level: 3, durability: Durability::Host };
    let mut writer = write_small(&path, options);
    let live = Trace::open(&path).unwrap();
    assert!(!live.is_finalized());
    assert_whole(&live);

    writer.events(&[event(5)]).unwrap();
    let uncommitted = Trace::open(&path).unwrap();
    assert_eq!(uncommitted.events().len(), 5);
    assert_eq!(uncommitted.completeness().uncommitted_records, 1);

    writer.verdict(&serde_json::json!({"outcome": "fail"})).unwrap();
    writer.finish().unwrap();
    let finished = Trace::open(&path).unwrap();
    assert!(finished.is_finalized());
    assert_eq!(finished.events().len(), 6);
    assert!(finished.verdict_json().unwrap().unwrap().contains("fail"));
}

#[test]
fn a_writer_that_is_dropped_leaves_all_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.trace.zst");
    let mut writer = write_small(&path, WriterOptions::default());
    writer.events(&[event(5)]).unwrap();
    drop(writer);
    let trace = Trace::open(&path).unwrap();
    assert!(!trace.is_finalized());
    assert_eq!(trace.events().len(), 6);
    assert_eq!(trace.faults(), []);
}

#[test]
fn an_existing_file_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.trace.zst");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(TraceWriter::create(&path, &manifest()), Err(WriteError::Create { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn pages_and_blobs_are_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.trace.zst");
    let mut writer = TraceWriter::create(&path, &manifest()).unwrap();
    let pages: Vec<_> = (0..200).map(|gfn| (gfn, page(gfn % 10))).collect();
    writer.checkpoint(&small::checkpoint(CaptureBase::Zero, &pages)).unwrap();
    writer.checkpoint(&small::checkpoint(CaptureBase::Previous, &pages[..50])).unwrap();
    for _ in 0..3 {
        writer.blob(BlobRole::KernelBtf, &[7; 100]).unwrap();
    }
    writer.finish().unwrap();
    let trace = Trace::open(&path).unwrap();
    let stored: u64 = trace.records().iter().filter(|r| r.kind == 5).map(|r| r.keys[1]).sum();
    assert_eq!(stored, 10);
    assert_eq!(trace.records().iter().filter(|r| r.kind == 2).count(), 1);
}

#[test]
fn every_sixteenth_checkpoint_has_a_full_table_and_all_of_them_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.trace.zst");
    let mut writer = TraceWriter::create(&path, &manifest()).unwrap();
    for i in 0..40 {
        let base = if i == 0 { CaptureBase::Zero } else { CaptureBase::Previous };
        writer.checkpoint(&small::checkpoint(base, &[(i % 8, page(100 + i))])).unwrap();
    }
    writer.finish().unwrap();
    let trace = Trace::open(&path).unwrap();
    let full: Vec<_> = trace.checkpoints().iter().filter(|c| c.parent.is_none()).map(|c| c.index).collect();
    assert_eq!(full, [0, 16, 32]);
    for i in 0..40u64 {
        let memory = trace.checkpoint_memory(i as u32).unwrap();
        for gfn in 0..8 {
            let mut out = [0; PAGE_BYTES];
            memory.read(GuestPhys(gfn << 12), &mut out).unwrap();
            let last = (0..=i).rev().find(|j| j % 8 == gfn).map_or([0; PAGE_BYTES], |j| page(100 + j));
            assert_eq!(out, last, "checkpoint {i}, frame {gfn}");
        }
    }
    assert!(matches!(trace.checkpoint_memory(40), Err(TraceError::Missing { .. })));
}

#[test]
fn a_checkpoint_that_cannot_be_built_on_must_be_followed_by_a_full_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TraceWriter::create(&dir.path().join("t.trace.zst"), &manifest()).unwrap();
    let delta = small::checkpoint(CaptureBase::Previous, &[(1, page(1))]);
    assert!(matches!(writer.checkpoint(&delta), Err(WriteError::NoBase)));
    let mut twice = small::checkpoint(CaptureBase::Zero, &[(1, page(1))]);
    twice.zeroed.push(0..4);
    assert!(matches!(writer.checkpoint(&twice), Err(WriteError::BadCapture(_))));
    assert!(matches!(writer.checkpoint(&delta), Err(WriteError::NoBase)));
    writer.checkpoint(&small::checkpoint(CaptureBase::Zero, &[(1, page(1))])).unwrap();
    assert_eq!(writer.checkpoint(&delta).unwrap(), 1);
}

/// The system's zstd tests the file, and decodes it to the bodies one after the other.
#[test]
fn the_zstd_program_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.trace.zst");
    write_small(&path, WriterOptions::default()).finish().unwrap();
    let Ok(test) = Command::new("zstd").arg("-t").arg("-q").arg(&path).output() else {
        eprintln!("skipped: there is no zstd program");
        return;
    };
    assert!(test.status.success(), "{}", String::from_utf8_lossy(&test.stderr));
    let bodies = Command::new("zstd").arg("-dcq").arg(&path).output().unwrap();
    assert!(bodies.status.success());
    let trace = Trace::open(&path).unwrap();
    let raw: u64 = trace.records().iter().map(|record| record.raw_len).sum();
    assert!(bodies.stdout.len() as u64 > raw);
    let text = serde_json::to_string_pretty(trace.manifest().unwrap()).unwrap();
    assert!(bodies.stdout.starts_with(text.as_bytes()));
}
