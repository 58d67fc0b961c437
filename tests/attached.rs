//! A run that begins with its scheduler enabled, from a template, is the run that loads it.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use ktstr::prelude::*;
use ktstr_replay::series::Samples;
use ktstr_replay::trace::record::manifest::StartInfo;
use ktstr_replay::trace::record::{CaptureKind, EventBody, LossKind, OutputSource, Stage};
use ktstr_replay::units::GuestNs;
use ktstr_tests::{TestRun, cache_without_templates, fixture, written};

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });
declare_scheduler!(FALSE, { name = "false", binary_path = "/bin/false" });

/// Names a file of the host that the guest gets as `/etc/attached`.
const FILE: &str = "KTSTR_TEST_FILE";

/// What a run of the same work says, whichever way its machine came about.
fn works(ctx: &Ctx) -> Result<AssertResult> {
    println!("random={}", fs::read_to_string("/proc/sys/kernel/random/uuid")?);
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 2,
    num_snapshots = 3,
    not_starved,
    claims = ["nondecreasing(nr_dispatched)", "each(nr_dispatched >= 1)"]
)]
fn may_begin_attached(ctx: &Ctx) -> Result<AssertResult> {
    works(ctx)
}

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 2,
    num_snapshots = 3,
    not_starved,
    claims = ["nondecreasing(nr_dispatched)", "each(nr_dispatched >= 1)"],
    attached = false
)]
fn never_begins_attached(ctx: &Ctx) -> Result<AssertResult> {
    works(ctx)
}

#[ktstr_test(ignore, scheduler = DEMO, duration_s = 1, checkpoint = "never", extra_sched_args = ["--slice-us", "5000"])]
fn has_another_argument(ctx: &Ctx) -> Result<AssertResult> {
    works(ctx)
}

#[ktstr_test(ignore, scheduler = DEMO, duration_s = 1, checkpoint = "never", include_files = file)]
fn has_another_file(ctx: &Ctx) -> Result<AssertResult> {
    works(ctx)
}

#[ktstr_test(ignore, scheduler = DEMO, duration_s = 1, checkpoint = "never", extra_sched_args = ["--fail-load"])]
fn is_never_enabled(ctx: &Ctx) -> Result<AssertResult> {
    works(ctx)
}

#[ktstr_test(ignore, scheduler = FALSE, duration_s = 1, checkpoint = "never")]
fn ends_at_once(ctx: &Ctx) -> Result<AssertResult> {
    works(ctx)
}

fn file() -> Result<Vec<IncludedFile>> {
    let host = PathBuf::from(env::var_os(FILE).context("the fixture's file")?);
    Ok(vec![IncludedFile { host, guest: "/etc/attached".to_owned() }])
}

/// How the run's machine came about, by its manifest; and its timeline must agree.
fn start(run: &TestRun) -> StartInfo {
    let trace = run.trace();
    let start = trace.manifest().expect("a manifest").machine.start.clone().expect("a start");
    let restored = stages(run).iter().any(|(stage, ..)| *stage == Stage::Restored);
    assert_eq!(restored, start.how != StartInfo::BOOTED, "{run}");
    assert_eq!(start.template_until_ns.is_some(), start.how == StartInfo::ATTACHED, "{run}");
    start
}

fn how(run: &TestRun) -> String {
    assert!(run.status.success(), "{run}");
    start(run).how
}

fn stages(run: &TestRun) -> Vec<(Stage, GuestNs, String)> {
    let stage = |event: ktstr_replay::trace::record::Event| match event.body {
        EventBody::Stage { stage, detail } => Some((stage, event.guest_ns, detail)),
        _ => None,
    };
    run.trace().events().into_iter().filter_map(stage).collect()
}

/// What the run says of saving its machine.
fn saved(run: &TestRun) -> Vec<String> {
    let told = |event: ktstr_replay::trace::record::Event| match event.body {
        EventBody::Op { name, detail } if name == EventBody::TEMPLATE => Some(detail),
        _ => None,
    };
    run.trace().events().into_iter().filter_map(told).collect()
}

fn saves(run: &TestRun) -> bool {
    matches!(saved(run).as_slice(), [one] if one.starts_with("saved with the scheduler enabled"))
}

