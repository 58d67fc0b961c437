//! The verdict: JSON that this module does not look into.

use rkyv::util::AlignedVec;

use crate::trace::body::{Body, BodyError};
use crate::trace::kind::Kind;

/// A verdict record's body: one JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictText(pub String);

impl Body for VerdictText {
    const KIND: Kind = Kind::Verdict;
    const VERSION: u16 = 1;

    fn encode(&self) -> Result<AlignedVec, BodyError> {
        let mut bytes = AlignedVec::with_capacity(self.0.len());
        bytes.extend_from_slice(self.0.as_bytes());
        Ok(bytes)
    }

    fn decode(version: u16, bytes: &[u8]) -> Result<Self, BodyError> {
        if version != Self::VERSION {
            return Err(BodyError::Version { found: version, known: Self::VERSION });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| BodyError::Invalid(e.to_string()))?;
        Ok(Self(text.to_owned()))
    }
}
