//! Payloads in one guest: programs of packages and a script of the host, in a cgroup under scx_demo, each way to end and each check.

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_replay::claim::Claim;
use ktstr_replay::judge::CheckSource;
use ktstr_replay::run::Run;
use ktstr_replay::trace::record::{EventBody, PayloadRun};
use ktstr_replay::verdict::Origin;
use ktstr_tests::{TestRun, fixture};

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo" });

/// Reads of a file in memory.
#[derive(Payload)]
#[payload(binary = "fio", package = "fio", output = Json)]
#[default_args("--output-format=json", "--name=reads", "--rw=randread", "--size=1m", "--filename=/tmp/reads")]
#[default_args("--ioengine=psync", "--time_based", "--runtime=1", "--thread")]
#[metric(name = "jobs.0.read.iops", polarity = HigherBetter, unit = "iops")]
#[metric(name = "jobs.0.read.clat_ns.mean", polarity = LowerBetter, unit = "ns")]
#[default_check(min("jobs.0.read.iops", 1.0), exists("jobs.0.read.clat_ns.mean"))]
#[default_check(exit_code_eq(0), range("jobs.0.error", 0.0, 0.0))]
struct Fio;

/// A load: processes that read all the time.
#[derive(Payload)]
#[payload(binary = "fio", package = "fio", output = ExitCode)]
#[default_args("--name=load", "--rw=read", "--size=1m", "--filename=/tmp/load", "--ioengine=psync")]
#[default_args("--time_based", "--runtime=60", "--numjobs=2")]
struct Load;

/// The script of this folder.
#[derive(Payload)]
#[payload(binary = "payloads/probe.sh", output = Json)]
#[include_files("payloads/data:/ktstr/files/data")]
struct Probe;

/// Leaves a server behind, in a session of its own.
#[derive(Payload)]
#[payload(binary = "fio", package = "fio", output = ExitCode)]
#[default_args("--server=sock:/tmp/fio.socket", "--daemonize=/tmp/fio.pid")]
struct Leaver;

/// One that no body runs.
#[derive(Payload)]
#[payload(binary = "true", output = ExitCode)]
struct Forgotten;

#[ktstr_test(ignore, scheduler = DEMO, duration_s = 6, payload = Fio, workloads = [Load, Probe, Leaver, Forgotten],
             include_files = ["payloads/data"])]
fn all_ways(ctx: &Ctx) -> Result<AssertResult> {
    let mut result = AssertResult::pass();
    ctx.cgroups.create("io")?;
    let fio = ctx.payload(&Fio).in_cgroup("io").check(MetricCheck::max("jobs.0.read.iops", 0.5)).run()?;
    let iops = fio.metric("jobs.0.read.iops");
    result.check(iops.is_some_and(|iops| iops >= 1.0), format!("fio read: {iops:?}"));

    let probe = |mode: &str| ctx.payload(&Probe).arg(mode);
    let here = probe("where").in_cgroup("io").check(MetricCheck::exit_code_eq(0)).run()?;
    result.check(here.stdout().contains("0::/io\""), format!("not in its cgroup: {}", here.stdout()));
    result.check(here.stdout().contains("\"pwd\": \"/ktstr/files\""), here.stdout());
    result.check(here.metric("included") == Some(42.0), "the included file was not read");
    result.check(here.metric("nested.0.x") == Some(-0.5), "a nested number was not read");
    let link = std::fs::read_to_string("/ktstr/files/payloads/data/link")?;
    result.check(link == "42\n", format!("the included folder has {link:?}"));

    probe("nan").check(MetricCheck::exists("value")).check(MetricCheck::min("ext", 1.0)).run()?;
    probe("stderr").check(MetricCheck::range("ext", 7.0, 7.0)).run()?;
    probe("text").run()?;
    probe("exit").run()?;
    probe("exit").check(MetricCheck::exit_code_eq(3)).run()?;
    probe("abort").run()?;
    probe("silent").run()?;
    probe("busy").timeout(Duration::from_millis(700)).run()?;
    let mut spawned = probe("busy").spawn()?;
    result.check(spawned.try_wait()?.is_none(), "a payload that never ends has ended");
    result.check(spawned.kill()?.end() == PayloadEnd::Stopped, "killing it is not what ended it");
    let refused = probe("where").in_cgroup("oi").run().map(drop);
    let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
    result.check(refused.contains("did you mean `io`?"), format!("a cgroup that is not there: {refused}"));

    let load = CgroupDef::named("load").workload(&Load);
    let ops = [
        Op::run_payload(PayloadSpec::of(&Probe).arg("where").in_cgroup("load")),
        Op::wait_payload(&Probe),
        Op::run_payload(PayloadSpec::of(&Probe).arg("busy")),
        Op::capture_snapshot("loaded"),
        // What it leaves behind must not keep the cgroup from going.
        Op::run_payload(PayloadSpec::of(&Leaver).in_cgroup("load")),
        Op::wait_payload(&Leaver),
        Op::kill_payload(&Probe),
    ];
    let steps =
        vec![Step::new(vec![load], HoldSpec::Fixed(Duration::from_millis(1500))).ops(ops).named("loaded")];
    Ok(result.merge(execute_steps(ctx, steps)?))
}

