//! What words of a map's values point at, where the map's own types do not say it and the instructions of its programs do.
//!
//! Schedulers keep a task's state in an arena and only its address in the task's storage, as `void *` or as a number. Its type is met
//! where a program hands the word on: a function of the program that returns it, is given it, or writes it there has a type in the
//! program's BTF. So each program is followed through its instructions, from the lookup in the map on.
//!
//! What counts as proven: one struct is met for the word and no other, whatever the programs read and write through the word lies
//! within that struct, and all programs that use the map could be followed. A function's type counts only where the compiler has not
//! changed what is in its registers: for arguments if each parameter is read, for a result if a caller reads it. Words with something
//! added to them are not looked at.
//!
//! What is not seen: a word that points now at one struct and now at another of which no function's type tells; and a compiler that
//! hands on what a pointer points at in its place (clang at `-O3`, GCC).
//!
//! Sources: `struct bpf_prog`, `bpf_prog_aux` and `bpf_func_info` of Linux; those of `code`.

mod code;
mod flow;
mod kept;
mod read;
#[cfg(test)]
mod tests;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

pub(super) use kept::Followed;

use crate::btf::{TypeId, Types};

/// What words of maps' values point at, by map and by the word's distance from the value's beginning, in bytes.
#[derive(Debug, Default)]
pub struct ProvenTypes {
    words: BTreeMap<(u32, u32), Proof>,
    /// Words of which programs say different things.
    contradicted: BTreeSet<(u32, u32)>,
    faults: Vec<String>,
    /// How many there are besides those that are kept.
    more_faults: usize,
}

/// What a word of a map's value points at.
#[derive(Clone, Debug)]
pub struct Proof {
    types: Arc<Types>,
    struct_id: TypeId,
    by: Origin,
}

/// What shows the type of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A function returns the word.
    Returned {
        /// Its name.
        function: String,
    },
    /// A function is given the word.
    Given {
        /// Its name.
        function: String,
        /// The parameter's name; empty where the types have none.
        parameter: String,
    },
    /// The word is written with what a function was given or had returned to it.
    Written {
        /// The name of the function whose type tells.
        function: String,
    },
}

impl Proof {
    /// The types that the struct is of: those of the program.
    #[must_use]
    pub fn types(&self) -> &Types {
        &self.types
    }

    /// The struct.
    #[must_use]
    pub fn struct_id(&self) -> TypeId {
        self.struct_id
    }

    /// What shows it.
    #[must_use]
    pub fn by(&self) -> &Origin {
        &self.by
    }

    /// How C would write the pointer.
    #[must_use]
    pub fn type_name(&self) -> String {
        format!("{} *", self.types.describe(self.struct_id))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned { function } => write!(f, "{function}() returns it"),
            Self::Given { function, parameter } if parameter.is_empty() => {
                write!(f, "{function}() is given it")
            }
            Self::Given { function, parameter } => write!(f, "{function}() is given it as `{parameter}`"),
            Self::Written { function } => write!(f, "it is written with what {function}() has"),
        }
    }
}

impl ProvenTypes {
    /// What the word points at that begins `offset` bytes after the beginning of the values of the map with this id.
    #[must_use]
    pub fn at(&self, map: u32, offset: u64) -> Option<&Proof> {
        self.words.get(&(map, u32::try_from(offset).ok()?))
    }

    /// The words of a map: distance from the beginning of its values in bytes, and what they point at.
    pub fn of_map(&self, map: u32) -> impl Iterator<Item = (u32, &Proof)> {
        self.words.range((map, 0)..=(map, u32::MAX)).map(|((_, offset), proof)| (*offset, proof))
    }

    /// Words that have no type because the programs contradict each other, and programs that could not be followed.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }
}
