//! How a `#[test]` says that it failed.

use std::error::Error;
use std::fmt;

/// Why a test did not pass. libtest prints its `Debug` form.
pub struct TestFailure {
    text: String,
}

impl TestFailure {
    /// A failure with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// A failure by an error, with its causes.
    pub fn from_error(error: impl Error + Send + Sync + 'static) -> Self {
        Self::from(anyhow::Error::new(error))
    }
}

impl From<anyhow::Error> for TestFailure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(format!("{error:#}"))
    }
}

impl fmt::Debug for TestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_text_is_shown_as_it_is_with_its_causes() {
        let cause = io::Error::other("disk on fire");
        let failure = TestFailure::from(anyhow::Error::new(cause).context("could not write"));
        assert_eq!(format!("{failure:?}"), "could not write: disk on fire");
    }
}
