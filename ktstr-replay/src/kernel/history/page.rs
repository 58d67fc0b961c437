//! The entries of a page of a ring buffer.
//!
//! Source: `include/linux/ring_buffer.h`, `rb_update_event` and `rb_reset_tail` of `kernel/trace/ring_buffer.c`. An entry begins with a
//! word of two bit-fields, what it is and the time since the entry before. Its length is in the word too, or, for longer ones, in the
//! word that follows; so are the high bits of times that do not fit.

use crate::kernel::mirror::{FieldOffset, find_field, number};
use crate::kernel::{FieldMissing, KernelError, KernelView, bytes};

/// Bytes of a word, of which entries are made (`RB_ALIGNMENT`).
const WORD: usize = 4;

/// How entries begin on one kernel.
#[derive(Debug)]
pub(super) struct Header {
    type_len: FieldOffset,
    time_delta: FieldOffset,
    /// Where the words after it begin, and how many bits of a time are in it.
    array: usize,
    delta_bits: u32,
    /// What `type_len` says beyond the number of words.
    last_length: u64,
    padding: u64,
    extend: u64,
    stamp: u64,
}

impl Header {
    /// How this kernel has them.
    ///
    /// # Errors
    /// [`KernelError::Field`], [`KernelError::Types`].
    pub(super) fn find(view: &KernelView<'_>) -> Result<Self, KernelError> {
        let (types, release) = (view.types(), view.profile().release());
        let field = |name| find_field(types, release, "ring_buffer_event", &[name]);
        let constant = |name: &str| {
            types.constant("ring_buffer_type", name).ok_or_else(|| FieldMissing {
                struct_name: "ring_buffer_type".to_owned(),
                fields: vec![name.to_owned()],
                release: release.to_owned(),
                why: "it is an enum".to_owned(),
            })
        };
        let time_delta = field("time_delta")??;
        Ok(Self {
            type_len: field("type_len")??,
            delta_bits: time_delta.bits.map_or(27, |(_, width)| width).min(63),
            time_delta,
            // At least the word before it: so each entry leads on, whatever the guest's types claim.
            array: usize::try_from(field("array")??.offset).unwrap_or(WORD).max(WORD),
            last_length: constant("RINGBUF_TYPE_DATA_TYPE_LEN_MAX")?,
            padding: constant("RINGBUF_TYPE_PADDING")?,
            extend: constant("RINGBUF_TYPE_TIME_EXTEND")?,
            stamp: constant("RINGBUF_TYPE_TIME_STAMP")?,
        })
    }
}

/// Goes over entries; gives the time and the data of each that is an event.
pub(super) struct Entries<'b> {
    header: &'b Header,
    bytes: &'b [u8],
    at: usize,
    time: u64,
    fault: Option<String>,
}

impl<'b> Entries<'b> {
    /// The entries of `bytes` from byte `at` on, where the time of the entry before is `time`.
    pub(super) fn new(header: &'b Header, bytes: &'b [u8], at: usize, time: u64) -> Self {
        Self { header, bytes, at, time, fault: None }
    }

    /// What was wrong with the last one.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Where the next one begins, and the time of the last one.
    pub(super) fn place(&self) -> (usize, u64) {
        (self.at, self.time)
    }

    /// The word of the entry at `at` after its first one.
    fn word(&self, at: usize) -> Option<u64> {
        bytes::array_at(self.bytes, at.checked_add(self.header.array)?)
            .map(|word| u32::from_le_bytes(word).into())
    }

    /// The next event; `None` at the end of the page, or where it cannot be decoded.
    fn step(&mut self) -> Result<Option<(u64, &'b [u8])>, String> {
        loop {
            let at = self.at;
            let rest = self.bytes.get(at..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(None);
            }
            let cut = || format!("the entry at byte {at} of {} is cut off", self.bytes.len());
            let of = |field: &FieldOffset| number(field, rest, 0).ok_or_else(cut);
            let (kind, delta) = (of(&self.header.type_len)?, of(&self.header.time_delta)?);
            let array = self.header.array;
            let high = |word: u64| word << self.header.delta_bits;
            let data = match kind {
                kind if kind == self.header.padding => {
                    // Without a time, what is left of the page.
                    let bytes = match delta {
                        0 => rest.len(),
                        _ => usize::try_from(self.word(at).ok_or_else(cut)?).unwrap_or(usize::MAX),
                    };
                    self.at = at.saturating_add(array).saturating_add(bytes).min(self.bytes.len());
                    continue;
                }
                kind if kind == self.header.extend => {
                    let word = self.word(at).ok_or_else(cut)?;
                    self.time = self.time.wrapping_add(high(word)).wrapping_add(delta);
                    self.at = at + array + WORD;
                    continue;
                }
                kind if kind == self.header.stamp => {
                    let word = self.word(at).ok_or_else(cut)?;
                    self.time = high(word).wrapping_add(delta);
                    self.at = at + array + WORD;
                    continue;
                }
                // The length is in the word that follows, and counts it.
                0 => {
                    let len = usize::try_from(self.word(at).ok_or_else(cut)?).unwrap_or(usize::MAX);
                    let end = at.saturating_add(array).saturating_add(len);
                    (at + array + WORD, end)
                }
                words if words <= self.header.last_length => {
                    let end = at + array + usize::try_from(words).unwrap_or_default() * WORD;
                    (at + array, end)
                }
                other => return Err(format!("the entry at byte {at} is of kind {other}, which is unknown")),
            };
            let found = self.bytes.get(data.0..data.1).ok_or_else(cut)?;
            self.time = self.time.wrapping_add(delta);
            self.at = data.1.next_multiple_of(WORD);
            return Ok(Some((self.time, found)));
        }
    }
}

impl<'b> Iterator for Entries<'b> {
    type Item = (u64, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match self.step() {
            Ok(found) => found,
            Err(fault) => {
                // Where the next one would begin is not known.
                self.at = self.bytes.len();
                self.fault = Some(fault);
                None
            }
        }
    }
}
