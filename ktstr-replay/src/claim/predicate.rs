//! A yes or no about one sample.

use std::fmt;

use crate::path::parse::Parser;
use crate::path::{Bound, Number, Projection, SyntaxError};
use crate::value::Scalar;

/// `x >= 1`, `x in 0..100`, or `x` alone, which is true when it is not zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicate {
    /// What is looked at.
    pub of: Projection,
    /// What it is held against; `None`: not zero.
    pub bound: Option<Bound>,
}

impl Predicate {
    /// Whether it is true of `value`. Never for NaN.
    pub fn holds(&self, value: Scalar) -> bool {
        let value = Number::from(value);
        match &self.bound {
            Some(bound) => bound.holds(value),
            None => value.compare(Number::Int(0)).is_some_and(|order| order.is_ne()),
        }
    }

    pub(super) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        Ok(Self { of: Projection::parse(p)?, bound: p.bound_if_any()? })
    }

    pub(super) fn parse_bounded(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        Ok(Self { of: Projection::parse(p)?, bound: Some(p.bound()?) })
    }

    /// Why it is false of `value`, for a person.
    pub(super) fn why_not(&self, value: Scalar) -> String {
        if Number::from(value).is_nan() {
            return "is NaN".to_owned();
        }
        match &self.bound {
            Some(bound) => format!("not {bound}"),
            None => "not true".to_owned(),
        }
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.of)?;
        match &self.bound {
            Some(bound) => write!(f, " {bound}"),
            None => Ok(()),
        }
    }
}
