//! A ring of frames in memory that two machines share.
//!
//! One side writes, the other reads. Heads and tails count bytes since the begin and never wrap; both are
//! multiples of 8. Each side keeps its own position privately and only publishes it: what the other side
//! publishes is checked, never trusted. A reader that meets garbage looks for the next frame that is whole and
//! says what it lost.
//!
//! Memory is words of 8 bytes that are read and written as atomics, which makes a torn or racing copy garbage
//! for the checksum to find, not undefined behaviour; it also is the fastest copy under emulation.

use std::sync::atomic::{AtomicU64, Ordering};

use rkyv::util::AlignedVec;

use crate::frame::{HEADER_BYTES, HEADER_WORDS, Header, MAX_PAYLOAD};

/// One ring in shared memory: its two counters and its bytes.
#[derive(Clone, Copy)]
pub struct Ring<'a> {
    head: &'a AtomicU64,
    tail: &'a AtomicU64,
    data: &'a [AtomicU64],
}

impl<'a> Ring<'a> {
    /// The ring of these words.
    ///
    /// # Panics
    /// If the number of data words is not a power of two: the places of rings are constants.
    pub fn new(head: &'a AtomicU64, tail: &'a AtomicU64, data: &'a [AtomicU64]) -> Self {
        assert!(data.len().is_power_of_two());
        Self { head, tail, data }
    }

    /// Size in bytes.
    pub fn capacity(&self) -> u64 {
        self.data.len() as u64 * 8
    }

    fn word(&self, position: u64) -> &AtomicU64 {
        // In bounds: the length is a power of two, so the mask is at most the last index.
        &self.data[(position / 8) as usize & (self.data.len() - 1)]
    }

    fn write(&self, position: u64, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let mut position = position;
        for chunk in chunks {
            self.word(position).store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
            position = position.wrapping_add(8);
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.word(position).store(u64::from_le_bytes(last), Ordering::Relaxed);
        }
    }

    fn read(&self, position: u64, out: &mut [u8]) {
        let (chunks, rest) = out.as_chunks_mut::<8>();
        let mut position = position;
        for chunk in chunks {
            *chunk = self.word(position).load(Ordering::Relaxed).to_le_bytes();
            position = position.wrapping_add(8);
        }
        let last = self.word(position).load(Ordering::Relaxed).to_le_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
    }

    fn header(&self, position: u64) -> [u64; HEADER_WORDS] {
        std::array::from_fn(|i| self.word(position.wrapping_add(i as u64 * 8)).load(Ordering::Relaxed))
    }
}

/// Why a frame was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The reader has not made room yet.
    #[error("the ring has {free_bytes} bytes free, the frame needs {needed_bytes}")]
    Full {
        /// Bytes that may be written now.
        free_bytes: u64,
        /// Bytes that the frame takes.
        needed_bytes: u64,
    },
    /// No ring ever takes a frame of this size.
    #[error("a payload of {bytes} bytes is above the limit of {MAX_PAYLOAD}")]
    TooLarge {
        /// Payload bytes.
        bytes: usize,
    },
}

/// The writing side's private state.
#[derive(Debug, Default)]
pub struct Writer {
    position: u64,
    sequence: u64,
}

impl Writer {
    /// A writer that goes on where the ring's head stands.
    pub fn resume(ring: &Ring<'_>) -> Self {
        Self { position: ring.head.load(Ordering::Acquire) & !7, sequence: 0 }
    }

    /// Write one frame and publish it, unless that would leave less than `reserve_bytes` free.
    ///
    /// # Errors
    /// [`PushError`]; the ring is then unchanged.
    pub fn push(
        &mut self,
        ring: &Ring<'_>,
        time_ns: u64,
        payload: &[u8],
        reserve_bytes: u64,
    ) -> Result<(), PushError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(PushError::TooLarge { bytes: payload.len() });
        }
        let header = Header {
            length: payload.len() as u32,
            position: self.position,
            sequence: self.sequence,
            time_ns,
        };
        let needed_bytes = header.span();
        let used = self.position.wrapping_sub(ring.tail.load(Ordering::Acquire));
        // A tail that no reader publishes leaves no room at all.
        let used = if used.is_multiple_of(8) { used } else { u64::MAX };
        let free_bytes = ring.capacity().saturating_sub(used).saturating_sub(reserve_bytes);
        if needed_bytes > free_bytes {
            // The reader may be waiting, too, misled by a head that something wrote over.
            ring.head.store(self.position, Ordering::Release);
            return Err(PushError::Full { free_bytes, needed_bytes });
        }
        for (i, word) in header.seal(payload).into_iter().enumerate() {
            ring.word(self.position.wrapping_add(i as u64 * 8)).store(word, Ordering::Relaxed);
        }
        ring.write(self.position.wrapping_add(HEADER_BYTES), payload);
        self.position = self.position.wrapping_add(needed_bytes);
        self.sequence += 1;
        ring.head.store(self.position, Ordering::Release);
        Ok(())
    }

    /// Count a frame that will not be written, so that the reader misses its number.
    pub fn skip(&mut self) {
        self.sequence += 1;
    }
}

/// What was lost between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// Bytes that were no frame.
    #[error("{bytes} bytes of the ring were not frames")]
    Garbage {
        /// How many.
        bytes: u64,
    },
    /// The writer's head is not where it can be.
    #[error("the ring's head is {found:#x}, not within one lap of {position:#x}")]
    Head {
        /// The published head.
        found: u64,
        /// What the reader had consumed.
        position: u64,
    },
    /// Frames are missing (or were counted anew) before this one.
    #[error("expected frame {expected}, found frame {found}")]
    Sequence {
        /// The number that was due.
        expected: u64,
        /// The number that came.
        found: u64,
    },
}

