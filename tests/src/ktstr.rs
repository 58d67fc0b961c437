//! The programs `ktstr` and `cargo-ktstr`, built when they are first asked for.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The program `ktstr` of this build.
pub fn ktstr() -> Command {
    Command::new(built().join("ktstr"))
}

/// The program `cargo-ktstr` of this build.
pub fn cargo_ktstr() -> Command {
    let mut command = Command::new(built().join("cargo-ktstr"));
    command.arg("ktstr");
    command
}

/// Whether `cargo nextest` is installed; that it is not is said.
pub fn has_nextest() -> bool {
    let probe = Command::new("cargo").args(["nextest", "--version"]).output();
    let has = probe.is_ok_and(|output| output.status.success());
    if !has {
        println!("cargo nextest is not installed: what it does is not looked at");
    }
    has
}

/// The folder with the programs: they belong to another package than the tests, so cargo tells us neither where
/// they are nor builds them for `cargo test -p ktstr-tests`.
fn built() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = profile_folder();
        // The profile of the folder `debug` is called `dev`.
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(other) => other,
        };
        let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet", "--package", "ktstr", "--bins", "--profile", profile]);
        build.arg("--target-dir").arg(target_folder());
        let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("starting cargo");
        assert!(status.success(), "{build:?} ended with {status}");
        folder
    })
}

/// `target/debug`, as the running test is `target/debug/deps/TEST-HASH`.
fn profile_folder() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    test.ancestors().nth(2).expect("the folder of programs").to_owned()
}

/// `target`: what tests make for tests to come is kept there.
pub fn target_folder() -> PathBuf {
    profile_folder().parent().expect("the target folder").to_owned()
}
