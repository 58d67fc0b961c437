//! The tests of a workspace, which are built and asked what they are. Nothing is booted.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::iter;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use memchr::memmem;
use object::Endianness;
use object::elf::FileHeader64;
use object::read::ReadCache;
use object::read::elf::{FileHeader, SectionHeader};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;

use super::test::{Runner, Signals, TestArgs, arguments, run_to_end};
use crate::description::TestDescription;
use crate::host::environment;
use crate::host::live::LiveFolder;
use crate::host::results::{ASKED, RUNS};
use crate::test_def::{MARK_BEGIN, MARK_END};
use crate::workspace::{Target, Workspace};

/// Longest path of a test that is looked for in a test binary, in bytes.
const MAX_PATH_BYTES: usize = 4096;

/// The workspace that the command is given in.
///
/// # Errors
/// A folder without a package, a cargo that cannot be started.
pub(super) fn workspace() -> Result<Workspace> {
    let here = env::current_dir().context("could not find the working folder")?;
    Ok(Workspace::around(&here)?)
}

/// Descriptions of the tests that `args` select: by the target of its name, else by a part of their names. They are in the
/// order of package, target and name. `runner`: whose arguments theirs are.
///
/// # Errors
/// Tests that cannot be built or do not answer; no test at all.
pub(super) fn descriptions(
    workspace: &Workspace,
    args: &TestArgs,
    runner: Runner,
) -> Result<Vec<TestDescription>> {
    let asked = ask(workspace, args, binaries(workspace, args, runner, None)?)?;
    if asked.is_empty() {
        match args.filter() {
            Some(filter) => bail!("no test with #[ktstr_test] has `{filter}` in its name"),
            None => bail!("no test has #[ktstr_test]"),
        }
    }
    Ok(asked.into_iter().map(|(test, _)| test).collect())
}

/// The tests in these binaries that `args` select, if any, in the order of package, target and name.
///
/// # Errors
/// Tests that do not answer.
pub(super) fn ask(
    workspace: &Workspace,
    args: &TestArgs,
    binaries: Vec<Binary>,
) -> Result<Vec<(TestDescription, Rc<Binary>)>> {
    let by_name = args.filter().filter(|_| args.named_target(workspace).is_none());
    let folder = asked_folder(workspace);
    // Another run may remove old ones meanwhile.
    let _held = LiveFolder::make(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let said = ask_all(&binaries, by_name, &folder);
    let asked: Result<Vec<_>> =
        binaries.into_iter().map(Rc::new).zip(said).try_fold(Vec::new(), |mut found, (binary, tests)| {
            found.extend(tests?.into_iter().map(|test| (test, Rc::clone(&binary))));
            Ok(found)
        });
    let removed = fs::remove_dir_all(&folder);
    let mut asked = asked?;
    removed.with_context(|| format!("could not remove {}", folder.display()))?;
    let key = |(test, _): &(TestDescription, Rc<Binary>)| {
        (test.package.clone(), test.target.clone(), test.name.clone())
    };
    asked.sort_by_key(key);
    Ok(asked)
}

/// What the tests of each of the binaries say, as many at a time as there are CPUs.
fn ask_all(binaries: &[Binary], filter: Option<&str>, folder: &Path) -> Vec<Result<Vec<TestDescription>>> {
    let next = AtomicUsize::new(0);
    let ask_some = || {
        let numbers = iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let binaries = numbers.map_while(|number| Some((number, binaries.get(number)?)));
        binaries.map(|(number, binary)| (number, binary.ask(filter, folder))).collect::<Vec<_>>()
    };
    let mut said: Vec<_> = thread::scope(|scope| {
        let others = thread::available_parallelism().map_or(0, |cpus| cpus.get() - 1).min(binaries.len());
        let others: Vec<_> = (0..others).map(|_| scope.spawn(ask_some)).collect();
        let mut said = ask_some();
        said.extend(
            others.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))),
        );
        said
    });
    said.sort_by_key(|(number, _)| *number);
    said.into_iter().map(|(_, tests)| tests).collect()
}

