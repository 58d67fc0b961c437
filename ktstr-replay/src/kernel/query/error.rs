//! Why a place has no number.

use crate::kernel::KernelError;
use crate::path::SchedulerName;
use crate::text::Candidates;
use crate::units::{Cpu, KernelVirt};
use crate::value::ValueError;

/// What is said of a pointer on the way that leads nowhere. Those who read it in a trace know it by this.
pub(crate) const NULL_POINTER: &str = "is a null pointer";

/// Why a number of the kernel's memory could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Memory, symbols or types cannot be read.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The path leaves what exists, or ends at what is no number.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// No symbol has that name.
    #[error("the kernel has no symbol `{name}`{candidates}")]
    NoSymbol {
        /// What was asked for.
        name: String,
        /// Symbols that are there.
        candidates: Box<Candidates>,
    },
    /// Nothing says what a symbol's type is.
    #[error("nothing says what type `{name}` has: write it before the name, as in `kernel.(u64){name}`")]
    Untyped {
        /// The symbol.
        name: String,
    },
    /// No type has that name.
    #[error("the kernel has no type `{name}`{candidates}")]
    NoType {
        /// What was asked for.
        name: String,
        /// Types of that kind that are there.
        candidates: Box<Candidates>,
    },
    /// The symbol has a copy on each CPU, and the path does not say which.
    #[error("`{name}` has a copy for each CPU: write `{name}.cpu(0)`")]
    PerCpu {
        /// The symbol.
        name: String,
    },
    /// The symbol is the same for all CPUs, and the path names one.
    #[error("`{name}` is not per CPU, so it has no `.cpu({cpu})`")]
    NotPerCpu {
        /// The symbol.
        name: String,
        /// The CPU that was asked for.
        cpu: Cpu,
    },
    /// No such CPU.
    #[error("there is no CPU {cpu}; there are {}", .have.iter().map(Cpu::to_string).collect::<Vec<_>>().join(", "))]
    NoCpu {
        /// The CPU that was asked for.
        cpu: Cpu,
        /// Those that are possible.
        have: Vec<Cpu>,
    },
    /// A CPU that does not run.
    #[error("CPU {cpu} is offline")]
    Offline {
        /// The CPU that was asked for.
        cpu: Cpu,
    },
    /// No such task.
    #[error("there is no task {wanted}{candidates}")]
    NoTask {
        /// What was asked for.
        wanted: String,
        /// Pids or names that are there.
        candidates: Box<Candidates>,
    },
    /// Several tasks have that name.
    #[error("{} tasks are called `{comm}`: ask by pid, {}", .pids.len(), .pids.iter().take(12).map(u32::to_string).collect::<Vec<_>>().join(", "))]
    SeveralTasks {
        /// The name.
        comm: String,
        /// Their pids.
        pids: Vec<u32>,
    },
    /// No such dispatch queue.
    #[error("there is no dispatch queue {id:#x}; there are {}", .have.iter().map(|id| format!("{id:#x}")).collect::<Vec<_>>().join(", "))]
    NoDsq {
        /// The id that was asked for.
        id: u64,
        /// Ids of those that BPF made.
        have: Vec<u64>,
    },
    /// Several schedulers have a dispatch queue of that id.
    #[error("several schedulers have a dispatch queue {id:#x}: write {}", .of.iter().map(|name| format!("{}.dsq[{id:#x}]", SchedulerName(name))).collect::<Vec<_>>().join(" or "))]
    SeveralDsqs {
        /// The id that was asked for.
        id: u64,
        /// What paths call the schedulers.
        of: Vec<String>,
    },
    /// A null pointer on the way.
    #[error("`{path}` {}", NULL_POINTER)]
    NullPointer {
        /// The path up to it.
        path: String,
    },
    /// A tree or list of a program whose nodes cannot be found.
    #[error("`{path}` is {what}, which cannot be walked: {why}")]
    NotWalked {
        /// The path up to it.
        path: String,
        /// What it is.
        what: String,
        /// Why not.
        why: String,
    },
    /// An index behind the last node of a tree or list.
    #[error("`{path}` is {what} and has {len} nodes, so there is no [{index}]")]
    NoNode {
        /// The path up to it.
        path: String,
        /// What it is.
        what: String,
        /// How many nodes it has.
        len: usize,
        /// The index that was asked for.
        index: u64,
    },
    /// `count` of what is no tree or list.
    #[error("`{path}` is a `{type_name}`, not a tree or list of a program, so it has no nodes to count")]
    NotCounted {
        /// The path up to it.
        path: String,
        /// Its type.
        type_name: String,
    },
    /// The address of what a sample has, which is not recorded.
    #[error(
        "`{path}` is a `{type_name}` out of a sample, which does not say where that is: only numbers are cast to pointers there"
    )]
    NoAddress {
        /// The path up to it.
        path: String,
        /// Its type.
        type_name: String,
    },
    /// `->` after what is no pointer.
    #[error("`{path}` is a `{type_name}`, not a pointer, so `->` cannot follow it")]
    NotAPointer {
        /// The path up to it.
        path: String,
        /// Its type.
        type_name: String,
    },
    /// `.` or `[` after what is a pointer.
    #[error("`{path}` is a pointer: write `->` for a field of what it points at")]
    IsAPointer {
        /// The path up to it.
        path: String,
    },
    /// A pointer to memory of a process.
    #[error("`{path}` is {at:#x}: a user-space address outside of every BPF arena: it cannot be read")]
    UserAddress {
        /// The path up to it.
        path: String,
        /// Where it points.
        at: u64,
    },
    /// A pointer into an arena, but there are several at that user address.
    #[error("`{path}` is {at:#x}, which is in the BPF arenas {} of different processes", .arenas.join(", "))]
    SeveralArenas {
        /// The path up to it.
        path: String,
        /// Where it points.
        at: u64,
        /// Names of the arenas.
        arenas: Vec<String>,
    },
    /// It is of an object whose scheduler is not there.
    #[error("`{path}` is of a scheduler that has ended, or is not enabled yet")]
    NoScheduler {
        /// The path.
        path: String,
    },
    /// Stores to it cannot be watched.
    #[error("`{path}` cannot be watched: {why}")]
    Unwatchable {
        /// The path.
        path: String,
        /// Why not.
        why: String,
    },
    /// The object is longer than what is read whole.
    #[error("`{path}` at {at} has {bytes} bytes, more than are read at once")]
    TooLong {
        /// The path up to it.
        path: String,
        /// Where it is.
        at: KernelVirt,
        /// Its size in bytes.
        bytes: u64,
    },
}

impl From<crate::btf::BtfError> for QueryError {
    fn from(error: crate::btf::BtfError) -> Self {
        Self::Kernel(error.into())
    }
}
