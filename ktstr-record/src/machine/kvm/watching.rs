//! Arming and disarming watches of a VM.

use std::ops::Range;
use std::time::Duration;

use ktstr_replay::memory::Memory;
use ktstr_replay::units::{Cpu, GuestPhys};

use super::error::refused;
use super::vcpu::lock;
use super::vm::Vm;
use super::watch::Kind;
use crate::machine::error::MachineError;
use crate::machine::interface::{Watch, WatchId, WatchSupport};
use crate::machine::ram::PAGE_BYTES;

/// Exits and entries of all vCPUs.
const DISTURBED: Duration = Duration::from_micros(100);

impl Vm {
    /// Which watches it can have.
    pub(super) fn watch_support(&self) -> WatchSupport {
        WatchSupport {
            most: 16,
            write_bytes: PAGE_BYTES,
            execute: self.means.instructions,
            disturbed: DISTURBED,
        }
    }

    /// Stop the VM whenever `watch` fires. It must be stopped.
    pub(super) fn arm(&mut self, id: WatchId, watch: Watch) -> Result<(), MachineError> {
        if self.is_running() {
            return Err(MachineError::Running);
        }
        {
            let watches = lock(&self.shared.watches);
            self.watch_support().check(watches.count(), &watch)?;
            if watches.has(id) {
                return Err(MachineError::Unsupported { what: format!("arm watch {} twice", id.0) });
            }
        }
        let by_register = match watch {
            Watch::Execute { at } => {
                lock(&self.shared.watches).take_register(id, at, Kind::Execute)?;
                true
            }
            Watch::Write { at, bytes } => {
                self.means.stores
                    && matches!(bytes, 1 | 2 | 4 | 8)
                    && at % bytes == 0
                    && lock(&self.shared.watches).take_register(id, at, Kind::Write(bytes)).is_ok()
            }
        };
        if let (Watch::Write { at, bytes }, false) = (watch, by_register) {
            let ranges = self.physical(at, bytes)?;
            lock(&self.shared.watches).take_ranges(id, ranges);
        }
        let applied = self.apply_watches();
        if applied.is_err() {
            lock(&self.shared.watches).remove(id);
            // What it says has been said.
            let _ = self.apply_watches();
        }
        applied
    }

    /// Take the watch away; nothing happens where there is none. The VM must be stopped.
    pub(super) fn disarm(&mut self, id: WatchId) -> Result<(), MachineError> {
        if self.is_running() {
            return Err(MachineError::Running);
        }
        lock(&self.shared.watches).remove(id);
        self.forget(id);
        self.apply_watches()
    }

    /// Where in guest-physical memory the `bytes` bytes at `at` are.
    fn physical(&self, at: u64, bytes: u64) -> Result<Vec<Range<u64>>, MachineError> {
        let unmapped = || MachineError::Unsupported {
            what: format!("watch {at:#x}, where no vCPU has memory mapped at this moment"),
        };
        let end = at.checked_add(bytes).ok_or_else(unmapped)?;
        let (mut ranges, mut at) = (Vec::new(), at);
        while at < end {
            let part = (PAGE_BYTES - at % PAGE_BYTES).min(end - at);
            let physical = self.translate(at)?.ok_or_else(unmapped)?;
            ranges.push(physical..physical + part);
            at += part;
        }
        Ok(ranges)
    }

    /// The guest-physical address of `at`, by the first vCPU that has RAM there.
    fn translate(&self, at: u64) -> Result<Option<u64>, MachineError> {
        for cpu in 0..self.vcpus.len() {
            let found = self.ask(Cpu(cpu as u32), move |vcpu| {
                vcpu.fd().translate_gva(at).map_err(refused("translate an address of the guest"))
            })?;
            let physical = found.physical_address;
            if found.valid != 0 && self.shared.ram.read(GuestPhys(physical), &mut [0]).is_ok() {
                return Ok(Some(physical));
            }
        }
        Ok(None)
    }
}
