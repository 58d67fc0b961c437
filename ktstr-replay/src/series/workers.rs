//! What workers reported, as values: one of each worker.

use std::ops::Deref;

use crate::path::Projection;
use crate::text::Candidates;
use crate::trace::Trace;
use crate::trace::record::{Event, EventBody, WorkerDetail, WorkerReport};
use crate::units::GuestNs;
use crate::value::Scalar;

use super::{Absent, Column, Point, Series};

/// A worker's report, out of a trace: what it did, what it measured besides, and when and where it said so.
///
/// ```
/// use ktstr_replay::trace::Trace;
///
/// let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
/// let workers = trace.workers();
/// assert!(workers.iter().all(|worker| worker.work_units > 0 && worker.fault.is_none()));
/// # Ok::<(), ktstr_replay::trace::TraceError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TracedWorker {
    /// The report, whose fields are those of this.
    pub report: WorkerReport,
    /// What it measured besides; `None` in traces from before that was recorded.
    pub detail: Option<WorkerDetail>,
    /// When it reported, guest time in ns.
    pub at_ns: GuestNs,
    /// Phase of the scenario in which it did, by number and name; `None` between phases, as for workers of the backdrop.
    pub phase: Option<(u32, String)>,
}

impl Deref for TracedWorker {
    type Target = WorkerReport;

    fn deref(&self) -> &WorkerReport {
        &self.report
    }
}

impl Trace {
    /// The reports of all workers, in the order in which they came.
    ///
    /// ```
    /// use ktstr_replay::trace::Trace;
    ///
    /// let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
    /// let busiest = trace.workers().into_iter().max_by_key(|worker| worker.cpu_ns);
    /// assert!(busiest.is_some_and(|worker| worker.cgroup.starts_with("cg_")));
    /// # Ok::<(), ktstr_replay::trace::TraceError>(())
    /// ```
    pub fn workers(&self) -> Vec<TracedWorker> {
        let owned = |one: ReportedWorker<'_>| TracedWorker {
            report: one.report.clone(),
            detail: one.detail.cloned(),
            at_ns: one.at_ns,
            phase: one.phase.map(|(index, name)| (index, name.to_owned())),
        };
        reported(&self.events()).into_iter().map(owned).collect()
    }
}

/// A worker's report among the events of a trace, with what belongs to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReportedWorker<'e> {
    pub report: &'e WorkerReport,
    /// `None` in traces from before that was recorded.
    pub detail: Option<&'e WorkerDetail>,
    pub at_ns: GuestNs,
    /// Number and name of the phase that was on; `None` between phases.
    pub phase: Option<(u32, &'e str)>,
}

/// The reports of all workers, in the order in which they came.
pub(crate) fn reported(events: &[Event]) -> Vec<ReportedWorker<'_>> {
    let (mut workers, mut phase) = (Vec::<ReportedWorker<'_>>::new(), None);
    for event in events {
        match &event.body {
            EventBody::PhaseBegin { index, name } => phase = Some((*index, name.as_str())),
            EventBody::PhaseEnd { .. } => phase = None,
            EventBody::Worker(report) => {
                workers.push(ReportedWorker { report, detail: None, at_ns: event.guest_ns, phase });
            }
            EventBody::WorkerDetail(detail) => {
                // It comes after its report: a pid may be used again.
                if let Some(last) = workers.last_mut().filter(|last| last.report.pid == detail.pid) {
                    last.detail = Some(detail);
                }
            }
            _ => {}
        }
    }
    workers
}

/// What is taken from a report; why there is nothing.
type Metric = fn(&TracedWorker) -> Result<Scalar, &'static str>;

