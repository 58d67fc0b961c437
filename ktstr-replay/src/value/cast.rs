//! Casts: `(s64)x`, `(struct foo)map(m).at(0)`, `(struct task_ctx *)map(m).key(1).data`.
//!
//! A number becomes another number as in C, cut or extended to the new type's width; or a pointer. What is no number is looked
//! at anew, as the bytes of the other type.

use super::typed::Place;
use super::{Scalar, Value, ValueError};
use crate::btf::{Kind, Types, plain, plain_number};

impl<'a> Value<'a> {
    /// The value as the type of those words.
    pub(super) fn cast(&self, words: &str, place: Place<'_>) -> Result<Self, ValueError> {
        let (types, to) = self.scope().type_of(self.types(), words)?;
        if to.stars > 0 {
            let number = match self.scalar() {
                Ok(number) => number,
                // C takes the address of an array; where that is, memory alone says.
                Err(_) => {
                    return Err(ValueError::NeedsMemory { path: place.path(), reached: place.reached() });
                }
            };
            return Ok(self.pointer_to(types, to.id, to.stars, as_bits(number) as u64));
        }
        let (shape, _) = types.resolve(to.id)?;
        match types.kind(shape)? {
            Kind::Int | Kind::Enum | Kind::Enum64 | Kind::Ptr | Kind::Float => {
                let bytes = usize::try_from(types.size_of(to.id)?).unwrap_or(usize::MAX);
                let number = self.scalar()?;
                let bits = match (types.kind(shape)?, bytes) {
                    (Kind::Float, 4) => u128::from((number.to_f64() as f32).to_bits()),
                    (Kind::Float, _) => u128::from(number.to_f64().to_bits()),
                    _ if is_bool(types, shape) => u128::from(as_bits(number) != 0),
                    _ => as_bits(number),
                };
                Ok(self.made(types, (to.id, 0), bits.to_le_bytes(), bytes))
            }
            _ => Ok(Value::new(types, to.id, self.recorded())?.within(self.scope())),
        }
    }
}

/// A number as the type of those words, and its width in bits: of a number that is nowhere in memory.
pub(crate) fn cast_scalar(number: Scalar, words: &str) -> Result<(Scalar, u32), ValueError> {
    // Negative numbers keep their sign: the bits are those of 64-bit two's complement.
    let unsigned = (plain_number(8).unwrap_or_default(), 0);
    let wide = Value::untyped(&[]).made(plain(), unsigned, as_bits(number).to_le_bytes(), 8);
    let cast = wide.cast(words, Place { root: &"", steps: &[], done: 0 })?;
    Ok((cast.scalar()?, cast.width_bits()))
}

fn is_bool(types: &Types, id: crate::btf::TypeId) -> bool {
    matches!(types.get(id), Ok(btf_rs::Type::Int(int)) if int.is_bool())
}

/// The bits of a number as C converts it to a wide integer: fractions are cut off.
fn as_bits(number: Scalar) -> u128 {
    match number {
        Scalar::Float(value) => (value as i128).cast_unsigned(),
        other => other.to_i128().unwrap_or_default().cast_unsigned(),
    }
}
