//! Everything that is shown of a trace with memory, on the toy kernel: right, and then wrong.

use std::path::Path;

use proptest::prelude::*;

use super::{RUN_VIEWS, VIEWS, View};
use crate::judge::CheckSource;
use crate::kernel::hostile::writes;
use crate::run::{Checkpoints, Run};
use crate::slim::{KeepPages, SlimOptions, slim};
use crate::testing::{SEEDS, overwrite, toy_kernel, write_with_memory};
use crate::trace::Trace;
use crate::{diff, export, report, why};

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
fn a_toy_kernel_is_shown_as_it_was_made() {
    for seed in SEEDS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.trace.zst");
        write_with_memory(&toy_kernel(seed).0, &path);
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
    for name in VIEWS.iter().map(|view| view.name).chain(RUN_VIEWS.iter().map(|view| view.name)) {
        assert!(named(&format!("--{name}")), "README.md does not name --{name}");
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_is_in_memory_every_view_export_and_explanation_ends(seed in SEEDS, writes in writes()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.trace.zst");
        let (mut guest, words) = toy_kernel(seed);
        overwrite(&mut guest, &words, &writes);
        write_with_memory(&guest, &path);
        show_all(&path);
    }
}
