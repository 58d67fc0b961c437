//! Kernel virtual memory, through x86-64 page tables.
//!
//! Source: Intel SDM volume 3, "4-Level Paging and 5-Level Paging".

use std::cell::RefCell;

use crate::kernel::{KernelError, bytes};
use crate::memory::{LeftOut, Memory, MemoryError};
use crate::trace::record::PAGE_BYTES;
use crate::units::{GuestPhys, KernelVirt};

/// How many levels of tables there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// 48-bit virtual addresses.
    Four,
    /// 57-bit virtual addresses.
    Five,
}

/// The root of a tree of page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageTable {
    /// Where the highest table is.
    pub root: GuestPhys,
    /// How many levels there are.
    pub levels: Levels,
}

const PRESENT: u64 = 1;
/// In entries of level 2 and 3: the entry maps 2 MiB or 1 GiB itself.
const HUGE: u64 = 1 << 7;
/// Bits of an entry that are an address: 12 to 51.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PAGE_BITS: u32 = 12;
const INDEX_BITS: u32 = 9;

impl PageTable {
    /// The physical address of `at`, and how many bytes follow it in the same page.
    ///
    /// The walk is at most five reads, whatever the tables hold; tables that point at themselves are no danger.
    ///
    /// # Errors
    /// [`KernelError::NotMapped`], [`KernelError::Memory`].
    pub fn translate(&self, memory: &dyn Memory, at: KernelVirt) -> Result<(GuestPhys, u64), KernelError> {
        let mut level = self.top_level();
        let mut table = self.root.0;
        loop {
            let mut entry = [0u8; 8];
            memory.read(GuestPhys(table + index(at.0, level) as u64 * 8), &mut entry)?;
            let entry = u64::from_le_bytes(entry);
            if entry & PRESENT == 0 {
                return Err(KernelError::NotMapped { at, level, entry });
            }
            if level == 1 || (level <= 3 && entry & HUGE != 0) {
                let size = 1u64 << shift(level);
                let offset = at.0 & (size - 1);
                return Ok((GuestPhys((entry & ADDRESS & !(size - 1)) | offset), size - offset));
            }
            table = entry & ADDRESS;
            level -= 1;
        }
    }

    /// Call `each` with the physical address and the number of pages, of 4 KiB, of everything that is mapped in the `len`
    /// bytes from `at` on, in ascending order: one page, or as much of a huge one as is in the range.
    ///
    /// Tables are read whole, so a range that is mapped page by page costs a read for each 512. Tables that point at
    /// themselves are no danger: the range bounds the walk.
    ///
    /// # Errors
    /// [`KernelError::Memory`]; [`KernelError::Broken`] when the range ends beyond the last address.
    fn mapped_pages(
        &self,
        memory: &dyn Memory,
        at: KernelVirt,
        len: u64,
        each: &mut dyn FnMut(GuestPhys, u64),
    ) -> Result<(), KernelError> {
        let Some(beyond) = len.checked_sub(1) else { return Ok(()) };
        let last = at.0.checked_add(beyond).ok_or_else(|| {
            let why = format!("its {len} bytes end beyond the last address");
            KernelError::Broken { what: "a range of addresses", at, why }
        })?;
        self.mapped_below(memory, self.top_level(), self.root, (at.0, last), each)
    }

    /// As [`PageTable::mapped_pages`], of the first and last address of a range that the table at `table`, of `level`, maps.
    fn mapped_below(
        &self,
        memory: &dyn Memory,
        level: u8,
        table: GuestPhys,
        (first, last): (u64, u64),
        each: &mut dyn FnMut(GuestPhys, u64),
    ) -> Result<(), KernelError> {
        let span = 1u64 << shift(level);
        let (from, to) = (index(first, level), index(last, level));
        let mut entries = [0u8; PAGE_BYTES];
        let wanted = entries.get_mut(from * 8..(to + 1) * 8).unwrap_or_default();
        memory.read(GuestPhys(table.0 + from as u64 * 8), wanted)?;
        let (entries, _) = wanted.as_chunks::<8>();
        for (i, entry) in entries.iter().map(|entry| u64::from_le_bytes(*entry)).enumerate() {
            if entry & PRESENT == 0 {
                continue;
            }
            // The part of the range that this entry maps.
            let begin = (first & !(span - 1)).wrapping_add(i as u64 * span);
            let (first, last) = (begin.max(first), (begin + (span - 1)).min(last));
            if level == 1 || (level <= 3 && entry & HUGE != 0) {
                let page = first & !(PAGE_BYTES as u64 - 1);
                let pages = (last >> PAGE_BITS) - (page >> PAGE_BITS) + 1;
                each(GuestPhys((entry & ADDRESS & !(span - 1)) | (page & (span - 1))), pages);
            } else {
                self.mapped_below(memory, level - 1, GuestPhys(entry & ADDRESS), (first, last), each)?;
            }
        }
        Ok(())
    }

