//! Which ranges of memory the file has, and where.

use std::ops::Range;

/// The parts of `ranges` that no range of `without` covers. Both ascending and disjoint.
pub(super) fn subtract(ranges: &[Range<u64>], without: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut out = Vec::new();
    for range in ranges {
        let mut from = range.start;
        let first = without.partition_point(|gap| gap.end <= range.start);
        for gap in without.iter().skip(first).take_while(|gap| gap.start < range.end) {
            if from < gap.start {
                out.push(from..gap.start);
            }
            from = from.max(gap.end);
        }
        if from < range.end {
            out.push(from..range.end);
        }
    }
    out
}

/// The parts of `ranges`, ascending and disjoint, that are in `within`.
pub(super) fn intersect(ranges: &[Range<u64>], within: &Range<u64>) -> Vec<Range<u64>> {
    let both = |range: &Range<u64>| range.start.max(within.start)..range.end.min(within.end);
    ranges.iter().map(both).filter(|range| range.start < range.end).collect()
}

/// Where the bytes of RAM are in the file: one range after the other.
pub(super) struct Places {
    /// Ranges of RAM with the file's offset of their first byte.
    ranges: Vec<(Range<u64>, u64)>,
    /// Just past the last byte of the file.
    pub end: u64,
}

impl Places {
    /// Places from `start` on; `None` where a file cannot be as long.
    pub(super) fn new(ram: &[Range<u64>], start: u64) -> Option<Self> {
        let mut end = start;
        let mut ranges = Vec::with_capacity(ram.len());
        for range in ram {
            ranges.push((range.clone(), end));
            end = end.checked_add(range.end.checked_sub(range.start)?)?;
        }
        (i64::try_from(end).is_ok()).then_some(Self { ranges, end })
    }

    /// The offset of the byte at `at`, which is in RAM.
    pub(super) fn of(&self, at: u64) -> Option<u64> {
        let after = self.ranges.partition_point(|(range, _)| range.start <= at);
        let (range, offset) = self.ranges.get(after.checked_sub(1)?)?;
        range.contains(&at).then(|| offset + (at - range.start))
    }
}
