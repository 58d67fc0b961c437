//! Judging payloads: each way to end, each check both ways.

use super::*;
use crate::judge::CheckSource;
use crate::testing::TraceBuilder;
use crate::trace::record::manifest::Asked;
use crate::trace::record::{
    DeclaredMetric, EventBody, GuestEnd, Loss, LossKind, Metric, MetricCheck, PayloadOutput, Polarity, Stage,
};
use crate::verdict::Verdict;

use Outcome::{Fail, Inconclusive, Pass, Skip};

const SECOND_NS: u64 = 1_000_000_000;

/// A run that went well.
fn fio() -> PayloadRun {
    let metric = |path: &str, value| Metric { path: path.into(), value };
    PayloadRun {
        name: "fio".into(),
        program: "/usr/bin/fio".into(),
        args: vec!["--output-format=json".into()],
        cgroup: "cg_0".into(),
        pid: 7,
        wall_ns: SECOND_NS,
        timeout_ns: 2 * SECOND_NS,
        end: PayloadEnd::Ended,
        exit_code: Some(0),
        output: PayloadOutput::Json,
        stdout_bytes: 100,
        stdout_tail: "{\n}\n".into(),
        metrics: vec![metric("read.iops", 1234.5), metric("nan", f64::NAN)],
        declared: vec![DeclaredMetric {
            path: "read.iops".into(),
            polarity: Polarity::HigherBetter,
            unit: "iops".into(),
        }],
        ..PayloadRun::default()
    }
}

fn builder(run: &PayloadRun) -> TraceBuilder {
    TraceBuilder::begun().event(1000, EventBody::Payload(Box::new(run.clone())))
}

fn judged(builder: &TraceBuilder) -> Verdict {
    Run::load(&builder.trace()).judge(None, CheckSource::Recorded)
}

fn of_payloads(builder: &TraceBuilder) -> Vec<Finding> {
    let findings = judged(builder).findings;
    findings.into_iter().filter(|finding| finding.what.starts_with("payload")).collect()
}

/// The findings of a run alone.
fn found(run: &PayloadRun) -> Vec<Finding> {
    of_payloads(&builder(run).ended())
}

#[test]
fn a_run_that_went_well_shows_what_it_measured() {
    let [finding] = &found(&fio())[..] else { panic!("one finding") };
    assert_eq!((finding.what.as_str(), finding.outcome), ("payload fio", Pass));
    let text = "exited with code 0 after 1.000s; 2 metrics; read.iops 1234.5 iops (higher is better)";
    assert_eq!(finding.summary, text);
}

#[test]
fn every_end_that_is_none_fails_with_what_was_seen() {
    let base = fio();
    for (run, words) in [
        (
            PayloadRun { end: PayloadEnd::NotStarted, fault: Some("no memory".into()), ..base.clone() },
            "could not be started: no memory",
        ),
        (
            PayloadRun { end: PayloadEnd::TimedOut, exit_code: None, signal: Some(9), ..base.clone() },
            "was ended after 1.000s: it took longer than the 2.000s that it is allowed",
        ),
        (
            PayloadRun { exit_code: None, signal: Some(11), ..base.clone() },
            "was killed by signal 11 (SIGSEGV) after 1.000s",
        ),
        (
            PayloadRun { exit_code: Some(3), ..base.clone() },
            "exited with code 3 after 1.000s, where 0 is expected",
        ),
        (PayloadRun { exit_code: None, ..base.clone() }, "ended in an unknown way"),
        (
            PayloadRun { end: PayloadEnd::Lost, fault: Some("gone".into()), ..base.clone() },
            "is not known: gone",
        ),
        (
            PayloadRun { stdout_bytes: 0, metrics: vec![], ..base.clone() },
            "and wrote nothing, although its output is to be JSON",
        ),
        (
            PayloadRun { metrics: vec![], metrics_fault: Some("it is not JSON".into()), ..base.clone() },
            "and its output has no metrics: it is not JSON",
        ),
        (PayloadRun { metrics: vec![], ..base.clone() }, "did not write the declared read.iops"),
    ] {
        let findings = found(&run);
        assert_eq!(findings[0].outcome, Fail, "{words}");
        assert!(findings[0].summary.contains(words), "{}", findings[0].summary);
        let lines = &findings[0].lines;
        assert_eq!(lines[..2], ["command: /usr/bin/fio --output-format=json", "cgroup: cg_0"]);
        assert!(lines.contains(&"stderr: nothing".to_owned()), "{lines:?}");
    }
}

