//! Collecting what a job needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use guest_init::message::{EchoLine, Program, SchedulerJob, StagedScheduler, Sysctl, TestJob};

use super::libraries::Loader;
use super::packed::{JobError, JobFile, PackedJob};
use super::read::{read, read_program, utf8, xxh3_of};
use crate::elf::{is_elf, script_interpreter, without_debug};

/// The variable by which the guest's loader finds libraries that no run path names.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";
/// Interpreters of interpreters: as many as the kernel follows (`BINPRM_MAX_RECURSION`, exec.c).
const MAX_INTERPRETERS: usize = 5;

/// How long the parts of a job may take, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobLimits {
    /// From the scheduler's start to `enabled`.
    pub enable_ms: u64,
    /// From the moment at which the scheduler is not enabled any more to the one at which it is again.
    pub restart_ms: u64,
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
/// let packed = job.build(JobLimits { enable_ms: 10_000, restart_ms: 1_000, test_ms: 60_000, exit_ms: 5_000 })?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JobBuilder {
    pub(super) loader: Loader,
    entries: BTreeMap<String, JobFile>,
    /// XXH3-128 of the scheduler's program as it is on the host.
    scheduler_xxh3: Option<u128>,
    /// Those that only the test binary needs: they may arrive while the scheduler is being enabled.
    tests_own: BTreeSet<String>,
    /// Those of them that come with the test binary and not with its libraries: no template has them.
    with_binary: BTreeSet<String>,
    scheduler: Option<Program>,
    test: Option<Program>,
    staged: Vec<StagedScheduler>,
    /// Its `enable` lines and its `disable` lines.
    lines: (Vec<EchoLine>, Vec<EchoLine>),
    scheduler_sysctls: Vec<Sysctl>,
    test_sysctls: Vec<Sysctl>,
    test_waits: bool,
    /// Folders for the test's `LD_LIBRARY_PATH`: its own, and those of the programs that it starts.
    pub(super) test_folders: Vec<PathBuf>,
    /// Folders for the `LD_LIBRARY_PATH` of payloads: those of the libraries of included files.
    pub(super) included_folders: Vec<PathBuf>,
    /// What the files are that come with the test binary and have another path on the host, by their path in the guest.
    origins: BTreeMap<String, String>,
    /// The first two files of one path.
    taken: Option<JobError>,
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
            scheduler_xxh3: None,
            tests_own: BTreeSet::new(),
            with_binary: BTreeSet::new(),
            scheduler: None,
            test: None,
            staged: Vec::new(),
            lines: Default::default(),
            scheduler_sysctls: Vec::new(),
            test_sysctls: Vec::new(),
            test_waits: false,
            test_folders: Vec::new(),
            included_folders: Vec::new(),
            origins: BTreeMap::new(),
            taken: None,
        }
    }

    /// The test binary, by its path on the host. `env` is its whole environment, `KEY=VALUE`.
    ///
    /// # Errors
    /// [`JobError`] when it or something that it needs cannot be packed.
    pub fn test(&mut self, host: &Path, args: &[String], env: &[String]) -> Result<(), JobError> {
        let (path, folders) = self.pack_for_test(host)?;
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
        self.scheduler_xxh3 = Some(xxh3_of(Path::new(self.real(&path)))?);
        let env = with_library_path(env, &folders);
        self.scheduler = Some(Program { path, args: args.to_vec(), env });
        Ok(())
    }

    /// What is written to files before the scheduler is started, and after its end. Without a program it is part of the kernel.
    pub fn lines(&mut self, enable: Vec<EchoLine>, disable: Vec<EchoLine>) {
        if !enable.is_empty() {
            self.scheduler.get_or_insert_default();
        }
        self.lines = (enable, disable);
    }

    /// Kernel parameters: those that are set before the scheduler is started, and those that are set before the test binary is.
    pub fn sysctls(&mut self, of_scheduler: Vec<Sysctl>, of_test: Vec<Sysctl>) {
        self.scheduler_sysctls = of_scheduler;
        self.test_sysctls = of_test;
    }

    /// A scheduler that the test may attach in the place of its own. No part of the scheduler's own files: a machine that was saved
    /// with the scheduler enabled serves tests with other staged ones.
    ///
    /// # Errors
    /// [`JobError`] when it or something that it needs cannot be packed.
    pub fn staged(
        &mut self,
        name: &str,
        host: &Path,
        args: &[String],
        env: &[String],
    ) -> Result<(), JobError> {
        let (path, folders) = self.pack_for_test(host)?;
        let program = Program { path, args: args.to_vec(), env: with_library_path(env, &folders) };
        self.staged.push(StagedScheduler { name: name.to_owned(), program });
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

    /// A file that does not exist on the host.
    pub fn bytes(&mut self, guest: &str, mode: u32, bytes: Vec<u8>) {
        self.insert(guest, JobFile::File { mode, bytes });
    }

    /// A symbolic link in the guest.
    pub fn link(&mut self, guest: &str, target: &str) {
        self.insert(guest, JobFile::Link(target.to_owned()));
    }

    fn insert(&mut self, guest: &str, entry: JobFile) {
        self.tests_own.remove(guest);
        self.with_binary.remove(guest);
        self.origins.remove(guest);
        self.entries.insert(guest.to_owned(), entry);
    }

    /// Something that comes with the test binary, unless the same is there already; `origin` says what it is. That something else is
    /// there is told when the job is built.
    pub(super) fn insert_with_binary(&mut self, guest: &str, entry: JobFile, origin: &str) {
        if !self.entries.contains_key(guest) {
            self.entries.insert(guest.to_owned(), entry);
            self.origins.insert(guest.to_owned(), origin.to_owned());
            self.tests_own.insert(guest.to_owned());
            self.with_binary.insert(guest.to_owned());
        } else if !self.has(guest, &entry) {
            let is_there = self.origins.get(guest).map_or("a file that the job needs", String::as_str);
            self.taken.get_or_insert_with(|| JobError::Taken {
                guest: guest.to_owned(),
                one: is_there.to_owned(),
                other: origin.to_owned(),
            });
        }
    }

    /// Whether a path of the guest has this, as it is or as programs are packed.
    fn has(&self, guest: &str, entry: &JobFile) -> bool {
        match entry {
            JobFile::Link(_) => self.entries.get(guest) == Some(entry),
            JobFile::File { bytes, .. } => match self.entries.get(self.real(guest)) {
                Some(JobFile::File { bytes: there, .. }) => {
                    there == bytes || there[..] == without_debug(bytes)[..]
                }
                _ => false,
            },
        }
    }

    /// Pack a program that comes with the test binary, but for its files that are packed already.
    pub(super) fn pack_with_binary(&mut self, host: &Path) -> Result<(String, Vec<PathBuf>), JobError> {
        let others: BTreeSet<String> = self.entries.keys().cloned().collect();
        let Packed { path, folders, entries } = self.pack(host)?;
        for entry in entries.into_iter().filter(|entry| !others.contains(entry)) {
            self.tests_own.insert(entry.clone());
            self.with_binary.insert(entry);
        }
        Ok((path, folders))
    }

    /// The job, ready to be sent.
    ///
    /// # Errors
    /// [`JobError::NoTest`]; [`JobError::Taken`].
    pub fn build(self, limits: JobLimits) -> Result<PackedJob, JobError> {
        if let Some(taken) = self.taken {
            return Err(taken);
        }
        let scheduler_xxh3 = self.scheduler_xxh3;
        let test = self.test.ok_or(JobError::NoTest)?;
        let (enable, disable) = self.lines;
        let scheduler = self.scheduler.map(|program| SchedulerJob {
            program,
            enable,
            disable,
            sysctls: self.scheduler_sysctls,
            enable_timeout_ms: limits.enable_ms,
            exit_timeout_ms: limits.exit_ms,
        });
        let test = TestJob {
            program: Program { env: with_library_path(&test.env, &self.test_folders), ..test },
            sysctls: self.test_sysctls,
            waits: self.test_waits,
            restart_timeout_ms: limits.restart_ms,
            timeout_ms: limits.test_ms,
            staged: self.staged,
            without_history: false,
        };
        let (own, early): (Vec<_>, _) =
            self.entries.into_iter().partition(|(path, _)| self.tests_own.contains(path));
        let known = &test.program.path;
        let real = own.iter().find_map(|(path, entry)| match entry {
            JobFile::Link(real) if path == known => Some(real.clone()),
            _ => None,
        });
        let (binary, libraries) = own.into_iter().partition(|(path, _)| {
            path == known || Some(path) == real.as_ref() || self.with_binary.contains(path)
        });
        Ok(PackedJob { early, libraries, binary, scheduler, scheduler_xxh3, test })
    }

    /// Pack a program that only the test needs, but for its files that are packed already.
    fn pack_for_test(&mut self, host: &Path) -> Result<(String, Vec<PathBuf>), JobError> {
        let others: BTreeSet<String> = self.entries.keys().cloned().collect();
        let Packed { path, folders, entries } = self.pack(host)?;
        for entry in &entries {
            self.with_binary.remove(entry);
        }
        self.tests_own.extend(entries.into_iter().filter(|entry| !others.contains(entry)));
        Ok((path, folders))
    }

    /// Pack a program that others than the test binary need, too.
    fn pack_shared(&mut self, host: &Path) -> Result<(String, Vec<PathBuf>), JobError> {
        let Packed { path, folders, entries } = self.pack(host)?;
        for entry in &entries {
            self.tests_own.remove(entry);
            self.with_binary.remove(entry);
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
            // What was packed, as a program is read once: debug builds have a hundred megabytes.
            let data = self.content(&utf8(&program)?);
            if is_elf(data) {
                let closure = self.loader.closure(&program, data)?;
                for file in &closure.files {
                    self.add(file, &mut packed.entries)?;
                }
                packed.folders = closure.folders;
                break;
            }
            // A script, or a file that the kernel will refuse to run and init will say so of.
            let Some(interpreter) = script_interpreter(data).map(PathBuf::from) else { break };
            self.add(&interpreter, &mut packed.entries)?;
            program = interpreter;
        }
        Ok(packed)
    }

    /// The content of the file that is packed as `path`, or that a link of this name leads to.
    fn content(&self, path: &str) -> &[u8] {
        match self.entries.get(self.real(path)) {
            Some(JobFile::File { bytes, .. }) => bytes,
            _ => &[],
        }
    }

    fn real<'p>(&'p self, path: &'p str) -> &'p str {
        match self.entries.get(path) {
            Some(JobFile::Link(real)) => real,
            _ => path,
        }
    }

    /// Put a file where it really is on the host, with a link from the path by which it is known, and return that
    /// path. Both become members of `needed`.
    fn add(&mut self, path: &Path, needed: &mut Vec<String>) -> Result<String, JobError> {
        let real =
            fs::canonicalize(path).map_err(|source| JobError::Read { path: path.to_owned(), source })?;
        let (known, real_path) = (utf8(path)?, utf8(&real)?);
        if !self.entries.contains_key(&real_path) {
            let (mode, bytes) = read_program(&real)?;
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

/// The environment with `folders` behind those that its `LD_LIBRARY_PATH` names already.
pub(super) fn with_library_path(env: &[String], folders: &[PathBuf]) -> Vec<String> {
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
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use xxhash_rust::xxh3::xxh3_128;

    use super::*;

    const LIMITS: JobLimits = JobLimits { enable_ms: 1, restart_ms: 4, test_ms: 2, exit_ms: 3 };

    fn entry<'a>(job: &'a PackedJob, path: &str) -> &'a JobFile {
        let found = job.entries().find(|(at, _)| at == path);
        let paths = || job.entries().map(|(at, _)| at.as_str()).collect::<Vec<_>>();
        &found.unwrap_or_else(|| panic!("{path} in {:?}", paths())).1
    }

    #[test]
    fn a_packed_tree_runs_when_its_loader_is_told_where_it_is() {
        // The whole job in a folder instead of a guest: the loader of the job starts bash of the job.
        let mut builder = JobBuilder::new();
        builder.test("/bin/bash".as_ref(), &[], &[]).expect("packed");
        let job = builder.build(LIMITS).expect("complete");
        let folder = tempfile::tempdir().expect("made");
        for (path, entry) in job.entries() {
            let at = folder.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(at.parent().expect("not the root")).expect("made");
            match entry {
                JobFile::File { mode, bytes } => {
                    fs::write(&at, bytes).expect("written");
                    fs::set_permissions(&at, fs::Permissions::from_mode(*mode)).expect("set");
                }
                JobFile::Link(target) => {
                    symlink(folder.path().join(target.trim_start_matches('/')), at).expect("linked");
                }
            }
        }
        let variable =
            job.test.program.env.iter().find_map(|variable| variable.strip_prefix("LD_LIBRARY_PATH="));
        let folders = variable.expect("set").split(':').map(|at| format!("{}{at}", folder.path().display()));
        let output = Command::new(folder.path().join("lib64/ld-linux-x86-64.so.2"))
            .arg("--inhibit-cache")
            .arg("--library-path")
            .arg(folders.collect::<Vec<_>>().join(":"))
            .arg(folder.path().join("bin/bash"))
            .args(["-c", "while read -r line; do echo \"$line\"; done < /proc/self/maps"])
            .output()
            .expect("started");
        let maps = String::from_utf8_lossy(&output.stdout);
        let mapped: Vec<_> = maps.lines().filter(|line| line.contains(".so")).collect();
        assert!(!mapped.is_empty(), "{output:?}");
        let ours = folder.path().to_str().expect("UTF-8");
        assert!(mapped.iter().all(|line| line.contains(ours)), "{mapped:#?}");
    }

    #[test]
    fn a_program_keeps_its_path_and_a_link_stays_one() {
        let folder = tempfile::tempdir().expect("made");
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, crate::init_image()).expect("written");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o750)).expect("set");
        symlink("real", &link).expect("linked");
        let mut builder = JobBuilder::new();
        builder.test(&link, &["a".into()], &["X=1".into()]).expect("packed");
        builder.scheduler(&link, &[], &[]).expect("packed");
        let job = builder.build(LIMITS).expect("complete");
        let scheduler = job.scheduler().expect("a scheduler");
        let whole = format!("{:032x}", xxh3_128(crate::init_image()));
        assert_eq!(job.scheduler_xxh3(), Some(whole));
        let real = fs::canonicalize(real).expect("there").to_str().expect("UTF-8").to_owned();
        assert_eq!(job.test.program.path, link.to_str().expect("UTF-8"));
        assert_eq!(job.test.program.args, ["a"]);
        assert_eq!(job.test.program.env, ["X=1"]);
        assert_eq!(entry(&job, &job.test.program.path), &JobFile::Link(real.clone()));
        assert!(
            matches!(entry(&job, &real), JobFile::File { mode: 0o750, bytes } if bytes == crate::init_image())
        );
        assert_eq!((scheduler.enable_timeout_ms, job.test.timeout_ms, scheduler.exit_timeout_ms), (1, 2, 3));
    }

    #[test]
    fn a_script_brings_its_interpreter_and_that_ones_libraries() {
        let folder = tempfile::tempdir().expect("made");
        let script = folder.path().join("scheduler");
        fs::write(&script, "#!/bin/bash\necho enabled\n").expect("written");
        let mut builder = JobBuilder::new();
        builder.scheduler(&script, &[], &[]).expect("packed");
        builder.test("/bin/true".as_ref(), &[], &[]).expect("packed");
        let job = builder.build(LIMITS).expect("complete");
        for name in ["/bash", "/libc.so.6", "/ld-linux-x86-64.so.2"] {
            assert!(job.entries().any(|(path, _)| path.ends_with(name)), "{name}");
        }
    }

    #[test]
    fn what_only_the_test_needs_comes_last() {
        let folder = tempfile::tempdir().expect("made");
        let config = folder.path().join("config");
        fs::write(&config, "x").expect("written");
        let mut builder = JobBuilder::new();
        builder.test("/bin/bash".as_ref(), &[], &[]).expect("packed");
        builder.scheduler("/bin/true".as_ref(), &[], &[]).expect("packed");
        builder.file(&config, "/etc/config").expect("packed");
        let job = builder.build(LIMITS).expect("complete");
        let has = |entries: &[(String, JobFile)], name| entries.iter().any(|(path, _)| path.ends_with(name));
        assert!(has(&job.binary, "/bash") && !has(&job.early, "/bash"));
        // A scheduler may read any file, and the libraries of both are there before either is started.
        for name in ["/true", "/libc.so.6", "/etc/config"] {
            assert!(has(&job.early, name) && !has(&job.binary, name) && !has(&job.libraries, name), "{name}");
        }
    }

    /// The digest of a job with a script for a scheduler, another script that it may read, and bash as the test.
    fn digest(folder: &Path, change: impl FnOnce(&mut JobBuilder), limits: JobLimits) -> Option<String> {
        let mut builder = JobBuilder::new();
        builder.test("/bin/bash".as_ref(), &["a".into()], &[]).expect("packed");
        builder.scheduler(&folder.join("scheduler"), &["--slow".into()], &["A=b".into()]).expect("packed");
        builder.file(&folder.join("config"), "/etc/config").expect("packed");
        builder.link("/etc/link", "/etc/config");
        change(&mut builder);
        builder.build(limits).expect("complete").scheduler_digest().expect("archived")
    }

    #[test]
    fn the_digest_is_of_all_that_a_scheduler_sees_and_of_nothing_else() {
        let folder = tempfile::tempdir().expect("made");
        let path = folder.path();
        let write = |name: &str, text: &str, mode: u32| {
            fs::write(path.join(name), text).expect("written");
            fs::set_permissions(path.join(name), fs::Permissions::from_mode(mode)).expect("set");
        };
        write("scheduler", "#!/bin/true\n", 0o755);
        write("config", "x", 0o644);
        let base = digest(path, |_| {}, LIMITS);
        assert!(base.is_some());
        // What is of the test alone, its libraries aside.
        let same = [
            digest(path, |job| job.test("/bin/bash".as_ref(), &[], &["T=1".into()]).expect("packed"), LIMITS),
            digest(path, |job| job.test_waits(), JobLimits { test_ms: 9, restart_ms: 9, ..LIMITS }),
        ];
        assert!(same.iter().all(|digest| *digest == base));
        let scheduler = path.join("scheduler");
        let again = |args: &[&str], env: &str| {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            digest(path, |job| job.scheduler(&scheduler, &args, &[env.into()]).expect("packed"), LIMITS)
        };
        let mut seen = vec![
            base.clone(),
            again(&["--slow", ""], "A=b"),
            again(&["--fast"], "A=b"),
            again(&["--slow"], "A=c"),
            digest(path, |job| job.bytes("/etc/config", 0o644, b"y".to_vec()), LIMITS),
            digest(path, |job| job.bytes("/etc/config", 0o600, b"x".to_vec()), LIMITS),
            digest(path, |job| job.bytes("/boot/config-7", 0o444, b"x".to_vec()), LIMITS),
            digest(path, |job| job.link("/etc/link", "/etc/other"), LIMITS),
            digest(path, |_| {}, JobLimits { enable_ms: 9, ..LIMITS }),
            digest(path, |_| {}, JobLimits { exit_ms: 9, ..LIMITS }),
        ];
        write("scheduler", "#!/bin/true\n# a comment\n", 0o755);
        seen.push(digest(path, |_| {}, LIMITS));
        write("scheduler", "#!/bin/true\n", 0o700);
        seen.push(digest(path, |_| {}, LIMITS));
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count, "two different schedulers have one digest");
        let mut alone = JobBuilder::new();
        alone.test("/bin/true".as_ref(), &[], &[]).expect("packed");
        assert_eq!(alone.build(LIMITS).expect("complete").scheduler_digest().expect("archived"), None);
    }

    #[test]
    fn the_environments_library_path_comes_first() {
        let env = ["A=b".to_owned(), "LD_LIBRARY_PATH=/mine".to_owned()];
        let folders = ["/lib".into(), "/mine".into(), "/lib".into()];
        assert_eq!(with_library_path(&env, &folders), ["A=b", "LD_LIBRARY_PATH=/mine:/lib"]);
        assert_eq!(with_library_path(&env[..1], &[]), ["A=b"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut builder = JobBuilder::new();
        let error = builder.test("/nowhere/test".as_ref(), &[], &[]).expect_err("not there");
        assert!(error.to_string().contains("/nowhere/test"), "{error}");
        assert!(matches!(builder.build(LIMITS), Err(JobError::NoTest)));
    }
}
