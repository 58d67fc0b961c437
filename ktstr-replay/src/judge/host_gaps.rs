//! Times in which the host did not run the machine: what they can explain is not the scheduler's failure.

use super::{splats, sub_schedulers, thresholds};
use crate::claim::Claim;
use crate::run::{Run, STALL_KIND, SchedulerExit, SubSchedulerNews};
use crate::text::seconds;
use crate::trace::record::{CaptureKind, Event, EventBody, GuestEnd, Loss, LossKind, Stage};
use crate::units::HostNs;
use crate::verdict::{Finding, Origin, Outcome, Verdict};

/// Gaps matter from this part of a wait on. The kernel ends a scheduler soon after the timeout, so that without a bound
/// the least gap would explain every stall.
const GAP_PART: u64 = 4;
/// How long an emulator that runs has to answer, in ns.
const ANSWER_NS: u64 = 10_000_000_000;
/// What init says of a body whose time was up.
const TOO_LONG: &str = "it ran for longer than";
/// Most ends of sub-schedulers that are looked at; a log may have any number.
const MOST_BELOW: usize = 64;

/// Turn failures into what cannot be said, where the host's gaps can be the reason: a stall that would not have been one
/// without them, a limit of the run that passed meanwhile, thresholds over workers' times, claims about rates.
pub(super) fn apply(run: &Run<'_>, verdict: &mut Verdict) {
    let gaps = HostGaps::of(run);
    if gaps.0.is_empty() {
        return;
    }
    let total_ns = gaps.total_ns();
    let exits = run.scheduler_exits();
    // One that has ended in some way was not waited for.
    let is_enabling_explained = exits.is_empty() && enabling(run, &gaps);
    let stall_is_explained = is_enabling_explained || exits.iter().any(|exit| explains(run, &gaps, exit));
    let body_is_explained = body(run, &gaps);
    let below_is_explained = below(run, &gaps);
    let broken_all_the_same = thresholds::broken_all_the_same(run);
    for finding in verdict.findings.iter_mut().filter(|finding| finding.outcome == Outcome::Fail) {
        let is_error = finding.summary.starts_with("error: ");
        let is_timing = match finding.origin {
            Origin::Run if finding.what == splats::WHAT => splats::are_of_time(run),
            Origin::Run if finding.what == "body" => body_is_explained,
            Origin::Run if finding.what == sub_schedulers::WHAT => below_is_explained,
            Origin::Run => finding.what == "scheduler" && stall_is_explained,
            // Of what a payload measured nobody knows how much of it a gap makes.
            Origin::Threshold => !broken_all_the_same.contains(&finding.what),
            // What does not exist does not come with more time. Of a check this is what its columns found.
            Origin::Claim | Origin::Check(_) => !is_error && of_time(&finding.what),
        };
        if is_timing {
            finding.outcome = Outcome::Inconclusive;
            finding.lines.push(said(total_ns));
        } else if matches!(finding.origin, Origin::Check(_)) && !is_error {
            // Whether the rest of a check is of time nobody knows but its author. One that is recalled has the line already.
            let line = format!("note: {}", noted(total_ns));
            if !finding.lines.contains(&line) {
                finding.lines.push(line);
            }
        }
    }
}

fn of_time(claim: &str) -> bool {
    claim.parse::<Claim>().is_ok_and(|claim| claim.is_of_time())
}

/// Whether the failure of this claim, which is broken by what is recorded, can come of the host's gaps so far.
pub(super) fn excuse(run: &Run<'_>, claim: &Claim) -> bool {
    claim.is_of_time() && !HostGaps::of(run).0.is_empty()
}

/// A line of evidence: `total_ns` of the run may be the reason.
pub(super) fn said(total_ns: u64) -> String {
    format!("{}, which may be the reason", for_so_long(total_ns))
}

/// The same of what may have nothing to do with time.
fn noted(total_ns: u64) -> String {
    format!("{}; a check that judges times finds them by `trace.host_gaps()`", for_so_long(total_ns))
}

fn for_so_long(total_ns: u64) -> String {
    let total = seconds(i64::try_from(total_ns).unwrap_or(i64::MAX));
    format!("the host did not run the machine for {total} of this run")
}