    fn top_level(&self) -> u8 {
        match self.levels {
            Levels::Four => 4,
            Levels::Five => 5,
        }
    }
}

/// How far the bits of an address that a table of `level` looks at are from its lowest bit.
fn shift(level: u8) -> u32 {
    PAGE_BITS + INDEX_BITS * (u32::from(level) - 1)
}

/// Which entry of a table of `level` an address has.
fn index(at: u64, level: u8) -> usize {
    (at >> shift(level)) as usize & ((1 << INDEX_BITS) - 1)
}

/// Slots of the cache below.
const SLOTS: usize = 512;
/// A tag that no page has: page numbers have 52 bits.
const EMPTY: u64 = u64::MAX;

/// Translations of 4 KiB pages, kept for one view: guest memory may change its mappings between views.
#[derive(Debug)]
struct Tlb {
    /// (virtual page number, physical address of the page)
    slots: RefCell<Box<[(u64, u64); SLOTS]>>,
}

impl Tlb {
    fn new() -> Self {
        Self { slots: RefCell::new(Box::new([(EMPTY, 0); SLOTS])) }
    }

    /// As [`PageTable::translate`], within a page of 4 KiB.
    fn translate(
        &self,
        table: &PageTable,
        memory: &dyn Memory,
        at: KernelVirt,
    ) -> Result<(GuestPhys, u64), KernelError> {
        let page = at.0 >> PAGE_BITS;
        let offset = at.0 & ((1 << PAGE_BITS) - 1);
        let rest = (1 << PAGE_BITS) - offset;
        let slot = (page as usize) % SLOTS;
        if let Some(&(tag, base)) = self.slots.borrow().get(slot)
            && tag == page
        {
            return Ok((GuestPhys(base | offset), rest));
        }
        let base = table.translate(memory, KernelVirt(page << PAGE_BITS))?.0;
        if let Some(kept) = self.slots.borrow_mut().get_mut(slot) {
            *kept = (page, base.0);
        }
        Ok((GuestPhys(base.0 | offset), rest))
    }
}

/// Longest single read, in bytes: nothing of a kernel that is read whole is longer.
const MAX_READ_BYTES: usize = 64 << 20;

/// The virtual memory of a kernel at one moment.
pub struct VirtualMemory<'m> {
    memory: &'m dyn Memory,
    table: PageTable,
    tlb: Tlb,
    /// The kernel's BTF and where it is, for checkpoints that leave it out.
    types: Option<(KernelVirt, &'m [u8])>,
}

impl<'m> VirtualMemory<'m> {
    /// `memory` as `table` maps it. Make a new one for each moment: translations are kept.
    #[must_use]
    pub fn new(memory: &'m dyn Memory, table: PageTable) -> Self {
        Self { memory, table, tlb: Tlb::new(), types: None }
    }

    /// With the kernel's BTF, which is at `at`: strings of types are pointed to by other structs.
    pub(super) fn with_types(self, at: Option<KernelVirt>, btf: &'m [u8]) -> Self {
        Self { types: at.map(|at| (at, btf)), ..self }
    }

    /// Where `at` is in guest-physical memory, and how many bytes follow it in the same page, which may be a huge one.
    ///
    /// # Errors
    /// [`KernelError::NotMapped`], [`KernelError::Memory`].
    pub fn place_of(&self, at: KernelVirt) -> Result<(GuestPhys, u64), KernelError> {
        self.table.translate(self.memory, at)
    }

    /// Call `each` with the pages that are mapped in the `len` bytes from `at` on: see [`PageTable::mapped_pages`].
    ///
    /// # Errors
    /// Those of it.
    pub(super) fn mapped_pages(
        &self,
        at: KernelVirt,
        len: u64,
        each: &mut dyn FnMut(GuestPhys, u64),
    ) -> Result<(), KernelError> {
        self.table.mapped_pages(self.memory, at, len, each)
    }

    /// Fill `out` with the bytes at `at`, page by page.
    ///
    /// # Errors
    /// [`KernelError::NotMapped`], [`KernelError::Memory`]; `out` is then unspecified.
    pub fn read(&self, at: KernelVirt, out: &mut [u8]) -> Result<(), KernelError> {
        let mut at = at.0;
        let mut rest = out;
        while !rest.is_empty() {
            // What is longer than a page may lie in a huge one, which the cache of small pages does not know.
            let (place, in_page) = if rest.len() > PAGE_BYTES {
                self.place_of(KernelVirt(at))?
            } else {
                self.tlb.translate(&self.table, self.memory, KernelVirt(at))?
            };
            let len = usize::try_from(in_page).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            match self.memory.read(place, now) {
                Err(MemoryError::LeftOut { why: LeftOut::KernelTypes, .. }) if self.read_types(at, now) => {}
                other => other?,
            }
            rest = later;
            at = at.wrapping_add(len as u64);
        }
        Ok(())
    }

