//! Bodies of records: from a value to a zstd frame and back.

use rkyv::rancor;
use rkyv::util::AlignedVec;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{self, CParameter};

use super::kind::Kind;

/// A record's body: its writer and its reader.
pub trait Body: Sized {
    /// The kind of record that it is the body of.
    const KIND: Kind;
    /// The version that [`Body::encode`] writes.
    const VERSION: u16;

    /// The bytes that go into the zstd frame.
    ///
    /// # Errors
    /// [`BodyError`] when the value cannot be archived.
    fn encode(&self) -> Result<AlignedVec, BodyError>;

    /// The value in a decompressed body of version `version`. `bytes` may hold anything.
    ///
    /// # Errors
    /// [`BodyError`] when the version is unknown or the bytes are no valid body.
    fn decode(version: u16, bytes: &[u8]) -> Result<Self, BodyError>;
}

/// Why a body could not be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A newer release wrote it.
    #[error("its body has version {found}, and this release reads up to {known}")]
    Version {
        /// Version in the header.
        found: u16,
        /// Newest version that is known.
        known: u16,
    },
    /// The bytes are not what the version says.
    #[error("its body is not valid: {0}")]
    Invalid(String),
    /// The body is larger than its kind may be.
    #[error("its body has {len} bytes; {kind} records have at most {max}")]
    TooLarge {
        /// The kind.
        kind: Kind,
        /// Length that was found or asked for, in bytes.
        len: u64,
        /// Largest length, in bytes.
        max: u64,
    },
    /// The zstd frame could not be made or read.
    #[error("its zstd frame is not valid: {0}")]
    Zstd(String),
}

/// Archive a value.
pub(crate) fn archive<T>(value: &T) -> Result<AlignedVec, BodyError>
where
    T: for<'a> rkyv::Serialize<
            rkyv::api::high::HighSerializer<AlignedVec, rkyv::ser::allocator::ArenaHandle<'a>, rancor::Error>,
        >,
{
    rkyv::to_bytes::<rancor::Error>(value).map_err(|e| BodyError::Invalid(e.to_string()))
}

/// Whether an archive that begins there can be read in place. What an allocator gives is, as a rule.
pub(crate) fn is_aligned(bytes: &[u8]) -> bool {
    (bytes.as_ptr() as usize).is_multiple_of(AlignedVec::<16>::ALIGNMENT)
}

/// The archive in `bytes`, validated and read in place: they must be aligned.
pub(crate) fn access<A>(bytes: &[u8]) -> Result<&A, BodyError>
where
    A: rkyv::Portable
        + for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, rancor::Error>>,
{
    rkyv::access::<A, rancor::Error>(bytes).map_err(|error| BodyError::Invalid(error.to_string()))
}

/// Validate an archive and make the value of it.
pub(crate) fn unarchive<T>(bytes: &[u8]) -> Result<T, BodyError>
where
    T: rkyv::Archive,
    T::Archived: for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, rancor::Error>>
        + rkyv::Deserialize<T, rkyv::api::high::HighDeserializer<rancor::Error>>,
{
    let invalid = |e: rancor::Error| BodyError::Invalid(e.to_string());
    if is_aligned(bytes) {
        return rkyv::from_bytes::<T, rancor::Error>(bytes).map_err(invalid);
    }
    let mut aligned = AlignedVec::<16>::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes);
    rkyv::from_bytes::<T, rancor::Error>(&aligned).map_err(invalid)
}

/// The body of a rkyv-archived record with one version so far.
macro_rules! archived_body {
    ($type:ty, $kind:ident, $version:literal) => {
        impl $crate::trace::body::Body for $type {
            const KIND: $crate::trace::kind::Kind = $crate::trace::kind::Kind::$kind;
            const VERSION: u16 = $version;

            fn encode(&self) -> Result<rkyv::util::AlignedVec, $crate::trace::body::BodyError> {
                $crate::trace::body::archive(self)
            }

            fn decode(version: u16, bytes: &[u8]) -> Result<Self, $crate::trace::body::BodyError> {
                match version {
                    $version => $crate::trace::body::unarchive(bytes),
                    found => Err($crate::trace::body::BodyError::Version { found, known: $version }),
                }
            }
        }
    };
}
pub(crate) use archived_body;

