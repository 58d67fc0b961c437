//! Judging whole traces.

use crate::judge::{CheckSource, LabelledCheck, broken_for_good};
use crate::run::Run;
use crate::testing::btf::Builder;
use crate::testing::{DEMO_BTF, TraceBuilder, missed, sample};
use crate::trace::Trace;
use crate::trace::record::{CaptureKind, EventBody, GuestEnd, Loss, LossKind, OutputSource, Stage};
use crate::units::HostNs;
use crate::verdict::{Finding, Origin, Outcome, Verdict};

use Outcome::{Fail, Inconclusive, Pass, Skip};

/// The BTF of `tests/data/demo.btf`.
fn demo_btf() -> Vec<u8> {
    let mut b = Builder::new();
    let u64 = b.unsigned("unsigned long long", 8);
    b.unsigned("unsigned int", 4);
    let nr = b.array(u64, 3);
    let stats = b.structure("demo_stats", 32, &[("nr", nr, 0, 0), ("max_ns", u64, 192, 0)]);
    b.structure("task_ctx", 16, &[("vtime", u64, 0, 0), ("runs", u64, 64, 0)]);
    b.section(
        ".bss",
        48,
        &[("nr_dispatched", u64, 0, 8), ("nr_enqueued", u64, 8, 8), ("stats", stats, 16, 32)],
    );
    b.section(".data", 8, &[("slice_ns", u64, 0, 8)]);
    b.blob()
}

#[test]
fn the_btf_fixture_is_what_is_described() {
    assert_eq!(DEMO_BTF, demo_btf(), "tests/data/README.md says how to write it anew");
}

#[test]
#[ignore = "writes tests/data/demo.btf"]
fn write_the_btf_fixture() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.btf");
    std::fs::write(path, demo_btf()).unwrap();
}

fn judge(builder: &TraceBuilder) -> Verdict {
    Run::load(&builder.trace()).judge(None, CheckSource::Recorded)
}

fn finding<'v>(verdict: &'v Verdict, what: &str) -> &'v Finding {
    verdict.findings.iter().find(|f| f.what == what).unwrap_or_else(|| panic!("no {what} in {verdict:#?}"))
}

#[test]
fn a_whole_run_whose_claims_hold_passes() {
    let run = TraceBuilder::begun().periodic(&[10, 20, 30]).ended().claim("nondecreasing(nr_dispatched)");
    let verdict = judge(&run.claim("always(alive)").claim("each(cpu_sum(map(cpu_ctx).at(0).runs) >= 20)"));
    assert_eq!(verdict.outcome(), Pass, "{verdict:#?}");
    assert_eq!(verdict.findings.iter().filter(|f| f.origin == Origin::Claim).count(), 3);
}

#[test]
fn a_failing_claim_names_its_samples() {
    let verdict =
        judge(&TraceBuilder::begun().periodic(&[10, 40, 30]).ended().claim("nondecreasing(nr_dispatched)"));
    let found = finding(&verdict, "nondecreasing(nr_dispatched)");
    assert_eq!(found.outcome, Fail);
    assert!(
        found.lines.iter().any(|l| l.starts_with("> periodic_002") && l.contains("fell by 10")),
        "{found:#?}"
    );
}

#[test]
fn an_unknown_variable_fails_with_candidates() {
    let verdict = judge(&TraceBuilder::begun().periodic(&[10]).ended().claim("always(nr_dispached)"));
    let found = finding(&verdict, "always(nr_dispached)");
    assert!(found.outcome == Fail && found.summary.starts_with("error: "), "{found:#?}");
    assert!(found.lines[0].contains("did you mean `nr_dispatched`?"), "{found:#?}");
}

#[test]
fn claims_are_about_periodic_captures_if_there_are_any_and_else_about_all() {
    let periodic = TraceBuilder::begun().periodic(&[10, 20]).ended().claim("each(nr_dispatched <= 20)");
    assert_eq!(judge(&periodic).outcome(), Pass, "attach has 0 and end has 1000");
    let ends = TraceBuilder::begun().ended().claim("each(nr_dispatched <= 20)");
    assert_eq!(judge(&ends).outcome(), Fail);
    let all_missed = TraceBuilder::begun()
        .sample(missed("periodic_000", CaptureKind::Periodic, 500, "late"))
        .ended()
        .claim("nondecreasing(nr_dispatched)");
    assert_eq!(judge(&all_missed).outcome(), Inconclusive);
}

