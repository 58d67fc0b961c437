//! Schedulers of the package registry: `cargo install` into the cache, each version once.
//!
//! ```text
//! $XDG_CACHE_HOME/ktstr/crates/NAME-VERSION/bin/   its programs
//! $XDG_CACHE_HOME/ktstr/crates/target/             cargo's target folder, for the next one to reuse
//! $XDG_CACHE_HOME/ktstr/crates/libraries/          what they are built and run with where the host lacks it
//! ```

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::{env, io};

use semver::Version;

use super::error::{Error, Result};
use super::host::{Context, Host};
use super::libraries::{self, OLDEST_CLANG};
use super::run::run_into;
use super::toolchain::{BpfToolchain, write_starter};

/// The folder of the cache.
const FOLDER: &str = "crates";
/// The folder in it of what they are built with where the host lacks it.
const LIBRARIES: &str = "libraries";
/// The part of a staging folder that becomes the entry.
const MADE: &str = "made";
/// Lines of a failed build that its error shows: what a compiler says of one fault.
const TAIL_LINES: usize = 40;
/// Bytes at the end of cargo's output in which the last line is looked for.
const LAST_LINE_BYTES: u64 = 400;
/// Variables of the cargo that runs this program, or of its user's project, that are not for another package.
const NOT_FOR_IT: [&str; 9] = [
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_INSTALL_ROOT",
    "CARGO_MAKEFLAGS",
    "CARGO_TARGET_DIR",
    "MAKEFLAGS",
    "RUSTFLAGS",
];

/// A version of a package of the registry: `scx_lavd@1.1.4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrateSpec {
    name: String,
    version: Version,
}

/// Text that names no version of a package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{asked}` names no version of a package: {why}; write it as `scx_lavd@1.1.4`")]
pub struct BadCrateSpec {
    asked: String,
    why: String,
}

impl FromStr for CrateSpec {
    type Err = BadCrateSpec;

    fn from_str(asked: &str) -> Result<Self, BadCrateSpec> {
        let bad = |why: String| BadCrateSpec { asked: asked.to_owned(), why };
        let (name, version) = asked.split_once('@').ok_or_else(|| bad("it has no `@`".to_owned()))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(plain) {
            return Err(bad("its name is not one of a package".to_owned()));
        }
        // All three numbers: the same test is to run the same program tomorrow.
        let version = Version::parse(version).map_err(|error| bad(error.to_string()))?;
        Ok(Self { name: name.to_owned(), version })
    }
}

impl fmt::Display for CrateSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl CrateSpec {
    fn entry(&self, context: &Context) -> PathBuf {
        context.cache.path(FOLDER).join(format!("{}-{}", self.name, self.version))
    }
}

/// The program of `spec`: of the cache, else installed into it. `toolchain` is asked where the host's clang will not do.
pub(super) fn program(
    context: &Context,
    spec: &CrateSpec,
    toolchain: impl FnOnce() -> Result<BpfToolchain>,
) -> Result<PathBuf> {
    let entry = spec.entry(context);
    if !entry.is_dir() {
        install(context, spec, toolchain)?;
    }
    of_entry(&entry, spec)
}

/// The program of an installed package: that of the package's name, or the only one.
fn of_entry(entry: &Path, spec: &CrateSpec) -> Result<PathBuf> {
    let bin = entry.join("bin");
    let read = fs::read_dir(&bin).map_err(Error::io("read", &bin))?;
    let mut programs: Vec<PathBuf> = read
        .map(|file| file.map(|file| file.path()))
        .collect::<io::Result<_>>()
        .map_err(Error::io("read", &bin))?;
    programs.sort();
    let named = programs.iter().find(|path| path.file_name().is_some_and(|file| file == spec.name.as_str()));
    let only = || programs.first().filter(|_| programs.len() == 1);
    named.or_else(only).cloned().ok_or_else(|| Error::CrateProgram {
        spec: spec.to_string(),
        found: programs
            .iter()
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect(),
    })
}

