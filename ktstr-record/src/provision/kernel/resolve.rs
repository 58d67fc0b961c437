//! From what is asked for to a kernel that can be booted.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::super::apt::{Apt, Purpose};
use super::super::cache::{Lock, create_dir_all};
use super::super::emulator;
use super::super::error::{Error, Result};
use super::super::host::Context;
use super::super::sources::SourceEntry;
use super::check::{self, KernelCheck};
use super::entry::Files;
use super::spec::{self, Candidate, KernelSpec};
use super::{config, entry, file, tree};
use crate::spec::{Kernel, KernelConfig};

const PURPOSE: Purpose<'static> = Purpose {
    name: "kernels",
    what: "a kernel",
    instead: "give the path of a bzImage or vmlinux with --kernel",
};
/// Where kernels with sched_ext are, besides the suites that the host itself uses.
const SUITES: &[&str] = &["trixie-backports", "trixie", "sid"];
/// How old package lists may be when a kernel that is not in the cache is looked for.
pub(super) const LISTS_MAX_AGE: Duration = Duration::from_secs(6 * 3600);
/// The same where the user asks what there is now.
const FRESH_LISTS_MAX_AGE: Duration = Duration::from_secs(120);
/// Kernels without sched_ext that are fetched in search of one with it.
const TRIES: usize = 2;
/// Versions that an error lists.
const LISTED: usize = 12;

/// A kernel that can be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelListing {
    /// `uname -r`, which `--kernel` takes too.
    pub release: String,
    /// Whether it is in the cache, so that it needs no network.
    pub cached: bool,
    /// The archive's package that holds it; `None` where it has left the archive, or
    /// only the cache was asked.
    pub package: Option<String>,
    /// Whether it has sched_ext; `None` where it was never fetched.
    pub has_sched_ext: Option<bool>,
    /// Whether it has by its version, where it was never fetched: Linux has sched_ext since 6.12, and of the archive's builds
    /// those of 6.12 are without it and that of 6.16 is with it.
    pub expects_sched_ext: Option<bool>,
    /// The file, package or source tree that it came from, for the user's own; its path is what `--kernel` takes.
    pub source: Option<String>,
    /// What is known of it besides; `None` where it was never fetched.
    pub check: Option<KernelCheck>,
}

/// The kernel that `spec` asks for. With `fresh` the archive is asked even where the cache has an
/// answer.
pub(in super::super) fn resolve(context: &Context, spec: &KernelSpec, fresh: bool) -> Result<Kernel> {
    if let KernelSpec::Path(path) = spec {
        return file::kernel_at(context, path, &spec.to_string());
    }
    if !fresh && let Some(kernel) = cached(context, spec) {
        return Ok(kernel);
    }
    // Before a download of what is of no use then.
    if emulator::is_of_cache(context) {
        context.cache.check_exec()?;
    }
    let apt = open_apt(context)?;
    // Another process may have fetched it while this one waited for apt's lock.
    if !fresh && let Some(kernel) = cached(context, spec) {
        return Ok(kernel);
    }
    apt.update(if fresh { FRESH_LISTS_MAX_AGE } else { LISTS_MAX_AGE })?;
    let all = spec::candidates(&apt.names(spec::PATTERN)?);
    let fitting: Vec<Candidate> = all.iter().filter(|c| spec.admits(&c.release)).cloned().collect();
    if fitting.is_empty() {
        return Err(no_such_kernel(spec, &apt, all));
    }
    let mut without = Vec::new();
    for candidate in spec::one_of_each_build(fitting).into_iter().take(TRIES) {
        let kernel = fetch(context, &apt, &candidate, &spec.to_string())?;
        if kernel.has_sched_ext || spec.is_whole() {
            return Ok(kernel);
        }
        without.push(candidate.release);
    }
    Err(Error::NoSchedExt { asked: spec.to_string(), without })
}