/// What a reader found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole frame; its payload is in the buffer.
    Frame {
        /// Its number.
        sequence: u64,
        /// When it was sent, ns.
        time_ns: u64,
        /// A [`Loss::Sequence`] before it, when its number was not the one due.
        gap: Option<Loss>,
    },
    /// Something was lost.
    Loss(Loss),
}

/// The reading side's private state.
#[derive(Debug, Default)]
pub struct Reader {
    position: u64,
    /// Where the last frame that was handed out ends.
    delivered: u64,
    due: Option<u64>,
    bad_head: Option<u64>,
}

impl Reader {
    /// A reader of everything that is still in the ring, read before by another or not.
    pub fn rewound(ring: &Ring<'_>) -> Self {
        let head = ring.head.load(Ordering::Acquire) & !7;
        let position = head.saturating_sub(ring.capacity());
        ring.tail.store(position, Ordering::Release);
        Self { position, ..Self::default() }
    }

    /// The next frame may be another writer's, which counts anew.
    pub fn expect_another_writer(&mut self) {
        self.due = None;
    }

    /// The next frame or loss, or `None` when there is nothing new. A frame's payload replaces `payload`.
    ///
    /// Each call does at most about three laps' work, whatever the memory holds.
    pub fn next(&mut self, ring: &Ring<'_>, payload: &mut AlignedVec) -> Option<Event> {
        if ring.tail.load(Ordering::Relaxed) != self.position {
            // Something overwrote it, and the writer may be waiting for it.
            ring.tail.store(self.position, Ordering::Release);
        }
        let head = ring.head.load(Ordering::Acquire);
        let ahead = head.wrapping_sub(self.position);
        if !head.is_multiple_of(8) || ahead > ring.capacity() {
            return self.misplaced(ring, head).map(Event::Loss);
        }
        self.bad_head = None;
        if ahead == 0 {
            return None;
        }
        if let Some(header) = whole_frame(ring, self.position, ahead, payload) {
            self.advance(ring, header.span());
            self.delivered = self.position;
            let due = self.due.replace(header.sequence.wrapping_add(1));
            let gap = due
                .filter(|&due| due != header.sequence)
                .map(|expected| Loss::Sequence { expected, found: header.sequence });
            return Some(Event::Frame { sequence: header.sequence, time_ns: header.time_ns, gap });
        }
        let bytes = self.garbage(ring, ahead, payload);
        self.advance(ring, bytes);
        Some(Event::Loss(Loss::Garbage { bytes }))
    }

    fn advance(&mut self, ring: &Ring<'_>, bytes: u64) {
        self.position = self.position.wrapping_add(bytes);
        ring.tail.store(self.position, Ordering::Release);
    }

    /// A head that is not ahead by at most a lap: either it is wrong now, or one that was followed before was.
    /// One that no writer publishes, unaligned or behind what was handed out, is reported once and waited out.
    /// Another is followed, from where its lap begins or what was handed out ends.
    fn misplaced(&mut self, ring: &Ring<'_>, head: u64) -> Option<Loss> {
        let loss = Loss::Head { found: head, position: self.position };
        if !head.is_multiple_of(8) || head < self.delivered {
            return (self.bad_head.replace(head) != Some(head)).then_some(loss);
        }
        self.position = self.delivered.max(head.saturating_sub(ring.capacity()));
        ring.tail.store(self.position, Ordering::Release);
        Some(loss)
    }

    /// How many of the `ahead` bytes have to be skipped to come to a whole frame; all of them if there is none.
    fn garbage(&self, ring: &Ring<'_>, ahead: u64, payload: &mut AlignedVec) -> u64 {
        // What looks like a frame costs a checksum; forged ones must not cost more than two laps of it.
        let mut budget_bytes = 2 * ring.capacity();
        for skip in (8..ahead).step_by(8) {
            let at = self.position.wrapping_add(skip);
            let Some((_, header)) = header_at(ring, at, ahead - skip) else { continue };
            let Some(rest) = budget_bytes.checked_sub(header.span()) else { break };
            budget_bytes = rest;
            if whole_frame(ring, at, ahead - skip, payload).is_some() {
                return skip;
            }
        }
        ahead
    }
}

/// The header at `position`, if that of a frame that lies within the next `ahead` bytes.
fn header_at(ring: &Ring<'_>, position: u64, ahead: u64) -> Option<([u64; HEADER_WORDS], Header)> {
    if ahead < HEADER_BYTES {
        return None;
    }
    let words = ring.header(position);
    Header::parse(&words, position).filter(|header| header.span() <= ahead).map(|header| (words, header))
}

/// The frame at `position`, if a whole and valid one lies within the next `ahead` bytes; its payload is copied
/// before it is checked, so that what was checked is what is used.
fn whole_frame(ring: &Ring<'_>, position: u64, ahead: u64, payload: &mut AlignedVec) -> Option<Header> {
    let (words, header) = header_at(ring, position, ahead)?;
    payload.resize(header.length as usize, 0);
    ring.read(position.wrapping_add(HEADER_BYTES), payload);
    Header::matches(&words, payload).then_some(header)
}

#[cfg(test)]
mod tests;
