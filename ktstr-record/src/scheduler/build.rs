//! One build: sources and kernel in, program in the cache out.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use xxhash_rust::xxh3::Xxh3;

use super::error::BuildError;
use super::sources::{Sources, kernel_btf};
use super::tool::{BpfCommon, Tools};
use crate::provision::{BpfToolchain, Cache, Progress};
use crate::spec::Kernel;

/// Part of every key: to be raised when the steps below change what comes out.
const RECIPE: u32 = 2;
/// The folder of the cache that builds are in.
const FOLDER: &str = "bpf";
/// The part of a staging folder that becomes the entry.
const MADE: &str = "made";
/// Builds kept of each scheduler.
const KEPT_BUILDS: usize = 16;
/// Stands in for two functions that Debian's static libelf lacks.
const LIBELF_GAP: &str = include_str!("libelf_gap.c");
/// Comes before every BPF source: `memset` and `memcpy`, which the compiler does not know then.
const BUILTINS: &str = include_str!("builtins.h");

/// Builds the scheduler `name` (`NAME.bpf.c` and `NAME.c` in `dir`) for `kernel`, and gives the static program.
///
/// What was built stays in `cache`, by the hash of all C files below `dir`, the kernel's id and the toolchain's;
/// parallel callers, of one process or many, build it once.
///
/// # Errors
/// [`BuildError`]; a compiler's own message is part of it.
pub fn build_c(
    dir: &Path,
    name: &str,
    kernel: &Kernel,
    toolchain: &BpfToolchain,
    cache: &Cache,
) -> Result<PathBuf, BuildError> {
    build(&Sources::find(dir, name)?, name, &Extra::default(), kernel, toolchain, cache)
}

/// What the sources of a suite need besides their own folder.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Folders of headers.
    pub include: Vec<PathBuf>,
    /// Warnings of clang that are turned off for the BPF side, as `incompatible-function-pointer-types`.
    pub bpf_warnings: Vec<String>,
}

/// Builds one static program `name` of all C sources in `dir`, as the kernel's selftests are built: each `X.bpf.c`
/// becomes `X.bpf.skel.h`, which the others may include. Kept as what [`build_c`] builds is; files of `extra` are
/// taken not to change.
///
/// # Errors
/// As [`build_c`].
pub fn build_suite(
    dir: &Path,
    name: &str,
    extra: &Extra,
    kernel: &Kernel,
    toolchain: &BpfToolchain,
    cache: &Cache,
) -> Result<PathBuf, BuildError> {
    build(&Sources::all(dir)?, name, extra, kernel, toolchain, cache)
}

fn build(
    sources: &Sources,
    name: &str,
    extra: &Extra,
    kernel: &Kernel,
    toolchain: &BpfToolchain,
    cache: &Cache,
) -> Result<PathBuf, BuildError> {
    let mut hash = Xxh3::new();
    for part in [&RECIPE.to_le_bytes()[..], kernel.id.as_bytes(), b"\0", toolchain.id.as_bytes(), b"\0"] {
        hash.update(part);
    }
    let types = cache.path(FOLDER).join(format!("vmlinux-{:032x}", hash.digest128()));
    sources.hash_into(&mut hash)?;
    let entry = cache.path(FOLDER).join(format!("{name}-{:032x}", hash.digest128()));
    let program = entry.join(name);
    if program.is_file() {
        return Ok(program);
    }

    let mut tools = Tools::new(toolchain);
    made_once(cache, "bpf-vmlinux", &types, |scratch| dump_types(&mut tools, &kernel.vmlinux, scratch))?;
    made_once(cache, &format!("bpf-{name}"), &entry, |scratch| {
        compile(&mut tools, sources, name, extra, &types, scratch)?;
        remove_old_builds(&cache.path(FOLDER), name)
    })?;
    Ok(program)
}

/// Unless it is there, lets `make` fill a folder and gives it the name `entry`; whoever else wants it waits.
fn made_once(
    cache: &Cache,
    lock: &str,
    entry: &Path,
    make: impl FnOnce(&Path) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    if entry.is_dir() {
        return Ok(());
    }
    let lock = cache.lock(lock, Progress::Silent)?;
    if entry.is_dir() {
        return Ok(());
    }
    let staging = lock.stage()?;
    let scratch = staging.path().join(MADE);
    fs::create_dir(&scratch).map_err(BuildError::io("make the folder", &scratch))?;
    make(&scratch)?;
    Ok(staging.publish(MADE, entry)?)
}

/// Writes `vmlinux.h` for the kernel into `scratch`.
fn dump_types(tools: &mut Tools<'_>, vmlinux: &Path, scratch: &Path) -> Result<(), BuildError> {
    let btf = scratch.join("vmlinux.btf");
    fs::write(&btf, kernel_btf(vmlinux)?).map_err(BuildError::io("write", &btf))?;
    let args = ["btf", "dump", "file"].map(OsStr::new);
    let args = [&args[..], &[btf.as_os_str(), OsStr::new("format"), OsStr::new("c")]].concat();
    let header = tools.bpftool("dump the kernel's types", &args)?;
    let path = scratch.join("vmlinux.h");
    fs::write(&path, header).map_err(BuildError::io("write", &path))?;
    fs::remove_file(&btf).map_err(BuildError::io("remove", &btf))
}

