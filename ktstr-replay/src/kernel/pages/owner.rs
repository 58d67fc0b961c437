//! Whose page it is, by the `mapping` of its `struct page`.

use std::collections::HashMap;

use super::structs::{AddressSpace, AnonVma, Inode};
use crate::kernel::KernelView;
use crate::memory::LeftOut;
use crate::units::KernelVirt;

/// Low bits of a mapping that say what it points to (`FOLIO_MAPPING_FLAGS`, `include/linux/page-flags.h`).
const FLAGS: u64 = 3;
/// With these bits it points to an `anon_vma` (`FOLIO_MAPPING_ANON`).
const ANON: u64 = 1;
/// Addresses below this one are no kernel pointers.
const LOWEST_POINTER: u64 = 0xff00_0000_0000_0000;
/// Most different mappings that are looked at; pages of others are kept.
const MAX_MAPPINGS: usize = 16_384;

/// Says what mappings are, each looked at once.
pub(super) struct Owners<'v, 'm> {
    view: &'v KernelView<'m>,
    known: HashMap<u64, Option<LeftOut>>,
}

impl<'v, 'm> Owners<'v, 'm> {
    pub(super) fn new(view: &'v KernelView<'m>) -> Self {
        Self { view, known: HashMap::new() }
    }

    /// Why a page with this mapping can be left out; `None` when it is the kernel's own, or in doubt.
    pub(super) fn of(&mut self, mapping: u64) -> Option<LeftOut> {
        if mapping < LOWEST_POINTER {
            return None;
        }
        if let Some(known) = self.known.get(&mapping) {
            return *known;
        }
        if self.known.len() >= MAX_MAPPINGS {
            return None;
        }
        let at = KernelVirt(mapping & !FLAGS);
        let found = match mapping & FLAGS {
            0 if self.is_of_a_file(at) => Some(LeftOut::PageCache),
            ANON if self.is_anonymous(at) => Some(LeftOut::User),
            _ => None,
        };
        self.known.insert(mapping, found);
        found
    }

    /// Whether there is an `address_space` at `at`: its inode points back to it, or has it inside.
    fn is_of_a_file(&self, at: KernelVirt) -> bool {
        let Ok(space) = self.view.mirror::<AddressSpace>(at) else { return false };
        let Ok(inode) = self.view.mirror::<Inode>(space.host) else { return false };
        inode.i_mapping == at || inode.i_data.0 == at
    }

    /// Whether there is an `anon_vma` at `at`: its root is a root.
    fn is_anonymous(&self, at: KernelVirt) -> bool {
        let Ok(vma) = self.view.mirror::<AnonVma>(at) else { return false };
        let root = self.view.mirror::<AnonVma>(vma.root);
        root.is_ok_and(|root| root.root == vma.root)
    }
}
