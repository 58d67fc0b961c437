//! Splats: warnings and reports of faults that the kernel writes into its log.
//!
//! Sources of the texts, in Linux: `__warn` in `kernel/panic.c`, `kernel/locking/lockdep.c`, `kernel/rcu/tree_stall.h`,
//! `kernel/rcu/tasks.h`, `kernel/hung_task.c`, `kernel/watchdog.c`, `kernel/workqueue.c`, `lib/ubsan.c`,
//! `arch/x86/mm/fault.c`, `arch/x86/kernel/traps.c`.

use super::lifecycle;
use crate::run::Run;
use crate::text::{counted, listed, seconds};
use crate::trace::record::{GuestEnd, Stage};
use crate::units::GuestNs;
use crate::verdict::{Finding, Origin, Outcome};

/// What the finding is of.
pub(super) const WHAT: &str = "kernel log";
/// Lines after a splat in which its place is looked for.
const PLACE_WITHIN: usize = 24;
/// What reports of faults begin with.
const FAULTS: &[&str] =
    &["WARNING: ", "BUG: ", "kernel BUG at ", "Oops: ", "UBSAN: ", "general protection fault"];
/// What that of a breakpoint begins with.
const BREAKPOINT: &str = "Oops: int3";
/// What reports end with.
const END: &str = "---[ end trace";
/// The line before the message of a warning.
const CUT: &str = "[ cut here ]";

/// A splat.
struct Splat {
    /// Its first line.
    line: String,
    at: GuestNs,
    kind: Kind,
    /// The function in which it happened.
    place: Option<String>,
}

/// What a splat is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Something is wrong in the kernel.
    Fault,
    /// Something took too long, by a clock.
    Time,
    /// A breakpoint that is gone, which only the emulator runs into.
    Breakpoint,
}

/// What a line is the beginning of.
fn kind(line: &str) -> Option<Kind> {
    // rcu: INFO: rcu_preempt detected stalls on CPUs/tasks; INFO: rcu_tasks detected stalls on tasks.
    let rcu = line.contains("INFO: rcu")
        && (line.contains("stall on CPU") || line.contains("detected") && line.contains("stalls"));
    let hung = line.starts_with("INFO: task ") && line.contains(" blocked for more than ");
    let lockup = line.contains("soft lockup - CPU")
        || line.contains("detected hard LOCKUP")
        || line.contains("BUG: workqueue lockup");
    if rcu || hung || lockup && !line.starts_with("sched_ext") {
        return Some(Kind::Time);
    }
    if line.starts_with(BREAKPOINT) {
        return Some(Kind::Breakpoint);
    }
    FAULTS.iter().any(|begin| line.starts_with(begin)).then_some(Kind::Fault)
}

/// What becomes of a line of the log in a trace that is to have no log: the words alone by which a report is known, so that the run
/// is not judged to be one without faults. `None`: the line begins and ends none.
pub(crate) fn without_text(line: &str) -> Option<String> {
    let line = line.trim();
    if line.starts_with(END) {
        return Some(END.to_owned());
    }
    let begin = match kind(line)? {
        Kind::Time => "INFO: rcu detected stalls",
        Kind::Breakpoint => BREAKPOINT,
        Kind::Fault => *FAULTS.iter().find(|begin| line.starts_with(**begin))?,
    };
    Some(format!("{} (redacted)", begin.trim_end()))
}

/// Whether the kernel wrote of a fault from the time on at which the test's own part began.
///
/// That is when the scheduler's program was started, or the body where there is none: what the kernel says while it boots
/// is of the machine and the same for every test. A guest that panicked has its last words in the finding of the machine.
pub(super) fn judge(run: &Run<'_>) -> Option<Finding> {
    let panicked = run.end().is_some_and(|(end, _)| end == GuestEnd::Panicked);
    if run.manifest.test.allow_splats || panicked {
        return None;
    }
    let splats = splats(run);
    let first = splats.first()?;
    let emulated = run.manifest.is_emulated();
    let line = |splat: &Splat| {
        let mut line = format!("at {}: {}", seconds(run.since_start_ns(splat.at)), splat.line);
        if let Some(place) = &splat.place {
            line.push_str(&format!(" (in {place})"));
        }
        if splat.kind == Kind::Time && emulated {
            line.push_str(" (wall clock of an emulated machine)");
        }
        line
    };
    let found = match splats.len() {
        1 => line(first),
        n => format!("{}, the first {}", counted(n, "splat"), line(first)),
    };
    let mut lines: Vec<String> = match splats.len() {
        1 => Vec::new(),
        _ => listed(splats.iter().map(line).collect()),
    };
    let strays = emulated && splats.iter().all(|splat| splat.kind == Kind::Breakpoint);
    if strays {
        lines.push(lifecycle::EMULATORS_FAULT.to_owned());
    }
    let outcome = if strays { Outcome::Inconclusive } else { Outcome::Fail };
    Some(Finding::new(Origin::Run, WHAT, outcome, found).with_lines(lines))
}

