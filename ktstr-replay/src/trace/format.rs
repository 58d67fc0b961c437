//! The two version numbers of a trace: what wrote it, and the oldest reader that can read it.

use std::fmt;

/// Version of the file format.
///
/// A change that old readers can ignore (a new record kind, a new version of a body, a new manifest key) raises
/// the minor; one that they cannot raises the major. Changelog:
///
/// - 1.0: the first. Reserved for later minors: record kinds 13 to 20, and
///   variants of enums whose documentation says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FormatVersion {
    /// Raised when older readers cannot read the file any more.
    pub major: u16,
    /// Raised when they can, and miss something.
    pub minor: u16,
}

impl fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A release of ktstr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// `x` of `x.y.z`.
    pub major: u16,
    /// `y` of `x.y.z`.
    pub minor: u16,
    /// `z` of `x.y.z`.
    pub patch: u16,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What every record header says of the format, so that it is known before any body is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FormatStamp {
    /// The format that the writer wrote.
    pub written: FormatVersion,
    /// The oldest format whose readers can read it.
    pub oldest_reader: FormatVersion,
    /// The first release of ktstr that reads `oldest_reader`.
    pub readable_since: Release,
}

impl FormatStamp {
    /// What this release writes.
    pub const CURRENT: Self = Self {
        written: FormatVersion { major: 1, minor: 0 },
        oldest_reader: FormatVersion { major: 1, minor: 0 },
        readable_since: Release { major: 0, minor: 1, patch: 0 },
    };

    /// Whether a reader of format `reader` can read a file with this stamp.
    ///
    /// # Errors
    /// [`TooNew`], which names the release that can.
    pub(crate) fn check_readable_by(self, reader: FormatVersion) -> Result<(), TooNew> {
        if self.oldest_reader <= reader { Ok(()) } else { Err(TooNew { file: self, reader }) }
    }
}

/// The file needs a newer reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the trace has format {}, which needs a reader of format {}; this one reads up to {reader}: open it with \
     ktstr {} or newer",
    file.written, file.oldest_reader, file.readable_since
)]
pub struct TooNew {
    /// What the file says.
    pub file: FormatStamp,
    /// What this reader reads.
    pub reader: FormatVersion,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(written: (u16, u16), oldest: (u16, u16)) -> FormatStamp {
        FormatStamp {
            written: FormatVersion { major: written.0, minor: written.1 },
            oldest_reader: FormatVersion { major: oldest.0, minor: oldest.1 },
            readable_since: Release { major: 7, minor: 8, patch: 9 },
        }
    }

    #[test]
    fn the_oldest_reader_decides_not_the_writer() {
        let reader = FormatVersion { major: 1, minor: 2 };
        assert!(stamp((1, 9), (1, 0)).check_readable_by(reader).is_ok());
        assert!(stamp((2, 0), (1, 2)).check_readable_by(reader).is_ok());
        assert!(stamp((1, 3), (1, 3)).check_readable_by(reader).is_err());
        let error = stamp((2, 0), (2, 0)).check_readable_by(reader).unwrap_err().to_string();
        assert!(error.contains("ktstr 7.8.9 or newer"), "{error}");
        assert!(error.contains("format 2.0"), "{error}");
    }
}
