//! PID 1 of every guest, embedded, and the initramfs that holds it: a cpio archive with one file, `/init`.
//!
//! Uncompressed, because an emulated CPU unpacks more slowly than it reads. Format: "newc" of the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`: a header of `070701` and thirteen numbers of eight
//! hex digits, the name with its NUL, the data; name and data each padded to four bytes; `TRAILER!!!` at the end.

/// PID 1 of every guest: a static x86-64 ELF, built from the package `guest-init` by this package's build
/// script. It goes into the initramfs as `/init`.
pub fn init_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/guest-init"))
}

/// A regular file that all may execute.
const INIT_MODE: u32 = 0o100_755;

/// An archive that holds `init` as `/init` and nothing else.
///
/// # Errors
/// [`TooLarge`] when the format cannot express the size.
pub(crate) fn newc(init: &[u8]) -> Result<Vec<u8>, TooLarge> {
    let size = u32::try_from(init.len()).map_err(|_| TooLarge { bytes: init.len() })?;
    let mut archive = Vec::with_capacity(init.len() + 512);
    entry(&mut archive, "init", 1, INIT_MODE, size, init);
    entry(&mut archive, "TRAILER!!!", 0, 0, 0, &[]);
    Ok(archive)
}

/// An init of 4 GiB or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an init of {bytes} bytes does not fit an initramfs (4 GiB)")]
pub struct TooLarge {
    /// Its size.
    pub bytes: usize,
}

fn entry(archive: &mut Vec<u8>, name: &str, inode: u32, mode: u32, size: u32, data: &[u8]) {
    let name_bytes = name.len() as u32 + 1;
    // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name size, checksum
    let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_bytes, 0];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(data);
    pad(archive);
}

/// Every entry begins on four bytes, so padding the archive pads name and data alike.
fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use object::Endianness;
    use object::elf::{FileHeader64, PT_INTERP};
    use object::read::elf::{FileHeader, ProgramHeader};

    use super::{init_image, newc};

    #[test]
    fn init_is_a_small_static_program() {
        let header = FileHeader64::<Endianness>::parse(init_image()).expect("an ELF");
        let segments = header.program_headers(Endianness::Little, init_image()).expect("program headers");
        assert!(segments.iter().all(|segment| segment.p_type(Endianness::Little) != PT_INTERP));
        assert!(init_image().len() < 1_500_000, "{} bytes", init_image().len());
    }

    /// What a reader of the format finds: name, mode, data.
    fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let field = |at: usize, i: usize| {
            let digits = &archive[at + 6 + i * 8..at + 14 + i * 8];
            u32::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap() as usize
        };
        let (mut at, mut found) = (0, Vec::new());
        while at < archive.len() {
            assert_eq!(&archive[at..at + 6], b"070701");
            let (mode, size, name_len) = (field(at, 1), field(at, 6), field(at, 11));
            let name = String::from_utf8(archive[at + 110..at + 110 + name_len - 1].to_vec()).unwrap();
            assert_eq!(archive[at + 110 + name_len - 1], 0);
            let data = (at + 110 + name_len).next_multiple_of(4);
            found.push((name, mode as u32, archive[data..data + size].to_vec()));
            at = (data + size).next_multiple_of(4);
        }
        found
    }

    #[test]
    fn holds_init_alone_and_executable() {
        for len in 0..9 {
            let init: Vec<u8> = (0..len).map(|i| i as u8 ^ 0x5a).collect();
            let found = entries(&newc(&init).unwrap());
            assert_eq!(found[0], ("init".into(), 0o100_755, init));
            assert_eq!(found[1].0, "TRAILER!!!");
            assert_eq!(found.len(), 2);
        }
    }
}
