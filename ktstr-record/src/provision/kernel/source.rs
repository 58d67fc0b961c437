//! Parts of a kernel's source, out of the archive's package of it.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lzma_rust2::XzReader;

use super::super::cache::{Lock, create_dir_all};
use super::super::error::{Error, Result};
use super::super::host::Context;
use super::resolve::{open_apt, unpack};
use super::spec::release_numbers;
use crate::spec::Kernel;

/// The folder of sources in the cache.
const FOLDER: &str = "sources";
/// What unpacks an archive; dpkg needs it, so that it is wherever apt is.
const TAR: &str = "tar";

/// The root of the source of `kernel`'s version, with all of `wanted` in it: files and folders, as `tools/sched_ext`.
pub(in super::super) fn source_of(context: &Context, kernel: &Kernel, wanted: &[&str]) -> Result<PathBuf> {
    let none = |wanted: &str| Error::NoSource { release: kernel.release.clone(), wanted: wanted.to_owned() };
    let [major, minor, _] = release_numbers(&kernel.release).ok_or_else(|| none(&wanted.join(", ")))?;
    let package = format!("linux-source-{major}.{minor}");
    let root = context.cache.path(FOLDER).join(&package);
    let missing =
        || -> Vec<&str> { wanted.iter().copied().filter(|path| !root.join(path).exists()).collect() };
    if missing().is_empty() {
        return Ok(root);
    }
    let apt = open_apt(context)?;
    let lock = context.cache.lock(&format!("source-{package}"), context.progress)?;
    let missing = missing();
    if missing.is_empty() {
        return Ok(root);
    }
    let staging = lock.stage()?;
    let (unpacked, tree) = (staging.path().join("unpacked"), staging.path().join("tree"));
    unpack(&apt, std::slice::from_ref(&package), &unpacked, &lock)?;
    create_dir_all(&tree)?;
    let archive = unpacked.join("usr/src").join(format!("{package}.tar.xz"));
    let members: Vec<PathBuf> = missing.iter().map(|path| Path::new(&package).join(path)).collect();
    let step = context.progress.step(format!("unpacking {} of {package}", missing.join(", ")), None);
    extract(context, &archive, &members, &tree, &lock)?;
    for (path, member) in missing.iter().zip(members) {
        let made = tree.join(member);
        if !made.exists() {
            return Err(none(path));
        }
        staging.publish(&made, &root.join(path))?;
    }
    step.done();
    Ok(root)
}

/// Unpacks `members` of the xz-compressed tar file `archive` below `into`.
fn extract(context: &Context, archive: &Path, members: &[PathBuf], into: &Path, lock: &Lock) -> Result<()> {
    let missing =
        || Error::NoProgram { what: "a kernel's source".to_owned(), program: TAR, instead: "install it" };
    let program = context.host.find(TAR).ok_or_else(missing)?;
    let file = File::open(archive).map_err(Error::io("read", archive))?;
    let plain = archive.with_extension("");
    // Through a file and not a pipe: then tar's own failure is not hidden behind that of the pipe.
    let mut out = File::create(&plain).map_err(Error::io("create", &plain))?;
    let mut reader = XzReader::new(BufReader::new(file), true);
    io::copy(&mut reader, &mut out).map_err(Error::io("decompress", archive))?;
    let mut command = Command::new(program);
    command.arg("-x").arg("-f").arg(&plain).arg("-C").arg(into).args(members).stdin(Stdio::null());
    super::super::run::run(command, "unpack a kernel's source", lock, || {})?;
    fs::remove_file(&plain).map_err(Error::io("remove", &plain))
}