fn install(
    context: &Context,
    spec: &CrateSpec,
    toolchain: impl FnOnce() -> Result<BpfToolchain>,
) -> Result<()> {
    let lock = context.cache.lock("crates", context.progress)?;
    let entry = spec.entry(context);
    if entry.is_dir() {
        return Ok(());
    }
    let staging = lock.stage()?;
    let made = staging.path().join(MADE);
    let mut command = Command::new(cargo());
    command.args(["install", "--locked", "--no-track", "--root"]).arg(&made);
    command.arg("--target-dir").arg(context.cache.path(FOLDER).join("target"));
    command.arg("--version").arg(format!("={}", spec.version)).arg(&spec.name);
    // Not in the user's project, whose configuration is not for it.
    command.current_dir(staging.path());
    for variable in NOT_FOR_IT {
        command.env_remove(variable);
    }
    if env::var_os("BPF_CLANG").is_none() && !has_clang(&context.host) {
        let starter = staging.path().join("clang");
        let toolchain = toolchain()?;
        write_starter(&toolchain.clang(), &starter).map_err(Error::io("write", &starter))?;
        command.env("BPF_CLANG", &starter);
    }
    let libclang = env::var_os("LIBCLANG_PATH");
    if !libraries::host_has_them(&context.host, libclang.is_some()) {
        match libraries::fetched(context) {
            Ok(fetched) => {
                fetched.serve(&mut command, &context.cache.path(FOLDER).join(LIBRARIES))?;
                if let Some(given) = libclang {
                    command.env("LIBCLANG_PATH", given);
                }
            }
            // Some of it may do. If not, the failed build says what to install.
            Err(error) => context.progress.note(&format!("{spec} is built with what the host has: {error}")),
        }
    }
    let log = staging.path().join("cargo.log");
    let output = File::options().read(true).append(true).create(true).open(&log);
    let output = output.map_err(Error::io("create", &log))?;
    context.progress.note(&format!("building {spec} of the package registry, which takes minutes, once"));
    let step = context.progress.step(format!("built {spec}"), None);
    let doing = format!("install {spec}");
    run_into(command, &doing, &lock, &output, TAIL_LINES, || {
        if let Some(line) = last_line(&output) {
            step.say(&format!("building {spec}: {line}"));
        }
    })
    .map_err(|error| match error {
        Error::Failed { output, .. } if is_unknown(spec, &output) => {
            Error::NoCrate { spec: spec.to_string(), name: spec.name.clone(), output }
        }
        Error::Failed { program, status, output, .. } => {
            Error::CrateBuild { spec: spec.to_string(), program, status, output, instead: libraries::INSTEAD }
        }
        other => other,
    })?;
    step.done();
    staging.publish(MADE, &entry)
}

/// Whether cargo says that the registry has no such package. What a build lacks is of no interest then.
fn is_unknown(spec: &CrateSpec, output: &str) -> bool {
    output.contains(&format!("could not find `{}` in registry", spec.name))
}

/// The cargo that runs this program, else that on `PATH`.
pub fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Whether the clang that build scripts use is there and new enough. One that the user names in `BPF_CLANG` is the user's
/// choice: the build says what is wrong with it.
fn has_clang(host: &Host) -> bool {
    let Some(Ok(output)) = host.find("clang").map(|clang| Command::new(clang).arg("--version").output())
    else {
        return false;
    };
    clang_major(&String::from_utf8_lossy(&output.stdout)) >= Some(OLDEST_CLANG)
}

