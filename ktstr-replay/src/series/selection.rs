//! Series: some of a trace's samples, and the columns that can be made of them.

use std::fmt;
use std::sync::Arc;

use crate::path::{Projection, RqField, ScxField};
use crate::trace::record::{CaptureKind, Sample};
use crate::value::{Scalar, Snapshot};

use super::map::SeriesMap;
use super::read::read;
use super::samples::{Samples, Slot};
use super::{Absent, Column, Point};

/// Some samples of a trace, in the order in which they were taken.
#[derive(Clone)]
pub struct Series {
    samples: Arc<Samples>,
    picked: Vec<usize>,
}

impl Series {
    /// The samples that claims are about unless they say otherwise: periodic ones if there are any, else all.
    pub fn subject(samples: &Arc<Samples>) -> Self {
        Self { picked: samples.subject(), samples: Arc::clone(samples) }
    }

    /// All samples.
    pub fn all(samples: &Arc<Samples>) -> Self {
        Self { picked: (0..samples.all.len()).collect(), samples: Arc::clone(samples) }
    }

    /// The samples for which `keep` holds, of those that can be read.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&Sample) -> bool) -> Self {
        let whole = |i: &&usize| self.samples.all.get(**i).and_then(Slot::whole).is_some_and(&keep);
        Self {
            samples: Arc::clone(&self.samples),
            picked: self.picked.iter().filter(whole).copied().collect(),
        }
    }

    /// The samples of one kind, and those that are damaged, since they may be of it.
    pub(super) fn of_kind(&self, kind: CaptureKind) -> Self {
        let slot = |i: &&usize| self.samples.all.get(**i);
        let keep = |i: &&usize| slot(i).is_some_and(|s| s.whole().is_none_or(|s| s.kind == kind));
        Self {
            samples: Arc::clone(&self.samples),
            picked: self.picked.iter().filter(keep).copied().collect(),
        }
    }

    /// How many samples there are, with those that were missed.
    pub fn len(&self) -> usize {
        self.picked.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.picked.is_empty()
    }

    /// The samples that can be read, with accessors.
    pub fn snapshots(&self) -> impl Iterator<Item = Snapshot<'_>> {
        self.slots().filter_map(Slot::whole).map(|s| self.samples.snapshot(s))
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.picked.iter().filter_map(|i| self.samples.all.get(*i))
    }

    /// A variable of the scheduler's global data, by path: `nr_dispatched`, `stats.nr[2]`, `bss.x`.
    pub fn var(&self, path: &str) -> Column {
        self.column(&Projection::Var(path.to_owned()))
    }

    /// A map: `series.map("ctrs").at(0).field("hits")`.
    pub fn map(&self, name: &str) -> SeriesMap<'_> {
        SeriesMap::new(self, name)
    }

    /// A field of one CPU's runqueue.
    pub fn rq(&self, cpu: u32, field: RqField) -> Column {
        self.column(&Projection::Rq(cpu, field))
    }

    /// A field of sched_ext's state.
    pub fn scx(&self, field: ScxField) -> Column {
        self.column(&Projection::Scx(field))
    }

    /// Whether a scheduler was enabled.
    pub fn alive(&self) -> Column {
        self.column(&Projection::Alive)
    }

    /// Whatever a claim's text can name.
    pub fn column(&self, projection: &Projection) -> Column {
        self.build(projection.clone(), |snapshot| read(projection, snapshot))
    }

    /// What `value` computes of each sample. The column goes by `label`.
    pub fn project<E: fmt::Display>(
        &self,
        label: &str,
        value: impl Fn(&Snapshot<'_>) -> Result<Scalar, E>,
    ) -> Column {
        self.build(Projection::Closure(label.to_owned()), |snapshot| {
            if let Some(why) = &snapshot.sample().missed {
                return Err(Absent::Missed(why.clone()));
            }
            value(snapshot).map_err(|e| Absent::Unreadable(e.to_string()))
        })
    }

    pub(super) fn build(
        &self,
        projection: Projection,
        mut value: impl FnMut(&Snapshot<'_>) -> Result<Scalar, Absent>,
    ) -> Column {
        let point = |slot: &Slot| match slot {
            Slot::Whole(sample) => Point {
                sample: sample.index,
                tag: sample.tag.clone(),
                at_ns: sample.guest_ns,
                phase: sample.phase.as_ref().map(|(index, _)| *index),
                value: value(&self.samples.snapshot(sample)),
            },
            Slot::Damaged { index, at_ns, why } => Point {
                sample: *index,
                tag: "(damaged)".to_owned(),
                at_ns: *at_ns,
                phase: None,
                value: Err(Absent::Missed(why.clone())),
            },
        };
        Column { projection, origin_ns: self.samples.origin_ns, points: self.slots().map(point).collect() }
    }
}