/// Compiles and links the program into `scratch`, and leaves there: the program, its BPF objects, their skeletons and
/// the log of the build.
fn compile(
    tools: &mut Tools<'_>,
    sources: &Sources,
    name: &str,
    extra: &Extra,
    types: &Path,
    scratch: &Path,
) -> Result<(), BuildError> {
    let mut include = vec![sources.dir.clone(), sources.dir.join("include")];
    include.extend(extra.include.iter().cloned());
    include.push(scratch.to_owned());
    let builtins = scratch.join("builtins.h");
    fs::write(&builtins, BUILTINS).map_err(BuildError::io("write", &builtins))?;
    for source in &sources.bpf {
        let common =
            BpfCommon { include: &include, types, builtins: &builtins, warnings: &extra.bpf_warnings };
        make_skeleton(tools, source, &common, scratch)?;
    }

    let gap = scratch.join("libelf_gap.c");
    fs::write(&gap, LIBELF_GAP).map_err(BuildError::io("write", &gap))?;
    let mut objects = Vec::new();
    for source in sources.loader.iter().chain([&gap]) {
        let object = scratch.join(format!("{}.o", stem(source, ".c")));
        tools.compile_host(source, &object, &include)?;
        objects.push(object);
    }
    tools.link_static(&objects, &scratch.join(name), scratch)?;

    for intermediate in objects.into_iter().chain([builtins, gap, scratch.join("ld.lld")]) {
        fs::remove_file(&intermediate).map_err(BuildError::io("remove", &intermediate))?;
    }
    let log = scratch.join("build.log");
    fs::write(&log, tools.log()).map_err(BuildError::io("write", &log))
}

/// Makes `NAME.bpf.o` and `NAME.bpf.skel.h` of `NAME.bpf.c`, in `scratch`.
fn make_skeleton(
    tools: &mut Tools<'_>,
    source: &Path,
    common: &BpfCommon<'_>,
    scratch: &Path,
) -> Result<(), BuildError> {
    let name = stem(source, ".bpf.c");
    let file = |suffix: &str| scratch.join(format!("{name}{suffix}"));
    let unlinked = file(".unlinked.o");
    tools.compile_bpf(source, &unlinked, common)?;
    // Linking alone drops DWARF, which the loader would carry for nothing.
    let object = file(".bpf.o");
    let [gen_, object_, skeleton_, name_] = ["gen", "object", "skeleton", "name"].map(OsStr::new);
    tools.bpftool("link the BPF object", &[gen_, object_, object.as_os_str(), unlinked.as_os_str()])?;
    let args = [gen_, skeleton_, object.as_os_str(), name_, OsStr::new(&name)];
    let skeleton = tools.bpftool("generate the skeleton", &args)?;
    let skeleton_path = file(".bpf.skel.h");
    fs::write(&skeleton_path, skeleton).map_err(BuildError::io("write", &skeleton_path))?;
    fs::remove_file(&unlinked).map_err(BuildError::io("remove", &unlinked))
}

/// The name of a source file without `suffix`.
fn stem(source: &Path, suffix: &str) -> String {
    let name = source.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(suffix).unwrap_or(&name).to_owned()
}

/// Removes the oldest builds of `name`, so that [`KEPT_BUILDS`] are there once a new one is added.
fn remove_old_builds(folder: &Path, name: &str) -> Result<(), BuildError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(BuildError::io("list", folder))?,
    };
    let prefix = format!("{name}-");
    let mut builds: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in entries {
        let entry = entry.map_err(BuildError::io("list", folder))?;
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            let made = entry.metadata().and_then(|data| data.modified());
            builds.push((made.map_err(BuildError::io("look at", entry.path()))?, entry.path()));
        }
    }
    builds.sort();
    let surplus = (builds.len() + 1).saturating_sub(KEPT_BUILDS);
    for (_, path) in builds.into_iter().take(surplus) {
        fs::remove_dir_all(&path).map_err(BuildError::io("remove", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_among_the_builds_of_the_same_scheduler_only() {
        let folder = tempfile::tempdir().unwrap();
        for build in 0..KEPT_BUILDS + 3 {
            fs::create_dir(folder.path().join(format!("scx_x-{build:02}"))).unwrap();
        }
        fs::create_dir(folder.path().join("scx_y-00")).unwrap();
        remove_old_builds(folder.path(), "scx_x").unwrap();
        // All but one, which is for the new build, and the other scheduler's.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), KEPT_BUILDS);
        assert!(folder.path().join("scx_y-00").is_dir());
        remove_old_builds(&folder.path().join("absent"), "scx_x").unwrap();
    }

    #[test]
    fn a_failed_step_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let entry = cache.path("bpf/entry");
        let failed = made_once(&cache, "bpf-x", &entry, |scratch| {
            fs::write(scratch.join("half"), "half").unwrap();
            Err(BuildError::Name { name: String::new() })
        });
        assert!(failed.is_err());
        assert!(!entry.exists());
        assert_eq!(fs::read_dir(cache.path("staging")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_there_is_not_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let entry = cache.path("bpf/entry");
        made_once(&cache, "bpf-x", &entry, |_| Ok(())).unwrap();
        made_once(&cache, "bpf-x", &entry, |_| panic!("made again")).unwrap();
        assert!(entry.is_dir());
    }
}
