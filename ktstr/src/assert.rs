//! What a test's body finds out in the guest.

/// The assertions of a body: those that failed, in order. Empty is a pass.
///
/// A body returns it; failed assertions fail the test, and all of them are shown.
///
/// ```
/// use ktstr::prelude::*;
///
/// let mut result = AssertResult::pass();
/// result.check(1 + 1 == 2, "sums are right").check(1 > 2, "one is the larger number");
/// assert_eq!(result.failures(), ["one is the larger number"]);
///
/// // Of several scenarios one after the other.
/// let both = AssertResult::pass().merge(AssertResult::fail("the second one"));
/// assert!(!both.passed());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "failed assertions count only when the body returns them"]
pub struct AssertResult {
    failures: Vec<String>,
}

impl AssertResult {
    /// Nothing failed.
    pub fn pass() -> Self {
        Self::default()
    }

    /// One assertion failed.
    pub fn fail(what: impl Into<String>) -> Self {
        Self { failures: vec![what.into()] }
    }

    /// Assert: `what` says what holds when `holds` is true, and is shown when it is not.
    pub fn check(&mut self, holds: bool, what: impl Into<String>) -> &mut Self {
        if !holds {
            self.failures.push(what.into());
        }
        self
    }

    /// Add another's failures.
    pub fn merge(mut self, other: Self) -> Self {
        self.failures.extend(other.failures);
        self
    }

    /// Whether nothing failed.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// What failed.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_kept_in_order_and_passes_are_not() {
        let mut result = AssertResult::pass();
        result.check(true, "one").check(false, "two").check(false, "three");
        assert_eq!(result.merge(AssertResult::fail("four")).failures(), ["two", "three", "four"]);
        assert!(AssertResult::pass().merge(AssertResult::pass()).passed());
    }
}
