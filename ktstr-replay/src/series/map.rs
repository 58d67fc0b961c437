//! Columns of maps.

use crate::path::{EntryKey, Fold, MapPath, Projection};

use super::{Column, Series};

/// A map of a series, about to be asked for an entry.
#[derive(Clone)]
pub struct SeriesMap<'s> {
    series: &'s Series,
    name: String,
}

/// An entry of a map of a series, about to be asked for a field.
#[derive(Clone)]
pub struct SeriesEntry<'s> {
    series: &'s Series,
    name: String,
    entry: EntryKey,
}

impl<'s> SeriesMap<'s> {
    pub(super) fn new(series: &'s Series, name: &str) -> Self {
        Self { series, name: name.to_owned() }
    }

    /// The entry at an index, of an array.
    pub fn at(self, index: u32) -> SeriesEntry<'s> {
        SeriesEntry { series: self.series, name: self.name, entry: EntryKey::At(index) }
    }

    /// The entry with a whole-number key, of a hash.
    pub fn key(self, key: u64) -> SeriesEntry<'s> {
        SeriesEntry { series: self.series, name: self.name, entry: EntryKey::Key(key) }
    }
}

impl SeriesEntry<'_> {
    fn path(&self, field: &str) -> MapPath {
        MapPath { map: self.name.clone(), entry: self.entry, field: field.to_owned() }
    }

    /// A field of the value; the value itself for the empty path.
    pub fn field(&self, path: &str) -> Column {
        self.series.column(&Projection::Map(self.path(path)))
    }

    /// A field of one CPU's value.
    pub fn cpu_field(&self, cpu: u32, path: &str) -> Column {
        self.series.column(&Projection::MapCpu(self.path(path), cpu))
    }

    /// The sum of a field over all CPUs.
    pub fn cpu_sum(&self, path: &str) -> Column {
        self.series.column(&Projection::CpuMap(Fold::Sum, self.path(path)))
    }

    /// The least of a field over all CPUs.
    pub fn cpu_min(&self, path: &str) -> Column {
        self.series.column(&Projection::CpuMap(Fold::Min, self.path(path)))
    }

    /// The greatest of a field over all CPUs.
    pub fn cpu_max(&self, path: &str) -> Column {
        self.series.column(&Projection::CpuMap(Fold::Max, self.path(path)))
    }
}