/// Makes zstd frames with content size and checksum.
pub(crate) struct Encoder {
    compressor: Compressor<'static>,
}

impl Encoder {
    pub(crate) fn new(level: i32) -> std::io::Result<Self> {
        let mut compressor = Compressor::new(level)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
        Ok(Self { compressor })
    }

    /// Append the frame of `raw` to `out`.
    pub(crate) fn encode(&mut self, kind: Kind, raw: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        let (len, max) = (raw.len() as u64, kind.max_raw_bytes());
        if len > max {
            return Err(BodyError::TooLarge { kind, len, max });
        }
        let start = out.len();
        out.resize(start + zstd_safe::compress_bound(raw.len()), 0);
        let written = self
            .compressor
            .compress_to_buffer(raw, &mut out[start..])
            .map_err(|e| BodyError::Zstd(e.to_string()))?;
        out.truncate(start + written);
        Ok(())
    }
}

/// Largest zstd frame that a body of at most `raw_max` bytes can need, in bytes.
pub(crate) fn max_stored_bytes(raw_max: u64) -> u64 {
    raw_max.saturating_add(raw_max / 128).saturating_add(4096)
}

/// Decode the one zstd frame in `stored`, which must say that it holds `raw_len` bytes, at most `max`.
///
/// Nothing is allocated before both lengths were checked.
pub(crate) fn decompress(stored: &[u8], raw_len: u64, max: u64) -> Result<Vec<u8>, BodyError> {
    let bad = |why: String| BodyError::Zstd(why);
    if raw_len > max {
        return Err(bad(format!("{raw_len} bytes are declared, and {max} are allowed")));
    }
    let declared = zstd_safe::get_frame_content_size(stored).map_err(|e| bad(e.to_string()))?;
    if declared != Some(raw_len) {
        return Err(bad(format!("the frame declares {declared:?} bytes, the header {raw_len}")));
    }
    let frame_len = zstd_safe::find_frame_compressed_size(stored)
        .map_err(|code| bad(zstd_safe::get_error_name(code).to_owned()))?;
    if frame_len != stored.len() {
        return Err(bad(format!("the frame has {frame_len} bytes, the header says {}", stored.len())));
    }
    let raw_len = usize::try_from(raw_len).map_err(|e| bad(e.to_string()))?;
    let raw = Decompressor::new()
        .and_then(|mut d| d.decompress(stored, raw_len))
        .map_err(|e| bad(e.to_string()))?;
    if raw.len() != raw_len {
        return Err(bad(format!("the frame holds {} bytes, the header says {raw_len}", raw.len())));
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(raw: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Encoder::new(1).unwrap().encode(Kind::Blob, raw, &mut out).unwrap();
        out
    }

    #[test]
    fn a_body_over_its_limit_is_refused_by_writer_and_reader() {
        let mut out = Vec::new();
        let raw = vec![0; 4097];
        let error = Encoder::new(1).unwrap().encode(Kind::Commit, &raw, &mut out).unwrap_err();
        assert_eq!(error, BodyError::TooLarge { kind: Kind::Commit, len: 4097, max: 4096 });
        // A bomb: 16 MiB in a few hundred bytes.
        let bomb = frame(&vec![0; 16 << 20]);
        assert!(bomb.len() < 4096);
        assert!(decompress(&bomb, 16 << 20, 4096).is_err());
        assert!(decompress(&bomb, 4096, 4096).is_err());
    }

    #[test]
    fn a_frame_followed_by_another_is_refused() {
        let mut two = frame(b"one");
        two.extend(frame(b""));
        assert!(decompress(&two, 3, 4096).is_err());
        assert_eq!(decompress(&frame(b"one"), 3, 4096).unwrap().as_slice(), b"one");
    }

    proptest! {
        #[test]
        fn frames_round_trip(raw in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let stored = frame(&raw);
            prop_assert!(stored.len() as u64 <= max_stored_bytes(raw.len() as u64));
            let back = decompress(&stored, raw.len() as u64, 8192).unwrap();
            prop_assert_eq!(back.as_slice(), raw.as_slice());
        }

        #[test]
        fn any_bytes_decode_to_an_error_at_worst(stored in proptest::collection::vec(any::<u8>(), 0..300), len in 0..9000u64) {
            let _ = decompress(&stored, len, 8192);
        }
    }
}