/// Whether all splats of a run are of something that took too long, which a host that does not run the machine can be the
/// reason of.
pub(super) fn are_of_time(run: &Run<'_>) -> bool {
    splats(run).iter().all(|splat| splat.kind == Kind::Time)
}

/// Whether a splat is a fault of the kernel, which no test of a scheduler can expect.
pub(super) fn is_fault(run: &Run<'_>) -> bool {
    splats(run).iter().any(|splat| splat.kind == Kind::Fault)
}

/// When what the kernel writes begins to count; `None`: it never did.
fn since(run: &Run<'_>) -> Option<GuestNs> {
    let of = |stage| run.stage(stage).map(|(_, event, _)| event.guest_ns);
    of(Stage::SchedulerStarted).or_else(|| of(Stage::BodyStarted))
}

fn splats(run: &Run<'_>) -> Vec<Splat> {
    let Some(since) = since(run) else { return Vec::new() };
    let log: Vec<(GuestNs, &str)> = run.kmsg().map(|(_, at, text)| (at, text.trim())).collect();
    let mut found: Vec<Splat> = Vec::new();
    // A report has lines that look as the beginning of one ("Oops" below "BUG:"); it ends with its own end mark.
    let mut inside = false;
    for (position, &(at, line)) in log.iter().enumerate() {
        if line.starts_with(END) {
            inside = false;
        }
        let Some(kind) = kind(line).filter(|_| at >= since) else { continue };
        let follows = inside && line.starts_with("Oops");
        inside = true;
        if follows {
            continue;
        }
        let before = position.checked_sub(1).and_then(|before| log.get(before)).map_or("", |(_, text)| text);
        let earlier = position.checked_sub(2).and_then(|before| log.get(before)).map_or("", |(_, text)| text);
        // WARN with a message prints it before the line with the place.
        let line = match line.starts_with("WARNING: ") && earlier.contains(CUT) {
            true => format!("{before}: {line}"),
            false => line.to_owned(),
        };
        let place = if line.contains(" at ") { None } else { place(&log, position) };
        found.push(Splat { line, at, kind, place });
    }
    found
}

