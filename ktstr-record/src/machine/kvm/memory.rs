//! The guest's memory as KVM has it: slots, which pages are read-only, and which were written.

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::ops::Range;
use std::os::fd::AsRawFd;

use kvm_bindings::{
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, KVM_MEM_LOG_DIRTY_PAGES,
    KVM_MEM_READONLY, KVMIO, kvm_clear_dirty_log, kvm_clear_dirty_log__bindgen_ty_1, kvm_enable_cap,
    kvm_userspace_memory_region,
};
use kvm_ioctls::VmFd;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iowr_nr;

use super::error::refused;
use crate::machine::error::MachineError;
use crate::machine::ram::{Mapped, PAGE_BYTES};

ioctl_iowr_nr!(KVM_CLEAR_DIRTY_LOG, KVMIO, 0xc0, kvm_clear_dirty_log);

/// The memory slots of a VM.
#[derive(Debug)]
pub(super) struct Slots {
    /// All of RAM.
    mapped: Vec<Mapped>,
    slots: Vec<Slot>,
    /// KVM keeps a page in the log until it is told to take it out.
    manual: bool,
    /// Pages that were in the log of a slot that is gone.
    carried: BTreeSet<u64>,
}

/// A part of RAM in which all pages are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    number: u32,
    part: Mapped,
    read_only: bool,
}

