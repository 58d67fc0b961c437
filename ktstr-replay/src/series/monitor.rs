//! What is measured of the machine at a capture: how evenly its runqueues are filled, and how often sched_ext counted an event.

use std::collections::BTreeMap;

use crate::kernel::KernelView;
use crate::kernel::query::Reading;
use crate::kernel::scx::read_schedulers;
use crate::path::Projection;
use crate::text::{Candidates, counted};
use crate::trace::record::{CpuState, Sample, ScxState};
use crate::value::Scalar;

use super::{Absent, Column, Point, Series};

/// `ops.select_cpu` gave a CPU that the task may not run on, and the kernel took another.
pub(crate) const FALLBACK: &str = "SCX_EV_SELECT_CPU_FALLBACK";
/// A task went on because its CPU had no other.
pub(crate) const KEEP_LAST: &str = "SCX_EV_DISPATCH_KEEP_LAST";

/// A value with the CPU or cgroup that it is of, or why there is none.
pub(crate) type Measured = Result<(f64, String), String>;

/// What is measured of the runqueues of a capture.
pub(crate) type Measure = fn(&[CpuState]) -> Measured;

/// How a metric is had.
#[derive(Clone, Copy)]
enum How {
    /// Out of the runqueues of each capture.
    Runqueues(Measure),
    /// How often an event was counted per second since the capture before.
    Rate(&'static str),
}

/// The metrics, by name.
const METRICS: &[(&str, How)] = &[
    ("imbalance_ratio", How::Runqueues(imbalance)),
    ("local_dsq_depth", How::Runqueues(local_dsq)),
    ("nr_running", How::Runqueues(running)),
    ("fallback_rate", How::Rate(FALLBACK)),
    ("keep_last_rate", How::Rate(KEEP_LAST)),
];

/// The longest runqueue over the shortest, each with one added, so that an idle CPU does not make it infinite.
pub(crate) fn imbalance(cpus: &[CpuState]) -> Measured {
    let lengths = cpus.iter().map(|cpu| Some((cpu.nr_running?, cpu.cpu)));
    let lengths: Option<Vec<_>> = lengths.collect();
    let lengths = lengths.ok_or_else(|| "does not have the length of each runqueue".to_owned())?;
    let (most, least) = (lengths.iter().max(), lengths.iter().min_by_key(|(count, _)| *count));
    let ((most, on), (least, other)) = most.zip(least).ok_or_else(|| "has no runqueues".to_owned())?;
    let ratio = (*most as f64 + 1.0) / (*least as f64 + 1.0);
    Ok((
        ratio,
        format!(
            "{} on CPU {on} and {least} on CPU {other}, each with one added:",
            counted(*most as usize, "task")
        ),
    ))
}

/// The most tasks in the local dispatch queue of a CPU.
pub(crate) fn local_dsq(cpus: &[CpuState]) -> Measured {
    let depths = cpus.iter().map(|cpu| Some((cpu.local_dsq_nr?, cpu.cpu)));
    let depths: Option<Vec<_>> = depths.collect();
    let depths = depths
        .ok_or_else(|| "does not have the local dispatch queues: this kernel has no sched_ext".to_owned())?;
    let deepest = depths.iter().max().ok_or_else(|| "has no runqueues".to_owned())?;
    Ok((deepest.0 as f64, format!("CPU {}", deepest.1)))
}

/// The runnable tasks of all CPUs.
fn running(cpus: &[CpuState]) -> Measured {
    let lengths: Option<Vec<u64>> = cpus.iter().map(|cpu| cpu.nr_running).collect();
    let lengths = lengths.ok_or_else(|| "does not have the length of each runqueue".to_owned())?;
    Ok((lengths.iter().fold(0_u64, |sum, length| sum.saturating_add(*length)) as f64, "all CPUs".to_owned()))
}

/// What `measure` makes of the runqueues of a capture.
pub(crate) fn of_sample(sample: &Sample, measure: Measure) -> Measured {
    match &sample.missed {
        Some(why) => Err(format!("was not taken: {why}")),
        None if sample.cpus.is_empty() => Err("has no runqueues".to_owned()),
        None => measure(&sample.cpus),
    }
}

/// The counters of the root scheduler at one capture, or why there are none.
#[derive(Clone)]
pub(crate) struct Counters {
    /// Where its `struct scx_sched` is: another scheduler begins anew.
    pub scheduler: u64,
    /// By event.
    pub counts: Result<BTreeMap<String, i64>, String>,
}

impl Counters {
    /// Read them.
    pub(crate) fn read(view: &KernelView<'_>) -> Self {
        let read = read_schedulers(view);
        let fault =
            read.iter().flat_map(|all| &all.gaps.faults).find(|fault| fault.starts_with("event counters"));
        let Some(root) = read.as_ref().and_then(|all| all.schedulers.first()) else {
            return Self { scheduler: 0, counts: Err("sched_ext has no scheduler there".to_owned()) };
        };
        let counts = || root.events.iter().map(|event| (event.name.clone(), event.count)).collect();
        Self { scheduler: root.at.0, counts: fault.map_or_else(|| Ok(counts()), |fault| Err(fault.clone())) }
    }

