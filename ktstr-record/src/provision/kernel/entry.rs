//! Kernels in the cache: a folder each, with `vmlinux`, `bzImage` and `kernel.json`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::super::cache::{Lock, Staging, create_dir_all};
use super::super::context::Context;
use super::super::error::{Error, Result};
use super::archive::order;
use super::image::{self, Image, ImageError};
use super::inspect::{Facts, inspect};
use crate::spec::Kernel;

/// The folder of kernels in the cache.
pub(super) const FOLDER: &str = "kernels";
/// Begins the names of entries made of the user's own files.
const FILE_PREFIX: &str = "file-";

/// `kernel.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Metadata {
    release: String,
    has_sched_ext: bool,
    /// XXH3-128 of `vmlinux`, hex.
    id: String,
    vmlinux_bytes: u64,
    /// The package or file that it came from.
    source: String,
}

/// The kernel in the cache's entry `name`, as an answer to `asked`; `None` where there is no whole one.
pub(super) fn load(context: &Context, name: &str, asked: &str) -> Option<Kernel> {
    let folder = context.cache.path(FOLDER).join(name);
    let json = fs::read(folder.join("kernel.json")).ok()?;
    let metadata: Metadata = serde_json::from_slice(&json).ok()?;
    let (vmlinux, bzimage) = (folder.join("vmlinux"), folder.join("bzImage"));
    if fs::metadata(&vmlinux).ok()?.len() != metadata.vmlinux_bytes || !bzimage.is_file() {
        return None;
    }
    Some(Kernel {
        asked: asked.to_owned(),
        release: metadata.release,
        vmlinux,
        bzimage: Some(bzimage),
        id: metadata.id,
        has_sched_ext: metadata.has_sched_ext,
    })
}

/// The archive's kernels in the cache, newest first.
pub(super) fn cached(context: &Context, asked: &str) -> Vec<Kernel> {
    let folder = context.cache.path(FOLDER);
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut kernels: Vec<Kernel> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with(FILE_PREFIX))
        .filter_map(|name| load(context, &name, asked))
        .collect();
    kernels.sort_by(|a, b| order(&b.release).cmp(&order(&a.release)));
    kernels
}

/// Makes the entry `name` of the bzImage `file`, for which `lock` is held.
pub(super) fn make(
    context: &Context,
    staging: &Staging<'_>,
    name: &str,
    asked: &str,
    file: &Path,
    source: &str,
) -> Result<Kernel> {
    let bytes = read(file)?;
    let step = context.progress.step(format!("decompressing the kernel {source}"), None);
    let not_a_kernel = |source| Error::NotAKernel { path: file.to_owned(), source };
    let elf = match image::open(&bytes).map_err(not_a_kernel)? {
        Image::Bz { elf } => elf,
        Image::Elf => bytes.clone(),
    };
    let Facts { release, has_sched_ext } = inspect(&elf).map_err(not_a_kernel)?;
    let made = staging.path().join("kernel");
    create_dir_all(&made)?;
    let metadata = Metadata {
        release,
        has_sched_ext,
        id: content_id(&elf),
        vmlinux_bytes: elf.len() as u64,
        source: source.to_owned(),
    };
    let json = serde_json::to_vec_pretty(&metadata)
        .map_err(|e| Error::io("write", &made)(std::io::Error::other(e)))?;
    for (file, content) in [("vmlinux", &elf), ("bzImage", &bytes), ("kernel.json", &json)] {
        let path = made.join(file);
        fs::write(&path, content).map_err(Error::io("write", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).map_err(Error::io("change", &path))?;
    }
    let target = context.cache.path(FOLDER).join(name);
    staging.publish("kernel", &target)?;
    step.done();
    load(context, name, asked).ok_or_else(|| Error::Incomplete { what: source.to_owned(), path: target })
}

/// The kernel in a file of the user's.
pub(super) fn of_file(context: &Context, path: &Path, asked: &str) -> Result<Kernel> {
    let not_a_kernel = |source| Error::NotAKernel { path: path.to_owned(), source };
    if path.is_dir() {
        return Err(not_a_kernel(ImageError::Folder));
    }
    let path = std::path::absolute(path).map_err(Error::io("find", path))?;
    let bytes = read(&path)?;
    if bytes.starts_with(image::ELF_MAGIC) {
        let Facts { release, has_sched_ext } = inspect(&bytes).map_err(not_a_kernel)?;
        let id = content_id(&bytes);
        return Ok(Kernel {
            asked: asked.to_owned(),
            release,
            vmlinux: path,
            bzimage: None,
            id,
            has_sched_ext,
        });
    }
    let name = format!("{FILE_PREFIX}{}", content_id(&bytes));
    drop(bytes);
    if let Some(kernel) = load(context, &name, asked) {
        return Ok(kernel);
    }
    let lock: Lock = context.cache.lock(&format!("kernel-{name}"), context.progress)?;
    if let Some(kernel) = load(context, &name, asked) {
        return Ok(kernel);
    }
    make(context, &lock.stage()?, &name, asked, &path, &path.display().to_string())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| Error::KernelFile { path: PathBuf::from(path), source })
}

fn content_id(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}