impl Slots {
    /// Give `vm` all of `mapped`, with its writes logged.
    ///
    /// # Safety
    /// What is mapped must stay so for as long as `vm` is.
    pub(super) unsafe fn new(vm: &VmFd, mapped: Vec<Mapped>) -> Result<Self, MachineError> {
        let protect = u64::from(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
        let cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
        let manual = vm.check_extension_raw(cap.into()) as u64 & protect != 0;
        if manual {
            let enable = kvm_enable_cap { cap, args: [protect, 0, 0, 0], ..kvm_enable_cap::default() };
            vm.enable_cap(&enable).map_err(refused("have the dirty log cleared by hand"))?;
        }
        let mut slots = Self { mapped, slots: Vec::new(), manual, carried: BTreeSet::new() };
        slots.lay_out(vm, &BTreeSet::new())?;
        Ok(slots)
    }

    /// Have just these pages read-only. No vCPU may run.
    pub(super) fn lay_out(&mut self, vm: &VmFd, read_only: &BTreeSet<u64>) -> Result<(), MachineError> {
        let wanted = parts(&self.mapped, read_only);
        for slot in self.slots.clone() {
            if wanted.contains(&(slot.part, slot.read_only)) {
                continue;
            }
            let logged = self.logged(vm, &slot)?;
            self.carried.extend(logged);
            let gone = Slot { part: Mapped { bytes: 0, ..slot.part }, ..slot };
            install(vm, &gone)?;
            // At once, so that this is what KVM has when a later step fails.
            self.slots.retain(|other| other.number != slot.number);
        }
        for (part, read_only) in wanted {
            if self.slots.iter().any(|slot| slot.part == part) {
                continue;
            }
            let free = (0..).find(|number| self.slots.iter().all(|slot| slot.number != *number));
            let slot = Slot { number: free.unwrap_or(u32::MAX), part, read_only };
            install(vm, &slot)?;
            self.slots.push(slot);
        }
        Ok(())
    }

    /// The pages that the guest has written since this was called last, ascending. No vCPU may run.
    pub(super) fn dirty(&mut self, vm: &VmFd) -> Result<BTreeSet<u64>, MachineError> {
        let mut pages = std::mem::take(&mut self.carried);
        for slot in &self.slots {
            pages.extend(self.logged(vm, slot)?);
        }
        Ok(pages)
    }

    /// The pages in the log of `slot`, which is empty then.
    fn logged(&self, vm: &VmFd, slot: &Slot) -> Result<Vec<u64>, MachineError> {
        if slot.read_only {
            return Ok(Vec::new());
        }
        let bytes = usize::try_from(slot.part.bytes).unwrap_or(usize::MAX);
        let mut bitmap = vm.get_dirty_log(slot.number, bytes).map_err(refused("read the dirty log"))?;
        let base = slot.part.base / PAGE_BYTES;
        let words = (0u64..).zip(&bitmap).filter(|(_, word)| **word != 0);
        let pages: Vec<u64> = words
            .flat_map(|(at, &word)| {
                let bits = (0..64).filter(move |bit| word >> bit & 1 == 1);
                bits.map(move |bit| base + at * 64 + bit)
            })
            .collect();
        if self.manual && !pages.is_empty() {
            let clear = kvm_clear_dirty_log {
                slot: slot.number,
                num_pages: u32::try_from(slot.part.bytes / PAGE_BYTES).unwrap_or(u32::MAX),
                first_page: 0,
                __bindgen_anon_1: kvm_clear_dirty_log__bindgen_ty_1 {
                    dirty_bitmap: bitmap.as_mut_ptr().cast::<c_void>(),
                },
            };
            // SAFETY: the bitmap has a bit for each page of the slot, as `get_dirty_log` made it so; KVM only reads it.
            let done = unsafe { ioctl_with_ref(&vm.as_raw_fd(), KVM_CLEAR_DIRTY_LOG(), &clear) };
            if done != 0 {
                return Err(refused("clear the dirty log")(kvm_ioctls::Error::last()));
            }
        }
        Ok(pages)
    }
}

/// RAM as parts that are read-only or not.
fn parts(mapped: &[Mapped], read_only: &BTreeSet<u64>) -> Vec<(Mapped, bool)> {
    let mut found = Vec::new();
    for part in mapped {
        let mut add = |range: Range<u64>, read_only: bool| {
            if !range.is_empty() {
                let host = part.host + (range.start - part.base);
                found.push((Mapped { base: range.start, bytes: range.end - range.start, host }, read_only));
            }
        };
        let end = part.base + part.bytes;
        let mut at = part.base;
        for page in read_only.range(part.base / PAGE_BYTES..end / PAGE_BYTES) {
            add(at..page * PAGE_BYTES, false);
            at = (page + 1) * PAGE_BYTES;
            add(page * PAGE_BYTES..at, true);
        }
        add(at..end, false);
    }
    found
}

/// Have KVM take over `slot`; one of no bytes is removed.
fn install(vm: &VmFd, slot: &Slot) -> Result<(), MachineError> {
    let region = kvm_userspace_memory_region {
        slot: slot.number,
        flags: if slot.read_only { KVM_MEM_READONLY } else { KVM_MEM_LOG_DIRTY_PAGES },
        guest_phys_addr: slot.part.base,
        memory_size: slot.part.bytes,
        userspace_addr: slot.part.host,
    };
    // SAFETY: whoever made the `Slots` promised that this stays mapped.
    unsafe { vm.set_user_memory_region(region) }.map_err(refused("give the VM a part of its memory"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::parts;
    use crate::machine::ram::Mapped;

    #[test]
    fn memory_is_cut_around_read_only_pages() {
        let low = Mapped { base: 0, bytes: 0x4000, host: 0x7000_0000 };
        let high = Mapped { base: 0x10_0000, bytes: 0x2000, host: 0x7100_0000 };
        let cut = |pages: &[u64]| {
            let found = parts(&[low, high], &pages.iter().copied().collect::<BTreeSet<_>>());
            found.iter().map(|(part, read_only)| (part.base, part.bytes, *read_only)).collect::<Vec<_>>()
        };
        assert_eq!(cut(&[]), [(0, 0x4000, false), (0x10_0000, 0x2000, false)]);
        assert_eq!(
            cut(&[0, 2, 3, 0x101, 0x200]),
            [
                (0, 0x1000, true),
                (0x1000, 0x1000, false),
                (0x2000, 0x1000, true),
                (0x3000, 0x1000, true),
                (0x10_0000, 0x1000, false),
                (0x10_1000, 0x1000, true),
            ]
        );
        let (second, _) = parts(&[low], &BTreeSet::from([0]))[1];
        assert_eq!(second.host, 0x7000_1000);
    }
}
