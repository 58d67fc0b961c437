//! Claims about events as methods, for the checks of a test. Each makes the claim that its text would.

use std::time::Duration;

use super::pattern::{CountOf, Happens, NeverHappens, Operand, Percentile, Within};
use super::{Claim, Predicate};
use crate::path::{Bound, EventPath, MeasurePath, SpanBound, SyntaxError};
use crate::series::Column;
use crate::timeline::Timeline;
use crate::verdict::{Because, Finding, Origin, Outcome, Verdict};

fn add<'v>(
    what: &str,
    claim: Result<Claim, SyntaxError>,
    columns: &[&Column],
    timeline: &Timeline,
    v: &'v mut Verdict,
) -> Because<'v> {
    match claim {
        Ok(claim) => {
            let judgement = claim.judge_by(columns, timeline);
            v.add(Finding::of_claim(&claim, &judgement, columns))
        }
        Err(error) => {
            let lines = error.render().lines().map(str::to_owned).collect();
            let finding = Finding::new(Origin::Claim, what, Outcome::Fail, "error: it names no events");
            v.add(finding.with_lines(lines))
        }
    }
}

/// The events are named as in a claim's text: `event(sched_switch where next_comm == victim)`, `probe(f where p->pid == 5)`,
/// `watch("bss.x" where new > 0)`. A text that cannot be read is a finding that fails.
impl Timeline {
    /// The number of such events is in bounds: `count("event(sched_migrate_task)", 0..100, v)`.
    pub fn count<'v>(&self, events: &str, bound: impl Into<Bound>, v: &'v mut Verdict) -> Because<'v> {
        let claim = events.parse::<EventPath>().map(|of| CountOf { of, bound: bound.into() }.into());
        add(events, claim, &[], self, v)
    }

    /// There is no such event.
    pub fn never<'v>(&self, events: &str, v: &'v mut Verdict) -> Because<'v> {
        let claim = events.parse::<EventPath>().map(|what| NeverHappens { what, during: None }.into());
        add(events, claim, &[], self, v)
    }

    /// There is such an event, by the deadline if there is one.
    pub fn eventually<'v>(&self, events: &str, by: Option<Duration>, v: &'v mut Verdict) -> Because<'v> {
        let claim = events.parse::<EventPath>().map(|what| Happens { what, by: by.map(Into::into) }.into());
        add(events, claim, &[], self, v)
    }

    /// Such an event follows each of the events `after` within a time.
    pub fn within<'v>(&self, events: &str, within: Duration, after: &str, v: &'v mut Verdict) -> Because<'v> {
        let claim = events.parse::<EventPath>().and_then(|what| {
            let what = Operand::Happens(what);
            Ok(Within { what, within: within.into(), after: after.parse()? }.into())
        });
        add(events, claim, &[], self, v)
    }

    /// A percentile of times that are measured between events is in bounds:
    /// `percentile(99.0, "wakeup_latency where comm ~ worker", ..=Duration::from_millis(20), v)`. It is rounded to hundredths of a percent.
    pub fn percentile<'v>(
        &self,
        percent: f64,
        of: &str,
        bound: impl Into<SpanBound>,
        v: &'v mut Verdict,
    ) -> Because<'v> {
        // NaN is in no range.
        if !(0.01..=100.0).contains(&percent) {
            let why = format!("error: a percentile is from 0.01 to 100, not {percent}");
            return v.add(Finding::new(Origin::Claim, of, Outcome::Fail, why));
        }
        let hundredths = (percent * 100.0).round().clamp(1.0, 10_000.0) as u32;
        let claim =
            of.parse::<MeasurePath>().map(|of| Percentile { hundredths, of, bound: bound.into() }.into());
        add(of, claim, &[], self, v)
    }
}

impl Column {
    /// In bounds at a capture within a time after each of the events `after`. The column is of all captures, as
    /// `trace.captures()` has them.
    pub fn within<'v>(
        &self,
        bound: impl Into<Bound>,
        within: Duration,
        after: &str,
        timeline: &Timeline,
        v: &'v mut Verdict,
    ) -> Because<'v> {
        let what = Operand::Is(Predicate { of: self.projection.clone(), bound: Some(bound.into()) });
        let claim =
            after.parse::<EventPath>().map(|after| Within { what, within: within.into(), after }.into());
        add(after, claim, &[self], timeline, v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::pattern::events_fixture::{IDLE, VICTIM, history, run_of, switch, wakeup};
    use crate::judge::CheckSource;
    use crate::run::Run;

    #[test]
    fn a_method_and_its_text_make_the_same_finding() {
        let steps: Vec<_> = (0..150)
            .flat_map(|nth| {
                [
                    (nth * 1000, wakeup(VICTIM, 1)),
                    (nth * 1000 + 3, switch(IDLE, VICTIM)),
                    (nth * 1000 + 5, switch(VICTIM, IDLE)),
                ]
            })
            .collect();
        let trace = run_of(vec![history(1, 0, &steps)]).trace();
        let timeline = trace.timeline();
        let column = trace.captures().var("nr_dispatched");
        let ms = Duration::from_millis;
        type Method<'m> = &'m dyn Fn(&mut Verdict);
        let methods: [(Method<'_>, &str); 6] = [
            (
                &|v| {
                    timeline.count("event(sched_switch)", 0..100, v);
                },
                "count(event(sched_switch)) in 0..100",
            ),
            (
                &|v| {
                    timeline.never("event(sched_wakeup)", v);
                },
                "never(event(sched_wakeup))",
            ),
            (
                &|v| {
                    timeline.eventually("event(op)", Some(ms(30)), v);
                },
                "eventually(event(op), by=30ms)",
            ),
            (
                &|v| {
                    timeline.within("event(sched_switch)", ms(1), "event(sched_wakeup)", v);
                },
                "within(event(sched_switch), 1ms, after=event(sched_wakeup))",
            ),
            (
                &|v| {
                    timeline.percentile(99.0, "wakeup_latency", ..=ms(20), v);
                },
                "p99(wakeup_latency) <= 20ms",
            ),
            (
                &|v| {
                    column.within(2.., ms(1000), "event(sched_wakeup)", &timeline, v);
                },
                "within(nr_dispatched in 2.., 1s, after=event(sched_wakeup))",
            ),
        ];
        let run = Run::load(&trace);
        for (method, text) in methods {
            let mut v = Verdict::new();
            method(&mut v);
            let claim: Claim = text.parse().unwrap();
            let judged = run.judge(Some(&[claim]), CheckSource::Recorded);
            let expected = judged.findings.iter().find(|finding| finding.what == text).expect("its finding");
            assert_eq!(v.findings, std::slice::from_ref(expected), "{text}");
        }
    }

    #[test]
    fn a_text_that_names_nothing_fails() {
        let trace = run_of(Vec::new()).trace();
        let mut v = Verdict::new();
        trace.timeline().count("event(sched_swich)", 0..100, &mut v);
        assert_eq!(v.outcome(), Outcome::Fail);
        assert!(v.findings[0].lines[0].contains("did you mean `sched_switch`?"), "{:?}", v.findings);
        for percent in [f64::NAN, 0.0, 101.0] {
            let mut v = Verdict::new();
            trace.timeline().percentile(percent, "on_cpu", ..=Duration::from_millis(1), &mut v);
            assert_eq!(v.outcome(), Outcome::Fail, "{percent}");
        }
    }
}
