//! The header of a record and the tail of a file: encoding and decoding, side by side.
//!
//! Both are payloads of zstd *skippable* frames, so that any zstd tool steps over them. All numbers are
//! little-endian.
//!
//! ```text
//! record header, 128 bytes
//!   0 u32      0x184D2A5B     skippable frame                    \
//!   4 u32      120            bytes that follow in this frame     |
//!   8 [u8; 8]  "KTSTRTRC"                                         | the same in every
//!  16 u16 u16  format written: major, minor                       | version of the format,
//!  20 u16 u16  oldest reader: major, minor                        | the size excepted
//!  24 u16 * 3  first release of ktstr with that reader            |
//!  30 u16      0                                                  |
//!  32 u64      XXH3-64 of bytes 0..32                            /
//!  40 u64      trace id: the same in all records of a trace
//!  48 u16      kind
//!  50 u16      version of the body
//!  52 u16      flags (by kind)
//!  54 u16      segment: which machine of the run it is of
//!  56 u64      sequence: 0, 1, 2, ...
//!  64 u64      stored_len: bytes of the zstd frame that follows
//!  72 u64      raw_len: bytes of the body that it decodes to
//!  80 u64      guest_ns
//!  88 u64      host_ns
//!  96 u64 * 2  keys (by kind): what is needed of the body to find it again
//! 112 u64      XXH3-64 of the zstd frame that follows
//! 120 u64      XXH3-64 of bytes 0..120
//!
//! tail, the last 56 bytes of a finished trace
//!   0 u32      0x184D2A5B     skippable frame
//!   4 u32      48
//!   8 [u8; 8]  "KTSTREND"
//!  16 u64      trace id
//!  24 u64      offset of the index record
//!  32 u64      length of the file, this tail included
//!  40 u64      records before the index record
//!  48 u64      XXH3-64 of bytes 0..48
//! ```

use xxhash_rust::xxh3::xxh3_64;

use super::format::{FormatStamp, FormatVersion, Release};
use crate::units::{GuestNs, HostNs};

/// Length of a record header, in bytes.
pub(crate) const HEADER_LEN: usize = 128;
/// Length of the tail, in bytes.
pub(crate) const TAIL_LEN: usize = 56;

const SKIPPABLE: u32 = 0x184D_2A5B;
const RECORD_TAG: &[u8; 8] = b"KTSTRTRC";
const TAIL_TAG: &[u8; 8] = b"KTSTREND";

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Format versions.
    pub stamp: FormatStamp,
    /// The same number in all records of a trace, so that a trace inside a trace's memory is not taken for it.
    pub trace_id: u64,
    /// Code of the kind; see [`super::Kind`].
    pub kind: u16,
    /// Version of the body.
    pub version: u16,
    /// Blob: code of its role. Else 0.
    pub flags: u16,
    /// Which of the run's machines it is of: 0 is the first. Of commit marks and the index, which are of the whole file, 0.
    pub segment: u16,
    /// Position among the records that were written.
    pub sequence: u64,
    /// Length of the zstd frame after this header, in bytes.
    pub stored_len: u64,
    /// Length of the decoded body, in bytes.
    pub raw_len: u64,
    /// Guest time of the record, in ns; the latest known for kinds without a time of their own.
    pub guest_ns: GuestNs,
    /// Host time since the recording began, in ns; likewise.
    pub host_ns: HostNs,
    /// By kind; see `docs/trace-format.md`.
    pub keys: [u64; 2],
    /// XXH3-64 of the zstd frame.
    pub body_xxh3: u64,
}

/// The first 16 bytes of every header of this major version, to find the next one after damage.
pub(crate) fn header_magic() -> [u8; 16] {
    let mut out = [0; 16];
    out[..4].copy_from_slice(&SKIPPABLE.to_le_bytes());
    out[4..8].copy_from_slice(&(HEADER_LEN as u32 - 8).to_le_bytes());
    out[8..].copy_from_slice(RECORD_TAG);
    out
}

impl Header {
    /// The header's bytes.
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = Out::<HEADER_LEN>::new();
        out.put(&header_magic());
        for number in [
            self.stamp.written.major,
            self.stamp.written.minor,
            self.stamp.oldest_reader.major,
            self.stamp.oldest_reader.minor,
            self.stamp.readable_since.major,
            self.stamp.readable_since.minor,
            self.stamp.readable_since.patch,
            0,
        ] {
            out.put(&number.to_le_bytes());
        }
        out.put_sum();
        out.put(&self.trace_id.to_le_bytes());
        out.put(&self.kind.to_le_bytes());
        out.put(&self.version.to_le_bytes());
        out.put(&self.flags.to_le_bytes());
        out.put(&self.segment.to_le_bytes());
        for number in [self.sequence, self.stored_len, self.raw_len, self.guest_ns.0, self.host_ns.0] {
            out.put(&number.to_le_bytes());
        }
        out.put(&self.keys[0].to_le_bytes());
        out.put(&self.keys[1].to_le_bytes());
        out.put(&self.body_xxh3.to_le_bytes());
        out.put_sum();
        out.bytes
    }

    /// The header in `bytes`; `None` unless magic and checksum agree.
    pub(crate) fn parse(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let mut at = In { bytes, at: 0 };
        if at.take::<16>()? != header_magic() {
            return None;
        }
        let stamp = parse_stamp(bytes)?;
        at.at = 40;
        let header = Self {
            stamp,
            trace_id: at.u64()?,
            kind: at.u16()?,
            version: at.u16()?,
            flags: at.u16()?,
            segment: at.u16()?,
            sequence: at.u64()?,
            stored_len: at.u64()?,
            raw_len: at.u64()?,
            guest_ns: GuestNs(at.u64()?),
            host_ns: HostNs(at.u64()?),
            keys: [at.u64()?, at.u64()?],
            body_xxh3: at.u64()?,
        };
        at.sum_agrees().then_some(header)
    }

    /// Offset just past the record that begins at `offset`.
    pub(crate) fn end(&self, offset: u64) -> Option<u64> {
        offset.checked_add(HEADER_LEN as u64)?.checked_add(self.stored_len)
    }
}

