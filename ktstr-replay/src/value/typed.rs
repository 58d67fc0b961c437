//! A value: bytes and the type that they are of.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Display;

use btf_rs::Type;

use super::{Scalar, ValueError};
use crate::btf::{Field, Kind, TypeId, Types};
use crate::path::{AsPath, Step, path_text};
use crate::text::Candidates;

/// Most elements that are listed at once.
const MAX_LISTED: u64 = 1 << 20;

/// Bytes with their BTF type. Cheap to copy; borrows both.
///
/// Bytes are little-endian. The constructor makes sure that there are as many as the type needs.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    types: &'a Types,
    type_id: TypeId,
    bytes: &'a [u8],
    /// For bitfields: first bit within `bytes`, and width in bits.
    bits: Option<(u32, u32)>,
}

/// How far a walk along a path has come, for messages.
#[derive(Clone, Copy)]
struct Place<'p> {
    root: &'p dyn Display,
    steps: &'p [Step],
    done: usize,
}

impl Place<'_> {
    fn path(self) -> String {
        path_text(self.root, self.steps)
    }

    fn upto(self) -> String {
        path_text(self.root, self.steps.get(..self.done).unwrap_or_default())
    }

    fn reached(self) -> String {
        match self.upto() {
            text if text.is_empty() => "the value".to_owned(),
            text => format!("`{text}`"),
        }
    }

    fn needs_memory(self) -> ValueError {
        let why = "a pointer is followed by claims and `--var` only".to_owned();
        ValueError::BadPath { path: self.path(), at: self.upto().chars().count() + 1, why }
    }
}

impl<'a> Value<'a> {
    /// The first bytes of `bytes` as a value of that type; more are ignored.
    ///
    /// # Errors
    /// [`ValueError::Truncated`] when there are too few bytes, [`ValueError::Types`] when the type has no size.
    pub fn new(types: &'a Types, type_id: TypeId, bytes: &'a [u8]) -> Result<Self, ValueError> {
        let need = types.size_of(type_id)?;
        let taken = usize::try_from(need).ok().and_then(|need| bytes.get(..need));
        match taken {
            Some(bytes) => Ok(Self { types, type_id, bytes, bits: None }),
            None => {
                Err(ValueError::Truncated { type_name: types.describe(type_id), need, have: bytes.len() })
            }
        }
    }