/// Why the run ended, where the host can be the reason: the machine did not get to its end, or its emulator did not answer, and the
/// host did not run it for a good part of the time that was waited for.
pub(super) fn ended(run: &Run<'_>) -> Option<String> {
    let gaps = HostGaps::of(run);
    let (end, at) = run.events.iter().rev().find_map(|event| match &event.body {
        EventBody::End { end, .. } => Some((*end, event.host_ns)),
        _ => None,
    })?;
    let is_reason = match end {
        GuestEnd::TimedOut => {
            let is_stage = |event: &&Event| matches!(event.body, EventBody::Stage { .. });
            let began = run.events.iter().find(is_stage).map(|event| event.host_ns)?;
            gaps.are_much(began, at)
        }
        GuestEnd::MachineDied => gaps.are_much(HostNs(at.0.saturating_sub(ANSWER_NS)), at),
        _ => false,
    };
    is_reason.then(|| for_so_long(gaps.total_ns()))
}

/// Whether a scheduler would have had the time to become enabled without the gaps.
fn enabling(run: &Run<'_>, gaps: &HostGaps<'_>) -> bool {
    let limit_ms = run.manifest.scheduler.as_ref().map_or(0, |scheduler| scheduler.enable_timeout_ms);
    let limit_ns = limit_ms.saturating_mul(1_000_000);
    let capture = run.samples.iter().find(|sample| sample.kind == CaptureKind::NotEnabled);
    capture.is_some_and(|capture| gaps.explain(capture.host_ns, limit_ns, limit_ns))
}

/// Whether a body that was ended because its time was up may have been late because of the gaps.
fn body(run: &Run<'_>, gaps: &HostGaps<'_>) -> bool {
    let (Some((_, began, _)), Some((_, ended, detail))) =
        (run.stage(Stage::BodyStarted), run.stage(Stage::TestExited))
    else {
        return false;
    };
    // What it had returned before its time was up is its own.
    run.body_result().is_none() && detail.contains(TOO_LONG) && gaps.are_much(began.host_ns, ended.host_ns)
}

/// Whether all ends of sub-schedulers by an error were stalls that would not have been any without the gaps. What the watchdog gives one
/// is not known: at most the wait that it found.
fn below(run: &Run<'_>, gaps: &HostGaps<'_>) -> bool {
    let failures = run.sub_scheduler_failures();
    let is_explained = |news: &SubSchedulerNews| {
        let stall = news.end.as_ref().filter(|end| end.is_stall());
        let Some(waited_ns) = stall.and_then(|end| waited_ns(end.message.as_deref()?)) else { return false };
        let is_told =
            |event: &&Event| event.guest_ns == news.at && matches!(event.body, EventBody::Kmsg { .. });
        let told = run.events.iter().find(is_told);
        told.is_some_and(|event| gaps.explain(event.host_ns, waited_ns, waited_ns))
    };
    !failures.is_empty() && failures.len() <= MOST_BELOW && failures.iter().all(is_explained)
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
        let begin = HostNs(end.0.saturating_sub(waited_ns));
        self.are_much(begin, end) && waited_ns.saturating_sub(self.within_ns(begin, end)) < timeout_ns
    }

    /// Whether they are so much of this time that they matter.
    fn are_much(&self, begin: HostNs, end: HostNs) -> bool {
        let gaps_ns = self.within_ns(begin, end);
        gaps_ns > 0 && gaps_ns >= end.0.saturating_sub(begin.0) / GAP_PART
    }

    /// How much of this time they are, in ns. A gap is told when it has ended, and counts as far as it lies in it.
    fn within_ns(&self, begin: HostNs, end: HostNs) -> u64 {
        let within = self.0.iter().map(|gap| {
            let gap_begin = gap.host_ns.0.saturating_sub(gap.count).max(begin.0);
            gap.host_ns.0.min(end.0).saturating_sub(gap_begin)
        });
        within.fold(0, u64::saturating_add)
    }

    /// How long those are that reach into this time, in ns, also what of them lies outside of it: the recorder may not have run either, and
    /// then hears of its beginning when the gap is over.
    pub(super) fn reaching_into_ns(&self, begin: HostNs, end: HostNs) -> u64 {
        let reaches =
            |gap: &&&Loss| gap.host_ns.0 > begin.0 && gap.host_ns.0.saturating_sub(gap.count) < end.0;
        self.0.iter().filter(reaches).fold(0, |sum, gap| sum.saturating_add(gap.count))
    }
}

