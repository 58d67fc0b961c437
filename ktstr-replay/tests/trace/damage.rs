//! What a damaged trace costs: the record that is damaged, and no other.

use std::collections::BTreeMap;
use std::ops::Range;

use ktstr_replay::memory::Memory;
use ktstr_replay::trace::record::{IndexEntry, PAGE_BYTES};
use ktstr_replay::trace::{Kind, Trace, TraceError, WriterOptions};
use ktstr_replay::units::GuestPhys;

use crate::small::write_small;

const HEADER_LEN: u64 = 128;
const TAIL_LEN: usize = 56;

/// The small trace, finished or as a killed recorder leaves it.
fn small(finished: bool) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.trace.zst");
    let writer = write_small(&path, WriterOptions::default());
    if finished {
        writer.finish().unwrap();
    }
    std::fs::read(&path).unwrap()
}

fn extent(entry: &IndexEntry) -> Range<usize> {
    let start = entry.offset as usize;
    start..start + (HEADER_LEN + entry.stored_len) as usize
}

/// Whatever can be asked of a trace, so that a panic or an endless loop would show. Returns how many values came.
fn read_all(trace: &Trace) -> usize {
    let mut pages = 0;
    for info in trace.checkpoints() {
        let Ok(memory) = trace.checkpoint_memory(info.index) else { continue };
        for range in memory.populated() {
            let mut page = [0; PAGE_BYTES];
            pages +=
                range.step_by(PAGE_BYTES).filter(|at| memory.read(GuestPhys(*at), &mut page).is_ok()).count();
        }
    }
    let verdicts = usize::from(matches!(trace.verdict_json(), Ok(Some(_))));
    pages
        + verdicts
        + trace.events().len()
        + trace.samples().filter(Result::is_ok).count()
        + trace.claims().len()
        + trace.losses().len()
        + trace.clocks().len()
        + usize::from(trace.manifest().is_ok())
}

/// Intact records of each kind.
fn intact(trace: &Trace) -> BTreeMap<u16, usize> {
    let verification = trace.verify();
    let damaged: Vec<u64> = verification.faults.iter().map(|fault| fault.offset).collect();
    let mut found = BTreeMap::new();
    for entry in trace.records().iter().filter(|entry| !damaged.contains(&entry.offset)) {
        *found.entry(entry.kind).or_default() += 1;
    }
    found
}

#[test]
fn cut_at_every_byte_it_opens_with_all_up_to_the_last_commit() {
    let whole = small(true);
    let trace = Trace::from_bytes(whole.clone()).unwrap();
    let commits: Vec<(usize, usize)> = (0..trace.records().len())
        .filter(|i| trace.records()[*i].kind == Kind::Commit.code())
        .map(|i| (extent(&trace.records()[i]).end, i + 1))
        .collect();
    assert!(commits.len() >= 4);
    // The index, too, is written when everything before it is whole.
    let index_end = whole.len() - TAIL_LEN;
    let first_record_end = extent(&trace.records()[0]).end;
    let first_header_end = HEADER_LEN as usize;
    for len in 0..whole.len() {
        let cut = match Trace::from_bytes(whole[..len].to_vec()) {
            Ok(cut) => cut,
            Err(TraceError::NotATrace { .. }) => {
                assert!(len < first_header_end, "cut at {len}");
                continue;
            }
            Err(e) => panic!("cut at {len}: {e}"),
        };
        let (end, records) = commits.iter().rev().find(|(end, _)| *end <= len).copied().unwrap_or_default();
        assert_eq!(cut.records(), &trace.records()[..records], "cut at {len}");
        assert!(!cut.is_finalized());
        let committed = if len >= index_end { index_end } else { end };
        assert_eq!(cut.completeness().uncommitted_bytes as usize, len - committed, "cut at {len}");
        let verification = cut.verify();
        assert!(!verification.is_clean(), "cut at {len}");
        // In the middle of a record it says so, with the offset.
        let on_boundary = len == end || trace.records().iter().any(|r| extent(r).end == len);
        let index_offset = commits.last().unwrap().0;
        if !on_boundary && len < index_offset {
            let torn = trace.records().iter().find(|r| extent(r).contains(&(len - 1))).unwrap();
            assert_eq!(verification.faults.last().unwrap().offset, torn.offset, "cut at {len}");
        }
        if len >= first_record_end && records > 0 {
            assert!(cut.manifest().is_ok(), "cut at {len}");
        }
        read_all(&cut);
    }
}

