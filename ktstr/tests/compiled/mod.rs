//! Compiling a file against the ktstr that was built for this test. trybuild would compile ktstr and all its dependencies anew, and twice,
//! because it does so with flags of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The compiler, which is to check a file that uses `library`, writes to the folder `out`, and says what it finds as lines of JSON.
pub fn rustc(library: &Path, out: &Path) -> Command {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc
        .args(["--edition", "2024", "--emit", "metadata", "--error-format", "json", "--allow", "dead_code"])
        .args(["--extern", &format!("ktstr={}", library.display())])
        .args(["-L", &format!("dependency={}", library.parent().unwrap().display())])
        .arg("--out-dir")
        .arg(out);
    rustc
}

/// The library, which cargo has built for the test `test`: it is asked where.
pub fn library(test: &str) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args("build --package ktstr --message-format json --offline --test".split(' '))
        .arg(test)
        .arg("--target-dir")
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    json_lines(&output.stdout)
        .filter(|line| line["target"]["name"] == "ktstr" && line["target"]["kind"][0] == "lib")
        .find_map(|line| line["filenames"][0].as_str().map(PathBuf::from))
        .expect("cargo names the library")
}

/// The values of a program's output.
pub fn json_lines(output: &[u8]) -> impl Iterator<Item = Value> {
    output
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
}
