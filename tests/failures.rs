//! Runs that fail, each for one reason: what is said, what is kept, and that replay says the same.
//!
//! The runs are `#[ktstr_test(ignore, ..)]` fixtures of this binary, each of which one test drives as a child
//! process.

mod fixtures;

use std::fs;
use std::time::Duration;

use ktstr_record::provision::{KernelSpec, Provisioner};
use ktstr_replay::memory::LeftOut;
use ktstr_replay::repro::Chain;
use ktstr_replay::run::{Checkpoints, Run};
use ktstr_replay::series::Samples;
use ktstr_replay::trace::Trace;
use ktstr_replay::trace::record::{
    BlobRole, CaptureKind, EventBody, LongWait, Sample, Stage, WaitLimit, WatchNews,
};
use ktstr_replay::verdict::Outcome;
use ktstr_tests::{Fixture, TestRun, fixture, ktstr, run_bounded};

/// Longer than a command without a machine may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What a failed run has in common: it is the verdict's exit code, and replay prints its report again.
fn failed(name: &str) -> TestRun {
    failed_in(fixture(name))
}

fn failed_in(fixture: Fixture) -> TestRun {
    has_failed(fixture.run())
}

/// The same of a run in which it matters who waited for how long, of a host that ran its machine.
fn undisturbed(name: &str) -> TestRun {
    has_failed(fixture(name).run_undisturbed())
}

fn has_failed(run: TestRun) -> TestRun {
    assert!(!run.status.success(), "it passed:\n{run}");
    run.assert_replays();
    run
}

#[test]
fn a_failing_claim_names_the_right_samples() {
    let run = failed("fixtures::miscounts");
    let series = run.series("nr_dispatched");
    let drops: Vec<_> = series.windows(2).filter(|pair| pair[1].value < pair[0].value).collect();
    assert!(!drops.is_empty(), "the scheduler counted well: {series:?}");
    let claim = run.section("nondecreasing(nr_dispatched)");
    for pair in &drops {
        for sample in *pair {
            assert!(
                claim.contains(&sample.tag) && claim.contains(&sample.value.to_string()),
                "{} = {} is not named in:\n{claim}",
                sample.tag,
                sample.value
            );
        }
    }
    // The bound that holds is not blamed.
    assert!(run.report().contains("each(nr_select_cpu >= 0)"), "{run}");
}

#[test]
fn a_broken_claim_ends_a_run_that_fails_fast() {
    let run = failed("fixtures::miscounts_and_is_ended");
    let report = run.report();
    assert!(
        report.contains("the run was ended because a claim had failed: nondecreasing(nr_dispatched)"),
        "{run}"
    );
    // What the body would have come to is not its failure.
    assert!(report.contains("began and did not end"), "{run}");
    let failed: Vec<String> = Run::load(&run.trace())
        .recorded_verdict()
        .expect("a verdict")
        .findings
        .into_iter()
        .filter(|finding| finding.outcome == Outcome::Fail)
        .map(|finding| finding.what)
        .collect();
    assert!(failed.iter().any(|what| what == "nondecreasing(nr_dispatched)"), "{failed:?}\n{run}");
    assert!(!failed.iter().any(|what| what == "body" || what == "machine"), "{failed:?}\n{run}");
    let trace = run.trace();
    let missed = trace.samples().filter(|sample| sample.as_ref().is_ok_and(|s| s.missed.is_some())).count();
    assert!((1..120).contains(&missed), "{missed} of 120 captures were not taken:\n{run}");
}

#[test]
fn a_kernel_that_is_locked_down_says_so_once() {
    for name in ["fixtures::is_locked_down", "fixtures::is_locked_down_further"] {
        let run = failed(name);
        let report = run.report();
        assert!(report.contains("Kernel is locked down from command line"), "{run}");
        assert!(report.contains("opening /dev/mem, which the channel needs"), "{run}");
        for untrue in ["did not get to init", "within its time", "CONFIG_DEVMEM"] {
            assert!(!report.contains(untrue), "{untrue}:\n{run}");
        }
    }
}

