//! Everything that is shown of a trace with memory, on the toy kernel: right, and then wrong.

use std::path::Path;

use proptest::prelude::*;

use super::View;
use crate::judge::Checks;
use crate::kernel::hostile::writes;
use crate::run::Checkpoints;
use crate::run::Run;
use crate::slim::{KeepPages, SlimOptions, slim};
use crate::testing::{SEEDS, overwrite, toy_kernel, write_with_memory};
use crate::trace::Trace;
use crate::{diff, export, report, why};

/// Everything there is of a trace; which views of its last checkpoint could be shown.
fn show_all(path: &Path) -> Vec<View> {
    let trace = Trace::open(path).unwrap();
    assert!(trace.verify().is_clean());
    let run = Run::load(&trace);
    let verdict = run.judge(None, Checks::Recorded);
    let _ = report::render(&run, &verdict);
    let _ = why::tell(&run, &verdict);
    let _ = diff::diff(&run, &run, &diff::Part::ALL).text();
    export::json_lines(&run, &mut std::io::sink()).unwrap();
    export::series_csv(&run, &mut std::io::sink()).unwrap();
    let mut shown = Vec::new();
    if let Ok(checkpoints) = Checkpoints::of(&run) {
        let checkpoint = checkpoints.at(None).unwrap();
        let views = View::PLAIN.into_iter().chain([View::Map { wanted: "demo.bss".into(), follow: true }]);
        shown = views.filter(|view| view.show(&checkpoint).is_ok()).collect();
        export::vmcore::write_vmcore(&checkpoint, &path.with_extension("core")).unwrap();
    }
    let options = SlimOptions { level: 1, pages: KeepPages::Kernel, redact: true, ..SlimOptions::default() };
    let _ = slim(path, &path.with_extension("slim"), &options);
    shown
}

#[test]
fn a_toy_kernel_is_shown_as_it_was_made() {
    for seed in SEEDS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.trace.zst");
        write_with_memory(&toy_kernel(seed).0, &path);
        let shown = show_all(&path);
        for view in &View::PLAIN[..7] {
            assert!(shown.contains(view), "{view} is not shown, but {shown:?}");
        }
        let trace = Trace::open(&path).unwrap();
        let run = Run::load(&trace);
        let checkpoints = Checkpoints::of(&run).unwrap();
        let lines = View::Dsqs.show(&checkpoints.at(Some("periodic_000")).unwrap()).unwrap().lines.join("\n");
        assert!(lines.contains("waits"), "{lines}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_is_in_memory_every_view_export_and_story_ends(seed in SEEDS, writes in writes()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.trace.zst");
        let (mut guest, words) = toy_kernel(seed);
        overwrite(&mut guest, &words, &writes);
        write_with_memory(&guest, &path);
        show_all(&path);
    }
}
