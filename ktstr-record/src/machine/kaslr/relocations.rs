//! The relocations that a build puts behind a vmlinux before it compresses both.
//!
//! ```text
//! 0 u32, addresses of 64-bit values, 0 u32, [addresses of inverse 32-bit values, 0 u32,] addresses of 32-bit values
//! ```
//!
//! An address is the lower half of a virtual address, to be sign-extended. The inverse values, relative to a per-CPU
//! segment at virtual address 0, are gone since Linux 6.15. Source: `arch/x86/tools/relocs.c` (`emit_relocs`).

use super::KaslrError;
use super::place::{KERNEL_MAP, LINK_PHYSICAL};

/// Where values are that have to grow (or, the inverse ones, shrink) with the kernel's virtual address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Relocations {
    wide: Vec<u32>,
    inverse: Vec<u32>,
    narrow: Vec<u32>,
}

impl Relocations {
    /// `None` if `tail` is not of that form.
    pub(super) fn parse(tail: &[u8]) -> Option<Self> {
        let (words, []) = tail.as_chunks::<4>() else { return None };
        let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let (0, lists) = words.split_first().map(|(first, rest)| (*first, rest))? else { return None };
        let lists: Vec<Vec<u32>> = lists.split(|&word| word == 0).map(<[u32]>::to_vec).collect();
        let [wide, between @ .., narrow] = lists.as_slice() else { return None };
        let inverse = match between {
            [] => Vec::new(),
            [inverse] => inverse.clone(),
            _ => return None,
        };
        (!wide.is_empty() && !narrow.is_empty()).then(|| Self {
            wide: wide.clone(),
            inverse,
            narrow: narrow.clone(),
        })
    }

    /// Change all values in `segments` (bytes from the kernel's begin, content) for virtual addresses that are higher by
    /// `offset`, less than 1 GiB.
    pub(super) fn apply(&self, segments: &mut [(u64, Vec<u8>)], offset: u64) -> Result<(), KaslrError> {
        let offset = u32::try_from(offset).map_err(|_| KaslrError::Kernel("cannot lie that high"))?;
        // Anything else than an address of the kernel, virtual or physical, where one is due means that the lists are not
        // what they seem.
        let unexpected = KaslrError::Kernel("has relocations of another form");
        for &at in &self.wide {
            let value: &mut [u8; 8] =
                value(segments, at).ok_or(KaslrError::Kernel("relocates what it has not"))?;
            let moved = u64::from_le_bytes(*value);
            if (1 << 32..KERNEL_MAP).contains(&moved) {
                return Err(unexpected);
            }
            *value = moved.wrapping_add(offset.into()).to_le_bytes();
        }
        let narrow = self.narrow.iter().map(|at| (at, offset));
        for (&at, by) in narrow.chain(self.inverse.iter().map(|at| (at, offset.wrapping_neg()))) {
            let value: &mut [u8; 4] =
                value(segments, at).ok_or(KaslrError::Kernel("relocates what it has not"))?;
            *value = u32::from_le_bytes(*value).wrapping_add(by).to_le_bytes();
        }
        Ok(())
    }
}

/// The `N` bytes at the virtual address whose lower half is `at`.
fn value<const N: usize>(segments: &mut [(u64, Vec<u8>)], at: u32) -> Option<&mut [u8; N]> {
    // Sign-extended, less `KERNEL_MAP`, less where the kernel is linked to begin.
    let at = u64::from(at).checked_sub(KERNEL_MAP & u64::from(u32::MAX))?.checked_sub(LINK_PHYSICAL)?;
    segments.iter_mut().find_map(|(begin, bytes)| {
        let within = usize::try_from(at.checked_sub(*begin)?).ok()?;
        bytes.get_mut(within..)?.first_chunk_mut()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tail(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn both_forms_are_told_apart() {
        let parsed = |words: &[u32]| Relocations::parse(&tail(words));
        let new = Relocations { wide: vec![1, 2], inverse: vec![], narrow: vec![3] };
        assert_eq!(parsed(&[0, 1, 2, 0, 3]), Some(new));
        let old = Relocations { wide: vec![1], inverse: vec![2], narrow: vec![3] };
        assert_eq!(parsed(&[0, 1, 0, 2, 0, 3]), Some(old));
        for other in [&[][..], &[0], &[1, 2], &[0, 1], &[0, 1, 0], &[0, 1, 0, 2, 0, 3, 0, 4]] {
            assert_eq!(parsed(other), None, "{other:?}");
        }
        assert_eq!(Relocations::parse(&[0; 5]), None);
    }

    #[test]
    fn values_move_by_the_offset_and_no_others() {
        let relocations = Relocations { wide: vec![0x8100_0008], inverse: vec![], narrow: vec![0x8120_0002] };
        let mut segments = vec![(0, vec![0; 16]), (0x20_0000, vec![0xff; 8])];
        segments[0].1[8..].copy_from_slice(&0xffff_ffff_8123_4567_u64.to_le_bytes());
        segments[1].1[2..6].copy_from_slice(&0x8100_0010_u32.to_le_bytes());
        relocations.apply(&mut segments, 0x1a0_0000).expect("in the segments");
        assert_eq!(segments[0].1[..8], [0; 8]);
        assert_eq!(segments[0].1[8..], 0xffff_ffff_82c3_4567_u64.to_le_bytes());
        assert_eq!(segments[1].1, [[0xff, 0xff], [0x10, 0], [0xa0, 0x82], [0xff, 0xff]].concat());
    }

    #[test]
    fn what_is_no_address_or_not_there_is_refused() {
        let text = |wide| {
            let relocations = Relocations { wide: vec![wide], inverse: vec![], narrow: vec![] };
            relocations.apply(&mut [(0, vec![7; 16])], 0x20_0000).unwrap_err().to_string()
        };
        assert_eq!(text(0x8100_0000), "the kernel has relocations of another form");
        assert_eq!(text(0x8100_0009), "the kernel relocates what it has not");
        assert_eq!(text(0x7fff_ffff), "the kernel relocates what it has not");
    }

    proptest! {
        #[test]
        fn no_tail_panics(words in proptest::collection::vec(0_u32..4, 0..20), offset: u64) {
            let words: Vec<u32> = words.into_iter().map(|w| if w == 0 { 0 } else { 0x80ff_ffff + w }).collect();
            if let Some(relocations) = Relocations::parse(&tail(&words)) {
                let _any = relocations.apply(&mut [(0, vec![0xff; 9])], offset);
            }
        }
    }
}
