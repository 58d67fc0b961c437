//! What is known of one kernel for as long as it runs.

use std::any::{Any, TypeId as RustType};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, RwLock};

use xxhash_rust::xxh3::xxh3_128;

use super::mirror::Mirror;
use super::symbols::read_kallsyms;
use super::{KernelError, Levels, PageTable, Symbols, VirtualMemory, Vmcoreinfo};
use crate::btf::Types;
use crate::memory::Memory;
use crate::trace::record::{Blob, BlobRole};
use crate::units::{GuestPhys, KernelVirt};

/// Where the kernel's image is mapped without KASLR (`__START_KERNEL_map`, `arch/x86/include/asm/page_64_types.h`).
const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// Largest `.BTF` section that is read, in bytes.
const MAX_BTF_BYTES: u64 = 64 << 20;

/// Page table, symbols and types of one boot of a kernel.
pub struct KernelProfile {
    info: Vmcoreinfo,
    table: PageTable,
    symbols: Symbols,
    types: Arc<Types>,
    /// Layouts of mirrors, by the mirror's Rust type.
    layouts: RwLock<HashMap<RustType, Arc<dyn Any + Send + Sync>>>,
}

impl fmt::Debug for KernelProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KernelProfile({}, {} symbols, {:?})", self.release(), self.symbols.len(), self.types)
    }
}

