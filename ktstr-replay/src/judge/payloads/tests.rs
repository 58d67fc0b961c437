//! Judging payloads: each way to end, each check both ways.

use super::*;
use crate::judge::CheckSource;
use crate::testing::TraceBuilder;
use crate::trace::record::manifest::Asked;
use crate::trace::record::{DeclaredMetric, EventBody, Metric, MetricCheck, PayloadOutput, Polarity, Stage};
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
        assert_eq!(finding.origin, Origin::Threshold);
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
}

#[test]
fn a_scheduler_that_left_excuses_what_did_not_end_by_itself() {
    let late = PayloadRun { end: PayloadEnd::TimedOut, ..fio() };
    let failed = PayloadRun { exit_code: Some(1), ..fio() };
    let outcome = |run: &PayloadRun| {
        let died = builder(run).stage(1500, Stage::SchedulerExited, "exited with status 1");
        of_payloads(
            &died.event(1600, EventBody::Body { error: Some("it died".into()), failures: vec![] }).ended(),
        )[0]
        .outcome
    };
    assert_eq!((outcome(&late), outcome(&failed)), (Skip, Fail));
}
