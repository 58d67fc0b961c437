//! The trace file read by a program that shares nothing with ours: `ktstr_trace.py`, written from docs/trace-format.md alone.
//! What the document does not say, or says wrongly, fails here.

mod fresh;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ktstr_replay::memory::Memory;
use ktstr_replay::trace::Trace;
use ktstr_replay::trace::record::PAGE_BYTES;
use ktstr_replay::units::GuestPhys;
use ktstr_tests::{Ended, ktstr, python, run_bounded};
use serde_json::Value;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

const LIMIT: Duration = Duration::from_secs(60);

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces").join(format!("{name}.trace.zst"))
}

/// The reader's run on a file.
fn run_reader(trace: &Path, options: &[&str]) -> Ended {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reader/ktstr_trace.py");
    run_bounded(python().arg(script).arg(trace).args(options), LIMIT)
}

fn read(trace: &Path, options: &[&str]) -> Value {
    let run = run_reader(trace, options);
    assert!(run.status.success(), "{run}");
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"))
}

/// What `ktstr trace COMMAND TRACE --json` says, whatever its exit code.
fn says(command: &[&str], trace: &Path) -> Value {
    let run = run_bounded(ktstr().arg("trace").args(command).arg(trace).arg("--json"), LIMIT);
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"))
}

/// Everything that the reader finds in the file is what ktstr finds. Returns what it found.
fn assert_agrees(trace: &Path, options: &[&str]) -> Value {
    let read = read(trace, options);
    let info = says(&["info", "--records"], trace);
    for key in ["format", "oldest_reader", "bytes", "finalized", "records"] {
        assert_eq!(read[key], info[key], "{key} of {}", trace.display());
    }
    assert_holds("manifest", &read["manifest"], &info["manifest"]);
    let opened = Trace::open(trace).expect("it opens");
    let whole = opened.completeness();
    assert_eq!(read["uncommitted_records"], whole.uncommitted_records);
    assert_eq!(read["uncommitted_bytes"], whole.uncommitted_bytes);
    assert_eq!(read["absent_records"], whole.absent_records);
    assert_eq!(read["unknown_kinds"], serde_json::to_value(&whole.unknown_kinds).expect("JSON"));
    assert_eq!(read["other_segments"], whole.other_segments);
    // The reader leaves all machines of the run out but the first.
    let others = opened.segments().into_iter().filter_map(|number| opened.segment(number));
    let of_others: Vec<u64> = others
        .flat_map(|other| other.records().iter().map(|record| record.offset).collect::<Vec<_>>())
        .collect();
    let verified = says(&["verify"], trace);
    let mut found = faults(&verified);
    found.retain(|(offset, ..)| !offset.as_u64().is_some_and(|offset| of_others.contains(&offset)));
    assert_eq!(faults(&read), found, "faults of {}", trace.display());
    read
}

/// All that `part` has is in `whole`, which also has what older releases did not write.
fn assert_holds(what: &str, part: &Value, whole: &Value) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            for (key, value) in part {
                assert_holds(&format!("{what}.{key}"), value, whole.get(key).unwrap_or(&Value::Null));
            }
        }
        _ => assert_eq!(part, whole, "{what}"),
    }
}

/// Offset, kind and sequence of each fault.
fn faults(of: &Value) -> Vec<(&Value, &Value, &Value)> {
    let faults = of["faults"].as_array().expect("a list");
    faults.iter().map(|fault| (&fault["offset"], &fault["kind"], &fault["sequence"])).collect()
}

/// The body of the `nth` record of a kind.
fn body(read: &Value, kind: u16, nth: usize) -> &Value {
    let records = read["records"].as_array().expect("a list").iter();
    let record = records.filter(|record| record["kind"] == kind).nth(nth).expect("a record");
    let bodies = read["bodies"].as_array().expect("a list");
    &bodies.iter().find(|body| body["sequence"] == record["sequence"]).expect("its body")["value"]
}

#[test]
fn golden_traces_read_the_same() {
    for name in ["steady", "stall"] {
        let path = golden(name);
        let read = assert_agrees(&path, &["--bodies"]);
        assert!(read["faults"].as_array().is_some_and(Vec::is_empty));
        assert_eq!(read["manifest"]["test"]["name"], name);
        let trace = Trace::open(&path).expect("it opens");
        let bodies = read["bodies"].as_array().expect("a list");
        assert_eq!(bodies.len(), trace.records().len());
        for (nth, sample) in trace.samples().map(|sample| sample.expect("a sample")).enumerate() {
            let found = body(&read, 4, nth);
            assert_eq!(found["tag"], sample.tag);
            let names: Vec<_> = sample.maps.iter().map(|map| Value::from(map.name.as_str())).collect();
            let read_names = found["maps"].as_array().expect("maps").iter().map(|map| map["name"].clone());
            assert_eq!(read_names.collect::<Vec<_>>(), names);
        }
    }
}

