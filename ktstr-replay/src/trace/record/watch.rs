//! Watches: what was watched for stores, and the stores that were seen.

#![expect(missing_docs, reason = "rkyv's derive makes undocumented resolvers for enums with named fields")]

use rkyv::{Archive, Deserialize, Serialize};

use crate::units::Cpu;

/// What happened to a watch.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct WatchEventV1 {
    /// Which watch, from 0 in the order in which they were asked for.
    pub watch: u32,
    /// What it is of, as its author wrote it: `scx_root->exit_kind`.
    pub target: String,
    /// What happened to it.
    pub what: WatchNewsV1,
}

/// What can happen to a watch.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum WatchNewsV1 {
    /// It was asked for.
    Asked {
        /// The condition under which a store counts; `None`: every store does.
        when: Option<String>,
        /// After how many fires it is taken away.
        max_fires: u32,
        /// Least time between two fires, guest time in ns.
        min_interval_ns: u64,
        /// The test's body asked for it, not its attributes.
        by_body: bool,
    },
    /// Its target does not exist yet, so that nothing is watched.
    Waiting {
        /// What is missing.
        why: String,
    },
    /// From now on stores are seen.
    Armed {
        /// Its virtual address.
        at: u64,
        /// Bytes that are watched.
        bytes: u32,
        /// What was there.
        value: i128,
    },
    /// It was taken away, for good or until what it is of is there again.
    Disarmed {
        /// Why.
        why: String,
    },
    /// It cannot be had, and is given up.
    Refused {
        /// Why.
        why: String,
    },
    /// A store was seen.
    Fired(Box<WatchFireV1>),
    /// What there was of it in all. Told at the end.
    Totals(WatchTotalsV1),
}

/// A store to what is watched.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct WatchFireV1 {
    /// Position among the fires of this watch, from 1.
    pub number: u32,
    /// The vCPU that stored.
    pub cpu: Cpu,
    /// The instruction after the store.
    pub rip: u64,
    /// The function or BPF program that it is in, as the kernel prints it: `scx_exit+0x1d/0x80`; the address where nothing is
    /// known of it.
    pub place: String,
    /// Source line of a store of a BPF program, out of the program's own line table: `main.bpf.c:120: nr++`.
    pub source: Option<String>,
    /// The task that the vCPU ran; `None` where it could not be read.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: String,
    /// How it got there, a line for each frame, innermost first.
    pub stack: Vec<String>,
    /// What was there when it was looked at last.
    pub old: i128,
    /// What is there now.
    pub new: i128,
    /// The sample that was taken with it.
    pub sample: u32,
    /// Index and name of the scenario's phase, if one was on.
    pub phase: Option<(u32, String)>,
}

/// What there was of a watch in all.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchTotalsV1 {
    /// Stores that stopped the machine.
    pub stores: u64,
    /// Of these, those that were recorded.
    pub fires: u64,
    /// Of these, those that its condition excluded.
    pub excluded: u64,
    /// Of these, those that came too soon after a fire.
    pub too_soon: u64,
    /// How often it was taken away for a while, as its stores took too much of the guest's time.
    pub backed_off: u64,
    /// How long it was away for that, guest time in ns.
    pub blind_ns: u64,
    /// How often the value had changed at a stop though no store was seen: while it was away, through another mapping of the
    /// memory, or as a machine did not tell.
    pub unseen: u64,
    /// Its longest stop, in us.
    pub longest_stop_us: u64,
}

/// The current event of a watch.
pub type WatchEvent = WatchEventV1;
/// The current news of a watch.
pub type WatchNews = WatchNewsV1;
/// The current fire.
pub type WatchFire = WatchFireV1;
/// The current totals.
pub type WatchTotals = WatchTotalsV1;
