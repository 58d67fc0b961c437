//! One value of one sample.

use std::fmt;

/// A number or a truth value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// A truth value.
    Bool(bool),
    /// A whole number; wide enough for both signs of 64 bits.
    Int(i128),
    /// A floating-point number.
    Float(f64),
}

impl Scalar {
    /// The nearest floating-point number; 0 or 1 for a truth value.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Bool(b) => f64::from(u8::from(b)),
            Self::Int(i) => i as f64,
            Self::Float(x) => x,
        }
    }

    /// Whether it is not a number.
    pub fn is_nan(self) -> bool {
        matches!(self, Self::Float(x) if x.is_nan())
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(i) => write!(f, "{i}"),
            Self::Float(x) => write!(f, "{x:?}"),
        }
    }
}

macro_rules! scalar_from {
    ($($t:ty),*) => { $(impl From<$t> for Scalar {
        fn from(value: $t) -> Self { Self::Int(i128::from(value)) }
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
