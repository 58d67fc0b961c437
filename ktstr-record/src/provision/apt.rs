//! The host's apt with a private state: package lists, downloads and their verification.
//!
//! apt reads the host's own configuration (proxies, credentials, trusted keys); only where it keeps
//! its state, what it believes to be installed and which suites it asks are ours. The empty status
//! file makes it resolve the whole closure down to libc.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::cache::{Lock, check_space, create_dir_all, free_bytes, needed_for_download};
use super::error::{Error, Result};
use super::host::Context;
use super::run::run;
use super::sources::{self, SourceEntry};

/// Settings for every call. `#clear` undoes the host's: its hooks act on the host's own state, and
/// its further architectures would be downloaded for nothing. A user other than root cannot drop
/// to apt's sandbox user, and root's download folder is not readable by that user.
const CONFIG: &str = r#"APT::Install-Recommends "0";
APT::Install-Suggests "0";
APT::Update::Error-Mode "any";
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::Cache::srcpkgcache "";
Dir::Cache::pkgcache "pkgcache.bin";
#clear APT::Architectures;
APT::Architectures { "amd64"; };
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
"#;

/// The folder of apt's private states in the cache.
pub(super) const FOLDER: &str = "apt";

/// The lock that guards the private state `name`.
pub(super) fn lock_name(name: &str) -> String {
    format!("apt-{name}")
}

/// What is fetched, for messages and for the choice of suites.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose<'a> {
    /// Names the private state: `apt/NAME` in the cache.
    pub(super) name: &'static str,
    /// What the user wants: `the emulator`.
    pub(super) what: &'a str,
    /// What the user can supply where apt cannot.
    pub(super) instead: &'static str,
}

/// apt with a private state for some suites. Holds the state's lock.
#[derive(Debug)]
pub(super) struct Apt<'a> {
    context: &'a Context,
    purpose: Purpose<'a>,
    apt_get: PathBuf,
    apt_cache: PathBuf,
    dpkg_deb: PathBuf,
    state: PathBuf,
    suites: Vec<String>,
    lock: Lock,
}

impl<'a> Apt<'a> {
    /// apt for the suites that `suites` picks, given the host's entry for its Debian mirror.
    pub(super) fn open(
        context: &'a Context,
        purpose: Purpose<'a>,
        suites: impl FnOnce(&SourceEntry) -> Vec<String>,
    ) -> Result<Self> {
        let Purpose { name, what, instead } = purpose;
        let find = |program| {
            let missing = || Error::NoProgram { what: what.to_owned(), program, instead };
            context.host.find(program).ok_or_else(missing)
        };
        let (apt_get, apt_cache, dpkg_deb) = (find("apt-get")?, find("apt-cache")?, find("dpkg-deb")?);
        if std::env::consts::ARCH != "x86_64" {
            return Err(Error::Arch { what: what.to_owned(), arch: std::env::consts::ARCH, instead });
        }
        let mirror = sources::debian_mirror(&context.host, what, instead)?;
        let suites = suites(&mirror);
        let stanza = mirror.render(&suites.iter().map(String::as_str).collect::<Vec<_>>());

        let lock = context.cache.lock(&lock_name(name), context.progress)?;
        let state = context.cache.path(FOLDER).join(name);
        for folder in ["lists/partial", "cache/archives/partial"] {
            create_dir_all(&state.join(folder))?;
        }
        let apt = Self { context, purpose, apt_get, apt_cache, dpkg_deb, state, suites, lock };
        apt.write_if_other("status", "")?;
        apt.write_if_other("apt.conf", CONFIG)?;
        if apt.write_if_other("ktstr.sources", &stanza)? {
            super::cache::remove_all(&apt.stamp())?;
        }
        Ok(apt)
    }

    /// The suites that are asked.
    pub(super) fn suites(&self) -> &[String] {
        &self.suites
    }

