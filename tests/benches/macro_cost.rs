//! What `#[ktstr_test]` adds to the time that the compiler takes for a file of 50 tests, over 50 plain `#[test]`s with the same bodies.
//!
//! The files differ in nothing else: same library, same flags, those of a debug build; all are linked. A test of ours reaches what boots
//! and records machines, which the linker leaves out of a program that has no such test. That is paid once for each program and not for
//! each test, so that there are two baselines: one without any test of ours, and one that has a single one among its 50.
//!
//! What is counted is CPU time, of the compiler and of the linker that it starts. The files are compiled in turn, so that a host whose
//! speed changes changes all of them, and each ratio is that of neighbours.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    let file = |name: &str, is_ours: &dyn Fn(usize) -> bool| {
        let path = folder.path().join(name);
        let mut text = HEAD.to_owned();
        for number in 0..TESTS {
            let (before, behind) = if is_ours(number) { (OURS, "") } else { ("", PLAIN) };
            let test = format!("{before}{BODY}{behind}").replace('@', &number.to_string());
            write!(text, "{test}").expect("a string");
        }
        fs::write(&path, text).expect("a file");
        path
    };
    let ours = file("ours.rs", &|_| true);
    let one = file("one.rs", &|number| number == 0);
    let plain = file("plain.rs", &|_| false);
    let (mut over_one, mut over_plain) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let [of_ours, of_one, of_plain] = [&ours, &one, &plain].map(|file| compile(file, &library));
        println!(
            "{TESTS} tests: {of_ours:.2} s with #[ktstr_test], {of_one:.2} s with one such, {of_plain:.2} s with #[test]"
        );
        over_one.push(of_ours / of_one);
        over_plain.push(of_ours / of_plain);
    }
    say("the macro adds", over_one);
    say("with what is linked once, it adds", over_plain);
}

fn say(what: &str, mut ratios: Vec<f64>) {
    ratios.sort_by(f64::total_cmp);
    let percent = |ratio: f64| 100.0 * (ratio - 1.0);
    let (rounds, last) = (ratios.len(), ratios.len() - 1);
    println!(
        "{what} {:.0} % (median of {rounds}, {:.0} to {:.0} %), promised 10 %",
        percent(ratios[rounds / 2]),
        percent(ratios[0]),
        percent(ratios[last])
    );
}

/// The seconds of CPU time that the compiler takes.
fn compile(file: &Path, library: &Path) -> f64 {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--edition", "2024", "--test", "--allow", "dead_code"]);
    command.args(["-C", "opt-level=0", "-C", "debuginfo=line-tables-only"]);
    command.arg("--extern").arg(format!("ktstr={}", library.display()));
    // Beside the library, or in `deps` there, where cargo has put a link to the library above them.
    let folder = library.parent().expect("a folder");
    for folder in [folder.to_owned(), folder.join("deps")] {
        command.arg("-L").arg(format!("dependency={}", folder.display()));
    }
    command.arg("-o").arg(file.with_extension("")).arg(file);
    // Those that cargo sets.
    command.env("CARGO_PKG_NAME", "mine").env("CARGO_MANIFEST_DIR", "/mine");
    // As for those who do not run the gauntlet: the library's own repository has it set.
    command.env_remove("KTSTR_GAUNTLET");
    let before = cpu_of_children();
    let output = command.output().expect("a compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    cpu_of_children() - before
}

/// The CPU time of all processes that this one has started and waited for, and of those that they did, in seconds: `cutime` and `cstime` of
/// proc_pid_stat(5), in hundredths.
fn cpu_of_children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("of this process");
    let (_, fields) = stat.rsplit_once(") ").expect("behind the name");
    let field = |number: usize| fields.split(' ').nth(number - 3).and_then(|text| text.parse::<f64>().ok());
    (field(16).expect("cutime") + field(17).expect("cstime")) / 100.0
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
