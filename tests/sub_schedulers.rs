//! A scheduler below another one: the kernel's own `scx_qmap` as root, and as the scheduler of a cgroup. Views tell whose a task and a
//! queue, a map and a program is, paths choose between both, and the end of the lower one is told, and fails the test where it is an error.
//!
//! The run is a `#[ktstr_test(ignore, ..)]` fixture, which one test drives as a child process: it boots once for all of it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_record::provision::{KernelSpec, Provisioner};
use ktstr_record::scheduler::build_c;
use ktstr_record::spec::KernelConfig;
use ktstr_replay::repro::Chain;
use ktstr_replay::run::Run;
use ktstr_replay::series::Samples;
use ktstr_replay::trace::Trace;
use ktstr_replay::trace::record::{CaptureKind, EventBody, WatchNews};
use ktstr_replay::verdict::Outcome;
use ktstr_tests::{TestRun, fixture, ktstr, run_bounded, written};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const QMAP: &str = "/examples/scx_qmap";
const CGROUP: &str = "/sys/fs/cgroup/below";
/// What the kernel calls the lower scheduler's place.
const BELOW: &str = "qmap on /below";
const LIMIT: Duration = Duration::from_secs(120);

// The program is given by the test that drives the fixtures: it is built of the kernel's source.
declare_scheduler!(ROOT, { name = "qmap", binary = "scx_qmap", topology = (1, 1, 2, 1) });

#[ktstr_test(
    ignore,
    cores = 4,
    duration_s = 240,
    checkpoint = "every",
    allow_splats,
    watch = ["scheduler(/below).data.uei.kind", "data.uei.kind"],
    probe = [
        "scheduler(/below).qmap_init()",
        "scheduler(/below).qmap_exit(arg0->kind)",
        "scheduler(/).qmap_exit(arg0->kind)",
        "qmap_init()",
        "scheduler(/below).no_such_program()",
        "scheduler(/elsewhere).qmap_init()",
    ],
    include_files = program_and_configuration
)]
fn one_below_another_gives_up(ctx: &Ctx) -> Result<AssertResult> {
    let mut root = Command::new(QMAP).spawn()?;
    wait_until("the root is enabled", &mut root, || Ok(state()? == "enabled"))?;
    fs::create_dir(CGROUP)?;
    let spinning = Spinning::start()?;
    fs::write(format!("{CGROUP}/cgroup.procs"), spinning.0.to_string())?;

    let mut sub = Command::new(QMAP).args(["-c", CGROUP]).spawn()?;
    wait_until("one below it is attached", &mut sub, || Ok(attached()? == 1))?;
    // The task goes over to it.
    sleep(Duration::from_millis(500));
    ctx.capture_snapshot("both")?;
    for (name, loader) in [("root", &root), ("below", &sub)] {
        println!("of {name}: {}", serde_json::to_string(&held(loader.id())?)?);
    }
    println!("cgroup: {}", fs::metadata(CGROUP)?.ino());
    kill_process(Pid::from_child(&sub), Signal::INT)?;
    ensure!(sub.wait()?.success(), "the one below did not leave well");
    ensure!(attached()? == 0, "it is still attached");

    let mut sub = Command::new(QMAP).args(["-c", CGROUP, "-e", "50"]).spawn()?;
    let begin = Instant::now();
    while sub.try_wait()?.is_none() {
        ensure!(begin.elapsed() < LIMIT, "the one below did not give up");
        sleep(Duration::from_millis(10));
    }
    ensure!(state()? == "enabled", "the root is {}", state()?);
    drop(spinning);
    kill_process(Pid::from_child(&root), Signal::INT)?;
    root.wait()?;
    Ok(AssertResult::pass())
}

/// Below the scheduler under test, which lives on.
#[ktstr_test(
    ignore,
    scheduler = ROOT,
    duration_s = 120,
    num_snapshots = 0,
    checkpoint = "ends",
    allow_splats,
    include_files = program
)]
fn one_below_the_scheduler_gives_up(_ctx: &Ctx) -> Result<AssertResult> {
    below_the_scheduler(&["-e", "8"])
}

