//! The types of maps: each program object's BTF, read and hashed once.

use std::collections::HashMap;

use super::Btf;
use crate::kernel::profile::blob;
use crate::kernel::{KernelError, KernelView};
use crate::trace::record::{Blob, BlobId, BlobRole};
use crate::units::KernelVirt;

/// Largest BTF of a program that is kept, in bytes.
const MAX_BYTES: u32 = 8 << 20;
/// Most different BTF objects of one run.
const MAX_KNOWN: usize = 4096;

/// The BTF objects that were met.
#[derive(Debug, Default)]
pub(super) struct TypeBlobs {
    known: HashMap<Key, BlobId>,
}

/// What tells BTF objects of a boot apart: their ids are never given twice, the rest guards against torn reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    at: KernelVirt,
    id: u32,
    data: KernelVirt,
    len: u32,
}

impl TypeBlobs {
    /// The blob of the `struct btf` at `at`, and its bytes if it was not met before. `None` for maps without types, and
    /// for those whose types are the kernel's.
    pub fn of(
        &mut self,
        view: &KernelView<'_>,
        at: KernelVirt,
    ) -> Result<Option<(BlobId, Option<Blob>)>, KernelError> {
        if at.0 == 0 {
            return Ok(None);
        }
        let btf: Btf = view.mirror(at)?;
        if btf.kernel_btf.is_ok_and(|kernel| kernel != 0) {
            return Ok(None);
        }
        let key = Key { at, id: btf.id, data: btf.data, len: btf.data_size };
        if let Some(&id) = self.known.get(&key) {
            return Ok(Some((id, None)));
        }
        if btf.data_size > MAX_BYTES || self.known.len() >= MAX_KNOWN {
            let why = format!("its {} bytes are too many, or there are too many like it", btf.data_size);
            return Err(KernelError::Broken { what: "struct btf", at, why });
        }
        let fresh = blob(BlobRole::ProgramBtf, view.bytes(btf.data, btf.data_size as usize)?);
        self.known.insert(key, fresh.id);
        Ok(Some((fresh.id, Some(fresh))))
    }
}
