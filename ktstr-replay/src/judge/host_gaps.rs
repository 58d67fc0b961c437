//! Times in which the host did not run the machine: what they can explain is not the scheduler's failure.

use super::splats;
use crate::claim::Claim;
use crate::run::{Run, SchedulerExit};
use crate::text::seconds;
use crate::trace::record::{Loss, LossKind};
use crate::units::HostNs;
use crate::verdict::{Finding, Origin, Outcome, Verdict};

/// The kind of exit by which the watchdog ends a scheduler.
const STALL: &str = "ERROR_STALL";
/// Gaps matter from this part of a wait on. The kernel ends a scheduler soon after the timeout, so that without a bound
/// the least gap would explain every stall.
const GAP_PART: u64 = 4;
/// Thresholds that judge where something was, not when.
const UNTIMED_THRESHOLDS: [&str; 4] =
    ["isolation", "max_migration_ratio", "min_page_locality", "max_cross_node_migration_ratio"];

/// Turn failures into what cannot be said, where the host's gaps can be the reason: a stall that would not have been one
/// without them, thresholds over workers' times, claims about rates.
pub(super) fn apply(run: &Run<'_>, verdict: &mut Verdict) {
    let gaps = HostGaps::of(run);
    if gaps.0.is_empty() {
        return;
    }
    let total_ns = gaps.total_ns();
    let exits = run.scheduler_exits();
    let stall_is_explained = exits.iter().any(|exit| explains(run, &gaps, exit));
    for finding in verdict.findings.iter_mut().filter(|finding| finding.outcome == Outcome::Fail) {
        let is_timing = match finding.origin {
            Origin::Run if finding.what == splats::WHAT => splats::are_of_time(run),
            Origin::Run => finding.what == "scheduler" && stall_is_explained,
            Origin::Threshold => !UNTIMED_THRESHOLDS.contains(&finding.what.as_str()),
            Origin::Claim => {
                // What does not exist does not come with more time.
                !finding.summary.starts_with("error: ")
                    && finding.what.parse::<Claim>().is_ok_and(|claim| claim.is_of_time())
            }
            Origin::Check(_) => false,
        };
        if is_timing {
            finding.outcome = Outcome::Inconclusive;
            finding.lines.push(said(total_ns));
        }
    }
}

/// A line of evidence: `total_ns` of the run may be the reason.
pub(super) fn said(total_ns: u64) -> String {
    let total = seconds(i64::try_from(total_ns).unwrap_or(i64::MAX));
    format!("the host did not run the machine for {total} of this run, which may be the reason")
}

/// The gaps of a run.
pub(super) struct HostGaps<'r>(Vec<&'r Loss>);

impl<'r> HostGaps<'r> {
    /// Those that the recorder told of.
    pub(super) fn of(run: &'r Run<'_>) -> Self {
        Self(run.losses.iter().filter(|loss| loss.kind == LossKind::HostTime).collect())
    }

    /// All of them, in ns.
    pub(super) fn total_ns(&self) -> u64 {
        self.0.iter().fold(0, |sum, gap| sum.saturating_add(gap.count))
    }

    /// Whether a wait of `waited_ns` that ended at `end` would have been shorter than `timeout_ns` without the gaps in it.
    pub(super) fn explain(&self, end: HostNs, waited_ns: u64, timeout_ns: u64) -> bool {
        // A gap is told when it has ended, and counts as far as it lies in the wait.
        let from = end.0.saturating_sub(waited_ns);
        let within = self.0.iter().map(|gap| {
            let begin = gap.host_ns.0.saturating_sub(gap.count).max(from);
            gap.host_ns.0.min(end.0).saturating_sub(begin)
        });
        let gaps_ns = within.fold(0, u64::saturating_add);
        gaps_ns > 0 && gaps_ns >= waited_ns / GAP_PART && waited_ns.saturating_sub(gaps_ns) < timeout_ns
    }
}

/// Whether a task would have waited for less than the watchdog's timeout without the gaps in its wait.
fn explains(run: &Run<'_>, gaps: &HostGaps<'_>, exit: &SchedulerExit) -> bool {
    let Some(sample) = exit.sample.and_then(|index| run.sample(index)).filter(|_| exit.is_of_kind(STALL))
    else {
        return false;
    };
    let recorded = sample.scx.as_ref().and_then(|scx| scx.watchdog_timeout_ns);
    // 0: the test left it to the scheduler.
    let asked =
        Some(run.manifest.test.watchdog_timeout_ms.saturating_mul(1_000_000)).filter(|asked| *asked > 0);
    // A wait that ends in a stall is as long as the timeout or longer: of two that are not known, one is taken for the other.
    let waited_ns = exit.message.as_deref().and_then(waited_ns);
    let Some(timeout_ns) = recorded.or(asked).or(waited_ns) else { return false };
    gaps.explain(sample.host_ns, waited_ns.unwrap_or(timeout_ns), timeout_ns)
}