/// Flip one bit in every fifth byte of a trace: the records that do not hold it are as before.
#[test]
fn a_flipped_bit_anywhere_costs_the_record_that_holds_it_and_no_other() {
    for finished in [true, false] {
        let whole = small(finished);
        let trace = Trace::from_bytes(whole.clone()).unwrap();
        let all = intact(&trace);
        let kinds: Vec<u16> = trace.records().iter().map(|entry| entry.kind).collect();
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Index) {
            assert!(kinds.contains(&kind.code()), "no {kind} record in the small trace");
        }
        let last_commit = trace.records().last().unwrap().offset as usize;
        for entry in trace.records() {
            for at in extent(entry).step_by(5) {
                // An unfinished trace ends with its last commit mark: without it, so does what it covers.
                if !finished && at >= last_commit {
                    continue;
                }
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << (at % 8);
                let flipped = Trace::from_bytes(bytes).unwrap_or_else(|e| panic!("byte {at}: {e}"));
                let verification = flipped.verify();
                let kind = Kind::from_code(entry.kind).unwrap();
                let fault = verification.faults.iter().find(|fault| fault.offset == entry.offset);
                assert!(fault.is_some(), "byte {at} of a {kind} record: {:?}", verification.faults);
                // A checkpoint whose page or parent is damaged is named too; its own record is as it was.
                for fault in &verification.faults {
                    let dependent = matches!(fault.record, Some((kind, _)) if kind == Kind::Checkpoint.code())
                        && matches!(kind, Kind::PageChunk | Kind::Checkpoint);
                    assert!(
                        fault.offset == entry.offset || dependent,
                        "byte {at} of a {kind} record: {fault}"
                    );
                }
                let mut expected = all.clone();
                *expected.get_mut(&entry.kind).unwrap() -= 1;
                expected.retain(|_, count| *count > 0);
                if !matches!(kind, Kind::PageChunk | Kind::Checkpoint) {
                    assert_eq!(intact(&flipped), expected, "byte {at} of a {kind} record");
                }
                read_all(&flipped);
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_index_or_tail_costs_nothing_but_the_index() {
    let whole = small(true);
    let trace = Trace::from_bytes(whole.clone()).unwrap();
    let index_offset = extent(trace.records().last().unwrap()).end;
    for at in index_offset..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let flipped = Trace::from_bytes(bytes).unwrap();
        assert!(!flipped.is_finalized());
        assert_eq!(flipped.records(), trace.records(), "byte {at}");
        assert_eq!(read_all(&flipped), read_all(&trace), "byte {at}");
        assert!(!flipped.verify().is_clean());
    }
}

#[test]
fn junk_between_records_is_skipped_and_named() {
    let whole = small(false);
    let trace = Trace::from_bytes(whole.clone()).unwrap();
    let at = trace.records()[4].offset as usize;
    let mut bytes = whole[..at].to_vec();
    bytes.extend([0x5b; 1000]);
    bytes.extend(&whole[at..]);
    let found = Trace::from_bytes(bytes).unwrap();
    assert_eq!(found.records().len(), trace.records().len());
    assert_eq!(found.faults().len(), 1);
    assert_eq!(found.faults()[0].offset as usize, at);
    assert!(found.faults()[0].to_string().contains("next 1000 bytes"), "{}", found.faults()[0]);
}

/// Memory of a guest can hold a trace; its records are not taken for ours when ours are damaged.
#[test]
fn records_of_another_trace_are_not_taken_for_its_own() {
    let (whole, other) = (small(false), small(false));
    let trace = Trace::from_bytes(whole.clone()).unwrap();
    let at = trace.records()[4].offset as usize;
    let bytes = [&whole[..at], &other[..], &whole[at..]].concat();
    let found = Trace::from_bytes(bytes).unwrap();
    assert_eq!(found.records().len(), trace.records().len());
    assert_eq!(read_all(&found), read_all(&trace));
}

#[test]
fn foreign_files_are_named_for_what_they_are() {
    let gz = b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
    let cases = [
        (Vec::new(), "is empty"),
        (b"Linux version 7.3.4\n".to_vec(), "is text"),
        (gz, "is gzip data"),
        (vec![0; 70_000], "has 70000 bytes and not one intact record header"),
    ];
    for (bytes, what) in cases {
        let Err(error) = Trace::from_bytes(bytes) else { panic!("{what}: it opened") };
        assert!(error.to_string().contains(what), "{error}");
    }
    let Err(error) = Trace::open(std::path::Path::new("/nonexistent/t.trace.zst")) else {
        panic!("it opened")
    };
    assert!(error.to_string().contains("/nonexistent/t.trace.zst"), "{error}");
    assert!(matches!(Trace::open(std::path::Path::new("/")), Err(TraceError::Io { .. })));
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// Bytes overwritten at random, checksums made right or not: no panic, no endless loop.
        #[test]
        fn overwritten_bytes_do_not_panic(
            finished in any::<bool>(),
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        ) {
            thread_local! {
                static WHOLE: [Vec<u8>; 2] = [small(false), small(true)];
            }
            let mut bytes = WHOLE.with(|whole| whole[usize::from(finished)].clone());
            for (at, value) in edits {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Ok(trace) = Trace::from_bytes(bytes) {
                read_all(&trace);
                trace.verify();
            }
        }
    }
}