#[test]
fn a_recorded_claim_that_does_not_parse_fails_with_a_caret() {
    let verdict = judge(&TraceBuilder::begun().ended().claim("nondecresing(x)"));
    let found = finding(&verdict, "nondecresing(x)");
    assert_eq!(found.outcome, Fail);
    assert!(found.lines.iter().any(|l| l.contains("^^^^")), "{found:#?}");
}

#[test]
fn a_stall_fails_with_kind_reason_and_message() {
    let verdict = judge(&TraceBuilder::stall());
    let found = finding(&verdict, "scheduler");
    assert_eq!(
        found.summary,
        "demo died at 1.500s: SCX_EXIT_ERROR_STALL (1026): runnable task stall: burner[103] failed to run for 5.104s"
    );
    assert_eq!((verdict.outcome(), verdict.exit_code()), (Fail, 1));
    assert_eq!(verdict.findings[0].what, "scheduler", "the cause comes before the body's error");
}

#[test]
fn a_scheduler_that_ends_by_itself_before_the_body_does_is_a_failure() {
    let run = TraceBuilder::begun()
        .stage(1000, Stage::SchedulerExited, "killed by signal 11")
        .event(5000, EventBody::Body { error: None, failures: Vec::new() })
        .stage(5000, Stage::BodyEnded, "")
        .event(5300, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() });
    let verdict = judge(&run);
    assert_eq!(finding(&verdict, "scheduler").summary, "demo died at 1.000s: killed by signal 11");
    assert_eq!(verdict.outcome(), Fail);
}

#[test]
fn a_scheduler_that_does_not_load_shows_the_end_of_its_output() {
    let log = (0..90).map(|i| format!("{i}: (85) call bpf_foo#{i}\n")).collect::<String>()
        + "R1 invalid mem access\n";
    let run = TraceBuilder::new()
        .stage(-200, Stage::SchedulerStarted, "")
        .output(-150, OutputSource::Scheduler, &log)
        .stage(-100, Stage::SchedulerExited, "exited with status 1")
        .event(0, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() });
    let verdict = judge(&run);
    let found = finding(&verdict, "scheduler");
    assert_eq!(
        (found.outcome, found.summary.as_str()),
        (Fail, "demo did not load: it last wrote `R1 invalid mem access`; exited with status 1")
    );
    assert_eq!(found.lines.last().map(String::as_str), Some("  R1 invalid mem access"));
    assert_eq!(finding(&verdict, "body").outcome, Skip, "a consequence is no second failure");
}

#[test]
fn a_scheduler_that_was_not_enabled_in_time_is_not_blamed_for_how_it_was_ended() {
    let run = TraceBuilder::new()
        .stage(-200, Stage::SchedulerStarted, "")
        .output(-150, OutputSource::Scheduler, "verifying\nstill verifying\n\n")
        .capture("not_enabled", CaptureKind::NotEnabled, -120, [0; 3])
        .stage(-100, Stage::SchedulerExited, "signal 9 because it did not exit in time after SIGINT")
        .stage(-90, Stage::InitFailed, "the scheduler was not enabled within 30s; sched_ext is disabled")
        .event(0, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() });
    let verdict = judge(&run);
    let found = finding(&verdict, "scheduler");
    assert_eq!(found.outcome, Fail);
    assert_eq!(found.summary, "demo was not enabled within 30.000s; it last wrote `still verifying`");
    assert!(found.lines.iter().any(|line| line.contains("its threads cannot be shown")), "{found:#?}");
    assert_eq!(verdict.findings.iter().filter(|f| f.outcome == Fail).count(), 1, "{verdict:#?}");
}

