//! One build: sources and kernel in, program in the cache out.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use xxhash_rust::xxh3::Xxh3;

use super::error::BuildError;
use super::sources::{Sources, kernel_btf};
use super::tool::Tools;
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
    let sources = Sources::find(dir, name)?;
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
        compile(&mut tools, &sources, name, &types, scratch)?;
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

/// Compiles and links the scheduler into `scratch`, and leaves there: the program, its BPF object, its skeleton
/// and the log of the build.
fn compile(
    tools: &mut Tools<'_>,
    sources: &Sources,
    name: &str,
    types: &Path,
    scratch: &Path,
) -> Result<(), BuildError> {
    let file = |suffix: &str| scratch.join(format!("{name}{suffix}"));
    let include = [sources.dir.clone(), sources.dir.join("include"), scratch.to_owned()];

    let unlinked = file(".unlinked.o");
    let builtins = scratch.join("builtins.h");
    fs::write(&builtins, BUILTINS).map_err(BuildError::io("write", &builtins))?;
    tools.compile_bpf(&sources.bpf, &unlinked, &include, types, &builtins)?;
    // Linking alone drops DWARF, which the loader would carry for nothing.
    let object = file(".bpf.o");
    let [gen_, object_, skeleton_, name_] = ["gen", "object", "skeleton", "name"].map(OsStr::new);
    tools.bpftool("link the BPF object", &[gen_, object_, object.as_os_str(), unlinked.as_os_str()])?;
    let args = [gen_, skeleton_, object.as_os_str(), name_, OsStr::new(name)];
    let skeleton = tools.bpftool("generate the skeleton", &args)?;
    let skeleton_path = file(".bpf.skel.h");
    fs::write(&skeleton_path, skeleton).map_err(BuildError::io("write", &skeleton_path))?;

    let gap = scratch.join("libelf_gap.c");
    fs::write(&gap, LIBELF_GAP).map_err(BuildError::io("write", &gap))?;
    let (loader_object, gap_object) = (file(".o"), scratch.join("libelf_gap.o"));
    tools.compile_host(&gap, &gap_object, &[])?;
    tools.compile_host(&sources.loader, &loader_object, &include)?;
    tools.link_static(&[&loader_object, &gap_object], &scratch.join(name), scratch)?;

    for intermediate in [unlinked, builtins, gap, loader_object, gap_object, scratch.join("ld.lld")] {
        fs::remove_file(&intermediate).map_err(BuildError::io("remove", &intermediate))?;
    }
    let log = scratch.join("build.log");
    fs::write(&log, tools.log()).map_err(BuildError::io("write", &log))
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