/// The metrics, by name.
const METRICS: &[(&str, Metric)] = &[
    ("work_units", |worker| Ok(worker.work_units.into())),
    ("iterations", |worker| Ok(worker.iterations.into())),
    ("cpu_ns", |worker| Ok(worker.cpu_ns.into())),
    ("wall_ns", |worker| Ok(worker.wall_ns.into())),
    ("max_gap_ns", |worker| Ok(worker.max_gap_ns.into())),
    ("run_delay_ns", |worker| Ok(worker.run_delay_ns.into())),
    ("migrations", |worker| Ok(worker.migrations.into())),
    ("cpu_share", |worker| over(worker.cpu_ns, worker.wall_ns, 1.0)),
    ("work_rate", |worker| over(worker.work_units, worker.wall_ns, 1e9)),
    ("iteration_rate", |worker| over(worker.iterations, worker.wall_ns, 1e9)),
    ("max_off_cpu_ns", |worker| detail(worker).map(|detail| detail.max_off_cpu_ns.into())),
    ("minor_faults", |worker| detail(worker).map(|detail| detail.minor_faults.into())),
    ("major_faults", |worker| detail(worker).map(|detail| detail.major_faults.into())),
    ("voluntary_switches", |worker| detail(worker).map(|detail| detail.voluntary_switches.into())),
    ("involuntary_switches", |worker| detail(worker).map(|detail| detail.involuntary_switches.into())),
    ("wakes", |worker| detail(worker).map(|detail| detail.wakes.total.into())),
    ("max_wake_ns", |worker| detail(worker).map(|detail| detail.wakes.max_ns.into())),
    ("timers", |worker| detail(worker).map(|detail| detail.timers.total.into())),
    ("max_timer_ns", |worker| detail(worker).map(|detail| detail.timers.max_ns.into())),
    ("cross_node_migrations", |worker| {
        let count = detail(worker)?.cross_node_migrations;
        count.map(Scalar::from).ok_or("it was not counted")
    }),
];

fn detail(worker: &TracedWorker) -> Result<&WorkerDetail, &'static str> {
    worker.detail.as_ref().ok_or("the trace is of a release that did not record it")
}

fn over(count: u64, wall_ns: u64, by: f64) -> Result<Scalar, &'static str> {
    if wall_ns == 0 {
        Err("the worker reports no wall time")
    } else {
        Ok(Scalar::Float(count as f64 * by / wall_ns as f64))
    }
}

