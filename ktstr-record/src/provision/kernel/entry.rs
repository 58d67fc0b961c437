//! Kernels in the cache, a folder each with `vmlinux`, `bzImage`, `kernel.json` and, of the archive's, `config`; and what a
//! kernel's ELF says of itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use memchr::memmem;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Object, ObjectSection, elf};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::super::cache::{Staging, create_dir_all};
use super::super::error::{Error, ImageError, Result};
use super::super::host::Context;
use super::image::{self, Image};
use super::payload::u32_at;
use super::spec::order;
use crate::spec::Kernel;

/// The folder of kernels in the cache.
pub(super) const FOLDER: &str = "kernels";

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

/// The kernel in the cache's entry `name`, as an answer to `asked`; `None` where the entry is absent or incomplete.
pub(super) fn load(context: &Context, name: &str, asked: &str) -> Option<Kernel> {
    let folder = context.cache.path(FOLDER).join(name);
    let metadata = metadata(&folder)?;
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

/// The archive's kernels in the cache, newest first: their entries have the names of their releases.
pub(super) fn cached(context: &Context, asked: &str) -> Vec<Kernel> {
    of_entries(context, asked, |name| name.starts_with(|c: char| c.is_ascii_digit()))
}

/// The kernels in the cache that came out of the user's files and builds, newest first.
pub(super) fn cached_of_files(context: &Context) -> Vec<Kernel> {
    of_entries(context, "", |name| !name.starts_with(|c: char| c.is_ascii_digit()))
}

fn of_entries(context: &Context, asked: &str, is_wanted: fn(&str) -> bool) -> Vec<Kernel> {
    let folder = context.cache.path(FOLDER);
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut kernels: Vec<Kernel> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_wanted(name))
        .filter_map(|name| load(context, &name, asked))
        .collect();
    kernels.sort_by(|a, b| order(&b.release).cmp(&order(&a.release)));
    kernels
}

/// Where the entry of `release` has its configuration. Entries of earlier releases of ktstr have none.
pub(super) fn config_path(context: &Context, release: &str) -> PathBuf {
    context.cache.path(FOLDER).join(release).join("config")
}

/// Where the entry of `kernel` has its configuration, if it is an entry of the cache and has one.
pub(super) fn config_of(kernel: &Kernel) -> Option<PathBuf> {
    let folder = folder_of(kernel)?;
    Some(folder.join("config")).filter(|config| config.is_file())
}

/// What the entry of `kernel` came from, if it is an entry of the cache.
pub(super) fn source_of(kernel: &Kernel) -> Option<String> {
    metadata(folder_of(kernel)?).map(|metadata| metadata.source)
}

fn folder_of(kernel: &Kernel) -> Option<&Path> {
    kernel.vmlinux.parent().filter(|folder| metadata(folder).is_some_and(|metadata| metadata.id == kernel.id))
}

fn metadata(folder: &Path) -> Option<Metadata> {
    serde_json::from_slice(&fs::read(folder.join("kernel.json")).ok()?).ok()
}

/// What the cache's entry `name` came from: a package of the archive, a file, a source tree.
pub(super) fn source(context: &Context, name: &str) -> Option<String> {
    metadata(&context.cache.path(FOLDER).join(name)).map(|metadata| metadata.source)
}

/// The files that a kernel's entry is made of, and where they came from.
pub(super) struct Files<'a> {
    /// The bzImage.
    pub(super) image: &'a Path,
    /// Its configuration, if it is kept in the entry.
    pub(super) config: Option<&'a Path>,
    /// The package or file that it came from.
    pub(super) source: &'a str,
}

/// Makes the entry `name` of `files`, for which `lock` is held.
pub(super) fn make(
    context: &Context,
    staging: &Staging<'_>,
    name: &str,
    asked: &str,
    files: &Files<'_>,
) -> Result<Kernel> {
    let Files { image: file, config, source } = *files;
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
    let config = config.map(read).transpose()?;
    let mut parts = vec![("vmlinux", &elf), ("bzImage", &bytes), ("kernel.json", &json)];
    parts.extend(config.iter().map(|config| ("config", config)));
    for (file, content) in parts {
        let path = made.join(file);
        fs::write(&path, content).map_err(Error::io("write", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).map_err(Error::io("change", &path))?;
    }
    let target = context.cache.path(FOLDER).join(name);
    staging.publish("kernel", &target)?;
    step.done();
    load(context, name, asked).ok_or_else(|| Error::Incomplete { what: source.to_owned(), path: target })
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| Error::KernelFile { path: PathBuf::from(path), source })
}