/// The first number of the version in what `clang --version` prints.
fn clang_major(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("clang version ")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The last line that a program wrote so far.
fn last_line(output: &File) -> Option<String> {
    let len = output.metadata().ok()?.len();
    let from = len.saturating_sub(LAST_LINE_BYTES);
    let mut bytes = vec![0; (len - from) as usize];
    output.read_exact_at(&mut bytes, from).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::provision::{Cache, Progress};

    fn spec(text: &str) -> Result<CrateSpec, BadCrateSpec> {
        text.parse()
    }

    #[test]
    fn a_package_is_named_with_its_whole_version() {
        assert_eq!(spec("scx_lavd@1.1.4").unwrap().to_string(), "scx_lavd@1.1.4");
        assert_eq!(spec("a-b@0.1.0-rc.1").unwrap().to_string(), "a-b@0.1.0-rc.1");
        for bad in [
            "scx_lavd",
            "scx_lavd@",
            "scx_lavd@1.1",
            "scx_lavd@^1.1.4",
            "@1.1.4",
            "../x@1.1.4",
            "--git@1.0.0",
        ] {
            let error = spec(bad).unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("scx_lavd@1.1.4"), "{error}");
        }
    }

    /// It was told which libraries to install for it.
    #[test]
    fn a_package_that_is_not_there_is_told_from_one_that_does_not_build() {
        let spec = spec("scx_rusty@0.0.99").unwrap();
        let said = "    Updating crates.io index\nerror: could not find `scx_rusty` in registry `crates-io` with version `=0.0.99`";
        assert!(is_unknown(&spec, said));
        assert!(
            !is_unknown(&spec, "error: could not find `libelf` in registry\n")
                && !is_unknown(&spec, "error: linking failed")
        );
        let error =
            Error::NoCrate { spec: spec.to_string(), name: spec.name.clone(), output: said.to_owned() };
        let text = error.to_string();
        assert!(text.contains("no scx_rusty@0.0.99 in") && text.contains("`cargo info scx_rusty`"), "{text}");
        assert!(!text.contains("libelf"), "{text}");
    }

    #[test]
    fn the_version_of_a_clang_is_read() {
        assert_eq!(clang_major("Debian clang version 19.1.7 (3+b1)\nTarget: x\n"), Some(19));
        assert_eq!(clang_major("Ubuntu clang version 14.0.0-1ubuntu1.1"), Some(14));
        assert_eq!(clang_major("gcc (Debian 12.2.0-14) 12.2.0"), None);
    }

    #[test]
    fn a_clang_that_is_absent_or_too_old_will_not_do() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host { root: dir.path().to_owned(), path: dir.path().into(), qemu: None, bpf_root: None };
        assert!(!has_clang(&host));
        for (version, will_do) in [("14.0.6", false), ("17.0.1", false), ("18.0.0", true), ("22.1.2", true)] {
            let clang = dir.path().join("clang");
            fs::write(&clang, format!("#!/bin/sh\necho Debian clang version {version}\n")).unwrap();
            fs::set_permissions(&clang, fs::Permissions::from_mode(0o755)).unwrap();
            assert_eq!(has_clang(&host), will_do, "{version}");
        }
    }

    fn context(dir: &Path) -> Context {
        let cache = Cache::at(dir.join("cache")).unwrap();
        let host = Host { root: dir.to_owned(), path: OsString::new(), qemu: None, bpf_root: None };
        Context { cache, host, progress: Progress::Silent }
    }

    /// An entry of the cache with these programs.
    fn installed(context: &Context, spec: &CrateSpec, programs: &[&str]) -> PathBuf {
        let bin = spec.entry(context).join("bin");
        fs::create_dir_all(&bin).unwrap();
        for program in programs {
            fs::write(bin.join(program), "").unwrap();
            fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        bin
    }

    fn no_toolchain() -> Result<BpfToolchain> {
        panic!("nothing is to be built")
    }

    #[test]
    fn what_is_in_the_cache_is_not_built_and_of_several_programs_its_name_decides() {
        let dir = tempfile::tempdir().unwrap();
        let context = context(dir.path());
        let [one, two, odd] =
            ["scx_one@1.0.0", "scx_two@1.0.0", "scx_odd@1.0.0"].map(|text| spec(text).unwrap());
        let bin = installed(&context, &one, &["other"]);
        assert_eq!(program(&context, &one, no_toolchain).unwrap(), bin.join("other"));
        let bin = installed(&context, &two, &["scx_two", "scxtop"]);
        assert_eq!(program(&context, &two, no_toolchain).unwrap(), bin.join("scx_two"));
        installed(&context, &odd, &["a", "b"]);
        let error = program(&context, &odd, no_toolchain).unwrap_err().to_string();
        assert!(error.contains("scx_odd@1.0.0") && error.contains("a, b"), "{error}");
    }

    #[test]
    fn the_last_line_is_told_whatever_was_written() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let file = File::options().read(true).write(true).open(path.path()).unwrap();
        assert_eq!(last_line(&file), None);
        fs::write(path.path(), "   Compiling a v1\n\x1b[1m   Compiling b v2\n\n").unwrap();
        assert_eq!(last_line(&file).as_deref(), Some("[1m   Compiling b v2"));
        fs::write(path.path(), format!("x\n{}", "y".repeat(1000))).unwrap();
        assert_eq!(last_line(&file).map(|line| line.len()), Some(LAST_LINE_BYTES as usize));
    }
}
