//! Traces of other releases: forged, one case each.

use ktstr_replay::slim::{SlimOptions, slim};
use ktstr_replay::trace::record::{BlobRole, Index, IndexEntry};
use ktstr_replay::trace::{Body, Kind, Trace, TraceError, WriterOptions, repair};
use xxhash_rust::xxh3::xxh3_64;

use crate::small::write_small;

const HEADER_LEN: usize = 128;

fn small(finished: bool) -> (Vec<u8>, Vec<(u16, usize)>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.trace.zst");
    let writer = write_small(&path, WriterOptions::default());
    if finished {
        writer.finish().unwrap();
    }
    let bytes = std::fs::read(&path).unwrap();
    let trace = Trace::from_bytes(bytes.clone()).unwrap();
    let records = trace.records().iter().map(|entry| (entry.kind, entry.offset as usize)).collect();
    (bytes, records)
}

/// Change a header and make its checksums right again, as a newer writer would.
pub fn forge(bytes: &mut [u8], offset: usize, change: impl Fn(&mut [u8])) {
    let header = &mut bytes[offset..offset + HEADER_LEN];
    change(header);
    let sum = xxh3_64(&header[..32]);
    header[32..40].copy_from_slice(&sum.to_le_bytes());
    let sum = xxh3_64(&header[..120]);
    header[120..].copy_from_slice(&sum.to_le_bytes());
}

