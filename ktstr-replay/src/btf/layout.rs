//! Sizes, fields, enumerators and sections.

use btf_rs::{BtfType, Member, Type};

use super::types::{MAX_DEPTH, target};
use super::{BtfError, Kind, TypeId, Types};

/// Where a field is in the struct that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Distance from the beginning of the struct, in bits.
    pub offset_bits: u64,
    /// Width in bits, for bitfields.
    pub width_bits: Option<u32>,
    /// Its type, typedefs and qualifiers not resolved.
    pub type_id: TypeId,
}

impl Field {
    /// Distance from the beginning of the struct, in whole bytes.
    #[must_use]
    pub fn offset_bytes(&self) -> u64 {
        self.offset_bits / 8
    }
}

/// A named constant of an enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enumerator<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value, sign-extended for signed enums.
    pub value: i128,
}

/// A variable of a data section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Its name.
    pub name: &'a str,
    /// Distance from the beginning of the section, in bytes.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Its type.
    pub type_id: TypeId,
    /// The variable itself, which tags refer to.
    pub id: TypeId,
}

/// What a function is given and what it returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// Name, which may be empty, and type of each parameter.
    pub parameters: Vec<(&'a str, TypeId)>,
    /// Type of the result; 0 is `void`.
    pub returns: TypeId,
}

impl Types {
    /// Size of a type in bytes.
    ///
    /// # Errors
    /// [`BtfError::NoSize`] for `void`, functions and declarations without definition; [`BtfError::TooDeep`].
    pub fn size_of(&self, id: TypeId) -> Result<u64, BtfError> {
        let mut at = id;
        let mut count = 1u64;
        for _ in 0..MAX_DEPTH {
            let (shape_id, shape) = self.resolve(at)?;
            let each = match shape {
                Type::Int(int) => int.size() as u64,
                Type::Ptr(_) => 8,
                Type::Struct(of) | Type::Union(of) => of.size() as u64,
                Type::Enum(of) => of.size() as u64,
                Type::Enum64(of) => of.size() as u64,
                Type::Float(of) => of.size() as u64,
                Type::Datasec(of) => of.size() as u64,
                Type::Var(_) => {
                    at = target(shape);
                    continue;
                }
                Type::Array(of) => {
                    let too_big =
                        || BtfError::Undecodable { id, why: "its size does not fit 64 bits".into() };
                    count = count.checked_mul(of.len() as u64).ok_or_else(too_big)?;
                    at = target(shape);
                    continue;
                }
                _ => return Err(BtfError::NoSize { id: shape_id, kind: self.kind(shape_id)? }),
            };
            return count
                .checked_mul(each)
                .ok_or_else(|| BtfError::Undecodable { id, why: "its size does not fit 64 bits".into() });
        }
        Err(BtfError::TooDeep { id, limit: MAX_DEPTH })
    }

    /// The members of a struct or union, `None` for all else.
    ///
    /// # Errors
    /// [`BtfError::TooDeep`], [`BtfError::NoSuchId`].
    pub fn members(&self, id: TypeId) -> Result<Option<&[Member]>, BtfError> {
        Ok(match self.resolve(id)?.1 {
            Type::Struct(of) | Type::Union(of) => Some(&of.members),
            _ => None,
        })
    }

    /// The field of a member, relative to its struct.
    pub(crate) fn member_field(member: &Member) -> Field {
        Field {
            offset_bits: u64::from(member.bit_offset()),
            width_bits: member.bitfield_size().filter(|&bits| bits != 0),
            type_id: TypeId(member.get_type_id().unwrap_or_default()),
        }
    }

    /// The name of a member, empty when it has none.
    ///
    /// # Errors
    /// [`BtfError::BadString`].
    pub fn member_name(&self, member: &Member) -> Result<&str, BtfError> {
        self.string(member.get_name_offset().unwrap_or_default())
    }

