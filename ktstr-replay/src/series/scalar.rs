//! Making scalars out of Rust's numbers, for closures that compute a column.

use crate::value::Scalar;

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
