//! Collecting what a job needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use guest_init::message::{Job, Program};

use super::elf::{is_elf, script_interpreter};
use super::error::JobError;
use super::libraries::Loader;
use super::packed::{JobFile, PackedJob};
use super::strip::without_debug;

/// The variable by which the guest's loader finds libraries that no run path names.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";
/// Interpreters of interpreters: as many as the kernel follows (`BINPRM_MAX_RECURSION`, exec.c).
const MAX_INTERPRETERS: usize = 5;

/// How long the parts of a job may take, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobLimits {
    /// From the scheduler's start to `enabled`.
    pub enable_ms: u64,
    /// The test binary.
    pub test_ms: u64,
    /// From SIGINT to the scheduler's exit.
    pub exit_ms: u64,
}

/// Collects programs with everything that they need, and files.
///
/// ```no_run
/// # use ktstr_record::job::{JobBuilder, JobError, JobLimits};
/// # fn main() -> Result<(), JobError> {
/// let mut job = JobBuilder::new();
/// job.test("/target/debug/deps/demo-1234".as_ref(), &["two_cgroups".into()], &[])?;
/// job.scheduler("/target/debug/scx_demo".as_ref(), &[], &[])?;
/// let packed = job.build(JobLimits { enable_ms: 10_000, test_ms: 60_000, exit_ms: 5_000 })?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JobBuilder {
    loader: Loader,
    entries: BTreeMap<String, JobFile>,
    /// Those that only the test binary needs: they may arrive while the scheduler is being enabled.
    tests_own: BTreeSet<String>,
    scheduler: Option<Program>,
    test: Option<Program>,
    test_waits: bool,
    /// Folders for the test's `LD_LIBRARY_PATH`: its own, and those of the programs that it starts.
    test_folders: Vec<PathBuf>,
}

impl Default for JobBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl JobBuilder {
    /// A job of nothing, on a host whose dynamic loader is looked at now.
    pub fn new() -> Self {
        Self {
            loader: Loader::of_host(),
            entries: BTreeMap::new(),
            tests_own: BTreeSet::new(),
            scheduler: None,
            test: None,
            test_waits: false,
            test_folders: Vec::new(),
        }
    }

    /// The test binary, by its path on the host. `env` is its whole environment, `KEY=VALUE`.
    ///
    /// # Errors
    /// [`JobError`] when it or something that it needs cannot be packed.
    pub fn test(&mut self, host: &Path, args: &[String], env: &[String]) -> Result<(), JobError> {
        let others: BTreeSet<String> = self.entries.keys().cloned().collect();
        let Packed { path, folders, entries } = self.pack(host)?;
        self.tests_own.extend(entries.into_iter().filter(|entry| !others.contains(entry)));
        self.test_folders.extend(folders);
        self.test = Some(Program { path, args: args.to_vec(), env: env.to_vec() });
        Ok(())
    }

    /// The test binary waits for init's word before it runs the body, so it may be started before that.
    pub fn test_waits(&mut self) {
        self.test_waits = true;
    }

    /// The scheduler, likewise.
    ///
    /// # Errors
    /// [`JobError`] when it or something that it needs cannot be packed.
    pub fn scheduler(&mut self, host: &Path, args: &[String], env: &[String]) -> Result<(), JobError> {
        let (path, folders) = self.pack_shared(host)?;
        let env = with_library_path(env, &folders);
        self.scheduler = Some(Program { path, args: args.to_vec(), env });
        Ok(())
    }

    /// A program that the test starts; returns its path in the guest, which is the one on the host.
    ///
    /// # Errors
    /// [`JobError`] when it or something that it needs cannot be packed.
    pub fn program(&mut self, host: &Path) -> Result<String, JobError> {
        let (path, folders) = self.pack_shared(host)?;
        self.test_folders.extend(folders);
        Ok(path)
    }

    /// A file of the host, at a path of the guest.
    ///
    /// # Errors
    /// [`JobError::Read`].
    pub fn file(&mut self, host: &Path, guest: &str) -> Result<(), JobError> {
        let (mode, bytes) = read(host)?;
        self.bytes(guest, mode, bytes);
        Ok(())
    }

    /// A file that the host has not.
    pub fn bytes(&mut self, guest: &str, mode: u32, bytes: Vec<u8>) {
        self.insert(guest, JobFile::File { mode, bytes });
    }

    /// A symbolic link in the guest.
    pub fn link(&mut self, guest: &str, target: &str) {
        self.insert(guest, JobFile::Link(target.to_owned()));
    }

