//! The kernel in what the user gave: an image, a package, or a folder in which a kernel was built. Kept by content, so that the
//! same bytes at another place are the same kernel.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use super::super::cache::create_dir_all;
use super::super::error::{Error, ImageError, Result};
use super::super::host::Context;
use super::entry::{self, FOLDER, Facts, Files};
use super::package::{self, Format, MAX_PACKAGE_BYTES, PackageError};
use super::{hash, image, tree};
use crate::spec::Kernel;

/// Begins the names of entries made of the user's own files.
pub(super) const FILE_PREFIX: &str = "file-";

/// The kernel at `path`, as an answer to `asked`.
pub(super) fn kernel_at(context: &Context, path: &Path, asked: &str) -> Result<Kernel> {
    if path.is_dir() {
        let found = tree::built(path)?;
        if let Some(note) = &found.note {
            context.progress.note(note);
        }
        return of_file(context, &found.image, asked);
    }
    of_file(context, path, asked)
}

fn of_file(context: &Context, path: &Path, asked: &str) -> Result<Kernel> {
    let path = std::path::absolute(path).map_err(Error::io("find", path))?;
    // An entry's own file, as a build's result is handed to tests.
    if let Some(name) = entry_of(context, &path)
        && let Some(kernel) = entry::load(context, &name, asked)
    {
        return Ok(kernel);
    }
    let unread = |source| Error::KernelFile { path: path.clone(), source };
    let mut file = File::open(&path).map_err(unread)?;
    if !file.metadata().map_err(unread)?.is_file() {
        return Err(Error::NotAKernel { path, source: ImageError::NotAFile });
    }
    let mut head = Vec::new();
    file.by_ref().take(Format::HEAD_BYTES).read_to_end(&mut head).map_err(unread)?;
    if head.starts_with(image::ELF_MAGIC) {
        return of_elf(path, asked);
    }
    let format = Format::of(&head);
    if format.is_some() && file.metadata().map_err(unread)?.len() > MAX_PACKAGE_BYTES {
        let source = PackageError::TooLarge { part: "file", limit: MAX_PACKAGE_BYTES };
        return Err(Error::Package { path, source });
    }
    file.rewind().map_err(unread)?;
    let name = format!("{FILE_PREFIX}{:032x}", hash::of(&mut file).map_err(unread)?);
    if let Some(kernel) = entry::load(context, &name, asked) {
        return Ok(kernel);
    }
    let lock = context.cache.lock(&format!("kernel-{name}"), context.progress)?;
    if let Some(kernel) = entry::load(context, &name, asked) {
        return Ok(kernel);
    }
    let staging = lock.stage()?;
    let source = path.display().to_string();
    let Some(format) = format else {
        let files = Files { image: &path, config: None, source: &source };
        return entry::make(context, &staging, &name, asked, &files);
    };
    let into = staging.path().join("package");
    create_dir_all(&into)?;
    let step = context.progress.step(format!("taking the kernel out of {source}"), None);
    let taken = package::extract(&mut file, format, &into)
        .map_err(|source| Error::Package { path: path.clone(), source })?;
    step.done();
    let files = Files { image: &taken.image, config: taken.config.as_deref(), source: &source };
    entry::make(context, &staging, &name, asked, &files).map_err(|error| match error {
        // The path of the copy says nothing to anybody.
        Error::NotAKernel { source, .. } => Error::NotAKernel { path: path.clone(), source },
        other => other,
    })
}

/// A vmlinux, which is booted where it lies.
fn of_elf(path: PathBuf, asked: &str) -> Result<Kernel> {
    let bytes = entry::read(&path)?;
    let facts = entry::inspect(&bytes).map_err(|source| Error::NotAKernel { path: path.clone(), source })?;
    let Facts { release, has_sched_ext } = facts;
    let id = entry::content_id(&bytes);
    Ok(Kernel { asked: asked.to_owned(), release, vmlinux: path, bzimage: None, id, has_sched_ext })
}

/// The name of the cache's entry that `path` is the bzImage of.
fn entry_of(context: &Context, path: &Path) -> Option<String> {
    let below = path.strip_prefix(context.cache.path(FOLDER)).ok()?;
    let name = below.parent().filter(|name| below == name.join("bzImage"))?;
    name.to_str().filter(|name| !name.contains('/')).map(str::to_owned)
}
