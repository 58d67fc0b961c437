//! A kernel's memory at one moment, and its CPUs.

use std::cell::OnceCell;
use std::ops::Deref;
use std::sync::Arc;

use crate::btf::Types;
use crate::kernel::maps::{ArenaPlace, find_arenas};
use crate::kernel::mirror::{Mirror, find_field};
use crate::kernel::proven::ProvenTypes;
use crate::kernel::{KernelError, KernelProfile, VirtualMemory, bytes};
use crate::memory::Memory;
use crate::units::{Cpu, KernelVirt};

/// A kernel at one moment: what is known of it, over the memory of that moment.
///
/// ```
/// use ktstr_replay::kernel::KernelView;
/// use ktstr_replay::kernel::dsq::read_dsqs;
///
/// # let (guest, _) = ktstr_replay::testing::toy_kernel(0);
/// # let (profile, memory) = (guest.profile(), guest.ram);
/// let view = KernelView::new(&profile, &memory);
/// assert_eq!(view.u64(view.symbol("jiffies_64")?)?, 1000);
/// let queue = read_dsqs(&view)?.user(7).map(|queue| queue.tasks.len());
/// assert_eq!(queue, Some(2));
/// # Ok::<(), ktstr_replay::kernel::KernelError>(())
/// ```
pub struct KernelView<'m> {
    profile: &'m KernelProfile,
    memory: VirtualMemory<'m>,
    arenas: OnceCell<Vec<ArenaPlace>>,
    proven: OnceCell<Result<ProvenTypes, KernelError>>,
}

impl<'m> Deref for KernelView<'m> {
    type Target = VirtualMemory<'m>;

    fn deref(&self) -> &VirtualMemory<'m> {
        &self.memory
    }
}

impl<'m> KernelView<'m> {
    /// The kernel of `profile` in `memory`. Make a new view for each moment: translations are kept.
    #[must_use]
    pub fn new(profile: &'m KernelProfile, memory: &'m dyn Memory) -> Self {
        let memory = VirtualMemory::new(memory, *profile.page_table());
        let types_at = profile.symbols().address("__start_BTF");
        let memory = memory.with_types(types_at, profile.types().bytes());
        Self { profile, memory, arenas: OnceCell::new(), proven: OnceCell::new() }
    }

    /// What is known of the kernel.
    #[must_use]
    pub fn profile(&self) -> &'m KernelProfile {
        self.profile
    }

    /// The kernel's types.
    #[must_use]
    pub fn types(&self) -> &'m Arc<Types> {
        self.profile.types()
    }

    /// The struct at `at`, as its mirror.
    ///
    /// # Errors
    /// [`KernelError::Field`] when this kernel lacks a mandatory field; those of [`VirtualMemory::read`].
    pub(super) fn mirror<M: Mirror>(&self, at: KernelVirt) -> Result<M, KernelError> {
        M::read(&*self.profile.layout::<M>()?, self, at)
    }

    /// The address of a symbol.
    ///
    /// # Errors
    /// [`KernelError::NoSymbol`].
    pub fn symbol(&self, name: &str) -> Result<KernelVirt, KernelError> {
        self.profile.symbol(name)
    }

    /// Distance in bytes of a field, by dotted path, from the beginning of its struct; what `container_of` needs.
    ///
    /// # Errors
    /// [`KernelError::Field`] when this kernel lacks it; [`KernelError::Types`].
    pub fn offset_of(&self, struct_name: &str, path: &str) -> Result<u64, KernelError> {
        Ok(find_field(self.types(), self.profile.release(), struct_name, &[path])??.offset)
    }

    /// The places of all arenas, looked up once: a map may hold thousands of pointers into them.
    ///
    /// # Errors
    /// As [`find_arenas`].
    pub(super) fn arenas(&self) -> Result<&[ArenaPlace], KernelError> {
        if let Some(arenas) = self.arenas.get() {
            return Ok(arenas);
        }
        let found = find_arenas(self)?;
        Ok(self.arenas.get_or_init(|| found))
    }

    /// What the programs prove of words in maps, found out once, which takes a while.
    ///
    /// # Errors
    /// When the table of programs cannot be read.
    pub fn proven(&self) -> Result<&ProvenTypes, KernelError> {
        // An error is kept, too: this is asked for each word of each entry of a map.
        self.proven.get_or_init(|| ProvenTypes::read(self)).as_ref().map_err(Clone::clone)
    }

    /// The CPUs and the places of their per-CPU data.
    ///
    /// # Errors
    /// [`KernelError::NoSymbol`]; those of [`VirtualMemory::read`].
    pub fn cpus(&self) -> Result<Cpus, KernelError> {
        Cpus::read(self)
    }
}

/// Most CPUs that are looked at: `NR_CPUS` of distribution kernels.
const MAX_CPUS: u32 = 8192;

/// The CPUs of a kernel. Source: `include/linux/cpumask.h`, `arch/x86/kernel/setup_percpu.c`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus {
    possible: Vec<Cpu>,
    online: Vec<Cpu>,
    /// By CPU number.
    offsets: Vec<u64>,
}

impl Cpus {
    fn read(view: &KernelView<'_>) -> Result<Self, KernelError> {
        let ids = nr_cpu_ids(view)?;
        let offsets = view.bytes(view.symbol("__per_cpu_offset")?, ids as usize * 8)?;
        Ok(Self {
            possible: mask(view, view.symbol("__cpu_possible_mask")?, ids)?,
            online: mask(view, view.symbol("__cpu_online_mask")?, ids)?,
            offsets: bytes::u64s(&offsets).collect(),
        })
    }

    /// CPUs that have per-CPU data, ascending.
    #[must_use]
    pub fn possible(&self) -> &[Cpu] {
        &self.possible
    }

    /// CPUs that run, ascending.
    #[must_use]
    pub fn online(&self) -> &[Cpu] {
        &self.online
    }

    /// Whether `cpu` runs.
    #[must_use]
    pub fn is_online(&self, cpu: Cpu) -> bool {
        self.online.binary_search(&cpu).is_ok()
    }

    /// Where CPU `cpu` has its copy of the per-CPU object at `at`.
    #[must_use]
    pub fn place(&self, at: KernelVirt, cpu: Cpu) -> Option<KernelVirt> {
        Some(KernelVirt(at.0.wrapping_add(*self.offsets.get(cpu.0 as usize)?)))
    }
}

/// How many CPU numbers there are: one more than the greatest that is possible.
///
/// # Errors
/// [`KernelError::Broken`] when no kernel has as many; those of reading a symbol.
pub(super) fn nr_cpu_ids(view: &KernelView<'_>) -> Result<u32, KernelError> {
    let at = view.symbol("nr_cpu_ids")?;
    match view.u32(at)? {
        ids @ 1..=MAX_CPUS => Ok(ids),
        ids => Err(KernelError::Broken { what: "nr_cpu_ids", at, why: format!("it claims {ids} CPUs") }),
    }
}

/// The numbers below `ids` whose bits are set in the `struct cpumask` at `at`.
///
/// # Errors
/// Those of [`VirtualMemory::read`].
pub(super) fn mask(view: &KernelView<'_>, at: KernelVirt, ids: u32) -> Result<Vec<Cpu>, KernelError> {
    let words = view.bytes(at, (ids as usize).div_ceil(64) * 8)?;
    let words: Vec<u64> = bytes::u64s(&words).collect();
    let set = |cpu: &u32| words.get((cpu / 64) as usize).is_some_and(|word| word >> (cpu % 64) & 1 == 1);
    Ok((0..ids).filter(set).map(Cpu).collect())
}
