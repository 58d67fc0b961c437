//! One frame of a ring.
//!
//! ```text
//!  0  magic     u32  FRAME_MAGIC
//!  4  version   u16  PROTOCOL_VERSION
//!  6  reserved  u16  0
//!  8  length    u32  payload bytes, at most MAX_PAYLOAD
//! 12  reserved  u32  0
//! 16  position  u64  bytes that the ring had produced before this frame
//! 24  sequence  u64  frames that the ring had produced before this frame, dropped ones included
//! 32  time      u64  the sender's clock, ns: the guest's CLOCK_MONOTONIC in the ring to the host, 0 in the other
//! 40  checksum  u64  XXH64 of the payload, seeded with the XXH64 of the 40 bytes above
//! 48  payload        an rkyv archive, padded with zeros to 8 bytes
//! ```
//!
//! The position makes a frame of an earlier lap, which is intact and lies at the same place, no frame of this
//! one.
//!
//! XXH64 because an emulated CPU has to compute it as well: 2 GB/s there, where XXH3, which is made for vector
//! instructions, comes to 0.1 to 0.4 GB/s (QEMU 10, TCG).

use xxhash_rust::xxh64::xxh64;

use crate::layout::PROTOCOL_VERSION;

/// First four bytes of a frame.
pub const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"KTFR");
/// Bytes of a frame before its payload.
pub const HEADER_BYTES: u64 = 48;
/// The same in words of 8 bytes.
pub const HEADER_WORDS: usize = 6;
/// Largest payload in bytes; whatever claims more is not a frame.
pub const MAX_PAYLOAD: usize = 512 << 10;

const FIRST_WORD: u64 = FRAME_MAGIC as u64 | (PROTOCOL_VERSION as u64) << 32;

const _: () = assert!(PROTOCOL_VERSION <= u16::MAX as u32);

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Payload bytes, without padding.
    pub length: u32,
    /// Where in the ring's stream of bytes the frame begins.
    pub position: u64,
    /// Which frame of the ring it is, from 0.
    pub sequence: u64,
    /// When it was sent, ns.
    pub time_ns: u64,
}

impl Header {
    /// Bytes from the begin of this frame to the begin of the next.
    pub fn span(&self) -> u64 {
        HEADER_BYTES + u64::from(self.length).next_multiple_of(8)
    }

    /// The words of the header of a frame with this payload.
    pub fn seal(&self, payload: &[u8]) -> [u64; HEADER_WORDS] {
        let mut words = [FIRST_WORD, u64::from(self.length), self.position, self.sequence, self.time_ns, 0];
        words[HEADER_WORDS - 1] = checksum(&words, payload);
        words
    }

    /// The header that these words hold, if they are the begin of a frame at `position`.
    ///
    /// Nothing is known of the payload yet: [`Self::matches`] is the second half.
    pub fn parse(words: &[u64; HEADER_WORDS], position: u64) -> Option<Self> {
        let [first, length, at, sequence, time_ns, _] = *words;
        let length = u32::try_from(length).ok()?;
        let fits = length as usize <= MAX_PAYLOAD;
        (first == FIRST_WORD && at == position && fits).then_some(Self {
            length,
            position,
            sequence,
            time_ns,
        })
    }

    /// Whether the checksum in `words` is that of these words and this payload.
    pub fn matches(words: &[u64; HEADER_WORDS], payload: &[u8]) -> bool {
        words[HEADER_WORDS - 1] == checksum(words, payload)
    }
}

/// XXH64 of the payload, seeded with that of the header's words but the last.
fn checksum(words: &[u64; HEADER_WORDS], payload: &[u8]) -> u64 {
    let mut header = [0; HEADER_BYTES as usize - 8];
    for (bytes, word) in header.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    xxh64(payload, xxh64(&header, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { length: 5, position: 64, sequence: 7, time_ns: 9 };

    #[test]
    fn a_sealed_header_parses_at_its_position_only() {
        let words = HEADER.seal(b"hello");
        assert_eq!(Header::parse(&words, 64), Some(HEADER));
        assert_eq!(Header::parse(&words, 64 + (2 << 20)), None);
        assert_eq!(HEADER.span(), 56);
    }

    #[test]
    fn one_changed_bit_anywhere_is_noticed() {
        let words = HEADER.seal(b"hello");
        assert!(Header::matches(&words, b"hello"));
        assert!(!Header::matches(&words, b"hellp"));
        for word in 0..HEADER_WORDS {
            for bit in 0..64 {
                let mut changed = words;
                changed[word] ^= 1 << bit;
                assert!(!Header::matches(&changed, b"hello"), "word {word} bit {bit}");
            }
        }
    }

    #[test]
    fn an_absurd_length_is_not_a_frame() {
        let huge = Header { length: u32::MAX, ..HEADER };
        assert_eq!(Header::parse(&huge.seal(b""), 64), None);
    }
}
