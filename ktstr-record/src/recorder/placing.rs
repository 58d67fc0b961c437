//! Writing the begin of a file into the pages that init has for it.

use ktstr_replay::memory::Memory;
use ktstr_replay::trace::record::PAGE_BYTES;
use ktstr_replay::units::GuestPhys;

use crate::machine::GuestRam;

/// The pages of a file, as init tells of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pages {
    /// The page of index `i` begins with this value XOR `i`.
    pub stamp: u64,
    /// Numbers of the page frames, in the file's order.
    pub frames: Vec<u64>,
}

impl Pages {
    /// Write the begin of `file` into them, the rest of the last page as zeros, and say how many bytes of the file that
    /// was. Nothing is written, and the answer is 0, unless every page begins with its stamp. The guest must be
    /// stopped. Whatever it says, no more than its own RAM is written to.
    pub(super) fn fill(&self, ram: &GuestRam, file: &[u8]) -> usize {
        let places: Vec<GuestPhys> =
            self.frames.iter().map(|frame| GuestPhys(frame.wrapping_mul(PAGE_BYTES as u64))).collect();
        let is_stamped = |(index, at): (usize, &GuestPhys)| {
            let mut word = [0; 8];
            ram.read(*at, &mut word).is_ok() && u64::from_le_bytes(word) == self.stamp ^ index as u64
        };
        if !places.iter().enumerate().all(is_stamped) {
            return 0;
        }
        let mut written = 0;
        for (at, piece) in places.iter().zip(file.chunks(PAGE_BYTES)) {
            let mut page = [0; PAGE_BYTES];
            page[..piece.len()].copy_from_slice(piece);
            if ram.write(*at, &page).is_err() {
                return 0;
            }
            written += piece.len();
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: u64 = 0x1234_5678_9abc_def0;

    /// RAM with stamps in these frames.
    fn stamped(frames: &[u64]) -> (GuestRam, Pages) {
        let ram = GuestRam::new(&[1 << 20]).unwrap();
        for (index, frame) in frames.iter().enumerate() {
            ram.write(GuestPhys(frame * 4096), &(STAMP ^ index as u64).to_le_bytes()).unwrap();
        }
        (ram, Pages { stamp: STAMP, frames: frames.to_vec() })
    }

    fn page(ram: &GuestRam, frame: u64) -> Vec<u8> {
        let mut page = vec![0; 4096];
        ram.read(GuestPhys(frame * 4096), &mut page).unwrap();
        page
    }

    #[test]
    fn a_file_lies_in_its_pages_and_nothing_of_the_stamps_stays() {
        let (ram, pages) = stamped(&[7, 3, 9]);
        let file: Vec<u8> = (0..9000_u32).map(|i| i as u8 | 1).collect();
        assert_eq!(pages.fill(&ram, &file), 9000);
        assert_eq!(page(&ram, 7), file[..4096]);
        assert_eq!(page(&ram, 3), file[4096..8192]);
        assert_eq!(page(&ram, 9), [&file[8192..], &[0; 3 * 4096 - 9000]].concat());
        // A file that is larger than the pages has its begin there.
        let (ram, pages) = stamped(&[2]);
        assert_eq!(pages.fill(&ram, &file), 4096);
    }

    #[test]
    fn pages_that_are_not_where_they_are_said_to_be_are_not_written_to() {
        let (ram, pages) = stamped(&[7, 3]);
        let frames = |frames: &[u64]| Pages { stamp: STAMP, frames: frames.to_vec() };
        for wrong in [
            frames(&[3, 7]),
            frames(&[7, 7]),
            frames(&[7, 4]),
            frames(&[7, 256]),
            frames(&[7, u64::MAX]),
            frames(&[7, u64::MAX / 4096 + 8]),
            Pages { stamp: STAMP + 1, ..frames(&[7, 3]) },
        ] {
            assert_eq!(wrong.fill(&ram, &[5; 8192]), 0, "{wrong:?}");
        }
        assert_eq!(page(&ram, 7)[..8], STAMP.to_le_bytes());
        assert_eq!(page(&ram, 3)[8..], [0; 4088]);
        assert_eq!(Pages::default().fill(&ram, &[5; 8192]), 0);
        assert_eq!(pages.fill(&ram, &[5; 8192]), 8192);
    }
}
