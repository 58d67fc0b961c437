//! Collecting what a job needs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use guest_init::message::{Job, Program};

use super::elf::{is_elf, script_interpreter};
use super::error::JobError;
use super::libraries::Loader;
use super::packed::{Entry, PackedJob};
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
    entries: BTreeMap<String, Entry>,
    scheduler: Option<Program>,
    test: Option<Program>,
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
            scheduler: None,
            test: None,
            test_folders: Vec::new(),
        }
    }

    /// The test binary, by its path on the host. `env` is its whole environment, `KEY=VALUE`.
    ///
    /// # Errors
    /// [`JobError`] when it or something that it needs cannot be packed.
    pub fn test(&mut self, host: &Path, args: &[String], env: &[String]) -> Result<(), JobError> {
        let (path, folders) = self.pack(host)?;
        self.test_folders.extend(folders);
        self.test = Some(Program { path, args: args.to_vec(), env: env.to_vec() });
        Ok(())
    }

    /// The scheduler, likewise.
    ///
    /// # Errors
    /// [`JobError`] when it or something that it needs cannot be packed.
    pub fn scheduler(&mut self, host: &Path, args: &[String], env: &[String]) -> Result<(), JobError> {
        let (path, folders) = self.pack(host)?;
        let env = with_library_path(env, &folders);
        self.scheduler = Some(Program { path, args: args.to_vec(), env });
        Ok(())
    }

    /// A program that the test starts; returns its path in the guest, which is the one on the host.
    ///
    /// # Errors
    /// [`JobError`] when it or something that it needs cannot be packed.
    pub fn program(&mut self, host: &Path) -> Result<String, JobError> {
        let (path, folders) = self.pack(host)?;
        self.test_folders.extend(folders);
        Ok(path)
    }

    /// A file of the host, at a path of the guest.
    ///
    /// # Errors
    /// [`JobError::Read`].
    pub fn file(&mut self, host: &Path, guest: &str) -> Result<(), JobError> {
        let (mode, bytes) = read(host)?;
        self.entries.insert(guest.to_owned(), Entry::File { mode, bytes });
        Ok(())
    }

    /// A file that the host has not.
    pub fn bytes(&mut self, guest: &str, mode: u32, bytes: Vec<u8>) {
        self.entries.insert(guest.to_owned(), Entry::File { mode, bytes });
    }

    /// A symbolic link in the guest.
    pub fn link(&mut self, guest: &str, target: &str) {
        self.entries.insert(guest.to_owned(), Entry::Link(target.to_owned()));
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
            test_timeout_ms: limits.test_ms,
            exit_timeout_ms: limits.exit_ms,
            ..Job::default()
        };
        Ok(PackedJob { entries: self.entries.into_iter().collect(), job })
    }

    /// Pack a program and all it needs; its path in the guest, and the folders of libraries.
    fn pack(&mut self, host: &Path) -> Result<(String, Vec<PathBuf>), JobError> {
        let absolute =
            std::path::absolute(host).map_err(|source| JobError::Read { path: host.to_owned(), source })?;
        let guest = self.add(&absolute)?;
        let mut program = absolute;
        for _ in 0..MAX_INTERPRETERS {
            let (_, start) = read(&program)?;
            if is_elf(&start) {
                let closure = self.loader.closure(&program)?;
                for file in &closure.files {
                    self.add(file)?;
                }
                return Ok((guest, closure.folders));
            }
            // A script, or a file that the kernel will refuse to run and init will say so of.
            let Some(interpreter) = script_interpreter(&start).map(PathBuf::from) else { break };
            self.add(&interpreter)?;
            program = interpreter;
        }
        Ok((guest, Vec::new()))
    }

    /// Put a file where it really is on the host, with a link from the path by which it is known, and return that
    /// path.
    fn add(&mut self, path: &Path) -> Result<String, JobError> {
        let real =
            fs::canonicalize(path).map_err(|source| JobError::Read { path: path.to_owned(), source })?;
        let (known, real_path) = (utf8(path)?, utf8(&real)?);
        if !self.entries.contains_key(&real_path) {
            let (mode, bytes) = read(&real)?;
            let bytes = without_debug(&bytes).into_owned();
            self.entries.insert(real_path.clone(), Entry::File { mode, bytes });
        }
        if known != real_path {
            self.entries.insert(known.clone(), Entry::Link(real_path));
        }
        Ok(known)
    }
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
