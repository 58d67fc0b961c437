//! What is known of one kernel for as long as it runs.

use std::any::{Any, TypeId as RustType};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::mirror::Mirror;
use super::proven::Followed;
use super::{KernelError, Levels, PageTable, Symbols, VirtualMemory, Vmcoreinfo};
use crate::btf::Types;
use crate::memory::Memory;
use crate::trace::record::{Blob, BlobRole};
use crate::trace::{Trace, TraceError};
use crate::units::{GuestPhys, KernelVirt};

/// Where the kernel's image is mapped without KASLR (`__START_KERNEL_map`, `arch/x86/include/asm/page_64_types.h`).
const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// Largest `.BTF` section that is read, in bytes.
const MAX_BTF_BYTES: u64 = 64 << 20;

/// Page table, symbols and types of one boot of a kernel.
///
/// ```
/// use ktstr_replay::kernel::KernelProfile;
///
/// # let profile = ktstr_replay::testing::toy_kernel(0).0.profile();
/// // As a trace keeps it, and as it is read from there.
/// let [info, symbols, types] = profile.to_blobs();
/// let again = KernelProfile::from_blobs(&info.bytes, symbols.bytes, types.bytes)?;
/// assert_eq!(again.release(), "6.99-test");
/// assert_eq!(again.symbol("init_task"), profile.symbol("init_task"));
/// # Ok::<(), ktstr_replay::kernel::KernelError>(())
/// ```
pub struct KernelProfile {
    info: Vmcoreinfo,
    table: PageTable,
    symbols: Symbols,
    types: Arc<Types>,
    /// Layouts of mirrors, by the mirror's Rust type.
    layouts: RwLock<HashMap<RustType, Arc<dyn Any + Send + Sync>>>,
    /// What following BPF programs found.
    followed: Followed,
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