/// All kernels of the archive and of the cache, newest first.
pub(in super::super) fn list(context: &Context) -> Result<Vec<KernelListing>> {
    let cached = entry::cached(context, "");
    let own = of_files(context);
    let archived = open_apt(context).and_then(|apt| {
        apt.update(FRESH_LISTS_MAX_AGE)?;
        Ok(spec::candidates(&apt.names(spec::PATTERN)?))
    });
    let archived = match archived {
        Ok(archived) => archived,
        Err(e) if cached.is_empty() && own.is_empty() => return Err(e),
        Err(e) => {
            context.progress.note(&format!("showing the cache alone: {e}"));
            Vec::new()
        }
    };
    let gone = cached.iter().filter(|kernel| !archived.iter().any(|c| c.release == kernel.release));
    let mut listings: Vec<KernelListing> =
        gone.map(|kernel| listing(&kernel.release, None, &cached)).collect();
    listings.extend(archived.iter().map(|c| listing(&c.release, Some(c.package.clone()), &cached)));
    listings.extend(own);
    listings.sort_by(|a, b| spec::order(&b.release).cmp(&spec::order(&a.release)));
    Ok(listings)
}

/// The kernels of the cache, newest first.
pub(in super::super) fn list_cached(context: &Context) -> Vec<KernelListing> {
    let cached = entry::cached(context, "");
    let archives = cached.iter().map(|kernel| listing(&kernel.release, None, &cached));
    let mut listings: Vec<KernelListing> = archives.chain(of_files(context)).collect();
    listings.sort_by(|a, b| spec::order(&b.release).cmp(&spec::order(&a.release)));
    listings
}

/// The kernels of the cache that came out of the user's files and builds.
fn of_files(context: &Context) -> Vec<KernelListing> {
    let all = entry::cached_of_files(context).into_iter();
    all.map(|kernel| KernelListing {
        release: kernel.release.clone(),
        cached: true,
        package: None,
        has_sched_ext: Some(kernel.has_sched_ext),
        expects_sched_ext: None,
        source: entry::source_of(&kernel),
        check: checked(&kernel),
    })
    .collect()
}

fn listing(release: &str, package: Option<String>, cached: &[Kernel]) -> KernelListing {
    let kernel = cached.iter().find(|kernel| kernel.release == release);
    KernelListing {
        release: release.to_owned(),
        cached: kernel.is_some(),
        package,
        has_sched_ext: kernel.map(|kernel| kernel.has_sched_ext),
        expects_sched_ext: if kernel.is_some() { None } else { spec::expects_sched_ext(release) },
        source: None,
        check: kernel.and_then(checked),
    }
}

/// What is known of a kernel of the cache, without fetching anything.
fn checked(kernel: &Kernel) -> Option<KernelCheck> {
    check::check(kernel, config::with_kernel(kernel).as_ref()).ok()
}

/// The newest kernel of the cache that `spec` asks for.
fn cached(context: &Context, spec: &KernelSpec) -> Option<Kernel> {
    entry::cached(context, &spec.to_string())
        .into_iter()
        .find(|kernel| spec.admits(&kernel.release) && (kernel.has_sched_ext || spec.is_whole()))
}

pub(super) fn open_apt(context: &Context) -> Result<Apt<'_>> {
    Apt::open(context, PURPOSE, |mirror: &SourceEntry| {
        let mut suites: Vec<String> = SUITES.iter().map(|suite| (*suite).to_owned()).collect();
        for suite in &mirror.suites {
            if !suites.contains(suite) && !suite.ends_with("-security") {
                suites.push(suite.clone());
            }
        }
        suites
    })
}

/// Fetches one kernel of the archive into the cache, unless it is there.
pub(super) fn fetch(context: &Context, apt: &Apt<'_>, candidate: &Candidate, asked: &str) -> Result<Kernel> {
    let Candidate { release, package, .. } = candidate;
    if let Some(kernel) = entry::load(context, release, asked) {
        return Ok(kernel);
    }
    let lock = context.cache.lock(&format!("kernel-{release}"), context.progress)?;
    let staging = lock.stage()?;
    let unpacked = staging.path().join("unpacked");
    let downloaded = unpack(apt, &packages(apt, release, package)?, &unpacked, &lock)?;
    let image = find_image(&unpacked, release).ok_or_else(|| Error::Incomplete {
        what: downloaded.join(", "),
        path: image_paths(release)[0].clone(),
    })?;
    let config = config::in_package(&unpacked, release);
    let files = Files { image: &image, config: config.as_deref(), source: package };
    entry::make(context, &staging, release, asked, &files)
}

