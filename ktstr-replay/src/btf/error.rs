//! What can be wrong with types.

use super::{Kind, TypeId};

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