/// The format versions in the first 40 bytes of a header of *any* version of the format.
pub(crate) fn parse_stamp(bytes: &[u8]) -> Option<FormatStamp> {
    let mut at = In { bytes, at: 0 };
    if at.u32()? != SKIPPABLE {
        return None;
    }
    at.at = 8;
    if &at.take::<8>()? != RECORD_TAG {
        return None;
    }
    let stamp = FormatStamp {
        written: FormatVersion { major: at.u16()?, minor: at.u16()? },
        oldest_reader: FormatVersion { major: at.u16()?, minor: at.u16()? },
        readable_since: Release { major: at.u16()?, minor: at.u16()?, patch: at.u16()? },
    };
    at.at = 32;
    at.sum_agrees().then_some(stamp)
}

/// The tail of a finished trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub trace_id: u64,
    pub index_offset: u64,
    pub file_len: u64,
    pub records: u64,
}

impl Tail {
    pub(crate) fn encode(&self) -> [u8; TAIL_LEN] {
        let mut out = Out::<TAIL_LEN>::new();
        out.put(&SKIPPABLE.to_le_bytes());
        out.put(&(TAIL_LEN as u32 - 8).to_le_bytes());
        out.put(TAIL_TAG);
        for number in [self.trace_id, self.index_offset, self.file_len, self.records] {
            out.put(&number.to_le_bytes());
        }
        out.put_sum();
        out.bytes
    }

    pub(crate) fn parse(bytes: &[u8; TAIL_LEN]) -> Option<Self> {
        let mut at = In { bytes, at: 0 };
        if at.u32()? != SKIPPABLE || at.u32()? != TAIL_LEN as u32 - 8 || &at.take::<8>()? != TAIL_TAG {
            return None;
        }
        let tail =
            Self { trace_id: at.u64()?, index_offset: at.u64()?, file_len: at.u64()?, records: at.u64()? };
        at.sum_agrees().then_some(tail)
    }
}

/// Fills a fixed array from the front.
struct Out<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Out<N> {
    fn new() -> Self {
        Self { bytes: [0; N], at: 0 }
    }

    fn put(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
    }

    /// The checksum of all that was put so far.
    fn put_sum(&mut self) {
        let sum = xxh3_64(&self.bytes[..self.at]);
        self.put(&sum.to_le_bytes());
    }
}

/// Takes fields from the front of bytes.
struct In<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl In<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let field = self.bytes.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(*field)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// Whether the next field is the checksum of all before it.
    fn sum_agrees(&mut self) -> bool {
        let sum = self.bytes.get(..self.at).map(xxh3_64);
        sum.is_some() && self.u64() == sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = Header> {
        (any::<[u64; 9]>(), any::<[u16; 4]>(), any::<[u16; 7]>()).prop_map(
            |(n, [kind, version, flags, segment], s)| Header {
                stamp: FormatStamp {
                    written: FormatVersion { major: s[0], minor: s[1] },
                    oldest_reader: FormatVersion { major: s[2], minor: s[3] },
                    readable_since: Release { major: s[4], minor: s[5], patch: s[6] },
                },
                trace_id: n[0],
                kind,
                version,
                flags,
                segment,
                sequence: n[1],
                stored_len: n[2],
                raw_len: n[3],
                guest_ns: GuestNs(n[4]),
                host_ns: HostNs(n[5]),
                keys: [n[6], n[7]],
                body_xxh3: n[8],
            },
        )
    }

    proptest! {
        #[test]
        fn headers_round_trip(header in header()) {
            prop_assert_eq!(Header::parse(&header.encode()), Some(header));
            prop_assert_eq!(parse_stamp(&header.encode()), Some(header.stamp));
        }

        #[test]
        fn one_flipped_bit_of_a_header_is_seen(header in header(), bit in 0..HEADER_LEN * 8) {
            let mut bytes = header.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Header::parse(&bytes), None);
        }

        #[test]
        fn tails_round_trip_and_a_flipped_bit_is_seen(n in any::<[u64; 4]>(), bit in 0..TAIL_LEN * 8) {
            let tail = Tail { trace_id: n[0], index_offset: n[1], file_len: n[2], records: n[3] };
            let mut bytes = tail.encode();
            prop_assert_eq!(Tail::parse(&bytes), Some(tail));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Tail::parse(&bytes), None);
        }
    }
}
