//! By which means a VM can be watched: found out by watching a tiny guest, because KVM accepts what it does not do.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use kvm_bindings::{KVM_CAP_SET_GUEST_DEBUG2, KVM_GUESTDBG_BLOCKIRQ};
use kvm_ioctls::Kvm;

use super::guests;
use super::tiny;
use super::vm::VmEvent;
use crate::machine::error::MachineError;
use crate::machine::interface::{Watch, WatchId};

/// How long a guest of a few instructions may take.
const BOUND: Duration = Duration::from_secs(5);

/// What KVM does with debug registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Means {
    /// They stop the vCPU after a store.
    pub(super) stores: bool,
    /// They stop the vCPU before an instruction.
    pub(super) instructions: bool,
    /// A single step can withhold interrupts.
    pub(super) block_irq: bool,
}

/// What this host's KVM does, once it was found out.
static KNOWN: OnceLock<Means> = OnceLock::new();

impl Means {
    /// What `kvm`, this host's, does: found out once in this process.
    pub(super) fn known(kvm: &Kvm) -> Result<Self, MachineError> {
        match KNOWN.get() {
            Some(known) => Ok(*known),
            None => Self::of(kvm).map(|found| *KNOWN.get_or_init(|| found)),
        }
    }

    /// What `kvm` does, for which two guests are run.
    pub(super) fn of(kvm: &Kvm) -> Result<Self, MachineError> {
        let told = kvm.check_extension_raw(KVM_CAP_SET_GUEST_DEBUG2.into());
        let block_irq = u32::try_from(told).unwrap_or(0) & KVM_GUESTDBG_BLOCKIRQ != 0;
        let all = Self { stores: true, instructions: true, block_irq };
        let fires = |code, watch| {
            let mut vm = tiny::vm(kvm, code, 1, all)?;
            vm.arm(WatchId(1), watch)?;
            vm.resume()?;
            Ok(matches!(vm.wait(BOUND)?, Some(VmEvent::Fired { .. })))
        };
        Ok(Self {
            stores: fires(guests::watch(), Watch::Write { at: guests::DATA, bytes: 8 })?,
            instructions: fires(guests::breakpoint(), Watch::Execute { at: guests::CODE + 64 })?,
            block_irq,
        })
    }
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stores = if self.stores { "debug registers" } else { "read-only pages" };
        let instructions = if self.instructions { "by debug registers" } else { "not at all" };
        let interrupts = if self.block_irq { "without" } else { "with" };
        write!(f, "stores by {stores}, instructions {instructions}, single steps {interrupts} interrupts")
    }
}
