//! Kernel structs, declared once: where their fields are is computed, in an order that a seed decides, and BTF is made of the
//! same declaration. A layout by hand would be written down again by every test that uses it.
//!
//! ```text
//! NAME { field: TYPE, ... }     a struct; its fields are shuffled, with padding between them
//! NAME! { ... }                 a struct whose fields are in this order: the CPU, or code of the kernel, relies on it
//! enum NAME { CONSTANT = 1 }    an enum; of 64 bits when a constant needs them
//! ```
//!
//! A type is `u8` to `u64`, `s16`, `int`, `s64`, `char`, `ptr`, `ptr STRUCT`, the name of a struct or `enum NAME`, each also as
//! `TYPE[4]` or, at the end of a struct, `TYPE[]`. `u32:3` is a bitfield. A field written `=name` is the first; one written `_` is
//! an anonymous struct, as is the struct of its type, whose name begins with `_`.

use std::collections::HashMap;

use super::btf::Builder;
use crate::btf::TypeId;

/// A number of a declared type.
pub(super) type TypeNumber = usize;

/// Where a field is, and of what type.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldPlace {
    pub(super) offset_bits: u64,
    /// Width of a bitfield; 0 for others.
    pub(super) bits: u8,
    pub(super) of: TypeNumber,
}

#[derive(Debug)]
enum Shape {
    Number,
    Struct(Vec<(String, FieldPlace)>),
    Array(TypeNumber),
}

#[derive(Debug)]
struct Declared {
    bytes: u64,
    align: u64,
    /// It ends with an array without a length.
    open: bool,
    shape: Shape,
    id: TypeId,
}

/// The declared types and their BTF.
pub(super) struct Layouts {
    seed: u64,
    lacking: Vec<String>,
    types: Vec<Declared>,
    by_name: HashMap<String, TypeNumber>,
    pub(super) btf: Builder,
}

impl Layouts {
    /// No types yet. `lacking` names structs, enums, and fields (`rq.curr`) that declarations have and this kernel has not.
    pub(super) fn new(seed: u64, lacking: &[&str]) -> Self {
        let lacking = lacking.iter().map(|&name| name.to_owned()).collect();
        Self { seed, lacking, types: Vec::new(), by_name: HashMap::new(), btf: Builder::new() }
    }

    /// Add what `text` declares; a type must be declared before others hold it.
    pub(super) fn declare(&mut self, text: &str) {
        for item in text.split('}').filter(|item| !item.trim().is_empty()) {
            let (head, body) = item.split_once('{').expect("a declaration has braces");
            let parts = body.split(',').map(str::trim).filter(|part| !part.is_empty());
            match head.trim().strip_prefix("enum ") {
                Some(name) if self.has(name, "") => self.enumeration(name, parts),
                None if self.has(head.trim(), "") => self.structure(head.trim(), parts),
                _ => {}
            }
        }
    }

    fn has(&self, of: &str, field: &str) -> bool {
        let name = if field.is_empty() { of.to_owned() } else { format!("{of}.{field}") };
        !self.lacking.contains(&name)
    }

