//! What following programs found, kept for the other checkpoints of the same kernel.
//!
//! A program is followed by its instructions, its functions, the maps that it uses and the types that it shares. Where all of these are the same
//! as at an earlier checkpoint, so is what is found, and it counts for as many instructions as it did then: what is proven of a checkpoint does
//! not depend on which others were looked at before.

use std::collections::{BTreeMap, HashMap};
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::code::Function;
use super::flow::Found;
use crate::btf::Types;
use crate::units::KernelVirt;

/// Most that is kept of programs, in bytes.
const MAX_PROGRAM_BYTES: usize = 16 << 20;
/// Most that is kept of types, in bytes.
const MAX_TYPE_BYTES: usize = 32 << 20;
/// What a word that was found takes, at most, in bytes.
const WORD_BYTES: usize = 128;

/// All that a program is followed by.
#[derive(Debug)]
pub(super) struct Image {
    /// Its instructions, as they are in memory.
    pub code: Vec<u8>,
    pub functions: Vec<Function>,
    /// Maps by their addresses.
    pub maps: BTreeMap<u64, u32>,
    /// One object for all programs that share them, while they stay what they are.
    pub types: Arc<Types>,
}

impl Image {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.types, &other.types)
            && self.maps == other.maps
            && self.functions == other.functions
            && self.code == other.code
    }
}

/// What is known of a program that was followed.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// `None`: that came to no end, or some way through it is not known.
    pub found: Option<Arc<Found>>,
    /// How many instructions were looked at.
    pub steps: usize,
}

/// What was found of a kernel's programs, by their addresses.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Followed(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    programs: HashMap<KernelVirt, (Image, Known)>,
    program_bytes: usize,
    types: HashMap<KernelVirt, Arc<Types>>,
    type_bytes: usize,
    /// Programs that were followed.
    count: usize,
}

impl Followed {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A thread that panicked left whole entries.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The types of the `struct btf` at `at`, if they are known and these are their bytes.
    pub(super) fn types(&self, at: KernelVirt, bytes: &[u8]) -> Option<Arc<Types>> {
        self.lock().types.get(&at).filter(|types| types.bytes() == bytes).cloned()
    }

    /// Keep types.
    pub(super) fn keep_types(&self, at: KernelVirt, types: &Arc<Types>) {
        let mut kept = self.lock();
        let bytes = types.bytes().len();
        if kept.type_bytes.saturating_add(bytes) > MAX_TYPE_BYTES {
            // Programs hold the types that they are followed by.
            *kept = Kept { count: kept.count, ..Kept::default() };
        }
        if let Some(old) = kept.types.insert(at, Arc::clone(types)) {
            // No program is followed by these any more, and none is to keep them.
            kept.type_bytes = kept.type_bytes.saturating_sub(old.bytes().len());
            kept.forget(|image| Arc::ptr_eq(&image.types, &old));
        }
        kept.type_bytes = kept.type_bytes.saturating_add(bytes);
    }

    /// What was found of the program at `at`, if it is the same.
    pub(super) fn result(&self, at: KernelVirt, image: &Image) -> Option<Known> {
        let kept = self.lock();
        kept.programs.get(&at).filter(|(known, _)| known.is(image)).map(|(_, result)| result.clone())
    }

    /// Keep what was found of a program, in the place of what was there before.
    pub(super) fn keep(&self, at: KernelVirt, image: Image, result: Known) {
        let mut kept = self.lock();
        if let Some((old, found)) = kept.programs.remove(&at) {
            kept.program_bytes = kept.program_bytes.saturating_sub(bytes(&old, &found));
        }
        let bytes = bytes(&image, &result);
        if kept.program_bytes.saturating_add(bytes) <= MAX_PROGRAM_BYTES {
            kept.program_bytes += bytes;
            kept.programs.insert(at, (image, result));
        }
    }

    /// A program was followed.
    pub(super) fn count(&self) {
        self.lock().count += 1;
    }

    /// How many programs were followed, each as often as it was.
    #[cfg(test)]
    pub(super) fn counted(&self) -> usize {
        self.lock().count
    }
}

impl Kept {
    fn forget(&mut self, is_one: impl Fn(&Image) -> bool) {
        let program_bytes = &mut self.program_bytes;
        self.programs.retain(|_, (image, result)| {
            let goes = is_one(image);
            if goes {
                *program_bytes = program_bytes.saturating_sub(bytes(image, result));
            }
            !goes
        });
    }
}

/// What is kept of a program takes so much, about.
fn bytes(image: &Image, result: &Known) -> usize {
    let words = result.found.as_ref().map_or(0, |found| {
        let seen: usize = found.seen.values().map(BTreeMap::len).sum();
        let reached: usize = found.reached.values().map(|all| all.len()).sum();
        seen + reached
    });
    image.code.len()
        + image.functions.len() * size_of::<Function>()
        + (image.maps.len() + words) * WORD_BYTES
        + size_of::<(Image, Known)>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::btf::Builder;

    fn image(types: &Arc<Types>, bytes: usize) -> Image {
        let (functions, maps) = (Vec::new(), BTreeMap::new());
        Image { code: vec![7; bytes], functions, maps, types: Arc::clone(types) }
    }

    const NOTHING: Known = Known { found: None, steps: 3 };

    #[test]
    fn what_is_kept_is_bounded_and_goes_with_its_types() {
        let followed = Followed::default();
        let types = || Arc::new(Builder::new().types());
        let (one, other) = (types(), types());
        followed.keep_types(KernelVirt(1), &one);
        for at in 0..40 {
            followed.keep(KernelVirt(at), image(&one, 1 << 20), NOTHING);
        }
        let programs = followed.lock().programs.len();
        assert!((10..16).contains(&programs), "{programs}");
        assert!(followed.result(KernelVirt(0), &image(&one, 1 << 20)).is_some());
        assert!(followed.result(KernelVirt(0), &image(&one, 1 << 19)).is_none(), "other instructions");
        assert!(followed.result(KernelVirt(0), &image(&other, 1 << 20)).is_none(), "other types");
        assert!(followed.result(KernelVirt(39), &image(&one, 1 << 20)).is_none(), "no room was left");
        // A place that is taken again takes no more.
        for _ in 0..40 {
            followed.keep(KernelVirt(0), image(&one, 1 << 19), NOTHING);
        }
        assert!(followed.result(KernelVirt(0), &image(&one, 1 << 19)).is_some());
        followed.keep_types(KernelVirt(1), &other);
        let kept = followed.lock();
        assert_eq!((kept.programs.len(), kept.program_bytes), (0, 0));
        assert_eq!(kept.type_bytes, other.bytes().len());
    }
}