/// All that must not depend on how the machine came about.
#[derive(Debug, PartialEq)]
struct Facts {
    /// Findings of the verdict: what was judged, and what came of it.
    findings: Vec<(String, String)>,
    stages: BTreeMap<String, usize>,
    captures: Vec<String>,
    /// Maps at attach with the variables in them.
    maps: BTreeSet<String>,
    variables: BTreeSet<String>,
    scheduler_said: String,
    /// Lines of the kernel's log about sched_ext, and its first one.
    kernel_said: Vec<String>,
    /// Those that are not the host's, which may be busy.
    losses: usize,
    ops: Vec<String>,
}

fn facts(run: &TestRun) -> Facts {
    assert!(run.status.success(), "{run}");
    let trace = run.trace();
    let verdict: serde_json::Value =
        serde_json::from_str(&trace.verdict_json().expect("readable").expect("a verdict")).expect("JSON");
    let findings = verdict["findings"].as_array().expect("findings").iter();
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let findings = findings.map(|one| (text(&one["what"]), text(&one["outcome"]))).collect();
    let mut counted = BTreeMap::new();
    for (stage, ..) in stages(run) {
        if !matches!(stage, Stage::Booting | Stage::Restored) {
            *counted.entry(format!("{stage:?}")).or_default() += 1;
        }
    }
    let samples = Samples::load(&trace);
    let attach = run.sample(CaptureKind::Attach);
    assert_eq!(attach.scx.as_ref().map(|scx| scx.state.as_str()), Some("enabled"), "{run}");
    let (mut scheduler_said, mut kernel_said, mut ops) = (Vec::new(), Vec::new(), Vec::new());
    let is_of_all = |line: &str| line.starts_with("sched_ext: ") || line.starts_with("Linux version ");
    for event in trace.events() {
        match event.body {
            EventBody::Output { source: OutputSource::Scheduler, stderr: _, bytes } => {
                scheduler_said.extend(bytes)
            }
            EventBody::Kmsg { text, .. } if is_of_all(&text) => kernel_said.push(text),
            EventBody::Op { name, detail } if name != EventBody::TEMPLATE => {
                ops.push(format!("{name} {detail}"))
            }
            _ => {}
        }
    }
    // It ends with a count.
    let scheduler_said = String::from_utf8(scheduler_said).expect("text");
    let scheduler_said = scheduler_said.split("after").next().unwrap_or_default().to_owned();
    Facts {
        findings,
        stages: counted,
        // Whether somebody waits for long is the host's doing as well.
        captures: samples
            .iter()
            .filter(|sample| sample.kind != CaptureKind::HalfWatchdog)
            .map(|sample| sample.tag.clone())
            .collect(),
        maps: attach.maps.iter().map(|map| map.name.clone()).collect(),
        variables: samples.snapshot(&attach).vars().into_iter().map(|(name, _)| name).collect(),
        scheduler_said,
        kernel_said,
        losses: trace.losses().iter().filter(|loss| loss.kind != LossKind::HostTime).count(),
        ops,
    }
}

/// What the body drew of the kernel's random numbers.
fn random(run: &TestRun) -> String {
    let text = written(&run.trace());
    let line = text.lines().find_map(|line| line.split_once("random="));
    line.unwrap_or_else(|| panic!("no random number: {run}")).1.to_owned()
}

