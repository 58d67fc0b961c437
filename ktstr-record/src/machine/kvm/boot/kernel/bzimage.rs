//! bzImage: a loader and the compressed kernel, entered in 64-bit mode.

use std::borrow::Cow;
use std::mem::offset_of;

use linux_loader::loader::bootparam::{LOADED_HIGH, XLF_KERNEL_64, boot_params};

use super::Loaded;
use crate::machine::kvm::boot::build::Region;
use crate::machine::kvm::boot::error::BootError;
use crate::machine::kvm::boot::layout::HIGH;

/// Where the setup header begins, in the file as in `boot_params`.
const HEADER: usize = offset_of!(boot_params, hdr);
/// The byte that says how far behind itself the header ends, less one.
const HEADER_LENGTH: usize = 0x201;
/// The first version of the protocol that says whether there is a 64-bit entry.
const OLDEST: u64 = 0x020c;
/// The 64-bit entry, in bytes from the begin of what is loaded.
const ENTRY_64: u64 = 0x200;

/// A field of the setup header, as a number.
macro_rules! field {
    ($image:expr, $field:ident, $bytes:literal) => {
        number::<$bytes>($image, offset_of!(boot_params, hdr.$field))
    };
}

fn number<const N: usize>(image: &[u8], at: usize) -> Result<u64, BootError> {
    let bytes = image.get(at..at + N).ok_or(BootError::Kernel("is cut off in its setup header"))?;
    Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

pub(super) fn load(image: &[u8]) -> Result<Loaded<'_>, BootError> {
    if field!(image, header, 4).ok() != Some(u32::from_le_bytes(*b"HdrS").into()) {
        return Err(BootError::Kernel("is neither an ELF nor a bzImage"));
    }
    let has_64_bit_entry = field!(image, version, 2)? >= OLDEST
        && field!(image, loadflags, 1)? & u64::from(LOADED_HIGH) != 0
        && field!(image, xloadflags, 2)? & u64::from(XLF_KERNEL_64) != 0;
    if !has_64_bit_entry {
        return Err(BootError::Kernel("is a bzImage without a 64-bit entry"));
    }
    let header_end = HEADER_LENGTH + 1 + number::<1>(image, HEADER_LENGTH)? as usize;
    let setup_header =
        image.get(HEADER..header_end).ok_or(BootError::Kernel("is cut off in its setup header"))?;
    // 0 means 4, for very old files. The boot sector comes before.
    let setup_sectors = match field!(image, setup_sects, 1)? {
        0 => 4,
        sectors => sectors as usize,
    };
    let code = image
        .get((setup_sectors + 1) * 512..)
        .filter(|code| code.len() as u64 > ENTRY_64)
        .ok_or(BootError::Kernel("is a bzImage without the kernel"))?;
    // At the address for which it is linked it decompresses in place. One that cannot be relocated moves itself there.
    let linked = field!(image, pref_address, 8)?;
    let at = match field!(image, relocatable_kernel, 1)? {
        0 => HIGH,
        _ => linked,
    };
    let nowhere = BootError::Kernel("wants to lie where no memory can be");
    let needed = field!(image, init_size, 4)?.max(code.len() as u64);
    let end = at.max(linked).checked_add(needed).ok_or(nowhere)?;
    Ok(Loaded {
        regions: vec![Region { at, bytes: Cow::Borrowed(code) }],
        span: at.min(linked)..end,
        entry: at + ENTRY_64,
        setup_header: Some(setup_header),
        initramfs_max: field!(image, initrd_addr_max, 4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Loaded, Protocol};

    /// The header fields that are read, with two sectors of code behind one of setup.
    fn tiny() -> Vec<u8> {
        let mut image = vec![0; 4 * 512];
        image[0x1f1] = 1;
        image[0x201] = 0x6a;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[0x211] = 1;
        image[0x22c..0x230].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
        image[0x234] = 1;
        image[0x236] = 1;
        image[0x258..0x260].copy_from_slice(&0x100_0000_u64.to_le_bytes());
        image[0x260..0x264].copy_from_slice(&0x8000_u32.to_le_bytes());
        image[1024..].fill(0x90);
        image
    }

    fn error(image: &[u8]) -> String {
        Loaded::new(image, Protocol::Linux64).unwrap_err().to_string()
    }

    #[test]
    fn the_code_lies_where_it_prefers_to() {
        let image = tiny();
        let loaded = Loaded::new(&image, Protocol::Linux64).unwrap();
        assert_eq!((loaded.entry, loaded.span.clone()), (0x100_0200, 0x100_0000..0x100_8000));
        assert_eq!((loaded.regions[0].at, loaded.regions[0].bytes.len()), (0x100_0000, 1024));
        assert_eq!(loaded.setup_header.unwrap(), &image[0x1f1..0x26c]);
        assert_eq!(loaded.initramfs_max, 0x7fff_ffff);
    }

    #[test]
    fn what_cannot_be_relocated_needs_where_it_moves_itself_to() {
        let mut image = tiny();
        image[0x234] = 0;
        let loaded = Loaded::new(&image, Protocol::Linux64).unwrap();
        assert_eq!((loaded.entry, loaded.span.clone()), (0x10_0200, 0x10_0000..0x100_8000));
        assert_eq!(loaded.regions[0].at, 0x10_0000);
    }

    #[test]
    fn other_files_are_told_apart() {
        assert_eq!(error(b"#!/bin/sh"), "the kernel is neither an ELF nor a bzImage");
        let pvh = Loaded::new(&tiny(), Protocol::Pvh).unwrap_err().to_string();
        assert!(pvh.contains("PVH"), "{pvh}");
        let mut narrow = tiny();
        narrow[0x236] = 0;
        assert_eq!(error(&narrow), "the kernel is a bzImage without a 64-bit entry");
        assert_eq!(error(&tiny()[..1024]), "the kernel is a bzImage without the kernel");
        for len in 0..1536 {
            assert!(Loaded::new(&tiny()[..len], Protocol::Linux64).is_err(), "{len} bytes");
        }
        let mut beyond = tiny();
        beyond[0x258..0x260].fill(0xff);
        assert_eq!(error(&beyond), "the kernel wants to lie where no memory can be");
    }
}
