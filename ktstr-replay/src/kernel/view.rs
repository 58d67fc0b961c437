//! A kernel's memory at one moment.

use std::cell::OnceCell;
use std::ops::Deref;
use std::sync::Arc;

use super::maps::{ArenaPlace, find_arenas};
use super::mirror::{Mirror, find_slot};
use super::{Cpus, KernelError, KernelProfile, VirtualMemory};
use crate::btf::Types;
use crate::memory::Memory;
use crate::units::KernelVirt;

/// A kernel at one moment: what is known of it, over the memory of that moment.
pub struct KernelView<'m> {
    profile: &'m KernelProfile,
    memory: VirtualMemory<'m>,
    arenas: OnceCell<Vec<ArenaPlace>>,
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
        Self { profile, memory, arenas: OnceCell::new() }
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
    pub fn mirror<M: Mirror>(&self, at: KernelVirt) -> Result<M, KernelError> {
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
        Ok(find_slot(self.types(), self.profile.release(), struct_name, &[path])??.offset)
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

    /// The CPUs and the places of their per-CPU data.
    ///
    /// # Errors
    /// [`KernelError::NoSymbol`]; those of [`VirtualMemory::read`].
    pub fn cpus(&self) -> Result<Cpus, KernelError> {
        Cpus::read(self)
    }
}