#[test]
fn a_missing_configuration_is_told_only_of_a_scheduler_that_does_not_load() {
    let told = |run: &TraceBuilder| {
        let lines = finding(&judge(run), "scheduler").lines.clone();
        lines.iter().any(|line| line.contains("--kernel-config"))
    };
    let mut run = TraceBuilder::new()
        .stage(-200, Stage::SchedulerStarted, "")
        .stage(-100, Stage::SchedulerExited, "exit code 1")
        .event(0, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() });
    assert!(told(&run));
    run.manifest.kernel.config = Some("a file".to_owned());
    assert!(!told(&run));
    let died = TraceBuilder::begun()
        .stage(1000, Stage::SchedulerExited, "killed by signal 11")
        .event(5300, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() });
    assert!(!told(&died));
}

#[test]
fn a_scheduler_that_does_not_load_is_one_failure_and_not_also_one_of_init() {
    let run = TraceBuilder::new()
        .stage(-200, Stage::SchedulerStarted, "")
        .stage(-100, Stage::SchedulerExited, "exit code 2")
        .stage(-90, Stage::InitFailed, "the scheduler ended before it was enabled")
        .event(0, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() });
    let verdict = judge(&run);
    assert_eq!(verdict.findings.iter().filter(|f| f.outcome == Fail).count(), 1, "{verdict:#?}");
    assert_eq!(verdict.findings[0].summary, "demo did not load: exit code 2");
    // But a job that cannot be unpacked is init's own.
    let run = TraceBuilder::new()
        .stage(-90, Stage::InitFailed, "no space")
        .event(0, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() });
    assert_eq!(finding(&judge(&run), "guest-init").summary, "no space");
}

#[test]
fn a_panic_is_the_cause_and_quotes_the_kernel() {
    let run = TraceBuilder::begun()
        .kmsg(900, 6, "clocksource: fine")
        .kmsg(1000, 1, "BUG: kernel NULL pointer dereference, address: 0000000000000010")
        .kmsg(1000, 0, "Kernel panic - not syncing: Fatal exception")
        .event(1100, EventBody::End { end: GuestEnd::Panicked, detail: String::new() });
    let verdict = judge(&run);
    let found = &verdict.findings[0];
    assert_eq!((found.what.as_str(), found.outcome), ("machine", Fail));
    assert_eq!(found.summary, "Kernel panic - not syncing: Fatal exception");
    assert!(found.lines[0].starts_with("BUG: kernel NULL pointer"), "{found:#?}");
    assert_eq!(found.lines.len(), 2, "what was before the trouble is left out");
}

#[test]
fn a_stray_breakpoint_of_an_emulated_machine_is_said_to_be_its_fault() {
    let panic = |text: &str, taint: Option<&str>| {
        let mut run = TraceBuilder::begun()
            .kmsg(900, 1, text)
            .kmsg(1000, 0, "Kernel panic - not syncing: Fatal exception in interrupt")
            .event(1100, EventBody::End { end: GuestEnd::Panicked, detail: String::new() });
        run.manifest.taints = taint.into_iter().map(str::to_owned).collect();
        judge(&run).findings.swap_remove(0)
    };
    let says = |found: &Finding| found.lines.iter().any(|line| line.contains("the emulator's fault"));
    let stray = panic("Oops: int3: 0000 [#1] SMP NOPTI", Some("emulated"));
    assert!(says(&stray) && stray.outcome == Inconclusive, "{stray:#?}");
    assert!(!says(&panic("Oops: int3: 0000 [#1] SMP NOPTI", None)));
    assert!(!says(&panic("Oops: general protection fault: 0000 [#1]", Some("emulated"))));
}

#[test]
fn a_panic_that_only_the_console_saw_is_quoted_from_there() {
    let run = TraceBuilder::new()
        .event(-1000, EventBody::Console(b"[    0.5] hello\n[    0.6] Kernel pa".to_vec()))
        .event(-1000, EventBody::Console(b"nic - not syncing: No working init found.\n".to_vec()))
        .event(-900, EventBody::End { end: GuestEnd::Panicked, detail: String::new() });
    assert_eq!(judge(&run).findings[0].summary, "Kernel panic - not syncing: No working init found.");
}