    /// Fill `out` out of the kernel's BTF; `false` if it is not all there.
    fn read_types(&self, at: u64, out: &mut [u8]) -> bool {
        let found = self.types.and_then(|(start, btf)| {
            let offset = usize::try_from(at.checked_sub(start.0)?).ok()?;
            btf.get(offset..offset.checked_add(out.len())?)
        });
        if let Some(found) = found {
            out.copy_from_slice(found);
        }
        found.is_some()
    }

    /// `len` bytes at `at`. At most 64 MiB.
    ///
    /// # Errors
    /// Those of [`VirtualMemory::read`]; [`KernelError::Broken`] when it is too long.
    pub fn bytes(&self, at: KernelVirt, len: usize) -> Result<Vec<u8>, KernelError> {
        if len > MAX_READ_BYTES {
            let why = format!("{len} bytes are more than the {MAX_READ_BYTES} that are read at once");
            return Err(KernelError::Broken { what: "an object", at, why });
        }
        // The first byte before the allocation: a pointer to nowhere costs none.
        self.read(at, &mut [0u8; 1][..len.min(1)])?;
        let mut out = vec![0; len];
        self.read(at, &mut out)?;
        Ok(out)
    }

    /// The `u64` at `at`.
    ///
    /// # Errors
    /// Those of [`VirtualMemory::read`].
    pub fn u64(&self, at: KernelVirt) -> Result<u64, KernelError> {
        let mut word = [0; 8];
        self.read(at, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    /// The `u32` at `at`.
    ///
    /// # Errors
    /// Those of [`VirtualMemory::read`].
    pub fn u32(&self, at: KernelVirt) -> Result<u32, KernelError> {
        let mut word = [0; 4];
        self.read(at, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    /// The pointer at `at`; `None` for null.
    ///
    /// # Errors
    /// Those of [`VirtualMemory::read`].
    pub fn pointer(&self, at: KernelVirt) -> Result<Option<KernelVirt>, KernelError> {
        Ok(Some(KernelVirt(self.u64(at)?)).filter(|pointer| pointer.0 != 0))
    }

    /// The C string at `at`, cut at `max` bytes. Bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// Those of [`VirtualMemory::read`], when not even its first page can be read.
    pub fn text(&self, at: KernelVirt, max: usize) -> Result<String, KernelError> {
        let mut found = Vec::new();
        let mut chunk = [0u8; 256];
        while found.len() < max {
            let here = KernelVirt(at.0.wrapping_add(found.len() as u64));
            // Never past the page: what follows the string need not be mapped.
            let in_page = 4096 - (here.0 % 4096) as usize;
            let len = chunk.len().min(max - found.len()).min(in_page);
            let part = chunk.get_mut(..len).unwrap_or_default();
            match self.read(here, part) {
                Ok(()) => {}
                Err(error) if found.is_empty() => return Err(error),
                Err(_) => break,
            }
            match part.iter().position(|&byte| byte == 0) {
                Some(end) => {
                    found.extend_from_slice(part.get(..end).unwrap_or_default());
                    break;
                }
                None => found.extend_from_slice(part),
            }
        }
        Ok(bytes::text(&found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::memory::{Ram, map_page};

    fn table(levels: Levels) -> PageTable {
        PageTable { root: GuestPhys(0x1000), levels }
    }

    #[test]
    fn pages_of_all_sizes_translate() {
        for (levels, top) in [(Levels::Four, 4), (Levels::Five, 5)] {
            let mut ram = Ram::new(1 << 20);
            let at = 0xffff_ffff_8123_4567u64;
            let mut free = 0x2000;
            map_page(&mut ram, 0x1000, top, at, 0x7_7000, 1, &mut free);
            assert_eq!(table(levels).translate(&ram, KernelVirt(at)).unwrap(), (GuestPhys(0x7_7567), 0xa99));

            let mut ram = Ram::new(1 << 20);
            let mut free = 0x2000;
            map_page(&mut ram, 0x1000, top, at, 0x4000_0000, 2, &mut free);
            let (found, rest) = table(levels).translate(&ram, KernelVirt(at)).unwrap();
            assert_eq!((found, rest), (GuestPhys(0x4003_4567), 0x20_0000 - 0x3_4567));

            let mut ram = Ram::new(1 << 20);
            let mut free = 0x2000;
            map_page(&mut ram, 0x1000, top, at, 0x1_0000_0000, 3, &mut free);
            let found = table(levels).translate(&ram, KernelVirt(at)).unwrap().0;
            assert_eq!(found, GuestPhys(0x1_0000_0000 + (at & 0x3fff_ffff)));
        }
    }

    #[test]
    fn the_pages_of_a_range_are_those_that_translate() {
        let base = 0xffff_c900_0000_0000u64;
        let mut ram = Ram::new(1 << 20);
        let mut free = 0x2000;
        // Pages at the end of one lowest table and in the next one, with a hole, and a huge page behind them.
        for (page, to) in [(509, 0x8_0000), (511, 0x8_1000), (512, 0x9_0000), (514, 0x9_2000)] {
            map_page(&mut ram, 0x1000, 4, base + page * 4096, to, 1, &mut free);
        }
        map_page(&mut ram, 0x1000, 4, base + (4 << 20), 0x4000_0000, 2, &mut free);
        for (first, pages) in [(0, 2048), (510, 4), (511, 1), (1030, 3), (0, 1), (1, 5000)] {
            let mut found = Vec::new();
            let at = KernelVirt(base + first * 4096);
            table(Levels::Four)
                .mapped_pages(&ram, at, pages * 4096, &mut |GuestPhys(place), count| {
                    found.extend((0..count).map(|i| place + i * 4096));
                })
                .unwrap();
            let one = |page| table(Levels::Four).translate(&ram, KernelVirt(base + page * 4096)).ok();
            let expected: Vec<u64> =
                (first..first + pages).filter_map(one).map(|(GuestPhys(place), _)| place).collect();
            assert_eq!(found, expected, "{pages} pages from {first}");
        }
    }

    #[test]
    fn a_range_beyond_the_last_address_is_refused_and_an_empty_one_has_no_page() {
        let ram = Ram::new(64 << 10);
        let pages = |at, len| {
            let mut pages = 0;
            let walked = table(Levels::Five).mapped_pages(&ram, KernelVirt(at), len, &mut |_, n| pages += n);
            walked.map(|()| pages)
        };
        assert!(matches!(pages(u64::MAX - 4095, 8192), Err(KernelError::Broken { .. })));
        assert_eq!(pages(u64::MAX, 0), Ok(0));
        assert_eq!(pages(u64::MAX - 4095, 4096), Ok(0));
    }

    #[test]
    fn an_unmapped_address_says_where_the_walk_ended() {
        let mut ram = Ram::new(1 << 20);
        let mut free = 0x2000;
        map_page(&mut ram, 0x1000, 4, 0xffff_ffff_8000_0000, 0x9000, 1, &mut free);
        let error = table(Levels::Four).translate(&ram, KernelVirt(0xffff_ffff_8000_1000)).unwrap_err();
        assert_eq!(
            error,
            KernelError::NotMapped { at: KernelVirt(0xffff_ffff_8000_1000), level: 1, entry: 0 }
        );
        assert!(matches!(
            table(Levels::Four).translate(&ram, KernelVirt(0x1000)),
            Err(KernelError::NotMapped { level: 4, .. })
        ));
    }

    #[test]
    fn a_table_that_points_at_itself_ends() {
        let mut ram = Ram::new(64 << 10);
        for index in 0..512 {
            ram.write(0x1000 + index * 8, &(0x1000u64 | PRESENT).to_le_bytes());
        }
        // Level 1 of the walk is the table again: the "page" is the table itself.
        let found = table(Levels::Five).translate(&ram, KernelVirt(0xffff_8880_0000_0008)).unwrap();
        assert_eq!(found, (GuestPhys(0x1008), 0xff8));
    }

    #[test]
    fn the_cache_gives_what_the_walk_gives() {
        let mut ram = Ram::new(1 << 20);
        let mut free = 0x2000;
        let base = 0xffff_c900_0000_0000u64;
        // Two pages that fall into one slot.
        for (page, to) in [(0, 0x8_0000), (SLOTS as u64, 0x9_0000), (1, 0xa_0000)] {
            map_page(&mut ram, 0x1000, 4, base + page * 4096, to, 1, &mut free);
        }
        let tlb = Tlb::new();
        for _ in 0..3 {
            for page in [0, SLOTS as u64, 1, 0] {
                let at = KernelVirt(base + page * 4096 + 0x123);
                let walked = table(Levels::Four).translate(&ram, at).unwrap();
                assert_eq!(tlb.translate(&table(Levels::Four), &ram, at).unwrap(), walked);
            }
        }
    }
}
