//! The first pass over a blob: where each type begins, and that everything stays inside its section; and what can be wrong.

use std::fmt;
use std::ops::Range;

use crate::btf::TypeId;

/// Why a BTF blob, or one of its types, cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// The blob's header or one of its sections does not hold together.
    #[error("not usable as BTF: {0}")]
    Malformed(String),
    /// A type of a kind that neither this release nor the blob's own layout section describes.
    #[error("BTF type {id} has kind {kind}, which this release does not know and the blob does not describe")]
    UnknownKind {
        /// The type.
        id: TypeId,
        /// Its kind.
        kind: u32,
    },
    /// The type was skipped: its kind is newer than this release or it has too many members.
    #[error("BTF type {id} cannot be decoded: {why}")]
    Undecodable {
        /// The type.
        id: TypeId,
        /// Why not.
        why: String,
    },
    /// There is no type of that number.
    #[error("there is no BTF type {id} (the blob has {count})")]
    NoSuchId {
        /// What was asked for.
        id: TypeId,
        /// How many types there are, `void` included.
        count: usize,
    },
    /// There is no type of that name.
    #[error("there is no {kind} `{name}`")]
    NoSuchName {
        /// The kind that was asked for.
        kind: Kind,
        /// The name that was asked for.
        name: String,
    },
    /// A name that is not there or not text.
    #[error("the name at offset {0} of the BTF strings is not readable")]
    BadString(u32),
    /// Types that refer to each other without end, or nearly so.
    #[error("BTF type {id} is nested more than {limit} levels deep")]
    TooDeep {
        /// Where the walk began.
        id: TypeId,
        /// The limit that was hit.
        limit: usize,
    },
    /// A type that has no size, where one is needed.
    #[error("BTF type {id} ({kind}) has no size")]
    NoSize {
        /// The type.
        id: TypeId,
        /// Its kind.
        kind: Kind,
    },
    /// A struct without the field that was asked for.
    #[error("`{struct_name}` has no field `{field}`")]
    NoSuchField {
        /// The struct or union, by name.
        struct_name: String,
        /// The part of the path that is not there.
        field: String,
    },
    /// A type that is not what the caller needs.
    #[error("BTF type {id} is a {found}, not a {wanted}")]
    WrongKind {
        /// The type.
        id: TypeId,
        /// What was needed.
        wanted: &'static str,
        /// What it is.
        found: Kind,
    },
}

/// A BTF kind, `enum BTF_KIND_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are BTF's own")]
#[repr(u8)]
pub enum Kind {
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
    /// A kind of a later kernel, skipped with the help of the blob's layout section.
    Later,
}

impl Kind {
    const ALL: [Kind; 20] = [
        Kind::Void,
        Kind::Int,
        Kind::Ptr,
        Kind::Array,
        Kind::Struct,
        Kind::Union,
        Kind::Enum,
        Kind::Fwd,
        Kind::Typedef,
        Kind::Volatile,
        Kind::Const,
        Kind::Restrict,
        Kind::Func,
        Kind::FuncProto,
        Kind::Var,
        Kind::Datasec,
        Kind::Float,
        Kind::DeclTag,
        Kind::TypeTag,
        Kind::Enum64,
    ];

    /// Bytes that follow the common part of a type: a fixed number and a number for each of `vlen`.
    fn tail(self) -> (usize, usize) {
        match self {
            Kind::Int | Kind::Var | Kind::DeclTag => (4, 0),
            Kind::Array => (12, 0),
            Kind::Struct | Kind::Union | Kind::Datasec | Kind::Enum64 => (0, 12),
            Kind::Enum | Kind::FuncProto => (0, 8),
            _ => (0, 0),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Void => "void",
            Kind::Int => "integer",
            Kind::Ptr => "pointer",
            Kind::Array => "array",
            Kind::Struct => "struct",
            Kind::Union => "union",
            Kind::Enum | Kind::Enum64 => "enum",
            Kind::Fwd => "forward declaration",
            Kind::Typedef => "typedef",
            Kind::Volatile | Kind::Const | Kind::Restrict => "qualifier",
            Kind::Func => "function",
            Kind::FuncProto => "function prototype",
            Kind::Var => "variable",
            Kind::Datasec => "data section",
            Kind::Float => "float",
            Kind::DeclTag | Kind::TypeTag => "tag",
            Kind::Later => "type of a later kind",
        })
    }
}

/// One type's place in the blob.
#[derive(Clone, Copy, Debug)]
pub(super) struct TypeEntry {
    /// Offset of its first byte in the blob.
    pub offset: u32,
    /// Offset of its name in the string section, 0 for none.
    pub name: u32,
    /// Its kind.
    pub kind: Kind,
    /// `btf-rs` can decode it.
    pub decodable: bool,
}

/// Where everything is in a checked blob.
#[derive(Debug)]
pub(super) struct Index {
    /// By type id; `void` is first and has no bytes.
    pub entries: Vec<TypeEntry>,
    /// Offset of the byte after the last type.
    pub types_end: u32,
    /// The string section.
    pub strings: Range<usize>,
}