#[test]
fn a_payload_whose_exit_code_counts_may_be_silent() {
    let silent = PayloadRun {
        output: PayloadOutput::ExitCode,
        stdout_bytes: 0,
        metrics: vec![],
        declared: vec![],
        ..fio()
    };
    assert_eq!(found(&silent)[0].outcome, Pass);
    assert_eq!(found(&PayloadRun { exit_code: Some(1), ..silent })[0].outcome, Fail);
}

#[test]
fn each_check_can_hold_and_can_fail_and_says_limit_and_value() {
    let path = |path: &str| path.to_owned();
    for (check, outcome, summary) in [
        (
            MetricCheck::Min { path: path("read.iops"), limit: 1234.5 },
            Pass,
            "1234.5 iops; at least 1234.5 iops needed",
        ),
        (
            MetricCheck::Min { path: path("read.iops"), limit: 1235.0 },
            Fail,
            "1234.5 iops; at least 1235 iops needed",
        ),
        (
            MetricCheck::Max { path: path("read.iops"), limit: 2e3 },
            Pass,
            "1234.5 iops; at most 2000 iops allowed",
        ),
        (
            MetricCheck::Max { path: path("read.iops"), limit: 1e-9 },
            Fail,
            "1234.5 iops; at most 1e-9 iops allowed",
        ),
        (
            MetricCheck::Range { path: path("read.iops"), low: 0.0, high: 1234.5 },
            Pass,
            "1234.5 iops; from 0 to 1234.5 iops allowed",
        ),
        (
            MetricCheck::Range { path: path("read.iops"), low: 1300.0, high: 1400.0 },
            Fail,
            "1234.5 iops; from 1300 to 1400 iops allowed",
        ),
        (MetricCheck::Exists { path: path("read.iops") }, Pass, "1234.5 iops; it must be there"),
        (
            MetricCheck::Exists { path: path("read.iop") },
            Fail,
            "the metric is not there; did you mean `read.iops`?",
        ),
        (
            MetricCheck::Exists { path: path("nan") },
            Fail,
            "its value is NaN, which is no measurement; it must be there",
        ),
        (
            MetricCheck::Max { path: path("nan"), limit: 1.0 },
            Fail,
            "its value is NaN, which is no measurement; at most 1 allowed",
        ),
        (MetricCheck::ExitCode { code: 0 }, Pass, "0; 0 needed"),
        (MetricCheck::ExitCode { code: 4 }, Fail, "0; 4 needed"),
    ] {
        let findings = found(&PayloadRun { checks: vec![check.clone()], ..fio() });
        let [run, finding] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!((run.outcome, finding.outcome), (Pass, outcome), "{check:?}");
        assert!(finding.summary.starts_with(summary), "{summary}: {}", finding.summary);
        // What was measured is a threshold; all else is the payload's own fault.
        let is_measured = !summary.contains("which is no measurement")
            && !summary.contains("not there")
            && !matches!(check, MetricCheck::ExitCode { .. });
        let origin = if is_measured { Origin::Threshold } else { Origin::Run };
        assert_eq!(finding.origin, origin, "{check:?}");
    }
}

#[test]
fn what_a_payload_measured_can_be_expected_to_fail_and_a_broken_payload_cannot() {
    let outcome = |run: PayloadRun| {
        let verdict = judged(&builder(&run).ended().expect_err(None));
        verdict.findings.into_iter().find(|finding| finding.what == "expect_err").expect("judged").outcome
    };
    let checked = |check| outcome(PayloadRun { checks: vec![check], ..fio() });
    let iops = || "read.iops".to_owned();
    assert_eq!(checked(MetricCheck::Min { path: iops(), limit: 1e6 }), Pass);
    assert_eq!(checked(MetricCheck::ExitCode { code: 4 }), Fail);
    assert_eq!(checked(MetricCheck::Exists { path: "absent".into() }), Fail);
    assert_eq!(checked(MetricCheck::Max { path: "nan".into(), limit: 1.0 }), Fail);
    assert_eq!(outcome(PayloadRun { exit_code: Some(1), ..fio() }), Fail);
    assert_eq!(outcome(fio()), Fail);
}

