//! The history: what the guest's kernel noted of its own scheduling, in the ring buffers of its tracepoints.

#![expect(missing_docs, reason = "rkyv's derive makes undocumented resolvers for enums with named fields")]

use rkyv::{Archive, Deserialize, Serialize};

use crate::units::{Cpu, GuestNs};

/// Steps of one CPU, in the order in which the CPU noted them.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct HistoryV1 {
    /// The CPU that noted them.
    pub cpu: Cpu,
    /// What is missing between the steps that were recorded of this CPU before and these, as the kernel overwrote it before it
    /// was read: how many steps.
    pub overwritten: u64,
    /// What is missing there besides, as it was more than a trace keeps: how many steps.
    pub left_out: u64,
    /// Tasks that the steps name, by position.
    pub tasks: Vec<HistoryTaskV1>,
    /// Events of sched_ext that the steps name, by position: `SCX_EV_ENQ_SKIP_EXITING`.
    pub names: Vec<String>,
    /// Time before the first step, guest `CLOCK_MONOTONIC`, in ns.
    pub first_ns: GuestNs,
    /// The steps.
    pub steps: Vec<HistoryStepV1>,
}

/// A task as a step found it.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HistoryTaskV1 {
    /// Thread id; 0 is the idle task.
    pub pid: u32,
    /// The kernel's priority: below 100 real-time and deadline, 120 is nice 0.
    pub prio: i64,
    /// Command name.
    pub comm: String,
}

/// Something that a CPU noted.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryStepV1 {
    /// How long after the step before, or after `first_ns`, in ns.
    pub after_ns: u64,
    /// What.
    pub what: HistoryWhatV1,
}

/// What a CPU can note. Tasks are positions in `tasks`, `by` is the pid of the task that the CPU ran.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryWhatV1 {
    /// It runs another task (`sched_switch`).
    Switch {
        /// The one that it ran before.
        prev: u32,
        /// In which state that one is: 0 runnable, 1 and 2 asleep, 256 runnable as its CPU was taken from it.
        state: u32,
        /// The one that it runs now.
        next: u32,
    },
    /// A task was woken (`sched_wakeup`, `sched_wakeup_new`).
    Wakeup {
        /// Which.
        task: u32,
        /// By whom.
        by: u32,
        /// To which CPU's runqueue.
        to: Cpu,
        /// It has just been made.
        is_new: bool,
    },
    /// A task goes to another CPU (`sched_migrate_task`).
    Migrate {
        /// Which.
        task: u32,
        /// By whom.
        by: u32,
        /// From this CPU.
        from: Cpu,
        /// To this one.
        to: Cpu,
    },
    /// sched_ext counted one of its events (`sched_ext_event`).
    SchedExt {
        /// Position in `names`.
        name: u32,
        /// By whom.
        by: u32,
        /// How much was added.
        count: i64,
    },
}

/// The current chunk of history.
pub type History = HistoryV1;
/// The current task of a history.
pub type HistoryTask = HistoryTaskV1;
/// The current step.
pub type HistoryStep = HistoryStepV1;
/// What a step is of.
pub type HistoryWhat = HistoryWhatV1;
