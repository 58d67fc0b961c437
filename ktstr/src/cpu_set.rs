//! Sets of CPU numbers in the kernel's list format.

use std::collections::BTreeSet;
use std::collections::btree_set;
use std::fmt;
use std::str::FromStr;

use ktstr_replay::units::{Cpu, CpuList};

/// A set of CPU (or NUMA node) numbers. Prints and parses as the kernel's lists do.
///
/// ```
/// use ktstr::prelude::*;
///
/// let set: CpuSet = "0-3,7".parse()?;
/// assert_eq!(set.len(), 5);
/// assert_eq!(set.to_string(), "0-3,7");
///
/// let mut odd = CpuSet::new();
/// [1, 3, 5].into_iter().for_each(|cpu| odd.insert(cpu));
/// assert_eq!(set.intersection(&odd).to_string(), "1,3");
/// assert_eq!(set.difference(&odd).to_string(), "0,2,7");
/// assert!(odd.iter().all(|cpu| odd.contains(*cpu)) && !odd.is_empty());
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuSet(BTreeSet<u32>);

/// Text that is not a CPU list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a CPU list such as `0-3,7`: `{part}` is neither a number nor an ascending range below {limit}", limit = CpuSet::LIMIT)]
pub struct CpuListError {
    text: String,
    part: String,
}

impl CpuSet {
    /// CPU numbers are below this (`NR_CPUS` of no x86 kernel is larger).
    pub const LIMIT: u32 = 8192;

    /// The set of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Add a number.
    pub fn insert(&mut self, cpu: u32) {
        self.0.insert(cpu);
    }

    /// Whether a number is in it.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// How many numbers are in it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> btree_set::Iter<'_, u32> {
        self.0.iter()
    }

    /// Those of its numbers that `other` has as well.
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// Those of its numbers that `other` lacks.
    pub fn difference(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut set = BTreeSet::new();
        for part in text.trim().split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let fault = || CpuListError { text: text.trim().to_owned(), part: part.to_owned() };
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u32 = first.parse().map_err(|_| fault())?;
            let last: u32 = last.parse().map_err(|_| fault())?;
            if first > last || last >= Self::LIMIT {
                return Err(fault());
            }
            set.extend(first..=last);
        }
        Ok(Self(set))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_empty() {
            true => Ok(()),
            false => self.0.iter().copied().map(Cpu).collect::<CpuList>().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_of_the_kernel_are_read() -> Result<(), CpuListError> {
        let set: CpuSet = "0-3,7\n".parse()?;
        assert_eq!(set.iter().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 7]);
        assert!("\n".parse::<CpuSet>()?.is_empty());
        Ok(())
    }

    #[test]
    fn text_that_is_no_list_is_refused() {
        for text in ["x", "3-1", "1-", "-1", "0-4294967295", "8192"] {
            assert!(text.parse::<CpuSet>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(numbers in proptest::collection::btree_set(0..CpuSet::LIMIT, 0..40)) {
            let set: CpuSet = numbers.into_iter().collect();
            prop_assert_eq!(set.to_string().parse::<CpuSet>(), Ok(set));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<CpuSet>();
        }
    }
}
