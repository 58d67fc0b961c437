//! Types by the words that C has for them: `u64`, `struct rq`, `struct task_ctx *`.

use super::{Kind, TypeId, Types};

/// Types of a blob, below which it is a program's and not a kernel's.
const FEW: usize = 10_000;

/// A type of BTF, and pointers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CType {
    pub id: TypeId,
    /// How many `*` follow.
    pub stars: usize,
}

/// The kinds that a type of these words can have, and its name.
fn kinds_of(words: &str) -> (&'static [Kind], &str) {
    let name = words.trim_end_matches(['*', ' ']);
    match name.split_once(' ') {
        Some(("struct", name)) => (&[Kind::Struct], name),
        Some(("union", name)) => (&[Kind::Union], name),
        Some(("enum", name)) => (&[Kind::Enum, Kind::Enum64], name),
        _ => (&[Kind::Typedef, Kind::Int, Kind::Float], name),
    }
}

/// The name in C's words, without `struct` and stars.
pub(crate) fn bare_name(words: &str) -> &str {
    kinds_of(words).1
}

impl Types {
    /// Whether it is a program's: it has few types, and all names are worth comparing with one that is not there.
    pub(crate) fn is_small(&self) -> bool {
        self.count() < FEW
    }

    /// The type of C's words; `None` where the blob has none of that name.
    pub(crate) fn of_words(&self, words: &str) -> Option<CType> {
        let stars = words.matches('*').count();
        let (kinds, name) = kinds_of(words);
        if name == "void" {
            return Some(CType { id: TypeId(0), stars });
        }
        let id = kinds.iter().find_map(|&kind| self.find(kind, name))?;
        Some(CType { id, stars })
    }

    /// Names that words which begin alike could have meant, of the kinds that they can be of.
    pub(crate) fn alike_words<'t>(&'t self, words: &'t str) -> impl Iterator<Item = &'t str> {
        let (kinds, wanted) = kinds_of(words);
        let names = kinds.iter().flat_map(|&kind| self.of_kind(kind)).filter_map(|id| self.name(id).ok());
        let few = self.is_small();
        names.filter(move |name| few || alike(wanted, name))
    }
}

/// Whether a name is worth comparing: it begins like the other, or has it within. A kernel has too many names to
/// compare with all.
pub(crate) fn alike(wanted: &str, name: &str) -> bool {
    let begin: String = wanted.chars().take(3).collect();
    name.starts_with(&begin) || (wanted.len() >= 3 && name.contains(wanted))
}
