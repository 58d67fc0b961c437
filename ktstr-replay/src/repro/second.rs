//! The second machine: whether it failed as the first did, and what a report says of it.

use super::failure::Failure;
use crate::run::{Checkpoints, Run};
use crate::text::{clean, counted, shorten};
use crate::trace::Trace;
use crate::trace::record::manifest::ReproInfo;

/// Attempts that a report lists: a run makes three, a file may claim more.
const LISTED: usize = 10;
/// Longest end of an attempt, in characters.
const ENDED_CHARS: usize = 400;

/// Whether `second` failed as `first` did: the same scheduler, that under test or one below it, ended with an error of the same kind, or,
/// where the kernel has none, its process in the same way.
#[must_use]
pub fn is_same_failure(first: &Run<'_>, second: &Run<'_>) -> bool {
    let failure = |run| Failure::of(run, Checkpoints::of(run).ok().as_ref());
    failure(first).zip(failure(second)).is_some_and(|(first, second)| first.is_like(&second))
}

/// The last machine on which a failure was to happen again, as a trace, and what its manifest says of the attempts; `None` where
/// there was none.
#[must_use]
pub fn second(trace: &Trace) -> Option<(Trace, ReproInfo)> {
    let numbers = trace.segments();
    numbers.into_iter().rev().find_map(|number| {
        let segment = trace.segment(number)?;
        let info = segment.manifest().ok()?.repro.clone()?;
        Some((segment, info))
    })
}

/// What is said of the attempts, in a line for each.
pub(crate) fn attempts(info: &ReproInfo, number: u16) -> Vec<String> {
    let tried = counted(info.attempts.len(), "attempt");
    let mut lines = vec![match info.reproduced() {
        0 => format!("it did not happen again in {tried}; the last is segment {number}"),
        times => {
            let rate = 100.0 * times as f64 / info.attempts.len() as f64;
            format!("it happened again, in {times} of {tried} ({rate:.0} %); the last is segment {number}")
        }
    }];
    for (attempt, count) in info.attempts.iter().take(LISTED).zip(1..) {
        let word = if attempt.reproduced { "again" } else { "not" };
        let took = attempt.took_ms as f64 / 1000.0;
        lines.push(format!(
            "  {count}: {word}, seed {}, {took:.1} s: {}",
            attempt.seed,
            shorten(&clean(&attempt.ended), ENDED_CHARS)
        ));
    }
    if let Some(more) = info.attempts.len().checked_sub(LISTED).filter(|more| *more > 0) {
        lines.push(format!("  and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repro::Chain;
    use crate::testing::{TraceBuilder, stalled};
    use crate::trace::record::Stage;
    use crate::trace::record::manifest::ReproAttempt;

    /// When a loader crashes the kernel takes its scheduler away, and says that it was unregistered.
    #[test]
    fn a_crash_of_the_loader_is_a_failure_whatever_the_kernel_calls_the_exit() {
        let ended = |kind: Option<u64>, at_ms, how: &str| {
            let mut sample = stalled(1500, &[]);
            if let (Some(kind), Some(scx)) = (kind, sample.scx.as_mut()) {
                (scx.exit_kind, scx.exit_kind_name, scx.exit_message) = (kind, None, None);
            }
            let trace = TraceBuilder::begun().sample(sample);
            let (exited, ended) = (Stage::SchedulerExited, Stage::BodyEnded);
            match at_ms < 1600 {
                true => trace.stage(at_ms, exited, how).stage(1600, ended, "").trace(),
                false => trace.stage(1600, ended, "").stage(at_ms, exited, how).trace(),
            }
        };
        let told = ended(Some(64), 1510, "signal 11 (SIGSEGV)");
        let untold = ended(Some(0), 1510, "signal 11 (SIGSEGV)");
        let [told, untold] = [&told, &untold].map(Run::load);
        assert!(Chain::of(&told).is_ok() && Chain::of(&untold).is_ok());
        assert!(is_same_failure(&told, &untold) && is_same_failure(&untold, &told));
        for (kind, at_ms, how) in [
            (Some(64), 1510, "signal 6 (SIGABRT)"),
            (Some(64), 1510, "exited with status 0"),
            // By guest-init, as it went on after its scheduler had left.
            (Some(64), 1700, "signal 11 (SIGSEGV)"),
            (None, 1510, "exited with status 1"),
        ] {
            let other = ended(kind, at_ms, how);
            assert!(!is_same_failure(&told, &Run::load(&other)), "{kind:?} {how}");
        }
    }

    #[test]
    fn a_file_that_claims_many_attempts_fills_no_report() {
        let attempt = ReproAttempt { ended: "x".repeat(10_000), ..ReproAttempt::default() };
        let info = ReproInfo { attempts: vec![attempt; 500], ..ReproInfo::default() };
        let lines = attempts(&info, 1);
        assert_eq!(lines.len(), LISTED + 2);
        assert_eq!(lines.last().map(String::as_str), Some("  and 490 more"));
        assert!(lines.iter().all(|line| line.len() < 1000), "{lines:?}");
    }
}