    /// A member by name, looked for in anonymous structs and unions too. `None` when it is not there.
    ///
    /// # Errors
    /// [`BtfError::WrongKind`] when `id` is no struct or union; [`BtfError::TooDeep`].
    pub fn member(&self, id: TypeId, name: &str) -> Result<Option<Field>, BtfError> {
        let (shape_id, _) = self.resolve(id)?;
        let wrong = |kind| BtfError::WrongKind { id: shape_id, wanted: "struct or union", found: kind };
        if self.members(shape_id)?.is_none() {
            return Err(wrong(self.kind(shape_id)?));
        }
        // Anonymous members still to be looked into, as (type, offset in bits, depth).
        let mut pending = vec![(shape_id, 0u64, 0usize)];
        let mut looked = 0usize;
        while let Some((at, base, depth)) = pending.pop() {
            let mut inner = Vec::new();
            for member in self.members(at)?.unwrap_or_default() {
                looked += 1;
                let field = Self::member_field(member);
                let offset_bits = base.saturating_add(field.offset_bits);
                let member_name = self.member_name(member)?;
                if member_name == name {
                    return Ok(Some(Field { offset_bits, ..field }));
                }
                if member_name.is_empty() {
                    inner.push((field.type_id, offset_bits, depth + 1));
                }
            }
            if depth >= MAX_DEPTH || looked > MAX_LOOKED_AT {
                return Err(BtfError::TooDeep { id, limit: MAX_DEPTH });
            }
            // Reversed: the stack yields them in the order of declaration.
            pending.extend(inner.into_iter().rev());
        }
        Ok(None)
    }

    /// A field by dotted path (`scx.dsq_list.node`), from a struct's type.
    ///
    /// # Errors
    /// [`BtfError::NoSuchField`] naming the struct and the part that is missing; [`BtfError::WrongKind`] when the
    /// path goes on below something that is no struct.
    pub fn field(&self, id: TypeId, path: &str) -> Result<Field, BtfError> {
        let mut found = Field { offset_bits: 0, width_bits: None, type_id: id };
        for part in path.split('.') {
            let field = self.member(found.type_id, part)?;
            let field = field.ok_or_else(|| BtfError::NoSuchField {
                struct_name: self.describe(found.type_id),
                field: part.to_owned(),
            })?;
            found = Field { offset_bits: found.offset_bits.saturating_add(field.offset_bits), ..field };
        }
        Ok(found)
    }

    /// A struct or union by name.
    ///
    /// # Errors
    /// [`BtfError::NoSuchName`].
    pub(crate) fn struct_named(&self, name: &str) -> Result<TypeId, BtfError> {
        self.find(Kind::Struct, name)
            .or_else(|| self.find(Kind::Union, name))
            .ok_or_else(|| BtfError::NoSuchName { kind: Kind::Struct, name: name.to_owned() })
    }

    /// Size of a struct or union in bytes, by its name.
    ///
    /// # Errors
    /// [`BtfError::NoSuchName`].
    pub(crate) fn struct_bytes(&self, name: &str) -> Result<u64, BtfError> {
        self.size_of(self.struct_named(name)?)
    }

    /// A field by struct name and dotted path: `struct_field("task_struct", "pid")`.
    ///
    /// # Errors
    /// [`BtfError::NoSuchName`] and those of [`Types::field`].
    pub fn struct_field(&self, struct_name: &str, path: &str) -> Result<Field, BtfError> {
        self.field(self.struct_named(struct_name)?, path)
    }

