//! Builds the guest's init as a static program, for `src/init_image.rs` to embed.
//!
//! A nested cargo with a target folder of its own, so that the outer one's lock is not waited for; the outer
//! one's flags and wrappers (clippy, coverage) are not for a guest's program.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The guest's target, whatever the host's is.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The profile of the workspace's Cargo.toml.
const PROFILE: &str = "guest-init";
/// Static and at a fixed address: without relocations to do, it starts sooner.
const RUSTFLAGS: [&str; 4] = ["-C", "target-feature=+crt-static", "-C", "relocation-model=static"];
/// What the outer cargo or its callers say to their compiler.
const NOT_INHERITED: [&str; 7] = [
    "RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_BUILD_DIR",
];

fn main() {
    let ours = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let workspace = ours.join("..");
    for input in ["guest-init/src", "guest-init/Cargo.toml", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    // Only the compiler knows otherwise how much is optimized.
    println!("cargo::rustc-env=KTSTR_OPT_LEVEL={}", env::var("OPT_LEVEL").expect("set by cargo"));
    if let Err(error) = build(&workspace, &out) {
        println!("cargo::error={error}");
    }
}

/// Build init and leave it as `guest-init` in `out`.
fn build(workspace: &Path, out: &Path) -> Result<(), String> {
    let target_folder = out.join("init");
    let mut cargo = Command::new(env::var_os("CARGO").expect("set by cargo"));
    cargo
        .args(["build", "--package", "guest-init", "--bin", "guest-init", "--features", "init"])
        .args(["--target", TARGET, "--profile", PROFILE])
        .arg("--manifest-path")
        .arg(workspace.join("guest-init/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_folder)
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    for variable in NOT_INHERITED {
        cargo.env_remove(variable);
    }
    let output = cargo.output().map_err(|error| format!("starting cargo for the guest's init: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        eprintln!("{text}");
        return Err(explain(&text));
    }
    let program = target_folder.join(TARGET).join(PROFILE).join("guest-init");
    std::fs::copy(&program, out.join("guest-init"))
        .map(|_| ())
        .map_err(|error| format!("copying {}: {error}", program.display()))
}

/// What is missing when init, a static program for x86-64, cannot be built.
fn explain(text: &str) -> String {
    let why = if text.contains("can't find crate for `std`") || text.contains("target may not be installed") {
        format!("Rust's standard library for {TARGET} is missing; `rustup target add {TARGET}` installs it")
    } else if !has_static_libc() {
        "the static C library libc.a was not found; it is in libc6-dev (Debian, Ubuntu) or glibc-static (Fedora)".into()
    } else {
        let first = text.lines().find(|line| line.starts_with("error"));
        first.unwrap_or("cargo gave no reason").to_owned()
    };
    format!("building the guest's init, a static program, failed: {why}")
}

/// Whether the C compiler, which is the linker, knows of `libc.a`: it answers with the bare name if not.
fn has_static_libc() -> bool {
    let output = Command::new("cc").arg("-print-file-name=libc.a").output();
    output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_absolute())
}
