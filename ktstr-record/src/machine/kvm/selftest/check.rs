//! What the checks have in common.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use ktstr_replay::memory::{Memory, MemoryError};
use ktstr_replay::trace::record::GuestEnd;
use ktstr_replay::units::GuestPhys;

use crate::machine::error::MachineError;
use crate::machine::kvm::guests;
use crate::machine::kvm::vm::{Vm, VmEvent};
use crate::machine::ram::GuestRam;

/// How long a tiny guest may take to the next thing that it does: a fraction of a second on a calm host.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What was seen, or what is wrong.
pub(super) type Checked = Result<String, Failure>;

/// What is wrong.
#[derive(Debug)]
pub(super) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Failure {
    fn from(what: String) -> Self {
        Self(what)
    }
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
        Self(format!("{error}{cause}"))
    }
}

impl From<MemoryError> for Failure {
    fn from(error: MemoryError) -> Self {
        Self(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Fails with the text unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(Failure::from(format!($($text)+)));
        }
    };
}
pub(super) use ensure;

/// Let the guest go on until something happens.
pub(super) fn next(vm: &mut Vm) -> Result<VmEvent, Failure> {
    vm.resume()?;
    let event = vm.wait(PATIENCE)?;
    event.ok_or_else(|| format!("nothing happened within {} s", PATIENCE.as_secs()).into())
}

/// Let the guest go on; it must ring with `id`.
pub(super) fn rings(vm: &mut Vm, id: u32) -> Result<(), Failure> {
    match next(vm)? {
        VmEvent::Rang { id: rang, .. } if rang == id => Ok(()),
        other => Err(format!("expected ring {id:#x}, found {other:?}").into()),
    }
}

/// Let the guest go on to its end, which must be this; the detail of it.
pub(super) fn ends(vm: &mut Vm, end: GuestEnd) -> Result<String, Failure> {
    match next(vm)? {
        VmEvent::Ended { end: ended, detail } if ended == end => Ok(detail),
        other => Err(format!("expected {end:?}, found {other:?}").into()),
    }
}

/// The word at `offset` of the guest's data.
pub(super) fn word(vm: &Vm, offset: u64) -> Result<u64, Failure> {
    word_at(&vm.shared.ram, guests::DATA + offset)
}

/// The word at this address of a guest's memory.
pub(super) fn word_at(ram: &GuestRam, at: u64) -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    ram.read(GuestPhys(at), &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
