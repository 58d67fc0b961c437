//! Sub-schedulers that ended.

use crate::run::{Run, SubSchedulerNews};
use crate::text::{counted, escaped, seconds};
use crate::verdict::{Finding, Origin, Outcome};

/// What the finding is called.
pub(super) const WHAT: &str = "sub-scheduler";

/// A sub-scheduler that ended by an error fails the test, as the scheduler itself does; with `allow_restarts` one that was enabled again
/// after it does not. One that somebody wanted to end, or that ended with its parent, is told.
pub(super) fn judge(run: &Run<'_>) -> Option<Finding> {
    let news = run.sub_schedulers();
    if news.is_empty() {
        return None;
    }
    let line = |one: &SubSchedulerNews| {
        format!("{} at {}", escaped(&one.in_words()), seconds(run.since_start_ns(one.at)))
    };
    let finding = |outcome, found| Finding::new(Origin::Run, WHAT, outcome, found);
    Some(match run.sub_scheduler_failures().first() {
        Some(first) => {
            let lines = if news.len() > 1 { news.iter().map(line).collect() } else { Vec::new() };
            finding(Outcome::Fail, line(first)).with_lines(lines)
        }
        None => {
            let ended = news.iter().filter(|one| one.end.is_some()).count();
            let enabled = counted(news.len() - ended, "sub-scheduler");
            finding(Outcome::Pass, format!("{enabled} enabled, {ended} ended as it may be"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::CheckSource;
    use crate::testing::TraceBuilder;

    const ENABLED: (u8, &str) = (6, "sched_ext: BPF sub-scheduler \"sub\" enabled");
    const FAILED: (u8, &str) = (3, "sched_ext: BPF sub-scheduler \"sub\" disabled (runtime error)");
    const LEFT: (u8, &str) = (6, "sched_ext: BPF sub-scheduler \"sub\" disabled (parent exiting)");

    fn judged(log: &[(u8, &str)], allow_restarts: bool) -> Option<(Outcome, String)> {
        let lines = (1..).zip(log);
        let mut run = lines
            .fold(TraceBuilder::begun(), |run, (at_s, (level, text))| run.kmsg(at_s * 1000, *level, text));
        run.manifest.test.allow_restarts = allow_restarts;
        let trace = run.ended().trace();
        let run = Run::load(&trace);
        let finding = judge(&run);
        let in_verdict =
            run.judge(None, CheckSource::Recorded).findings.into_iter().find(|one| one.what == WHAT);
        assert_eq!(finding, in_verdict);
        finding.map(|finding| (finding.outcome, finding.summary))
    }

    #[test]
    fn an_error_fails_and_a_wish_does_not() {
        assert_eq!(judged(&[(6, "x")], false), None);
        let (outcome, found) = judged(&[ENABLED, FAILED, (3, "sched_ext: sub: no\u{1b}")], false).unwrap();
        assert_eq!(
            (outcome, found.as_str()),
            (Outcome::Fail, "sub-scheduler sub ended: runtime error: no\\u{1b} at 2.000s")
        );
        let (outcome, found) = judged(&[ENABLED, LEFT], false).unwrap();
        assert_eq!(
            (outcome, found.as_str()),
            (Outcome::Pass, "1 sub-scheduler enabled, 1 ended as it may be")
        );
    }

    #[test]
    fn one_that_comes_back_is_as_a_scheduler_that_restarts() {
        let log = [ENABLED, FAILED, ENABLED];
        assert_eq!(judged(&log, false).unwrap().0, Outcome::Fail);
        assert_eq!(judged(&log, true).unwrap().0, Outcome::Pass);
        assert_eq!(judged(&log[..2], true).unwrap().0, Outcome::Fail);
    }
}
