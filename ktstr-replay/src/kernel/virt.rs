//! Kernel virtual memory.

use super::paging::Tlb;
use super::{KernelError, PageTable, bytes};
use crate::memory::LeftOut;
use crate::memory::{Memory, MemoryError};
use crate::trace::record::PAGE_BYTES;
use crate::units::{GuestPhys, KernelVirt};

/// Longest single read, in bytes: nothing of a kernel that is read whole is longer.
const MAX_READ_BYTES: usize = 64 << 20;

/// The virtual memory of a kernel at one moment.
pub struct VirtualMemory<'m> {
    memory: &'m dyn Memory,
    table: PageTable,
    tlb: Tlb,
    /// The kernel's BTF and where it is, for checkpoints that leave it out.
    types: Option<(KernelVirt, &'m [u8])>,
}

impl<'m> VirtualMemory<'m> {
    /// `memory` as `table` maps it. Make a new one for each moment: translations are kept.
    #[must_use]
    pub fn new(memory: &'m dyn Memory, table: PageTable) -> Self {
        Self { memory, table, tlb: Tlb::new(), types: None }
    }

    /// With the kernel's BTF, which is at `at`: strings of types are pointed to by other structs.
    pub(super) fn with_types(self, at: Option<KernelVirt>, btf: &'m [u8]) -> Self {
        Self { types: at.map(|at| (at, btf)), ..self }
    }

    /// Where `at` is in guest-physical memory, and how many bytes follow it in the same page, which may be a huge one.
    ///
    /// # Errors
    /// [`KernelError::NotMapped`], [`KernelError::Memory`].
    pub fn place_of(&self, at: KernelVirt) -> Result<(GuestPhys, u64), KernelError> {
        self.table.translate(self.memory, at)
    }

    /// Fill `out` with the bytes at `at`, page by page.
    ///
    /// # Errors
    /// [`KernelError::NotMapped`], [`KernelError::Memory`]; `out` is then unspecified.
    pub fn read(&self, at: KernelVirt, out: &mut [u8]) -> Result<(), KernelError> {
        let mut at = at.0;
        let mut rest = out;
        while !rest.is_empty() {
            // What is longer than a page may lie in a huge one, which the cache of small pages does not know.
            let (place, in_page) = if rest.len() > PAGE_BYTES {
                self.place_of(KernelVirt(at))?
            } else {
                self.tlb.translate(&self.table, self.memory, KernelVirt(at))?
            };
            let len = usize::try_from(in_page).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            match self.memory.read(place, now) {
                Err(MemoryError::LeftOut { why: LeftOut::KernelTypes, .. }) if self.read_types(at, now) => {}
                other => other?,
            }
            rest = later;
            at = at.wrapping_add(len as u64);
        }
        Ok(())
    }

    /// Fill `out` out of the kernel's BTF; `false` if it is not all there.
    fn read_types(&self, at: u64, out: &mut [u8]) -> bool {
        let found = self.types.and_then(|(start, btf)| {
            let offset = usize::try_from(at.checked_sub(start.0)?).ok()?;
            btf.get(offset..offset.checked_add(out.len())?)
        });
        if let Some(found) = found {
            out.copy_from_slice(found);
        }
        found.is_some()
    }

    /// `len` bytes at `at`. At most 64 MiB.
    ///
    /// # Errors
    /// Those of [`VirtualMemory::read`]; [`KernelError::Broken`] when it is too long.
    pub fn bytes(&self, at: KernelVirt, len: usize) -> Result<Vec<u8>, KernelError> {
        if len > MAX_READ_BYTES {
            let why = format!("{len} bytes are more than the {MAX_READ_BYTES} that are read at once");
            return Err(KernelError::Broken { what: "an object", at, why });
        }
        // The first byte before the allocation: a pointer to nowhere costs none.
        self.read(at, &mut [0u8; 1][..len.min(1)])?;
        let mut out = vec![0; len];
        self.read(at, &mut out)?;
        Ok(out)
    }

    /// The `u64` at `at`.
    ///
    /// # Errors
    /// Those of [`VirtualMemory::read`].
    pub fn u64(&self, at: KernelVirt) -> Result<u64, KernelError> {
        let mut word = [0; 8];
        self.read(at, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    /// The `u32` at `at`.
    ///
    /// # Errors
    /// Those of [`VirtualMemory::read`].
    pub fn u32(&self, at: KernelVirt) -> Result<u32, KernelError> {
        let mut word = [0; 4];
        self.read(at, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    /// The pointer at `at`; `None` for null.
    ///
    /// # Errors
    /// Those of [`VirtualMemory::read`].
    pub fn pointer(&self, at: KernelVirt) -> Result<Option<KernelVirt>, KernelError> {
        Ok(Some(KernelVirt(self.u64(at)?)).filter(|pointer| pointer.0 != 0))
    }

    /// The C string at `at`, cut at `max` bytes. Bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// Those of [`VirtualMemory::read`], when not even its first page can be read.
    pub fn text(&self, at: KernelVirt, max: usize) -> Result<String, KernelError> {
        let mut found = Vec::new();
        let mut chunk = [0u8; 256];
        while found.len() < max {
            let here = KernelVirt(at.0.wrapping_add(found.len() as u64));
            // Never past the page: what follows the string need not be mapped.
            let in_page = 4096 - (here.0 % 4096) as usize;
            let len = chunk.len().min(max - found.len()).min(in_page);
            let part = chunk.get_mut(..len).unwrap_or_default();
            match self.read(here, part) {
                Ok(()) => {}
                Err(error) if found.is_empty() => return Err(error),
                Err(_) => break,
            }
            match part.iter().position(|&byte| byte == 0) {
                Some(end) => {
                    found.extend_from_slice(part.get(..end).unwrap_or_default());
                    break;
                }
                None => found.extend_from_slice(part),
            }
        }
        Ok(bytes::text(&found))
    }
}