#[test]
fn every_end_of_a_machine_has_its_outcome() {
    for (end, outcome) in [
        (GuestEnd::PoweredOff, Pass),
        (GuestEnd::Panicked, Fail),
        (GuestEnd::Reset, Fail),
        (GuestEnd::TimedOut, Fail),
        (GuestEnd::MachineDied, Fail),
        (GuestEnd::Interrupted, Inconclusive),
    ] {
        let run = TraceBuilder::begun().event(900, EventBody::End { end, detail: "as told".into() });
        assert_eq!(finding(&judge(&run), "machine").outcome, outcome, "{end:?}");
    }
    let verdict = judge(&TraceBuilder::begun());
    assert_eq!(finding(&verdict, "machine").outcome, Inconclusive);
    assert!(finding(&verdict, "machine").summary.contains("the body began at 0.000s"));
}

/// A run that ends at a broken claim: by the samples that a live run has so far.
#[test]
fn a_claim_is_broken_for_good_by_values_alone() {
    let broken = |run: TraceBuilder| broken_for_good(&Run::load(&run.trace())).map(|claim| claim.to_string());
    let falls = || TraceBuilder::begun().periodic(&[10, 40, 30]);
    let claim = "nondecreasing(nr_dispatched)";
    assert_eq!(broken(falls().claim("always(alive)").claim(claim)).as_deref(), Some(claim));
    assert_eq!(broken(TraceBuilder::begun().periodic(&[10, 40]).claim(claim)), None);
    // Later captures can still make these hold.
    for open in [
        "steady(nr_dispatched, within=1%)",
        "eventually(nr_dispatched >= 100)",
        "final(nr_dispatched >= 100)",
        "converges(nr_dispatched, to=100, tol=1, by=5s)",
    ] {
        assert_eq!(broken(falls().claim(open)), None, "{open}");
    }
    // A host that did not run the machine may be why a rate is what it is, and not why a counter falls.
    let gap =
        || Loss { host_ns: HostNs(1), kind: LossKind::HostTime, count: 400_000_000, detail: String::new() };
    let rate = "rate(nr_dispatched) >= 1000000 per ms";
    assert_eq!(broken(falls().claim(rate)).as_deref(), Some(rate));
    assert_eq!(broken(falls().claim(rate).loss(gap())), None);
    assert_eq!(broken(falls().claim(rate).claim(claim).loss(gap())).as_deref(), Some(claim));
    // A value that is missing may be on its way.
    assert_eq!(broken(falls().claim("each(stats(top).x >= 1)")), None);
    // The capture at the scheduler's start is not what the claim is about, once there are periodic ones.
    let attached = || {
        let mut run = TraceBuilder::begun().capture("attach", CaptureKind::Attach, -10, [0, 0, 0]);
        run.manifest.test.num_snapshots = 4;
        run.claim("each(nr_dispatched >= 1)")
    };
    assert_eq!(broken(attached()), None);
    assert!(broken(attached().periodic(&[0])).is_some());
    // A test that expects an error of the scheduler would fail without one.
    let mut expects = falls().claim(claim);
    expects.manifest.test.expect_err = true;
    assert!(broken(falls().claim(claim)).is_some());
    expects.manifest.test.expect_scx_error_contains = Some("stall".to_owned());
    assert_eq!(broken(expects), None);
}

#[test]
fn an_end_for_a_broken_claim_is_borne_out_by_it() {
    let ended = |run: TraceBuilder| {
        let detail = "nondecreasing(nr_dispatched)".to_owned();
        judge(&run.event(2000, EventBody::End { end: GuestEnd::FailedFast, detail }))
    };
    let run = |values: &[u64]| TraceBuilder::begun().periodic(values).claim("nondecreasing(nr_dispatched)");
    let failed = ended(run(&[10, 40, 30]));
    assert_eq!(failed.outcome(), Fail, "{failed:#?}");
    let of: Vec<&str> =
        failed.findings.iter().filter(|f| f.outcome == Fail).map(|f| f.what.as_str()).collect();
    assert_eq!(of, ["nondecreasing(nr_dispatched)"], "{failed:#?}");
    // Replayed with another claim, it was ended for that reason all the same.
    let detail = "nondecreasing(nr_dispatched)".to_owned();
    let trace = run(&[10, 40, 30]).event(2000, EventBody::End { end: GuestEnd::FailedFast, detail }).trace();
    let other: crate::claim::Claim = "final(nr_dispatched >= 1)".parse().expect("a claim");
    let verdict = Run::load(&trace).judge(Some(&[other]), CheckSource::Recorded);
    assert!(verdict.findings.iter().all(|finding| finding.what != "end"), "{verdict:#?}");
    // A recorder that ended it without cause: nobody knows what the rest would have been.
    let unfounded = ended(run(&[10, 20, 30]));
    assert_eq!(unfounded.outcome(), Inconclusive, "{unfounded:#?}");
}

