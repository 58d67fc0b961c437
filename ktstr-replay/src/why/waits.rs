//! The sentences about captures that were taken while somebody waited for long.

use crate::run::Run;
use crate::trace::record::Sample;

use super::{Evidence, SchedulerEnd, Sentence};

/// Waits that are told, of those before the end.
const TOLD: usize = 3;

/// The last waits that were told before the scheduler's end, or before the run's, in the order in which they came.
pub(super) fn waits(run: &Run<'_>, end: &SchedulerEnd) -> Vec<Sentence> {
    let in_time = |at| end.exit.as_ref().is_none_or(|exit| at <= exit.at_ns);
    let mut told: Vec<_> = run.long_waits().rev().filter(|(at, _)| in_time(*at)).take(TOLD).collect();
    told.reverse();
    told.into_iter()
        .map(|(at, wait)| {
            let capture = wait.sample.and_then(|index| run.sample(index));
            let text = match capture {
                Some(Sample { tag, .. }) => format!("{}: {tag} was taken then", wait.in_words()),
                None => wait.in_words(),
            };
            let place = capture.map_or_else(|| "long_wait".to_owned(), |sample| sample.tag.clone());
            Sentence::at(Some(run.since_start_ns(at)), Evidence::Seen(vec![place]), text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::CheckSource;
    use crate::report::render;
    use crate::run::SchedulerExit;
    use crate::testing::{TraceBuilder, sample, stalled};
    use crate::trace::record::{CaptureKind, EventBody, LongWait, WaitLimit};
    use crate::units::Cpu;

    #[test]
    fn the_last_waits_before_the_end_are_told_in_their_order() {
        let mut run = TraceBuilder::begun();
        for pid in 1..=5u32 {
            let wait = LongWait {
                limit: WaitLimit::Watchdog,
                limit_ns: 2_000_000_000,
                waited_ns: 1_000_000_000,
                pid: Some(pid),
                comm: "late".to_owned(),
                cpu: Some(Cpu(1)),
                sample: None,
            };
            run = run.event(i64::from(pid) * 100, EventBody::LongWait(Box::new(wait)));
        }
        let trace = run.ended().trace();
        let run = Run::load(&trace);
        let told = |end: &SchedulerEnd| -> Vec<String> {
            let first = |sentence: Sentence| sentence.text.split(' ').next().unwrap_or_default().to_owned();
            waits(&run, end).into_iter().map(first).collect()
        };
        assert_eq!(told(&SchedulerEnd::default()), ["late[3]", "late[4]", "late[5]"]);
        let (at_ns, _) = run.long_waits().nth(1).expect("a second one");
        let exit = Some(SchedulerExit { at_ns, ..SchedulerExit::default() });
        assert_eq!(told(&SchedulerEnd { exit, ..SchedulerEnd::default() }), ["late[1]", "late[2]"]);
    }

    fn wait(limit: WaitLimit, pid: Option<u32>, sample: Option<u32>) -> EventBody {
        let comm = pid.map_or_else(String::new, |_| "late\n[1]".to_owned());
        let (limit_ns, waited_ns, cpu) = (2_000_000_000, 1_008_000_000, pid.map(|_| Cpu(1)));
        EventBody::LongWait(Box::new(LongWait { limit, limit_ns, waited_ns, pid, comm, cpu, sample }))
    }

    #[test]
    fn the_last_waits_before_the_end_are_told_and_claims_are_not_about_their_captures() {
        let run = TraceBuilder::begun()
            .sample(sample("half_watchdog_000", CaptureKind::HalfWatchdog, 1000, &[9, 9, 9]))
            .event(500, wait(WaitLimit::Gap, Some(3), None))
            .event(600, wait(WaitLimit::Gap, Some(4), None))
            .event(1000, wait(WaitLimit::Watchdog, Some(7), Some(1)))
            .event(1500, wait(WaitLimit::CheckIn, None, None))
            .sample(stalled(2000, &[1, 2, 3]))
            .event(2500, wait(WaitLimit::Watchdog, Some(8), None))
            .claim("always(nr_dispatched != 9)");
        let trace = run.ended().trace();
        let run = Run::load(&trace);
        let verdict = run.judge(None, CheckSource::Recorded);
        let why = crate::why::explain(&run, &verdict).unwrap();
        let told: Vec<&str> = why
            .sentences
            .iter()
            .map(|one| one.text.as_str())
            .filter(|text| text.contains("late") || text.contains("check"))
            .collect();
        let late = r"late\n[1][7] had been runnable for 1.008s of the 2.000s after which the watchdog ejects a scheduler, on the runqueue of CPU 1";
        assert_eq!(
            told[..3],
            [
                r"late\n[1][4] had been runnable for 1.008s of the 2.000s for which a worker may make no turn, on the runqueue of CPU 1",
                &format!("{late}: half_watchdog_000 was taken then"),
                "the watchdog had not checked in for 1.008s of the 2.000s after which the scheduler is ejected",
            ],
            "{told:#?}"
        );
        let claim = verdict.findings.iter().find(|finding| finding.what.contains("always")).unwrap();
        assert!(!claim.lines.iter().any(|line| line.contains("half_watchdog")), "{claim:?}");
        let report = render(&run, &verdict);
        let line = r"capture half_watchdog_000: late\n[1][7] had been runnable for 1.008s of the 2.000s";
        assert!(report.contains(line), "{report}");
        assert!(report.contains("no capture: late"), "{report}");
    }
}
