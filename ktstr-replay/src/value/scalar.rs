//! Values of one number.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value as Json;

use crate::path::Number;

/// A number, truth value or pointer read out of a value.
///
/// ```
/// use ktstr_replay::value::Scalar;
///
/// let (counter, share) = (Scalar::from(u64::MAX), Scalar::from(0.5));
/// assert_eq!((counter.to_i128(), share.to_i128()), (Some(u64::MAX.into()), None));
/// assert_eq!((share.to_f64(), Scalar::from(true).to_f64()), (0.5, 1.0));
/// assert_eq!(counter.to_json(), u64::MAX);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// An integer or the value of an enum.
    Int(i128),
    /// A floating point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// An address.
    Pointer(u64),
}

impl Scalar {
    /// As a floating point number; `true` is 1. Integers beyond 2^53 are rounded.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        match self {
            Scalar::Int(value) => value as f64,
            Scalar::Float(value) => value,
            Scalar::Bool(value) => f64::from(u8::from(value)),
            Scalar::Pointer(value) => value as f64,
        }
    }

    /// As an integer, exactly; `None` for floating point numbers.
    #[must_use]
    pub fn to_i128(self) -> Option<i128> {
        match self {
            Scalar::Int(value) => Some(value),
            Scalar::Float(_) => None,
            Scalar::Bool(value) => Some(i128::from(value)),
            Scalar::Pointer(value) => Some(i128::from(value)),
        }
    }

    /// A total order: integers exactly, floating point numbers as IEEE 754's `totalOrder`.
    #[must_use]
    pub(crate) fn order(self, other: Scalar) -> Ordering {
        match (self.to_i128(), other.to_i128()) {
            (Some(this), Some(that)) => this.cmp(&that),
            _ => self.to_f64().total_cmp(&other.to_f64()),
        }
    }

    /// As JSON: a number, or a string in decimal where JSON readers have no such number.
    #[must_use]
    pub fn to_json(self) -> Json {
        match self {
            Self::Int(value) => match (u64::try_from(value), i64::try_from(value)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                _ => value.to_string().into(),
            },
            Self::Float(value) if value.is_finite() => value.into(),
            Self::Bool(value) => value.into(),
            other => other.to_string().into(),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Int(value) => write!(f, "{value}"),
            Scalar::Float(value) => write!(f, "{value}"),
            Scalar::Bool(value) => write!(f, "{value}"),
            Scalar::Pointer(value) => write!(f, "{value:#x}"),
        }
    }
}

// For closures that compute a column.
macro_rules! scalar_from {
    ($($t:ty),*) => { $(impl From<$t> for Scalar {
        fn from(value: $t) -> Self {
            Self::Int(i128::from(value))
        }
    })* };
}
scalar_from!(u8, u16, u32, u64, i8, i16, i32, i64);

impl From<bool> for Scalar {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Scalar {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<Scalar> for Number {
    fn from(value: Scalar) -> Self {
        match value {
            Scalar::Int(i) => Self::Int(i),
            Scalar::Float(x) => Self::Float(x),
            Scalar::Bool(b) => Self::Int(i128::from(b)),
            Scalar::Pointer(p) => Self::Int(i128::from(p)),
        }
    }
}
