//! Series: some of a trace's samples, and the columns that can be made of them.

use std::fmt;
use std::sync::Arc;

use crate::kernel::query::Reading;
use crate::path::{EntryKey, FieldPath, Fold, MapPath, Projection, RqField, ScxField, StatsPath};
use crate::trace::record::{CaptureKind, Sample};
use crate::units::Cpu;
use crate::value::{Scalar, Snapshot, ValueError};

use super::samples::{Decoded, Samples};
use super::{Absent, Column, Point};

/// Some samples of a trace, in the order in which they were taken.
///
/// ```
/// use ktstr_replay::trace::Trace;
/// use ktstr_replay::value::{Scalar, ValueError};
/// use ktstr_replay::verdict::{Outcome, Verdict};
///
/// let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
/// let periodic = trace.periodic();
/// let mut v = Verdict::new();
/// periodic.var("nr_dispatched").nondecreasing(&mut v);
/// let of_cpus = periodic.map("cpu_stats").at(0);
/// of_cpus.cpu_sum("nr_running").each(1.., &mut v);
/// of_cpus.cpu_min("nr_running").each(..=1_000_000, &mut v);
/// of_cpus.cpu_max("nr_running").each(1.., &mut v);
/// // What no path can name is computed, and goes by a label.
/// let backlog = periodic.project("backlog", |sample| {
///     let number = |name: &str| sample.var(name)?.as_i64();
///     Ok::<Scalar, ValueError>((number("nr_enqueued")? - number("nr_dispatched")?).into())
/// });
/// backlog.each(..1000, &mut v);
/// assert_eq!(v.outcome(), Outcome::Pass);
/// assert_eq!(v.findings[4].what, "each(<backlog> in ..1000)");
/// // Captures that the test has named.
/// assert!(trace.tagged("calm").is_empty());
/// # Ok::<(), ktstr_replay::trace::TraceError>(())
/// ```
#[derive(Clone)]
pub struct Series {
    pub(super) samples: Arc<Samples>,
    picked: Vec<usize>,
}

impl Series {
    /// The samples that claims are about unless they say otherwise: periodic ones if there are any, else all.
    pub(crate) fn subject(samples: &Arc<Samples>) -> Self {
        Self { picked: samples.subject(), samples: Arc::clone(samples) }
    }

    /// All samples.
    pub(crate) fn all(samples: &Arc<Samples>) -> Self {
        Self { picked: (0..samples.all.len()).collect(), samples: Arc::clone(samples) }
    }

