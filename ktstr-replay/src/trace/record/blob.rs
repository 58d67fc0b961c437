//! Content-addressed bytes that other records refer to: BTF, symbols, vmcoreinfo.

use rkyv::{Archive, Deserialize, Serialize};

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

/// The current blob.
pub type Blob = BlobV1;
/// The current blob role.
pub type BlobRole = BlobRoleV1;
