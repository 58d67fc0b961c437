//! What a payload writes, kept within bounds.

use std::collections::VecDeque;
use std::io::Read;

/// Most bytes of a stream that are kept from its begin, for its numbers.
const HEAD_BYTES: usize = 4 << 20;
/// Most bytes of a stream that are kept from its end, for people.
const TAIL_BYTES: usize = 4 << 10;

/// One stream of a payload.
#[derive(Debug, Default)]
pub struct Stream {
    /// Bytes that were written.
    pub bytes: u64,
    head: Vec<u8>,
    tail: VecDeque<u8>,
}

impl Stream {
    /// Take what can be read now. Returns whether more may come.
    pub fn take(&mut self, from: &mut impl Read) -> bool {
        let mut buffer = [0_u8; 16 << 10];
        match from.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.add(&buffer[..count]);
                true
            }
            Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let room = HEAD_BYTES - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let last = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        self.tail.extend(last);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES));
    }

    /// Its begin: all of it, unless it is very long.
    pub fn head(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }

    /// Its end.
    pub fn tail(&self) -> String {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether its begin is not all of it.
    pub fn is_cut(&self) -> bool {
        self.bytes > self.head.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begin_and_end_of_a_long_stream_are_kept_and_all_is_counted() {
        let mut stream = Stream::default();
        let long: Vec<u8> = (0..HEAD_BYTES + 10_000).map(|i| b'a' + (i % 26) as u8).collect();
        let mut from = &long[..];
        while stream.take(&mut from) {}
        assert_eq!(stream.bytes, long.len() as u64);
        assert!(stream.is_cut() && stream.head().as_bytes() == &long[..HEAD_BYTES]);
        assert_eq!(stream.tail().as_bytes(), &long[long.len() - TAIL_BYTES..]);
    }

    #[test]
    fn a_short_stream_is_kept_whole() {
        let mut stream = Stream::default();
        let mut from = &b"hi"[..];
        while stream.take(&mut from) {}
        assert_eq!((stream.head(), stream.tail(), stream.is_cut()), ("hi".into(), "hi".into(), false));
    }
}
