//! A writer of BTF blobs for tests.

use crate::btf::{TypeId, Types};

/// Collects types; each method returns the number of the type that it added.
pub struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

/// A member of a struct under construction: name, type, offset in bits, width in bits (0: no bitfield).
pub type Member<'a> = (&'a str, TypeId, u32, u8);

impl Builder {
    /// No types but `void`.
    pub fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0], count: 0 }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let offset = self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        offset
    }

    /// Any type: its name, `info` word, size or type, and what follows.
    pub fn raw(&mut self, name: &str, info: u32, size_or_type: u32, tail: &[u32]) -> TypeId {
        let name = self.name(name);
        for word in [name, info, size_or_type].iter().chain(tail) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
        self.count += 1;
        TypeId(self.count)
    }

    /// An unsigned integer.
    pub fn unsigned(&mut self, name: &str, bytes: u32) -> TypeId {
        self.raw(name, 1 << 24, bytes, &[bytes * 8])
    }

    /// A signed integer.
    pub fn signed(&mut self, name: &str, bytes: u32) -> TypeId {
        self.raw(name, 1 << 24, bytes, &[1 << 24 | (bytes * 8)])
    }

    /// `bool`.
    pub fn boolean(&mut self) -> TypeId {
        self.raw("bool", 1 << 24, 1, &[4 << 24 | 8])
    }

    /// A floating-point number.
    pub fn float(&mut self, name: &str, bytes: u32) -> TypeId {
        self.raw(name, 16 << 24, bytes, &[])
    }

    /// A pointer.
    pub fn pointer(&mut self, to: TypeId) -> TypeId {
        self.raw("", 2 << 24, to.0, &[])
    }

    /// A typedef.
    pub fn typedef(&mut self, name: &str, to: TypeId) -> TypeId {
        self.raw(name, 8 << 24, to.0, &[])
    }

    /// An array.
    pub fn array(&mut self, of: TypeId, len: u32) -> TypeId {
        self.raw("", 3 << 24, 0, &[of.0, 0, len])
    }

    fn aggregate(&mut self, kind: u32, name: &str, bytes: u32, members: &[Member<'_>]) -> TypeId {
        let bitfields = members.iter().any(|member| member.3 != 0);
        let tail: Vec<u32> = members
            .iter()
            .flat_map(|&(name, id, offset, width)| {
                let place = if bitfields { u32::from(width) << 24 | offset } else { offset };
                [self.name(name), id.0, place]
            })
            .collect();
        let info = u32::from(bitfields) << 31 | kind << 24 | members.len() as u32;
        self.raw(name, info, bytes, &tail)
    }

    /// A struct.
    pub fn structure(&mut self, name: &str, bytes: u32, members: &[Member<'_>]) -> TypeId {
        self.aggregate(4, name, bytes, members)
    }

    /// A union.
    pub fn union(&mut self, name: &str, bytes: u32, members: &[Member<'_>]) -> TypeId {
        self.aggregate(5, name, bytes, members)
    }

    /// A function with these parameters and no result, which have no names.
    pub fn function(&mut self, name: &str, parameters: &[TypeId]) -> TypeId {
        let tail: Vec<u32> = parameters.iter().flat_map(|parameter| [0, parameter.0]).collect();
        let prototype = self.raw("", 13 << 24 | parameters.len() as u32, 0, &tail);
        self.raw(name, 12 << 24, prototype.0, &[])
    }

    /// An enum of 32 bits, signed when a value is negative.
    pub fn enumeration(&mut self, name: &str, values: &[(&str, i32)]) -> TypeId {
        let tail: Vec<u32> =
            values.iter().flat_map(|&(name, value)| [self.name(name), value.cast_unsigned()]).collect();
        let signed = values.iter().any(|&(_, value)| value < 0);
        self.raw(name, u32::from(signed) << 31 | 6 << 24 | values.len() as u32, 4, &tail)
    }

    /// An enum of 64 bits.
    pub fn enumeration64(&mut self, name: &str, values: &[(&str, u64)]) -> TypeId {
        let tail: Vec<u32> = values
            .iter()
            .flat_map(|&(name, value)| [self.name(name), value as u32, (value >> 32) as u32])
            .collect();
        self.raw(name, 19 << 24 | values.len() as u32, 8, &tail)
    }

    /// A data section and its variables: name, type, offset, size in bytes.
    pub fn section(&mut self, name: &str, bytes: u32, variables: &[(&str, TypeId, u32, u32)]) -> TypeId {
        let tail: Vec<u32> = variables
            .iter()
            .flat_map(|&(name, id, offset, size)| [self.raw(name, 14 << 24, id.0, &[1]).0, offset, size])
            .collect();
        self.raw(name, 15 << 24 | variables.len() as u32, bytes, &tail)
    }

    /// A tag of a variable (`None`), or of the member of a struct of that number.
    pub fn declaration_tag(&mut self, text: &str, of: TypeId, member: Option<u32>) -> TypeId {
        self.raw(text, 17 << 24, of.0, &[member.unwrap_or(u32::MAX)])
    }

    /// The blob.
    pub fn blob(&self) -> Vec<u8> {
        let mut blob = vec![0x9f, 0xeb, 1, 0];
        let types = self.types.len() as u32;
        for word in [24, 0, types, types, self.strings.len() as u32] {
            blob.extend_from_slice(&word.to_le_bytes());
        }
        blob.extend_from_slice(&self.types);
        blob.extend_from_slice(&self.strings);
        blob
    }

    /// The blob, parsed.
    pub fn types(&self) -> Types {
        Types::parse(self.blob()).expect("what was built is BTF")
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}