/// It drops a task, which the watchdog finds.
#[ktstr_test(
    ignore,
    scheduler = ROOT,
    duration_s = 120,
    num_snapshots = 0,
    checkpoint = "ends",
    allow_splats,
    include_files = program
)]
fn one_below_the_scheduler_stalls(_ctx: &Ctx) -> Result<AssertResult> {
    below_the_scheduler(&["-t", "3"])
}

/// Let one run below the scheduler under test, with these arguments, until it ends by itself.
fn below_the_scheduler(args: &[&str]) -> Result<AssertResult> {
    fs::create_dir(CGROUP)?;
    let spinning = Spinning::start()?;
    fs::write(format!("{CGROUP}/cgroup.procs"), spinning.0.to_string())?;
    let mut sub = Command::new(QMAP).args(["-c", CGROUP]).args(args).spawn()?;
    let begin = Instant::now();
    while sub.try_wait()?.is_none() {
        ensure!(begin.elapsed() < LIMIT, "the one below did not end");
        sleep(Duration::from_millis(10));
    }
    ensure!(state()? == "enabled", "the root is {}", state()?);
    Ok(AssertResult::pass())
}

/// Ids of the BPF maps and programs that a loader has made, as the kernel tells them of its open files.
fn held(pid: u32) -> Result<[BTreeSet<u64>; 2]> {
    let mut found = [BTreeSet::new(), BTreeSet::new()];
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = fs::read_to_string(file?.path())?;
        for (ids, key) in found.iter_mut().zip(["map_id:", "prog_id:"]) {
            // A link has the id of its program, too, which is another file's.
            let id = text.lines().find_map(|line| line.strip_prefix(key));
            ids.extend(
                id.filter(|_| !text.contains("link_id:")).map(|id| id.trim().parse::<u64>()).transpose()?,
            );
        }
    }
    Ok(found)
}

/// A process that does nothing but run.
struct Spinning(i32);

impl Spinning {
    fn start() -> Result<Self> {
        // SAFETY: the child calls nothing: it neither allocates nor takes locks, which the threads that it lacks may have held.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error()).context("fork"),
            0 => loop {
                std::hint::spin_loop();
            },
            pid => Ok(Self(pid)),
        }
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.0) {
            let _ = kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        }
    }
}

fn state() -> Result<String> {
    Ok(fs::read_to_string("/sys/kernel/sched_ext/state")?.trim().to_owned())
}

/// How many schedulers there are below the root.
fn attached() -> Result<usize> {
    fn below(folder: &Path) -> Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                count += usize::from(path.join("ops").is_file()) + below(&path)?;
            }
        }
        Ok(count)
    }
    below(Path::new("/sys/kernel/sched_ext/root"))
}