/// The function of the instruction pointer in the report that begins there.
fn place(log: &[(GuestNs, &str)], position: usize) -> Option<String> {
    let goes_on = |line: &str| line.starts_with("Oops") || kind(line).is_none();
    let report = log.iter().skip(position + 1).take(PLACE_WITHIN).take_while(|(_, line)| goes_on(line));
    let function = |(_, line): &(GuestNs, &str)| {
        let (_, function) = line.split_once("RIP: 0010:")?;
        Some(function.split_whitespace().next()?.to_owned())
    };
    let mut functions = report.filter_map(function);
    functions.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::CheckSource;
    use crate::testing::{BODY_MS, TraceBuilder};
    use crate::trace::record::{EventBody, Loss, LossKind};
    use crate::units::HostNs;
    use crate::verdict::Verdict;

    const WARN: &str = "WARNING: kernel/sched/ext/ext.c:5220 at scx_enable+0x1f0/0x9c0, CPU#1: scx_demo/97";

    fn judged(run: &TraceBuilder) -> Verdict {
        Run::load(&run.trace()).judge(None, CheckSource::Recorded)
    }

    fn found(run: TraceBuilder) -> Option<Finding> {
        judged(&run.ended()).findings.into_iter().find(|finding| finding.what == WHAT)
    }

    #[test]
    fn each_kind_of_splat_fails_and_says_its_first_line() {
        for (line, of_time) in [
            (WARN, false),
            ("WARNING: CPU: 1 PID: 33 at kernel/sched/core.c:10 f+0x1/0x2", false),
            ("WARNING: possible circular locking dependency detected", false),
            ("WARNING: suspicious RCU usage", false),
            ("BUG: sleeping function called from invalid context at kernel/locking/mutex.c:1", false),
            ("BUG: kernel NULL pointer dereference, address: 0000000000000010", false),
            ("kernel BUG at kernel/sched/ext.c:12!", false),
            ("Oops: general protection fault, 0000 [#1] SMP NOPTI", false),
            ("UBSAN: array-index-out-of-bounds in kernel/sched/ext.c:1:2", false),
            ("rcu: INFO: rcu_preempt self-detected stall on CPU", true),
            ("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", true),
            (
                "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-... } 10 jiffies s: 1 root: 0x2/.",
                true,
            ),
            ("INFO: rcu_tasks detected stalls on tasks:", true),
            ("INFO: task kworker/0:1:12 blocked for more than 120 seconds.", true),
            ("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [burner:103]", true),
        ] {
            let finding =
                found(TraceBuilder::begun().kmsg(1000, 4, line)).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(finding.outcome, Outcome::Fail, "{line}");
            assert!(finding.summary.starts_with(&format!("at 1.000s: {line}")), "{finding:#?}");
            assert_eq!(finding.summary.contains("emulated"), of_time, "{finding:#?}");
            let short = without_text(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(kind(&short), kind(line), "{short}");
            assert_eq!(without_text(&short).as_ref(), Some(&short));
        }
        assert_eq!(without_text("sched_ext: BPF scheduler \"demo\" enabled"), None);
    }

    #[test]
    fn what_only_sounds_like_one_is_none() {
        for line in [
            "rcu: Hierarchical SRCU implementation.",
            "PCI: Using host bridge windows from ACPI; if necessary, use \"pci=nocrs\" and report a bug",
            "sched_ext: BPF scheduler \"demo\" disabled (runnable task stall)",
            "sched_ext: demo: burner[103] failed to run for 5.104s",
            "sched_ext: Soft lockup - CPU1 stuck for 12s, disabling \"demo\"",
            "calibrate_delay_direct() failed to get a good estimate for loops_per_jiffy.",
            "clocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable",
        ] {
            assert!(found(TraceBuilder::begun().kmsg(1000, 4, line)).is_none(), "{line}");
        }
    }

    #[test]
    fn what_the_kernel_says_before_the_scheduler_starts_is_not_the_tests() {
        // The scheduler starts 200 ms before the body.
        assert!(found(TraceBuilder::begun().kmsg(-201, 4, WARN)).is_none());
        assert!(found(TraceBuilder::begun().kmsg(-150, 4, WARN)).is_some());
        assert!(found(TraceBuilder::begun().kmsg(5100, 4, WARN)).is_some(), "as the scheduler is unloaded");
    }

    #[test]
    fn a_test_may_allow_them() {
        let mut run = TraceBuilder::begun().kmsg(1000, 4, WARN);
        run.manifest.test.allow_splats = true;
        assert!(found(run).is_none());
    }

    #[test]
    fn a_warning_has_its_message_and_other_reports_their_place() {
        let run = TraceBuilder::begun()
            .kmsg(1000, 4, "------------[ cut here ]------------")
            .kmsg(1000, 4, "rq->clock_update_flags < RQCF_ACT_SKIP")
            .kmsg(1000, 4, WARN)
            .kmsg(1000, 4, "---[ end trace 0000000000000000 ]---")
            .kmsg(2000, 1, "BUG: kernel NULL pointer dereference, address: 0000000000000010")
            .kmsg(2000, 1, "Oops: 0000 [#1] SMP NOPTI")
            .kmsg(2000, 1, "RIP: 0010:dispatch_enqueue+0x12/0x300")
            .kmsg(2000, 4, "---[ end trace 0000000000000000 ]---");
        let finding = found(run).expect("splats");
        assert!(
            finding.summary.starts_with("2 splats, the first at 1.000s: rq->clock_update_flags"),
            "{finding:#?}"
        );
        assert!(finding.lines[1].ends_with("(in dispatch_enqueue+0x12/0x300)"), "{finding:#?}");
    }

    #[test]
    fn a_stall_that_the_host_can_be_the_reason_of_is_inconclusive_and_a_warning_is_not() {
        let with_gap = |line: &str| {
            let gap = Loss {
                host_ns: HostNs((BODY_MS + 900) * 1_000_000),
                kind: LossKind::HostTime,
                count: 1_000_000_000,
                detail: "the emulator was stopped".to_owned(),
            };
            found(TraceBuilder::begun().kmsg(1000, 4, line).loss(gap)).map(|finding| finding.outcome)
        };
        assert_eq!(
            with_gap("rcu: INFO: rcu_preempt self-detected stall on CPU"),
            Some(Outcome::Inconclusive)
        );
        assert_eq!(with_gap(WARN), Some(Outcome::Fail));
    }

    #[test]
    fn a_warning_is_never_the_failure_that_is_expected() {
        let stalled = |line: &str| {
            TraceBuilder::begun()
                .kmsg(1000, 4, line)
                .sample(crate::testing::stalled(1500, &[20, 30, 3]))
                .stage(1510, Stage::SchedulerExited, "exited with status 1")
                .event(1600, EventBody::Body { error: Some("gone".into()), failures: Vec::new() })
                .event(1700, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() })
                .expect_err(None)
        };
        for (line, outcome) in [
            ("an ordinary line", Outcome::Pass),
            ("INFO: task a:12 blocked for more than 120 seconds.", Outcome::Pass),
            (WARN, Outcome::Fail),
        ] {
            let verdict = judged(&stalled(line));
            assert_eq!(verdict.outcome(), outcome, "{line}: {verdict:#?}");
        }
    }

    #[test]
    fn a_stray_breakpoint_is_the_emulators() {
        let mut run = TraceBuilder::begun().kmsg(1000, 1, "Oops: int3: 0000 [#1] SMP NOPTI").ended();
        let outcome = |run: &TraceBuilder| {
            judged(run).findings.iter().find(|finding| finding.what == WHAT).map(|finding| finding.outcome)
        };
        assert_eq!(outcome(&run), Some(Outcome::Inconclusive));
        run.manifest.taints.clear();
        assert_eq!(outcome(&run), Some(Outcome::Fail));
    }
}