    /// The samples for which `keep` holds, of those that can be read.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&Sample) -> bool) -> Self {
        let whole = |i: &&usize| self.samples.all.get(**i).and_then(Decoded::whole).is_some_and(&keep);
        Self {
            samples: Arc::clone(&self.samples),
            picked: self.picked.iter().filter(whole).copied().collect(),
        }
    }

    /// The samples of one kind, and those that are damaged, since they may be of it.
    pub(super) fn of_kind(&self, kind: CaptureKind) -> Self {
        let decoded = |i: &&usize| self.samples.all.get(**i);
        let keep = |i: &&usize| decoded(i).is_some_and(|s| s.whole().is_none_or(|s| s.kind == kind));
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
        self.decoded().filter_map(Decoded::whole).map(|s| self.samples.snapshot(s))
    }

    fn decoded(&self) -> impl Iterator<Item = &Decoded> {
        self.picked.iter().filter_map(|i| self.samples.all.get(*i))
    }

    /// A variable of the scheduler's global data, by path: `nr_dispatched`, `stats.nr[2]`, `bss.x`.
    pub fn var(&self, path: &str) -> Column {
        self.column_at(path, Projection::Var)
    }

    /// A map: `series.map("ctrs").at(0).field("hits")`.
    pub fn map(&self, name: &str) -> SeriesMap<'_> {
        SeriesMap { series: self, name: name.to_owned() }
    }

    /// A field of one CPU's runqueue.
    pub fn rq(&self, cpu: Cpu, field: RqField) -> Column {
        self.column(&Projection::Rq(cpu, field))
    }

    /// A field of sched_ext's state.
    pub fn scx(&self, field: ScxField) -> Column {
        self.column(&Projection::Scx(field))
    }

    /// A member of the statistics that the scheduler serves, by a path that begins with what it is asked for:
    /// `top.nr_migrations`, `top.nodes.0.cpus[1]`. In a claim's text it is `stats(top).nr_migrations`.
    pub fn stats(&self, path: &str) -> Column {
        self.column_at(path, |path| {
            let stats = StatsPath::of_steps(path.steps());
            // Without a target it is of none that was asked for, and each sample says so.
            Projection::Stats(stats.unwrap_or_else(|| StatsPath { target: String::new(), member: path }))
        })
    }

    /// Whether a scheduler was enabled.
    pub fn alive(&self) -> Column {
        self.column(&Projection::Alive)
    }

    /// Whatever a claim's text can name.
    pub fn column(&self, projection: &Projection) -> Column {
        let columns = self.samples.trace().map(|trace| self.columns_with(trace, &[projection]));
        let column = columns.and_then(|columns| columns.into_iter().next());
        let lost = || Absent::Unreadable("the trace cannot be read again".to_owned());
        column.unwrap_or_else(|| self.build(projection.clone(), |_| Err(lost())))
    }

    /// What `value` computes of each sample. The column goes by `label`.
    pub fn project<E: fmt::Display>(
        &self,
        label: &str,
        value: impl Fn(&Snapshot<'_>) -> Result<Scalar, E>,
    ) -> Column {
        self.build(Projection::Closure(label.to_owned()), |snapshot| {
            let scalar = value(snapshot).map_err(|e| Absent::Unreadable(e.to_string()))?;
            Ok(Reading { scalar, bits: 64 })
        })
    }

    /// The column of what `of` makes of a path. Where `text` is not a path, no sample has a value, and each says why.
    fn column_at(&self, text: &str, of: impl Fn(FieldPath) -> Projection) -> Column {
        match text.parse() {
            Ok(path) => self.column(&of(path)),
            Err(error) => {
                let why = Absent::Unreadable(ValueError::from(error).to_string());
                self.build(of(FieldPath::of_name(text)), |_| Err(why.clone()))
            }
        }
    }

    /// The column of what `value` takes from each sample that was not missed.
    pub(super) fn build(
        &self,
        projection: Projection,
        mut value: impl FnMut(&Snapshot<'_>) -> Result<Reading, Absent>,
    ) -> Column {
        let mut bits = 0;
        let mut scalar = |reading: Reading| {
            bits = bits.max(reading.bits.min(64));
            reading.scalar
        };
        let point = |one: &Decoded| match one {
            Decoded::Whole(sample) => Point {
                sample: sample.index,
                tag: sample.tag.clone(),
                at_ns: sample.guest_ns,
                phase: sample.phase.as_ref().map(|(index, _)| *index),
                value: match &sample.missed {
                    Some(why) => Err(Absent::Missed(why.clone())),
                    None => value(&self.samples.snapshot(sample)).map(&mut scalar),
                },
            },
            Decoded::Damaged { index, at_ns, why } => Point {
                sample: *index,
                tag: "(damaged)".to_owned(),
                at_ns: *at_ns,
                phase: None,
                value: Err(Absent::Missed(why.clone())),
            },
        };
        let points = self.decoded().map(point).collect();
        Column { projection, origin_ns: self.samples.origin_ns, points, bits }
    }
}

/// A map of a series, to choose an entry of.
#[derive(Clone)]
pub struct SeriesMap<'s> {
    series: &'s Series,
    name: String,
}

/// An entry of a map of a series, to make columns of.
#[derive(Clone)]
pub struct SeriesEntry<'s> {
    series: &'s Series,
    name: String,
    entry: EntryKey,
}

impl<'s> SeriesMap<'s> {
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
    fn column(&self, path: &str, of: impl Fn(MapPath) -> Projection) -> Column {
        let map = |field| MapPath { map: self.name.clone(), entry: self.entry.clone(), field };
        self.series.column_at(path, |field| of(map(field)))
    }

    /// A field of the value; the value itself for the empty path.
    pub fn field(&self, path: &str) -> Column {
        self.column(path, Projection::Map)
    }