pub(super) fn content_id(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// `XEN_ELFNOTE_PHYS32_ENTRY` (Linux, `include/xen/interface/elfnote.h`): the PVH entry point.
const PVH_ENTRY: elf::NoteType = elf::NoteType(18);
/// `uname -r` is at most this long (`__NEW_UTS_LEN`).
const MAX_RELEASE: usize = 64;
const BANNER: &[u8] = b"Linux version ";

/// Facts about a kernel that can be booted and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// `uname -r`.
    pub(super) release: String,
    /// Whether it has sched_ext.
    pub(super) has_sched_ext: bool,
}

/// Checks that `file` is an x86_64 kernel with BTF and a PVH entry.
pub(super) fn inspect(file: &[u8]) -> Result<Facts, ImageError> {
    let parsed = ElfFile64::<object::Endianness>::parse(file).map_err(ImageError::Elf)?;
    let (header, endian) = (parsed.elf_header(), parsed.endian());
    let (machine, kind) = (header.e_machine(endian), header.e_type(endian));
    if machine != elf::EM_X86_64 || kind != elf::ET_EXEC {
        return Err(ImageError::Machine { machine: machine.0, kind: kind.0 });
    }
    let release = release(file).ok_or(ImageError::NoBanner)?;
    let btf = parsed.section_by_name(".BTF").ok_or(ImageError::NoBtf)?;
    let btf = btf.data().map_err(ImageError::Elf)?;
    let strings = btf_strings(btf).ok_or(ImageError::NoBtf)?;
    // A kernel built with CONFIG_SCHED_CLASS_EXT, and only such, has this type.
    let has_sched_ext = memmem::find(strings, b"\0sched_ext_ops\0").is_some();
    if !has_pvh_entry(&parsed)? {
        return Err(ImageError::NoPvh);
    }
    Ok(Facts { release, has_sched_ext })
}

/// The release in the kernel's banner, `Linux version RELEASE (builder) ...`.
fn release(file: &[u8]) -> Option<String> {
    memmem::find_iter(file, BANNER).find_map(|at| {
        let rest = &file[at + BANNER.len()..];
        let release =
            rest.iter().take(MAX_RELEASE + 1).position(|byte| *byte == b' ').map(|end| &rest[..end])?;
        let is_release =
            release.first().is_some_and(u8::is_ascii_digit) && release.iter().all(u8::is_ascii_graphic);
        is_release.then(|| String::from_utf8_lossy(release).into_owned())
    })
}

/// The string section of BTF (Linux, `Documentation/bpf/btf.rst`): a header of magic (u16), version
/// and flags (u8), its own length, and then offset and length of the types and of the strings.
fn btf_strings(btf: &[u8]) -> Option<&[u8]> {
    if !btf.starts_with(&[0x9f, 0xeb]) {
        return None;
    }
    let word = |at| u32_at(btf, at).and_then(|word| usize::try_from(word).ok());
    let (header, offset, length) = (word(4)?, word(16)?, word(20)?);
    let begin = header.checked_add(offset)?;
    btf.get(begin..begin.checked_add(length)?)
}

fn has_pvh_entry(parsed: &ElfFile64<'_, object::Endianness>) -> Result<bool, ImageError> {
    let endian = parsed.endian();
    for segment in parsed.elf_program_headers() {
        let Some(mut notes) = segment.notes(endian, parsed.data()).map_err(ImageError::Elf)? else {
            continue;
        };
        while let Some(note) = notes.next().map_err(ImageError::Elf)? {
            if note.name() == b"Xen" && note.n_type(endian) == PVH_ENTRY {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::image::synthetic;
    use super::*;

    #[test]
    fn a_kernel_tells_its_release_and_whether_it_has_sched_ext() {
        for has_sched_ext in [true, false] {
            let facts = inspect(&synthetic::elf(has_sched_ext)).unwrap();
            assert_eq!(facts, Facts { release: synthetic::RELEASE.to_owned(), has_sched_ext });
        }
    }

    #[test]
    fn what_a_kernel_lacks_is_named_with_the_option_that_adds_it() {
        let text = |elf: Vec<u8>| inspect(&elf).unwrap_err().to_string();
        assert!(text(synthetic::without(b".BTF")).contains("CONFIG_DEBUG_INFO_BTF=y"));
        assert!(text(synthetic::without(b"Xen\0")).contains("CONFIG_PVH=y"));
        assert!(text(synthetic::without(b"Linux version ")).contains("no `Linux version`"));
        let host_program = std::fs::read("/proc/self/exe").unwrap();
        assert!(text(host_program).contains("it is not an x86_64 kernel (ELF machine 62, type 3)"));
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut elf = synthetic::elf(true);
            let at = at.index(elf.len());
            elf[at] = byte;
            let _ = inspect(&elf);
            let _ = inspect(&elf[..cut.index(elf.len())]);
        }
    }
}