/// Longest blob that is looked at, in bytes. The largest known, a kernel's, has 6 million.
const MAX_BLOB_BYTES: usize = 128 << 20;
/// Largest `vlen` that `btf-rs` reads right: newer kernels have eight more bits than it knows of.
const MAX_DECODABLE_VLEN: usize = 0xffff;
const COMMON_BYTES: usize = 12;
const MAGIC: u16 = 0xeb9f;

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

fn malformed(why: impl Into<String>) -> BtfError {
    BtfError::Malformed(why.into())
}

/// The range of a section that the header gives as (offset after the header, length).
fn section(bytes: &[u8], header_len: usize, at: usize, what: &str) -> Result<Range<usize>, BtfError> {
    let (offset, len) = u32_at(bytes, at)
        .zip(u32_at(bytes, at + 4))
        .ok_or_else(|| malformed(format!("the header ends before the {what} section's place")))?;
    let start = header_len.checked_add(offset as usize);
    let end = start.and_then(|start| start.checked_add(len as usize));
    match (start, end) {
        (Some(start), Some(end)) if end <= bytes.len() => Ok(start..end),
        _ => Err(malformed(format!(
            "the {what} section (offset {offset}, {len} bytes) ends after the blob's {} bytes",
            bytes.len()
        ))),
    }
}

/// Check `bytes` and find the types in it. Time and memory are linear in the length of `bytes`.
pub(super) fn index(bytes: &[u8]) -> Result<Index, BtfError> {
    if bytes.len() > MAX_BLOB_BYTES {
        return Err(malformed(format!("{} bytes are more than the {MAX_BLOB_BYTES} allowed", bytes.len())));
    }
    let magic = bytes.get(..2).and_then(|magic| magic.try_into().ok()).map(u16::from_le_bytes);
    if magic != Some(MAGIC) {
        return Err(malformed(format!("it begins with {:02x?}, not with little-endian 0xeb9f", magic)));
    }
    if bytes.get(2..4) != Some(&[1, 0]) {
        return Err(malformed(format!("version and flags are {:?}, not 1 and 0", bytes.get(2..4))));
    }
    let header_len = u32_at(bytes, 4).ok_or_else(|| malformed("the header is cut short"))? as usize;
    if !(24..=bytes.len()).contains(&header_len) {
        return Err(malformed(format!("the header claims {header_len} bytes")));
    }
    let types = section(bytes, header_len, 8, "type")?;
    let strings = section(bytes, header_len, 16, "string")?;
    let text = bytes.get(strings.clone()).unwrap_or_default();
    if text.first() != Some(&0) || text.last() != Some(&0) {
        return Err(malformed("the string section does not begin and end with a NUL"));
    }
    let layout = if header_len >= 32 { section(bytes, header_len, 24, "layout")? } else { 0..0 };
    let layout = bytes.get(layout).unwrap_or_default();

    let mut entries = Vec::with_capacity(types.len() / 24 + 1);
    entries.push(TypeEntry { offset: 0, name: 0, kind: Kind::Void, decodable: false });
    let mut at = types.start;
    while at < types.end {
        let (entry, len) = entry(bytes, at, layout, entries.len())?;
        if entry.name as usize >= strings.len() {
            return Err(malformed(format!("type {} has a name outside of the strings", entries.len())));
        }
        entries.push(entry);
        at = at
            .checked_add(len)
            .filter(|&end| end <= types.end)
            .ok_or_else(|| malformed(format!("type {} ends after the type section", entries.len() - 1)))?;
    }
    // The blob's length fits: it was compared with MAX_BLOB_BYTES.
    Ok(Index { entries, types_end: types.end as u32, strings })
}

/// The type at `at` and its length in bytes.
fn entry(bytes: &[u8], at: usize, layout: &[u8], id: usize) -> Result<(TypeEntry, usize), BtfError> {
    let (name, info) = u32_at(bytes, at)
        .zip(u32_at(bytes, at + 4))
        .ok_or_else(|| malformed(format!("type {id} is cut short")))?;
    // 7 bits of kind and 24 of vlen; kernels before 7.1 use the lower 5 and 16 of them and zero the rest.
    let number = (info >> 24) & 0x7f;
    let vlen = (info & 0x00ff_ffff) as usize;
    let known = Kind::ALL.get(number as usize).copied().filter(|&kind| kind != Kind::Void);
    let (kind, (fixed, each), counted) = match known {
        Some(kind) => (kind, kind.tail(), kind.tail().1 != 0),
        None => {
            // struct btf_layout { __u8 info_sz; __u8 elem_sz; __u16 flags; }, by kind.
            let sizes = layout
                .get(number as usize * 4..)
                .and_then(|rest| rest.get(..2))
                .filter(|_| number != 0)
                .ok_or(BtfError::UnknownKind { id: TypeId(id as u32), kind: number })?;
            (Kind::Later, (usize::from(sizes[0]), usize::from(sizes[1])), true)
        }
    };
    let len = COMMON_BYTES + fixed + each * vlen;
    let decodable = known.is_some() && (!counted || vlen <= MAX_DECODABLE_VLEN);
    Ok((TypeEntry { offset: at as u32, name, kind, decodable }, len))
}
