//! Watches: those that were asked for and not had fail the run, and the others say what they saw.

use crate::run::Run;
use crate::text::{clean, seconds};
use crate::trace::record::{Stage, WatchFire};
use crate::units::GuestNs;
use crate::verdict::{Finding, Origin, Outcome};
use crate::watch::{AskedEnd, WatchSeen};

/// What begins the name of a finding of a watch.
pub(super) const WHAT: &str = "watch ";

/// A finding for each watch.
pub(super) fn judge(run: &Run<'_>) -> Vec<Finding> {
    run.watches().watches.iter().map(|watch| of_watch(run, watch)).collect()
}

fn of_watch(run: &Run<'_>, watch: &WatchSeen) -> Finding {
    let seen = match watch.end() {
        AskedEnd::Seen => fired(run, watch),
        _ => "armed, and no store fired it".to_owned(),
    };
    finding(run, format!("{WHAT}{}", watch.target), &watch.end(), seen, watch.dropped())
}

/// The finding of a watch or a probe: what it saw, and what was dropped of it.
pub(super) fn finding(
    run: &Run<'_>,
    what: String,
    end: &AskedEnd,
    seen: String,
    dropped: Option<String>,
) -> Finding {
    let began = run.stage(Stage::BodyStarted).is_some();
    let outcome = match end {
        AskedEnd::NeverArmed(_) if !began || run.is_partial() => Outcome::Inconclusive,
        AskedEnd::Refused(_) | AskedEnd::NeverArmed(_) => Outcome::Fail,
        AskedEnd::NothingSeen | AskedEnd::Seen => Outcome::Pass,
    };
    let found = end.in_words().unwrap_or_else(|| match dropped {
        Some(dropped) => format!("{seen}; {dropped}"),
        None => seen,
    });
    Finding::new(Origin::Run, clean(&what), outcome, clean(&found))
}

fn fired(run: &Run<'_>, watch: &WatchSeen) -> String {
    let Some((first, last)) = watch.fires.first().zip(watch.fires.last()) else { return String::new() };
    match watch.fires.len() {
        1 => format!("fired once: {}", of_fire(run, first)),
        count => format!("fired {count} times: first {}; last {}", of_fire(run, first), of_fire(run, last)),
    }
}

/// `at 1.234s, CPU 1, demo_dispatch+0x10/0x80 (main.bpf.c:12: nr++), 4 -> 5`.
fn of_fire(run: &Run<'_>, (at, fire): &(GuestNs, WatchFire)) -> String {
    let source = fire.source.as_ref().map(|line| format!(" ({line})")).unwrap_or_default();
    let WatchFire { cpu, place, old, new, .. } = fire;
    format!("at {}, CPU {cpu}, {place}{source}, {old} -> {new}", seconds(run.since_start_ns(*at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::CheckSource;
    use crate::testing::{TraceBuilder, sample};
    use crate::trace::record::{
        CaptureKind, EventBody, Sample, ScxState, WatchEvent, WatchNews, WatchTotals,
    };
    use crate::units::Cpu;

    fn news(what: WatchNews) -> EventBody {
        EventBody::Watch(Box::new(WatchEvent { watch: 0, target: "bss.x".to_owned(), what }))
    }

    fn asked() -> EventBody {
        news(WatchNews::Asked { when: None, max_fires: 64, min_interval_ns: 0, by_body: false })
    }

    fn armed() -> EventBody {
        news(WatchNews::Armed { at: 0x1000, bytes: 8, value: 4 })
    }

    fn judged(events: Vec<EventBody>, expect_err: bool) -> (Outcome, String, Outcome) {
        let mut builder = TraceBuilder::begun();
        builder.manifest.test.expect_err = expect_err;
        for event in events {
            builder = builder.event(100, event);
        }
        let trace = builder.ended().trace();
        let verdict = Run::load(&trace).judge(None, CheckSource::Recorded);
        let finding =
            verdict.findings.iter().find(|finding| finding.what == "watch bss.x").expect("a finding");
        (finding.outcome, finding.summary.clone(), verdict.outcome())
    }

    #[test]
    fn a_watch_that_could_not_be_had_fails_the_run_and_is_no_failure_that_a_test_expects() {
        let refused = news(WatchNews::Refused { why: "the kernel has no symbol".to_owned() });
        let waiting = news(WatchNews::Waiting { why: "it is a null pointer".to_owned() });
        for (event, text) in [
            (refused, "could not be armed: the kernel has no symbol"),
            (waiting, "was never armed: it is a null pointer"),
        ] {
            let (outcome, found, verdict) = judged(vec![asked(), event.clone()], false);
            assert_eq!((outcome, found.as_str(), verdict), (Outcome::Fail, text, Outcome::Fail));
            assert_eq!(judged(vec![asked(), event], true).2, Outcome::Fail);
        }
    }

    #[test]
    fn a_capture_in_the_middle_of_a_scheduler_that_leaves_when_told_to_is_no_exit() {
        let leaving = sample("watch:scx_root->exit_kind", CaptureKind::Watch, 5000, &[]);
        let scx = ScxState { state: "disabling".to_owned(), exit_kind: 64, ..ScxState::default() };
        let leaving = Sample { scx: Some(scx), ..leaving };
        let judged = |kind| {
            let trace = TraceBuilder::begun()
                .periodic(&[1, 2])
                .sample(Sample { kind, ..leaving.clone() })
                .ended()
                .trace();
            Run::load(&trace).judge(None, CheckSource::Recorded).outcome()
        };
        assert_eq!(judged(CaptureKind::Watch), Outcome::Pass);
        assert_ne!(judged(CaptureKind::OnDemand), Outcome::Pass);
    }

    #[test]
    fn what_it_saw_and_what_it_dropped_is_said() {
        let (outcome, found, verdict) = judged(vec![asked(), armed()], false);
        assert_eq!(
            (outcome, found.as_str(), verdict),
            (Outcome::Pass, "armed, and no store fired it", Outcome::Pass)
        );
        let fire = WatchFire {
            number: 1,
            cpu: Cpu(1),
            place: "demo_dispatch+0x10/0x80".to_owned(),
            source: Some("main.bpf.c:12: nr++".to_owned()),
            old: 4,
            new: 5,
            ..WatchFire::default()
        };
        let totals = WatchTotals {
            stores: 9,
            fires: 1,
            excluded: 8,
            backed_off: 2,
            blind_ns: 3_000_000,
            ..WatchTotals::default()
        };
        let events =
            vec![asked(), armed(), news(WatchNews::Fired(Box::new(fire))), news(WatchNews::Totals(totals))];
        let (outcome, found, _) = judged(events, false);
        assert_eq!(outcome, Outcome::Pass);
        assert!(found.starts_with("fired once: at "), "{found}");
        assert!(
            found.contains("CPU 1, demo_dispatch+0x10/0x80 (main.bpf.c:12: nr++), 4 -> 5; 8 stores that its"),
            "{found}"
        );
        assert!(found.contains("2 times that it was taken away, for 3 ms in all"), "{found}");
    }
}