impl KernelProfile {
    /// Find the kernel in guest memory: vmcoreinfo, page table, symbols and types. The guest does not help.
    ///
    /// # Errors
    /// [`KernelError::NoVmcoreinfo`] before the kernel has come up; else why what was found cannot be used, for the
    /// last of several candidates.
    pub fn from_memory(memory: &dyn Memory) -> Result<Self, KernelError> {
        let (candidates, pages) = Vmcoreinfo::candidates(memory);
        let mut last = KernelError::NoVmcoreinfo { pages };
        for info in candidates {
            match Self::from_vmcoreinfo(memory, info) {
                Ok(profile) => return Ok(profile),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn from_vmcoreinfo(memory: &dyn Memory, info: Vmcoreinfo) -> Result<Self, KernelError> {
        let table = page_table(memory, &info)?;
        let kernel = VirtualMemory::new(memory, table);
        let symbols = read_kallsyms(&kernel, &info)?;
        let types = Arc::new(Types::parse(read_btf(&kernel, &symbols, info.release())?)?);
        Ok(Self::new(info, table, symbols, types))
    }

    fn new(info: Vmcoreinfo, table: PageTable, symbols: Symbols, types: Arc<Types>) -> Self {
        Self { info, table, symbols, types, layouts: RwLock::default() }
    }

    /// The profile as blobs for a trace: vmcoreinfo, symbols and types.
    #[must_use]
    pub fn to_blobs(&self) -> [Blob; 3] {
        [
            blob(BlobRole::Vmcoreinfo, self.info.text().as_bytes().to_vec()),
            blob(BlobRole::KernelSymbols, self.symbols.encode()),
            blob(BlobRole::KernelBtf, self.types.bytes().to_vec()),
        ]
    }

    /// The profile of a trace, out of the bytes of its three blobs.
    ///
    /// # Errors
    /// [`KernelError::BadVmcoreinfo`], [`KernelError::Symbols`], [`KernelError::Types`].
    pub fn from_blobs(
        vmcoreinfo: &[u8],
        symbols: &[u8],
        btf: impl Into<Arc<[u8]>>,
    ) -> Result<Self, KernelError> {
        let info = Vmcoreinfo::parse(vmcoreinfo)?;
        let table = stated_page_table(&info)?;
        Ok(Self::new(info, table, Symbols::decode(symbols)?, Arc::new(Types::parse(btf)?)))
    }

    /// `uname -r`.
    #[must_use]
    pub fn release(&self) -> &str {
        self.info.release()
    }

    /// What the kernel says of itself.
    #[must_use]
    pub fn vmcoreinfo(&self) -> &Vmcoreinfo {
        &self.info
    }

    /// The page table of the kernel's own mappings.
    #[must_use]
    pub fn page_table(&self) -> &PageTable {
        &self.table
    }

    /// The symbols, at the addresses of this boot.
    #[must_use]
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// The types.
    #[must_use]
    pub fn types(&self) -> &Arc<Types> {
        &self.types
    }

    /// The address of a symbol.
    ///
    /// # Errors
    /// [`KernelError::NoSymbol`].
    pub fn symbol(&self, name: &str) -> Result<KernelVirt, KernelError> {
        self.symbols.address(name).ok_or_else(|| KernelError::NoSymbol {
            name: name.to_owned(),
            release: self.release().to_owned(),
        })
    }

    /// The layout of a mirror on this kernel; found once.
    ///
    /// # Errors
    /// Those of [`Mirror::layout`].
    pub fn layout<M: Mirror>(&self) -> Result<Arc<M::Layout>, KernelError> {
        let key = RustType::of::<M>();
        // A poisoned lock only means that another thread panicked between two whole layouts.
        let kept = self.layouts.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(&key).cloned();
        if let Some(layout) = kept.and_then(|layout| layout.downcast::<M::Layout>().ok()) {
            return Ok(layout);
        }
        let layout = Arc::new(M::layout(&self.types, self.release())?);
        let mut layouts = self.layouts.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        layouts.insert(key, layout.clone());
        Ok(layout)
    }
}

/// A blob record of `bytes`.
pub(super) fn blob(role: BlobRole, bytes: Vec<u8>) -> Blob {
    Blob { id: xxh3_128(&bytes).to_le_bytes(), role, bytes }
}

/// The page table that vmcoreinfo states.
fn stated_page_table(info: &Vmcoreinfo) -> Result<PageTable, KernelError> {
    let missing = |what: &str| KernelError::BadVmcoreinfo(format!("it does not state {what}"));
    let top = info.symbol("init_top_pgt").ok_or_else(|| missing("init_top_pgt"))?;
    let phys_base = info.number("phys_base").ok_or_else(|| missing("phys_base"))?;
    let root = top.0.wrapping_sub(START_KERNEL_MAP).wrapping_add_signed(phys_base);
    let levels =
        if info.number("pgtable_l5_enabled").unwrap_or(0) == 1 { Levels::Five } else { Levels::Four };
    if root % 4096 != 0 {
        return Err(KernelError::BadVmcoreinfo(format!("its page table would be at {root:#x}")));
    }
    Ok(PageTable { root: GuestPhys(root), levels })
}

/// The page table that vmcoreinfo states, if it maps itself to where it is.
fn page_table(memory: &dyn Memory, info: &Vmcoreinfo) -> Result<PageTable, KernelError> {
    let table = stated_page_table(info)?;
    let top = info.symbol("init_top_pgt").unwrap_or(KernelVirt(0));
    let (found, _) = table.translate(memory, top)?;
    if found == table.root {
        return Ok(table);
    }
    let stated = table.root;
    Err(KernelError::BadVmcoreinfo(format!(
        "its page table is said to be at {stated}, and maps itself to {found}"
    )))
}

/// The kernel's `.BTF` section.
fn read_btf(kernel: &VirtualMemory<'_>, symbols: &Symbols, release: &str) -> Result<Vec<u8>, KernelError> {
    let bound = |name: &str| {
        symbols
            .address(name)
            .ok_or_else(|| KernelError::NoSymbol { name: name.to_owned(), release: release.to_owned() })
    };
    let (start, stop) = (bound("__start_BTF")?, bound("__stop_BTF")?);
    let len = stop.0.checked_sub(start.0).filter(|&len| len <= MAX_BTF_BYTES);
    let len = len.ok_or_else(|| KernelError::Broken {
        what: ".BTF",
        at: start,
        why: format!("it would end at {stop}"),
    })?;
    kernel.bytes(start, len as usize)
}
