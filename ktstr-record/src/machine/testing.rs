//! A machine for tests of what arms watches: it has room for so many, and keeps which are armed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ktstr_replay::trace::record::VcpuRegs;

use super::{
    CpuUse, GuestRam, Machine, MachineError, MachineEvent, StaleBreakpoint, Watch, WatchId, WatchSupport,
};

/// A machine that does nothing but have watches.
pub(crate) struct Roomy {
    most: usize,
    armed: BTreeMap<WatchId, Watch>,
}

impl Roomy {
    /// One that can have so many.
    pub(crate) fn with_room(most: usize) -> Self {
        Self { most, armed: BTreeMap::new() }
    }

    /// The numbers of what is armed, ascending.
    pub(crate) fn armed(&self) -> Vec<u32> {
        self.armed.keys().map(|id| id.0).collect()
    }
}

impl Machine for Roomy {
    fn ram(&self) -> Arc<GuestRam> {
        Arc::new(GuestRam::new(&[4096]).expect("a page"))
    }

    fn pause(&mut self) -> Result<Duration, MachineError> {
        Ok(Duration::ZERO)
    }

    fn resume(&mut self) -> Result<Duration, MachineError> {
        Ok(Duration::ZERO)
    }

    fn registers(&mut self) -> Result<Vec<VcpuRegs>, MachineError> {
        Ok(Vec::new())
    }

    fn wait_event(&mut self, _timeout: Duration) -> Option<MachineEvent> {
        None
    }

    fn tend(&mut self) {}

    fn watch_support(&self) -> WatchSupport {
        WatchSupport { most: self.most, write_bytes: 8, execute: true, disturbed: Duration::ZERO }
    }

    fn arm(&mut self, id: WatchId, watch: Watch) -> Result<(), MachineError> {
        self.watch_support().check(self.armed.len(), &watch)?;
        assert!(self.armed.insert(id, watch).is_none(), "{id:?} was armed already");
        Ok(())
    }

    fn disarm(&mut self, id: WatchId) -> Result<(), MachineError> {
        self.armed.remove(&id);
        Ok(())
    }

    fn cpu_use(&self) -> Option<CpuUse> {
        None
    }

    fn stale_breakpoints(&mut self) -> Vec<StaleBreakpoint> {
        Vec::new()
    }

    fn console(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn console_text(&self) -> String {
        String::new()
    }

    fn save(&mut self) -> Result<Vec<u8>, MachineError> {
        Ok(Vec::new())
    }

    fn kill(&mut self) {}
}