fn wait_until(what: &str, child: &mut Child, done: impl Fn() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !done()? {
        if let Some(status) = child.try_wait()? {
            bail!("{status} before {what}");
        }
        ensure!(begin.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// On the host: the scheduler, built, and what libbpf asks for.
fn program_and_configuration() -> Result<Vec<IncludedFile>> {
    let spec = kernel_spec()?;
    let provisioner = Provisioner::open()?;
    let kernel = provisioner.kernel(&spec)?;
    let config = provisioner.kernel_config(&spec, &kernel, None)?.context("no configuration")?;
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("sub-config-{}", std::process::id()));
    fs::write(&file, &config.text)?;
    let config = IncludedFile { host: file, guest: KernelConfig::guest_path(&kernel.release) };
    let mut files = program()?;
    files.push(config);
    Ok(files)
}

/// On the host: the scheduler, built. With a scheduler of its own a test has the configuration.
fn program() -> Result<Vec<IncludedFile>> {
    Ok(vec![IncludedFile { host: built()?, guest: QMAP.to_owned() }])
}

fn built() -> Result<PathBuf> {
    let provisioner = Provisioner::open()?;
    let kernel = provisioner.kernel(&kernel_spec()?)?;
    let folder = provisioner.kernel_source(&kernel, &["tools/sched_ext"])?.join("tools/sched_ext");
    let toolchain = provisioner.toolchain()?;
    Ok(build_c(&folder, "scx_qmap", &kernel, &toolchain, provisioner.cache())?)
}

fn kernel_spec() -> Result<KernelSpec> {
    Ok(KernelSpec::parse(&std::env::var("KTSTR_KERNEL").unwrap_or_else(|_| "latest".to_owned()))?)
}

/// The views of a capture.
fn views(run: &TestRun) -> Value {
    let mut command = ktstr();
    command
        .arg("replay")
        .arg(run.trace_path())
        .args(["--at", "both", "--scx", "--tasks", "--dsqs", "--maps", "--progs", "--json"]);
    let ended = run_bounded(&mut command, LIMIT);
    let all: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}\n{run}"));
    all["views"].clone()
}

#[test]
fn tasks_and_queues_are_told_with_their_scheduler_and_an_end_below_is_a_finding() {
    let run = fixture("one_below_another_gives_up").run();
    assert!(!run.status.success(), "nothing failed:\n{run}");
    run.assert_replays();

    let views = views(&run);
    let schedulers = views["scx"]["schedulers"].as_array().expect("schedulers");
    let told = |one: &Value| (one["name"].clone(), one["level"].clone(), one["cgroup"].clone());
    let found: Vec<_> = schedulers.iter().map(told).collect();
    let expected = [("qmap", 0, "/"), ("qmap", 1, "/below")]
        .map(|(name, level, cgroup)| (Value::from(name), Value::from(level), Value::from(cgroup)));
    assert_eq!(found, expected, "{schedulers:#?}\n{run}");

    let tasks = views["tasks"]["tasks"].as_array().expect("tasks");
    let below: Vec<&Value> = tasks.iter().filter(|task| task["cgroup"] == "/below").collect();
    let of = |task: &Value| task["scx"]["scheduler"].as_str().map(str::to_owned);
    assert!(
        !below.is_empty() && below.iter().all(|task| of(task).as_deref() == Some(BELOW)),
        "{below:#?}\n{run}"
    );
    let others = tasks.iter().filter(|task| task["cgroup"] == "/" && task["class"] == "ext");
    let others: Vec<_> = others.map(of).collect();
    assert!(others.len() > 3 && others.iter().all(|one| one.as_deref() == Some("qmap")), "{others:?}\n{run}");
    let queues = views["dsqs"]["dsqs"].as_array().expect("queues");
    let ends_below = |queue: &&Value| queue["whose"].as_str().is_some_and(|whose| whose.ends_with(BELOW));
    assert!(queues.iter().any(|queue| ends_below(&queue)), "{queues:#?}\n{run}");

    maps_and_programs_are_told_with_their_scheduler(&run, &views);
    paths_say_whose_variable_map_and_queue_is_meant(&run);
    programs_below_are_probed_from_their_first_call_in_each_life(&run);
    a_watch_without_a_scheduler_ends_with_the_one_that_it_is_of(&run);

    // Two lives of it: the first ended well, the second by an error, which fails the test.
    // Its lines are broken where they are long.
    let finding = run.section("sub-scheduler").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(finding.starts_with("FAIL") && finding.contains("test triggering error"), "{finding}\n{run}");
    assert!(finding.contains("sub-scheduler qmap ended: unregistered from user space"), "{finding}\n{run}");
    let why = run_bounded(ktstr().arg("why").arg(run.trace_path()), LIMIT);
    assert!(why.stdout.contains("sub-scheduler qmap ended: "), "{why}");
    // The finding says when, behind it. Watches and probes make the timeline longer than what a report shows of it.
    let full = run_bounded(ktstr().arg("replay").arg(run.trace_path()).arg("--full"), LIMIT);
    let timeline =
        full.stdout.lines().filter(|line| line.ends_with("  sub-scheduler qmap was enabled")).count();
    assert_eq!(timeline, 2, "{run}");
}

/// A run of a fixture whose scheduler under test is the one that is also below.
fn run_again(name: &str) -> TestRun {
    let program = built().expect("the scheduler");
    // What the host may be the reason of is not run again.
    let run = fixture(name).env("KTSTR_SCHEDULER", program).env("KTSTR_AUTO_REPRO", "1").run_undisturbed();
    assert!(!run.status.success(), "nothing failed:\n{run}");
    run.assert_replays();
    run
}

/// What the second machine was to look at and saw; the last attempt failed alike.
fn second_of(run: &TestRun) -> (Trace, Vec<String>) {
    let second = run.trace().segment(1).unwrap_or_else(|| panic!("no second machine:\n{run}"));
    let info = second.manifest().expect("a manifest").repro.clone().expect("what it was for");
    assert!(info.attempts.last().is_some_and(|last| last.reproduced), "{info:?}\n{run}");
    assert!(run.report().contains("it happened again"), "{run}");
    assert!(run.stderr.contains("a scheduler below the root died"), "{run}");
    (second, info.targets)
}

fn why(run: &TestRun) -> String {
    let why = run_bounded(ktstr().arg("why").arg(run.trace_path()), LIMIT);
    // Its lines are broken where they are long.
    why.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Nobody looked at it: the run failed, and nothing was known of how it came to that.
#[test]
fn what_one_below_gives_up_for_is_made_to_happen_again() {
    let run = run_again("one_below_the_scheduler_gives_up");
    let (second, targets) = second_of(&run);
    assert_eq!(targets.first().map(String::as_str), Some("scheduler(/below)->exit_kind"), "{targets:?}");
    let probe = targets.iter().find(|target| target.starts_with("scheduler(/below).qmap_enqueue("));
    let probe = probe.unwrap_or_else(|| panic!("{targets:?}\n{run}"));

    // The capture of the end has its programs and its exit information, which nothing else of this run has.
    let sample = run.sample(CaptureKind::SubSchedulerExit);
    assert!(sample.checkpoint.is_some() && sample.missed.is_none(), "{sample:?}");
    let scx = run_bounded(
        ktstr().arg("replay").arg(run.trace_path()).args([
            "--at",
            "sub_scheduler_exit_000",
            "--scx",
            "--json",
        ]),
        LIMIT,
    );
    let scx: Value = serde_json::from_str(&scx.stdout).unwrap_or_else(|error| panic!("{error}: {scx}"));
    let schedulers = scx["views"]["scx"]["schedulers"].as_array().expect("schedulers");
    let kinds: Vec<_> =
        schedulers.iter().map(|one| (one["level"].as_u64(), one["exit_kind"].as_u64())).collect();
    assert_eq!(kinds, [(Some(0), Some(0)), (Some(1), Some(1025))], "{schedulers:#?}");

    // What was looked at follows from the file alone.
    let chain =
        run_bounded(ktstr().arg("replay").arg(run.trace_path()).args(["--repro-chain", "--json"]), LIMIT);
    let chain: Value = serde_json::from_str(&chain.stdout).unwrap_or_else(|error| panic!("{error}: {chain}"));
    let chain = &chain["chain"];
    assert_eq!(chain["below"], serde_json::json!(["/below"]), "{chain:#}");
    let failure = chain["failure"].as_str().expect("text");
    assert!(failure.starts_with("qmap on /below ended: SCX_EXIT_ERROR_BPF (1025): "), "{failure}");
    assert!(failure.ends_with("test triggering error"), "{failure}");
    let names: Vec<&str> =
        chain["targets"].as_array().expect("targets").iter().filter_map(|one| one["name"].as_str()).collect();
    for name in [
        "scheduler(/below).qmap_enqueue",
        "scheduler(/below).qmap_dispatch",
        "scx_bpf_error_bstr",
        "enqueue_task_scx",
    ] {
        assert!(names.contains(&name), "{name} of {names:?}");
    }
    assert!(!names.contains(&"qmap_enqueue"), "the root's is not looked at: {names:?}");
    let source = &chain["targets"]
        .as_array()
        .expect("targets")
        .iter()
        .find(|one| one["name"] == "scheduler(/below).qmap_enqueue")
        .expect("it")["because"];
    assert_eq!(source, "it is in the backtrace of the exit");

    // Who ended it, and from where; and the calls that led there, of this scheduler's program and not of the root's.
    let fires = second.events().into_iter().filter_map(|event| match event.body {
        EventBody::Watch(watch) if watch.target == "scheduler(/below)->exit_kind" => match watch.what {
            WatchNews::Fired(fire) => Some((fire.new, fire.stack)),
            _ => None,
        },
        _ => None,
    });
    let fires: Vec<(i128, Vec<String>)> = fires.collect();
    let (kind, stack) = fires.first().unwrap_or_else(|| panic!("no fire:\n{run}"));
    assert_eq!(*kind, 1025, "{fires:?}");
    assert!(stack.iter().any(|line| line.contains("qmap_enqueue")), "{fires:?}");
    let calls = second.probe(probe);
    assert!(!calls.is_empty() && calls.iter().all(|call| call.int("p->pid").is_some()), "{run}");
    let report = run.report();
    assert!(report.contains("the way of ") && report.contains("qmap_enqueue"), "{run}");

    let why = why(&run);
    assert!(why.contains("qmap on /below ended: SCX_EXIT_ERROR_BPF (1025): scx_bpf_error: "), "{why}");
    assert!(why.contains("sub_scheduler_exit_000"), "{why}");
    assert!(why.contains("qmap_enqueue"), "who raised it: {why}");
    assert_eq!(why.matches(" ended: ").count(), 1, "once, and not by the log again: {why}");
}

/// The watchdog found it, and ended the scheduler that the task is of.
#[test]
fn what_one_below_stalls_for_is_made_to_happen_again() {
    let run = run_again("one_below_the_scheduler_stalls");
    let (second, _) = second_of(&run);
    let trace = run.trace();
    let chain = Chain::of(&Run::load(&trace)).unwrap_or_else(|error| panic!("{error}\n{run}"));
    assert!(chain.failure.starts_with("qmap on /below ended: SCX_EXIT_ERROR_STALL"), "{chain:?}");
    let (comm, pid) = chain.task.as_ref().unwrap_or_else(|| panic!("{chain:?}\n{run}"));
    let why = why(&run);
    assert!(why.contains(&format!("{comm}[{pid}]")) && why.contains("half_watchdog"), "{why}");
    let chain = Chain::of(&Run::load(&second)).unwrap_or_else(|error| panic!("{error}\n{run}"));
    assert_eq!(chain.below, ["/below"], "{chain:?}");
}

/// Each loader holds what it has made: the kernel's own list of its files is compared with the views.
fn maps_and_programs_are_told_with_their_scheduler(run: &TestRun, views: &Value) {
    let written = written(&run.trace());
    let ids = |one: &Value| one["id"].as_u64().expect("an id");
    for (loader, name) in [("root", "qmap"), ("below", BELOW)] {
        let line = written.lines().find_map(|line| line.strip_prefix(&format!("of {loader}: ")));
        let held: [BTreeSet<u64>; 2] =
            serde_json::from_str(line.unwrap_or_else(|| panic!("{run}"))).expect("ids");
        assert!(held[0].len() > 5 && held[1].len() > 10, "{held:?}\n{run}");
        let maps = views["maps"]["maps"].as_array().expect("maps").iter();
        let its: BTreeSet<u64> =
            maps.filter(|map| map["schedulers"] == serde_json::json!([name])).map(ids).collect();
        assert_eq!(its, held[0], "maps of {name}\n{run}");
        let programs = views["progs"]["programs"].as_array().expect("programs").iter();
        let its: BTreeSet<u64> = programs.filter(|one| one["scheduler"] == name).map(ids).collect();
        assert_eq!(its, held[1], "programs of {name}\n{run}");
    }
    let shown = |args: &[&str]| {
        let mut command = ktstr();
        let ended =
            run_bounded(command.arg("replay").arg(run.trace_path()).args(["--at", "both"]).args(args), LIMIT);
        assert!(ended.status.success(), "{ended}");
        ended.stdout
    };
    let maps = shown(&["--maps"]);
    let rodata = |whose: &str| {
        let is_it = |line: &&str| line.contains("scx_qmap.rodata") && line.trim_end().ends_with(whose);
        maps.lines().filter(is_it).count()
    };
    assert_eq!((rodata(" qmap"), rodata(BELOW)), (1, 1), "{maps}");
    assert!(shown(&["--map", "scx_qmap.rodata"]).contains(&format!(", of {BELOW}")), "{run}");
    assert!(shown(&["--progs"]).contains(BELOW), "{run}");
}

/// The kernel calls `init` once, before anything else of a scheduler: it would be missed by a probe that comes later.
fn programs_below_are_probed_from_their_first_call_in_each_life(run: &TestRun) {
    let trace = run.trace();
    assert_eq!(trace.probe("scheduler(/below).qmap_init()").len(), 2, "{run}");
    let kinds = |target: &str| -> Vec<Option<i128>> {
        trace.probe(target).iter().map(|call| call.int("arg0->kind")).collect()
    };
    // SCX_EXIT_UNREG and SCX_EXIT_ERROR_BPF.
    assert_eq!(kinds("scheduler(/below).qmap_exit(arg0->kind)"), [Some(64), Some(1025)], "{run}");
    assert_eq!(kinds("scheduler(/).qmap_exit(arg0->kind)"), [Some(64)], "{run}");
    // A name that several have is that of the root.
    assert_eq!(trace.probe("qmap_init()").len(), 1, "{run}");
    for (target, why) in [
        ("scheduler(/below).no_such_program()", "there is no scheduler `/below`"),
        ("scheduler(/elsewhere).qmap_init()", "there is no scheduler `/elsewhere`"),
    ] {
        let finding =
            run.section(&format!("probe {target}")).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(finding.starts_with("FAIL") && finding.contains(why), "{finding}\n{run}");
    }
}

/// Its memory is another's once the scheduler has gone: what is stored there then is none of it.
fn a_watch_without_a_scheduler_ends_with_the_one_that_it_is_of(run: &TestRun) {
    let news = run.trace().events().into_iter().filter_map(|event| match event.body {
        EventBody::Watch(watch) if watch.target == "data.uei.kind" => Some(watch.what),
        _ => None,
    });
    let news: Vec<WatchNews> = news.collect();
    let fires: Vec<i128> = news
        .iter()
        .filter_map(|news| match news {
            WatchNews::Fired(fire) => Some(fire.new),
            _ => None,
        })
        .collect();
    // The root was told to leave: SCX_EXIT_UNREG.
    assert_eq!(fires, [64], "{news:#?}\n{run}");
    let away = news.iter().rev().find_map(|news| match news {
        WatchNews::Disarmed { why } => Some(why.as_str()),
        _ => None,
    });
    // Its maps may have gone by the time that it is looked at.
    let is_end = |away: &str| {
        away.ends_with("is of a scheduler that has ended, or is not enabled yet")
            || away.starts_with("there is no variable")
    };
    assert!(away.is_some_and(is_end), "{news:#?}\n{run}");
}

/// Both schedulers are of one source: every name is there twice.
fn paths_say_whose_variable_map_and_queue_is_meant(run: &TestRun) {
    let written = written(&run.trace());
    let cgroup = written.lines().find_map(|line| line.strip_prefix("cgroup: ")).expect("the cgroup's id");
    let samples = Samples::load(&run.trace());
    let both = samples.iter().find(|sample| sample.tag == "both").expect("the capture");
    let snapshot = samples.snapshot(both);
    let error = snapshot.var("sub_cgroup_id").expect_err("there are two").to_string();
    assert!(
        error.contains(
            "scheduler(/).scx_qmap.rodata.sub_cgroup_id or scheduler(/below).scx_qmap.rodata.sub_cgroup_id"
        ),
        "{error}"
    );
    let error = snapshot.map("scx_qmap.rodata").map(drop).expect_err("there are two").to_string();
    assert!(error.contains("scheduler(/).map(scx_qmap.rodata) or scheduler(/below).map"), "{error}");
    let error = snapshot.of_scheduler("qmap").map(drop).expect_err("there are two").to_string();
    assert!(error.contains("several schedulers are called `qmap`"), "{error}");
    let error = snapshot.of_scheduler("/belw").map(drop).expect_err("there is none").to_string();
    assert!(error.contains("did you mean `/below`?"), "{error}");
    let names: Vec<String> = snapshot.vars().into_iter().map(|(name, _)| name).collect();
    for name in ["scx_qmap.rodata.sub_cgroup_id", "scheduler(/below).scx_qmap.rodata.sub_cgroup_id"] {
        assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{names:?}");
    }

    let outcome = |claim: String| {
        let finding = run.claimed(&claim);
        (finding.outcome, finding.summary)
    };
    for holds in [
        "eventually(scheduler(/).sub_cgroup_id == 0)".to_owned(),
        format!("eventually(scheduler(/below).rodata.sub_cgroup_id == {cgroup})"),
        format!("eventually(scheduler(\"qmap on /below\").sub_cgroup_id == {cgroup})"),
        format!(
            "eventually(max(maps.entries where name == scx_qmap.rodata and scheduler == \"{BELOW}\") == 1)"
        ),
        "eventually(scheduler(/below).dsq[0x0].nr >= 0)".to_owned(),
        "eventually(scheduler(/).dsq[0x0].nr >= 0)".to_owned(),
        // The lower one ends by itself and by an error: the program that says so is its own.
        "final(watch(\"scheduler(/below).data.uei.kind\").fires >= 2)".to_owned(),
    ] {
        let (found, summary) = outcome(holds.clone());
        assert_eq!(found, Outcome::Pass, "{holds}: {summary}\n{run}");
    }
    for (fails, why) in [
        ("eventually(scheduler(/).sub_cgroup_id > 0)", "not so at any of 2 samples"),
        ("eventually(rodata.sub_cgroup_id > 0)", "scheduler(/below).scx_qmap.rodata.sub_cgroup_id"),
        ("eventually(scheduler(/elsewhere).sub_cgroup_id == 0)", "there is no scheduler `/elsewhere`"),
    ] {
        let finding = run.claimed(fails);
        let said = format!("{} {:?}", finding.summary, finding.lines);
        assert!(finding.outcome != Outcome::Pass && said.contains(why), "{fails}: {finding:?}\n{run}");
    }
    let queue =
        run_bounded(ktstr().arg("replay").arg(run.trace_path()).args(["--var", "dsq[0x0].nr"]), LIMIT);
    assert!(
        queue.stdout.contains("(several schedulers have a dispatch queue 0x0: write schedule"),
        "{queue}"
    );
    // What others store where it was, once it has gone, is none of it.
    let fires = run.trace().events().into_iter().filter_map(|event| match event.body {
        EventBody::Watch(watch) if watch.target.starts_with("scheduler") => match watch.what {
            WatchNews::Fired(fire) => Some(fire.new),
            _ => None,
        },
        _ => None,
    });
    let fires: Vec<i128> = fires.collect();
    // SCX_EXIT_UNREG and SCX_EXIT_ERROR_BPF.
    assert_eq!(fires, [64, 1025], "{run}");
    let watches = run_bounded(ktstr().arg("replay").arg(run.trace_path()).arg("--watches"), LIMIT);
    assert!(watches.stdout.contains("qmap_exit"), "{watches}");
}
