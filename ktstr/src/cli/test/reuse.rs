//! What nextest is given of test binaries that are built: it neither builds them once more nor asks cargo for the workspace again, which
//! takes as long as all else that the two do.
//!
//! The binaries are built by `cargo nextest list`, whose list of them nextest takes again (`--binaries-metadata`). Both files are of this
//! process's memory, so that nothing is left behind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{self, ExitStatus};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;

use super::child::exit_code;
use super::{Runner, Signals, TestArgs, arguments};
use crate::cli::asked::{Binary, NotBuilt, printed};
use crate::cli::out;
use crate::workspace::{Target, Workspace};

/// nextest's exit code for tests that do not compile.
const BUILD_FAILED: u8 = 101;
/// How long cargo may look for what the workspace depends on until that is said: it downloads what is missing, in silence.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// What cargo says of the workspace and all that it depends on.
pub(super) struct Metadata(MemoryFile);

impl Metadata {
    /// The workspace around a folder; and what cargo says of it, if nextest runs its tests as they are built without further words.
    ///
    /// # Errors
    /// As [`Workspace::around`].
    pub(super) fn find(here: &Path, args: &TestArgs, runner: Runner) -> Result<(Workspace, Option<Self>)> {
        if runner == Runner::Nextest
            && args.is_plain()
            && let Some((workspace, json)) = with_dependencies(here)
        {
            let file = MemoryFile::of("ktstr-metadata", &json).context("could not make a file in memory")?;
            return Ok((workspace, Some(Self(file))));
        }
        // cargo says what is wrong when it builds.
        Ok((Workspace::around(here)?, None))
    }
}

/// All that cargo says of the workspace around a folder, if it can be had.
fn with_dependencies(here: &Path) -> Option<(Workspace, Vec<u8>)> {
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        scope.spawn(move || drop(sender.send(Workspace::with_dependencies(here))));
        let found = receiver.recv_timeout(TELL_AFTER).or_else(|_| {
            out::note("ktstr: cargo looks for what the workspace depends on, and downloads what is missing");
            receiver.recv()
        });
        found.ok()?.ok()
    })
}

/// Test binaries that are built.
pub(super) struct Built {
    metadata: Metadata,
    list: MemoryFile,
}

impl Built {
    /// Build them. `None`: nextest does not do it in this way, and they are to be built in the other.
    ///
    /// # Errors
    /// [`NotBuilt`]; a cargo that cannot be started.
    pub(super) fn build(
        workspace: &Workspace,
        args: &TestArgs,
        metadata: Metadata,
        signals: &mut Signals,
    ) -> Result<Option<(Vec<Binary>, Self)>> {
        let mut words = arguments(&args.clone().with_rest(Vec::new()), workspace, Runner::Nextest)?;
        let list = ["list", "--list-type", "binaries-only", "--message-format", "json", "--cargo-metadata"];
        let list = list.into_iter().map(OsString::from).chain([metadata.0.path().into()]);
        // In the place of `run`.
        words.splice(1..2, list);
        let mut command = args.cargo();
        command.args(words);
        let (status, json) = printed(&mut command, Some(signals))?;
        if !status.success() {
            return match is_final(status, signals) {
                true => Err(NotBuilt(status).into()),
                false => Ok(None),
            };
        }
        let Some(binaries) = binaries(workspace, &json) else { return Ok(None) };
        let list = MemoryFile::of("ktstr-binaries", json.as_bytes());
        let list = list.context("could not make a file in memory")?;
        Ok(Some((binaries, Self { metadata, list })))
    }

    /// What `cargo` is given to run them: those of the tests that `args` select.
    pub(super) fn arguments(&self, args: &TestArgs, workspace: &Workspace) -> Result<Vec<OsString>> {
        let mut words: Vec<OsString> = Runner::Nextest.words().iter().map(OsString::from).collect();
        words.extend(["--cargo-metadata".into(), self.metadata.0.path().into()]);
        words.extend(["--binaries-metadata".into(), self.list.path().into()]);
        let named = args.named_target(workspace).is_some();
        words.extend(args.filter().filter(|_| !named).map(OsString::from));
        let options = args.options.with(Runner::Nextest, &args.rest)?;
        words.extend(options.into_iter().map(OsString::from));
        Ok(words)
    }
}

/// Whether nothing else is to be tried: the tests do not compile, which cargo has said, or somebody has ended the build.
fn is_final(status: ExitStatus, signals: &mut Signals) -> bool {
    exit_code(status) == BUILD_FAILED || signals.exit_code().is_some()
}

/// What `cargo nextest list` prints of binaries, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct List {
    rust_binaries: BTreeMap<String, Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Listed {
    binary_name: String,
    package_id: String,
    kind: String,
    binary_path: PathBuf,
}

/// The binaries of a list; `None` where it is not understood.
fn binaries(workspace: &Workspace, list: &str) -> Option<Vec<Binary>> {
    let list: List = serde_json::from_str(list).ok()?;
    let binary = |listed: Listed| {
        let package = workspace.packages.iter().find(|package| package.id == listed.package_id)?;
        Some(Binary {
            path: listed.binary_path,
            package_folder: package.manifest_path.parent()?.to_owned(),
            target: Target { name: listed.binary_name, kind: vec![listed.kind] },
        })
    };
    list.rust_binaries.into_values().map(binary).collect()
}

/// A file without a name, which programs that this process starts open by its number here.
struct MemoryFile(File);

impl MemoryFile {
    fn of(name: &str, content: &[u8]) -> io::Result<Self> {
        let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
        file.write_all(content)?;
        Ok(Self(file))
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::workspace::Package;

    #[test]
    fn the_binaries_of_a_list_are_those_of_the_workspace() {
        let workspace = Workspace {
            packages: vec![Package {
                name: "a".to_owned(),
                id: "path+file:///w/a#0.1.0".to_owned(),
                manifest_path: "/w/a/Cargo.toml".into(),
                ..Package::default()
            }],
            ..Workspace::default()
        };
        let list = |package: &str| {
            format!(
                r#"{{"rust-build-meta":{{}},"rust-binaries":{{"a::demo":{{"binary-id":"a::demo","binary-name":"demo","package-id":"{package}","kind":"test","binary-path":"/t/demo-1","build-platform":"target"}}}}}}"#
            )
        };
        let target = Target { name: "demo".to_owned(), kind: vec!["test".to_owned()] };
        let expected = Binary { path: "/t/demo-1".into(), package_folder: "/w/a".into(), target };
        assert_eq!(binaries(&workspace, &list("path+file:///w/a#0.1.0")), Some(vec![expected]));
        assert_eq!(binaries(&workspace, &list("path+file:///w/b#0.1.0")), None);
        assert_eq!(binaries(&workspace, "{}"), None);
    }

    #[test]
    fn a_file_in_memory_is_read_by_its_path_more_than_once() {
        let file = MemoryFile::of("test", b"text").expect("a file");
        for _ in 0..2 {
            assert_eq!(fs::read(file.path()).expect("readable"), b"text");
        }
    }
}