    fn enumeration<'t>(&mut self, name: &str, parts: impl Iterator<Item = &'t str>) {
        let constants: Vec<(&str, i128)> = parts
            .map(|part| part.split_once(" = ").expect("a constant has a value"))
            .map(|(constant, value)| (constant, value.parse().expect("a number")))
            .collect();
        let wide = constants.iter().any(|(_, value)| *value > i128::from(u32::MAX));
        let id = if wide {
            let constants: Vec<_> = constants.iter().map(|&(name, value)| (name, value as u64)).collect();
            self.btf.enumeration64(name, &constants)
        } else {
            let constants: Vec<_> = constants.iter().map(|&(name, value)| (name, value as i32)).collect();
            self.btf.enumeration(name, &constants)
        };
        let bytes = if wide { 8 } else { 4 };
        self.add(
            format!("enum {name}"),
            Declared { bytes, align: bytes, open: false, shape: Shape::Number, id },
        );
    }

    fn structure<'t>(&mut self, name: &str, parts: impl Iterator<Item = &'t str>) {
        let (name, fixed) = name.strip_suffix('!').map_or((name, false), |name| (name, true));
        let mut random = Random::new(self.seed, name);
        // First, by place: what must be first, the others, bitfields, what has no end.
        let mut fields: Vec<(u64, &str, u8, TypeNumber)> = Vec::new();
        for part in parts {
            let (field, of) = part.split_once(": ").expect("a field has a type");
            if !self.has(name, field) {
                continue;
            }
            let (of, bits) =
                of.split_once(':').map_or((of, 0), |(of, bits)| (of, bits.parse().expect("bits")));
            let of = self.of(of);
            let place = match field {
                _ if self.types[of].open => 4 << 32,
                _ if bits > 0 => 3 << 32 | random.below(1 << 16),
                _ if field.starts_with('=') => 1 << 32,
                _ => 2 << 32 | random.below(1 << 16),
            };
            fields.push((place, field.trim_start_matches('='), bits, of));
        }
        if !fixed {
            fields.sort_by_key(|field| field.0);
        }
        let (mut end, mut align, mut placed) = (0u64, 1, Vec::new());
        for (_, field, bits, of) in &fields {
            let of_type = &self.types[*of];
            // The kernel has most such arrays begin at a multiple of 8; in a fixed order they begin where C has them.
            let unit = if of_type.open && !fixed { 8 } else { of_type.align };
            align = align.max(unit);
            let close = fixed || *bits > 0 || placed.is_empty() || random.below(4) > 0;
            let start = match *bits {
                // A bitfield does not cross from one unit into the next.
                bits if bits > 0 && end / (unit * 8) == (end + u64::from(bits) - 1) / (unit * 8) => end,
                _ => (end + if close { 0 } else { 64 }).next_multiple_of(unit * 8),
            };
            end = start + if *bits > 0 { u64::from(*bits) } else { of_type.bytes * 8 };
            placed.push(((*field).to_owned(), FieldPlace { offset_bits: start, bits: *bits, of: *of }));
        }
        let open = fields.iter().any(|field| self.types[field.3].open);
        let bytes = end.div_ceil(8).next_multiple_of(align);
        let members: Vec<_> = placed
            .iter()
            .map(|(field, at)| (field.trim_start_matches('_').is_empty(), field, at))
            .map(|(anonymous, field, at)| {
                (
                    if anonymous { "" } else { field.as_str() },
                    self.types[at.of].id,
                    at.offset_bits as u32,
                    at.bits,
                )
            })
            .collect();
        let shown = if name.starts_with('_') { "" } else { name };
        let id = self.btf.structure(shown, bytes as u32, &members);
        self.add(name.to_owned(), Declared { bytes, align, open, shape: Shape::Struct(placed), id });
    }

    fn add(&mut self, name: String, of: Declared) -> TypeNumber {
        self.types.push(of);
        self.by_name.insert(name, self.types.len() - 1);
        self.types.len() - 1
    }

    /// The type of that name; those that need no declaration are made when they are first used.
    pub(super) fn of(&mut self, name: &str) -> TypeNumber {
        if let Some(&known) = self.by_name.get(name) {
            return known;
        }
        let (bytes, id) =
            if let Some((of, len)) = name.strip_suffix(']').and_then(|name| name.split_once('[')) {
                let (of, len) = (self.of(of), len.parse::<u32>().unwrap_or(0));
                let (each, align) = (self.types[of].bytes, self.types[of].align);
                let id = self.btf.array(self.types[of].id, len);
                let shape = Shape::Array(of);
                let array = Declared { bytes: each * u64::from(len), align, open: len == 0, shape, id };
                return self.add(name.to_owned(), array);
            } else if let Some(to) = name.strip_prefix("ptr") {
                let to = self.of(if to.is_empty() { "u64" } else { to.trim_start() });
                (8, self.btf.pointer(self.types[to].id))
            } else {
                match name {
                    "char" => (1, self.btf.signed(name, 1)),
                    "u8" => (1, self.btf.unsigned(name, 1)),
                    "u16" => (2, self.btf.unsigned(name, 2)),
                    "s16" => (2, self.btf.signed(name, 2)),
                    "u32" => (4, self.btf.unsigned(name, 4)),
                    "int" => (4, self.btf.signed(name, 4)),
                    "u64" => (8, self.btf.unsigned(name, 8)),
                    "s64" => (8, self.btf.signed(name, 8)),
                    _ => panic!("the toy kernel has no type `{name}`"),
                }
            };
        self.add(name.to_owned(), Declared { bytes, align: bytes, open: false, shape: Shape::Number, id })
    }

    pub(super) fn declared(&self, name: &str) -> TypeNumber {
        *self.by_name.get(name).unwrap_or_else(|| panic!("the toy kernel declares no `{name}`"))
    }

    pub(super) fn bytes(&self, of: TypeNumber) -> u64 {
        self.types[of].bytes
    }

    pub(super) fn id(&self, of: TypeNumber) -> TypeId {
        self.types[of].id
    }

    /// The place of a field by dotted path from the type; `[2]` takes an element of an array. An empty path is the whole.
    pub(super) fn place(&self, of: TypeNumber, path: &str) -> FieldPlace {
        let mut place = FieldPlace { offset_bits: 0, bits: 0, of };
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let (name, index) = part.split_once('[').map_or((part, None), |(name, rest)| {
                (name, Some(rest.trim_end_matches(']').parse::<u64>().expect("an index")))
            });
            if !name.is_empty() {
                let field =
                    self.field(place.of, name).unwrap_or_else(|| panic!("no field `{name}` of `{path}`"));
                place = FieldPlace { offset_bits: place.offset_bits + field.offset_bits, ..field };
            }
            if let (Some(index), Shape::Array(each)) = (index, &self.types[place.of].shape) {
                place.offset_bits += index * self.types[*each].bytes * 8;
                place.of = *each;
            }
        }
        place
    }

    fn field(&self, of: TypeNumber, name: &str) -> Option<FieldPlace> {
        let Shape::Struct(fields) = &self.types[of].shape else { return None };
        fields.iter().find_map(|(field, place)| {
            if field == name {
                return Some(*place);
            }
            let inner = (field == "_").then(|| self.field(place.of, name))??;
            Some(FieldPlace { offset_bits: place.offset_bits + inner.offset_bits, ..inner })
        })
    }

    /// The number that a type is: its own, or that of the struct's only field.
    pub(super) fn number(&self, mut place: FieldPlace) -> FieldPlace {
        while let Shape::Struct(fields) = &self.types[place.of].shape {
            let [(_, only)] = fields.as_slice() else { panic!("a struct of several fields is not a number") };
            place = FieldPlace { offset_bits: place.offset_bits + only.offset_bits, ..*only };
        }
        place
    }
}

/// Numbers that depend on a seed and a name: a struct keeps its layout when another is declared.
struct Random(u64);

impl Random {
    fn new(seed: u64, name: &str) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), seed))
    }

    fn below(&mut self, bound: u64) -> u64 {
        // splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}
