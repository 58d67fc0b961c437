//! Guest memory that tests fill.

use std::ops::Range;

use crate::memory::{Memory, MemoryError};
use crate::units::GuestPhys;

/// RAM from address 0; all of it counts as populated.
pub struct Ram {
    /// Its content.
    pub bytes: Vec<u8>,
}

impl Ram {
    /// RAM of zeros.
    pub fn new(len: usize) -> Self {
        Self { bytes: vec![0; len] }
    }

    /// Write at a guest-physical address.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let at = at as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Write a word at a guest-physical address.
    pub fn write_u64(&mut self, at: u64, value: u64) {
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
pub struct Chaos(pub u64);

impl Memory for Chaos {
    fn read(&self, at: GuestPhys, out: &mut [u8]) -> Result<(), MemoryError> {
        let mut word = [0; 8];
        for (offset, byte) in out.iter_mut().enumerate() {
            let at = at.0.wrapping_add(offset as u64);
            if offset == 0 || at.is_multiple_of(8) {
                let place = (at / 8).wrapping_add(self.0);
                let mixed = place.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place.rotate_left(23);
                // Odd words look like present page-table entries and kernel pointers more often than chance.
                word = (mixed | 1).to_le_bytes();
            }
            *byte = word[(at % 8) as usize];
        }
        Ok(())
    }

    fn populated(&self) -> Vec<Range<u64>> {
        std::iter::once(0..1 << 20).collect()
    }
}

/// Map the page of `at` to `to` by an entry of level `leaf` (1: 4 KiB, 2: 2 MiB, 3: 1 GiB); tables that are missing
/// are taken from `free` on.
pub fn map_page(ram: &mut Ram, root: u64, levels: u8, at: u64, to: u64, leaf: u8, free: &mut u64) {
    let mut table = root;
    for level in (1..=levels).rev() {
        let place = table + ((at >> (12 + 9 * (u64::from(level) - 1))) & 0x1ff) * 8;
        if level == leaf {
            ram.write_u64(place, to | 1 | if leaf > 1 { 1 << 7 } else { 0 });
            return;
        }
        let mut entry = [0u8; 8];
        ram.read(GuestPhys(place), &mut entry).expect("a table is in RAM");
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
