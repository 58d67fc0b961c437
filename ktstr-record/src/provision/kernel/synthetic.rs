//! Images for tests: the smallest ELF with all that makes a kernel here, in a bzImage.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// What the kernel of [`elf`] says that it is.
pub(super) const RELEASE: &str = "7.3.4+test-amd64";

const NOTE_AT: usize = 0x40 + 56;
const BTF_AT: usize = 0x100;
const NAMES_AT: usize = 0x180;
const BANNER_AT: usize = 0x1a0;
const SECTIONS_AT: usize = 0x200;

/// An ELF: header, one PT_NOTE with the PVH entry, `.BTF` and the section names, a banner.
pub(super) fn elf(has_sched_ext: bool) -> Vec<u8> {
    let mut out = Image(vec![0; SECTIONS_AT + 3 * 64]);
    out.put(0, b"\x7fELF\x02\x01\x01");
    out.u16(0x10, 2); // ET_EXEC
    out.u16(0x12, 62); // EM_X86_64
    out.u32(0x14, 1);
    out.u64(0x20, 0x40); // e_phoff
    out.u64(0x28, SECTIONS_AT as u64);
    out.u16(0x34, 64);
    out.u16(0x36, 56);
    out.u16(0x38, 1); // e_phnum
    out.u16(0x3a, 64);
    out.u16(0x3c, 3); // e_shnum
    out.u16(0x3e, 2); // e_shstrndx

    out.u32(0x40, 4); // PT_NOTE
    out.u64(0x48, NOTE_AT as u64);
    out.u64(0x60, 20);
    out.u64(0x68, 20);
    out.u64(0x70, 4);
    out.u32(NOTE_AT, 4);
    out.u32(NOTE_AT + 4, 4);
    out.u32(NOTE_AT + 8, 18);
    out.put(NOTE_AT + 12, b"Xen\0");

    let name: &[u8] = if has_sched_ext { b"\0sched_ext_ops\0" } else { b"\0sched_class\0" };
    out.put(BTF_AT, &[0x9f, 0xeb, 1, 0]);
    out.u32(BTF_AT + 4, 24);
    out.u32(BTF_AT + 20, name.len() as u32);
    out.put(BTF_AT + 24, name);

    out.put(NAMES_AT, b"\0.BTF\0.shstrtab\0");
    out.put(BANNER_AT, format!("Linux version {RELEASE} (builder)").as_bytes());
    for (index, name, kind, at, size) in [(1, 1u32, 1u32, BTF_AT, 24 + name.len()), (2, 6, 3, NAMES_AT, 16)] {
        let section = SECTIONS_AT + index * 64;
        out.u32(section, name);
        out.u32(section + 4, kind);
        out.u64(section + 0x18, at as u64);
        out.u64(section + 0x20, size as u64);
    }
    out.0
}

/// [`elf`] with the first occurrence of `text` made unrecognizable.
pub(super) fn without(text: &[u8]) -> Vec<u8> {
    let mut out = elf(true);
    let at = memchr::memmem::find(&out, text).unwrap();
    out[at] ^= 0x20;
    out
}

/// `data` as a gzip payload.
pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A bzImage with this payload.
pub(super) fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut out = Image(vec![0; 1024]);
    out.0[0x1f1] = 1;
    out.put(0x1fe, &[0x55, 0xaa]);
    out.put(0x202, b"HdrS");
    out.u16(0x206, 0x20f);
    out.u32(0x248, 16);
    out.u32(0x24c, payload.len() as u32);
    out.0.extend_from_slice(&[0x90; 16]);
    out.0.extend_from_slice(payload);
    out.0
}

struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
}