    /// The constants of an enum; empty for all else.
    ///
    /// # Errors
    /// [`BtfError::BadString`], [`BtfError::TooDeep`].
    pub fn enumerators(&self, id: TypeId) -> Result<Vec<Enumerator<'_>>, BtfError> {
        let named = |offset: Option<u32>, value| {
            self.string(offset.unwrap_or_default()).map(|name| Enumerator { name, value })
        };
        match self.resolve(id)?.1 {
            Type::Enum(of) => {
                let signed = of.is_signed();
                let value = |raw: u32| if signed { i128::from(raw.cast_signed()) } else { i128::from(raw) };
                of.members.iter().map(|one| named(one.get_name_offset(), value(one.val()))).collect()
            }
            Type::Enum64(of) => {
                let signed = of.is_signed();
                let value = |raw: u64| if signed { i128::from(raw.cast_signed()) } else { i128::from(raw) };
                of.members.iter().map(|one| named(one.get_name_offset(), value(one.val()))).collect()
            }
            _ => Ok(Vec::new()),
        }
    }

    /// A constant of the enum called `enum_name`, by its name; `None` where either is not there, or the value is negative.
    pub(crate) fn constant(&self, enum_name: &str, name: &str) -> Option<u64> {
        let id = self.find(Kind::Enum, enum_name).or_else(|| self.find(Kind::Enum64, enum_name))?;
        let one = self.enumerators(id).ok()?.into_iter().find(|one| one.name == name)?;
        u64::try_from(one.value).ok()
    }

    /// Name of a value of the enum called `enum_name`: `enum_name_of("scx_exit_kind", 1026)`. `None` where the
    /// enum or the value is not there.
    #[must_use]
    pub(crate) fn enum_name_of(&self, enum_name: &str, value: i128) -> Option<&str> {
        let id = self.find(Kind::Enum, enum_name).or_else(|| self.find(Kind::Enum64, enum_name))?;
        self.enumerator_of(id, value).ok()?
    }

    /// Name of a value of an enum; `None` for other types and for values without a name.
    ///
    /// # Errors
    /// [`BtfError::BadString`], [`BtfError::TooDeep`].
    pub(crate) fn enumerator_of(&self, id: TypeId, value: i128) -> Result<Option<&str>, BtfError> {
        // Only the numbers are compared on the way: enums can be long, and arrays of them longer.
        let name = match self.resolve(id)?.1 {
            Type::Enum(of) => {
                let raw = if of.is_signed() {
                    i32::try_from(value).ok().map(i32::cast_unsigned)
                } else {
                    u32::try_from(value).ok()
                };
                of.members.iter().find(|one| Some(one.val()) == raw).and_then(BtfType::get_name_offset)
            }
            Type::Enum64(of) => {
                let raw = if of.is_signed() {
                    i64::try_from(value).ok().map(i64::cast_unsigned)
                } else {
                    u64::try_from(value).ok()
                };
                of.members.iter().find(|one| Some(one.val()) == raw).and_then(BtfType::get_name_offset)
            }
            _ => None,
        };
        name.map(|offset| self.string(offset)).transpose()
    }

    /// The value of the constant of that name, of whatever enum: C has one space of names for all. The first one counts.
    #[must_use]
    pub(crate) fn constant_named(&self, name: &str) -> Option<i128> {
        self.all_enumerators().find(|one| one.name == name).map(|one| one.value)
    }

    /// The constants of all enums. What cannot be decoded is passed over.
    pub(crate) fn all_enumerators(&self) -> impl Iterator<Item = Enumerator<'_>> {
        let enums = self.of_kind(Kind::Enum).chain(self.of_kind(Kind::Enum64));
        enums.flat_map(|id| self.enumerators(id).unwrap_or_default())
    }

    /// What follows `prefix` in the first tag with it (`btf_decl_tag`) of a member of a struct, by its number, or of a variable
    /// (`None`).
    pub(crate) fn declaration_tag(&self, of: TypeId, member: Option<u32>, prefix: &str) -> Option<&str> {
        self.of_kind(Kind::DeclTag).find_map(|tag| {
            let Ok(Type::DeclTag(found)) = self.get(tag) else { return None };
            let applies = found.get_type_id() == Some(of.0) && found.component_index() == member;
            self.name(tag).ok().filter(|_| applies)?.strip_prefix(prefix)
        })
    }

    /// The struct that a member belongs to and its number there: `id` itself, or an anonymous struct within. `None` when there is
    /// no such member.
    pub(crate) fn declared(&self, id: TypeId, name: &str) -> Option<(TypeId, u32)> {
        let mut pending = vec![(self.resolve(id).ok()?.0, 0)];
        let mut looked = 0usize;
        while let Some((at, depth)) = pending.pop() {
            let shape = self.resolve(at).ok()?.0;
            for (position, member) in self.members(shape).ok()??.iter().enumerate() {
                looked += 1;
                match self.member_name(member).ok()? {
                    found if found == name => return Some((shape, u32::try_from(position).ok()?)),
                    "" => pending.push((Self::member_field(member).type_id, depth + 1)),
                    _ => {}
                }
            }
            if depth >= MAX_DEPTH || looked > MAX_LOOKED_AT {
                return None;
            }
        }
        None
    }

    /// The variables of a data section; empty for all else.
    ///
    /// # Errors
    /// [`BtfError::BadString`], [`BtfError::NoSuchId`].
    pub fn variables(&self, id: TypeId) -> Result<Vec<Variable<'_>>, BtfError> {
        let Type::Datasec(section) = self.resolve(id)?.1 else { return Ok(Vec::new()) };
        section
            .variables
            .iter()
            .map(|place| {
                let var = TypeId(place.get_type_id().unwrap_or_default());
                Ok(Variable {
                    name: self.name(var)?,
                    offset: place.offset(),
                    size: u32::try_from(place.size()).unwrap_or(u32::MAX),
                    type_id: match self.get(var)? {
                        found @ Type::Var(_) => target(found),
                        // Functions in a section (`.ksyms`) have no bytes to show.
                        _ => TypeId(0),
                    },
                    id: var,
                })
            })
            .collect()
    }

    /// Types of the parameters of a function, or of a prototype, in their order; empty for all else.
    ///
    /// # Errors
    /// [`BtfError::TooDeep`], [`BtfError::NoSuchId`].
    pub fn parameters(&self, function: TypeId) -> Result<Vec<TypeId>, BtfError> {
        let prototype = match self.resolve(function)? {
            (_, function @ Type::Func(_)) => target(function),
            (id, _) => id,
        };
        let Type::FuncProto(prototype) = self.get(prototype)? else { return Ok(Vec::new()) };
        Ok(prototype.parameters.iter().map(|p| TypeId(p.get_type_id().unwrap_or_default())).collect())
    }

    /// Parameters and result of a function, a prototype or a pointer to one; `None` for all else. A parameter has no name where the
    /// blob says none; the `...` of C ends them.
    ///
    /// # Errors
    /// As [`Types::parameters`].
    pub fn signature(&self, function: TypeId) -> Result<Option<Signature<'_>>, BtfError> {
        let mut id = function;
        for _ in 0..2 {
            let (at, shape) = self.resolve(id)?;
            if let Type::FuncProto(prototype) = shape {
                let named = prototype.parameters.iter().take_while(|p| !p.is_variadic());
                let parameters = named.map(|p| {
                    let name = p.get_name_offset().and_then(|offset| self.string(offset).ok());
                    (name.unwrap_or_default(), TypeId(p.get_type_id().unwrap_or_default()))
                });
                let returns = TypeId(prototype.return_type_id());
                return Ok(Some(Signature { parameters: parameters.collect(), returns }));
            }
            if !matches!(shape, Type::Func(_) | Type::Ptr(_)) {
                break;
            }
            id = target(self.get(at)?);
        }
        Ok(None)
    }

    /// Target of a pointer, element of an array, type of a variable; `None` for all else.
    ///
    /// # Errors
    /// [`BtfError::TooDeep`], [`BtfError::NoSuchId`].
    pub fn target_of(&self, id: TypeId) -> Result<Option<TypeId>, BtfError> {
        Ok(match self.resolve(id)?.1 {
            shape @ (Type::Ptr(_) | Type::Array(_) | Type::Var(_)) => Some(target(shape)),
            _ => None,
        })
    }

    /// How C would write a type, for messages: `struct ctr`, `u64`, `struct task_struct *`, `int[4]`.
    #[must_use]
    pub fn describe(&self, id: TypeId) -> String {
        // What stands after the name: pointers, and between them the dimensions of arrays.
        let (mut dimensions, mut suffix) = (String::new(), String::new());
        let mut at = id;
        for _ in 0..MAX_DEPTH {
            let Ok(shape) = self.get(at) else { break };
            let name = self.name(at).unwrap_or_default();
            let anonymous = if name.is_empty() { "(anonymous)" } else { name };
            let text = match shape {
                Type::Array(of) => {
                    dimensions.push_str(&format!("[{}]", of.len()));
                    None
                }
                Type::Ptr(_) => {
                    suffix = format!(" *{dimensions}{suffix}");
                    dimensions.clear();
                    None
                }
                Type::Void => Some("void".to_owned()),
                Type::Struct(_) => Some(format!("struct {anonymous}")),
                Type::Union(_) => Some(format!("union {anonymous}")),
                Type::Enum(_) | Type::Enum64(_) => Some(format!("enum {anonymous}")),
                Type::FuncProto(_) => Some("function".to_owned()),
                _ if !name.is_empty() => Some(name.to_owned()),
                _ => None,
            };
            if let Some(text) = text {
                return format!("{text}{dimensions}{suffix}");
            }
            at = target(shape);
        }
        format!("type {at}{dimensions}{suffix}")
    }
}

/// Members that are looked at for one name, those of anonymous structs and unions included.
const MAX_LOOKED_AT: usize = 1 << 20;