fn gap(end_ms: u64, length_ms: u64) -> Loss {
    let ns = |ms: u64| ms * 1_000_000;
    Loss {
        host_ns: HostNs(ns(crate::testing::BODY_MS + end_ms)),
        kind: LossKind::HostTime,
        count: ns(length_ms),
        detail: "the emulator was stopped".into(),
    }
}

#[test]
fn the_hosts_gaps_excuse_measurements_and_timeouts_and_nothing_that_is_broken() {
    let checks = vec![
        MetricCheck::Min { path: "read.iops".into(), limit: 1e6 },
        MetricCheck::ExitCode { code: 4 },
        MetricCheck::Exists { path: "absent".into() },
    ];
    let findings = of_payloads(&builder(&PayloadRun { checks, ..fio() }).loss(gap(1000, 500)).ended());
    let outcomes: Vec<_> = findings.iter().map(|finding| finding.outcome).collect();
    assert_eq!(outcomes, [Pass, Inconclusive, Fail, Fail]);

    // From 1 s to 3.2 s of the body, of which it was allowed to take 2 s; told at 3.5 s.
    let late = PayloadRun {
        end: PayloadEnd::TimedOut,
        began_ns: (crate::testing::BODY_MS + 1000) * 1_000_000,
        wall_ns: 2_200_000_000,
        checks: vec![MetricCheck::Exists { path: "absent".into() }],
        ..fio()
    };
    let outcomes = |losses: &[Loss]| {
        let mut builder = TraceBuilder::begun().event(3500, EventBody::Payload(Box::new(late.clone())));
        for loss in losses {
            builder = builder.loss(loss.clone());
        }
        let findings = of_payloads(&builder.ended());
        findings.iter().map(|finding| finding.outcome).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&[]), [Fail, Fail]);
    assert_eq!(outcomes(&[gap(2500, 1000)]), [Inconclusive, Inconclusive]);
    assert_eq!(outcomes(&[gap(2000, 300), gap(2800, 300)]), [Inconclusive, Inconclusive]);
    // Before it, after it, and too short to matter.
    for losses in [gap(1000, 900), gap(4500, 1300), gap(2500, 300)] {
        assert_eq!(outcomes(std::slice::from_ref(&losses)), [Fail, Fail], "{losses:?}");
    }
}

#[test]
fn another_exit_code_than_0_is_right_where_the_check_says_so() {
    let run = PayloadRun { exit_code: Some(4), checks: vec![MetricCheck::ExitCode { code: 4 }], ..fio() };
    assert!(found(&run).iter().all(|finding| finding.outcome == Pass));
    let killed = PayloadRun { exit_code: None, signal: Some(9), ..run };
    assert!(found(&killed).iter().all(|finding| finding.outcome == Fail));
}

#[test]
fn of_a_run_that_the_test_ended_only_what_is_asked_for_is_judged() {
    let stopped = PayloadRun {
        end: PayloadEnd::Stopped,
        exit_code: None,
        signal: Some(15),
        metrics: vec![],
        stdout_bytes: 0,
        checks: vec![MetricCheck::ExitCode { code: 0 }, MetricCheck::Exists { path: "x".into() }],
        ..fio()
    };
    let outcomes: Vec<_> = found(&stopped).iter().map(|finding| finding.outcome).collect();
    assert_eq!(outcomes, [Pass, Skip, Fail]);
}

#[test]
fn runs_of_one_name_are_numbered_and_a_run_that_did_not_begin_has_no_checks() {
    let failed = PayloadRun {
        end: PayloadEnd::NotStarted,
        checks: vec![MetricCheck::Exists { path: "x".into() }],
        ..fio()
    };
    let both = builder(&fio()).event(2000, EventBody::Payload(Box::new(failed))).ended();
    let findings = of_payloads(&both);
    let seen: Vec<_> = findings.iter().map(|finding| (finding.what.as_str(), finding.outcome)).collect();
    assert_eq!(seen, [("payload fio #1", Pass), ("payload fio #2", Fail)]);
}