/// Whether a task would have waited for less than the watchdog's timeout without the gaps in its wait.
fn explains(run: &Run<'_>, gaps: &HostGaps<'_>, exit: &SchedulerExit) -> bool {
    let Some(sample) =
        exit.sample.and_then(|index| run.sample(index)).filter(|_| exit.is_of_kind(STALL_KIND))
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
    fn a_stall_of_a_sub_scheduler_is_excused_by_the_gap_in_its_wait() {
        use Outcome::{Fail, Inconclusive};
        let judged = |reason: &str, gap: Option<Loss>| {
            let run = TraceBuilder::begun()
                .kmsg(100, 6, "sched_ext: BPF sub-scheduler \"sub\" enabled")
                .kmsg(4500, 3, &format!("sched_ext: BPF sub-scheduler \"sub\" disabled ({reason})"))
                .kmsg(4500, 3, "sched_ext: sub: w[7] failed to run for 4.000s")
                .ended();
            let run = gap.into_iter().fold(run, TraceBuilder::loss);
            let verdict = Run::load(&run.trace()).judge(None, CheckSource::Recorded);
            let found = verdict.findings.into_iter().find(|finding| finding.what == sub_schedulers::WHAT);
            found.expect("a finding").outcome
        };
        let stall = "runnable task stall";
        assert_eq!(judged(stall, None), Fail);
        assert_eq!(judged(stall, Some(gap(4000, 2000))), Inconclusive);
        // Before the wait, too short to matter, and of an error that does not come of time.
        assert_eq!(judged(stall, Some(gap(300, 2000))), Fail);
        assert_eq!(judged(stall, Some(gap(4000, 500))), Fail);
        assert_eq!(judged("scx_bpf_error", Some(gap(4000, 2000))), Fail);
    }

    /// A gap that ended at `end_ms`, by the clock of the tests' traces.
    fn gap(end_ms: i64, length_ms: u64) -> Loss {
        let host_ns = HostNs(crate::testing::BODY_MS.saturating_add_signed(end_ms) * 1_000_000);
        let detail = "the emulator was stopped".to_owned();
        Loss { host_ns, kind: LossKind::HostTime, count: length_ms * 1_000_000, detail }
    }

    fn outcomes(run: impl Fn() -> TraceBuilder, gap: Loss) -> [Outcome; 3] {
        let judged = |run: TraceBuilder| Run::load(&run.trace()).judge(None, CheckSource::Recorded).outcome();
        [judged(run()), judged(run().loss(gap.clone())), judged(run().loss(gap).expect_err(None))]
    }

    fn end(end: GuestEnd) -> EventBody {
        EventBody::End { end, detail: "why".to_owned() }
    }

    #[test]
    fn a_boot_that_the_host_did_not_run_is_neither_a_failure_nor_the_expected_one() {
        use Outcome::{Fail, Inconclusive};
        let boot = || {
            TraceBuilder::new()
                .stage(-1900, Stage::Booting, "1 attempt")
                .stage(60_000, Stage::InitFailed, "init was not ready within 30 s")
                .event(60_000, end(GuestEnd::TimedOut))
        };
        assert_eq!(outcomes(boot, gap(60_000, 50_000)), [Fail, Inconclusive, Inconclusive]);
        // As long as hosts often are busy elsewhere.
        assert_eq!(outcomes(boot, gap(60_000, 5_000)), [Fail, Fail, Fail]);
        let verdict = Run::load(&boot().loss(gap(60_000, 50_000)).trace()).judge(None, CheckSource::Recorded);
        let finding =
            verdict.findings.iter().find(|finding| finding.what == "guest-init").expect("a finding");
        let line = "the host did not run the machine for 50.000s of this run, which may be the reason";
        assert_eq!(finding.lines, [line], "{finding:#?}");
    }

    #[test]
    fn an_emulator_that_does_not_answer_is_excused_by_the_gap_it_ends_in_alone() {
        use Outcome::{Fail, Inconclusive};
        let died = || TraceBuilder::begun().event(90_000, end(GuestEnd::MachineDied));
        assert_eq!(outcomes(died, gap(89_990, 60_000)), [Fail, Inconclusive, Inconclusive]);
        assert_eq!(outcomes(died, gap(70_000, 60_000)), [Fail, Fail, Fail]);
    }

    #[test]
    fn a_fault_of_the_kernel_is_not_excused_where_the_end_of_the_run_is() {
        use Outcome::{Fail, Inconclusive};
        let hangs = |before: TraceBuilder| before.event(90_000, end(GuestEnd::TimedOut));
        let well = || hangs(TraceBuilder::begun());
        assert_eq!(outcomes(well, gap(80_000, 60_000))[..2], [Fail, Inconclusive]);
        let bug = "BUG: kernel NULL pointer dereference, address: 0000000000000010";
        let faulty = || hangs(TraceBuilder::begun().kmsg(1000, 2, bug));
        assert_eq!(outcomes(faulty, gap(80_000, 60_000))[..2], [Fail, Fail]);
    }

    #[test]
    fn limits_of_init_are_excused_by_gaps_within_them() {
        use Outcome::{Fail, Inconclusive, Pass};
        let late = || {
            let sample = crate::testing::sample("not_enabled", CaptureKind::NotEnabled, 29_800, &[0, 0, 0]);
            TraceBuilder::new()
                .stage(-1900, Stage::Booting, "")
                .stage(-200, Stage::SchedulerStarted, "")
                .sample(sample)
                .stage(29_900, Stage::InitFailed, "the scheduler was not enabled within 30s")
                .event(30_000, end(GuestEnd::PoweredOff))
        };
        assert_eq!(outcomes(late, gap(20_000, 15_000)), [Fail, Inconclusive, Inconclusive]);
        assert_eq!(outcomes(late, gap(20_000, 2_000)), [Fail, Fail, Fail]);
        let hangs = |detail: &'static str| {
            move || {
                TraceBuilder::begun()
                    .stage(40_000, Stage::TestExited, detail)
                    .capture("end", CaptureKind::End, 40_010, [1000, 1000, 3])
                    .event(40_100, end(GuestEnd::PoweredOff))
            }
        };
        let too_long = "signal 15; ended by init: it ran for longer than 40s";
        assert_eq!(outcomes(hangs(too_long), gap(30_000, 20_000))[..2], [Fail, Inconclusive]);
        assert_eq!(outcomes(hangs(too_long), gap(30_000, 2_000))[..2], [Fail, Fail]);
        // One that ends by itself was not ended for its time.
        assert_eq!(outcomes(hangs("exit code 3"), gap(30_000, 20_000))[..2], [Fail, Fail]);
        // What it had returned by then stands.
        let returned = || {
            TraceBuilder::begun()
                .event(3_000, EventBody::Body { error: Some("wrong".to_owned()), failures: Vec::new() })
                .stage(40_000, Stage::TestExited, too_long)
                .capture("end", CaptureKind::End, 40_010, [1000, 1000, 3])
                .event(40_100, end(GuestEnd::PoweredOff))
        };
        assert_eq!(outcomes(returned, gap(30_000, 20_000))[..2], [Fail, Fail]);
        let well = || TraceBuilder::begun().ended();
        assert_eq!(outcomes(well, gap(3_000, 2_000))[..2], [Pass, Pass]);
    }

    #[test]
    fn a_check_in_code_is_told_of_the_gaps_once_and_its_columns_are_judged_as_claims_are() {
        let run = TraceBuilder::begun().periodic(&[10, 20, 30]).check("mine").ended().loss(gap(3_000, 2_000));
        let check = |trace: &crate::trace::Trace, v: &mut Verdict| {
            v.add(Finding::new(Origin::Run, "share", Outcome::Fail, "too small"));
            trace.periodic().var("nr_dispatched").rate(1e9.., crate::claim::pattern::TimeUnit::S, v);
            Ok(())
        };
        let checks = [crate::judge::LabelledCheck { label: "mine", run: &check }];
        let trace = run.judged_trace(|trace| Run::load(trace).judge(None, CheckSource::Fresh(&checks)));
        let again = Run::load(&trace).judge(None, CheckSource::Recorded);
        let of_check = |what: &str| {
            again
                .findings
                .iter()
                .find(|f| matches!(f.origin, Origin::Check(_)) && f.what.contains(what))
                .unwrap()
        };
        let share = of_check("share");
        let note = "note: the host did not run the machine for 2.000s of this run; a check that judges times finds them by \
                    `trace.host_gaps()`";
        assert_eq!((share.outcome, share.lines.as_slice()), (Outcome::Fail, &[note.to_owned()][..]));
        assert_eq!(of_check("rate(").outcome, Outcome::Inconclusive);
        let gaps = trace.host_gaps();
        assert_eq!(gaps.iter().map(crate::trace::HostGap::ns).collect::<Vec<_>>(), [2_000_000_000]);
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
