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

/// The folder with the programs: they belong to another package than the tests, so cargo tells us neither where
/// they are nor builds them for `cargo test -p ktstr-tests`.
fn built() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            .args(["build", "--quiet", "--package", "ktstr", "--bins"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        let status = build.status().expect("starting cargo");
        assert!(status.success(), "{build:?} ended with {status}");
        // target/debug/deps/TEST-HASH
        let test = env::current_exe().expect("the path of this test");
        test.ancestors().nth(2).expect("the target folder").to_owned()
    })
}
