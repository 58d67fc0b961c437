//! The second template: a machine whose scheduler is enabled and that has nothing of a test.

use std::time::{Duration, Instant};

use ktstr_replay::units::GuestNs;

use super::error::MachineError;
use super::interface::Machine;
use super::slots::Access;
use super::template::{Key, Store};

/// How long to wait for others that use templates with the same lock: the machine and its test wait meanwhile.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where a machine is saved once its scheduler is enabled.
#[derive(Debug)]
pub struct AttachedTemplate {
    store: Store,
    key: Key,
}

/// Why there is no template of a machine with its scheduler.
#[derive(Debug, thiserror::Error)]
pub enum NotSaved {
    /// Another run has made it meanwhile.
    #[error("another run has saved it meanwhile")]
    Exists,
    /// Others use the lock.
    #[error("other runs held its lock for {} ms", PATIENCE.as_millis())]
    Busy,
    /// It could not be written.
    #[error("writing it: {0}")]
    Io(#[from] std::io::Error),
    /// The machine could not give its state.
    #[error("saving the machine's state: {0}")]
    Machine(MachineError),
}

impl AttachedTemplate {
    pub(super) fn new(store: Store, key: Key) -> Self {
        Self { store, key }
    }

    /// Save `machine`, which is stopped at this time of its guest and stays so.
    ///
    /// # Errors
    /// [`NotSaved`]; the machine can go on all the same.
    pub fn save(&self, machine: &mut dyn Machine, guest_ns: GuestNs) -> Result<(), NotSaved> {
        let deadline = Instant::now() + PATIENCE;
        let Some(_lock) = self.store.lock(&self.key, Access::Exclusive, deadline, || {}, || false)? else {
            return Err(NotSaved::Busy);
        };
        match self.store.find(&self.key) {
            Ok(Some(_)) => return Err(NotSaved::Exists),
            Ok(None) => {}
            Err(_damaged) => self.store.remove(&self.key)?,
        }
        let state = machine.save().map_err(NotSaved::Machine)?;
        Ok(self.store.save(&self.key, &machine.ram(), &state, guest_ns)?)
    }
}