    /// As [`KernelProfile::from_memory`], of the kernel that describes itself so.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(crate) fn from_vmcoreinfo(memory: &dyn Memory, info: Vmcoreinfo) -> Result<Self, KernelError> {
        let table = page_table(memory, &info)?;
        let kernel = VirtualMemory::new(memory, table);
        let symbols = Symbols::from_memory(&kernel, &info)?;
        let types = Arc::new(Types::parse(read_btf(&kernel, &symbols, info.release())?)?);
        Ok(Self::new(info, table, symbols, types))
    }

    fn new(info: Vmcoreinfo, table: PageTable, symbols: Symbols, types: Arc<Types>) -> Self {
        Self { info, table, symbols, types, layouts: RwLock::default(), followed: Followed::default() }
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
        symbols: impl Into<Bytes>,
        btf: impl Into<Bytes>,
    ) -> Result<Self, KernelError> {
        let info = Vmcoreinfo::parse(vmcoreinfo)?;
        let table = stated_page_table(&info)?;
        Ok(Self::new(info, table, Symbols::decode(symbols)?, Arc::new(Types::parse(btf)?)))
    }

    /// The profile of the kernel that a trace was recorded from.
    ///
    /// # Errors
    /// [`TraceError::Missing`] when the trace has none, as when no capture was taken; [`TraceError::Damaged`];
    /// those of [`KernelProfile::from_blobs`].
    pub fn of_trace(trace: &Trace) -> Result<Self, ProfileError> {
        let blob = |role: BlobRole, what: &str| {
            let found = trace.blobs(role);
            // Each is written once; of several, the last is of the kernel that ran last.
            let id = found.last().ok_or_else(|| TraceError::Missing {
                what: format!("the kernel's {what}"),
                have: "no such blob".to_owned(),
            })?;
            trace.blob(id)
        };
        let info = Vmcoreinfo::parse(&blob(BlobRole::Vmcoreinfo, "vmcoreinfo")?)?;
        let table = stated_page_table(&info)?;
        // Both are megabytes to decompress and a hundred thousand names to index, so they are read side by side.
        let read_symbols = || -> Result<Symbols, ProfileError> {
            let symbols =
                Symbols::decode(blob(BlobRole::KernelSymbols, "symbols")?).map_err(KernelError::from)?;
            symbols.name_index();
            Ok(symbols)
        };
        let read_types = || -> Result<Types, ProfileError> {
            let types = Types::parse(blob(BlobRole::KernelBtf, "types")?).map_err(KernelError::from)?;
            types.name_index();
            Ok(types)
        };
        let (symbols, types) = std::thread::scope(|scope| {
            let symbols = scope.spawn(read_symbols);
            let types = read_types();
            let symbols = symbols.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
            (symbols, types)
        });
        Ok(Self::new(info, table, symbols?, Arc::new(types?)))
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

    /// What to add to a guest-physical address in the kernel's image for its virtual address, modulo 2^64.
    #[must_use]
    pub(crate) fn image_base(&self) -> Option<u64> {
        Some(START_KERNEL_MAP.wrapping_sub(self.info.number("phys_base")?.cast_unsigned()))
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

    /// What following BPF programs found at the checkpoints that were looked at.
    pub(super) fn followed(&self) -> &Followed {
        &self.followed
    }

    /// The layout of a mirror on this kernel; found once.
    ///
    /// # Errors
    /// Those of [`Mirror::layout`].
    pub(super) fn layout<M: Mirror>(&self) -> Result<Arc<M::Layout>, KernelError> {
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

/// Why a trace has no usable profile of its kernel.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The trace does not have its parts.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// They cannot be used.
    #[error(transparent)]
    Kernel(#[from] KernelError),
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
    if !root.is_multiple_of(4096) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::KernelView;
    use crate::kernel::mirror::{Text, mirror};
    use crate::kernel::{FieldMissing, SymbolsError};
    use crate::testing::memory::Ram;
    use crate::testing::{DIRECT_MAP, Guest, SEEDS};

    /// How a kernel writes down the addresses of its symbols.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Form {
        PcRelative,
        Relative,
        AbsolutePerCpu,
    }

    /// A guest whose kernel has symbols `init_top_pgt`, `__start_BTF`, `__stop_BTF` and `per_cpu_thing` in kallsyms,
    /// and where the offsets of their addresses are.
    fn booted(form: Form) -> (Guest, u64) {
        let mut guest = Guest::of(0, "");
        guest.types().unsigned("u32", 4);
        let btf = guest.types().blob();
        let btf_at = guest.put(&btf);
        let offsets_at = guest.alloc(16);
        let names = ["Tinit_top_pgt", "D__start_BTF", "D__stop_BTF", "Dper_cpu_thing"];
        // All within the reach of 32 bits: the page table by its address in the direct map, which vmcoreinfo gives too.
        let addresses = [DIRECT_MAP + 0x1000, btf_at, btf_at + btf.len() as u64, DIRECT_MAP + 0x40];
        let base = DIRECT_MAP;
        let mut info = Guest::vmcoreinfo();
        for (i, address) in addresses.into_iter().enumerate() {
            let offset = match form {
                Form::PcRelative => address.wrapping_sub(offsets_at + i as u64 * 4) as u32,
                Form::Relative => (address - base) as u32,
                Form::AbsolutePerCpu if i == 3 => 0x40,
                Form::AbsolutePerCpu => (base.wrapping_sub(1).wrapping_sub(address)) as u32,
            };
            guest.write_u32(offsets_at + i as u64 * 4, offset);
        }
        let mut compressed = Vec::new();
        for name in names {
            compressed.push(name.len() as u8);
            compressed.extend_from_slice(name.as_bytes());
        }
        // Every token is the one character of its number.
        let table: Vec<u8> = (0..=255u8).flat_map(|token| [token.max(1), 0]).collect();
        let index: Vec<u8> = (0..256u16).flat_map(|token| (token * 2).to_le_bytes()).collect();
        let count = guest.put(&4u32.to_le_bytes());
        let (compressed, table, index) = (guest.put(&compressed), guest.put(&table), guest.put(&index));
        info = info.replace("ffffffff80001000", &format!("{:x}", DIRECT_MAP + 0x1000));
        info = info.replace(
            "phys_base)=0",
            &format!("phys_base)={}", 0xffff_ffff_8000_0000u64.wrapping_sub(DIRECT_MAP)),
        );
        let mut tables = vec![
            ("kallsyms_names", compressed),
            ("kallsyms_num_syms", count),
            ("kallsyms_token_table", table),
            ("kallsyms_token_index", index),
            ("kallsyms_offsets", offsets_at),
        ];
        if form != Form::PcRelative {
            let at = guest.put(&base.to_le_bytes());
            tables.push(("kallsyms_relative_base", at));
        }
        for (name, at) in tables {
            info.push_str(&format!("SYMBOL({name})={at:x}\n"));
        }
        let page = guest.alloc(0x2000).next_multiple_of(0x1000);
        guest.write(page, info.as_bytes());
        (guest, offsets_at)
    }

    #[test]
    fn a_kernel_is_found_whichever_way_it_writes_its_symbols() {
        for form in [Form::PcRelative, Form::Relative, Form::AbsolutePerCpu] {
            let (guest, _) = booted(form);
            let profile =
                KernelProfile::from_memory(&guest.ram).unwrap_or_else(|error| panic!("{form:?}: {error}"));
            assert_eq!(profile.release(), "6.99-test");
            assert_eq!(profile.types().count(), 2, "{form:?}");
            let thing = if form == Form::AbsolutePerCpu { 0x40 } else { DIRECT_MAP + 0x40 };
            assert_eq!(profile.symbol("per_cpu_thing"), Ok(KernelVirt(thing)), "{form:?}");
            assert!(matches!(profile.symbol("nope"), Err(KernelError::NoSymbol { .. })));

            let [info, symbols, btf] = profile.to_blobs();
            let again = KernelProfile::from_blobs(&info.bytes, symbols.bytes, btf.bytes).unwrap();
            assert_eq!((again.symbols(), again.page_table()), (profile.symbols(), profile.page_table()));
        }
    }

    #[test]
    fn symbols_that_contradict_vmcoreinfo_are_refused() {
        let (mut guest, offsets) = booted(Form::Relative);
        guest.write_u32(offsets, 0x2000);
        match KernelProfile::from_memory(&guest.ram) {
            Err(KernelError::Symbols(SymbolsError::Disagree { decoded, stated })) => {
                assert_eq!((decoded, stated), (Some(DIRECT_MAP + 0x2000), DIRECT_MAP + 0x1000));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_page_table_that_is_elsewhere_than_stated_is_refused() {
        let guest = Guest::of(0, "");
        let mut ram = guest.ram;
        let info = Guest::vmcoreinfo().replace("phys_base)=0", "phys_base)=4096");
        ram.write(0x8_0000, info.as_bytes());
        assert!(matches!(
            KernelProfile::from_memory(&ram),
            Err(KernelError::BadVmcoreinfo(_) | KernelError::NotMapped { .. })
        ));
    }

    #[test]
    fn memory_without_a_kernel_is_told_from_a_bad_one() {
        let ram = Ram::new(64 << 10);
        assert!(matches!(KernelProfile::from_memory(&ram), Err(KernelError::NoVmcoreinfo { pages: 16 })));
    }

    mirror! {
        /// A struct with every sort of field.
        struct Mixed, MixedLayout = "mixed" {
            wide: u64,
            minus: i64 = "absent" | "wrapped",
            bits: i64,
            name: Text,
            gone: Result<u64, FieldMissing> = "gone" | "gone_too",
        }
    }

    #[test]
    fn a_mirror_takes_width_sign_and_place_from_the_types() {
        for seed in SEEDS {
            let mut guest = Guest::of(
                seed,
                "atomic_t { counter: int }
                 wrapper { inner: atomic_t }
                 mixed { name: char[4], wrapped: wrapper, wide: u16, bits: int:5 }",
            );
            let at = guest.add("mixed");
            guest.text(at, "name", "abcd");
            guest.set_signed(at, "wrapped", -2);
            guest.set(at, "wide", 0x1234u16);
            guest.set_signed(at, "bits", -15);
            let profile = guest.profile();
            let view = KernelView::new(&profile, &guest.ram);
            let mixed: Mixed = view.mirror(KernelVirt(at.at)).unwrap();
            assert_eq!(
                (mixed.wide, mixed.minus, mixed.bits, mixed.name.0.as_str()),
                (0x1234, -2, -15, "abcd")
            );
            assert_eq!(
                mixed.gone.unwrap_err().to_string(),
                "`struct mixed` of kernel 6.99-test has no field `gone` or `gone_too`"
            );
        }
    }

    #[test]
    fn a_read_crosses_pages_and_a_text_stops_before_what_is_not_mapped() {
        let mut guest = Guest::of(0, "");
        guest.write(DIRECT_MAP + 0x2_0ffe, b"1234");
        // The last page of RAM, of which only the beginning is text.
        guest.write(DIRECT_MAP + 0x3f_fffc, b"tail");
        let profile = guest.profile();
        let view = KernelView::new(&profile, &guest.ram);
        assert_eq!(view.bytes(KernelVirt(DIRECT_MAP + 0x2_0ffe), 4).unwrap(), b"1234");
        assert_eq!(view.text(KernelVirt(DIRECT_MAP + 0x3f_fffc), 100).unwrap(), "tail");
        assert_eq!(view.text(KernelVirt(DIRECT_MAP + 0x2_0ffe), 3).unwrap(), "123");
        assert!(view.text(KernelVirt(0x1000), 100).is_err());
        assert!(view.bytes(KernelVirt(DIRECT_MAP), usize::MAX).is_err());
    }
}