#[test]
fn a_line_that_fails_is_named_with_its_path_and_all_is_undone() {
    let run = failed("fixtures::has_a_line_that_fails");
    let report = run.report();
    assert!(
        report.contains(
            "`enable` line `echo 1 > /proc/sys/kernel/no_such_parameter`: opening /proc/sys/kernel/no_such_parameter: No such file"
        ),
        "{run}"
    );
    assert!(report.contains("misspelt was not switched on, after 1 `enable` line"), "{run}");
    // The line that fails at the end keeps no other from being run.
    let log: String = run
        .trace()
        .events()
        .into_iter()
        .filter_map(|event| match event.body {
            EventBody::Kmsg { text, .. } => Some(text + "\n"),
            _ => None,
        })
        .collect();
    assert!(log.contains("ktstr: half of it is on") && log.contains("ktstr: it is off"), "{log}\n{run}");
}

#[test]
fn a_stall_is_explained() {
    let run = has_failed(fixture("fixtures::stalls").env("KTSTR_AUTO_REPRO", "1").run_undisturbed());
    let report = run.report();
    assert!(report.contains("SCX_EXIT_ERROR_STALL"), "{run}");
    assert!(report.contains("runnable task stall"), "{run}");
    assert!(report.contains("failed to check in for") || report.contains("failed to run for"), "{run}");

    let sample = run.sample(CaptureKind::SchedulerExit);
    let scx = sample.scx.expect("sched_ext's state at the exit");
    assert_eq!(scx.exit_kind_name.as_deref(), Some("SCX_EXIT_ERROR_STALL"));
    assert_eq!(scx.exit_kind, 1026);
    let message = scx.exit_message.expect("the exit's message");
    assert!(report.contains(&message), "{message} is not in the report:\n{run}");
    assert!(scx.exit_dump.is_some_and(|dump| dump.contains("CPU states")), "no dump");

    // The scheduler's variables at the stall: it knew that it stalled, and had dispatched until then.
    assert_eq!(run.var_at(CaptureKind::SchedulerExit, "stats.phase"), "DEMO_STALLED");
    let dispatched = run.var_at(CaptureKind::SchedulerExit, "nr_dispatched");
    assert!(dispatched.parse::<u64>().expect("a count") > 0);
    assert!(report.contains("nr_dispatched"), "{run}");
    assert!(report.contains("DEMO_STALLED"), "{run}");

    let long = long_waits(&run);
    let wait = long.first().unwrap_or_else(|| panic!("nobody was seen to wait:\n{run}"));
    assert_eq!(wait.limit_ns, 3_000_000_000, "{wait:?}");
    assert!(matches!(wait.limit, WaitLimit::Watchdog | WaitLimit::CheckIn), "{wait:?}");
    let during = captured(&run, wait);
    assert!(during.guest_ns < sample.guest_ns, "not before the end: {during:?}");
    let scx = during.scx.as_ref().expect("sched_ext's state in the stall");
    assert!(scx.is_enabled() && scx.exit_kind == 0, "{scx:?}");
    assert_eq!(run.samples_of(CaptureKind::HalfWatchdog).len(), long.len(), "{long:?}");
    // Whoever waited longest is still in the scheduler's queue there; at the exit the kernel had emptied that.
    let views = ["replay", "--at", &during.tag, "--dsqs", "--json"];
    let views: serde_json::Value = serde_json::from_str(&printed(&run, &views)).expect("JSON");
    let queues = views["views"]["dsqs"]["dsqs"].as_array().expect("queues");
    let queued =
        queues.iter().filter(|queue| queue["whose"] == "user").filter_map(|queue| queue["tasks"].as_array());
    let pids: Vec<u64> = queued.flatten().filter_map(|task| task["pid"].as_u64()).collect();
    assert!(!pids.is_empty() && wait.pid.is_none_or(|pid| pids.contains(&pid.into())), "{wait:?}: {views:#}");
    // The report and `ktstr why` are of that time.
    assert!(report.contains(&format!("capture {}: ", during.tag)), "{run}");
    let why = printed(&run, &["why"]);
    let words = "after which the";
    assert!(why.contains(words) && why.contains(&format!("seen in {}", during.tag)), "{why}\n{run}");

    // The second machine stalls, too, and has the story of the task that it died of.
    assert!(report.contains("it happened again, in "), "{run}");
    let trace = run.trace();
    assert!(trace.verify().is_clean(), "{:?}", trace.verify());
    let second = trace.segment(1).expect("a second machine");
    let exit = captures_of(&second, CaptureKind::SchedulerExit).remove(0).scx.expect("sched_ext's state");
    assert_eq!(exit.exit_kind_name.as_deref(), Some("SCX_EXIT_ERROR_STALL"), "{run}");
    let story = report.lines().find(|line| line.contains("the way of ") || line.contains("no call of "));
    let story = story.unwrap_or_else(|| panic!("no story:\n{run}"));
    let pid = story.split_once('[').and_then(|(_, rest)| rest.split_once(']')).expect("a task").0;
    let message = exit.exit_message.expect("the exit's message");
    assert!(
        !message.contains("failed to run for") || message.contains(&format!("[{pid}]")),
        "{story}: {message}"
    );
    let its = printed(&run, &["replay", "--segment", "1", "--events", "--task", pid]);
    assert!(its.lines().count() > 3, "nothing of {pid} in the history of the second machine: {its}\n{run}");
    assert!(printed(&run, &["why", "--segment", "1"]).contains("SCX_EXIT_ERROR_STALL"), "{run}");
    it_was_captured_before_the_failure(&trace, &second);
}

