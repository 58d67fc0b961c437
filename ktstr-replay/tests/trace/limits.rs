//! Traces that declare more than they have, or hold more than anyone has memory for.

use ktstr_replay::trace::record::MapContents;
use ktstr_replay::trace::{Kind, Trace, TraceWriter, WriterOptions};

use crate::small::{manifest, sample, write_small};
use crate::versions::forge;

#[test]
fn a_length_that_lies_costs_its_record_and_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.trace.zst");
    write_small(&path, WriterOptions::default()).finish().unwrap();
    let whole = std::fs::read(&path).unwrap();
    let records = Trace::from_bytes(whole.clone()).unwrap().records().to_vec();
    // Lengths of the stored and of the decoded body, at 64 and 72 of a header.
    for (field, lie) in [(72, u64::MAX), (72, 1 << 62), (72, 20 << 20), (64, u64::MAX), (64, 1 << 62)] {
        for entry in &records {
            let mut bytes = whole.clone();
            forge(&mut bytes, entry.offset as usize, |header| {
                header[field..field + 8].copy_from_slice(&lie.to_le_bytes());
            });
            let kind = Kind::from_code(entry.kind).unwrap();
            // With its index, and without.
            for len in [bytes.len(), bytes.len() - 1] {
                let Ok(trace) = Trace::from_bytes(bytes[..len].to_vec()) else { continue };
                let faults = trace.verify().faults;
                assert!(
                    faults.iter().any(|f| f.offset == entry.offset),
                    "{lie:#x} at {field} of {kind}: {faults:?}"
                );
            }
        }
    }
}

#[test]
fn samples_beyond_what_memory_holds_are_errors_with_their_offset() {
    const SAMPLES: u32 = 20;
    const SAMPLE_MIB: usize = 30;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.trace.zst");
    let mut writer = TraceWriter::create(&path, &manifest()).unwrap();
    let mut large = sample(0);
    large.maps[0].contents = MapContents::Array { values: vec![0; SAMPLE_MIB << 20] };
    for index in 0..SAMPLES {
        large.index = index;
        writer.sample(&large).unwrap();
    }
    writer.finish().unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 1 << 20, "a bomb is small");

    let trace = Trace::open(&path).unwrap();
    let intact = trace.samples().filter(Result::is_ok).count();
    assert_eq!(intact, 512 / SAMPLE_MIB);
    let faults = trace.faults();
    assert_eq!(faults.len(), SAMPLES as usize - intact);
    assert!(faults[0].to_string().contains("beyond the 512 MiB of sample records"), "{}", faults[0]);
    // One at a time each can still be had.
    assert_eq!(trace.sample(SAMPLES as usize - 1).unwrap().index, SAMPLES - 1);
}
