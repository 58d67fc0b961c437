//! Each error of `#[ktstr_test]` and `declare_scheduler!`. What they accept is in `accepted.rs`.
//!
//! A file of `compile_fail` has many cases, because the compiler goes on after an error of a macro. Below a line that
//! is wrong stands, as a comment, what the compiler says: carets below what it points at, the message, its notes.

mod compiled;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use compiled::{json_lines, library, rustc};

#[test]
fn every_bad_attribute_is_an_error_that_points_at_its_key() {
    let library = library("attributes");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_fail");
    fs::create_dir_all(&out).unwrap();
    let mut changed = Vec::new();
    for file in fs::read_dir("tests/compile_fail").unwrap() {
        let file = file.unwrap().path();
        let source = fs::read_to_string(&file).unwrap();
        let compiled = annotated(&source, &diagnostics(&file, &library, &out));
        let silent = modules(&compiled).filter(|case| !case.contains("\n//")).collect::<Vec<_>>();
        assert!(silent.is_empty(), "{}: without an error:\n{}", file.display(), silent.join("\n"));
        if compiled != source {
            let now = out.join(file.file_name().unwrap());
            fs::write(&now, compiled).unwrap();
            changed.push(format!("diff {} {}", file.display(), now.display()));
        }
    }
    assert!(
        changed.is_empty(),
        "the compiler says something else than what is expected:\n{}",
        changed.join("\n")
    );
}

/// What the compiler says about `file`, by line.
fn diagnostics(file: &Path, library: &Path, out: &Path) -> BTreeMap<u64, Vec<String>> {
    let output = rustc(library, out).arg(file).output().unwrap();
    assert!(!output.status.success(), "{} compiles", file.display());
    let mut said = BTreeMap::<u64, Vec<String>>::new();
    for diagnostic in json_lines(&output.stderr) {
        let message = diagnostic["message"].as_str().unwrap();
        let spans = diagnostic["spans"].as_array().unwrap();
        let Some(span) = spans.iter().find(|span| span["is_primary"] == true) else {
            // The last two lines, which count the errors and tell of `rustc --explain`.
            let closing = message.starts_with("aborting due to ") || diagnostic["level"] == "failure-note";
            assert!(closing, "{}: {message}", file.display());
            continue;
        };
        assert_eq!(span["file_name"].as_str(), file.to_str(), "{message}");
        let [start, end] =
            ["column_start", "column_end"].map(|column| span[column].as_u64().unwrap() as usize);
        let carets = format!("//{:indent$}{}", "", "^".repeat(end - start), indent = start - 3);
        let label = span["label"].as_str().map(|label| format!(": {label}")).unwrap_or_default();
        let level = match diagnostic["level"].as_str().unwrap() {
            "error" => String::new(),
            other => format!("{other}: "),
        };
        let lines = said.entry(span["line_start"].as_u64().unwrap()).or_default();
        lines.push(format!("{carets} {level}{message}{label}"));
        for child in diagnostic["children"].as_array().unwrap() {
            let note =
                format!("{}: {}", child["level"].as_str().unwrap(), child["message"].as_str().unwrap());
            lines.extend(note.lines().map(|line| format!("//    {line}")));
        }
    }
    said
}

/// `source` with what the compiler says in the place of what was expected. Expectations are the only comments that
/// are not indented.
fn annotated(source: &str, said: &BTreeMap<u64, Vec<String>>) -> String {
    let mut text = String::new();
    for (number, line) in (1..).zip(source.lines()) {
        let code = Some(line).filter(|line| !line.starts_with("// "));
        for line in code.into_iter().chain(said.get(&number).into_iter().flatten().map(String::as_str)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// The cases of a file.
fn modules(source: &str) -> impl Iterator<Item = &str> {
    source.split("\nmod ").skip(1)
}