/// The runs of the trace, in order.
fn runs(run: &TestRun) -> Vec<PayloadRun> {
    let events = run.trace().events().into_iter();
    events
        .filter_map(|event| match event.body {
            EventBody::Payload(run) => Some(*run),
            _ => None,
        })
        .collect()
}

#[test]
fn payloads_are_run_recorded_and_judged() {
    let run = fixture("all_ways").run();
    assert!(!run.status.success(), "{run}");
    let runs = runs(&run);
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let probes = runs.iter().filter(|run| run.name == "probe").count();
    assert_eq!((names[0], probes, names.last().copied()), ("fio", 12, Some("load")), "{names:?}\n{run}");
    // A host that has it gives its own.
    let on_path =
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join("fio").is_file());
    assert!(runs[0].package.starts_with("fio_") != on_path, "{:?}", runs[0]);
    assert!(runs[0].metrics.len() > 50, "{:?}", runs[0]);
    assert!(runs[0].cpu_ns > 0 && runs[0].wall_ns > runs[0].cpu_ns / 4, "{:?}", runs[0]);
    let load = runs.last().expect("a run");
    assert_eq!((load.end, load.cgroup.as_str()), (PayloadEnd::Stopped, "load"), "{load:?}");
    assert!(load.cpu_ns > 0, "{load:?}");

    let trace = run.trace();
    let verdict = Run::load(&trace).recorded_verdict().expect("a verdict");
    let found: BTreeMap<&str, (Outcome, &str)> = verdict
        .findings
        .iter()
        .filter(|finding| finding.what.starts_with("payload"))
        .map(|finding| (finding.what.as_str(), (finding.outcome, finding.summary.as_str())))
        .collect();
    for (what, outcome, words) in [
        ("payload fio", Outcome::Pass, "exited with code 0"),
        ("payload fio: exit code", Outcome::Pass, "0; 0 needed"),
        ("payload fio: jobs.0.read.clat_ns.mean", Outcome::Pass, " ns; it must be there"),
        ("payload fio: jobs.0.error", Outcome::Pass, "0; from 0 to 0 allowed"),
        ("payload probe #1", Outcome::Pass, "exited with code 0"),
        ("payload probe #1: exit code", Outcome::Pass, "0; 0 needed"),
        ("payload probe #2", Outcome::Pass, "2 metrics"),
        ("payload probe #2: value", Outcome::Fail, "its value is NaN"),
        ("payload probe #2: ext", Outcome::Pass, "1; at least 1 needed"),
        ("payload probe #3: ext", Outcome::Pass, "7; from 7 to 7 allowed"),
        ("payload probe #4", Outcome::Fail, "has no JSON object or array"),
        ("payload probe #5", Outcome::Fail, "exited with code 3"),
        ("payload probe #6: exit code", Outcome::Pass, "3; 3 needed"),
        ("payload probe #7", Outcome::Fail, "was killed by signal 6 (SIGABRT)"),
        ("payload probe #8", Outcome::Fail, "and wrote nothing"),
        ("payload probe #9", Outcome::Fail, "it took longer than the 0.700s that it is allowed"),
        ("payload probe #10", Outcome::Pass, "was ended by the test"),
        ("payload probe #11", Outcome::Pass, "exited with code 0"),
        ("payload probe #12", Outcome::Pass, "was ended by the test"),
        ("payload load", Outcome::Pass, "was ended by the test"),
        ("payloads", Outcome::Fail, "payload forgotten was never run"),
    ] {
        let (is, summary) = found.get(what).unwrap_or_else(|| panic!("no {what}:\n{run}"));
        assert!(*is == outcome && summary.contains(words), "{what}: {is} {summary}\n{run}");
    }
    // The two checks of one metric, of the definition and of the test.
    let of_iops: Vec<Outcome> = verdict
        .findings
        .iter()
        .filter(|finding| finding.what == "payload fio: jobs.0.read.iops")
        .map(|finding| finding.outcome)
        .collect();
    assert_eq!(of_iops, [Outcome::Pass, Outcome::Fail], "{run}");
    for words in [
        "at most 0.5 iops allowed",
        "jobs.0.read.iops",
        "(higher is better)",
        "about to die",
        "command: ",
        "the scheduler's life",
    ] {
        assert!(run.stdout.contains(words), "{words}:\n{run}");
    }
    let left = trace.events().into_iter().find_map(|event| match event.body {
        EventBody::Op { name, detail } if name == "kill_leftovers" => Some(detail),
        _ => None,
    });
    assert_eq!(left.as_deref(), Some("load: 1 processes"), "{run}");
    run.assert_replays();
    // The same trace with other limits: the metric is at the captures after the run.
    let again = |text: &str| {
        let claim: Claim = text.parse().expect("a claim");
        let verdict = Run::load(&trace).judge(Some(&[claim]), CheckSource::Recorded);
        let of_claim = verdict.findings.into_iter().find(|finding| finding.origin == Origin::Claim);
        of_claim.expect("the claim's finding").outcome
    };
    assert_eq!(again("final(payload(fio).jobs.0.read.iops >= 1)"), Outcome::Pass);
    assert_eq!(again("final(payload(fio).jobs.0.read.iops >= 1000000000000)"), Outcome::Fail);
    assert_eq!(again("final(payload(probe).included == 42)"), Outcome::Fail, "the last run wrote nothing");
}
