//! Why a value could not be read.

use super::StatsError;
use crate::btf::BtfError;
use crate::path::SyntaxError;
use crate::text::Candidates;
use crate::units::Cpu;

/// Why a value could not be read. Each says what was asked for, how far it got and what is there instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The path's text makes no sense.
    #[error("`{path}` is not a path: {why} at character {at}")]
    BadPath {
        /// The path.
        path: String,
        /// Position of the fault, from 1.
        at: usize,
        /// What is wrong there.
        why: String,
    },
    /// A struct has no such member.
    #[error("`{path}`: {reached} is a `{type_name}`, which has no `{wanted}`{candidates}")]
    NoField {
        /// The path that was asked for.
        path: String,
        /// The part of it that was found.
        reached: String,
        /// The type there.
        type_name: String,
        /// The member that is not there.
        wanted: String,
        /// Members that are.
        candidates: Box<Candidates>,
    },
    /// The path goes on with a name, but there is no struct.
    #[error("`{path}`: {reached} is a `{type_name}` and has no members, so there is no `{wanted}` in it")]
    NotAStruct {
        /// The path that was asked for.
        path: String,
        /// The part of it that was found.
        reached: String,
        /// The type there.
        type_name: String,
        /// The name that follows.
        wanted: String,
    },
    /// The path goes on with an index, but there is no array.
    #[error("`{path}`: {reached} is a `{type_name}`, not an array, so it has no [{index}]")]
    NotAnArray {
        /// The path that was asked for.
        path: String,
        /// The part of it that was found.
        reached: String,
        /// The type there.
        type_name: String,
        /// The index that was asked for.
        index: u64,
    },
    /// An index past the end of an array.
    #[error("`{path}`: {reached} has {len} elements, so there is no [{index}]")]
    IndexOutOfRange {
        /// The path that was asked for.
        path: String,
        /// The part of it that was found.
        reached: String,
        /// The index that was asked for.
        index: u64,
        /// How many elements there are.
        len: u64,
    },
    /// The value is not of the kind that was asked for.
    #[error("a `{type_name}` is not {wanted}")]
    WrongKind {
        /// What was asked for, with its article.
        wanted: &'static str,
        /// The type of the value.
        type_name: String,
    },
    /// The number does not fit.
    #[error("{value} does not fit {wanted}")]
    OutOfRange {
        /// The number.
        value: String,
        /// What it should fit.
        wanted: &'static str,
    },
    /// There are fewer bytes than the type needs.
    #[error("a `{type_name}` needs bytes up to {need}, and {have} were recorded")]
    Truncated {
        /// The type.
        type_name: String,
        /// Bytes that it needs.
        need: u64,
        /// Bytes that are there.
        have: usize,
    },
    /// No data section has a variable of that name.
    #[error("there is no variable `{path}` in the data sections of {sections}{candidates}")]
    NoVariable {
        /// What was asked for.
        path: String,
        /// The maps that were looked into, joined.
        sections: String,
        /// Variables that are there.
        candidates: Box<Candidates>,
    },
    /// Several data sections have a variable of that name.
    #[error("`{path}` is in several data sections: write {}", .qualified.join(" or "))]
    AmbiguousVariable {
        /// What was asked for.
        path: String,
        /// The names that tell them apart.
        qualified: Vec<String>,
    },
    /// No map has that name.
    #[error("there is no map `{name}`{candidates}")]
    NoMap {
        /// What was asked for.
        name: String,
        /// Maps that are there.
        candidates: Box<Candidates>,
    },
    /// Several maps have that name.
    #[error("there are several maps `{name}`, of ids {ids:?}{}", several_maps(.paths))]
    AmbiguousMap {
        /// What was asked for.
        name: String,
        /// Their ids.
        ids: Vec<u32>,
        /// Paths that tell them apart by their schedulers; empty where that is not known.
        paths: Vec<String>,
    },
    /// No scheduler is called that.
    #[error("there is no scheduler `{name}`{candidates}")]
    NoScheduler {
        /// What was asked for.
        name: String,
        /// What those that are there are called.
        candidates: Box<Candidates>,
    },
    /// Several schedulers are called that.
    #[error("several schedulers are called `{name}`: write {}", .which.join(" or "))]
    SeveralSchedulers {
        /// What was asked for.
        name: String,
        /// What tells them apart.
        which: Vec<String>,
    },
    /// It is not in the sample, nor in the memory that was kept with it.
    #[error("{why}")]
    AtCapture {
        /// What was looked for, how far that got, what is there.
        why: String,
    },
    /// The map has no entry there.
    #[error("map `{map}` has no entry {wanted} (it has {entries} entries)")]
    NoEntry {
        /// The map.
        map: String,
        /// The key or index that was asked for.
        wanted: String,
        /// How many entries were recorded.
        entries: usize,
    },
    /// The map has values for each CPU, and the caller did not say which.
    #[error("map `{map}` has a value for each CPU: ask for `cpu(n)`, a sum, a minimum or a maximum")]
    PerCpu {
        /// The map.
        map: String,
    },
    /// The map has no values by CPU, or not for that one.
    #[error("map `{map}` has no value for CPU {cpu} (it has them for {:?})", .cpus.iter().map(|cpu| cpu.0).collect::<Vec<_>>())]
    NoCpu {
        /// The map.
        map: String,
        /// The CPU that was asked for.
        cpu: Cpu,
        /// The CPUs that it has values for; empty when it is not a per-CPU map.
        cpus: Vec<Cpu>,
    },
    /// The recorder could not read the map.
    #[error("map `{map}` was not read when the sample was taken: {why}")]
    Unread {
        /// The map.
        map: String,
        /// The recorder's reason.
        why: String,
    },
    /// The map has no types, or they are not in the trace.
    #[error("map `{map}` has no usable types: {why}")]
    NoTypes {
        /// The map.
        map: String,
        /// Why.
        why: String,
    },
    /// The sample is a placeholder for a capture that was not taken.
    #[error("this capture was not taken: {why}")]
    Missed {
        /// The recorder's reason.
        why: String,
    },
    /// A step of the path leads out of what a sample holds: through a pointer, or into a tree or list.
    #[error("`{path}` goes on from {reached} into the kernel's memory, which only claims and `--var` read")]
    NeedsMemory {
        /// The path that was asked for.
        path: String,
        /// The part of it that was found.
        reached: String,
    },
    /// Bytes of a map that was created without a type for them.
    #[error(
        "nothing says what its {bytes} bytes are: write a type before it, as in `(struct foo)map(m).at(0)`"
    )]
    Untyped {
        /// How many there are.
        bytes: usize,
    },
    /// A number was asked for where a program's tree or list is.
    #[error("it is {what}: ask `count(..)` of it, or `[0]` and a member for one of its nodes")]
    Nodes {
        /// What it is.
        what: String,
    },
    /// No type has that name.
    #[error("neither the program nor the kernel has a type `{name}`{candidates}")]
    NoType {
        /// What was asked for.
        name: String,
        /// Types of that kind that are there.
        candidates: Box<Candidates>,
    },
    /// No enum has a constant of that name.
    #[error(
        "no enumerator `{name}` is in the program's BTF, which has those that its types and functions mention, or in the kernel's{candidates}"
    )]
    NoEnumerator {
        /// What was asked for.
        name: String,
        /// Constants that begin alike.
        candidates: Box<Candidates>,
    },
    /// The types contradict themselves.
    #[error(transparent)]
    Types(#[from] BtfError),
    /// The scheduler's statistics have no such value.
    #[error(transparent)]
    Stats(#[from] StatsError),
}

impl ValueError {
    /// Whether the kernel's memory, and its types, may have what was missing.
    pub(crate) fn may_be_in_memory(&self) -> bool {
        matches!(self, Self::NeedsMemory { .. } | Self::NoType { .. } | Self::NoEnumerator { .. })
    }
}

impl From<SyntaxError> for ValueError {
    fn from(error: SyntaxError) -> Self {
        Self::BadPath { at: error.column(), why: error.fault.to_string(), path: error.text }
    }
}

/// How to choose between maps of one name.
fn several_maps(paths: &[String]) -> String {
    match paths {
        [] => String::new(),
        paths => format!(": write {}", paths.join(" or ")),
    }
}
