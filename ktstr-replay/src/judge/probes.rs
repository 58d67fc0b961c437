//! Probes: those that were asked for and not had fail the run, and the others say what they saw.

use super::watches;
use crate::probe::ProbeSeen;
use crate::run::Run;
use crate::text::counted;
use crate::verdict::Finding;
use crate::watch::AskedEnd;

/// What begins the name of a finding of a probe.
pub(super) const WHAT: &str = "probe ";

/// A finding for each probe.
pub(super) fn judge(run: &Run<'_>) -> Vec<Finding> {
    run.probes().probes.iter().map(|probe| of_probe(run, probe)).collect()
}

fn of_probe(run: &Run<'_>, probe: &ProbeSeen) -> Finding {
    let seen = match probe.end() {
        AskedEnd::Seen => format!("{} recorded", counted(probe.calls.len(), "call")),
        _ => "armed, and there was no call".to_owned(),
    };
    watches::finding(run, format!("{WHAT}{}", probe.target), &probe.end(), seen, probe.dropped())
}

#[cfg(test)]
mod tests {
    use crate::judge::CheckSource;
    use crate::testing::TraceBuilder;
    use crate::trace::record::{EventBody, ProbeEvent, ProbeNews, ProbeTotals};
    use crate::verdict::Outcome;

    fn news(what: ProbeNews) -> EventBody {
        EventBody::Probe(Box::new(ProbeEvent { probe: 0, target: "f(p->pid)".to_owned(), what }))
    }

    fn judged(told: Vec<ProbeNews>) -> (Outcome, String) {
        let (outcome, summary, _) = judged_expecting(told, false);
        (outcome, summary)
    }

    /// The finding, and the outcome of the run.
    fn judged_expecting(told: Vec<ProbeNews>, expect_err: bool) -> (Outcome, String, Outcome) {
        let mut trace = TraceBuilder::begun();
        trace.manifest.test.expect_err = expect_err;
        for (at, what) in (100..).step_by(100).zip(told) {
            trace = trace.event(at, news(what));
        }
        let trace = trace.ended().trace();
        let verdict = crate::run::Run::load(&trace).judge(None, CheckSource::Recorded);
        let finding = verdict.findings.iter().find(|finding| finding.what == "probe f(p->pid)");
        let finding = finding.expect("a finding");
        (finding.outcome, finding.summary.clone(), verdict.outcome())
    }

    #[test]
    fn a_probe_that_could_not_be_had_fails_the_run_and_others_say_what_they_saw() {
        let asked = || ProbeNews::Asked { max_hits: 8, by_body: false };
        let armed = || ProbeNews::Armed { at: 1, place: "f".to_owned(), names: vec!["p->pid".to_owned()] };
        let why = || "no function `f`".to_owned();
        let refused = judged(vec![asked(), ProbeNews::Refused { why: why() }]);
        assert_eq!(refused, (Outcome::Fail, "could not be armed: no function `f`".to_owned()));
        // It is no failure that a test expects.
        let told = vec![asked(), ProbeNews::Refused { why: why() }];
        assert_eq!(judged_expecting(told, true).2, Outcome::Fail);
        let never = judged(vec![asked(), ProbeNews::Waiting { why: why() }]);
        assert_eq!(never, (Outcome::Fail, "was never armed: no function `f`".to_owned()));
        let silent = judged(vec![asked(), ProbeNews::Waiting { why: why() }, armed()]);
        assert_eq!(silent, (Outcome::Pass, "armed, and there was no call".to_owned()));
        let hit = ProbeNews::Hit(Box::default());
        let totals = ProbeTotals { backed_off: 2, blind_ns: 3_000_000, ..ProbeTotals::default() };
        let (outcome, found) = judged(vec![asked(), armed(), hit, ProbeNews::Totals(totals)]);
        assert!(
            outcome == Outcome::Pass && found.starts_with("1 call recorded; taken away 2 times, for 3 ms"),
            "{found}"
        );
    }
}
