//! A kernel at a random place, without the time that its own loader takes.
//!
//! A bzImage decompresses itself in the guest and then applies its relocations for the place that it has chosen: over a
//! second of an emulated CPU. Everything for it is known to the host, which has the kernel decompressed already. So the
//! host chooses the place, relocates the kernel and puts it into the guest's RAM; what is booted is the real-mode part of
//! the same bzImage (it asks the BIOS for the memory map, as ever) with a [`stub`] in place of the loader, which turns on
//! long mode and jumps to the kernel.
//!
//! Sources: Linux, `Documentation/arch/x86/boot.rst` (the 64-bit boot protocol), `arch/x86/boot/compressed/misc.c`
//! (`handle_relocations`), `arch/x86/kernel/head_64.S` (`startup_64`).

mod elf;
mod place;
mod relocations;
mod stub;

use std::fs;
use std::io;
use std::path::PathBuf;

use ktstr_replay::units::GuestPhys;

use super::GuestRam;
use crate::spec::MachineSpec;
use elf::Elf;
use place::Place;

/// Words of the command line by which a user asks the kernel's own loader for something that is not done here.
const LOADERS_WORDS: [&str; 3] = ["nokaslr", "no5lvl", "mem="];

/// Why a kernel is left to its own loader.
#[derive(Debug, thiserror::Error)]
pub(super) enum KaslrError {
    /// A file cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel is not built as expected.
    #[error("the kernel {0}")]
    Kernel(&'static str),
    /// RAM is too small to choose a place.
    #[error("no place for {needed_bytes} bytes of kernel below {limit:#x}")]
    NoPlace {
        /// Bytes of the kernel with its `.bss`.
        needed_bytes: u64,
        /// End of the RAM that it may lie in.
        limit: u64,
    },
    /// RAM cannot be written.
    #[error(transparent)]
    Memory(#[from] ktstr_replay::memory::MemoryError),
}

/// Whether the machine's kernel is to be placed at random by the host.
pub(super) fn wanted(spec: &MachineSpec) -> bool {
    let own = |word: &String| LOADERS_WORDS.iter().any(|loaders| word.starts_with(loaders));
    spec.kaslr && spec.kernel.bzimage.is_some() && !spec.kargs.iter().any(own)
}

/// Put the machine's kernel at a random place of `ram`. Returns the image to boot.
///
/// # Errors
/// [`KaslrError`]: the kernel's own loader then has to do it. RAM may have been written.
pub(super) fn place(spec: &MachineSpec, ram: &GuestRam) -> Result<Vec<u8>, KaslrError> {
    let file = read(&spec.kernel.vmlinux)?;
    let elf = Elf::parse(&file)?;
    // The guest channel's hole is the first thing above the loader's memory that must not be met.
    let limit = spec.channel_base().0;
    let mut random = [0; 16];
    let urandom = PathBuf::from("/dev/urandom");
    fs::File::open(&urandom)
        .and_then(|mut file| io::Read::read_exact(&mut file, &mut random))
        .map_err(|source| KaslrError::Read { path: urandom, source })?;
    let place = Place::choose(elf.bytes, limit, random)?;
    for (at, bytes) in elf.relocated(place.virtual_offset)? {
        ram.write(GuestPhys(place.physical + at), &bytes)?;
    }
    boot_image(spec, place.physical + elf.entry)
}

/// The image for a machine whose kernel runs already.
pub(super) fn for_restore(spec: &MachineSpec) -> Result<Vec<u8>, KaslrError> {
    boot_image(spec, place::LINK_PHYSICAL)
}

fn boot_image(spec: &MachineSpec, entry: u64) -> Result<Vec<u8>, KaslrError> {
    let path = spec.kernel.bzimage.as_ref().ok_or(KaslrError::Kernel("is no bzImage"))?;
    stub::image(&read(path)?, entry)
}

fn read(path: &PathBuf) -> Result<Vec<u8>, KaslrError> {
    fs::read(path).map_err(|source| KaslrError::Read { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::test_spec;

    #[test]
    fn words_for_the_kernels_own_loader_leave_it_to_that() {
        let mut spec = test_spec();
        (spec.kaslr, spec.kernel.bzimage) = (true, Some("/k/bzImage".into()));
        assert!(wanted(&spec));
        for word in ["nokaslr", "no5lvl", "mem=300M"] {
            spec.kargs = vec![word.into()];
            assert!(!wanted(&spec), "{word}");
        }
        spec.kargs.clear();
        spec.kaslr = false;
        assert!(!wanted(&spec));
        (spec.kaslr, spec.kernel.bzimage) = (true, None);
        assert!(!wanted(&spec), "a vmlinux alone is booted at its link address");
    }
}