fn put_u16(header: &mut [u8], at: usize, value: u16) {
    header[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn a_newer_minor_opens() {
    let (mut bytes, records) = small(false);
    for (_, offset) in records {
        forge(&mut bytes, offset, |header| put_u16(header, 18, 9));
    }
    let trace = Trace::from_bytes(bytes).unwrap();
    assert_eq!(trace.stamp().written.to_string(), "1.9");
    assert_eq!(trace.events().len(), 5);
    assert_eq!(trace.faults(), []);
}

#[test]
fn a_newer_major_is_refused_by_the_name_of_the_release_that_reads_it() {
    for finished in [false, true] {
        let (mut bytes, records) = small(finished);
        for (_, offset) in records {
            forge(&mut bytes, offset, |header| {
                put_u16(header, 16, 2);
                put_u16(header, 20, 2);
                put_u16(header, 24, 3);
                put_u16(header, 26, 1);
                put_u16(header, 28, 4);
            });
        }
        let Err(error) = Trace::from_bytes(bytes) else { panic!("it opened") };
        let TraceError::TooNew { source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().contains("ktstr 3.1.4 or newer"), "{source}");
    }
}

/// All that a newer major must keep is the first 40 bytes of a header, its length excepted.
#[test]
fn a_newer_major_is_refused_even_when_its_headers_are_of_another_shape() {
    let (bytes, _) = small(false);
    let mut head = bytes[..40].to_vec();
    head[4..8].copy_from_slice(&200u32.to_le_bytes());
    put_u16(&mut head, 16, 5);
    put_u16(&mut head, 20, 5);
    put_u16(&mut head, 24, 9);
    let sum = xxh3_64(&head[..32]);
    head[32..].copy_from_slice(&sum.to_le_bytes());
    head.extend([0xee; 400]);
    let Err(error) = Trace::from_bytes(head) else { panic!("it opened") };
    let TraceError::TooNew { source, .. } = error else { panic!("{error}") };
    assert!(source.to_string().contains("ktstr 9.1.0 or newer"), "{source}");
}

#[test]
fn an_unknown_kind_is_skipped_and_counted() {
    let (mut bytes, records) = small(false);
    let forged: Vec<_> = records.iter().filter(|(kind, _)| *kind == Kind::Loss.code()).collect();
    for (_, offset) in &forged {
        forge(&mut bytes, *offset, |header| put_u16(header, 48, 777));
    }
    let trace = Trace::from_bytes(bytes).unwrap();
    let verification = trace.verify();
    assert_eq!(verification.completeness.unknown_kinds, [(777, forged.len() as u64)].into());
    assert_eq!(verification.faults, []);
    assert_eq!(trace.losses(), []);
    assert_eq!(trace.events().len(), 5);
}

#[test]
fn a_reserved_kind_is_named_skipped_and_counted() {
    for (code, name) in [(13, "machine-state"), (14, "unknown (14)"), (777, "unknown (777)")] {
        let (mut bytes, records) = small(false);
        let (_, offset) = records.iter().find(|(kind, _)| *kind == Kind::Loss.code()).unwrap();
        forge(&mut bytes, *offset, |header| put_u16(header, 48, code));
        let trace = Trace::from_bytes(bytes).unwrap();
        let verification = trace.verify();
        assert_eq!(verification.completeness.unknown_kinds, [(code, 1)].into());
        assert_eq!(verification.faults, []);
        let record = trace.records().iter().find(|record| record.kind == code).unwrap();
        assert_eq!((record.kind_name().as_str(), record.read_as()), (name, None));
    }
}

/// Records of another machine of the run are not taken for the first one's, whatever they are. `repair` keeps them apart.
#[test]
fn records_of_another_segment_are_counted_and_mixed_with_none() {
    for kind in Kind::ALL {
        let (mut bytes, records) = small(false);
        let of_kind: Vec<_> = records.iter().filter(|(code, _)| *code == kind.code()).collect();
        // The last commit mark is what makes the trace one.
        let forged = if kind == Kind::Commit { &of_kind[..of_kind.len() - 1] } else { &of_kind[..] };
        for (_, offset) in forged {
            forge(&mut bytes, *offset, |header| put_u16(header, 54, 3));
        }
        let dir = tempfile::tempdir().unwrap();
        let [old, new, slimmed] = ["old", "new", "slim"].map(|name| dir.path().join(name));
        std::fs::write(&old, &bytes).unwrap();
        let trace = Trace::open(&old).unwrap();
        let whole = trace.completeness();
        assert_eq!((whole.other_segments, whole.newer_bodies), (forged.len() as u64, 0), "{kind}");
        assert_eq!(whole.unknown_kinds, [].into());
        assert!(trace.records().iter().all(|record| record.segment == 0));
        assert_eq!(trace.segment(3).map_or(0, |segment| segment.records().len()), forged.len());
        let counts = [
            (Kind::Manifest, usize::from(trace.manifest().is_ok())),
            (Kind::Blob, trace.blobs(BlobRole::Vmcoreinfo).len()),
            (Kind::Events, trace.events().len()),
            (Kind::Sample, trace.sample_count()),
            (Kind::Checkpoint, trace.checkpoints().len()),
            (Kind::Claim, trace.claims().len()),
            (Kind::Verdict, usize::from(trace.verdict_json().unwrap().is_some())),
            (Kind::Loss, trace.losses().len()),
            (Kind::Clock, trace.clocks().len()),
        ];
        for (counted, count) in counts {
            assert_eq!(count == 0, counted == kind, "{count} of {counted} with {kind} of another segment");
        }
        // Checkpoints whose pages or parents are another machine's lack them.
        if !matches!(kind, Kind::Manifest | Kind::PageChunk | Kind::Checkpoint | Kind::Commit) {
            let faults: Vec<_> = trace.verify().faults.iter().map(ToString::to_string).collect();
            let expected = usize::from(!forged.is_empty());
            let of_manifest = |fault: &String| fault.contains("segment 3 has no intact manifest");
            assert!(faults.len() == expected && faults.iter().all(of_manifest), "{kind}: {faults:?}");
        }
        repair(&old, &new).unwrap();
        assert_eq!(Trace::open(&new).unwrap().completeness().other_segments, forged.len() as u64, "{kind}");
        let slimming = slim(&old, &slimmed, &SlimOptions { level: 1, ..SlimOptions::default() });
        if kind != Kind::Manifest {
            slimming.unwrap();
            let slimmed = Trace::open(&slimmed).unwrap();
            // It has no manifest, so that nobody could tell what they are of.
            assert_eq!(slimmed.completeness().other_segments, 0, "{kind}");
            assert_eq!(slimmed.events(), trace.events());
        }
    }
}

/// A finished trace of a newer minor version: its index names kinds that this release does not know.
#[test]
fn a_finished_trace_of_a_newer_minor_opens_with_unknown_kinds_counted() {
    let (mut bytes, records) = small(true);
    for (kind, offset) in &records {
        forge(&mut bytes, *offset, |header| {
            put_u16(header, 18, 9);
            if *kind == Kind::Clock.code() {
                put_u16(header, 48, 778);
            }
        });
    }
    let mut entries = Trace::from_bytes(small(true).0).unwrap().records().to_vec();
    for entry in entries.iter_mut().filter(|entry| entry.kind == Kind::Clock.code()) {
        entry.kind = 778;
    }
    replace_index(&mut bytes, entries);
    let trace = Trace::from_bytes(bytes).unwrap();
    assert!(trace.is_finalized());
    let verification = trace.verify();
    assert_eq!(verification.completeness.unknown_kinds, [(778, 1)].into());
    assert_eq!(verification.faults, []);
    assert_eq!((trace.events().len(), trace.clocks().len()), (5, 0));
}

/// Put another index, and a tail for it, in the place of those of a finished trace.
fn replace_index(bytes: &mut Vec<u8>, entries: Vec<IndexEntry>) {
    const TAIL_LEN: usize = 56;
    let mut tail = bytes.split_off(bytes.len() - TAIL_LEN);
    let index = u64::from_le_bytes(tail[24..32].try_into().unwrap()) as usize;
    let raw = Index { entries }.encode().unwrap();
    let mut zstd = zstd::bulk::Compressor::new(1).unwrap();
    zstd.include_checksum(true).unwrap();
    let frame = zstd.compress(&raw).unwrap();
    bytes.truncate(index + HEADER_LEN);
    forge(bytes, index, |header| {
        header[64..72].copy_from_slice(&(frame.len() as u64).to_le_bytes());
        header[72..80].copy_from_slice(&(raw.len() as u64).to_le_bytes());
        header[112..120].copy_from_slice(&xxh3_64(&frame).to_le_bytes());
    });
    bytes.extend(frame);
    let len = (bytes.len() + TAIL_LEN) as u64;
    tail[32..40].copy_from_slice(&len.to_le_bytes());
    let sum = xxh3_64(&tail[..48]);
    tail[48..].copy_from_slice(&sum.to_le_bytes());
    bytes.extend(tail);
}

#[test]
fn a_newer_body_costs_its_record_and_is_counted_not_called_damage() {
    let (mut bytes, records) = small(false);
    let (_, offset) = records.iter().find(|(kind, _)| *kind == Kind::Sample.code()).unwrap();
    forge(&mut bytes, *offset, |header| put_u16(header, 50, 2));
    let trace = Trace::from_bytes(bytes).unwrap();
    let verification = trace.verify();
    assert_eq!((verification.completeness.newer_bodies, verification.faults), (1, vec![]));
    let error = trace.sample(0).unwrap_err().to_string();
    assert!(error.contains("version 2") && error.contains("reads up to 1"), "{error}");
    assert_eq!(trace.sample(1).unwrap().index, 1);
}

/// Keys that a newer minor adds to the manifest do not keep it from being read.
#[test]
fn a_manifest_with_unknown_keys_and_without_known_ones_reads() {
    use ktstr_replay::trace::record::Manifest;
    let text =
        br#"{"ktstr_version": "9.9.9", "moon_phase": "full", "machine": {"kind": "qemu", "lunar": true}}"#;
    let manifest = Manifest::decode(1, text).unwrap();
    assert_eq!((manifest.ktstr_version.as_str(), manifest.machine.kind.as_str()), ("9.9.9", "qemu"));
    assert_eq!(manifest.test.num_snapshots, 0);
}
