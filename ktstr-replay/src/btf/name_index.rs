//! Names by hash: for tables of a hundred thousand names, of which a few dozen are asked for.

/// No position.
const NONE: u32 = u32::MAX;
/// Most positions: the last one stands for none.
const MAX_POSITIONS: usize = NONE as usize;

/// Positions of names, in chains by their hash. It is made in one pass, which sorting the hashes is not.
#[derive(Debug)]
pub(crate) struct NameIndex {
    /// First position of each chain; as many as a power of two.
    heads: Vec<u32>,
    /// The position after each in its chain.
    next: Vec<u32>,
}

impl NameIndex {
    /// Of `count` positions, those for which `hash` gives the hash of a name.
    pub(crate) fn new(count: usize, hash: impl Fn(usize) -> Option<u64>) -> Self {
        let count = count.min(MAX_POSITIONS);
        let mut index = Self { heads: vec![NONE; count.next_power_of_two()], next: vec![NONE; count] };
        // Backwards, so that each chain ascends.
        for position in (0..count).rev() {
            let Some(hash) = hash(position) else { continue };
            let chain = index.chain(hash);
            if let (Some(head), Some(next)) = (index.heads.get_mut(chain), index.next.get_mut(position)) {
                *next = std::mem::replace(head, position as u32);
            }
        }
        index
    }

    fn chain(&self, hash: u64) -> usize {
        hash as usize & (self.heads.len() - 1)
    }

    /// The positions whose names may have this hash, ascending. Others are among them: compare the names.
    pub(crate) fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let first = self.heads.get(self.chain(hash)).copied();
        std::iter::successors(first, |at| self.next.get(*at as usize).copied()).take_while(|at| *at != NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_positions_of_a_name_are_found_in_order() {
        let names = ["a", "b", "a", "", "c", "a"];
        let hash = |name: &str| u64::from(*name.as_bytes().first().unwrap_or(&0)) << 32 | 5;
        let index = NameIndex::new(names.len(), |at| (!names[at].is_empty()).then(|| hash(names[at])));
        let found: Vec<u32> = index.candidates(hash("a")).filter(|at| names[*at as usize] == "a").collect();
        assert_eq!(found, [0, 2, 5]);
        assert!(index.candidates(hash("a")).is_sorted());
        assert!(!index.candidates(5).any(|at| at == 3), "a position without a name is in no chain");
        assert_eq!(NameIndex::new(0, |_| None).candidates(7).count(), 0);
    }
}
