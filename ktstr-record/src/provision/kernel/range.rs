//! A range of kernel versions: `7.0..7.3`, `7.1..`, `..7.2`. Both ends are in it, each with all that begins so: 7.3.4 is in
//! `7.0..7.3`.

use std::collections::BTreeSet;
use std::fmt;

use super::super::error::{Error, Result};
use super::spec::release_numbers;

/// Between the numbers of a range.
const TO: &str = "..";
/// Major versions that a range may span of which kernels are selected.
const MAX_MAJORS: u32 = 16;

/// A range of kernel versions, at least one end of which is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelRange {
    from: Option<Vec<u32>>,
    to: Option<Vec<u32>>,
}

/// A series of kernels: major and minor version.
pub(super) type Series = [u32; 2];

impl KernelRange {
    /// Whether a text is meant as a range. A path may have `..` in it too.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.contains(TO) && !text.contains('/')
    }

    /// Reads a range.
    ///
    /// # Errors
    /// [`Error::BadKernelRange`].
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: String| Error::BadKernelRange { asked: text.to_owned(), why };
        let (from, to) = text.split_once(TO).ok_or_else(|| bad("it has no `..`".to_owned()))?;
        let end = |end: &str| match end {
            "" => Ok(None),
            end => numbers(end)
                .map(Some)
                .ok_or_else(|| bad(format!("{end:?} is no version of one to three numbers"))),
        };
        let range = Self { from: end(from)?, to: end(to)? };
        match (&range.from, &range.to) {
            (None, None) => Err(bad("it has neither end".to_owned())),
            (Some(first), Some(last)) if above(first, last) => {
                Err(bad(format!("{from} comes after {to}, so that it is the wrong way round")))
            }
            _ => Ok(range),
        }
    }

    /// That it spans few enough major versions for its kernels to be selected.
    ///
    /// # Errors
    /// [`Error::BadKernelRange`].
    pub(super) fn check_span(&self) -> Result<()> {
        if let (Some(first), Some(last)) = (&self.from, &self.to)
            && last[0].saturating_sub(first[0]) >= MAX_MAJORS
        {
            let why =
                format!("it spans more than {MAX_MAJORS} major versions, too many to select kernels from");
            return Err(Error::BadKernelRange { asked: self.to_string(), why });
        }
        Ok(())
    }

    /// Whether the kernel `release` (`uname -r`) is in it.
    #[must_use]
    pub fn admits(&self, release: &str) -> bool {
        let Some(numbers) = release_numbers(release) else { return false };
        let from = self.from.as_ref().is_none_or(|from| !above(from, &numbers));
        from && self.to.as_ref().is_none_or(|to| !above(&numbers, to))
    }

    /// The series that are in it by their numbers and not in `existing`, in words. Which series a major version ends with, nobody
    /// knows that does not see it: above the last that exists nothing is missed unless the range names it.
    pub(super) fn absent(&self, existing: &BTreeSet<Series>) -> Vec<String> {
        let (Some(first), Some(last)) = (existing.first(), existing.last()) else { return Vec::new() };
        let minor = |end: &[u32]| end.get(1).copied();
        let from = self.from.as_deref().unwrap_or(first);
        let to = self.to.as_deref().unwrap_or(last);
        let mut absent = Vec::new();
        // At most MAX_MAJORS where both ends are given; else up to what exists.
        let majors = from[0].max(to[0].saturating_sub(MAX_MAJORS))..=to[0];
        for major in majors {
            let of_major: Vec<u32> =
                existing.iter().filter(|series| series[0] == major).map(|series| series[1]).collect();
            let begin = if major == from[0] { minor(from).unwrap_or(0) } else { 0 };
            let named = if major == to[0] { minor(to) } else { None };
            let Some(end) = named.or_else(|| of_major.last().copied()) else {
                absent.push(format!("{major}.*"));
                continue;
            };
            let mut next = Some(begin);
            for minor in of_major.iter().copied().filter(|minor| (begin..=end).contains(minor)) {
                absent.extend(gap(major, next, minor.checked_sub(1)));
                next = minor.checked_add(1);
            }
            absent.extend(gap(major, next, Some(end)));
        }
        absent
    }

    /// Its series, if it has both ends with their minor versions in one major version.
    pub(super) fn series(&self) -> Option<impl Iterator<Item = Series> + use<>> {
        let (from, to) = (self.from.as_deref()?, self.to.as_deref()?);
        let (&[major, first, ..], &[other, last, ..]) = (from, to) else { return None };
        (major == other).then(|| (first..=last).map(move |minor| [major, minor]))
    }
}

