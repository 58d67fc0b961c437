//! What KVM refused, as an error of the machine.

use std::io;

use crate::machine::error::MachineError;

/// Makes a [`MachineError`] of an error of KVM, with what was tried.
pub(super) fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> MachineError {
    move |error| MachineError::Io { what: what.into(), source: io::Error::from(error) }
}

/// The same of an error of the operating system.
pub(super) fn failed(what: &'static str) -> impl Fn(io::Error) -> MachineError {
    move |source| MachineError::Io { what: what.into(), source }
}