/// The time in `burner[103] failed to run for 5.104s`, or `watchdog failed to check in for 9.856s`, in ns.
fn waited_ns(message: &str) -> Option<u64> {
    let (_, time) = message.rsplit_once(" for ")?;
    let (whole, fraction) = time.trim().strip_suffix('s')?.split_once('.')?;
    let ms: u64 = fraction.parse().ok().filter(|_| fraction.len() == 3)?;
    Some(whole.parse::<u64>().ok()?.saturating_mul(1_000).saturating_add(ms).saturating_mul(1_000_000))
}

/// Whether the scheduler's exit is one that the host's gaps can explain.
pub(super) fn explained(verdict: &Verdict) -> bool {
    let is_it = |finding: &Finding| finding.what == "scheduler" && finding.outcome == Outcome::Inconclusive;
    verdict.findings.iter().any(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::CheckSource;
    use crate::testing::{TraceBuilder, stalled};
    use crate::trace::record::Stage;

    #[test]
    fn the_kernels_messages_say_how_long_a_task_waited() {
        assert_eq!(waited_ns("a for b[1] failed to run for 5.104s"), Some(5_104_000_000));
        assert_eq!(waited_ns("watchdog failed to check in for 9.856s"), Some(9_856_000_000));
        assert_eq!(waited_ns("runnable task stall"), None);
        assert_eq!(waited_ns("failed for 5s"), None);
    }

    /// A stall at 4.5 s, after a wait of 5.104 s and with a timeout of 5 s; the host's gap ended at `end_ms`.
    fn judged(gap: Option<(i64, u64)>, expect: Option<&str>) -> Verdict {
        stalled_run(TraceBuilder::begun(), gap, expect)
    }

    fn stalled_run(begun: TraceBuilder, gap: Option<(i64, u64)>, expect: Option<&str>) -> Verdict {
        let mut run =
            begun.sample(stalled(4500, &[20, 30, 3])).stage(4510, Stage::SchedulerExited, "x").ended();
        if expect.is_some() {
            run = run.expect_err(expect);
        }
        let ms = |ms: u64| ms * 1_000_000;
        if let Some((end_ms, length_ms)) = gap {
            let host_ns = HostNs(ms(crate::testing::BODY_MS.saturating_add_signed(end_ms)));
            let detail = "the emulator was stopped".to_owned();
            run = run.loss(Loss { host_ns, kind: LossKind::HostTime, count: ms(length_ms), detail });
        }
        Run::load(&run.trace()).judge(None, CheckSource::Recorded)
    }

    #[test]
    fn a_stall_that_a_gap_explains_is_neither_a_failure_nor_the_expected_one() {
        use Outcome::{Fail, Inconclusive, Pass};
        let expect = Some("runnable task stall");
        assert_eq!((judged(None, None).outcome(), judged(None, expect).outcome()), (Fail, Pass));
        let gap = Some((4000, 4000));
        assert_eq!(
            (judged(gap, None).outcome(), judged(gap, expect).outcome()),
            (Inconclusive, Inconclusive)
        );
        // A gap before the wait, and one too short to matter.
        for gap in [(-800, 500), (4000, 1000)] {
            assert_eq!(
                (judged(Some(gap), None).outcome(), judged(Some(gap), expect).outcome()),
                (Fail, Pass),
                "{gap:?}"
            );
        }
        // The timeout is known of neither the test nor the kernel: it is at most the wait.
        let of = |gap| stalled_run(TraceBuilder::begun().without_watchdog_timeout(), gap, None).outcome();
        assert_eq!((of(None), of(gap)), (Fail, Inconclusive));
    }

    #[test]
    fn claims_that_judge_by_the_clock_are_explained_and_others_are_not() {
        use crate::claim::pattern::events_fixture::{IDLE, VICTIM, history, run_of, switch, wakeup};
        use Outcome::{Fail, Inconclusive};
        let judged = |claim: &str, gap: bool| {
            let steps = [(1000, wakeup(VICTIM, 1)), (200_000, switch(IDLE, VICTIM))];
            let mut run = run_of(vec![history(1, 0, &steps)]).claim(claim);
            if gap {
                let detail = "the emulator was stopped".to_owned();
                run = run.loss(Loss {
                    host_ns: HostNs(1),
                    kind: LossKind::HostTime,
                    count: 100_000_000,
                    detail,
                });
            }
            let verdict = Run::load(&run.trace()).judge(None, CheckSource::Recorded);
            verdict.findings.iter().find(|finding| finding.origin == Origin::Claim).unwrap().outcome
        };
        for (claim, with_gap) in [
            (
                "within(event(sched_switch where next_comm == victim), 50ms, after=event(sched_wakeup))",
                Inconclusive,
            ),
            ("eventually(event(sched_switch), by=100ms)", Inconclusive),
            ("wrapping(rate(nr_dispatched) in 1000..2000 per ns)", Inconclusive),
            ("never(event(sched_wakeup))", Fail),
            ("eventually(nr_dispatchd)", Fail),
        ] {
            assert_eq!((judged(claim, false), judged(claim, true)), (Fail, with_gap), "{claim}");
        }
    }
}