    /// How often it counted an event.
    pub(crate) fn of(&self, event: &str) -> Result<i64, String> {
        let counts = self.counts.as_ref().map_err(Clone::clone)?;
        counts.get(event).copied().ok_or_else(|| format!("this kernel does not count {event}"))
    }
}

/// How often an event was counted per second between two captures, and how often in all. `None`: they are of different schedulers.
pub(crate) fn rate(
    event: &str,
    (one, before): (&Sample, &Counters),
    (two, after): (&Sample, &Counters),
) -> Option<Result<(f64, i64), String>> {
    let (first, last) = match (before.of(event), after.of(event)) {
        (Ok(first), Ok(last)) => (first, last),
        (Err(why), _) | (_, Err(why)) => return Some(Err(why)),
    };
    let enabling = |sample: &Sample| sample.scx.as_ref().and_then(|scx| scx.enable_seq);
    if before.scheduler != after.scheduler || enabling(one) != enabling(two) {
        return None;
    }
    let ns = two.guest_ns.0.checked_sub(one.guest_ns.0).filter(|ns| *ns > 0);
    let events = last.checked_sub(first).filter(|events| *events >= 0);
    Some(match (events, ns) {
        (Some(events), Some(ns)) => Ok((events as f64 * 1e9 / ns as f64, events)),
        (None, _) => Err(format!("{event} went from {first} to {last}")),
        (_, None) => Err("no time lies between them".to_owned()),
    })
}

impl Series {
    /// What the limits over captures are of, at each capture:
    ///
    /// | metric | what it is |
    /// |---|---|
    /// | `imbalance_ratio` | the runnable tasks of the fullest CPU over those of the emptiest, with one added to both |
    /// | `local_dsq_depth` | the most tasks in the local dispatch queue of a CPU |
    /// | `nr_running` | the runnable tasks of all CPUs |
    /// | `fallback_rate` | `SCX_EV_SELECT_CPU_FALLBACK` per second since the capture before, of those with a checkpoint |
    /// | `keep_last_rate` | the same of `SCX_EV_DISPATCH_KEEP_LAST` |
    ///
    /// Captures at which a rate begins, the first one of each scheduler, are left out. Those without a scheduler or a checkpoint have no
    /// value, and say so.
    ///
    /// Another name is an error in each value, with the names that there are.
    ///
    /// ```
    /// use ktstr_replay::trace::Trace;
    /// use ktstr_replay::verdict::{Outcome, Verdict};
    ///
    /// let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
    /// let mut v = Verdict::new();
    /// trace.periodic().monitor("imbalance_ratio").each(1.0..=50.0, &mut v);
    /// assert_eq!(v.outcome(), Outcome::Pass);
    /// # Ok::<(), ktstr_replay::trace::TraceError>(())
    /// ```
    pub fn monitor(&self, metric: &str) -> Column {
        let label = Projection::Closure(format!("monitor({metric})"));
        let reading = |value: f64| Reading { scalar: Scalar::Float(value), bits: 64 };
        match METRICS.iter().find(|(name, _)| *name == metric) {
            None => {
                let candidates = Candidates::new(metric, METRICS.iter().map(|(name, _)| *name));
                let why = format!("there is no metric `{metric}` of the monitor{candidates}");
                self.build(label, |_| Err(Absent::Unreadable(why.clone())))
            }
            Some((_, How::Runqueues(measure))) => self.build(label, |snapshot| {
                let measured = of_sample(snapshot.sample(), *measure);
                let (value, _) = measured.map_err(|why| Absent::Unreadable(format!("the capture {why}")))?;
                Ok(reading(value))
            }),
            Some((_, How::Rate(event))) => self.rates(label, event),
        }
    }