#[test]
fn cold_warm_and_attached_runs_are_alike() {
    let cache = cache_without_templates();
    let run = |name: &str, cold: &str| {
        fixture(name).env("XDG_CACHE_HOME", cache.path()).env("KTSTR_COLD", cold).run()
    };
    let first = run("may_begin_attached", "0");
    assert_eq!((how(&first).as_str(), saves(&first)), (StartInfo::BOOTED, true), "{first}");
    let attached = [run("may_begin_attached", "0"), run("may_begin_attached", "0")];
    let warm = run("never_begins_attached", "0");
    let cold = run("may_begin_attached", "1");
    assert_eq!(how(&warm), StartInfo::RESTORED);
    assert_eq!(how(&cold), StartInfo::BOOTED);
    assert!(saved(&warm).is_empty() && saved(&cold).is_empty());

    for run in [&first, &attached[0], &warm, &cold] {
        let unpacked = stages(run).into_iter().find(|(stage, ..)| *stage == Stage::JobUnpacked);
        let (.., detail) = unpacked.unwrap_or_else(|| panic!("nothing was unpacked: {run}"));
        assert!(detail.ends_with("bytes placed by the host"), "{detail}: {run}");
    }

    let expected = facts(&cold);
    assert_eq!(expected.losses, 0, "{cold}");
    assert!(expected.findings.len() > 4 && expected.maps.len() > 4 && expected.variables.len() > 4);
    assert_eq!(facts(&warm), expected);
    assert_eq!(facts(&first), expected);
    for run in &attached {
        assert_eq!(how(run), StartInfo::ATTACHED);
        assert!(saved(run).is_empty());
        assert_eq!(facts(run), expected);
        // What was before the template is of the template, and what a run does comes after it.
        let until = start(run).template_until_ns.expect("of an attached run");
        for (stage, at, _) in stages(run) {
            let of_template =
                matches!(stage, Stage::Ready | Stage::SchedulerStarted | Stage::SchedulerEnabled);
            assert_eq!(at <= until, of_template || stage == Stage::Restored, "{stage:?} at {at:?}: {run}");
        }
        // Lines of the report are cut where they are full.
        let words: Vec<&str> = run.stdout.split_whitespace().collect();
        assert!(words.join(" ").contains("restored from a template with the scheduler enabled"), "{run}");
        run.assert_replays();
    }
    // Nothing random of the kernel's comes out of a template.
    let randoms: BTreeSet<String> = [&attached[0], &attached[1], &first].into_iter().map(random).collect();
    assert_eq!(randoms.len(), 3);
}

#[test]
fn a_scheduler_of_other_arguments_or_files_is_loaded() {
    let cache = cache_without_templates();
    let with = |name: &str, file: &str| {
        let path = cache.path().join("file");
        fs::write(&path, file).expect("written");
        how(&fixture(name).env("XDG_CACHE_HOME", cache.path()).env(FILE, path).run())
    };
    assert_eq!(with("has_another_argument", ""), StartInfo::BOOTED);
    assert_eq!(with("has_another_argument", ""), StartInfo::ATTACHED);
    assert_eq!(with("has_another_file", "one"), StartInfo::RESTORED);
    assert_eq!(with("has_another_file", "one"), StartInfo::ATTACHED);
    assert_eq!(with("has_another_file", "two"), StartInfo::RESTORED);

    // One that is damaged is told, replaced, and the next one is whole again.
    for template in with_scheduler(cache.path()) {
        let mut ram = fs::read(template.join("ram")).expect("its pages");
        let middle = ram.len() / 2;
        ram[middle] ^= 1;
        fs::write(template.join("ram"), ram).expect("written");
    }
    let run = || fixture("has_another_argument").env("XDG_CACHE_HOME", cache.path()).run();
    let repaired = run();
    assert_eq!((how(&repaired).as_str(), saves(&repaired)), (StartInfo::RESTORED, true), "{repaired}");
    let told = stages(&repaired).into_iter().find(|(stage, ..)| *stage == Stage::StartRetried);
    assert!(told.is_some_and(|(.., detail)| detail.contains("checksum of its RAM")), "{repaired}");
    assert_eq!(how(&run()), StartInfo::ATTACHED);
}

#[test]
fn a_scheduler_that_is_not_enabled_is_never_saved() {
    let cache = cache_without_templates();
    for name in ["is_never_enabled", "ends_at_once"] {
        for _ in 0..2 {
            let run = fixture(name).env("XDG_CACHE_HOME", cache.path()).run();
            assert!(!run.status.success(), "{run}");
            assert_ne!(start(&run).how, StartInfo::ATTACHED, "{run}");
            assert!(!saves(&run), "{run}");
        }
    }
    assert!(with_scheduler(cache.path()).is_empty());
}

/// The templates with a scheduler in this home of caches.
fn with_scheduler(home: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.join("ktstr/templates")).expect("templates").flatten();
    let is_one = |path: &PathBuf| {
        fs::read_to_string(path.join("meta.json")).is_ok_and(|meta| meta.contains("scheduler_xxh3"))
    };
    entries.map(|entry| entry.path()).filter(is_one).collect()
}
