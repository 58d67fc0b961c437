//! A machine for tests of what works with one, without a guest: it has room for so many watches and keeps which are armed, or mends stale
//! breakpoints and ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ktstr_replay::trace::record::{GuestEnd, VcpuRegs};
use ktstr_replay::units::{Cpu, KernelVirt};

use super::{
    CpuUse, GuestRam, Machine, MachineError, MachineEvent, StaleBreakpoint, Watch, WatchId, WatchSupport,
};

/// A machine that runs nothing.
pub(crate) struct Stub {
    ram: Arc<GuestRam>,
    most: usize,
    armed: BTreeMap<WatchId, Watch>,
    /// What it has mended and not told of, if it mends: a breakpoint before each of its ends, of which the first is found by a wait, the
    /// other by none.
    mended: Option<Vec<StaleBreakpoint>>,
}

impl Stub {
    /// One that can have so many watches, and never ends.
    pub(crate) fn with_room(most: usize) -> Self {
        let ram = Arc::new(GuestRam::new(&[4096]).expect("a page"));
        Self { ram, most, armed: BTreeMap::new(), mended: None }
    }

    /// One that mends, and ends at once.
    pub(crate) fn that_mends(ram: Arc<GuestRam>) -> Self {
        Self { ram, most: 0, armed: BTreeMap::new(), mended: Some(Vec::new()) }
    }

    /// The numbers of what is armed, ascending.
    pub(crate) fn armed(&self) -> Vec<u32> {
        self.armed.keys().map(|id| id.0).collect()
    }

    /// Whether it has mended the breakpoint there, as one that mends does.
    fn mends(&mut self, at: u64) -> bool {
        let stale = StaleBreakpoint { vcpu: Cpu(1), at: KernelVirt(at), replaced: true };
        self.mended.as_mut().map(|mended| mended.push(stale)).is_some()
    }
}

impl Machine for Stub {
    fn ram(&self) -> Arc<GuestRam> {
        Arc::clone(&self.ram)
    }

    fn pause(&mut self) -> Result<Duration, MachineError> {
        self.mends(0xffff_ffff_8100_0002);
        Ok(Duration::ZERO)
    }

    fn resume(&mut self) -> Result<Duration, MachineError> {
        Ok(Duration::ZERO)
    }

    fn registers(&mut self) -> Result<Vec<VcpuRegs>, MachineError> {
        Ok(Vec::new())
    }

    fn wait_event(&mut self, _timeout: Duration) -> Option<MachineEvent> {
        let end = MachineEvent::Ended { end: GuestEnd::Panicked, detail: String::new() };
        self.mends(0xffff_ffff_8100_0001).then_some(end)
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
        self.mended.as_mut().map(std::mem::take).unwrap_or_default()
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
