//! The Rust code that the pages of the documentation show compiles: that of a page as one file, as somebody makes it who follows the page. What
//! is no code of an author's, or only a part of some, is a block of `rust,ignore`. The guide shows files that are compiled by themselves
//! (`tests/guide`).

mod compiled;

use std::fs;
use std::path::{Path, PathBuf};

use compiled::{json_lines, library, rustc};

/// What a reader knows to be at the top of each file.
const PRELUDE: &str = "use ktstr::prelude::*;";

#[test]
fn what_the_pages_show_compiles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages =
        folder.filter(|path| path.extension().is_some_and(|of| of == "md")).chain([root.join("README.md")]);
    let library = library("documentation");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("documentation");
    fs::create_dir_all(&out).unwrap();
    let mut compiled = 0;
    for page in pages {
        let code = code(&fs::read_to_string(&page).unwrap());
        if !code.is_empty() {
            let said = errors(&page, &code, &library, &out);
            assert!(said.is_empty(), "{}:\n{said}\nin\n{code}", page.display());
            compiled += 1;
        }
    }
    assert!(compiled >= 10, "only {compiled} pages have code");
}

#[test]
fn a_page_with_code_that_does_not_compile_is_found() {
    let library = library("documentation");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("documentation");
    fs::create_dir_all(&out).unwrap();
    let page = "A test:\n```rust\n#[ktstr_test(duration_s = 1)]\nfn one(ctx: &Ctx) -> Result<AssertResult> {\n    scenarios::steady(ctx)\n}\n```\n\
                more:\n```text\nno code\n```\n```rust,ignore\nnor(this\n```\nand:\n```rust\nfn two() -> WorkType {\n    SpinWait.into()\n}\n```\n";
    let written = code(page);
    assert!(!written.contains("no code") && !written.contains("nor(this"), "{written}");
    assert_eq!(errors(Path::new("good.md"), &written, &library, &out), "");
    for (was, is, said) in [
        ("duration_s", "duration_ms", "duration_ms"),
        ("SpinWait.into()", "SpinWait", "mismatched types"),
        ("scenarios::steady", "scenarios::stead", "stead"),
    ] {
        let errors = errors(Path::new("bad.md"), &written.replace(was, is), &library, &out);
        assert!(errors.contains(said), "{errors}");
    }
}

/// The Rust code of a page.
fn code(page: &str) -> String {
    let mut code = String::new();
    let (mut inside, mut takes) = (false, false);
    for line in page.lines() {
        if let Some(language) = line.strip_prefix("```") {
            (inside, takes) = (!inside, !inside && language == "rust");
        } else if inside && takes && line != PRELUDE {
            code.push_str(line);
            code.push('\n');
        }
    }
    if code.is_empty() { code } else { format!("{PRELUDE}\n{code}") }
}

/// What the compiler finds wrong with the code of a page, as a test.
fn errors(page: &Path, code: &str, library: &Path, out: &Path) -> String {
    let name = page.file_stem().unwrap().to_string_lossy().to_lowercase().replace('-', "_");
    let file: PathBuf = out.join(format!("{name}.rs"));
    fs::write(&file, code).unwrap();
    // A macro looks for what belongs to the package, and for its name.
    let mut rustc = rustc(library, out);
    let checked = rustc.args(["--test", "--crate-name", &name]).arg(&file).output().unwrap();
    let said = json_lines(&checked.stderr).filter(|said| said["level"] == "error");
    let said: Vec<String> =
        said.map(|said| said["rendered"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(checked.status.success(), said.is_empty(), "{}: {said:?}", page.display());
    said.concat()
}