#[test]
fn a_payload_that_the_test_names_and_nobody_ran_fails() {
    let asked = |builder: TraceBuilder, names: &[&str]| {
        let mut builder = builder;
        let payloads = names.iter().map(|&name| name.to_owned()).collect();
        builder.manifest.test.asked = Some(Asked { payloads, ..Asked::default() });
        builder
    };
    let of = |builder: &TraceBuilder| {
        let findings = of_payloads(builder);
        findings.into_iter().find(|finding| finding.what == "payloads").map(|finding| finding.outcome)
    };
    assert_eq!(of(&asked(builder(&fio()).ended(), &["fio"])), None);
    assert_eq!(of(&asked(builder(&fio()).ended(), &["fio", "other"])), Some(Fail));
    assert_eq!(of(&asked(builder(&fio()).ended(), &["one", "other"])), Some(Fail));
    // A recording without an end may have lost it; a body that failed did not come to it.
    assert_eq!(of(&asked(TraceBuilder::begun(), &["fio"])), Some(Inconclusive));
    let failed = TraceBuilder::begun()
        .event(100, EventBody::Body { error: Some("no".into()), failures: vec![] })
        .ended();
    // `ended` has a body's end of its own, which is the one that counts.
    assert_eq!(of(&asked(failed, &["fio"])), Some(Fail));
    // A scheduler that left is no reason not to start it, unless the body failed with it.
    let left = || TraceBuilder::begun().stage(1500, Stage::SchedulerExited, "exited with status 1");
    assert_eq!(of(&asked(left().ended(), &["fio"])), Some(Fail));
    let expected = asked(left().ended().expect_err(None), &["fio"]);
    assert_eq!(judged(&expected).outcome(), Fail);
    let body = EventBody::Body { error: Some("it died".into()), failures: vec![] };
    let ended = EventBody::End { end: GuestEnd::PoweredOff, detail: String::new() };
    let with_body = left().event(1600, body).event(1700, ended);
    assert_eq!(of(&asked(with_body, &["fio"])), Some(Skip));
}

#[test]
fn a_payload_that_was_started_and_did_not_end_is_told_from_one_that_never_was() {
    let of = |detail: &str, names: &[&str]| {
        let mut builder = TraceBuilder::begun().op(100, "run_payload", detail).ended();
        let payloads = names.iter().map(|&name| name.to_owned()).collect();
        builder.manifest.test.asked = Some(Asked { payloads, ..Asked::default() });
        let findings = of_payloads(&builder);
        let finding = findings.into_iter().find(|finding| finding.what == "payloads").expect("a finding");
        assert_eq!(finding.outcome, Fail);
        [vec![finding.summary], finding.lines].concat().join("; ")
    };
    let started = "payload fio was started, and its end is not in the trace";
    assert_eq!(of("fio, pid 7", &["fio"]), started);
    assert_eq!(of("fio in cg_0, pid 7", &["fio"]), started);
    assert!(of("fio_2, pid 7", &["fio"]).starts_with("payload fio was never run: start it"));
    let both = format!("of 2 payloads there is no run; {started}; payload load was never run");
    assert_eq!(of("fio, pid 7", &["fio", "load"]), both);
}

#[test]
fn a_scheduler_that_left_excuses_what_did_not_end_by_itself() {
    // It left at 1.5 s of the body: a run that ended at 1.6 s may be its doing, one that ended at 1.4 s is not.
    let began_ns = (crate::testing::BODY_MS + 600) * 1_000_000;
    let late = PayloadRun { end: PayloadEnd::TimedOut, began_ns, ..fio() };
    let before = PayloadRun { began_ns: began_ns - 200_000_000, ..late.clone() };
    let failed = PayloadRun { exit_code: Some(1), ..fio() };
    let outcome = |run: &PayloadRun| {
        let died = builder(run).stage(1500, Stage::SchedulerExited, "exited with status 1");
        of_payloads(
            &died.event(1600, EventBody::Body { error: Some("it died".into()), failures: vec![] }).ended(),
        )[0]
        .outcome
    };
    assert_eq!((outcome(&late), outcome(&before), outcome(&failed)), (Skip, Fail, Fail));
}