#[test]
fn a_trace_that_is_cut_off_reads_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = fs::read(golden("steady")).expect("the golden trace");
    let path = folder.path().join("cut.trace.zst");
    // In the tail, the index, a header, a body, and after the first record.
    for len in [whole.len() - 1, whole.len() - 60, whole.len() / 2, 7000, 1100] {
        fs::write(&path, &whole[..len]).expect("a shorter file");
        assert_eq!(assert_agrees(&path, &[])["finalized"], false, "cut at {len}");
    }
    // Without a whole record it is no trace to either.
    fs::write(&path, &whole[..100]).expect("a shorter file");
    assert_eq!(run_reader(&path, &[]).status.code(), Some(3));
    assert!(Trace::open(&path).is_err());
}

#[test]
fn a_trace_with_damage_reads_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("damaged.trace.zst");
    let whole = fs::read(golden("stall")).expect("the golden trace");
    let records = says(&["info", "--records"], &golden("stall"))["records"].clone();
    let offset = |nth: usize| records[nth]["offset"].as_u64().expect("an offset") as usize;
    for finished in [true, false] {
        let mut bytes = whole[..if finished { whole.len() } else { whole.len() - 56 }].to_vec();
        // A body, a header, and what would be two headers.
        for at in [offset(3) + 140, offset(5) + 60, offset(8) + 9, offset(9) + 9] {
            bytes[at] ^= 4;
        }
        fs::write(&path, &bytes).expect("a file");
        let read = assert_agrees(&path, &[]);
        assert!(read["faults"].as_array().is_some_and(|faults| faults.len() >= 3), "{}", read["faults"]);
    }
}

#[test]
fn every_body_and_the_memory_of_checkpoints_are_what_was_written() {
    let folder = tempfile::tempdir().expect("a folder");
    for finished in [true, false] {
        let path = folder.path().join(format!("{finished}.trace.zst"));
        fresh::write(&path, finished);
        let read = assert_agrees(&path, &["--bodies", "--memory"]);
        assert_eq!(read["finalized"], finished);
        assert_eq!(body(&read, 3, 0)["events"], fresh::events_as_read());
        assert_eq!(body(&read, 4, 0), &fresh::sample_as_read());
        assert_eq!(body(&read, 9, 0)["detail"], "ring full");
        assert_eq!(body(&read, 2, 0)["role"], "Vmcoreinfo");
        assert_eq!(body(&read, 8, 0)["outcome"], "pass");
        let trace = Trace::open(&path).expect("it opens");
        let memory: Vec<Value> = (0..fresh::CHECKPOINTS).map(|index| sum_of_memory(&trace, index)).collect();
        assert_eq!(read["memory"], Value::from(memory));
    }
}

/// As the reader has it: the XXH3-128 of all pages of RAM in order, those that were left out skipped.
fn sum_of_memory(trace: &Trace, index: u32) -> Value {
    let memory = trace.checkpoint_memory(index).expect("a checkpoint");
    let (mut sum, mut left_out) = (Xxh3::new(), 0);
    for at in memory.ram().iter().flat_map(|ram| ram.clone().step_by(PAGE_BYTES)) {
        let mut page = [0; PAGE_BYTES];
        match memory.read(GuestPhys(at), &mut page) {
            Ok(()) => sum.update(&page),
            Err(_) => left_out += 1,
        }
    }
    serde_json::json!({ "checkpoint": index, "xxh3": format!("{:032x}", sum.digest128()), "left_out": left_out })
}

#[test]
fn a_newer_major_is_refused_and_unknown_kinds_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("forged.trace.zst");
    fresh::write(&path, false);
    let records = Trace::open(&path).expect("it opens").records().to_vec();
    let mut bytes = fs::read(&path).expect("the trace");
    let last = records.iter().rfind(|record| record.kind == 9).expect("a loss").offset as usize;
    forge(&mut bytes[last..], 48, 777);
    fs::write(&path, &bytes).expect("a file");
    assert_eq!(assert_agrees(&path, &[])["unknown_kinds"]["777"], 1);
    // A sample and a checkpoint of another machine of the run; no later one builds on the last checkpoint.
    for kind in [4, 6] {
        let of_kind = records.iter().rfind(|record| record.kind == kind).expect("a record");
        forge(&mut bytes[of_kind.offset as usize..], 54, 1);
    }
    fs::write(&path, &bytes).expect("a file");
    assert_eq!(assert_agrees(&path, &["--bodies"])["other_segments"], 2);

    for record in &records {
        for (at, value) in [(16, 2), (20, 2), (24, 7), (26, 3)] {
            forge(&mut bytes[record.offset as usize..], at, value);
        }
    }
    fs::write(&path, &bytes).expect("a file");
    let run = run_reader(&path, &[]);
    assert_eq!(run.status.code(), Some(3), "{run}");
    assert!(run.stderr.contains("ktstr 7.3.0 or newer"), "{run}");
    let info = run_bounded(ktstr().args(["trace", "info"]).arg(&path), LIMIT);
    assert!(!info.status.success() && info.stderr.contains("ktstr 7.3.0 or newer"), "{info}");
}

/// Put a number into a header and make its checksums right again.
fn forge(header: &mut [u8], at: usize, value: u16) {
    header[at..at + 2].copy_from_slice(&value.to_le_bytes());
    for end in [32, 120] {
        let sum = xxh3_64(&header[..end]).to_le_bytes();
        header[end..end + 8].copy_from_slice(&sum);
    }
}
