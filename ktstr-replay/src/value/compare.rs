//! Equality and order of values.

use std::cmp::Ordering;

use super::{Scalar, Value};

impl Value<'_> {
    /// Order of two numbers or two texts, exact for integers of any width. `None` when they cannot be compared: other
    /// types, a number with a text, NaN.
    #[must_use]
    pub fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        if let (Ok(this), Ok(that)) = (self.scalar(), other.scalar()) {
            return compare_scalars(this, that);
        }
        match (self.is_text(), other.is_text()) {
            (Ok(true), Ok(true)) => Some(self.as_str().ok()?.cmp(&other.as_str().ok()?)),
            _ => None,
        }
    }

    /// Same content: equal numbers, equal texts, else the same bytes.
    #[must_use]
    pub fn same(&self, other: &Value<'_>) -> bool {
        match self.compare(other) {
            Some(order) => order == Ordering::Equal,
            None => self.scalar().is_err() && other.scalar().is_err() && self.bytes() == other.bytes(),
        }
    }
}

fn compare_scalars(this: Scalar, that: Scalar) -> Option<Ordering> {
    match (this.to_i128(), that.to_i128()) {
        (Some(this), Some(that)) => Some(this.cmp(&that)),
        _ => this.to_f64().partial_cmp(&that.to_f64()),
    }
}