/// How long the scheduler lived after the body's begin, in ns of the guest.
fn lived_ns(machine: &Trace) -> u64 {
    let exit = captures_of(machine, CaptureKind::SchedulerExit).remove(0).guest_ns;
    let events = machine.events();
    let begin = |body: &EventBody| matches!(body, EventBody::Stage { stage: Stage::BodyStarted, .. });
    exit.saturating_since(events.iter().find(|event| begin(&event.body)).expect("a body").guest_ns)
}

/// The second machine knows when the first one failed, by the time from the body's begin: where its own failed so early, or so late, that its
/// captures could not be before that, there need not be one.
fn it_was_captured_before_the_failure(first: &Trace, second: &Trace) {
    let before = captures_of(second, CaptureKind::OnDemand);
    let tags: Vec<&str> = before.iter().map(|sample| sample.tag.as_str()).collect();
    assert!(tags.iter().all(|tag| tag.starts_with("before_failure_")), "{tags:?}");
    let (lived, should_live) = (lived_ns(second), lived_ns(first));
    if lived.abs_diff(should_live) > 1_000_000_000 {
        return;
    }
    let exit = captures_of(second, CaptureKind::SchedulerExit).remove(0).guest_ns;
    let seen: Vec<u64> = before.iter().map(|sample| exit.saturating_since(sample.guest_ns)).collect();
    // 2 s before it at first, and no later than the failure is late.
    assert!(seen.iter().any(|ns| (1..3_500_000_000).contains(ns)), "{seen:?}: {lived} of {should_live} ns");
}

/// The captures of a kind of a segment.
fn captures_of(segment: &Trace, kind: CaptureKind) -> Vec<Sample> {
    Samples::load(segment).iter().filter(|sample| sample.kind == kind).cloned().collect()
}

/// The waits that were told, in the order in which they came.
fn long_waits(run: &TestRun) -> Vec<LongWait> {
    let events = run.trace().events().into_iter();
    let waits = events.filter_map(|event| match event.body {
        EventBody::LongWait(wait) => Some(*wait),
        _ => None,
    });
    waits.collect()
}

/// The capture that was taken for a wait, with memory.
fn captured(run: &TestRun, wait: &LongWait) -> Sample {
    let index = wait.sample.unwrap_or_else(|| panic!("no capture of {wait:?}:\n{run}"));
    let samples = run.samples_of(CaptureKind::HalfWatchdog);
    let sample = samples.into_iter().find(|sample| sample.index == index);
    let sample = sample.unwrap_or_else(|| panic!("{wait:?} names no capture of a long wait:\n{run}"));
    assert!(sample.checkpoint.is_some(), "no memory of that moment: {:?}", sample.faults);
    sample
}

/// What a command prints of the run's trace.
fn printed(run: &TestRun, args: &[&str]) -> String {
    run_bounded(ktstr().arg(args[0]).arg(run.trace_path()).args(&args[1..]), LIMIT).stdout.clone()
}

