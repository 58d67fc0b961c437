//! Where a kernel may lie.

use super::KaslrError;

/// Where the kernel is linked to lie (`LOAD_PHYSICAL_ADDR`), and the least address that its own loader chooses.
pub(super) const LINK_PHYSICAL: u64 = 16 << 20;
/// `__START_KERNEL_map`: the virtual address that physical address 0 is linked to.
pub(super) const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// `KERNEL_IMAGE_SIZE` with KASLR: the kernel's part of the address space.
const KERNEL_SPACE_BYTES: u64 = 1 << 30;
/// `CONFIG_PHYSICAL_ALIGN`, of both addresses: `__startup_64` halts at another one.
const STEP_BYTES: u64 = 2 << 20;

/// A place that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where the kernel's first byte lies.
    pub(super) physical: u64,
    /// How much higher than linked its virtual addresses are.
    pub(super) virtual_offset: u64,
}

impl Place {
    /// One of all places for a kernel of `bytes` with RAM up to `limit`, each as likely as another.
    pub(super) fn choose(bytes: u64, limit: u64, random: [u8; 16]) -> Result<Self, KaslrError> {
        // The loader's own memory, 1 MiB and up, is below.
        let none = KaslrError::NoPlace { needed_bytes: bytes, limit };
        let (Some(physical), Some(virtual_space)) = (
            slots(limit.saturating_sub(LINK_PHYSICAL), bytes),
            slots(KERNEL_SPACE_BYTES - LINK_PHYSICAL, bytes),
        ) else {
            return Err(none);
        };
        let (low, high) = random.split_at(8);
        // So few places of so many numbers: no bias that matters.
        let pick = |bytes: &[u8], slots: u64| {
            bytes.iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte)) % slots * STEP_BYTES
        };
        Ok(Self { physical: LINK_PHYSICAL + pick(low, physical), virtual_offset: pick(high, virtual_space) })
    }
}

/// How many places there are for `bytes` in `space`.
fn slots(space: u64, bytes: u64) -> Option<u64> {
    space.checked_sub(bytes).map(|spare| spare / STEP_BYTES + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ram_that_is_too_small_is_said() {
        let refused = Place::choose(64 << 20, 64 << 20, [0; 16]).unwrap_err();
        assert_eq!(refused.to_string(), "no place for 67108864 bytes of kernel below 0x4000000");
        let only = Place::choose(48 << 20, 64 << 20, [0xff; 16]).unwrap();
        assert_eq!(only.physical, LINK_PHYSICAL);
    }

    proptest! {
        #[test]
        fn every_place_fits(bytes in 1_u64..200 << 20, limit in 0_u64..2 << 30, random: [u8; 16]) {
            if let Ok(place) = Place::choose(bytes, limit, random) {
                prop_assert!(place.physical >= LINK_PHYSICAL && place.physical + bytes <= limit);
                prop_assert!(LINK_PHYSICAL + place.virtual_offset + bytes <= KERNEL_SPACE_BYTES);
                prop_assert!(place.physical % STEP_BYTES == 0 && place.virtual_offset % STEP_BYTES == 0);
            }
        }
    }
}