    fn insert(&mut self, guest: &str, entry: JobFile) {
        self.tests_own.remove(guest);
        self.entries.insert(guest.to_owned(), entry);
    }

    /// The job, ready to be sent.
    ///
    /// # Errors
    /// [`JobError::NoTest`].
    pub fn build(self, limits: JobLimits) -> Result<PackedJob, JobError> {
        let test = self.test.ok_or(JobError::NoTest)?;
        let job = Job {
            scheduler: self.scheduler,
            enable_timeout_ms: limits.enable_ms,
            test: Program { env: with_library_path(&test.env, &self.test_folders), ..test },
            test_waits: self.test_waits,
            test_timeout_ms: limits.test_ms,
            exit_timeout_ms: limits.exit_ms,
            ..Job::default()
        };
        let (late, early) = self.entries.into_iter().partition(|(path, _)| self.tests_own.contains(path));
        Ok(PackedJob { early, late, job })
    }

    /// Pack a program that others than the test binary need, too.
    fn pack_shared(&mut self, host: &Path) -> Result<(String, Vec<PathBuf>), JobError> {
        let Packed { path, folders, entries } = self.pack(host)?;
        for entry in &entries {
            self.tests_own.remove(entry);
        }
        Ok((path, folders))
    }

    /// Pack a program and all it needs.
    fn pack(&mut self, host: &Path) -> Result<Packed, JobError> {
        let absolute =
            std::path::absolute(host).map_err(|source| JobError::Read { path: host.to_owned(), source })?;
        let mut packed = Packed::default();
        packed.path = self.add(&absolute, &mut packed.entries)?;
        let mut program = absolute;
        for _ in 0..MAX_INTERPRETERS {
            let (_, start) = read(&program)?;
            if is_elf(&start) {
                let closure = self.loader.closure(&program)?;
                for file in &closure.files {
                    self.add(file, &mut packed.entries)?;
                }
                packed.folders = closure.folders;
                break;
            }
            // A script, or a file that the kernel will refuse to run and init will say so of.
            let Some(interpreter) = script_interpreter(&start).map(PathBuf::from) else { break };
            self.add(&interpreter, &mut packed.entries)?;
            program = interpreter;
        }
        Ok(packed)
    }

    /// Put a file where it really is on the host, with a link from the path by which it is known, and return that
    /// path. Both become members of `needed`.
    fn add(&mut self, path: &Path, needed: &mut Vec<String>) -> Result<String, JobError> {
        let real =
            fs::canonicalize(path).map_err(|source| JobError::Read { path: path.to_owned(), source })?;
        let (known, real_path) = (utf8(path)?, utf8(&real)?);
        if !self.entries.contains_key(&real_path) {
            let (mode, bytes) = read(&real)?;
            let bytes = without_debug(&bytes).into_owned();
            self.entries.insert(real_path.clone(), JobFile::File { mode, bytes });
        }
        needed.extend([known.clone(), real_path.clone()]);
        if known != real_path {
            self.entries.insert(known.clone(), JobFile::Link(real_path));
        }
        Ok(known)
    }
}

/// A program that was packed.
#[derive(Default)]
struct Packed {
    /// Its path in the guest.
    path: String,
    /// The folders of its libraries.
    folders: Vec<PathBuf>,
    /// The entries that it needs, itself included.
    entries: Vec<String>,
}

fn read(path: &Path) -> Result<(u32, Vec<u8>), JobError> {
    let read = || Ok((fs::metadata(path)?.permissions().mode() & 0o7777, fs::read(path)?));
    read().map_err(|source| JobError::Read { path: path.to_owned(), source })
}

fn utf8(path: &Path) -> Result<String, JobError> {
    path.to_str().map(str::to_owned).ok_or_else(|| JobError::NotUtf8 { path: path.to_owned() })
}

/// The environment with `folders` behind those that its `LD_LIBRARY_PATH` names already.
fn with_library_path(env: &[String], folders: &[PathBuf]) -> Vec<String> {
    let value = |variable: &String| variable.strip_prefix(LIBRARY_PATH)?.strip_prefix('=').map(str::to_owned);
    let mut all: Vec<String> = env.iter().filter_map(value).filter(|value| !value.is_empty()).collect();
    for folder in folders.iter().map(|folder| folder.to_string_lossy().into_owned()) {
        if !all.contains(&folder) {
            all.push(folder);
        }
    }
    let mut env: Vec<String> = env.iter().filter(|variable| value(variable).is_none()).cloned().collect();
    if !all.is_empty() {
        env.push(format!("{LIBRARY_PATH}={}", all.join(":")));
    }
    env
}

#[cfg(test)]
mod tests;