#[test]
fn a_hang_says_what_was_reached_last() {
    let run = TraceBuilder::new()
        .stage(-1900, Stage::Booting, "")
        .event(0, EventBody::End { end: GuestEnd::TimedOut, detail: "60 s".into() });
    let verdict = judge(&run);
    assert_eq!(
        finding(&verdict, "machine").summary,
        "the guest did not get on within its time: 60 s; the last it reached is the emulator started at 0.100s"
    );
}

#[test]
fn a_body_that_returned_ends_the_time_that_the_scheduler_has_to_live() {
    // As init records it: a result, and no stage of its own.
    let run = TraceBuilder::begun()
        .event(5000, EventBody::Body { error: None, failures: Vec::new() })
        .stage(5100, Stage::SchedulerExited, "exit code 0 after SIGINT")
        .event(5300, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() });
    assert_eq!(judge(&run).outcome(), Pass);
}

#[test]
fn what_is_absent_from_a_cut_trace_is_unknown_and_not_undone() {
    let verdict = judge(&TraceBuilder::new().stage(-1900, Stage::Booting, ""));
    assert_eq!(verdict.outcome(), Inconclusive, "{verdict:#?}");
    assert!(verdict.findings.iter().all(|f| f.outcome != Fail));
    let expecting = judge(&TraceBuilder::new().stage(-1900, Stage::Booting, "").expect_err(None));
    assert_eq!(expecting.outcome(), Inconclusive);
}

#[test]
fn a_body_fails_by_error_by_assertion_and_by_not_ending() {
    let ended = |error: Option<&str>, failures: &[&str]| {
        let failures = failures.iter().map(|f| (*f).to_owned()).collect();
        TraceBuilder::begun()
            .event(10, EventBody::Body { error: error.map(str::to_owned), failures })
            .stage(10, Stage::BodyEnded, "")
            .event(20, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() })
    };
    let body = |builder: TraceBuilder| finding(&judge(&builder), "body").clone();
    assert_eq!(body(ended(Some("no cgroup"), &[])).summary, "returned an error: no cgroup");
    assert_eq!(body(ended(None, &["left != right"])).summary, "left != right");
    assert_eq!(body(ended(None, &["a", "b"])).lines, ["a", "b"]);
    let cut = TraceBuilder::begun()
        .stage(10, Stage::TestExited, "signal 11 (SIGSEGV)")
        .capture("end", CaptureKind::End, 15, [1, 1, 3])
        .event(20, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() });
    let cut = body(cut);
    assert_eq!(
        (cut.outcome, cut.summary.as_str()),
        (Fail, "began and did not end; how the test binary ended: signal 11 (SIGSEGV)")
    );
}

#[test]
fn an_expected_failure_passes_and_its_absence_fails() {
    assert_eq!(judge(&TraceBuilder::stall().expect_err(None)).outcome(), Pass);
    let verdict = judge(&TraceBuilder::begun().ended().expect_err(None));
    assert_eq!((verdict.outcome(), finding(&verdict, "expect_err").outcome), (Fail, Fail));
}

#[test]
fn the_expected_text_has_to_be_in_the_schedulers_error() {
    assert_eq!(judge(&TraceBuilder::stall().expect_err(Some("failed to run for"))).outcome(), Pass);
    assert_eq!(judge(&TraceBuilder::stall().expect_err(Some("something else"))).outcome(), Fail);
    // A body that fails is not the scheduler's error.
    let body = TraceBuilder::begun()
        .event(10, EventBody::Body { error: Some("failed to run for".into()), failures: Vec::new() })
        .stage(10, Stage::BodyEnded, "")
        .event(20, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() });
    assert_eq!(judge(&body.expect_err(Some("failed to run for"))).outcome(), Fail);
}

