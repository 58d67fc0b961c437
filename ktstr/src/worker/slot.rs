//! What one worker says of itself, and the words by which the workers of a gang wake each other.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::latency::Reservoir;

/// CPUs that a slot can note.
pub const MAX_CPUS: usize = 1024;
/// NUMA nodes that a slot can note.
pub const MAX_NODES: usize = 64;

/// What one worker says. Written by that worker alone, but for its mailbox, and read by the test at the end.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct WorkerSlot {
    /// A [`SlotState`].
    state: AtomicU32,
    /// errno of a failed system call, for [`SlotState::Failed`] and [`SlotState::Refused`].
    pub errno: AtomicU32,
    /// Number of the setting that the kernel refused.
    pub setting: AtomicU32,
    /// Its process id.
    pub pid: AtomicU32,
    /// Its thread id; 0 until the thread runs.
    pub tid: AtomicU32,
    /// Number of its scheduling policy when it began.
    pub policy: AtomicU32,
    /// Units of work.
    pub work_units: AtomicU64,
    /// Turns of the outer loop.
    pub iterations: AtomicU64,
    /// CPU time, ns; valid once it has ended on its own.
    pub cpu_ns: AtomicU64,
    /// From the common start to the last turn, ns.
    pub wall_ns: AtomicU64,
    /// Longest time between two turns, ns.
    pub max_gap_ns: AtomicU64,
    /// When that ended, ns since the common start.
    pub max_gap_at_ns: AtomicU64,
    /// Longest stretch on no CPU between two looks at the clocks, ns.
    pub max_off_cpu_ns: AtomicU64,
    /// Times it was seen on another CPU than before.
    pub migrations: AtomicU64,
    /// Times it was seen on another NUMA node than before.
    pub cross_node_migrations: AtomicU64,
    /// The kernel's account of its run delay when it ended, ns; valid as `cpu_ns` is.
    pub run_delay_ns: AtomicU64,
    /// `ru_minflt`, from the common start to the end.
    pub minor_faults: AtomicU64,
    /// `ru_majflt`.
    pub major_faults: AtomicU64,
    /// `ru_nvcsw`.
    pub voluntary_switches: AtomicU64,
    /// `ru_nivcsw`.
    pub involuntary_switches: AtomicU64,
    /// A bit for each CPU it was seen on.
    pub cpus: [AtomicU64; MAX_CPUS / 64],
    /// Pages of its work's memory, by NUMA node.
    pub node_pages: [AtomicU64; MAX_NODES],
    /// From the waker's store until it ran.
    pub wakes: Reservoir,
    /// From the time that a timer was set to until it ran.
    pub timers: Reservoir,
    /// How others of its gang reach it.
    pub mailbox: Mailbox,
    /// What its whole gang shares, in the slot of the first member.
    pub board: Mailbox,
    /// Lets the kernel tell the others that it died.
    pub life: Life,
}

/// Words that workers wake each other by. What they mean is the work's to say.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Mailbox {
    /// Workers sleep on it.
    pub word: AtomicU32,
    /// Other workers sleep on it.
    pub other: AtomicU32,
    /// Workers that sleep, or are to.
    pub waiters: AtomicU32,
    /// When somebody was woken last, `CLOCK_MONOTONIC` ns.
    pub stamp_ns: AtomicU64,
}

/// A robust futex that its worker holds until it ends. Source: `Documentation/locking/robust-futex-ABI.rst`.
///
/// However the worker dies, the kernel finds this by the thread's list and marks the word. The list is the head, and
/// one entry that leads back to it.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Life {
    /// `robust_list_head.list.next`: address of `entry`.
    pub head: AtomicU64,
    /// `robust_list_head.futex_offset`: from an entry to its futex.
    pub offset: AtomicU64,
    /// `robust_list_head.list_op_pending`: none, ever.
    pub pending: AtomicU64,
    /// `robust_list.next`: address of `head`.
    pub entry: AtomicU64,
    /// The worker's thread id while it lives.
    pub owner: AtomicU32,
}

/// How far a worker got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SlotState {
    /// It waits to be told to apply its settings.
    Forked = 0,
    /// Its settings are applied; it waits for the common start.
    Ready = 1,
    /// It works.
    Running = 2,
    /// The kernel refused one of its settings.
    Refused = 3,
    /// It ended because it was told to.
    Done = 4,
    /// A worker that it works with ended before it was told to.
    PeerGone = 5,
    /// A system call failed.
    Failed = 6,
    /// The author's own loop panicked.
    Panicked = 7,
}

impl SlotState {
    /// Whether the worker came to the end of its work, and so wrote its last numbers.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::PeerGone | Self::Failed | Self::Panicked)
    }
}

impl WorkerSlot {
    /// How far the worker got.
    pub fn state(&self) -> SlotState {
        match self.state.load(Ordering::Acquire) {
            1 => SlotState::Ready,
            2 => SlotState::Running,
            3 => SlotState::Refused,
            4 => SlotState::Done,
            5 => SlotState::PeerGone,
            6 => SlotState::Failed,
            7 => SlotState::Panicked,
            _ => SlotState::Forked,
        }
    }

    /// Say how far the worker got.
    pub fn set_state(&self, state: SlotState) {
        self.state.store(state as u32, Ordering::Release);
    }

    /// Whether the worker has died, or ended.
    pub fn has_died(&self) -> bool {
        self.life.owner.load(Ordering::Acquire) & libc::FUTEX_OWNER_DIED != 0
    }

    /// CPUs that the worker was seen on, ascending.
    pub fn cpus_used(&self) -> Vec<u32> {
        let seen = |cpu: &u32| {
            let word = self.cpus.get(*cpu as usize / 64).map_or(0, |word| word.load(Ordering::Relaxed));
            word >> (cpu % 64) & 1 == 1
        };
        (0..MAX_CPUS as u32).filter(seen).collect()
    }

    /// Pages of its work's memory, by node, without the nodes that have none.
    pub fn node_pages(&self) -> Vec<(u32, u64)> {
        let nodes = (0..).zip(&self.node_pages).map(|(node, pages)| (node, pages.load(Ordering::Relaxed)));
        nodes.filter(|(_, pages)| *pages > 0).collect()
    }
}