#[test]
fn a_scheduler_that_exits_leaves_its_message_and_does_it_again_in_a_second_machine() {
    let run = failed_in(fixture("fixtures::exits").env("KTSTR_AUTO_REPRO", "1"));
    assert!(run.report().contains("SCX_EXIT_ERROR_BPF"), "{run}");
    assert!(run.report().contains("the demo gave up"), "{run}");
    assert!(run.report().contains("who raised the error"), "{run}");
    let why = printed(&run, &["why", "--json"]);
    let raised = "by scx_bpf_error_bstr: scx_demo.bpf.c:";
    assert!(
        why.contains("it was raised in the scheduler's program ") && why.contains(raised),
        "{why}\n{run}"
    );

    // The second machine is in the same file, ended alike, and saw who ended the scheduler.
    // A machine that is stopped for probes is slower, so that it may take more than one attempt.
    assert!(run.report().contains("it happened again, in 1 of "), "{run}");
    let trace = run.trace();
    assert!(trace.verify().is_clean(), "{:?}", trace.verify());
    let second = trace.segment(1).expect("a second machine");
    let manifest = second.manifest().expect("a manifest");
    assert_ne!(manifest.test.seed, trace.manifest().expect("a manifest").test.seed);
    let info = manifest.repro.as_ref().expect("what it was for");
    assert!(info.attempts.last().is_some_and(|last| last.ended.contains("the demo gave up")), "{info:?}");
    let fires = second.events().into_iter().filter_map(|event| match event.body {
        EventBody::Watch(watch) => match watch.what {
            WatchNews::Fired(fire) => Some(fire),
            _ => None,
        },
        _ => None,
    });
    let stacks: Vec<Vec<String>> = fires.map(|fire| fire.stack).collect();
    let by_program = |stack: &Vec<String>| stack.iter().any(|line| line.contains("demo_"));
    assert!(stacks.iter().any(by_program), "no program of the scheduler in {stacks:?}\n{run}");

    it_was_captured_before_the_failure(&trace, &second);

    // It saw the calls of the scheduler's programs, of which one has ended it, and tells the way of that task.
    let calls = second.probe("demo_enqueue");
    assert!(!calls.is_empty() && calls.iter().all(|call| call.int("p->pid").is_some()), "{run}");
    let report = run.report();
    let way = report.lines().find(|line| line.contains("the way of ")).unwrap_or_else(|| panic!("{run}"));
    assert!(way.contains("to the end, in the functions that were probed"), "{way}");
    assert!(report.contains("p->scx.slice="), "{run}");

    // What was looked at follows from the file alone.
    let chain =
        run_bounded(ktstr().arg("replay").arg(run.trace_path()).args(["--repro-chain", "--json"]), LIMIT);
    let chain: serde_json::Value = serde_json::from_str(&chain.stdout).expect("JSON");
    let names: Vec<&str> = chain["chain"]["targets"]
        .as_array()
        .expect("targets")
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(info.targets.first().map(String::as_str), Some("scx_root->exit_kind"));
    assert_eq!(names.first().copied(), Some("scx_root->exit_kind"), "{names:?}");
    assert!(names.contains(&"demo_enqueue") && names.contains(&"enqueue_task_scx"), "{names:?}");
}

/// The seed of each attempt, and whether it failed as the first run did.
fn attempts(run: &TestRun) -> Vec<(u64, bool)> {
    let trace = run.trace();
    let second = trace.segment(1).unwrap_or_else(|| panic!("no second machine:\n{run}"));
    let manifest = second.manifest().expect("a manifest");
    let info = manifest.repro.as_ref().expect("what it was for");
    let last = info.attempts.last().expect("an attempt");
    assert_eq!(manifest.test.seed, last.seed, "the segment is that of the last attempt");
    info.attempts.iter().map(|attempt| (attempt.seed, attempt.reproduced)).collect()
}

/// The seed of an attempt never came into its guest, so that each was the same run.
#[test]
fn what_happens_in_one_run_of_three_comes_again_by_its_seed() {
    let run = failed_in(fixture("fixtures::fails_in_one_run_of_three").env("KTSTR_AUTO_REPRO", "1"));
    assert_eq!(attempts(&run), [(4, false), (5, false), (6, true)], "{run}");
    assert!(
        run.report().contains("it happened again, in 1 of 3 attempts (33 %); the last is segment 1"),
        "{run}"
    );
    let second = run.trace().segment(1).expect("a second machine");
    let exit = captures_of(&second, CaptureKind::SchedulerExit).remove(0).scx.expect("sched_ext's state");
    assert_eq!(exit.exit_kind_name.as_deref(), Some("SCX_EXIT_ERROR_BPF"));
}

