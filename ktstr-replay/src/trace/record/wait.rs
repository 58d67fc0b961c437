//! Waits that came near to a limit: who waited, and the capture that was taken while it did.

use rkyv::{Archive, Deserialize, Serialize};

use crate::units::Cpu;

/// A task that had waited for a part of the time that it may, or the watchdog itself.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct LongWaitV1 {
    /// Whose limit it is.
    pub limit: WaitLimitV1,
    /// The limit, in ns.
    pub limit_ns: u64,
    /// How long it had waited when the machine was stopped for the capture, in ns of the guest.
    pub waited_ns: u64,
    /// Thread id; `None` for the watchdog, which is no task.
    pub pid: Option<u32>,
    /// Command name; empty for the watchdog.
    pub comm: String,
    /// The CPU whose runqueue it was on.
    pub cpu: Option<Cpu>,
    /// Index of the sample that was taken while it waited. `None`: the run had taken as many as it may.
    pub sample: Option<u32>,
}

/// A limit that a wait can come near to.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitLimitV1 {
    /// sched_ext's watchdog ejects a scheduler whose task was runnable for so long without running.
    Watchdog,
    /// Each CPU's tick ejects the scheduler when the watchdog itself was not run for so long.
    CheckIn,
    /// `max_gap_ms` of the test, which `not_starved` sets.
    Gap,
}

/// The current long wait.
pub type LongWait = LongWaitV1;
/// The current limit of a wait.
pub type WaitLimit = WaitLimitV1;
