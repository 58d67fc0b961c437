//! The guest channel's hole, as the host has it mapped.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use guest_init::layout::{HOLE_BYTES, HOLE_WORDS, Hole};
use ktstr_replay::memory::MemoryError;
use ktstr_replay::units::GuestPhys;

use super::GuestRam;

/// The words of a guest's hole.
pub struct RamHole {
    words: NonNull<[AtomicU64; HOLE_WORDS]>,
    /// Keeps the mapping that `words` points into.
    _ram: Arc<GuestRam>,
}

impl RamHole {
    /// The hole at `base`.
    ///
    /// # Errors
    /// [`MemoryError::OutOfRange`] when it is not wholly in RAM, or not on a word.
    pub fn new(ram: Arc<GuestRam>, base: GuestPhys) -> Result<Self, MemoryError> {
        let slice = ram.slice(base, HOLE_BYTES)?;
        let words = NonNull::new(slice.ptr_guard_mut().as_ptr().cast::<[AtomicU64; HOLE_WORDS]>())
            .filter(|words| words.is_aligned())
            .ok_or(MemoryError::OutOfRange { at: base, len: HOLE_BYTES })?;
        Ok(Self { words, _ram: ram })
    }
}

impl Hole for RamHole {
    fn words(&self) -> &[AtomicU64; HOLE_WORDS] {
        // SAFETY: `words` is aligned and points to HOLE_BYTES bytes of a shared mapping, which `_ram` keeps for as long as
        // `self` lives. The guest writes there at the same time, which atomics allow.
        unsafe { self.words.as_ref() }
    }
}

// SAFETY: `words` points into a mapping that belongs to no thread, and all access to it is atomic.
unsafe impl Send for RamHole {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use ktstr_replay::memory::Memory;

    use super::*;

    #[test]
    fn the_hole_is_the_guests_memory() {
        let ram = Arc::new(GuestRam::new(&[32 << 20]).unwrap());
        let hole = RamHole::new(Arc::clone(&ram), GuestPhys(16 << 20)).unwrap();
        hole.words()[3].store(0x1122_3344_5566_7788, Ordering::Release);
        let mut bytes = [0; 8];
        ram.read(GuestPhys((16 << 20) + 24), &mut bytes).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), 0x1122_3344_5566_7788);
    }

    #[test]
    fn a_hole_outside_of_ram_is_refused() {
        let ram = Arc::new(GuestRam::new(&[32 << 20]).unwrap());
        assert!(RamHole::new(Arc::clone(&ram), GuestPhys(28 << 20)).is_err());
        assert!(RamHole::new(ram, GuestPhys((16 << 20) + 1)).is_err());
    }
}
