//! RAM by NUMA node, and the map of it that the kernel is given.

use std::ops::Range;

use super::layout::{ACPI, ACPI_END, HIGH};
use crate::machine::ram::spans;

/// What a range of guest-physical memory is, with the number that both `boot_params` and PVH's start info have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ram = 1,
    Reserved = 2,
    /// Tables of ACPI, which the kernel leaves alone.
    Acpi = 3,
}

/// The guest's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MemoryMap {
    /// RAM of NUMA nodes, what lies below 1 MiB included.
    pub(super) nodes: Vec<(u32, Range<u64>)>,
    /// What e820 says.
    pub(super) entries: Vec<(Range<u64>, Kind)>,
}

impl MemoryMap {
    /// Of nodes with these sizes in bytes.
    pub(super) fn new(node_bytes: &[u64]) -> Self {
        let nodes: Vec<(u32, Range<u64>)> = spans(node_bytes)
            .into_iter()
            .map(|span| (span.node as u32, span.base..span.base + span.bytes))
            .collect();
        let mut entries =
            vec![(0..ACPI, Kind::Ram), (ACPI..ACPI_END, Kind::Acpi), (ACPI_END..HIGH, Kind::Reserved)];
        for (_, range) in &nodes {
            let range = range.start.max(HIGH)..range.end;
            match entries.last_mut() {
                _ if range.is_empty() => {}
                Some((last, Kind::Ram)) if last.end == range.start => last.end = range.end,
                _ => entries.push((range, Kind::Ram)),
            }
        }
        Self { nodes, entries }
    }

    /// The RAM from 1 MiB on that has no hole.
    pub(super) fn low(&self) -> Range<u64> {
        let is_low = |(range, kind): &&(Range<u64>, Kind)| *kind == Kind::Ram && range.start == HIGH;
        self.entries.iter().find(is_low).map_or(HIGH..HIGH, |(range, _)| range.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, MemoryMap};

    #[test]
    fn nodes_and_e820_have_the_hole_below_4_gib() {
        let gib = 1_u64 << 30;
        let map = MemoryMap::new(&[2 * gib, 2 * gib]);
        let low = (0..2 * gib, 2 * gib..3 * gib, 4 * gib..5 * gib);
        assert_eq!(map.nodes, [(0, low.0), (1, low.1), (1, low.2)]);
        assert_eq!(map.low(), 1 << 20..3 * gib);
        let ram: Vec<_> = map.entries.iter().filter(|(_, kind)| *kind == Kind::Ram).collect();
        assert_eq!(ram.len(), 3, "{map:x?}");
        assert!(map.entries.windows(2).all(|pair| pair[0].0.end <= pair[1].0.start));
        assert_eq!(map.entries[1], (0x8_0000..0xa_0000, Kind::Acpi));
    }

    #[test]
    fn too_little_ram_has_no_low_part() {
        assert!(MemoryMap::new(&[1 << 20]).low().is_empty());
        assert!(MemoryMap::new(&[]).low().is_empty());
    }
}