/// The packages that hold the kernel and its configuration: `package` itself, to 6.18, and `linux-base-RELEASE` since.
fn packages(apt: &Apt<'_>, release: &str, package: &str) -> Result<Vec<String>> {
    let base = format!("linux-base-{release}");
    let escaped: String =
        base.chars().flat_map(|c| [Some('\\').filter(|_| "+.".contains(c)), Some(c)]).flatten().collect();
    let found = apt.names(&format!("^{escaped}$"))?;
    Ok([package.to_owned()].into_iter().chain(found.contains(&base).then_some(base)).collect())
}

pub(super) fn unpack(apt: &Apt<'_>, packages: &[String], into: &Path, lock: &Lock) -> Result<Vec<String>> {
    create_dir_all(into)?;
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    match apt.unpack_alone(&packages, into, lock) {
        // Versions leave the archive when newer ones come: the lists may name what is gone.
        Err(Error::Failed { .. }) => {
            apt.update(Duration::ZERO)?;
            apt.unpack_alone(&packages, into, lock)
        }
        other => other,
    }
}

/// The configuration of `kernel`, which `spec` asked for; `None` where none can be had.
pub(in super::super) fn config_of(
    context: &Context,
    spec: &KernelSpec,
    kernel: &Kernel,
) -> Result<Option<KernelConfig>> {
    if let KernelSpec::Path(path) = spec {
        let built = path.is_dir().then(|| tree::built(path)).transpose()?;
        let path = built.as_ref().map_or(path.as_path(), |built| &built.image);
        return Ok(config::with_kernel(kernel).or_else(|| config::of_file(path, kernel)));
    }
    let release = &kernel.release;
    let path = entry::config_path(context, release);
    if !path.is_file() {
        if let Err(error) = add_config(context, release) {
            let text = format!("the configuration of kernel {release} could not be fetched: {error}");
            context.progress.note(&text);
        }
        if !path.is_file() {
            return Ok(None);
        }
    }
    let package = entry::source(context, release).unwrap_or_default();
    let KernelConfig { text, .. } = config::read(&path)?;
    Ok(Some(KernelConfig { text, origin: format!("the archive's packages of {package}") }))
}

/// Fetches the configuration for an entry that was made without one.
fn add_config(context: &Context, release: &str) -> Result<()> {
    let tried = entry::config_path(context, release).with_file_name("no-config");
    let age = fs::metadata(&tried).and_then(|data| data.modified()).ok().and_then(|then| then.elapsed().ok());
    if age.is_some_and(|age| age <= LISTS_MAX_AGE) {
        return Ok(());
    }
    let Some(package) = entry::source(context, release) else { return Ok(()) };
    let apt = open_apt(context)?;
    apt.update(LISTS_MAX_AGE)?;
    let lock = context.cache.lock(&format!("kernel-{release}"), context.progress)?;
    let path = entry::config_path(context, release);
    if path.is_file() {
        return Ok(());
    }
    let staging = lock.stage()?;
    let unpacked = staging.path().join("unpacked");
    let packages = packages(&apt, release, &package)?;
    // Where the configuration has a package of its own, the kernel's need not be fetched again.
    let own = packages.last().cloned();
    unpack(&apt, own.as_slice(), &unpacked, &lock)?;
    if let Some(found) = config::in_package(&unpacked, release) {
        return staging.publish(&found, &path);
    }
    let absent = staging.path().join("no-config");
    fs::write(&absent, "").map_err(Error::io("write", &absent))?;
    staging.publish(&absent, &tried)
}

/// Where Debian's packages have put the image of `release`, today and before.
fn image_paths(release: &str) -> [PathBuf; 2] {
    [
        Path::new("usr/lib/modules").join(release).join("vmlinuz"),
        Path::new("boot").join(format!("vmlinuz-{release}")),
    ]
}

fn find_image(root: &Path, release: &str) -> Option<PathBuf> {
    image_paths(release).into_iter().map(|path| root.join(path)).find(|path| path.is_file())
}

fn no_such_kernel(spec: &KernelSpec, apt: &Apt<'_>, all: Vec<Candidate>) -> Error {
    let mut versions: Vec<String> = Vec::new();
    for candidate in spec::one_of_each_build(all) {
        let version = candidate.version();
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let more = versions.len().saturating_sub(LISTED);
    versions.truncate(LISTED);
    if more > 0 {
        versions.push(format!("and {more} older ones"));
    }
    Error::NoSuchKernel {
        asked: spec.to_string(),
        searched: apt.suites().join(", "),
        available: versions,
        hint: "ask for one of those, or give the path of a bzImage or vmlinux",
    }
}
