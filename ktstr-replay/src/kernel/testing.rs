//! Guest memory made by hand, for tests.

use std::ops::Range;

use super::{KernelProfile, Symbols};
use crate::btf::testing::Builder;
use crate::memory::{Memory, MemoryError};
use crate::units::GuestPhys;

/// RAM from address 0; all of it counts as populated.
pub(crate) struct Ram {
    pub(crate) bytes: Vec<u8>,
}

impl Ram {
    pub(crate) fn new(len: usize) -> Self {
        Self { bytes: vec![0; len] }
    }

    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        let at = at as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn write_u64(&mut self, at: u64, value: u64) {
        self.write(at, &value.to_le_bytes());
    }
}

impl Memory for Ram {
    fn read(&self, at: GuestPhys, out: &mut [u8]) -> Result<(), MemoryError> {
        let outside = MemoryError::OutOfRange { at, len: out.len() };
        let start = usize::try_from(at.0).map_err(|_| outside.clone())?;
        let found = start.checked_add(out.len()).and_then(|end| self.bytes.get(start..end));
        out.copy_from_slice(found.ok_or(outside)?);
        Ok(())
    }

    fn populated(&self) -> Vec<Range<u64>> {
        std::iter::once(0..self.bytes.len() as u64).collect()
    }
}

/// Memory whose every byte is a function of its address and a seed, without end: what a hostile guest could hold.
pub(crate) struct Chaos(pub u64);

impl Memory for Chaos {
    fn read(&self, at: GuestPhys, out: &mut [u8]) -> Result<(), MemoryError> {
        for (offset, byte) in out.iter_mut().enumerate() {
            let place = (at.0.wrapping_add(offset as u64) / 8).wrapping_add(self.0);
            let mixed = place.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place.rotate_left(23);
            // Odd words look like present page-table entries and kernel pointers more often than chance.
            *byte = (mixed | 1).to_le_bytes()[(at.0.wrapping_add(offset as u64) % 8) as usize];
        }
        Ok(())
    }

    fn populated(&self) -> Vec<Range<u64>> {
        std::iter::once(0..1 << 20).collect()
    }
}

/// Map the page of `at` to `to` by an entry of level `leaf` (1: 4 KiB, 2: 2 MiB, 3: 1 GiB); tables that are missing
/// are taken from `free` on.
pub(crate) fn map_page(ram: &mut Ram, root: u64, levels: u8, at: u64, to: u64, leaf: u8, free: &mut u64) {
    let mut table = root;
    for level in (1..=levels).rev() {
        let place = table + ((at >> (12 + 9 * (u64::from(level) - 1))) & 0x1ff) * 8;
        if level == leaf {
            ram.write_u64(place, to | 1 | if leaf > 1 { 1 << 7 } else { 0 });
            return;
        }
        let mut entry = [0u8; 8];
        ram.read(GuestPhys(place), &mut entry).unwrap();
        let entry = u64::from_le_bytes(entry);
        if entry == 0 {
            ram.write_u64(place, *free | 1);
            table = *free;
            *free += 0x1000;
        } else {
            table = entry & !0xfff;
        }
    }
}

/// Where [`Guest`] maps its RAM: the kernel's direct map of 4-level kernels.
pub(crate) const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
const TABLE: u64 = 0x1000;
const FREE_TABLES: u64 = 0x2000;
const FIRST_FREE: u64 = 0x1_0000;
/// Where vmcoreinfo says that the page table is; it is mapped there too.
const TABLE_VIRT: u64 = 0xffff_ffff_8000_0000 + TABLE;

/// A guest whose kernel is made by hand: RAM, a page table, types and symbols.
pub(crate) struct Guest {
    pub(crate) ram: Ram,
    pub(crate) types: Builder,
    symbols: Vec<(u64, String)>,
    free: u64,
}

impl Guest {
    pub(crate) fn new() -> Self {
        let mut ram = Ram::new(4 << 20);
        let mut free = FREE_TABLES;
        map_page(&mut ram, TABLE, 4, DIRECT_MAP, 0, 3, &mut free);
        map_page(&mut ram, TABLE, 4, TABLE_VIRT, 0, 2, &mut free);
        Self { ram, types: Builder::new(), symbols: Vec::new(), free: FIRST_FREE }
    }

    /// Room for `len` bytes; its virtual address.
    pub(crate) fn alloc(&mut self, len: u64) -> u64 {
        let at = self.free;
        self.free = (at + len).next_multiple_of(64);
        assert!(self.free <= self.ram.bytes.len() as u64, "the test's guest is too small");
        DIRECT_MAP + at
    }

    /// Room for `bytes`, filled with them; its virtual address.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.alloc(bytes.len() as u64);
        self.write(at, bytes);
        at
    }

    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        self.ram.write(at - DIRECT_MAP, bytes);
    }

    pub(crate) fn write_u32(&mut self, at: u64, value: u32) {
        self.write(at, &value.to_le_bytes());
    }

    pub(crate) fn write_u64(&mut self, at: u64, value: u64) {
        self.write(at, &value.to_le_bytes());
    }

    pub(crate) fn symbol(&mut self, name: &str, at: u64) {
        self.symbols.push((at, name.to_owned()));
    }

    /// Room for a variable of `len` bytes called `name`.
    pub(crate) fn variable(&mut self, name: &str, len: u64) -> u64 {
        let at = self.alloc(len);
        self.symbol(name, at);
        at
    }

    /// CPUs 0 to `count`, all online, their per-CPU memory 4 KiB apart from `DIRECT_MAP + 1 MiB` on.
    pub(crate) fn cpus(&mut self, count: u32) {
        let ids = self.variable("nr_cpu_ids", 4);
        self.write_u32(ids, count);
        let offsets = self.variable("__per_cpu_offset", u64::from(count) * 8);
        for name in ["__cpu_possible_mask", "__cpu_online_mask"] {
            let mask = self.variable(name, 8);
            self.write_u64(mask, (1 << count) - 1);
        }
        for cpu in 0..u64::from(count) {
            self.write_u64(offsets + cpu * 8, DIRECT_MAP + (1 << 20) + cpu * 4096);
        }
    }

    /// The virtual address of CPU `cpu`'s copy of the per-CPU object at `at`.
    pub(crate) fn on_cpu(at: u64, cpu: u64) -> u64 {
        DIRECT_MAP + (1 << 20) + cpu * 4096 + at
    }

    pub(crate) fn vmcoreinfo() -> String {
        format!("OSRELEASE=6.99-test\nSYMBOL(init_top_pgt)={TABLE_VIRT:x}\nNUMBER(phys_base)=0\n")
    }

    pub(crate) fn profile(&self) -> KernelProfile {
        self.profile_with("")
    }

    /// Its profile, with these lines more in vmcoreinfo.
    pub(crate) fn profile_with(&self, lines: &str) -> KernelProfile {
        let mut symbols = self.symbols.clone();
        symbols.sort();
        let blob = Symbols::from_list(symbols.iter().map(|(at, name)| (*at, b'D', name.as_str()))).encode();
        let info = Self::vmcoreinfo() + lines;
        KernelProfile::from_blobs(info.as_bytes(), &blob, self.types.blob()).unwrap()
    }
}
