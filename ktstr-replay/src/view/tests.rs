//! Everything that is shown of a trace with memory, on a kernel made by hand: right, and then wrong.

use std::path::Path;

use proptest::prelude::*;

use super::{VIEWS, View};
use crate::judge::CheckSource;
use crate::kernel::hostile::{kernel, overwrite, writes};
use crate::kernel::testing::Guest;
use crate::run::{Checkpoints, Run};
use crate::slim::{KeepPages, SlimOptions, slim};
use crate::testing::{BODY_MS, TraceBuilder, sample, stalled};
use crate::trace::record::{CaptureKind, PAGE_BYTES, Sample, VcpuRegs};
use crate::trace::{CaptureBase, CapturedCheckpoint, PageBatch, Trace};
use crate::{diff, export, report, why};

/// Write the run of a scheduler that stalled, with the guest's memory before and at the stall.
fn write(guest: &Guest, path: &Path) {
    let at = |sample: Sample, checkpoint| Sample {
        checkpoint: Some(checkpoint),
        vcpus: vec![VcpuRegs { rip: 0xffff_ffff_8100_0000, ..VcpuRegs::default() }],
        ..sample
    };
    let run = TraceBuilder::begun()
        .sample(at(sample("periodic_000", CaptureKind::Periodic, 1000, &[1, 2, 3]), 0))
        .sample(at(stalled(2000, &[1, 2, 3]), 1))
        .claim("each(rq[0].nr_running >= 0)")
        .claim("final(kernel.jiffies_64 > 0)")
        .claim("always(dsq[0x7].nr == 2)")
        .ended();
    let mut writer = run.writer(path);
    for blob in guest.profile().to_blobs() {
        writer.blob(blob.role, &blob.bytes).unwrap();
    }
    let mut batch = PageBatch::default();
    for (gfn, page) in guest.ram.bytes.as_chunks::<PAGE_BYTES>().0.iter().enumerate() {
        if page.iter().any(|byte| *byte != 0) {
            batch.push(gfn as u64, page);
        }
    }
    // The samples that these belong to are the second and the third, after that at attach.
    for (sample, base, changed) in [(1, CaptureBase::Zero, vec![batch]), (2, CaptureBase::Previous, vec![])] {
        let at_ns = (BODY_MS + u64::from(sample) * 1000) * 1_000_000;
        let ram = std::iter::once(0..guest.ram.bytes.len() as u64).collect();
        let (zeroed, left_out) = (Vec::new(), Vec::new());
        let sample = Some(sample);
        let checkpoint = CapturedCheckpoint {
            sample,
            guest_ns: at_ns,
            host_ns: at_ns,
            ram,
            base,
            changed,
            zeroed,
            left_out,
        };
        writer.checkpoint(&checkpoint).unwrap();
    }
    writer.finish().unwrap();
}

/// Everything there is of a trace; which views of its last checkpoint could be shown.
fn show_all(path: &Path) -> Vec<View> {
    let trace = Trace::open(path).unwrap();
    assert!(trace.verify().is_clean());
    let run = Run::load(&trace);
    let verdict = run.judge(None, CheckSource::Recorded);
    let _ = report::render(&run, &verdict);
    let _ = why::explain(&run, &verdict);
    let _ = diff::diff(&run, &run, diff::Part::ALL).text();
    export::json_lines(&run, &mut std::io::sink()).unwrap();
    export::series_csv(&run, &mut std::io::sink()).unwrap();
    let mut shown = Vec::new();
    if let Ok(checkpoints) = Checkpoints::of(&run) {
        let checkpoint = checkpoints.at(None).unwrap();
        let views = View::plain().into_iter().chain([View::Map { wanted: "demo.bss".into(), follow: true }]);
        shown = views.filter(|view| view.show(&checkpoint).is_ok()).collect();
        export::vmcore::write_vmcore(&checkpoint, &path.with_extension("core")).unwrap();
    }
    let options = SlimOptions { level: 1, pages: KeepPages::Kernel, redact: true, ..SlimOptions::default() };
    let _ = slim(path, &path.with_extension("slim"), &options);
    shown
}

#[test]
fn a_kernel_by_hand_is_shown_as_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.trace.zst");
    write(&kernel().0, &path);
    let shown = show_all(&path);
    for view in &View::plain()[..7] {
        assert!(shown.contains(view), "{view} is not shown, but {shown:?}");
    }
    let trace = Trace::open(&path).unwrap();
    let run = Run::load(&trace);
    let checkpoints = Checkpoints::of(&run).unwrap();
    let lines = View::Dsqs.show(&checkpoints.at(Some("periodic_000")).unwrap()).unwrap().lines.join("\n");
    assert!(lines.contains("waits"), "{lines}");
}

#[test]
fn the_documentation_lists_the_views_of_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = std::fs::read_to_string(root.join("docs/reading-kernels.md")).unwrap();
    let listed: Vec<_> = docs.lines().filter(|line| line.starts_with("| `--")).collect();
    assert_eq!(listed.len(), VIEWS.len(), "a line for each view");
    for (line, view) in listed.iter().zip(VIEWS) {
        let row = format!("| `--{}` | {} |", view.name, view.help);
        assert!(line.starts_with(&row), "this line is to begin as the next:\n{line}\n{row}");
    }
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let named =
        |name: &str| readme.split(|c: char| !c.is_ascii_lowercase() && c != '-').any(|word| word == name);
    for view in VIEWS {
        assert!(named(&format!("--{}", view.name)), "README.md does not name --{}", view.name);
    }
}

#[test]
fn a_view_is_asked_for_by_its_option() {
    let map = View::Map { wanted: "cpu_ctx".to_owned(), follow: true };
    let asked = View::asked(
        |flag| ["cpu-time", "follow"].contains(&flag),
        |option| (option == "map").then(|| "cpu_ctx".to_owned()),
    );
    assert_eq!(asked, [View::CpuTime, map]);
    assert_eq!(View::plain().len() + 1, VIEWS.len());
}

/// The seed of the fuzz target `file` that has a kernel in it: see `fuzz/README.md`.
#[test]
#[ignore = "it writes a file"]
fn write_the_kernel_by_hand() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/target/kernel-by-hand.trace.zst");
    let _ = std::fs::remove_file(&path);
    write(&kernel().0, &path);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_is_in_memory_every_view_export_and_explanation_ends(writes in writes()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.trace.zst");
        let (mut guest, words) = kernel();
        overwrite(&mut guest, &words, &writes);
        write(&guest, &path);
        show_all(&path);
    }
}