#[test]
fn what_never_comes_again_is_told_and_takes_nothing_from_the_first_run() {
    let run = failed_in(fixture("fixtures::crashes_once").env("KTSTR_AUTO_REPRO", "1"));
    assert_eq!(attempts(&run), [(2, false), (3, false), (4, false)], "{run}");
    let report = run.report();
    assert!(report.contains("it did not happen again in 3 attempts; the last is segment 1"), "{run}");
    assert!(report.starts_with("FAIL ") && report.contains("signal 11"), "{run}");
    assert!(!report.contains("the way of "), "{run}");
    // The last of them is there, and its scheduler lived.
    let second = run.trace().segment(1).expect("a second machine");
    assert!(captures_of(&second, CaptureKind::SchedulerExit).is_empty(), "{run}");
    assert!(!printed(&run, &["replay", "--segment", "1"]).contains("signal 11"), "{run}");
}

#[test]
fn what_is_expected_or_not_wanted_is_not_run_again() {
    for name in ["fixtures::exits_and_is_not_run_again", "fixtures::exits_otherwise_than_expected"] {
        let run = failed_in(fixture(name).env("KTSTR_AUTO_REPRO", "1"));
        let trace = run.trace();
        // There was something to be run again.
        let chain = Chain::of(&Run::load(&trace)).unwrap_or_else(|error| panic!("{error}\n{run}"));
        assert!(chain.failure.contains("SCX_EXIT_ERROR_BPF"), "{chain:?}");
        assert!(trace.segment(1).is_none() && !run.stderr.contains("run again"), "{name}:\n{run}");
    }
}

#[test]
fn a_scheduler_that_cannot_load_shows_its_verifier_log() {
    let run = failed_in(fixture("fixtures::cannot_load").env("KTSTR_AUTO_REPRO", "1"));
    // What failed before the body is not run again.
    assert!(run.trace().segment(1).is_none() && !run.stderr.contains("run again"), "{run}");
    assert!(run.report().contains("R0 invalid mem access 'map_value_or_null'"), "{run}");
    assert!(run.report().contains("rejected_by_verifier"), "{run}");
    let report = run.report();
    let first = report.lines().next().unwrap_or_default();
    let reason = "demo did not load: libbpf: prog 'rejected_by_verifier': BPF program load failed: ";
    assert!(
        first.contains(reason) && !first.contains("it last wrote"),
        "`{reason}` is not said first:\n{run}"
    );
    // There is nothing to wait for: the workload window of 200 s is not waited out.
    let took = run.between(Stage::SchedulerStarted, Stage::PoweringOff);
    assert!(took < Duration::from_secs(200), "took {took:?}");
}

/// The report had how its process ended, and the kernel's words only below the kernel's other warnings.
#[test]
fn a_scheduler_that_fails_in_its_init_is_told_with_the_kernels_reason_first() {
    let run = failed("fixtures::fails_in_its_init");
    let reason =
        "demo did not load: the kernel ended it: runtime error: ops.init() failed (-22); exit code 1";
    let report = run.report();
    let first = report.lines().next().unwrap_or_default();
    assert!(first.starts_with("FAIL ") && first.contains(reason), "`{reason}` is not said first:\n{run}");
    // It was the second try: the first one is in the kernel's log as well, and is not the reason.
    let (_, log) = report.split_once("kernel's warnings and errors").unwrap_or_else(|| panic!("{run}"));
    let said = [
        "disabled (scx_bpf_error)",
        "demo: first: no such CPU",
        "disabled (runtime error)",
        "demo: ops.init() failed (-22)",
    ];
    let found: Vec<usize> = said.iter().filter_map(|said| log.find(said)).collect();
    assert!(found.len() == said.len() && found.is_sorted(), "{said:?} at {found:?} of\n{log}\n{run}");
    assert!(!run.section("scheduler").lines().next().unwrap_or_default().contains("first"), "{run}");
}

