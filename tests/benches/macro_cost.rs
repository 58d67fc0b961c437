//! What `#[ktstr_test]` adds to the time that the compiler takes for a file of 50 tests, over 50 plain `#[test]`s with the same bodies.
//!
//! The files differ in nothing else: same library, same flags, those of a debug build; both are linked. They are compiled in turn, so
//! that a host whose speed changes changes both, and the ratio is that of neighbours.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

/// Tests of a file.
const TESTS: usize = 50;
/// What a file begins with.
const HEAD: &str = "use ktstr::prelude::*;\n\
    declare_scheduler!(MINE, { name = \"mine\", binary = \"scx_mine\", topology = (1, 1, 2, 1) });\n";
/// The body of a test, as a guide's first test has it.
const BODY: &str = "fn body_@(ctx: &Ctx) -> Result<AssertResult> {\n    \
    execute_defs(ctx, vec![ctx.cgroup_def(\"cg_0\"), ctx.cgroup_def(\"cg_1\").workers(@)])\n}\n";
/// A test of the library.
const OURS: &str = "#[ktstr_test(scheduler = MINE, duration_s = 5, num_snapshots = 10, \
    claims = [\"nondecreasing(nr_dispatched)\"])]\n";
/// One that names its body.
const PLAIN: &str = "#[test]\nfn test_@() {\n    let body: fn(&Ctx) -> Result<AssertResult> = body_@;\n    \
    assert!(std::hint::black_box(body as usize) != 0);\n}\n";

fn main() {
    let rounds = if std::env::args().any(|arg| arg == "--test") { 1 } else { 9 };
    let folder = tempfile::tempdir().expect("a folder");
    let library = library();
    let file = |name: &str, of: &dyn Fn(&str) -> String| {
        let path = folder.path().join(name);
        let mut text = HEAD.to_owned();
        for number in 0..TESTS {
            let test = of(BODY).replace('@', &number.to_string());
            write!(text, "{test}").expect("a string");
        }
        fs::write(&path, text).expect("a file");
        path
    };
    let ours = file("ours.rs", &|body| format!("{OURS}{body}"));
    let plain = file("plain.rs", &|body| format!("{body}{PLAIN}"));
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let [with, without] = [&ours, &plain].map(|file| compile(file, &library));
        println!("{TESTS} tests: {with:.2} s with #[ktstr_test], {without:.2} s with #[test]");
        ratios.push(with / without);
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "the macro adds {:.0} % (median of {rounds}, {:.0} to {:.0} %), promised 10 %",
        100.0 * (ratios[rounds / 2] - 1.0),
        100.0 * (ratios[0] - 1.0),
        100.0 * (ratios[rounds - 1] - 1.0)
    );
}

/// The seconds that the compiler takes.
fn compile(file: &Path, library: &Path) -> f64 {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--edition", "2024", "--test", "--allow", "dead_code"]);
    command.args(["-C", "opt-level=0", "-C", "debuginfo=line-tables-only"]);
    command.arg("--extern").arg(format!("ktstr={}", library.display()));
    command.arg("-L").arg(format!("dependency={}", library.parent().expect("a folder").display()));
    command.arg("-o").arg(file.with_extension("")).arg(file);
    // Those that cargo sets.
    command.env("CARGO_PKG_NAME", "mine").env("CARGO_MANIFEST_DIR", "/mine");
    let began = Instant::now();
    let output = command.output().expect("a compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    began.elapsed().as_secs_f64()
}

/// The library, which cargo is asked for.
fn library() -> PathBuf {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--package", "ktstr", "--lib", "--message-format", "json"]);
    let output = command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).output().expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let messages = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    messages
        .filter(|message| message["target"]["name"] == "ktstr" && message["target"]["kind"][0] == "lib")
        .find_map(|message| message["filenames"][0].as_str().map(PathBuf::from))
        .expect("cargo names the library")
}
