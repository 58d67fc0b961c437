//! A checked blob and its types by number and by name.

use std::fmt;
use std::sync::OnceLock;

use btf_rs::{Btf, BtfSection, Type};
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::index::{Index, TypeEntry, index};
use super::{BtfError, Kind, NameIndex};

/// Number of a type in its blob; 0 is `void`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u32);

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Types that are decoded together. Small, so that a handful of structs of the kernel does not decode all of it.
const CHUNK: usize = 64;
/// Longest name that is read, in bytes. The kernel takes names of up to 511.
const MAX_NAME_BYTES: usize = 2048;
/// Longest chain of typedefs and qualifiers that is followed.
pub(super) const MAX_DEPTH: usize = 64;

/// The types of one BTF blob.
///
/// Cheap to open, safe to share between threads; types are decoded as they are asked for.
pub struct Types {
    bytes: Bytes,
    index: Index,
    chunks: Vec<OnceLock<Result<Vec<Type>, String>>>,
    /// Ids by the hash of their names; functions are not in it.
    by_name: OnceLock<NameIndex>,
}

impl fmt::Debug for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Types({} in {} bytes)", self.count(), self.bytes.len())
    }
}

impl Types {
    /// Take a little-endian BTF blob (`.BTF` section, `struct btf.data`).
    ///
    /// # Errors
    /// [`BtfError::Malformed`] or [`BtfError::UnknownKind`] when sections or types do not fit in the blob.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, BtfError> {
        let bytes = bytes.into();
        let index = index(&bytes)?;
        let chunks = index.entries.len().div_ceil(CHUNK);
        Ok(Self {
            bytes,
            index,
            chunks: std::iter::repeat_with(OnceLock::new).take(chunks).collect(),
            by_name: OnceLock::new(),
        })
    }

    /// The blob.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Where its strings are in the blob.
    pub(crate) fn strings(&self) -> std::ops::Range<usize> {
        self.index.strings.clone()
    }

    /// How many types there are, `void` included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.index.entries.len()
    }

    fn entry(&self, id: TypeId) -> Result<&TypeEntry, BtfError> {
        let entry = self.index.entries.get(id.0 as usize);
        entry.ok_or(BtfError::NoSuchId { id, count: self.count() })
    }

    /// The kind of a type.
    ///
    /// # Errors
    /// [`BtfError::NoSuchId`].
    pub fn kind(&self, id: TypeId) -> Result<Kind, BtfError> {
        Ok(self.entry(id)?.kind)
    }

    /// The name of a type, empty when it has none.
    ///
    /// # Errors
    /// [`BtfError::NoSuchId`], [`BtfError::BadString`].
    pub fn name(&self, id: TypeId) -> Result<&str, BtfError> {
        self.string(self.entry(id)?.name)
    }

    /// The string at an offset of the string section.
    ///
    /// # Errors
    /// [`BtfError::BadString`] when it is outside of the section, longer than 2048 bytes or not UTF-8.
    pub fn string(&self, offset: u32) -> Result<&str, BtfError> {
        let bad = || BtfError::BadString(offset);
        let text = self.bytes.get(self.index.strings.clone()).ok_or_else(bad)?;
        let text = text.get(offset as usize..).ok_or_else(bad)?;
        let len = text.iter().take(MAX_NAME_BYTES).position(|&byte| byte == 0).ok_or_else(bad)?;
        std::str::from_utf8(&text[..len]).map_err(|_| bad())
    }

    /// The type of a number, as `btf-rs` decodes it. Names are offsets for [`Types::string`].
    ///
    /// # Errors
    /// [`BtfError::NoSuchId`], [`BtfError::Undecodable`].
    pub fn get(&self, id: TypeId) -> Result<&Type, BtfError> {
        let entry = self.entry(id)?;
        let undecodable = |why: &str| BtfError::Undecodable { id, why: why.to_owned() };
        if entry.kind != Kind::Void && !entry.decodable {
            return Err(undecodable("it is of a later kind, or has more than 65535 members"));
        }
        let position = id.0 as usize;
        let cell = self.chunks.get(position / CHUNK).ok_or_else(|| undecodable("it is in no chunk"))?;
        match cell.get_or_init(|| self.decode(position / CHUNK)) {
            Ok(types) => types.get(position % CHUNK).ok_or_else(|| undecodable("it is not in its chunk")),
            Err(why) => Err(undecodable(why)),
        }
    }

    /// Have `btf-rs` decode one chunk: a blob is made of the chunk's types, without names (they are in the index)
    /// and with a placeholder where `btf-rs` would lose its way.
    fn decode(&self, chunk: usize) -> Result<Vec<Type>, String> {
        let first = chunk * CHUNK;
        let entries = self.index.entries.get(first..).unwrap_or_default();
        let mut body = Vec::new();
        for (position, entry) in entries.iter().enumerate().take(CHUNK).skip(usize::from(first == 0)) {
            let end = entries.get(position + 1).map_or(self.index.types_end, |next| next.offset);
            if entry.decodable {
                let bytes = self.bytes.get(entry.offset as usize..end as usize).unwrap_or_default();
                body.extend_from_slice(&[0; 4]);
                body.extend_from_slice(bytes.get(4..).unwrap_or_default());
            } else {
                body.extend_from_slice(&PLACEHOLDER);
            }
        }
        let parsed = Btf::from_bytes(&blob(&body)).map_err(|error| error.to_string())?;
        let section: &BtfSection = parsed.base();
        // Local id 0 is btf-rs's own `void`: right for the first chunk, to be left out of the others.
        (u32::from(first != 0)..=section.type_id_range().1)
            .map(|local| section.resolve_type_by_id(local).map_err(|error| error.to_string()))
            .collect()
    }

    /// Follow typedefs, qualifiers and tags to the type that has a shape.
    ///
    /// # Errors
    /// [`BtfError::TooDeep`] for chains longer than 64, which a cycle is.
    pub fn resolve(&self, id: TypeId) -> Result<(TypeId, &Type), BtfError> {
        let mut at = id;
        for _ in 0..MAX_DEPTH {
            let found = self.get(at)?;
            match found {
                Type::Typedef(_)
                | Type::Volatile(_)
                | Type::Const(_)
                | Type::Restrict(_)
                | Type::TypeTag(_)
                | Type::DeclTag(_) => {
                    at = target(found);
                }
                shape => return Ok((at, shape)),
            }
        }
        Err(BtfError::TooDeep { id, limit: MAX_DEPTH })
    }

    /// The first type of that kind and name. Functions are not found: they are most of a kernel's types and have
    /// no layout.
    #[must_use]
    pub fn find(&self, kind: Kind, name: &str) -> Option<TypeId> {
        let ids = self.name_index().candidates(xxh3_64(name.as_bytes()));
        ids.map(TypeId).find(|&id| self.kind(id) == Ok(kind) && self.name(id) == Ok(name))
    }

    /// The index of names, which is made when the first one is asked for.
    pub(crate) fn name_index(&self) -> &NameIndex {
        let text = || self.bytes.get(self.index.strings.clone()).unwrap_or_default();
        let hash = |id: usize| {
            let entry = self.index.entries.get(id)?;
            let named = entry.name != 0 && entry.kind != Kind::Func;
            let name = text().get(entry.name as usize..).filter(|_| named)?;
            // Whether it is text is seen when it is compared.
            let len = name.iter().take(MAX_NAME_BYTES).position(|&byte| byte == 0)?;
            Some(xxh3_64(name.get(..len)?))
        };
        self.by_name.get_or_init(|| NameIndex::new(self.count(), hash))
    }

    /// All types of a kind, in order of their numbers.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = TypeId> + '_ {
        let entries = self.index.entries.iter().enumerate();
        entries.filter(move |(_, entry)| entry.kind == kind).map(|(id, _)| TypeId(id as u32))
    }
}

/// The type that `of` refers to: a pointer's target, an array's element, a variable's type.
pub(super) fn target(of: &Type) -> TypeId {
    TypeId(of.as_btf_type().and_then(btf_rs::BtfType::get_type_id).unwrap_or_default())
}

/// A nameless `BTF_KIND_FWD`.
const PLACEHOLDER: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0];

/// A BTF blob of `body` and an empty string section.
fn blob(body: &[u8]) -> Vec<u8> {
    let mut blob = Vec::with_capacity(25 + body.len());
    blob.extend_from_slice(&[0x9f, 0xeb, 1, 0]);
    // hdr_len, type_off, type_len, str_off, str_len. A body is a part of a blob of at most 128 MiB.
    for word in [24, 0, body.len() as u32, body.len() as u32, 1] {
        blob.extend_from_slice(&word.to_le_bytes());
    }
    blob.extend_from_slice(body);
    blob.push(0);
    blob
}
