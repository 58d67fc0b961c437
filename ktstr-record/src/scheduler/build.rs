//! One build: sources and kernel in, program in the cache out.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use xxhash_rust::xxh3::Xxh3;

use super::error::BuildError;
use super::kernel_btf::kernel_btf;
use super::sources::Sources;
use super::tool::{self, Tools};
use crate::spec::Kernel;

/// Part of every key: to be raised when the steps below change what comes out.
const RECIPE: u32 = 1;
/// The folder of the cache that builds are in.
const FOLDER: &str = "bpf";
/// Builds kept of each scheduler; the oldest go when a new one is made.
const KEPT_BUILDS: usize = 16;
/// Prefix of folders that a build is under way in.
const UNFINISHED: &str = ".unfinished-";
/// Stands in for two functions that Debian's static libelf lacks.
const LIBELF_GAP: &str = include_str!("libelf_gap.c");

/// Builds the scheduler `name` (`NAME.bpf.c` and `NAME.c` in `dir`) for `kernel`, and gives the static program.
///
/// What was built stays in `cache`, by the hash of all C files below `dir`, the kernel's id and the toolchain's
/// root and `toolchain_id`; parallel callers, of one process or many, build it once.
pub fn build_c(
    dir: &Path,
    name: &str,
    kernel: &Kernel,
    toolchain_root: &Path,
    toolchain_id: &str,
    cache: &Path,
) -> Result<PathBuf, BuildError> {
    let sources = Sources::find(dir, name)?;
    let mut hash = Xxh3::new();
    for part in [&RECIPE.to_le_bytes()[..], kernel.id.as_bytes(), b"\0", toolchain_id.as_bytes(), b"\0"] {
        hash.update(part);
    }
    let kernel_key = hash.digest128();
    sources.hash_into(&mut hash)?;

    let folder = cache.join(FOLDER);
    let entry = folder.join(format!("{name}-{:032x}", hash.digest128()));
    let program = entry.join(name);
    if program.is_file() {
        return Ok(program);
    }
    let _lock = lock(&folder)?;
    if program.is_file() {
        return Ok(program);
    }
    remove_unfinished(&folder)?;
    let mut tools = Tools::new(toolchain_root);
    let types = folder.join(format!("vmlinux-{kernel_key:032x}"));
    if !types.is_dir() {
        in_new_folder(&folder, &types, |scratch| dump_types(&mut tools, &kernel.vmlinux, scratch))?;
    }
    in_new_folder(&folder, &entry, |scratch| compile(&mut tools, &sources, name, &types, scratch))?;
    remove_old_builds(&folder, name, &entry)?;
    Ok(program)
}

/// Makes `folder` and takes the lock on all that is built in it, until the file is dropped.
fn lock(folder: &Path) -> Result<File, BuildError> {
    fs::create_dir_all(folder).map_err(BuildError::io("make the folder", folder))?;
    let path = folder.join(".lock");
    let file = File::create(&path).map_err(BuildError::io("open the lock", &path))?;
    file.lock().map_err(BuildError::io("lock", &path))?;
    Ok(file)
}

/// Removes what a killed build left. The lock is held, so no build is under way.
fn remove_unfinished(folder: &Path) -> Result<(), BuildError> {
    for entry in fs::read_dir(folder).map_err(BuildError::io("list", folder))? {
        let entry = entry.map_err(BuildError::io("list", folder))?;
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            fs::remove_dir_all(entry.path()).map_err(BuildError::io("remove", entry.path()))?;
        }
    }
    Ok(())
}

/// Lets `make` fill a scratch folder and gives it the name `entry` once that succeeded.
fn in_new_folder(
    folder: &Path,
    entry: &Path,
    make: impl FnOnce(&Path) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    let scratch = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(folder)
        .map_err(BuildError::io("make a folder in", folder))?;
    make(scratch.path())?;
    fs::rename(scratch.path(), entry).map_err(BuildError::io("rename the finished build to", entry))?;
    // The folder has moved away: there is nothing left to remove.
    let _gone = scratch.keep();
    Ok(())
}