#[test]
fn a_scheduler_that_takes_the_place_of_the_tests_own_and_fails_is_told_with_the_kernels_reason() {
    let run = failed("fixtures::replaces_by_one_that_fails");
    let finding = run.section("body");
    let reason = "the scheduler that was to be attached: the kernel ended `demo`: runtime error: ops.init() failed (-12)";
    assert!(finding.contains("returned an error") && finding.contains(reason), "{run}");
}

#[test]
fn a_scheduler_that_is_not_enabled_in_time_is_told_with_its_words_and_threads() {
    let run = failed("fixtures::is_never_enabled");
    let report = run.report();
    let title = "demo was not enabled within 8.000s; it last wrote `scx_demo: waiting for SIGINT`; its thread scx_demo[";
    assert!(report.contains(title), "{run}");
    // It sleeps until it looks again, and is found at it unless it is just on its way.
    assert!(report.contains("its threads at that time:") && report.contains("entry_SYSCALL_64"), "{run}");
    let sample = run.sample(CaptureKind::NotEnabled);
    assert!(sample.checkpoint.is_some(), "no memory of that moment: {:?}", sample.faults);
    // The workload window of 200 s is not waited out.
    let took = run.between(Stage::SchedulerStarted, Stage::PoweringOff);
    assert!(took < Duration::from_secs(200), "took {took:?}");
}

#[test]
fn a_scheduler_that_lacks_the_kernels_configuration_is_told_how_to_give_one() {
    let provisioner = Provisioner::open().expect("the cache");
    let asked = std::env::var("KTSTR_KERNEL").unwrap_or_else(|_| "latest".to_owned());
    let spec = KernelSpec::parse(&asked).expect("a kernel");
    let kernel = provisioner.kernel(&spec).expect("the kernel");
    let config = provisioner.kernel_config(&spec, &kernel, None).expect("readable").expect("of the archive");
    // The same kernel as a file of the user's, with no configuration beside it.
    let folder = tempfile::tempdir().expect("a folder");
    let (image, file) = (folder.path().join("bzImage"), folder.path().join("my-config"));
    fs::copy(kernel.bzimage.as_ref().expect("an image"), &image).expect("copied");
    fs::write(&file, &config.text).expect("written");

    let run = fixture("fixtures::asks_for_the_configuration").env("KTSTR_KERNEL", &image).run();
    assert!(!run.status.success(), "it loaded:\n{run}");
    run.assert_replays();
    assert!(run.report().contains("the guest had no kernel configuration"), "{run}");
    assert!(run.report().contains("--kernel-config FILE"), "{run}");

    let run = fixture("fixtures::asks_for_the_configuration")
        .env("KTSTR_KERNEL", &image)
        .env("KTSTR_KERNEL_CONFIG", &file)
        .run();
    assert!(run.status.success(), "{run}");
    let trace = run.trace();
    let [id] = trace.blobs(BlobRole::KernelConfig)[..] else { panic!("not one configuration") };
    assert_eq!(trace.blob(&id).expect("the configuration"), config.text);
    assert_eq!(trace.manifest().expect("a manifest").kernel.config.as_deref(), file.to_str());
}

#[test]
fn a_starved_cgroup_is_named() {
    let run = undisturbed("fixtures::starves");
    let finding = run.section("not_starved");
    assert!(finding.contains("cg_1"), "{run}");
    assert!(!finding.contains("cg_0"), "the served cgroup is blamed:\n{run}");

    // A capture shows who of it waited, long before the workers could say so.
    let limits = run.trace().manifest().expect("a manifest").test.limits().expect("limits");
    let mut of_gap = long_waits(&run);
    of_gap.retain(|wait| wait.limit == WaitLimit::Gap);
    for wait in &of_gap {
        assert_eq!(limits.max_gap_ms.map(|ms| ms * 1_000_000), Some(wait.limit_ns), "{wait:?}");
        assert!(wait.waited_ns >= wait.limit_ns / 2, "{wait:?}");
    }
    // On a host that is busy others may have waited, too.
    of_gap.retain(|wait| wait.sample.is_some());
    let is_of_it = |wait: &LongWait| {
        let during = captured(&run, wait);
        let tasks = printed(&run, &["replay", "--at", &during.tag, "--tasks", "--json"]);
        let views: serde_json::Value = serde_json::from_str(&tasks).expect("JSON");
        let tasks = views["views"]["tasks"]["tasks"].as_array().expect("tasks");
        let task = tasks.iter().find(|task| task["pid"].as_u64() == wait.pid.map(u64::from));
        task.and_then(|task| task["cgroup"].as_str()).is_some_and(|cgroup| cgroup.ends_with("cg_1"))
    };
    assert!(of_gap.iter().any(is_of_it), "nobody of it was seen to wait, but {of_gap:?}\n{run}");
    assert!(printed(&run, &["why"]).contains("for which a worker may make no turn"), "{run}");
}

