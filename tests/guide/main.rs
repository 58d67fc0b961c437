//! The guide, step by step: the code that it shows is here, and does what it says.

#[path = "../../ktstr/templates/new/tests.rs"]
mod as_written;

use std::fs;
use std::path::{Path, PathBuf};

use ktstr::prelude::*;
use ktstr_tests::fixture;

/// The test as the guide shows it, of the scheduler in which the fault is mended.
mod mended {
    use ktstr::prelude::*;

    declare_scheduler!(SCX_MINE, { name = "mine", source = "guide/serves/scx_mine", topology = (1, 1, 2, 1) });

    include!("background.rs");
}

declare_scheduler!(FORGETS, { name = "mine", source = "guide/forgets/scx_mine", topology = (1, 1, 2, 1) });

/// The same of the scheduler with the fault.
#[ktstr_test(
    ignore,
    scheduler = FORGETS,
    duration_s = 8,
    num_snapshots = 10,
    max_gap_ms = 2000,
    claims = ["final(nr_background >= 1)"]
)]
fn with_the_fault(ctx: &Ctx) -> Result<AssertResult> {
    let background = CgroupDef::named("background").workers(2).nice(10);
    execute_defs(ctx, vec![CgroupDef::named("foreground").workers(4), background])
}

#[test]
fn the_fault_of_the_guide_is_found_and_told() {
    let run = fixture("with_the_fault").run();
    assert!(!run.status.success(), "{run}");
    run.assert_replays();
    let report = run.report();
    assert!(report.starts_with("FAIL with_the_fault"), "{run}");
    assert!(report.contains("runnable task stall"), "{run}");
    let why = ktstr_tests::ktstr().arg("why").arg(run.trace_path()).output().expect("ktstr why");
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("background"), "it does not name who was forgotten:\n{why}");
}

/// `{{#include PATH:ANCHOR}}` of a page takes a part of a file that CI builds.
#[test]
fn everything_that_the_guide_shows_and_links_is_there() {
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide");
    let source = book.join("src");
    let summary = fs::read_to_string(source.join("SUMMARY.md")).expect("the summary");
    let mut pages = 0;
    for entry in fs::read_dir(&source).expect("the pages") {
        let path = entry.expect("a page").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a page");
        if name != "SUMMARY.md" {
            assert!(summary.contains(&format!("({name})")), "{name} is not in the summary");
            pages += 1;
        }
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let is_file = !target.is_empty() && !target.contains("://");
            assert!(
                !is_file || source.join(target).exists(),
                "{name}: a link to {target}, which is not there"
            );
        }
        for include in text.split("{{#include ").skip(1).filter_map(|rest| rest.split("}}").next()) {
            check_include(&source, include);
        }
        for block in text.split("```rust").skip(1) {
            let code = block.split("```").next().unwrap_or_default();
            assert!(code.contains("{{#include"), "{name}: code that CI does not build:\n{code}");
        }
    }
    assert!(pages >= 4, "{pages} pages");
}

fn check_include(source: &Path, include: &str) {
    let (path, anchor) =
        include.split_once(':').map_or((include, None), |(path, anchor)| (path, Some(anchor)));
    let path: PathBuf = source.join(path);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for mark in
        anchor.iter().flat_map(|anchor| [format!("ANCHOR: {anchor}"), format!("ANCHOR_END: {anchor}")])
    {
        assert!(text.contains(&mark), "{} has no `{mark}`", path.display());
    }
}