/// The series of `major` from `first` to `last`, in words; none where there is none.
fn gap(major: u32, first: Option<u32>, last: Option<u32>) -> Option<String> {
    let (first, last) = (first?, last?);
    match last.checked_sub(first)? {
        0 => Some(format!("{major}.{first}")),
        _ => Some(format!("{major}.{first} to {major}.{last}")),
    }
}

/// Whether `a` lies above all that begins as `b`, as far as both go.
fn above(a: &[u32], b: &[u32]) -> bool {
    let common = a.len().min(b.len());
    a[..common] > b[..common]
}

fn numbers(text: &str) -> Option<Vec<u32>> {
    let numbers: Vec<u32> = text.split('.').map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
    // `parse` takes a sign.
    (numbers.len() <= 3 && !text.contains('+')).then_some(numbers)
}

/// The series of a kernel's release.
pub(super) fn series_of(release: &str) -> Option<Series> {
    release_numbers(release).map(|[major, minor, _]| [major, minor])
}

impl fmt::Display for KernelRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end =
            |end: &Option<Vec<u32>>| end.iter().flatten().map(u32::to_string).collect::<Vec<_>>().join(".");
        write!(f, "{}{TO}{}", end(&self.from), end(&self.to))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> KernelRange {
        KernelRange::parse(text).unwrap()
    }

    #[test]
    fn both_ends_are_in_it_with_all_that_begins_so() {
        for (text, inside, outside) in [
            (
                "7.0..7.3",
                &["7.0.1", "7.1.13+deb13-cloud-amd64", "7.3-rc1", "7.3.99"][..],
                &["6.19.1", "7.4", "8.0"][..],
            ),
            ("7.1..", &["7.1.0", "7.30.1", "8.0"], &["7.0.99", "6.12"]),
            ("..7.2", &["5.10", "7.2.9"], &["7.3"]),
            ("7.1.8..7.2.6", &["7.1.8", "7.1.13", "7.2.6"], &["7.1.7", "7.2.7"]),
            ("6..7", &["6.0", "7.99.1"], &["5.19", "8.0"]),
            // Where nothing is selected, as for a scheduler, it may span any number of major versions.
            ("6..4000000000", &["6.0", "40.1"], &["5.19"]),
        ] {
            for release in inside {
                assert!(range(text).admits(release), "{release} in {text}");
            }
            for release in outside.iter().chain(&["what"]) {
                assert!(!range(text).admits(release), "{release} in {text}");
            }
        }
    }

    #[test]
    fn what_is_no_range_says_why() {
        for (text, why) in [
            ("7.3..7.0", "7.3 comes after 7.0, so that it is the wrong way round"),
            ("..", "neither end"),
            ("7.x..7.3", "\"7.x\" is no version"),
            ("7.0..7.3+deb13", "\"7.3+deb13\" is no version"),
            ("7.0...7.3", "\".7.3\" is no version"),
            ("7.3", "no `..`"),
        ] {
            let text = KernelRange::parse(text).unwrap_err().to_string();
            assert!(text.contains(why) && text.contains("7.0..7.3"), "{text}");
        }
        assert!(
            KernelRange::is_meant("7.0..7.3")
                && !KernelRange::is_meant("../linux")
                && !KernelRange::is_meant("7.3")
        );
    }

    #[test]
    fn series_that_do_not_exist_are_told() {
        let existing: BTreeSet<Series> = [[6, 16], [6, 18], [7, 0], [7, 1], [7, 3]].into();
        for (text, absent) in [
            ("7.0..7.3", &["7.2"][..]),
            ("7.0..7.1", &[]),
            ("6.17..7.0", &["6.17"]),
            ("6.14..7", &["6.14 to 6.15", "6.17", "7.2"]),
            ("7.3..7.4294967295", &["7.4 to 7.4294967295"]),
            ("7.2..", &["7.2"]),
            ("..6.18", &["6.17"]),
            ("7.3..9.1", &["8.*", "9.0 to 9.1"]),
        ] {
            assert_eq!(range(text).absent(&existing), absent, "{text}");
        }
        assert_eq!(range("7.0..7.3").absent(&BTreeSet::new()), [""; 0]);
        let bounded: Vec<Series> = range("7.1..7.3").series().unwrap().collect();
        assert_eq!(bounded, [[7, 1], [7, 2], [7, 3]]);
        assert!(range("6.19..7.3").series().is_none() && range("7.1..").series().is_none());
    }

    proptest! {
        #[test]
        fn a_range_prints_as_it_was_read(text in "[0-9]{0,2}(\\.[0-9]{1,2}){0,2}\\.\\.[0-9]{0,2}") {
            if let Ok(range) = KernelRange::parse(&text) {
                prop_assert_eq!(&KernelRange::parse(&range.to_string()).unwrap(), &range);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = KernelRange::parse(&text);
        }
    }
}
