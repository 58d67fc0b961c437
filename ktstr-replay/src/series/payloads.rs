//! Metrics of payloads as values of captures: those of the run that had ended last.

use crate::kernel::query::Reading;
use crate::path::{PayloadPath, Projection};
use crate::text::Candidates;
use crate::trace::Trace;
use crate::trace::record::{EventBody, PayloadRun};
use crate::units::GuestNs;
use crate::value::Scalar;

use super::Absent;

/// The runs of payloads of a trace.
pub(super) struct Payloads(Vec<PayloadRun>);

impl Payloads {
    /// Those of `trace`, if any of `projections` is about them.
    pub(super) fn of(trace: &Trace, projections: &[&Projection]) -> Self {
        let wanted = projections.iter().any(|projection| matches!(projection, Projection::Payload(_)));
        let events = if wanted { trace.events() } else { Vec::new() };
        let runs = events.into_iter().filter_map(|event| match event.body {
            EventBody::Payload(run) => Some(*run),
            _ => None,
        });
        Self(runs.collect())
    }

    /// The metric at a capture of this time.
    pub(super) fn read(&self, path: &PayloadPath, at_ns: GuestNs) -> Result<Reading, Absent> {
        let name = &path.name;
        let of_name = || self.0.iter().filter(|run| run.name == *name);
        if of_name().next().is_none() {
            let names = self.0.iter().map(|run| run.name.as_str());
            return Err(Absent::Unreadable(format!(
                "no payload `{name}` was run{}",
                Candidates::new(name, names)
            )));
        }
        let ended_ns = |run: &&PayloadRun| run.began_ns.saturating_add(run.wall_ns);
        let Some(run) = of_name().filter(|run| ended_ns(run) <= at_ns.0).max_by_key(ended_ns) else {
            return Err(Absent::Unreadable(format!("no run of payload `{name}` had ended by then")));
        };
        let metric = path.dotted();
        let found = run.metrics.iter().find(|one| one.path == metric);
        let value = found.map(|one| one.value).ok_or_else(|| {
            let names = run.metrics.iter().map(|one| one.path.as_str());
            let candidates = Candidates::new(&metric, names);
            Absent::Unreadable(format!("payload `{name}` has no metric `{metric}`{candidates}"))
        })?;
        Ok(Reading { scalar: Scalar::Float(value), bits: 64 })
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::TraceBuilder;
    use crate::trace::record::{CaptureKind, EventBody, Metric, PayloadEnd, PayloadRun};
    use crate::verdict::Outcome;

    /// Two runs, which end at 1 s and 3 s of the body with 10 and 30.
    fn trace() -> TraceBuilder {
        let run = |ended_ms: u64, value: f64| {
            let began_ns = (crate::testing::BODY_MS + ended_ms - 500) * 1_000_000;
            EventBody::Payload(Box::new(PayloadRun {
                name: "fio".into(),
                end: PayloadEnd::Ended,
                exit_code: Some(0),
                began_ns,
                wall_ns: 500_000_000,
                metrics: vec![Metric { path: "jobs.0.iops".into(), value }],
                ..PayloadRun::default()
            }))
        };
        // Both are told at the end: what counts is when they ended.
        let builder = TraceBuilder::begun()
            .capture("before", CaptureKind::OnDemand, 900, [1; 3])
            .capture("one", CaptureKind::OnDemand, 2000, [1; 3])
            .capture("two", CaptureKind::OnDemand, 3500, [1; 3]);
        builder.event(4000, run(3000, 30.0)).event(4000, run(1000, 10.0)).ended()
    }

    fn judged(text: &str) -> (Outcome, String) {
        trace().judged_by(text)
    }

    #[test]
    fn a_capture_has_the_metrics_of_the_run_that_ended_last() {
        assert_eq!(judged("final(payload(fio).jobs.0.iops == 30)").0, Outcome::Pass);
        assert_eq!(judged("final(payload(fio).jobs[0].iops >= 31)").0, Outcome::Fail);
        assert_eq!(judged("eventually(payload(fio).jobs[0].iops == 10)").0, Outcome::Pass);
        assert_eq!(judged("nondecreasing(payload(fio).jobs[0].iops)").0, Outcome::Pass);
    }

    #[test]
    fn what_is_not_there_names_what_is() {
        let (outcome, text) = judged("final(payload(foi).jobs[0].iops >= 1)");
        assert!(outcome == Outcome::Fail && text.contains("did you mean `fio`?"), "{text}");
        let (outcome, text) = judged("final(payload(fio).jobs[1].iops >= 1)");
        assert!(outcome == Outcome::Fail && text.contains("no metric `jobs.1.iops`"), "{text}");
        let (_, text) = judged("each(payload(fio).jobs[0].iops >= 1)");
        assert!(text.contains("had ended by then"), "{text}");
    }
}