impl Series {
    /// What the workers of the run reported, whichever captures the series has: one value of each worker, tagged `CGROUP/NUMBER`, at the
    /// time of its report. Metrics are `work_units`, `iterations`, `cpu_ns`, `wall_ns`, `max_gap_ns`, `run_delay_ns`, `migrations`,
    /// `cpu_share` (CPU time over wall time), `work_rate` and `iteration_rate` (per second), and of what they measured besides
    /// `max_off_cpu_ns`, `minor_faults`, `major_faults`, `voluntary_switches`, `involuntary_switches`, `wakes`, `max_wake_ns`, `timers`,
    /// `max_timer_ns` and `cross_node_migrations`. Another name is an error in each value, with the names that there are. A worker that
    /// died has no value: its numbers are partial.
    ///
    /// ```
    /// use ktstr_replay::trace::Trace;
    /// use ktstr_replay::verdict::{Outcome, Verdict};
    ///
    /// let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
    /// let mut v = Verdict::new();
    /// trace.captures().workers("work_units").each(1.., &mut v);
    /// assert_eq!(v.outcome(), Outcome::Pass);
    /// # Ok::<(), ktstr_replay::trace::TraceError>(())
    /// ```
    pub fn workers(&self, metric: &str) -> Column {
        let projection = Projection::Closure(format!("workers({metric})"));
        let found = METRICS.iter().find(|(name, _)| *name == metric);
        let unknown = || {
            let candidates = Candidates::new(metric, METRICS.iter().map(|(name, _)| *name));
            Absent::Unreadable(format!("workers do not report `{metric}`{candidates}"))
        };
        let workers = self.samples.trace().map(Trace::workers).unwrap_or_default();
        let value = |worker: &TracedWorker| -> Result<Scalar, Absent> {
            let (_, of) = found.ok_or_else(unknown)?;
            match &worker.fault {
                Some(fault) => Err(Absent::Unreadable(format!("the worker died: {fault}"))),
                None => of(worker).map_err(|why| Absent::Unreadable(why.to_owned())),
            }
        };
        let before = |at_ns: GuestNs| self.samples.iter().rfind(|sample| sample.guest_ns <= at_ns);
        let point = |worker: &TracedWorker| Point {
            sample: before(worker.at_ns).map_or(0, |sample| sample.index),
            tag: format!("{}/{}", worker.cgroup, worker.index),
            at_ns: worker.at_ns,
            phase: worker.phase.as_ref().map(|(index, _)| *index),
            value: value(worker),
        };
        let mut points: Vec<Point> = workers.iter().map(point).collect();
        if points.is_empty() && found.is_none() {
            // A name that does not exist is a mistake also where nobody has reported.
            let at_ns = self.samples.origin_ns();
            points.push(Point {
                sample: 0,
                tag: "no worker".to_owned(),
                at_ns,
                phase: None,
                value: Err(unknown()),
            });
        }
        Column { projection, origin_ns: self.samples.origin_ns(), points, bits: 64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TraceBuilder;
    use crate::verdict::{Outcome, Verdict};

    fn report(index: u32, cgroup: &str, units: u64, fault: Option<&str>) -> EventBody {
        EventBody::Worker(WorkerReport {
            index,
            pid: 100 + index,
            cgroup: cgroup.into(),
            work_units: units,
            wall_ns: 2_000_000_000,
            fault: fault.map(str::to_owned),
            ..WorkerReport::default()
        })
    }

    fn trace() -> Trace {
        let phase = EventBody::PhaseBegin { index: 3, name: "busy".into() };
        let detail = EventBody::WorkerDetail(Box::new(WorkerDetail {
            pid: 100,
            minor_faults: 7,
            ..WorkerDetail::default()
        }));
        TraceBuilder::begun()
            .event(10, phase)
            .event(4000, report(0, "cg_0", 10, None))
            .event(4001, detail)
            .event(4002, report(1, "cg_0", 30, None))
            .event(4003, report(2, "cg_1", 30, Some("killed by signal 9")))
            .event(4004, EventBody::PhaseEnd { index: 3 })
            .event(4005, report(3, "cg_2", 50, None))
            .trace()
    }

    #[test]
    fn each_worker_is_a_value_with_its_name_and_phase() {
        let column = trace().captures().workers("work_rate");
        let seen: Vec<_> = column
            .points
            .iter()
            .map(|point| (point.tag.as_str(), point.phase, point.value.clone().ok()))
            .collect();
        let rate = |value| Some(Scalar::Float(value));
        assert_eq!(
            seen,
            [
                ("cg_0/0", Some(3), rate(5.0)),
                ("cg_0/1", Some(3), rate(15.0)),
                ("cg_1/2", Some(3), None),
                // Of the backdrop, which ends after the last phase.
                ("cg_2/3", None, rate(25.0)),
            ]
        );
        let faults = trace().captures().workers("minor_faults");
        assert_eq!(faults.points[0].value, Ok(Scalar::from(7_u64)));
        assert!(faults.points[1].value.as_ref().is_err_and(|why| why.to_string().contains("release")));
        let workers = trace().workers();
        assert_eq!(workers[0].phase, Some((3, "busy".to_owned())));
        assert!(workers[0].detail.is_some() && workers[1].detail.is_none());
    }

    #[test]
    fn a_metric_that_does_not_exist_fails_also_where_nobody_reported() {
        for trace in [trace(), TraceBuilder::begun().trace()] {
            let mut v = Verdict::new();
            trace.captures().workers("work_unit").each(1.., &mut v);
            assert_eq!(v.outcome(), Outcome::Fail);
            let text = format!("{:?}", v.findings);
            assert!(text.contains("did you mean `work_units`?"), "{text}");
        }
    }
}