/// Writes `vmlinux.h` for the kernel into `scratch`.
fn dump_types(tools: &mut Tools<'_>, vmlinux: &Path, scratch: &Path) -> Result<(), BuildError> {
    let btf = scratch.join("vmlinux.btf");
    fs::write(&btf, kernel_btf(vmlinux)?).map_err(BuildError::io("write", &btf))?;
    let args =
        ["btf".as_ref(), "dump".as_ref(), "file".as_ref(), btf.as_os_str(), "format".as_ref(), "c".as_ref()];
    let header = tools.run("dump the kernel's types", tool::BPFTOOL, args)?;
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
    let include = vec![sources.dir.clone(), sources.dir.join("include"), scratch.to_owned()];

    // The kernel is built with -fms-extensions, so its types have members that only that flag makes sense of.
    // -isystem keeps warnings about its types from drowning those about the scheduler.
    let unlinked = file(".unlinked.o");
    let mut args: Vec<_> =
        ["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-fms-extensions", "-D__TARGET_ARCH_x86"]
            .map(Into::into)
            .into();
    args.extend(tool::include_args(&include));
    let root = tools.root().to_owned();
    args.extend(["--sysroot".into(), root.clone().into(), "-isystem".into(), types.into()]);
    args.extend(["-isystem".into(), root.join("usr/include").into()]);
    args.extend(["-c".into(), sources.bpf.clone().into(), "-o".into(), unlinked.clone().into()]);
    tools.run(format!("compile {}", sources.bpf.display()), tool::CLANG, args)?;

    // Linking alone drops DWARF, which the loader would carry for nothing.
    let object = file(".bpf.o");
    let args = ["gen".as_ref(), "object".as_ref(), object.as_os_str(), unlinked.as_os_str()];
    tools.run("link the BPF object", tool::BPFTOOL, args)?;
    let args = ["gen".as_ref(), "skeleton".as_ref(), object.as_os_str(), "name".as_ref(), name.as_ref()];
    let skeleton = tools.run("generate the skeleton", tool::BPFTOOL, args)?;
    let skeleton_path = file(".bpf.skel.h");
    fs::write(&skeleton_path, skeleton).map_err(BuildError::io("write", &skeleton_path))?;

    let gap = scratch.join("libelf_gap.c");
    fs::write(&gap, LIBELF_GAP).map_err(BuildError::io("write", &gap))?;
    let (loader_object, gap_object) = (file(".o"), scratch.join("libelf_gap.o"));
    tools.compile_host(&gap, &gap_object, &[])?;
    tools.compile_host(&sources.loader, &loader_object, &include)?;
    tools.link_static(&[loader_object.clone(), gap_object.clone()], &scratch.join(name), scratch)?;

    for intermediate in [unlinked, gap, loader_object, gap_object, scratch.join("ld.lld")] {
        fs::remove_file(&intermediate).map_err(BuildError::io("remove", &intermediate))?;
    }
    let log = scratch.join("build.log");
    fs::write(&log, tools.log()).map_err(BuildError::io("write", &log))
}

/// Removes the oldest builds of `name` past [`KEPT_BUILDS`], never `newest`.
fn remove_old_builds(folder: &Path, name: &str, newest: &Path) -> Result<(), BuildError> {
    let prefix = format!("{name}-");
    let mut builds: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).map_err(BuildError::io("list", folder))? {
        let entry = entry.map_err(BuildError::io("list", folder))?;
        let path = entry.path();
        if path != newest && entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            let made = entry.metadata().and_then(|data| data.modified());
            builds.push((made.map_err(BuildError::io("look at", &path))?, path));
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
    fn old_builds_of_the_same_scheduler_go() {
        let folder = tempfile::tempdir().unwrap();
        for build in 0..KEPT_BUILDS + 3 {
            fs::create_dir(folder.path().join(format!("scx_x-{build:02}"))).unwrap();
        }
        fs::create_dir(folder.path().join("scx_y-00")).unwrap();
        let newest = folder.path().join("scx_x-00");
        remove_old_builds(folder.path(), "scx_x", &newest).unwrap();
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, KEPT_BUILDS + 1);
        assert!(newest.is_dir());
        assert!(folder.path().join("scx_y-00").is_dir());
    }

    #[test]
    fn a_failed_step_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let entry = folder.path().join("entry");
        let failed = in_new_folder(folder.path(), &entry, |scratch| {
            fs::write(scratch.join("half"), "half").unwrap();
            Err(BuildError::Name { name: String::new() })
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_killed_build_is_swept_away_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".unfinished-abc")).unwrap();
        fs::create_dir(folder.path().join("scx_x-00")).unwrap();
        remove_unfinished(folder.path()).unwrap();
        assert!(!folder.path().join(".unfinished-abc").exists());
        assert!(folder.path().join("scx_x-00").exists());
    }
}