    /// The blob that the type is in.
    #[must_use]
    pub fn types(&self) -> &'a Types {
        self.types
    }

    /// The type, typedefs and qualifiers not resolved.
    #[must_use]
    pub fn type_id(&self) -> TypeId {
        self.type_id
    }

    /// The bytes. For a bitfield, those that it lies in.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How C would write the type.
    #[must_use]
    pub fn type_name(&self) -> String {
        let name = self.types.describe(self.type_id);
        match self.bits {
            Some((_, width)) => format!("{name}:{width}"),
            None => name,
        }
    }

    pub(super) fn shape(&self) -> Result<&'a Type, ValueError> {
        Ok(self.types.resolve(self.type_id)?.1)
    }

    pub(super) fn wrong_kind(&self, wanted: &'static str) -> ValueError {
        ValueError::WrongKind { wanted, type_name: self.type_name() }
    }

    /// The value at a path such as `ctr.nr[3].x`; the empty path is the value itself. Members of anonymous structs
    /// and unions are found by their own names.
    ///
    /// # Errors
    /// [`ValueError::BadPath`], and those that say where the path leaves what exists.
    pub fn path(&self, path: &(impl AsPath + ?Sized)) -> Result<Value<'a>, ValueError> {
        self.walk(&"", &path.steps()?, 0)
    }

    /// Take `steps` from `from` on; the value is what `root` and the steps before that are called in messages.
    pub(crate) fn walk(
        &self,
        root: &dyn Display,
        steps: &[Step],
        from: usize,
    ) -> Result<Value<'a>, ValueError> {
        let mut here = *self;
        for (done, step) in steps.iter().enumerate().skip(from) {
            let place = Place { root, steps, done };
            here = match step {
                Step::Field(name) => here.field(name, place)?,
                Step::Index(index) => here.element(*index, place)?,
                Step::Deref => return Err(place.needs_memory()),
            };
        }
        Ok(here)
    }

    fn field(&self, name: &str, place: Place<'_>) -> Result<Self, ValueError> {
        let Some(members) = self.types.members(self.type_id)? else {
            return Err(ValueError::NotAStruct {
                path: place.path(),
                reached: place.reached(),
                type_name: self.type_name(),
                wanted: name.to_owned(),
            });
        };
        match self.types.member(self.type_id, name)? {
            Some(field) => self.part(field),
            None => Err(ValueError::NoField {
                path: place.path(),
                reached: place.reached(),
                type_name: self.type_name(),
                wanted: name.to_owned(),
                candidates: Box::new(Candidates::new(
                    name,
                    members.iter().filter_map(|member| self.types.member_name(member).ok()),
                )),
            }),
        }
    }

    fn element(&self, index: u64, place: Place<'_>) -> Result<Self, ValueError> {
        let Some((element, len)) = self.array_shape()? else {
            return Err(ValueError::NotAnArray {
                path: place.path(),
                reached: place.reached(),
                type_name: self.type_name(),
                index,
            });
        };
        if index >= len {
            let (path, reached) = (place.path(), place.reached());
            return Err(ValueError::IndexOutOfRange { path, reached, index, len });
        }
        self.element_at(element, index)
    }

    /// The part of a struct's bytes that a field takes.
    pub(super) fn part(&self, field: Field) -> Result<Self, ValueError> {
        let type_name = || self.types.describe(field.type_id);
        let (start_bit, bits) = match field.width_bits {
            Some(width) => (field.offset_bits % 8, Some(width)),
            None => (0, None),
        };
        let start = field.offset_bits / 8;
        let len = match bits {
            Some(width) => (start_bit + u64::from(width)).div_ceil(8),
            None => self.types.size_of(field.type_id)?,
        };
        let end = start.saturating_add(len);
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let bytes = range.and_then(|(start, end)| self.bytes.get(start..end)).ok_or_else(|| {
            ValueError::Truncated { type_name: type_name(), need: end, have: self.bytes.len() }
        })?;
        Ok(Self {
            types: self.types,
            type_id: field.type_id,
            bytes,
            bits: bits.map(|width| (start_bit as u32, width)),
        })
    }

    /// Element type and length, for arrays.
    pub(super) fn array_shape(&self) -> Result<Option<(TypeId, u64)>, ValueError> {
        match self.shape()? {
            Type::Array(of) => {
                let element = self.types.target_of(self.type_id)?.unwrap_or_default();
                Ok(Some((element, of.len() as u64)))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn element_at(&self, element: TypeId, index: u64) -> Result<Self, ValueError> {
        let size = self.types.size_of(element)?;
        let offset_bits = index.saturating_mul(size).saturating_mul(8);
        self.part(Field { offset_bits, width_bits: None, type_id: element })
    }

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
            Type::Float(_) => Scalar::Float(match *self.bytes {
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
        word.get_mut(..self.bytes.len())?.copy_from_slice(self.bytes);
        let (low, high) = word.split_first_chunk::<16>()?;
        let low = u128::from_le_bytes(*low);
        let Some((start, width)) = self.bits else {
            return (self.bytes.len() <= 16).then_some(low);
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
        let width = self.bits.map_or(self.bytes.len() as u32 * 8, |(_, width)| width);
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

    /// As text: an array of characters up to its first NUL (bytes that are not UTF-8 are replaced), or the name of an
    /// enum's value.
    ///
    /// # Errors
    /// [`ValueError::WrongKind`], also for an enum whose value has no name.
    pub fn as_str(&self) -> Result<Cow<'a, str>, ValueError> {
        if self.is_text()? {
            let len = self.bytes.iter().position(|&byte| byte == 0).unwrap_or(self.bytes.len());
            return Ok(String::from_utf8_lossy(self.bytes.get(..len).unwrap_or_default()));
        }
        self.enumerator()?.map(Cow::Borrowed).ok_or_else(|| self.wrong_kind("text"))
    }

    /// An array of bytes that C would print as a string.
    pub(super) fn is_text(&self) -> Result<bool, ValueError> {
        let Some((element, _)) = self.array_shape()? else { return Ok(false) };
        let (id, shape) = self.types.resolve(element)?;
        Ok(match shape {
            Type::Int(int) if int.size() == 1 => int.is_char() || self.types.name(id) == Ok("char"),
            _ => false,
        })
    }

    /// It is a pointer to a function.
    ///
    /// # Errors
    /// [`ValueError::Types`].
    pub(crate) fn is_function(&self) -> Result<bool, ValueError> {
        if !matches!(self.shape()?, Type::Ptr(_)) {
            return Ok(false);
        }
        let Some(target) = self.types.target_of(self.type_id)? else { return Ok(false) };
        Ok(matches!(self.types.resolve(target)?.1, Type::FuncProto(_)))
    }

    /// The name of an enum's value; `None` for other types and for values without a name.
    ///
    /// # Errors
    /// [`ValueError::Types`].
    pub fn enumerator(&self) -> Result<Option<&'a str>, ValueError> {
        let (id, shape) = self.types.resolve(self.type_id)?;
        if !matches!(shape, Type::Enum(_) | Type::Enum64(_)) {
            return Ok(None);
        }
        let Scalar::Int(value) = self.scalar()? else { return Ok(None) };
        Ok(self.types.enumerator_of(id, value)?)
    }

    /// The elements of an array.
    ///
    /// # Errors
    /// [`ValueError::WrongKind`] for what is not an array, [`ValueError::Types`] for elements without size,
    /// [`ValueError::OutOfRange`] for more than a million elements: take those by path.
    pub fn as_array(&self) -> Result<Vec<Value<'a>>, ValueError> {
        let (element, len) = self.array_shape()?.ok_or_else(|| self.wrong_kind("an array"))?;
        if len > MAX_LISTED {
            return Err(ValueError::OutOfRange { value: format!("{len} elements"), wanted: "a list" });
        }
        if self.types.size_of(element)? == 0 {
            return Err(crate::btf::BtfError::NoSize { id: element, kind: self.types.kind(element)? }.into());
        }
        (0..len).map(|index| self.element_at(element, index)).collect()
    }

    /// The named parts of a struct or union, in order of declaration; nameless ones have an empty name. For a data
    /// section, its variables.
    ///
    /// # Errors
    /// [`ValueError::WrongKind`] for what has no parts.
    pub fn parts(&self) -> Result<Vec<(&'a str, Value<'a>)>, ValueError> {
        let types = self.types;
        if types.kind(types.resolve(self.type_id)?.0)? == Kind::Datasec {
            let variables =
                types.variables(self.type_id)?.into_iter().filter(|variable| variable.type_id.0 != 0);
            let place = |offset: u32| u64::from(offset) * 8;
            return variables
                .map(|variable| {
                    let (offset_bits, type_id) = (place(variable.offset), variable.type_id);
                    Ok((variable.name, self.part(Field { offset_bits, width_bits: None, type_id })?))
                })
                .collect();
        }
        let members = types.members(self.type_id)?.ok_or_else(|| self.wrong_kind("a struct"))?;
        members
            .iter()
            .map(|member| Ok((types.member_name(member)?, self.part(Types::member_field(member))?)))
            .collect()
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
