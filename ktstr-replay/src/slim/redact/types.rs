//! What BTF tells of text: which bytes of a value are characters, and which strings of a blob are names.

use std::collections::HashSet;
use std::ops::Range;

use btf_rs::{BtfType, Type};

use super::FILLER;
use crate::btf::{BtfError, TypeId, Types};

/// Most ranges of a shape; what is beyond is looked at byte by byte.
const MAX_RANGES: usize = 1 << 14;
/// Most types that are looked at for a shape: arrays of arrays multiply, also where no range comes of them.
const MAX_TYPES: usize = 1 << 17;
/// Deepest nesting that is followed.
const MAX_DEPTH: usize = 32;

/// Which bytes of a value are what.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// Arrays of characters.
    pub(super) texts: Vec<Range<usize>>,
    /// Numbers of two bytes and more, and pointers; ascending.
    pub(super) numbers: Vec<Range<usize>>,
    /// How many types were looked at.
    looked_at: usize,
}

impl Shape {
    /// The shape of a type; empty, so that all of it is looked at, where it cannot be told.
    pub(super) fn of(types: &Types, id: u32) -> Self {
        let mut shape = Self::default();
        shape.add(types, TypeId(id), 0, 0);
        shape.numbers.sort_by_key(|range| range.start);
        shape
    }

    fn add(&mut self, types: &Types, id: TypeId, at: u64, depth: usize) {
        self.looked_at += 1;
        let is_too_much = self.looked_at > MAX_TYPES || self.texts.len() + self.numbers.len() >= MAX_RANGES;
        if is_too_much || depth > MAX_DEPTH {
            return;
        }
        let Ok((shape_id, shape)) = types.resolve(id) else { return };
        let range = |len: u64| {
            let (start, end) = (usize::try_from(at).ok()?, usize::try_from(at.checked_add(len)?).ok()?);
            Some(start..end)
        };
        match shape {
            Type::Int(_) | Type::Ptr(_) | Type::Enum(_) | Type::Enum64(_) | Type::Float(_) => {
                let size = types.size_of(shape_id).unwrap_or(0);
                if size >= 2 {
                    self.numbers.extend(range(size));
                }
            }
            Type::Array(array) => {
                let Ok(Some(element)) = types.target_of(shape_id) else { return };
                let (len, size) = (array.len() as u64, types.size_of(element).unwrap_or(0));
                match types.resolve(element) {
                    Ok((id, Type::Int(_))) if size == 1 && types.name(id) == Ok("char") => {
                        self.texts.extend(range(len));
                    }
                    Ok((
                        _,
                        Type::Int(_) | Type::Ptr(_) | Type::Enum(_) | Type::Enum64(_) | Type::Float(_),
                    )) => self.numbers.extend(len.checked_mul(size).filter(|_| size >= 2).and_then(range)),
                    Ok(_) if size > 0 => {
                        for nth in 0..len.min(MAX_RANGES as u64) {
                            let Some(at) = nth.checked_mul(size).and_then(|by| at.checked_add(by)) else {
                                return;
                            };
                            self.add(types, element, at, depth + 1);
                        }
                    }
                    _ => {}
                }
            }
            Type::Struct(of) | Type::Union(of) => {
                for member in &of.members {
                    let field = Types::member_field(member);
                    if let Some(at) = at.checked_add(field.offset_bytes()) {
                        self.add(types, field.type_id, at, depth + 1);
                    }
                }
            }
            Type::Datasec(_) => {
                for variable in types.variables(shape_id).unwrap_or_default() {
                    self.add(
                        types,
                        variable.type_id,
                        at.saturating_add(u64::from(variable.offset)),
                        depth + 1,
                    );
                }
            }
            _ => {}
        }
    }
}

/// The names in a blob: of types, members, enumerators and parameters. Its other strings are file names and source lines, which
/// the kernel quotes where it refuses a program.
pub(super) fn names_of(types: &Types) -> HashSet<Vec<u8>> {
    let mut names = HashSet::new();
    // A name that cannot be read is none that is shown.
    let mut add = |name: Result<&str, BtfError>| {
        names.extend(name.map(|name| name.as_bytes().to_vec()));
    };
    for id in (0..types.count()).filter_map(|id| u32::try_from(id).ok()).map(TypeId) {
        add(types.name(id));
        match types.get(id) {
            Ok(Type::Struct(of) | Type::Union(of)) => {
                of.members.iter().for_each(|member| add(types.member_name(member)));
            }
            Ok(Type::Enum(_) | Type::Enum64(_)) => {
                for one in types.enumerators(id).unwrap_or_default() {
                    add(Ok(one.name));
                }
            }
            Ok(Type::FuncProto(proto)) => {
                for name in proto.parameters.iter().filter_map(BtfType::get_name_offset) {
                    add(types.string(name));
                }
            }
            _ => {}
        }
    }
    names.remove(&Vec::new());
    names
}

/// The blob with each string overwritten that is none of `names`; `None` where it has no string section.
pub(super) fn blanked_strings(types: &Types, names: &HashSet<Vec<u8>>) -> Option<Vec<u8>> {
    let mut blob = types.bytes().to_vec();
    let strings = types.strings();
    for string in blob.get_mut(strings)?.split_mut(|byte| *byte == 0) {
        if !names.contains(&*string) {
            string.fill(FILLER);
        }
    }
    Some(blob)
}