/// Where this process has tests write what they are. A run that is told to removes those that are left of processes which were killed.
pub(super) fn asked_folder(workspace: &Workspace) -> PathBuf {
    workspace.target_directory.join(RUNS).join(format!("{ASKED}{}", process::id()))
}

/// Tests that do not compile, or whose compilation was ended. cargo has said why.
#[derive(Debug, thiserror::Error)]
#[error("the tests could not be built")]
pub(super) struct NotBuilt(pub(super) ExitStatus);

/// An executable that cargo built, with the folder in which it runs its tests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Binary {
    /// It.
    pub(super) path: PathBuf,
    /// The folder in which its tests run.
    pub(super) package_folder: PathBuf,
    /// What cargo calls it.
    pub(super) target: Target,
}

/// A line of cargo's messages, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    profile: Profile,
    target: Option<Target>,
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
struct Profile {
    test: bool,
}

/// Build the tests; their progress and errors are the reader's. `signals`: those by which people end runs, where they are taken over.
///
/// # Errors
/// [`NotBuilt`]; a cargo that cannot be started.
pub(super) fn binaries(
    workspace: &Workspace,
    args: &TestArgs,
    runner: Runner,
    signals: Option<&mut Signals>,
) -> Result<Vec<Binary>> {
    let mut rest = args.build_words(runner);
    rest.extend(["--no-run", "--message-format=json-render-diagnostics"].map(str::to_owned));
    let build = args.clone().with_rest(rest);
    let mut command = args.cargo();
    command.args(arguments(&build, workspace, Runner::CargoTest)?);
    let (status, messages) = printed(&mut command, signals)?;
    if !status.success() {
        return Err(NotBuilt(status).into());
    }
    Ok(test_binaries(&messages))
}

/// Run cargo to its end, and return what it has printed on its standard output. `signals` as of [`binaries`].
///
/// # Errors
/// A cargo that cannot be started.
pub(super) fn printed(command: &mut Command, signals: Option<&mut Signals>) -> Result<(ExitStatus, String)> {
    // A file in memory, as nobody reads a pipe while the end is waited for.
    let text =
        memfd_create("ktstr-printed", MemfdFlags::CLOEXEC).context("could not make a file in memory")?;
    let mut text = File::from(text);
    command.stdout(text.try_clone().context("could not share it with cargo")?);
    let status = match signals {
        Some(signals) => run_to_end(command, signals)?,
        None => command.status().context("could not start cargo")?,
    };
    let mut bytes = Vec::new();
    text.rewind().and_then(|()| text.read_to_end(&mut bytes)).context("could not read what cargo printed")?;
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

fn test_binaries(messages: &str) -> Vec<Binary> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    messages
        .filter(|message| message.profile.test)
        .filter_map(|message| {
            let package_folder = message.manifest_path?.parent()?.to_owned();
            Some(Binary { path: message.executable?, package_folder, target: message.target? })
        })
        .collect()
}

impl Binary {
    /// What its tests say of themselves whose names contain `filter`.
    fn ask(&self, filter: Option<&str>, folder: &Path) -> Result<Vec<TestDescription>> {
        let names = self.marked().with_context(|| format!("could not read {}", self.path.display()))?;
        let names: Vec<&String> =
            names.iter().filter(|name| filter.is_none_or(|filter| name.contains(filter))).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let folder = folder.join(self.path.file_name().unwrap_or_default());
        fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        let mut command = Command::new(&self.path);
        command.args(["--exact", "--include-ignored"]).args(&names);
        // A test that is asked does not pass, so that nothing can mistake this for a run.
        command.env(environment::DESCRIBE, &folder).current_dir(&self.package_folder).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("could not start {}", self.path.display()))?;
        let entries =
            fs::read_dir(&folder).with_context(|| format!("could not list {}", folder.display()))?;
        let mut found: Vec<TestDescription> = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            let text = fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
            let described = serde_json::from_slice(&text);
            found.push(described.with_context(|| {
                format!("{} is of another version of ktstr than this command", self.path.display())
            })?);
        }
        for test in &mut found {
            test.target.clone_from(&self.target.name);
            test.kind = self.target.kind.first().cloned().unwrap_or_default();
        }
        if found.len() < names.len() {
            bail!(
                "{} has {} tests with #[ktstr_test], and {} said what they are:\n{}",
                self.path.display(),
                names.len(),
                found.len(),
                String::from_utf8_lossy(&output.stdout).trim()
            );
        }
        Ok(found)
    }
}