    /// Makes the package lists no older than `max_age`. Older lists serve where that fails.
    pub(super) fn update(&self, max_age: Duration) -> Result<()> {
        let age = fs::metadata(self.stamp())
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|then| SystemTime::now().duration_since(then).ok());
        if age.is_some_and(|age| age <= max_age) {
            return Ok(());
        }
        // Package lists of all suites and apt's index of them: 250 MB.
        self.check_space("the package lists", 256 << 20)?;
        let step = self.context.progress.step("reading the archive's package lists", None);
        let mut command = self.command(&self.apt_get);
        command.args(["-q", "update"]);
        match run(command, "read the archive's package lists", &self.lock, || {}) {
            Ok(_) => {
                step.done();
                let stamp = self.stamp();
                fs::write(&stamp, "").map_err(Error::io("write", &stamp))
            }
            Err(Error::Failed { output, .. }) if self.has_lists() => {
                drop(step);
                let last = output.lines().last().unwrap_or_default();
                self.context
                    .progress
                    .note(&format!("package lists are not fresh, using what there is: {last}"));
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// The names of the real packages that match `pattern` (an extended regular expression).
    pub(super) fn names(&self, pattern: &str) -> Result<Vec<String>> {
        let mut command = self.command(&self.apt_cache);
        command.args(["search", "--names-only", pattern]);
        let output = run(command, "search the archive's package lists", &self.lock, || {})?;
        Ok(output
            .lines()
            .filter_map(|line| line.split_once(" - "))
            .map(|(name, _)| name.to_owned())
            .collect())
    }

    /// Downloads `packages` and all they depend on, checks their signatures, and unpacks them into
    /// `root`, for which `owner` is held. Returns the packages' file names.
    pub(super) fn unpack_closure(&self, packages: &[&str], root: &Path, owner: &Lock) -> Result<Vec<String>> {
        self.unpack(&["-y", "install"], packages, root, owner)
    }

    /// The same for `packages` alone.
    pub(super) fn unpack_alone(&self, packages: &[&str], root: &Path, owner: &Lock) -> Result<Vec<String>> {
        self.unpack(&["download"], packages, root, owner)
    }

    fn unpack(&self, verb: &[&str], packages: &[&str], root: &Path, owner: &Lock) -> Result<Vec<String>> {
        let what = self.purpose.what;
        let staging = self.lock.stage()?;
        let debs = staging.path().join("debs");
        create_dir_all(&debs.join("partial"))?;
        let apt = |more: &[&str]| {
            let mut command = self.command(&self.apt_get);
            command.arg("-qq").arg("-o").arg(option("Dir::Cache::archives", &debs)).current_dir(&debs);
            command.args(verb).args(more).args(packages);
            command
        };
        let doing = format!("download {what}");
        let total = total_bytes(&run(apt(&["--print-uris"]), &doing, &self.lock, || {})?);
        self.check_space(what, needed_for_download(total))?;

        let step = self.context.progress.step(format!("downloading {what}"), Some(total));
        let arguments: &[&str] = if verb.contains(&"install") { &["--download-only"] } else { &[] };
        run(apt(arguments), &doing, &self.lock, || step.at_bytes(folder_bytes(&debs)))?;
        step.done();

        let step = self.context.progress.step(format!("unpacking {what}"), Some(total));
        let mut names = Vec::new();
        let mut unpacked_bytes = 0;
        for (file, bytes) in debs_in(&debs)? {
            let mut command = Command::new(&self.dpkg_deb);
            command.arg("-x").arg(&file).arg(root);
            run(command, &format!("unpack {what}"), owner, || {})?;
            unpacked_bytes += bytes;
            step.at_bytes(unpacked_bytes);
            names.extend(file.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
        step.done();
        Ok(names)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.state.join("apt.conf"));
        let dirs = [
            ("Dir::State", self.state.clone()),
            ("Dir::State::status", self.state.join("status")),
            ("Dir::Cache", self.state.join("cache")),
            ("Dir::Etc::sourcelist", self.state.join("ktstr.sources")),
            ("Dir::Etc::sourceparts", PathBuf::from("/dev/null")),
            ("Dir::Etc::preferences", PathBuf::from("/dev/null")),
            ("Dir::Etc::preferencesparts", PathBuf::from("/dev/null")),
        ];
        for (name, path) in dirs {
            command.arg("-o").arg(option(name, &path));
        }
        command
    }

    fn stamp(&self) -> PathBuf {
        self.state.join("fresh")
    }

    fn has_lists(&self) -> bool {
        fs::read_dir(self.state.join("lists")).is_ok_and(|folder| {
            folder.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
        })
    }

    fn check_space(&self, what: &str, needed_bytes: u64) -> Result<()> {
        let root = self.context.cache.root();
        check_space(root, what, needed_bytes, free_bytes(root)?)
    }

    /// Writes a file of the state; says whether it was other before.
    fn write_if_other(&self, name: &str, text: &str) -> Result<bool> {
        let path = self.state.join(name);
        let same = fs::read_to_string(&path).is_ok_and(|old| old == text);
        if !same {
            fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        Ok(!same)
    }
}

fn option(name: &str, path: &Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(name);
    option.push("=");
    option.push(path);
    option
}

/// The sum of the sizes in the output of `--print-uris`: lines of `'URI' FILE SIZE HASH`.
fn total_bytes(print_uris: &str) -> u64 {
    print_uris
        .lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

/// Bytes of the files in `folder` and one level below, for a progress bar.
fn folder_bytes(folder: &Path) -> u64 {
    let bytes = |path: &Path| -> u64 {
        let Ok(entries) = fs::read_dir(path) else { return 0 };
        entries
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
            .filter(|m| m.is_file())
            .map(|m| m.len())
            .sum()
    };
    bytes(folder) + bytes(&folder.join("partial"))
}

fn debs_in(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut debs = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        let path = entry.path();
        if path.extension().is_some_and(|ext| ext == "deb") {
            let bytes = entry.metadata().map_err(Error::io("read", &path))?.len();
            debs.push((path, bytes));
        }
    }
    debs.sort();
    Ok(debs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_summed_from_the_lines_that_name_a_uri() {
        let text = "Reading package lists...\n'http://m.example/a%7e1.deb' a_1.deb 100 SHA256:00\n\
            'http://m.example/b.deb' b_1.deb 23 MD5Sum:00\n'broken\n";
        assert_eq!(total_bytes(text), 123);
        let huge = format!("'u' f {} x\n'u' f {} x\n", u64::MAX, 5);
        assert_eq!(total_bytes(&huge), u64::MAX);
    }
}
