//! Content-addressed bytes that other records refer to: BTF, symbols, vmcoreinfo.

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::trace::body::{Body, BodyError, access, archived_body, is_aligned};

/// XXH3-128 of a blob's bytes, little-endian.
pub type BlobId = [u8; 16];

/// What a blob is.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlobRoleV1 {
    /// The kernel's own `.BTF` section.
    KernelBtf,
    /// The kernel's symbols, in the encoding of `kernel::symbols`.
    KernelSymbols,
    /// The text of the vmcoreinfo note.
    Vmcoreinfo,
    /// The BTF of a BPF program's object, as the kernel holds it.
    ProgramBtf,
    /// The kernel's configuration, as text: the `/boot/config-RELEASE` of the guest.
    KernelConfig,
}

/// A blob record's body.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct BlobV1 {
    /// XXH3-128 of `bytes`.
    pub id: BlobId,
    /// What the bytes are.
    pub role: BlobRoleV1,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl BlobV1 {
    /// A blob of `bytes`, with its id.
    pub fn new(role: BlobRoleV1, bytes: Vec<u8>) -> Self {
        Self { id: blob_id(&bytes), role, bytes }
    }

    /// Id and bytes of the blob in a decompressed body. The bytes stay where they are: a kernel's symbols and types are
    /// megabytes.
    ///
    /// # Errors
    /// Those of [`Body::decode`].
    pub(crate) fn in_place(version: u16, raw: Vec<u8>) -> Result<(BlobId, Bytes), BodyError> {
        if version != Self::VERSION || !is_aligned(&raw) {
            return Self::decode(version, &raw).map(|blob| (blob.id, blob.bytes.into()));
        }
        let raw = Bytes::from(raw);
        let blob = access::<ArchivedBlobV1>(&raw)?;
        Ok((blob.id, raw.slice_ref(&blob.bytes)))
    }
}

/// The id of a blob's bytes.
pub fn blob_id(bytes: &[u8]) -> BlobId {
    xxh3_128(bytes).to_le_bytes()
}

impl BlobRoleV1 {
    /// All roles.
    pub const ALL: [Self; 5] =
        [Self::KernelBtf, Self::KernelSymbols, Self::Vmcoreinfo, Self::ProgramBtf, Self::KernelConfig];

    /// The role's code in the flags of a blob record's header.
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::KernelBtf => 1,
            Self::KernelSymbols => 2,
            Self::Vmcoreinfo => 3,
            Self::ProgramBtf => 4,
            Self::KernelConfig => 5,
        }
    }
}

archived_body!(BlobV1, Blob, 1);

/// The current blob.
pub type Blob = BlobV1;
/// The current blob role.
pub type BlobRole = BlobRoleV1;
