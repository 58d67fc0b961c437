//! A value: bytes and the type that they are of.

use std::borrow::Cow;
use std::fmt::Display;

use btf_rs::Type;

use super::scope::Scope;
use super::{Scalar, ValueError};
use crate::btf::{BtfError, Field, Kind, TypeId, Types, plain, plain_pointer};
use crate::path::{AsPath, Step, path_text};
use crate::text::Candidates;

/// Most elements that are listed at once.
const MAX_LISTED: u64 = 1 << 20;

/// Bytes with their BTF type. Cheap to copy; borrows both.
///
/// Bytes are little-endian. The constructor makes sure that there are as many as the type needs.
///
/// ```
/// use ktstr_replay::trace::Trace;
/// use ktstr_replay::value::{Scalar, Value};
///
/// let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
/// let captures = trace.periodic();
/// let capture = captures.snapshots().last().expect("a capture");
/// let dispatched: Value<'_> = capture.var("nr_dispatched")?;
/// assert_eq!((dispatched.type_name().as_str(), dispatched.width_bits()), ("u64", 64));
/// assert_eq!(dispatched.scalar()?, Scalar::Int(dispatched.as_i64()?.into()));
/// assert!(dispatched.as_f64()? >= 1.0 && dispatched.as_u64()? >= 1);
/// assert!(capture.var("nr_tasks")?.compare(&dispatched).is_some_and(|order| order.is_le()));
///
/// let stats = capture.var("stats")?;
/// assert!(stats.path("saw_wakeup")?.as_bool()?);
/// assert_eq!(stats.path("phase")?.enumerator()?, Some("DEMO_SCHEDULING"));
/// assert_eq!(stats.path("slices_by_length")?.as_array()?.len(), 4);
/// assert!(!stats.path("last_comm")?.as_str()?.is_empty());
/// assert!(stats.to_json()["placed"]["shared"].is_u64(), "{}", stats.render());
/// assert_eq!(stats.types().describe(stats.type_id()), "struct demo_stats");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    types: &'a Types,
    type_id: TypeId,
    /// How many `*` follow the type, where a cast made a pointer that the blob may have no type for.
    stars: usize,
    bytes: Bytes<'a>,
    /// For bitfields: first bit within `bytes`, and width in bits.
    bits: Option<(u32, u32)>,
    /// The variable that it is, or the struct that it is a member of and its number there: what declaration tags are of.
    declared: Option<(TypeId, Option<u32>)>,
    scope: Scope<'a>,
}

/// The bytes of a value.
#[derive(Clone, Copy, Debug)]
enum Bytes<'a> {
    /// As they were recorded.
    There(&'a [u8]),
    /// Of a number that a cast made: the first of these.
    Made([u8; 16], usize),
}

/// How far a walk along a path has come, for messages.
#[derive(Clone, Copy)]
pub(crate) struct Place<'p> {
    /// What the value is called at which the steps begin; may be empty.
    pub root: &'p dyn Display,
    /// The steps of the whole path.
    pub steps: &'p [Step],
    /// How many of them were taken.
    pub done: usize,
}

