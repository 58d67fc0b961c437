//! What stands in for the kernel's own loader: 32-bit protected mode in, the kernel's 64-bit entry out.
//!
//! ```text
//! 0x100000  code      as the boot protocol enters a loader: flat segments, no paging, ESI = boot_params
//! 0x100100  GDT       null, null, 0x10 64-bit code, 0x18 data: __BOOT_CS and __BOOT_DS
//! 0x101000  PML5      one entry, used where the CPU has 57-bit addresses
//! 0x102000  PML4      one entry
//! 0x103000  PDPT      four entries
//! 0x104000  PDs       four of 512 pages of 2 MiB: the first 4 GiB, at their own addresses
//! ```

use super::vmlinux::KaslrError;

/// Where the boot protocol puts a loader.
const BASE: u32 = 0x10_0000;
const GDT: u32 = BASE + 0x100;
const PML5: u32 = BASE + 0x1000;
const PML4: u32 = BASE + 0x2000;
const PDPT: u32 = BASE + 0x3000;
const PDS: u32 = BASE + 0x4000;
const BYTES: usize = 0x8000;

/// Fields of the setup header (`Documentation/arch/x86/boot.rst`).
const SETUP_SECTS: usize = 0x1f1;
const SYSSIZE: usize = 0x1f4;
const LOADFLAGS: usize = 0x211;
/// In `loadflags`: addresses were chosen at random, so that the kernel does the same with its other regions.
const KASLR_FLAG: u8 = 2;
const SECTOR_BYTES: usize = 512;
/// The longest real-mode part: its sectors are counted in a byte, and one more comes before them.
pub(super) const REAL_MODE_BYTES: usize = (u8::MAX as usize + 1) * SECTOR_BYTES;

/// Present and writable.
const ENTRY: u64 = 3;
/// A page rather than a table.
const PAGE: u64 = 0x80;

/// `bzimage` with the stub, entering at the physical address `entry`, in place of all behind its real-mode part, of which at
/// least that is given.
pub(super) fn image(bzimage: &[u8], entry: u64) -> Result<Vec<u8>, KaslrError> {
    let cut_off = KaslrError::Kernel("has a bzImage that is cut off");
    let sectors = match bzimage.get(SETUP_SECTS) {
        None => return Err(cut_off),
        Some(0) => 4,
        Some(&sectors) => usize::from(sectors),
    };
    let mut image = bzimage.get(..(sectors + 1) * SECTOR_BYTES).ok_or(cut_off)?.to_vec();
    image[LOADFLAGS] |= KASLR_FLAG;
    image[SYSSIZE..SYSSIZE + 4].copy_from_slice(&((BYTES / 16) as u32).to_le_bytes());
    image.extend(stub(entry));
    Ok(image)
}

