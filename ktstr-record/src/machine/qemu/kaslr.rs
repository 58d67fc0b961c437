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

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use ktstr_replay::units::GuestPhys;

use super::stub;
use super::vmlinux::{Elf, KaslrError, LINK_PHYSICAL};
use crate::machine::ram::GuestRam;
use crate::spec::MachineSpec;

/// Words of the command line by which a user asks the kernel's own loader for something that is not done here.
const LOADERS_WORDS: [&str; 3] = ["nokaslr", "no5lvl", "mem="];

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
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(|source| KaslrError::Read { path: urandom, source })?;
    let place = Placement::choose(elf.bytes, limit, random)?;
    for (at, bytes) in elf.relocated(place.virtual_offset)? {
        ram.write(GuestPhys(place.physical + at), &bytes)?;
    }
    boot_image(spec, place.physical + elf.entry)
}

/// The image for a machine whose kernel runs already.
pub(super) fn for_restore(spec: &MachineSpec) -> Result<Vec<u8>, KaslrError> {
    boot_image(spec, LINK_PHYSICAL)
}

fn boot_image(spec: &MachineSpec, entry: u64) -> Result<Vec<u8>, KaslrError> {
    let path = spec.kernel.bzimage.as_ref().ok_or(KaslrError::Kernel("is no bzImage"))?;
    let mut begin = Vec::with_capacity(stub::REAL_MODE_BYTES);
    fs::File::open(path)
        .and_then(|file| file.take(stub::REAL_MODE_BYTES as u64).read_to_end(&mut begin))
        .map_err(|source| KaslrError::Read { path: path.clone(), source })?;
    stub::image(&begin, entry)
}

fn read(path: &PathBuf) -> Result<Vec<u8>, KaslrError> {
    fs::read(path).map_err(|source| KaslrError::Read { path: path.clone(), source })
}

/// `KERNEL_IMAGE_SIZE` with KASLR: the kernel's part of the address space.
const KERNEL_SPACE_BYTES: u64 = 1 << 30;
/// `CONFIG_PHYSICAL_ALIGN`, of both addresses: `__startup_64` halts at another one.
const STEP_BYTES: u64 = 2 << 20;

/// Where the kernel is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    /// Where the kernel's first byte lies.
    pub(super) physical: u64,
    /// How much higher than linked its virtual addresses are.
    pub(super) virtual_offset: u64,
}

impl Placement {
    /// One of all places for a kernel of `bytes` with RAM up to `limit`, each as likely as another.
    pub(super) fn choose(bytes: u64, limit: u64, random: [u8; 16]) -> Result<Self, KaslrError> {
        // The loader's own memory, 1 MiB and up, is below.
        let none = KaslrError::NoPlace { needed_bytes: bytes, limit };
        let (Some(physical), Some(virtual_space)) = (
            slots(limit.saturating_sub(LINK_PHYSICAL), bytes),
            slots(KERNEL_SPACE_BYTES - LINK_PHYSICAL, bytes),
        ) else {
            return Err(none);
        };
        let (low, high) = random.split_at(8);
        // So few places of so many numbers: no bias that matters.
        let pick = |bytes: &[u8], slots: u64| {
            bytes.iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte)) % slots * STEP_BYTES
        };
        Ok(Self { physical: LINK_PHYSICAL + pick(low, physical), virtual_offset: pick(high, virtual_space) })
    }
}

/// How many places there are for `bytes` in `space`.
fn slots(space: u64, bytes: u64) -> Option<u64> {
    space.checked_sub(bytes).map(|spare| spare / STEP_BYTES + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spec::test_spec;

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

    #[test]
    fn ram_that_is_too_small_is_said() {
        let refused = Placement::choose(64 << 20, 64 << 20, [0; 16]).unwrap_err();
        assert_eq!(refused.to_string(), "no place for 67108864 bytes of kernel below 0x4000000");
        let only = Placement::choose(48 << 20, 64 << 20, [0xff; 16]).unwrap();
        assert_eq!(only.physical, LINK_PHYSICAL);
    }

    proptest! {
        #[test]
        fn every_place_fits(bytes in 1_u64..200 << 20, limit in 0_u64..2 << 30, random: [u8; 16]) {
            if let Ok(place) = Placement::choose(bytes, limit, random) {
                prop_assert!(place.physical >= LINK_PHYSICAL && place.physical + bytes <= limit);
                prop_assert!(LINK_PHYSICAL + place.virtual_offset + bytes <= KERNEL_SPACE_BYTES);
                prop_assert!(place.physical % STEP_BYTES == 0 && place.virtual_offset % STEP_BYTES == 0);
            }
        }
    }
}
