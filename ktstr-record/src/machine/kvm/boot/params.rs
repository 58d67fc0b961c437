//! What the kernel is told by address: `boot_params`, or PVH's `hvm_start_info`.

use std::mem::offset_of;
use std::ops::Range;

use linux_loader::loader::bootparam::{LOADED_HIGH, boot_e820_entry, boot_params};
use linux_loader::loader::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::ByteValued;

use super::layout::{CMDLINE, PARAMS};
use super::memory::MemoryMap;

/// What both protocols tell.
#[derive(Clone, Debug)]
pub(super) struct Told<'a> {
    pub(super) memory: &'a MemoryMap,
    pub(super) initramfs: &'a Range<u64>,
    pub(super) rsdp: u64,
}

/// The boot protocol of the header that a vmlinux is given, as it has none: the newest.
const MADE_UP_VERSION: u16 = 0x020f;
/// A boot loader without a number of its own (`type_of_loader`).
const UNDEFINED_LOADER: u8 = 0xff;

/// A field of `boot_params`: puts a number of its type there.
macro_rules! set {
    ($page:expr, $($field:ident).+ : $type:ty = $value:expr) => {
        put($page, offset_of!(boot_params, $($field).+), &<$type>::to_le_bytes($value))
    };
}

fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
    page[at..at + bytes.len()].copy_from_slice(bytes);
}