fn stub(entry: u64) -> Vec<u8> {
    let mut stub = vec![0; BYTES];
    let mut put = |at: u32, bytes: &[u8]| {
        let at = (at - BASE) as usize;
        stub[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(BASE, &code(entry));
    let gdt = [0, 0, 0x00af_9a00_0000_ffff_u64, 0x00cf_9200_0000_ffff];
    put(GDT, gdt.map(u64::to_le_bytes).as_flattened());
    // The operand of lgdt: limit and base.
    put(GDT + 32, &[&31_u16.to_le_bytes()[..], &GDT.to_le_bytes()].concat());
    put(PML5, &(u64::from(PML4) | ENTRY).to_le_bytes());
    put(PML4, &(u64::from(PDPT) | ENTRY).to_le_bytes());
    for i in 0..4 {
        put(PDPT + i * 8, &(u64::from(PDS + i * 0x1000) | ENTRY).to_le_bytes());
    }
    for i in 0..2048 {
        put(PDS + i * 8, &(u64::from(i) << 21 | PAGE | ENTRY).to_le_bytes());
    }
    stub
}

/// Intel's manual, volume 3, "Initializing IA-32e Mode", and the 64-bit boot protocol.
fn code(entry: u64) -> Vec<u8> {
    let mut code = Vec::new();
    let mut op = |bytes: &[u8]| code.extend_from_slice(bytes);
    op(&[0xfa, 0xfc]); //                          cli; cld
    op(&[0x0f, 0x01, 0x15]); //                    lgdt [GDT + 32]
    op(&(GDT + 32).to_le_bytes());
    op(&[0xbf, 0x20, 0, 0, 0]); //                 mov edi, CR4.PAE
    op(&[0xbd]); //                                mov ebp, PML4
    op(&PML4.to_le_bytes());
    op(&[0x31, 0xc0, 0x0f, 0xa2]); //              xor eax, eax; cpuid
    op(&[0x83, 0xf8, 0x07]); //                    cmp eax, 7
    op(&[0x72, 0x1c]); //                          jb four_levels
    op(&[0xb8, 7, 0, 0, 0, 0x31, 0xc9]); //        mov eax, 7; xor ecx, ecx
    op(&[0x0f, 0xa2]); //                          cpuid
    op(&[0xf7, 0xc1, 0, 0, 1, 0]); //              test ecx, 1 << 16 (LA57)
    op(&[0x74, 0x0b]); //                          jz four_levels
    op(&[0xbf, 0x20, 0x10, 0, 0]); //              mov edi, CR4.PAE | CR4.LA57
    op(&[0xbd]); //                                mov ebp, PML5
    op(&PML5.to_le_bytes());
    op(&[0x90]); //                                nop
    // four_levels:
    op(&[0x0f, 0x22, 0xe7]); //                    mov cr4, edi
    op(&[0x0f, 0x22, 0xdd]); //                    mov cr3, ebp
    op(&[0xb9, 0x80, 0, 0, 0xc0]); //              mov ecx, EFER
    op(&[0x0f, 0x32]); //                          rdmsr
    op(&[0x0d, 0, 1, 0, 0]); //                    or eax, EFER.LME
    op(&[0x0f, 0x30]); //                          wrmsr
    op(&[0xb8, 0x01, 0, 0, 0x80]); //              mov eax, CR0.PG | CR0.PE
    op(&[0x0f, 0x22, 0xc0]); //                    mov cr0, eax
    let here = BASE + code.len() as u32 + 7;
    let mut op = |bytes: &[u8]| code.extend_from_slice(bytes);
    op(&[0xea]); //                                jmp 0x10:long_mode
    op(&here.to_le_bytes());
    op(&[0x10, 0]);
    // long_mode:
    op(&[0xb8, 0x18, 0, 0, 0]); //                 mov eax, 0x18
    op(&[0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0]); //  mov ds, eax; mov es, eax; mov ss, eax
    op(&[0x89, 0xf6]); //                          mov esi, esi: the upper half becomes 0
    op(&[0x48, 0xb8]); //                          mov rax, entry
    op(&entry.to_le_bytes());
    op(&[0xff, 0xe0]); //                          jmp rax
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bzimage() -> Vec<u8> {
        let mut image = vec![0xcc; 3 * SECTOR_BYTES + 100];
        image[SETUP_SECTS] = 2;
        image[LOADFLAGS] = 1;
        image
    }

    #[test]
    fn the_real_mode_part_stays_and_the_rest_is_the_stub() {
        let image = image(&bzimage(), 0x123_4567).expect("whole");
        assert_eq!(image.len(), 3 * SECTOR_BYTES + BYTES);
        assert_eq!(image[LOADFLAGS], 3);
        assert_eq!(image[SYSSIZE..SYSSIZE + 4], 0x800_u32.to_le_bytes());
        assert_eq!(image[0x220..3 * SECTOR_BYTES], [0xcc; 3 * SECTOR_BYTES - 0x220]);
        assert!(image[3 * SECTOR_BYTES..].starts_with(&code(0x123_4567)));
    }

    #[test]
    fn a_header_that_is_cut_off_is_refused() {
        for length in [0, SETUP_SECTS, 3 * SECTOR_BYTES - 1] {
            assert!(image(&bzimage()[..length], 0).is_err(), "{length}");
        }
    }

    #[test]
    fn the_tables_map_four_gib_to_themselves() {
        let stub = stub(0);
        let entry = |table: u32, index: u64| {
            let at = (table - BASE) as usize + index as usize * 8;
            u64::from_le_bytes(*stub[at..].first_chunk().expect("in the stub"))
        };
        for address in [0, 0x10_0000, 0x4567_89ab, 0xffff_ffff_u64] {
            let mut table = PML5;
            for shift in [48, 39, 30, 21] {
                let found = entry(table, address >> shift & 511);
                assert_eq!(found & ENTRY, ENTRY, "{address:#x} at {shift}");
                table = (found & !0xfff) as u32;
            }
            assert_eq!(u64::from(table), address & !0x1f_ffff);
        }
    }

    #[test]
    fn the_jumps_of_the_code_meet() {
        let code = code(0);
        let jump = |at: usize| at + 2 + usize::from(code[at + 1]);
        let four_levels = code.windows(3).position(|w| w == [0x0f, 0x22, 0xe7]).expect("mov cr4, edi");
        let jb = code.windows(2).position(|w| w == [0x83, 0xf8]).expect("cmp eax, 7") + 3;
        let jz = code.windows(2).position(|w| w == [0xf7, 0xc1]).expect("test ecx") + 6;
        assert_eq!((code[jb], jump(jb)), (0x72, four_levels));
        assert_eq!((code[jz], jump(jz)), (0x74, four_levels));
        let far = code.iter().position(|&byte| byte == 0xea).expect("jmp far");
        let target = u32::from_le_bytes(*code[far + 1..].first_chunk().expect("an offset"));
        assert_eq!(target, BASE + far as u32 + 7);
        assert!(code.len() <= (GDT - BASE) as usize);
    }
}
