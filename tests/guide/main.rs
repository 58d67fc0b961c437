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
    let background = CgroupDef::named("background").workers(2).comm("background").nice(10);
    execute_defs(ctx, vec![CgroupDef::named("foreground").workers(4).comm("foreground"), background])
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
    for words in ["background[", "in queue 0x1", "ran foreground["] {
        assert!(why.contains(words), "it does not say `{words}`:\n{why}");
    }
    // As the page says, and not as in the last checkpoint, of a scheduler that has ended.
    let mut queues = ktstr_tests::ktstr();
    queues.arg("replay").arg(run.trace_path()).args(["--dsqs", "--at", "half_watchdog_000"]);
    let queues = queues.output().expect("ktstr replay");
    let queues = String::from_utf8_lossy(&queues.stdout).into_owned();
    let queue = queues.lines().find(|line| line.trim_start().starts_with("0x1 "));
    let waiting = queue.and_then(|queue| queue.split_whitespace().nth(2)?.parse::<u32>().ok());
    assert!(waiting.is_some_and(|tasks| (1..=2).contains(&tasks)), "nobody waits in the queue:\n{queues}");
}

/// It is the one that a reader's cargo would refuse these packages for.
#[test]
fn the_version_of_rust_that_is_needed_is_told() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let needed = format!("Rust {} or later", env!("CARGO_PKG_RUST_VERSION"));
    for page in ["docs/guide/src/before.md", "README.md"] {
        let text = fs::read_to_string(root.join(page)).expect("a page");
        assert!(text.contains(&needed), "{page} does not say `{needed}`");
    }
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

/// Every command that a page shows is one: its options and their values are taken. Nothing of it is done, as `--help` stands behind it.
#[test]
fn every_command_of_the_pages_is_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = ["docs", "docs/guide/src"].map(|folder| root.join(folder));
    let pages = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).expect("pages"))
        .map(|entry| entry.expect("a page").path());
    let mut commands = 0;
    for page in
        pages.chain([root.join("README.md")]).filter(|path| path.extension().is_some_and(|of| of == "md"))
    {
        let text = fs::read_to_string(&page).expect("a page");
        for line in text.lines() {
            let Some(words) = command(line) else { continue };
            let (program, args) = words.split_first().expect("a program");
            let mut command =
                if program == "cargo" { ktstr_tests::cargo_ktstr() } else { ktstr_tests::ktstr() };
            // That of cargo is called with the name of the plugin already.
            let args = if program == "cargo" { &args[1..] } else { args };
            let ended = command.args(args).arg("--help").output().expect("the program");
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.success(), "{}: `{}`: {said}", page.display(), line.trim());
            commands += 1;
        }
    }
    assert!(commands >= 40, "only {commands} commands were found");
}

/// The words of a line that shows a command of ours: in a block, with a prompt or indented. What follows after a comment, a pipe or two blanks
/// is not the command's, and brackets are around what may be left out.
fn command(line: &str) -> Option<Vec<String>> {
    let line = line
        .strip_prefix("$ ")
        .or_else(|| line.strip_prefix("    "))
        .or(Some(line).filter(|line| line.starts_with("ktstr ")))?;
    if !line.starts_with("ktstr ") && !line.starts_with("cargo ktstr ") {
        return None;
    }
    let end = [" #", " |", "  ", " -- "].iter().filter_map(|end| line.find(end)).min().unwrap_or(line.len());
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for letter in line[..end].chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            '[' | ']' if !quoted => {}
            letter => word.push(letter),
        }
    }
    words.push(word);
    Some(words)
}

#[test]
fn commands_of_pages_are_told_from_what_stands_beside_them() {
    for (line, words) in [
        ("$ ktstr why a.zst   # why", Some(&["ktstr", "why", "a.zst"][..])),
        ("    ktstr replay T --var 'a b'     what it was", Some(&["ktstr", "replay", "T", "--var", "a b"])),
        ("    ktstr kernel fetch [SPEC] [--json]", Some(&["ktstr", "kernel", "fetch", "SPEC", "--json"])),
        ("ktstr trace export T | jq x", Some(&["ktstr", "trace", "export", "T"])),
        ("$ cargo ktstr test -- --release", Some(&["cargo", "ktstr", "test"])),
        ("ktstr: 6.17..7.2: neither", None),
        ("    ktstr: not a command", None),
        ("$ cargo nextest run", None),
    ] {
        let found = command(line);
        assert_eq!(
            found.as_ref().map(|found| found.iter().map(String::as_str).collect::<Vec<_>>()),
            words.map(<[_]>::to_vec)
        );
    }
}