/// `boot_params`, with the setup header of a bzImage or one made up. Source: `Documentation/arch/x86/zero-page.rst` of Linux.
pub(super) fn linux64(told: &Told<'_>, setup_header: Option<&[u8]>) -> Vec<u8> {
    let mut page = vec![0; size_of::<boot_params>()];
    let page_mut = page.as_mut_slice();
    match setup_header {
        Some(header) => put(page_mut, offset_of!(boot_params, hdr), header),
        // What the kernel proper looks at.
        None => {
            set!(page_mut, hdr.boot_flag: u16 = 0xaa55);
            set!(page_mut, hdr.header: u32 = u32::from_le_bytes(*b"HdrS"));
            set!(page_mut, hdr.version: u16 = MADE_UP_VERSION);
            set!(page_mut, hdr.kernel_alignment: u32 = 2 << 20);
        }
    }
    let loadflags = page_mut[offset_of!(boot_params, hdr.loadflags)] | LOADED_HIGH;
    set!(page_mut, hdr.loadflags: u8 = loadflags);
    set!(page_mut, hdr.type_of_loader: u8 = UNDEFINED_LOADER);
    set!(page_mut, hdr.cmd_line_ptr: u32 = CMDLINE as u32);
    let (at, bytes) = (told.initramfs.start, told.initramfs.end - told.initramfs.start);
    set!(page_mut, hdr.ramdisk_image: u32 = at as u32);
    set!(page_mut, ext_ramdisk_image: u32 = (at >> 32) as u32);
    set!(page_mut, hdr.ramdisk_size: u32 = bytes as u32);
    set!(page_mut, ext_ramdisk_size: u32 = (bytes >> 32) as u32);
    set!(page_mut, acpi_rsdp_addr: u64 = told.rsdp);
    let table = offset_of!(boot_params, e820_table);
    for (n, (range, kind)) in told.memory.entries.iter().enumerate() {
        let entry = table + n * size_of::<boot_e820_entry>();
        put(page_mut, entry + offset_of!(boot_e820_entry, addr), &range.start.to_le_bytes());
        put(page_mut, entry + offset_of!(boot_e820_entry, size), &(range.end - range.start).to_le_bytes());
        put(page_mut, entry + offset_of!(boot_e820_entry, r#type), &(*kind as u32).to_le_bytes());
    }
    set!(page_mut, e820_entries: u8 = told.memory.entries.len() as u8);
    page
}

/// `hvm_start_info`, the list of modules with the initramfs alone, and the memory map, one after the other from
/// [`PARAMS`].
pub(super) fn pvh(told: &Told<'_>) -> Vec<u8> {
    let modules = PARAMS + size_of::<hvm_start_info>() as u64;
    let map = modules + size_of::<hvm_modlist_entry>() as u64;
    let info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: 1,
        nr_modules: 1,
        modlist_paddr: modules,
        cmdline_paddr: CMDLINE,
        rsdp_paddr: told.rsdp,
        memmap_paddr: map,
        memmap_entries: told.memory.entries.len() as u32,
        ..hvm_start_info::default()
    };
    let module = hvm_modlist_entry {
        paddr: told.initramfs.start,
        size: told.initramfs.end - told.initramfs.start,
        ..hvm_modlist_entry::default()
    };
    let mut bytes = [info.as_slice(), module.as_slice()].concat();
    for (range, kind) in &told.memory.entries {
        let type_ = *kind as u32;
        let (addr, size) = (range.start, range.end - range.start);
        bytes.extend_from_slice(hvm_memmap_table_entry { addr, size, type_, reserved: 0 }.as_slice());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryMap;
    use super::{Told, linux64, pvh};

    const INITRAMFS: std::ops::Range<u64> = 0x1_0000_0000..0x1_0000_3000;

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    /// Offsets as `Documentation/arch/x86/zero-page.rst` and `boot.rst` have them.
    #[test]
    fn boot_params_are_where_the_documentation_says() {
        let memory = MemoryMap::new(&[256 << 20]);
        let told = Told { memory: &memory, initramfs: &INITRAMFS, rsdp: 0x8_0000 };
        let page = linux64(&told, None);
        assert_eq!(page.len(), 4096);
        assert_eq!((u64_at(&page, 0x70), page[0x1e8]), (0x8_0000, 4));
        assert_eq!((&page[0x1fe..0x200], &page[0x202..0x206]), (&[0x55, 0xaa][..], &b"HdrS"[..]));
        assert_eq!((page[0x210], page[0x211]), (0xff, 1));
        assert_eq!((u32_at(&page, 0x218), u32_at(&page, 0xc0)), (0, 1), "the initramfs");
        assert_eq!((u32_at(&page, 0x21c), u32_at(&page, 0xc4)), (0x3000, 0));
        assert_eq!(u32_at(&page, 0x228), 0x1_0000, "the command line");
        let last = 0x2d0 + 3 * 20;
        assert_eq!(
            (u64_at(&page, last), u64_at(&page, last + 8), u32_at(&page, last + 16)),
            (1 << 20, 255 << 20, 1)
        );
        assert_eq!(page[last + 20..0xcd0], [0; 0xcd0 - 0x2d0 - 80]);
    }

    #[test]
    fn a_header_of_the_file_is_kept() {
        let memory = MemoryMap::new(&[256 << 20]);
        let told = Told { memory: &memory, initramfs: &INITRAMFS, rsdp: 0 };
        let mut header = vec![0; 0x7b];
        header[0x258 - 0x1f1] = 0x5a;
        let page = linux64(&told, Some(&header));
        assert_eq!((page[0x258], page[0x211], page[0x26c]), (0x5a, 1, 0));
    }

    #[test]
    fn start_info_points_to_what_follows_it() {
        let memory = MemoryMap::new(&[256 << 20]);
        let told = Told { memory: &memory, initramfs: &INITRAMFS, rsdp: 0x8_0000 };
        let bytes = pvh(&told);
        assert_eq!((u32_at(&bytes, 0), u32_at(&bytes, 4), u32_at(&bytes, 12)), (0x336e_c578, 1, 1));
        assert_eq!((u64_at(&bytes, 24), u64_at(&bytes, 32)), (0x1_0000, 0x8_0000));
        let module = usize::try_from(u64_at(&bytes, 16)).unwrap() - 0x2000;
        assert_eq!((u64_at(&bytes, module), u64_at(&bytes, module + 8)), (INITRAMFS.start, 0x3000));
        let map = usize::try_from(u64_at(&bytes, 40)).unwrap() - 0x2000;
        assert_eq!(u32_at(&bytes, 48), 4);
        assert_eq!(bytes.len(), map + 4 * 24);
        let acpi = map + 24;
        assert_eq!(
            (u64_at(&bytes, acpi), u64_at(&bytes, acpi + 8), u32_at(&bytes, acpi + 16)),
            (0x8_0000, 0x2_0000, 3)
        );
    }
}