    /// A field of one CPU's value, of a per-CPU map.
    ///
    /// ```
    /// use ktstr_replay::trace::Trace;
    /// use ktstr_replay::units::Cpu;
    /// use ktstr_replay::verdict::{Outcome, Verdict};
    ///
    /// let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
    /// let mut v = Verdict::new();
    /// trace.periodic().map("cpu_stats").at(0).cpu_field(Cpu(1), "nr_running").each(1.., &mut v);
    /// assert_eq!(v.outcome(), Outcome::Pass);
    /// # Ok::<(), ktstr_replay::trace::TraceError>(())
    /// ```
    pub fn cpu_field(&self, cpu: Cpu, path: &str) -> Column {
        self.column(path, |map| Projection::MapOnCpu(map, cpu))
    }

    /// The sum of a field over all CPUs.
    pub fn cpu_sum(&self, path: &str) -> Column {
        self.column(path, |map| Projection::MapFolded(Fold::Sum, map))
    }

    /// The least of a field over all CPUs.
    pub fn cpu_min(&self, path: &str) -> Column {
        self.column(path, |map| Projection::MapFolded(Fold::Min, map))
    }

    /// The greatest of a field over all CPUs.
    pub fn cpu_max(&self, path: &str) -> Column {
        self.column(path, |map| Projection::MapFolded(Fold::Max, map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TraceBuilder;
    use crate::verdict::{Outcome, Verdict};

    #[test]
    fn a_computed_column_is_claimed_by_its_label() {
        let mut missed = crate::testing::sample("late", CaptureKind::Periodic, 1500, &[]);
        missed.missed = Some("the guest had died".into());
        let series = TraceBuilder::new().periodic(&[10, 20]).sample(missed).trace().periodic();
        let column = series.project("double", |sample| match sample.var("nr_dispatched")?.as_u64()? {
            20 => Err(ValueError::Missed { why: "it is 20".into() }),
            number => Ok(Scalar::from(number * 2)),
        });
        let values: Vec<_> = column.points.iter().map(|point| point.value.clone()).collect();
        let refused = "this capture was not taken: it is 20".to_owned();
        let dead = "the guest had died".to_owned();
        assert_eq!(
            values,
            [Ok(Scalar::Int(20)), Err(Absent::Unreadable(refused)), Err(Absent::Missed(dead))]
        );
        let mut v = Verdict::new();
        column.each(20.., &mut v);
        assert_eq!((v.outcome(), v.findings[0].what.as_str()), (Outcome::Fail, "each(<double> in 20..)"));
        assert_eq!(v.findings[0].summary, "the bound does not hold at 2 of 3 samples");
    }

    #[test]
    fn a_field_of_one_cpu_is_that_cpus_and_times_count_from_the_body() {
        let trace = TraceBuilder::begun().periodic(&[10, 20]).trace();
        let series = trace.periodic();
        let values = |column: Column| -> Vec<_> { column.usable().map(|(_, _, value)| value).collect() };
        let entry = || series.map("cpu_ctx").at(0);
        for (column, value) in [
            (entry().cpu_field(Cpu(0), "vtime"), 1),
            (entry().cpu_field(Cpu(1), "vtime"), 2),
            (entry().cpu_sum("vtime"), 3),
            (entry().cpu_min("vtime"), 1),
            (entry().cpu_max("vtime"), 2),
        ] {
            assert_eq!(values(column), [Scalar::Int(value), Scalar::Int(value)]);
        }
        let column = series.var("nr_dispatched");
        let times: Vec<i64> = column.points.iter().map(|point| column.since_start_ns(point)).collect();
        assert_eq!((times, column.missing()), (vec![500_000_000, 1_000_000_000], 0));
    }

    #[test]
    fn a_text_that_is_no_path_is_said_in_each_sample() {
        let series = TraceBuilder::new().periodic(&[10]).trace().periodic();
        for column in [series.var("stats.nr["), series.map("cpu_ctx").at(0).cpu_sum("stats.nr[")] {
            let why = "`stats.nr[` is not a path: expected an index, or an enumerator, found the end of the path at character 10";
            assert_eq!(column.points[0].value, Err(Absent::Unreadable(why.into())));
            let printed = column.projection.to_string();
            assert_eq!(printed.parse(), Ok(column.projection), "{printed}");
        }
    }
}
