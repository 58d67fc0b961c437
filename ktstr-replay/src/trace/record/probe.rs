//! Probes: which functions' calls were recorded, and the calls.

#![expect(missing_docs, reason = "rkyv's derive makes undocumented resolvers for enums with named fields")]

use rkyv::{Archive, Deserialize, Serialize};

use crate::units::Cpu;

/// What happened to a probe.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ProbeEventV1 {
    /// Which probe, from 0 in the order in which they were asked for.
    pub probe: u32,
    /// What it is of, as its author wrote it: `enqueue_task_scx(p->pid) returns`.
    pub target: String,
    /// What happened to it.
    pub what: ProbeNewsV1,
}

/// What can happen to a probe.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum ProbeNewsV1 {
    /// It was asked for.
    Asked {
        /// After how many recorded calls it is taken away.
        max_hits: u32,
        /// The test's body asked for it, not its attributes.
        by_body: bool,
    },
    /// The function is not there yet, so that no call is seen.
    Waiting {
        /// What is missing.
        why: String,
    },
    /// From now on calls are seen.
    Armed {
        /// Virtual address of the instruction at which the machine stops.
        at: u64,
        /// The function or BPF program, as the kernel names it.
        place: String,
        /// What is read at each call: `p->pid`. In the order of the values of calls.
        names: Vec<String>,
    },
    /// It was taken away, for good or until the function is there again.
    Disarmed {
        /// Why.
        why: String,
    },
    /// It cannot be had, and is given up.
    Refused {
        /// Why.
        why: String,
    },
    /// A call.
    Hit(Box<ProbeHitV1>),
    /// A recorded call returned.
    Returned(Box<ProbeReturnV1>),
    /// What there was of it in all. Told at the end.
    Totals(ProbeTotalsV1),
}

/// A call of a probed function.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct ProbeHitV1 {
    /// Position among the recorded calls of this probe, from 1.
    pub number: u32,
    /// The vCPU.
    pub cpu: Cpu,
    /// The task that the vCPU ran; `None` where it could not be read.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: String,
    /// What was read, in the order of the names that were told when it was armed last.
    pub values: Vec<ProbeValueV1>,
    /// Where it was called from, as the kernel prints it: `enqueue_task+0x39/0x110`; the address where nothing is known of it.
    pub caller: String,
    /// Source line of a call out of a BPF program, out of the program's own line table.
    pub source: Option<String>,
}

/// The return of a recorded call.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct ProbeReturnV1 {
    /// The call's number.
    pub number: u32,
    /// The vCPU, which may be another one than that of the call.
    pub cpu: Cpu,
    /// What it returned; `None` for a function that returns nothing.
    pub value: Option<ProbeValueV1>,
}

/// Something that was read at a call.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum ProbeValueV1 {
    /// A number or a truth value.
    Int(i128),
    /// An address.
    Pointer(u64),
    /// A text in an array of characters.
    Text(String),
    /// It could not be read.
    Unread {
        /// Why.
        why: String,
    },
}

/// What there was of a probe in all.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeTotalsV1 {
    /// Calls that stopped the machine.
    pub calls: u64,
    /// Of these, those that were recorded.
    pub hits: u64,
    /// Returns that were recorded.
    pub returns: u64,
    /// Returns of recorded calls that were not waited for to the end: there were too many, or the code was gone.
    pub returns_lost: u64,
    /// How often it was taken away for a while, as its calls took too much of the guest's time.
    pub backed_off: u64,
    /// How long it was away for that, guest time in ns.
    pub blind_ns: u64,
    /// Its longest stop, in us.
    pub longest_stop_us: u64,
    /// All its stops together, in us.
    pub stopped_us: u64,
}

/// The current event of a probe.
pub type ProbeEvent = ProbeEventV1;
/// The current news of a probe.
pub type ProbeNews = ProbeNewsV1;
/// The current call.
pub type ProbeHit = ProbeHitV1;
/// The current return.
pub type ProbeReturn = ProbeReturnV1;
/// The current value.
pub type ProbeValue = ProbeValueV1;
/// The current totals.
pub type ProbeTotals = ProbeTotalsV1;
