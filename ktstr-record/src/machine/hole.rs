//! The guest channel's hole, as the host sees it.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use guest_init::layout::{HOLE_BYTES, HOLE_WORDS, Hole};
use ktstr_replay::memory::MemoryError;
use ktstr_replay::units::GuestPhys;

use super::GuestRam;

/// The words that init and the host share. Keeps the guest's RAM mapped.
#[derive(Debug)]
pub struct GuestHole {
    _ram: Arc<GuestRam>,
    words: NonNull<[AtomicU64; HOLE_WORDS]>,
}

// SAFETY: it is a counted reference to a mapping that any thread may access, and all access through it is atomic.
unsafe impl Send for GuestHole {}
// SAFETY: as above.
unsafe impl Sync for GuestHole {}

impl GuestHole {
    /// The hole at `base` of `ram`, see `MachineSpec::channel_base`.
    ///
    /// # Errors
    /// [`MemoryError::OutOfRange`] when it is not all RAM of one NUMA node, or not aligned to its words.
    pub fn new(ram: Arc<GuestRam>, base: GuestPhys) -> Result<Self, MemoryError> {
        let outside = MemoryError::OutOfRange { at: base, len: HOLE_BYTES };
        let start = ram.slice(base, HOLE_BYTES)?.ptr_guard_mut().as_ptr();
        let words = NonNull::new(start.cast::<[AtomicU64; HOLE_WORDS]>()).filter(|words| words.is_aligned());
        words.map(|words| Self { _ram: ram, words }).ok_or(outside)
    }
}

impl Hole for GuestHole {
    fn words(&self) -> &[AtomicU64; HOLE_WORDS] {
        // SAFETY: `words` is aligned and points to `HOLE_BYTES` of a mapping that lives as long as `self._ram`; what
        // others (the guest, `GuestRam`'s volatile copies) write there at the same time is any bytes, each of which
        // is a valid `AtomicU64`.
        unsafe { self.words.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use guest_init::layout::{HOLE_BYTES, Hole, OFF_CAPTURE_ACK};
    use ktstr_replay::memory::Memory;
    use ktstr_replay::units::GuestPhys;

    use super::GuestHole;
    use crate::machine::GuestRam;

    #[test]
    fn both_views_show_the_same_memory() {
        let ram = Arc::new(GuestRam::new(&[32 << 20]).unwrap());
        let hole = GuestHole::new(Arc::clone(&ram), GuestPhys(16 << 20)).unwrap();
        hole.capture_ack().store(0x1234, Ordering::SeqCst);
        let mut bytes = [0; 8];
        ram.read(GuestPhys((16 << 20) + OFF_CAPTURE_ACK as u64), &mut bytes).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), 0x1234);
        drop(ram);
        assert_eq!(hole.capture_ack().load(Ordering::SeqCst), 0x1234, "the hole keeps the RAM");
    }

    #[test]
    fn a_hole_outside_of_ram_or_across_nodes_is_an_error() {
        let ram = Arc::new(GuestRam::new(&[16 << 20, 16 << 20]).unwrap());
        let hole = |base| GuestHole::new(Arc::clone(&ram), GuestPhys(base));
        assert!(hole(8 << 20).is_ok());
        assert!(hole((8 << 20) + 4096).is_err());
        assert!(hole((32 << 20) - HOLE_BYTES as u64 + 8).is_err());
        assert!(hole(4).is_err());
    }
}
