//! The kernel in the guest's memory, and where it is entered.
//!
//! ```text
//! elf       vmlinux: its segments at their physical addresses     elf.rs
//! bzimage   the compressed kernel with its own loader             bzimage.rs
//! ```

mod bzimage;
mod elf;

use std::ops::Range;

use super::build::Region;
use super::error::BootError;
#[cfg(test)]
pub(super) use elf::tests::tiny_elf;

/// How a kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The 64-bit boot protocol: in long mode, with `boot_params`. For bzImage and ELF. Source:
    /// `Documentation/arch/x86/boot.rst` of Linux, "64-bit Boot Protocol".
    Linux64,
    /// PVH: in 32-bit protected mode without paging, with `hvm_start_info`. For an ELF with a note that says where.
    /// Source: `docs/misc/pvh.pandoc` of Xen.
    Pvh,
}

/// A kernel and where it lies.
#[derive(Debug)]
pub(super) struct Loaded<'a> {
    /// Its bytes.
    pub(super) regions: Vec<Region<'a>>,
    /// All memory that it uses before it reads the memory map.
    pub(super) span: Range<u64>,
    /// Where it is entered.
    pub(super) entry: u64,
    /// Its setup header as it begins at `boot_params.hdr`; `None`: it has none.
    pub(super) setup_header: Option<&'a [u8]>,
    /// The highest address that the initramfs may have.
    pub(super) initramfs_max: u64,
}

impl<'a> Loaded<'a> {
    /// The kernel in `image`, entered by `protocol`.
    pub(super) fn new(image: &'a [u8], protocol: Protocol) -> Result<Self, BootError> {
        match protocol {
            _ if image.starts_with(b"\x7fELF") => elf::load(image, protocol),
            Protocol::Linux64 => bzimage::load(image),
            Protocol::Pvh => {
                Err(BootError::Kernel("is not an ELF, and PVH enters no other; enter it by its 64-bit entry"))
            }
        }
    }
}
