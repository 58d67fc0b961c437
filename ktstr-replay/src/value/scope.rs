//! Where the names in a path are looked up: types of casts, enumerators as indices and keys.

use super::ValueError;
use crate::btf::{CType, Types, alike, bare_name, plain};
use crate::text::Candidates;

/// Types beside those of the value itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scope<'a> {
    /// Those of the program: of the scheduler, for a map without types.
    pub program: Option<&'a Types>,
    /// Those of the kernel, where its memory is there.
    pub kernel: Option<&'a Types>,
    /// The map that the value comes out of, by its id, and the bytes of the whole value there.
    pub map: Option<(u32, &'a [u8])>,
}

impl<'a> Scope<'a> {
    /// What is looked into, the first that has the name counts: the value's own types, the program's, the numbers of C, the
    /// kernel's.
    fn all(self, own: &'a Types) -> impl Iterator<Item = &'a Types> {
        [Some(own), self.program, Some(plain()), self.kernel].into_iter().flatten()
    }

    /// The type that a cast names.
    pub(super) fn type_of(self, own: &'a Types, words: &str) -> Result<(&'a Types, CType), ValueError> {
        let found = self.all(own).find_map(|types| Some((types, types.of_words(words)?)));
        found.ok_or_else(|| {
            let names = self.all(own).flat_map(|types| types.alike_words(words));
            let candidates = Box::new(Candidates::new(bare_name(words), names));
            ValueError::NoType { name: words.trim_end_matches(['*', ' ']).to_owned(), candidates }
        })
    }

    /// The value of an enumerator.
    pub(crate) fn constant(self, own: &'a Types, name: &str) -> Result<i128, ValueError> {
        let found = self.all(own).find_map(|types| types.constant_named(name));
        found.ok_or_else(|| {
            let names = self.all(own).flat_map(Types::all_enumerators).map(|one| one.name);
            let near = names.filter(|other| alike(name, other));
            ValueError::NoEnumerator {
                name: name.to_owned(),
                candidates: Box::new(Candidates::new(name, near)),
            }
        })
    }
}