impl Binary {
    /// The tests with `#[ktstr_test]` in it, as libtest knows them. Their marks are among its constants: most of the file is
    /// debug information, which is not read.
    fn marked(&self) -> Result<BTreeSet<String>> {
        let mut file = File::open(&self.path)?;
        let headers = ReadCache::new(&file);
        let elf = FileHeader64::<Endianness>::parse(&headers)?;
        let endian = elf.endian()?;
        let sections = elf.sections(endian, &headers)?;
        let (_, constants) =
            sections.section_by_name(endian, b".rodata").context("it has no section .rodata")?;
        let (at, bytes) = constants.file_range(endian).context("its section .rodata is empty")?;
        // Not by the cache, which takes ten times as long for so much; nor are symbols read, of which there is as much.
        let mut data = Vec::new();
        file.seek(SeekFrom::Start(at))?;
        file.take(bytes).read_to_end(&mut data)?;
        Ok(marked(&data))
    }
}

/// The tests with `#[ktstr_test]` that bytes of a binary name.
fn marked(binary: &[u8]) -> BTreeSet<String> {
    let begin = MARK_BEGIN.as_bytes();
    memmem::find_iter(binary, begin)
        .filter_map(|at| {
            let rest = &binary[at + begin.len()..];
            let rest = &rest[..rest.len().min(MAX_PATH_BYTES)];
            let path = str::from_utf8(&rest[..memmem::find(rest, MARK_END.as_bytes())?]).ok()?;
            let (_, name) = path.split_once("::")?;
            Some(name.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_by_their_marks() {
        let mut binary = b"\x7fELF rubbish ".to_vec();
        for text in [
            format!("{MARK_BEGIN}demo::inner::two{MARK_END}"),
            format!("{MARK_BEGIN}demo::one{MARK_END}"),
            format!("{MARK_BEGIN}demo::one{MARK_END}"),
            // As this library has it.
            MARK_BEGIN.to_owned(),
        ] {
            binary.extend_from_slice(text.as_bytes());
        }
        assert_eq!(marked(&binary).into_iter().collect::<Vec<_>>(), ["inner::two", "one"]);
        assert!(marked(b"").is_empty());
    }

    #[test]
    fn only_test_binaries_of_cargos_messages_are_asked() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"demo","kind":["test"]},"profile":{"test":true},"executable":"/t/demo-1","manifest_path":"/w/a/Cargo.toml"}
{"reason":"compiler-artifact","target":{"name":"ktstr","kind":["bin"]},"profile":{"test":false},"executable":"/t/ktstr","manifest_path":"/w/k/Cargo.toml"}
{"reason":"compiler-artifact","target":{"name":"a","kind":["lib"]},"profile":{"test":true},"executable":null,"manifest_path":"/w/a/Cargo.toml"}
{"reason":"build-finished","success":true}
not json"#;
        let target = Target { name: "demo".to_owned(), kind: vec!["test".to_owned()] };
        let expected = Binary { path: "/t/demo-1".into(), package_folder: "/w/a".into(), target };
        assert_eq!(test_binaries(messages), [expected]);
    }
}
