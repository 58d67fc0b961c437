//! The numbers of values, and their order.

use std::cmp::Ordering;

use btf_rs::Type;

use super::{Scalar, Value, ValueError};

impl Value<'_> {
    /// The number, truth value or pointer.
    ///
    /// # Errors
    /// [`ValueError::WrongKind`] for structs, arrays and the like.
    pub fn scalar(&self) -> Result<Scalar, ValueError> {
        let not = || self.wrong_kind("a number");
        Ok(match self.shape()? {
            Type::Int(int) if int.is_bool() => Scalar::Bool(self.raw().ok_or_else(not)? != 0),
            Type::Int(int) => Scalar::Int(self.integer(int.is_signed()).ok_or_else(not)?),
            Type::Enum(of) => Scalar::Int(self.integer(of.is_signed()).ok_or_else(not)?),
            Type::Enum64(of) => Scalar::Int(self.integer(of.is_signed()).ok_or_else(not)?),
            Type::Ptr(_) => Scalar::Pointer(self.raw().ok_or_else(not)? as u64),
            Type::Float(_) => Scalar::Float(match *self.bytes() {
                [a, b, c, d] => f64::from(f32::from_le_bytes([a, b, c, d])),
                [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
                _ => return Err(not()),
            }),
            _ => return Err(not()),
        })
    }

    /// The bits as an unsigned number; `None` for more than 128, or bits that the bytes do not have.
    fn raw(&self) -> Option<u128> {
        let mut word = [0u8; 17];
        word.get_mut(..self.bytes().len())?.copy_from_slice(self.bytes());
        let (low, high) = word.split_first_chunk::<16>()?;
        let low = u128::from_le_bytes(*low);
        let Some((start, width)) = self.bitfield() else {
            return (self.bytes().len() <= 16).then_some(low);
        };
        let shifted = match start {
            0 => low,
            start => low >> start | u128::from(*high.first()?) << (128 - start),
        };
        match width {
            0..=127 => Some(shifted & ((1u128 << width) - 1)),
            128 => Some(shifted),
            _ => None,
        }
    }

    fn integer(&self, signed: bool) -> Option<i128> {
        let raw = self.raw()?;
        let width = self.width_bits();
        if !signed {
            return i128::try_from(raw).ok();
        }
        let unused = 128u32.checked_sub(width).filter(|&unused| unused < 128)?;
        Some(((raw << unused).cast_signed()) >> unused)
    }

    fn whole(&self, wanted: &'static str) -> Result<i128, ValueError> {
        self.scalar()?.to_i128().ok_or_else(|| self.wrong_kind(wanted))
    }

    /// As an unsigned integer: integers, enums, truth values and pointers.
    ///
    /// # Errors
    /// [`ValueError::WrongKind`], and [`ValueError::OutOfRange`] for negative numbers.
    pub fn as_u64(&self) -> Result<u64, ValueError> {
        let value = self.whole("an integer")?;
        u64::try_from(value)
            .map_err(|_| ValueError::OutOfRange { value: value.to_string(), wanted: "64 unsigned bits" })
    }

    /// As a signed integer: integers, enums, truth values and pointers.
    ///
    /// # Errors
    /// [`ValueError::WrongKind`], and [`ValueError::OutOfRange`] for numbers of 2^63 and more.
    pub fn as_i64(&self) -> Result<i64, ValueError> {
        let value = self.whole("an integer")?;
        i64::try_from(value)
            .map_err(|_| ValueError::OutOfRange { value: value.to_string(), wanted: "64 signed bits" })
    }

    /// As a floating point number; integers beyond 2^53 are rounded.
    ///
    /// # Errors
    /// [`ValueError::WrongKind`] for what is not a single number.
    pub fn as_f64(&self) -> Result<f64, ValueError> {
        Ok(self.scalar()?.to_f64())
    }

    /// As a truth value: `bool`, or an integer that is 0 or 1.
    ///
    /// # Errors
    /// [`ValueError::WrongKind`], and [`ValueError::OutOfRange`] for other integers.
    pub fn as_bool(&self) -> Result<bool, ValueError> {
        match self.whole("a truth value")? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(ValueError::OutOfRange { value: other.to_string(), wanted: "a truth value" }),
        }
    }
}

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