#[test]
fn a_guest_panic_is_said_and_its_memory_is_kept() {
    let run = failed_in(fixture("fixtures::panics_the_kernel").env("KTSTR_PAGES", "all"));
    assert!(run.report().contains("sysrq triggered crash"), "{run}");
    let sample = run.sample(CaptureKind::GuestDeath);
    assert!(sample.checkpoint.is_some(), "no memory of the dead guest: {:?}", sample.faults);
    // All of it, as was asked for, and not what the test says.
    let trace = run.trace();
    assert_eq!(trace.manifest().expect("a manifest").test.pages, "all");
    let loaded = Run::load(&trace);
    let checkpoints = Checkpoints::of(&loaded).expect("checkpoints");
    let left_out = checkpoints.at(Some(&sample.tag)).expect("its memory").memory().left_out();
    assert!(left_out.iter().all(|(_, why)| *why == LeftOut::Channel), "{left_out:?}");
}

#[test]
fn an_unknown_variable_is_an_error_with_candidates() {
    let run = failed("fixtures::misspells");
    let claim = run.section("nondecreasing(nr_dispatchd)");
    assert!(claim.contains("nr_dispatchd") && claim.contains("nr_dispatched"), "{run}");
}

#[test]
fn an_error_of_the_body_is_shown() {
    let run = failed("fixtures::body_errs");
    assert!(run.report().contains("the body could not: it is made so"), "{run}");
}

#[test]
fn a_failed_assertion_of_the_body_is_shown() {
    let run = failed("fixtures::body_asserts");
    assert!(run.report().contains("one is two"), "{run}");
}

#[test]
fn a_panic_of_the_body_is_shown_with_its_place() {
    let run = failed("fixtures::body_panics");
    assert!(run.report().contains("the body fell over"), "{run}");
    assert!(run.report().contains("tests/fixtures/mod.rs:"), "{run}");
}

#[test]
fn a_body_that_hangs_is_ended() {
    let run = failed("fixtures::hangs");
    // The window of 1 s, the watchdog's 5 s, and 30 s of patience; and what a slow host takes.
    let took = run.between(Stage::BodyStarted, Stage::TestExited);
    assert!(took > Duration::from_secs(30) && took < Duration::from_secs(120), "took {took:?}");
    assert!(run.report().contains("it ran for longer than 36s"), "{run}");
}

#[test]
fn an_expected_error_passes() {
    let run = fixture("fixtures::stalls_as_expected").run_undisturbed();
    assert!(run.status.success(), "{run}");
    run.assert_replays();
    // Either of the two alone would have it pass: both are what was judged by.
    let expected = run.trace().manifest().expect("a manifest").test.clone();
    assert_eq!(expected.expect_scx_error_contains.as_deref(), Some("runnable task stall"));
    assert_eq!(expected.expect_scx_error_matches.as_deref(), Some(r"failed to (run|check in) for \d+\.\d+s"));
}

#[test]
fn an_expected_error_of_a_scheduler_that_never_loaded_fails() {
    failed("fixtures::expects_more_than_it_loads");
}

#[test]
fn a_guest_that_dies_before_init_shows_its_console() {
    let run = failed("fixtures::dies_before_init");
    assert!(run.report().contains("Kernel panic - not syncing: VFS: Unable to mount root fs"), "{run}");
    assert!(run.report().contains("did not get to init"), "{run}");
}

#[test]
fn a_boot_that_hangs_is_ended() {
    let run = failed("fixtures::hangs_in_boot");
    let report = run.report();
    assert!(report.contains("init was not ready within 30 s"), "{run}");
    // The guest waits and wants no CPU: it reaches its limit on a busy host, too, unless that runs it hardly at all.
    let withheld = !run.trace().host_gaps().is_empty();
    assert!(report.starts_with("FAIL") || withheld && report.starts_with("INCONCLUSIVE"), "{run}");
}