impl Place<'_> {
    /// The whole path.
    pub(crate) fn path(self) -> String {
        path_text(self.root, self.steps)
    }

    /// The path up to here.
    pub(crate) fn upto(self) -> String {
        path_text(self.root, self.steps.get(..self.done).unwrap_or_default())
    }

    /// The path up to here, for a sentence.
    pub(crate) fn reached(self) -> String {
        match self.upto() {
            text if text.is_empty() => "the value".to_owned(),
            text => format!("`{text}`"),
        }
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
            Some(bytes) => Ok(Self::of_bytes(types, type_id, Bytes::There(bytes))),
            None => {
                Err(ValueError::Truncated { type_name: types.describe(type_id), need, have: bytes.len() })
            }
        }
    }

    /// Bytes of which nothing says what they are.
    pub(super) fn untyped(bytes: &'a [u8]) -> Self {
        Self::of_bytes(plain(), TypeId(0), Bytes::There(bytes))
    }

    /// Whether nothing says what it is.
    pub(super) fn is_untyped(&self) -> bool {
        self.type_id == TypeId(0) && self.stars == 0
    }

    fn of_bytes(types: &'a Types, type_id: TypeId, bytes: Bytes<'a>) -> Self {
        Self { types, type_id, stars: 0, bytes, bits: None, declared: None, scope: Scope::default() }
    }

    /// A number of the first `len` of `bytes`, in whose type casts go on to look.
    pub(super) fn made(
        &self,
        types: &'a Types,
        (type_id, stars): (TypeId, usize),
        bytes: [u8; 16],
        len: usize,
    ) -> Self {
        let made = Bytes::Made(bytes, len.min(bytes.len()));
        Self { stars, scope: self.scope, ..Self::of_bytes(types, type_id, made) }
    }

    /// A pointer to that type, with the address `at`.
    pub(crate) fn pointer_to(&self, types: &'a Types, type_id: TypeId, stars: usize, at: u64) -> Self {
        self.made(types, (type_id, stars), u128::from(at).to_le_bytes(), 8)
    }

    /// The same, with where casts and enumerators on the way of a path are looked up.
    pub(crate) fn within(self, scope: Scope<'a>) -> Self {
        Self { scope, ..self }
    }

    /// The map out of which the value comes, by its id, and how many bytes from the beginning of the entry's value it is. `None` for
    /// what is of no map, was cast, or is elsewhere in memory.
    pub(crate) fn place_in_map(&self) -> Option<(u32, u64)> {
        let (map, whole) = self.scope.map?;
        let begin = whole.as_ptr() as usize;
        let offset = (self.recorded().as_ptr() as usize).checked_sub(begin)?;
        let is_part =
            !self.recorded().is_empty() && offset.checked_add(self.recorded().len())? <= whole.len();
        is_part.then_some((map, offset as u64))
    }

    /// Where casts and enumerators are looked up.
    pub(crate) fn scope(&self) -> Scope<'a> {
        self.scope
    }

    /// The same, as what a variable (`None`) or the member of a struct of that number declares.
    pub(super) fn declared_at(self, of: TypeId, member: Option<u32>) -> Self {
        Self { declared: Some((of, member)), ..self }
    }

    /// What follows `prefix` in a tag of its declaration.
    pub(super) fn tag(&self, prefix: &str) -> Option<&'a str> {
        let (of, member) = self.declared?;
        self.types.declaration_tag(of, member, prefix)
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
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::There(bytes) => bytes,
            Bytes::Made(bytes, len) => bytes.get(..*len).unwrap_or(bytes),
        }
    }

    /// The bytes as they were recorded; empty for a number that a cast made.
    pub(crate) fn recorded(&self) -> &'a [u8] {
        match self.bytes {
            Bytes::There(bytes) => bytes,
            Bytes::Made(..) => &[],
        }
    }

    /// How C would write the type.
    #[must_use]
    pub fn type_name(&self) -> String {
        let name = self.types.describe(self.type_id);
        match (self.bits, self.stars) {
            (Some((_, width)), _) => format!("{name}:{width}"),
            (None, 0) => name,
            (None, stars) => format!("{name} {}", "*".repeat(stars)),
        }
    }

    pub(super) fn shape(&self) -> Result<&'a Type, ValueError> {
        match self.stars {
            0 => Ok(self.types.resolve(self.type_id)?.1),
            _ => Ok(plain_pointer()?),
        }
    }

    /// The kind of the type, typedefs and qualifiers resolved.
    pub(crate) fn kind(&self) -> Result<Kind, BtfError> {
        match self.stars {
            0 => self.types.kind(self.types.resolve(self.type_id)?.0),
            _ => Ok(Kind::Ptr),
        }
    }

    /// What a pointer points at, and how many `*` follow that; `None` for all else.
    pub(crate) fn target(&self) -> Result<Option<(TypeId, usize)>, BtfError> {
        match self.stars.checked_sub(1) {
            Some(stars) => Ok(Some((self.type_id, stars))),
            None if self.kind()? == Kind::Ptr => {
                Ok(self.types.target_of(self.type_id)?.map(|target| (target, 0)))
            }
            None => Ok(None),
        }
    }

    /// For bitfields: first bit within the bytes, and width in bits.
    pub(crate) fn bitfield(&self) -> Option<(u32, u32)> {
        self.bits
    }

    /// Width in bits of a number.
    #[must_use]
    pub fn width_bits(&self) -> u32 {
        self.bits
            .map_or_else(|| u32::try_from(self.bytes().len() * 8).unwrap_or(u32::MAX), |(_, width)| width)
    }

    pub(super) fn wrong_kind(&self, wanted: &'static str) -> ValueError {
        if self.is_untyped() {
            return ValueError::Untyped { bytes: self.bytes().len() };
        }
        if let Some(container) = self.container() {
            return ValueError::Nodes { what: container.describe() };
        }
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
        for done in from..steps.len() {
            here = here.step(Place { root, steps, done })?;
        }
        Ok(here)
    }

    /// Take the next step of `place`.
    ///
    /// # Errors
    /// As [`Value::path`]; [`ValueError::NeedsMemory`] for a step that leaves the value.
    pub(crate) fn step(&self, place: Place<'_>) -> Result<Value<'a>, ValueError> {
        match place.steps.get(place.done) {
            None => Ok(*self),
            Some(Step::Field(name)) => self.field(name, place),
            Some(Step::Index(index)) => self.element(*index, place),
            Some(Step::Named(name)) => {
                let index = self.scope.constant(self.types, name)?;
                let index = u64::try_from(index).map_err(|_| ValueError::OutOfRange {
                    value: format!("{name}={index}"),
                    wanted: "an index",
                })?;
                self.element(index, place)
            }
            Some(Step::Cast(words)) => self.cast(words, place),
            Some(Step::Deref) => {
                Err(ValueError::NeedsMemory { path: place.path(), reached: place.reached() })
            }
        }
    }

    fn field(&self, name: &str, place: Place<'_>) -> Result<Self, ValueError> {
        let members = if self.stars == 0 { self.types.members(self.type_id)? } else { None };
        let Some(members) = members else {
            if self.is_untyped() {
                return Err(ValueError::Untyped { bytes: self.bytes().len() });
            }
            return Err(ValueError::NotAStruct {
                path: place.path(),
                reached: place.reached(),
                type_name: self.type_name(),
                wanted: name.to_owned(),
            });
        };
        match self.types.member(self.type_id, name)? {
            Some(field) => {
                let part = self.part(field)?;
                // Few declarations have tags, and looking for one takes time.
                match part.is_container() {
                    true => Ok(self
                        .types
                        .declared(self.type_id, name)
                        .map_or(part, |(of, member)| part.declared_at(of, Some(member)))),
                    false => Ok(part),
                }
            }
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
            if self.is_container() {
                return Err(ValueError::NeedsMemory { path: place.path(), reached: place.reached() });
            }
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
        let bytes = range.and_then(|(start, end)| self.recorded().get(start..end)).ok_or_else(|| {
            ValueError::Truncated { type_name: type_name(), need: end, have: self.recorded().len() }
        })?;
        Ok(Self {
            bits: bits.map(|width| (start_bit as u32, width)),
            scope: self.scope,
            ..Self::of_bytes(self.types, field.type_id, Bytes::There(bytes))
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
        let part = self.part(Field { offset_bits, width_bits: None, type_id: element })?;
        // An array's tag is that of each element.
        Ok(Self { declared: self.declared, ..part })
    }

    /// As text: an array of characters up to its first NUL (bytes that are not UTF-8 are replaced), or the name of an
    /// enum's value.
    ///
    /// # Errors
    /// [`ValueError::WrongKind`], also for an enum whose value has no name.
    pub fn as_str(&self) -> Result<Cow<'a, str>, ValueError> {
        if self.is_text()? {
            let bytes = self.recorded();
            let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
            return Ok(String::from_utf8_lossy(bytes.get(..len).unwrap_or_default()));
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
        let Some((target, 0)) = self.target()? else { return Ok(false) };
        Ok(matches!(self.types.resolve(target)?.1, Type::FuncProto(_)))
    }

    /// The name of an enum's value; `None` for other types and for values without a name.
    ///
    /// # Errors
    /// [`ValueError::Types`].
    pub fn enumerator(&self) -> Result<Option<&'a str>, ValueError> {
        if !matches!(self.shape()?, Type::Enum(_) | Type::Enum64(_)) {
            return Ok(None);
        }
        let Scalar::Int(value) = self.scalar()? else { return Ok(None) };
        Ok(self.types.enumerator_of(self.type_id, value)?)
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
        if self.kind()? == Kind::Datasec {
            let variables =
                types.variables(self.type_id)?.into_iter().filter(|variable| variable.type_id.0 != 0);
            let place = |offset: u32| u64::from(offset) * 8;
            return variables
                .map(|variable| {
                    let (offset_bits, type_id) = (place(variable.offset), variable.type_id);
                    let part = self.part(Field { offset_bits, width_bits: None, type_id })?;
                    Ok((variable.name, part.declared_at(variable.id, None)))
                })
                .collect();
        }
        let members = if self.stars == 0 { types.members(self.type_id)? } else { None };
        let members = members.ok_or_else(|| self.wrong_kind("a struct"))?;
        let of = types.resolve(self.type_id)?.0;
        let part = |(number, member)| {
            let part = self.part(Types::member_field(member))?;
            Ok((types.member_name(member)?, part.declared_at(of, Some(number))))
        };
        (0u32..).zip(members).map(part).collect()
    }
}