#[test]
fn the_schedulers_error_has_to_match_the_pattern() {
    let run = || TraceBuilder::stall().expect_err(Some("failed to run"));
    assert_eq!(judge(&run().expect_error_matches(r"failed to run for \d+\.\d+s")).outcome(), Pass);
    let verdict = judge(&run().expect_error_matches(r"failed to run for \d+ days"));
    assert_eq!(verdict.outcome(), Fail);
    let said = &finding(&verdict, "expect_err").summary;
    assert!(said.contains(r"to contain what matches `failed to run for \d+ days`, and it is"), "{said}");
    // The text is not there, whatever the pattern.
    let verdict =
        judge(&TraceBuilder::stall().expect_err(Some("nothing of it")).expect_error_matches("failed"));
    assert_eq!(verdict.outcome(), Fail);
    for hostile in ["(", "(a{1000}){1000}"] {
        let verdict = judge(&run().expect_error_matches(hostile));
        assert!(finding(&verdict, "expect_err").summary.contains("is not usable"), "{hostile}");
    }
}

#[test]
fn the_kernel_log_stands_in_for_a_missed_capture_of_the_exit() {
    let run = TraceBuilder::begun()
        .kmsg(1000, 3, "sched_ext: demo: error -2 from user space")
        .sample(missed("scheduler_exit", CaptureKind::SchedulerExit, 1000, "the machine did not stop"))
        .stage(1000, Stage::SchedulerExited, "exited with status 1")
        .event(1100, EventBody::Body { error: Some("gone".into()), failures: Vec::new() })
        .stage(1100, Stage::BodyEnded, "")
        .event(1200, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() });
    assert_eq!(judge(&run.expect_err(Some("error -2"))).outcome(), Pass);
}

#[test]
fn a_scheduler_that_never_loaded_is_not_the_expected_failure() {
    for contains in [None, Some("exited")] {
        let run = TraceBuilder::new()
            .stage(-200, Stage::SchedulerStarted, "")
            .stage(-100, Stage::SchedulerExited, "exited with status 1")
            .event(0, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() });
        let verdict = judge(&run.expect_err(contains));
        assert_eq!(verdict.outcome(), Fail);
        assert!(finding(&verdict, "expect_err").summary.contains("never loaded"));
    }
}

#[test]
fn a_misspelt_claim_is_not_the_expected_failure() {
    let run = TraceBuilder::begun().periodic(&[1]).ended().claim("each(nr_dispached >= 1)").expect_err(None);
    assert_eq!(judge(&run).outcome(), Fail);
    let broken =
        TraceBuilder::begun().periodic(&[1]).ended().claim("each(nr_dispatched >= 2)").expect_err(None);
    assert_eq!(judge(&broken).outcome(), Pass);
}

fn rising(trace: &Trace, v: &mut Verdict) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    trace.periodic().var("nr_dispatched").strictly_increasing(v);
    Ok(())
}

#[test]
fn a_check_is_run_live_and_recalled_by_a_replay() {
    for (values, outcome) in [(&[1, 2, 3][..], Pass), (&[1, 1, 3], Fail)] {
        let builder = TraceBuilder::begun().periodic(values).ended().check("rising");
        let fresh = [LabelledCheck { label: "rising", run: &rising }];
        let trace = builder.judged_trace(|t| Run::load(t).judge(None, CheckSource::Fresh(&fresh)));
        let run = Run::load(&trace);
        let recorded = run.recorded_verdict().unwrap();
        assert_eq!(recorded.outcome(), outcome);
        assert_eq!(run.judge(None, CheckSource::Recorded), recorded);
        assert_eq!(run.judge(None, CheckSource::Fresh(&fresh)), recorded);
    }
}