    /// The column of an event's rate. The first capture, and the first of each scheduler, begin a rate and have none: they are left out.
    fn rates(&self, label: Projection, event: &str) -> Column {
        let kernel = self.samples.kernel();
        let mut before: Option<(Sample, Counters)> = None;
        let mut begins = Vec::new();
        let mut column = self.build(label, |snapshot| {
            let sample = snapshot.sample();
            if !sample.scx.as_ref().is_some_and(ScxState::is_enabled) {
                return Err(Absent::Unreadable("no scheduler was enabled".to_owned()));
            }
            let counters = kernel.at(sample, |open| Ok(Counters::read(&open()?.view)))?;
            // Where nothing was counted no rate begins either: left out as a begin, it would be missed by nobody.
            counters.of(event).map_err(Absent::Unreadable)?;
            let last = before.replace((sample.clone(), counters.clone()));
            let since = last.and_then(|(one, counts)| rate(event, (&one, &counts), (sample, &counters)));
            let Some(since) = since else {
                begins.push(sample.index);
                return Err(Absent::Unreadable("a rate begins here".to_owned()));
            };
            let (value, _) = since.map_err(Absent::Unreadable)?;
            Ok(Reading { scalar: Scalar::Float(value), bits: 64 })
        });
        column.points.retain(|point: &Point| point.value.is_ok() || !begins.contains(&point.sample));
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TraceBuilder;
    use crate::trace::record::CaptureKind;
    use crate::units::Cpu;

    fn cpu(cpu: u32, nr: Option<u64>) -> CpuState {
        CpuState { cpu: Cpu(cpu), nr_running: nr, ..CpuState::default() }
    }

    #[test]
    fn idle_cpus_count_as_one() {
        let (ratio, who) = imbalance(&[cpu(0, Some(0)), cpu(1, Some(5))]).expect("a ratio");
        assert_eq!((ratio, who.as_str()), (6.0, "5 tasks on CPU 1 and 0 on CPU 0, each with one added:"));
        assert!(imbalance(&[cpu(0, Some(0)), cpu(1, None)]).is_err());
    }

    #[test]
    fn a_metric_is_a_column_and_a_misspelt_one_says_so_in_each_value() {
        let mut one = crate::testing::sample("one", CaptureKind::Periodic, 1, &[]);
        one.cpus = vec![cpu(0, Some(7)), cpu(1, Some(1))];
        let series = TraceBuilder::new().sample(one).trace().periodic();
        let value = |metric: &str| series.monitor(metric).points[0].value.clone();
        assert_eq!(value("imbalance_ratio"), Ok(Scalar::Float(4.0)));
        assert_eq!(value("nr_running"), Ok(Scalar::Float(8.0)));
        let error = |metric: &str| value(metric).unwrap_err().to_string();
        assert!(error("local_dsq_depth").contains("no sched_ext"), "{}", error("local_dsq_depth"));
        assert!(error("imbalance").contains("did you mean `imbalance_ratio`?"), "{}", error("imbalance"));
        assert!(error("fallback_rate").contains("no checkpoint"), "{}", error("fallback_rate"));
    }
}