#[test]
fn a_check_that_was_never_run_is_inconclusive_and_one_that_errs_fails() {
    let builder = TraceBuilder::begun().ended().check("rising");
    assert_eq!(judge(&builder).outcome(), Inconclusive);
    let errs = |_: &Trace, _: &mut Verdict| Err("no such phase".into());
    let fresh = [LabelledCheck { label: "rising", run: &errs }];
    let verdict = Run::load(&builder.trace()).judge(None, CheckSource::Fresh(&fresh));
    assert_eq!(finding(&verdict, "rising").summary, "error: no such phase");
}

#[test]
fn claims_that_are_given_take_the_place_of_the_recorded_ones() {
    let trace = TraceBuilder::begun().periodic(&[3, 2]).ended().claim("nondecreasing(nr_dispatched)").trace();
    let run = Run::load(&trace);
    let given = ["each(nr_dispatched >= 2)".parse().unwrap()];
    assert_eq!(run.judge(Some(&given), CheckSource::Recorded).outcome(), Pass);
    assert_eq!(
        run.judge(Some(&[]), CheckSource::Recorded).outcome(),
        Pass,
        "the run itself is judged all the same"
    );
    assert_eq!(
        Run::load(&TraceBuilder::stall().trace()).judge(Some(&[]), CheckSource::Recorded).outcome(),
        Fail
    );
}

#[test]
fn damage_makes_a_pass_inconclusive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("demo.trace.zst");
    let builder = TraceBuilder::begun().periodic(&[1, 2, 3]).ended().claim("nondecreasing(nr_dispatched)");
    builder.write(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    let whole = Trace::from_bytes(bytes.clone()).unwrap();
    let sample = whole.records().iter().find(|r| r.kind == crate::trace::Kind::Sample.code()).unwrap();
    bytes[sample.offset as usize + 140] ^= 0xff;
    let trace = Trace::from_bytes(bytes).unwrap();
    let verdict = Run::load(&trace).judge(None, CheckSource::Recorded);
    assert_eq!((verdict.outcome(), finding(&verdict, "trace").outcome), (Inconclusive, Inconclusive));
}

#[test]
fn kinds_without_a_scheduler_are_not_judged_for_one() {
    let mut builder = TraceBuilder::new()
        .sample(sample("attach", CaptureKind::Attach, -50, &[]))
        .stage(0, Stage::BodyStarted, "")
        .event(5000, EventBody::Body { error: None, failures: Vec::new() })
        .stage(5000, Stage::BodyEnded, "")
        .sample(sample("end", CaptureKind::End, 5010, &[]))
        .event(5300, EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() });
    builder.manifest.scheduler = None;
    let verdict = judge(&builder);
    assert_eq!(verdict.outcome(), Pass);
    assert!(verdict.findings.iter().all(|f| f.what != "scheduler"));
}

/// A test for other kernels leaves a trace in which nothing happened: it does not pass, whatever it claims.
#[test]
fn a_test_that_was_not_run_is_skipped_with_the_reason() {
    let mut skipped = TraceBuilder::new();
    skipped.manifest.skipped = Some("scheduler `demo` is for kernels 7.1..".to_owned());
    let verdict = judge(&skipped.claim("always(alive)"));
    assert_eq!((verdict.outcome(), verdict.exit_code()), (Skip, 0));
    assert_eq!(finding(&verdict, "skipped").summary, "scheduler `demo` is for kernels 7.1..");
    // What is asked of it later is not known, and a recording gives it the lie.
    let claim: crate::claim::Claim = "always(alive)".parse().expect("a claim");
    let mut asked = TraceBuilder::new();
    asked.manifest.skipped = Some("no".to_owned());
    let trace = asked.trace();
    let verdict = Run::load(&trace).judge(Some(&[claim]), CheckSource::Recorded);
    assert_eq!(verdict.outcome(), Inconclusive);
    let mut recorded = TraceBuilder::begun().ended();
    recorded.manifest.skipped = Some("no".to_owned());
    assert_eq!(judge(&recorded).outcome(), Fail);
    let mut ran = TraceBuilder::begun().ended();
    ran.manifest.skipped = None;
    assert_eq!(judge(&ran).outcome(), Pass);
}
