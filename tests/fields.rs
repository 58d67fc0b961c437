//! What the other tests of this folder do not look at of the attributes of a test, the fields of a scheduler, the operations of a scenario and
//! the parts of a cgroup: each is seen in the guest, by the kernel's own files, or in the trace. Few machines, with many fields each.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_record::provision::{Cache, KernelSpec, Provisioner};
use ktstr_record::scheduler::build_c;
use ktstr_tests::fixture;

const GROUPS: &str = "/sys/fs/cgroup";
/// How long a state holds that is looked for, and for how long it is undone before the next one: longer than a host stops a machine.
const HOLD: HoldSpec = HoldSpec::Fixed(Duration::from_millis(800));
/// How often all operations are done at most.
const TRIES: usize = 3;
/// The interrupt whose CPUs are changed: the one of ACPI, which every machine has.
const IRQ: &str = "/proc/irq/9/smp_affinity_list";

/// What lies between two operations of one step that are looked at.
#[derive(Payload)]
#[payload(binary = "sleep", output = ExitCode)]
#[default_args("0.8")]
struct Pause;

/// What is looked at, and how.
type Look = (&'static str, Box<dyn Fn() -> String + Send>);

/// Looks at things again and again, and keeps what each was, one after the other.
struct Spy {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<&'static str, Vec<String>>>,
}

impl Spy {
    fn on(looks: Vec<Look>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut seen: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            while !until.load(Ordering::Relaxed) {
                for (name, look) in &looks {
                    let (all, now) = (seen.entry(name).or_default(), look());
                    if all.last() != Some(&now) {
                        all.push(now);
                    }
                }
                sleep(Duration::from_millis(3));
            }
            seen
        });
        Self { stop, thread }
    }

    fn seen(self) -> BTreeMap<&'static str, Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// A file of a cgroup.
fn file(name: &'static str, path: &'static str) -> Look {
    (name, Box::new(move || fs::read_to_string(path).unwrap_or_default().trim().to_owned()))
}

/// Whether a cgroup is there, and has processes.
fn state(name: &'static str, cgroup: &'static str) -> Look {
    let look = move || match fs::read_to_string(format!("{GROUPS}/{cgroup}/cgroup.procs")) {
        Ok(pids) if pids.trim().is_empty() => "empty",
        Ok(_) => "used",
        Err(_) => "gone",
    };
    (name, Box::new(move || look().to_owned()))
}

/// What `of` makes of each process of a cgroup, without repeats.
fn processes(name: &'static str, cgroup: &'static str, of: fn(&str) -> Option<String>) -> Look {
    let look = move || {
        let pids = fs::read_to_string(format!("{GROUPS}/{cgroup}/cgroup.procs")).unwrap_or_default();
        let mut all: Vec<String> = pids.lines().filter_map(of).collect();
        all.sort();
        all.dedup();
        all.join(" ")
    };
    (name, Box::new(look))
}

fn allowed_cpus(pid: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(line.trim().to_owned())
}

fn command(pid: &str) -> Option<String> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(comm.trim().to_owned()).filter(|comm| comm == "besides")
}

/// Two nodes of one core with two threads each: CPUs 0 and 1, and 2 and 3. The bounds are for the gauntlet, on whose machines it is not run here.
#[ktstr_test(
    numa_nodes = 2,
    llcs = 2,
    cores = 1,
    threads = 2,
    memory_mib = 700,
    duration_s = 100,
    checkpoint = ends,
    seed = 41,
    kaslr = false,
    kargs = ["ktstr_word=of_the_test"],
    allow_splats,
    max_imbalance_ratio = 8,
    sustained_samples = 2,
    requires_smt,
    min_cpus = 8,
    max_cpus = 16,
    min_numa_nodes = 2,
    max_numa_nodes = 2,
    workloads = [Pause],
    check = the_trace_shows_the_fields
)]
fn operations_and_attributes(ctx: &Ctx) -> Result<AssertResult> {
    let mut result = attributes(ctx)?.merge(limits_in_a_body(ctx)?);
    let irq_before = fs::read_to_string(IRQ)?.trim().to_owned();
    // On a host that stops the machine for longer than a state holds it may go unseen: then all is done again, as few times as need be.
    let mut seen: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for _ in 0..TRIES {
        let (ran, looked) = operations(ctx)?;
        result = result.merge(ran);
        seen = looked;
        if unseen(&seen, &irq_before).is_empty() {
            break;
        }
    }
    for (name, expected) in unseen(&seen, &irq_before) {
        let was = seen.get(name).map_or(&[][..], Vec::as_slice);
        result.check(false, format!("{name}: {expected:?} in this order among {was:?}"));
    }
    Ok(result)
}

/// Does the operations one after the other, and looks at what they do.
fn operations(ctx: &Ctx) -> Result<(AssertResult, BTreeMap<&'static str, Vec<String>>)> {
    let spy = Spy::on(vec![
        file("range", "/sys/fs/cgroup/range/cpuset.cpus.effective"),
        file("overlap", "/sys/fs/cgroup/overlap/cpuset.cpus.effective"),
        file("llc", "/sys/fs/cgroup/llc/cpuset.cpus.effective"),
        file("numa", "/sys/fs/cgroup/numa/cpuset.cpus.effective"),
        file("cpus of a", "/sys/fs/cgroup/a/cpuset.cpus"),
        file("cpus of b", "/sys/fs/cgroup/b/cpuset.cpus"),
        file("weight of a", "/sys/fs/cgroup/a/cpu.weight"),
        file("freeze of a", "/sys/fs/cgroup/a/cgroup.freeze"),
        file("io weight", "/sys/fs/cgroup/range/io.weight"),
        file("irq", IRQ),
        file("cpu", "/sys/devices/system/cpu/cpu3/online"),
        state("a", "a"),
        state("c", "c"),
        state("d", "d"),
        state("e", "e"),
        processes("tasks of b", "b", allowed_cpus),
        processes("spawned", "b", command),
        processes("aligned", "aligned", allowed_cpus),
    ]);
    let part = |index| CpusetSpec::Disjoint { index, of: 2 };
    let backdrop = Backdrop::new(vec![
        ctx.cgroup_def("a").cpuset(part(0)),
        ctx.cgroup_def("b").cpuset(part(1)),
        CgroupDef::named("c").workers(0),
    ]);
    let one = |name: &str| CgroupDef::named(name).workers(1).work_type(Bursty::default());
    let there = || vec![Op::freeze("a"), Op::offline(3), Op::add_cgroup(one("e"))];
    let back = || vec![Op::unfreeze("a"), Op::online(3), Op::remove_cgroup("e")];
    let steps = [
        Step::new(
            vec![
                one("range").cpuset(CpusetSpec::Range { start: 1, end: 3 }).io_weight(50),
                one("overlap").cpuset(CpusetSpec::Overlap { index: 0, of: 2, frac: 0.5 }),
                one("llc").cpuset(CpusetSpec::Llc(1)),
                one("numa").cpuset(CpusetSpec::Numa(0)),
                one("aligned").workers(2).affinity(Affinity::LlcAligned),
            ],
            HOLD,
        )
        .named("made"),
        Step::of_ops([Op::set_cpuset("a", CpusetSpec::Llc(1)), Op::set_cpu_weight("a", 300)], HOLD)
            .named("set"),
        Step::of_ops([Op::swap_cpusets("a", "b")], HOLD).named("swapped"),
        Step::of_ops([Op::clear_cpuset("a")], HOLD).named("cleared"),
        // All of it once more, so that it was not the end of the step that undid it.
        Step::of_ops(apart([there(), back(), there()]), HOLD).named("there and back"),
        Step::of_ops([Op::move_tasks("a", "c")], HOLD).named("moved"),
        Step::of_ops([Op::set_affinity("b", Affinity::Exact("3".parse()?))], HOLD).named("bound"),
        Step::of_ops([Op::irq_affinity(9, "2".parse()?)], HOLD).named("irq"),
        Step::of_ops([Op::spawn("b", WorkSpec::new(SpinWait).workers(1).comm("besides"))], HOLD)
            .named("spawned"),
        Step::new(vec![one("d")], HOLD)
            .ops(apart([
                vec![],
                vec![Op::stop_cgroup("d")],
                vec![Op::spawn("d", WorkSpec::new(SpinWait).workers(1))],
            ]))
            .named("stopped"),
        Step::of_ops([Op::capture_snapshot("calm")], HOLD).named("calm"),
        // So many that it is a crowd also beside a CPU on which the spy and the kernel's threads run at that moment.
        Step::new(vec![CgroupDef::named("crowd").workers(48).cpuset(CpusetSpec::Exact("0".parse()?))], HOLD)
            // A CPU that is slow to hear of those that were woken for it has them by then.
            .ops([Op::run_payload(&Pause), Op::wait_payload(&Pause), Op::capture_snapshot("crowded")])
            .named("crowded"),
    ];
    // After each step nothing but the backdrop is there, for as long as a step holds.
    let quiet = |step: Step| [step, Step::of_ops([], HOLD).named("undone")];
    let steps: Vec<Step> = steps.into_iter().flat_map(quiet).collect();
    let steps =
        steps.into_iter().chain([Step::of_ops([Op::capture_snapshot("calm")], HOLD).named("calm again")]);
    let result = execute_scenario(ctx, backdrop, steps.collect())?;
    Ok((result, spy.seen()))
}

/// Operations of one step with a pause before all but the first of them, so that each is looked at.
fn apart(ops: [Vec<Op>; 3]) -> Vec<Op> {
    let pause = [Op::run_payload(&Pause), Op::wait_payload(&Pause)];
    ops.join(&pause[..])
}

/// What of it was not seen, and in which order it should have been.
fn unseen<'a>(
    seen: &BTreeMap<&'static str, Vec<String>>,
    irq_before: &'a str,
) -> Vec<(&'static str, Vec<&'a str>)> {
    let unchanged = [
        ("range", &["1-2"][..]),
        ("overlap", &["0-2"]),
        ("llc", &["2-3"]),
        ("numa", &["0-1"]),
        ("io weight", &["default 50"]),
        ("aligned", &["0-1 2-3"]),
    ];
    let changes = [
        ("cpus of a", &["0-1", "2-3", "0-1", "2-3", "0-1", "", "0-1"][..]),
        ("cpus of b", &["2-3", "0-1", "2-3"]),
        ("weight of a", &["300", "100"]),
        ("freeze of a", &["0", "1", "0", "1", "0"]),
        ("cpu", &["1", "0", "1", "0", "1"]),
        ("irq", &[irq_before, "2", irq_before]),
        ("a", &["used", "empty", "used"]),
        ("c", &["empty", "used", "empty"]),
        ("d", &["gone", "used", "empty", "used", "gone"]),
        ("e", &["gone", "used", "gone", "used", "gone"]),
        ("tasks of b", &["2-3", "3", "2-3"]),
        ("spawned", &["", "besides", ""]),
    ];
    let mut unseen = Vec::new();
    for (name, expected) in unchanged.iter().chain(&changes) {
        if !in_order(seen.get(name).map_or(&[][..], Vec::as_slice), expected) {
            unseen.push((*name, expected.to_vec()));
        }
    }
    unseen
}

/// Whether the texts are among those that were seen, in their order.
fn in_order(seen: &[String], expected: &[&str]) -> bool {
    let mut seen = seen.iter();
    expected.iter().all(|wanted| seen.any(|text| text == wanted))
}

/// What the guest's kernel shows of the test's attributes.
fn attributes(ctx: &Ctx) -> Result<AssertResult> {
    let mut result = AssertResult::pass();
    let cmdline = fs::read_to_string("/proc/cmdline")?;
    for word in ["nokaslr", "ktstr_word=of_the_test"] {
        result.check(cmdline.split_whitespace().any(|have| have == word), format!("{word} in {cmdline}"));
    }
    let symbols = fs::read_to_string("/proc/kallsyms")?;
    // Where the kernel is linked to: `__START_KERNEL` of arch/x86/include/asm/page_types.h.
    result.check(
        symbols.lines().any(|line| line.starts_with("ffffffff81000000 ") && line.ends_with(" _text")),
        "the kernel is not where it was linked to",
    );
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib: Option<u64> = memory.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
    let mib = kib.context("MemTotal of /proc/meminfo")? / 1024;
    result.check((512..=700).contains(&mib), format!("{mib} MiB of memory, of 700"));
    result.check(ctx.seed == 41, format!("the seed is {}", ctx.seed));
    fs::write("/dev/kmsg", "WARNING: CPU: 0 PID: 1 at kernel/sched/ext.c:1 written_by_a_test+0x0/0x10\n")?;
    Ok(result)
}

/// Workers that the body starts by itself: a limit that they keep, and one that nobody does.
fn limits_in_a_body(ctx: &Ctx) -> Result<AssertResult> {
    let cgroup = ctx.cgroups.create("own")?;
    let mut workload = WorkloadHandle::spawn(&[WorkerGroup::new("own", 2, SpinWait)])?;
    for (pid, _) in workload.pids() {
        cgroup.add(pid)?;
    }
    workload.start()?;
    // Until each has run, however late it got a CPU.
    let pids: Vec<String> = workload.pids().map(|(pid, _)| pid.as_raw_pid().to_string()).collect();
    let began = Instant::now();
    while !pids.iter().all(|pid| ran_ns(pid) >= 200_000_000) {
        ensure!(began.elapsed() < Duration::from_secs(60), "they do not run");
        sleep(Duration::from_millis(20));
    }
    let reports: Vec<WorkerReport> = workload.stop_and_collect();
    cgroup.remove()?;
    let broken = Assert::NONE.min_work_rate(1e12).assert_cgroup("own", None, &reports)?;
    let mut result = Assert::NONE.min_work_rate(0.001).assert_cgroup("own", None, &reports)?;
    let is_named = broken.failures().iter().any(|text| text.starts_with("cgroup own: min_work_rate: "));
    result.check(is_named, format!("nobody does as much, and it is not said: {broken:?}"));
    Ok(result)
}

/// How long a process was on a CPU. Source: Documentation/scheduler/sched-stats.rst.
fn ran_ns(pid: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

fn the_trace_shows_the_fields(trace: &Trace, v: &mut Verdict) -> Result<()> {
    claim!(v, trace.manifest()?.test.seed).eq(41);
    claim!(v, trace.checkpoints().len())
        .eq(2)
        .because("memory is kept at the ends, and not at the other captures");
    claim!(v, trace.captures().len()).at_least(5);
    // The one limit over captures is broken by one capture, which is not two in a row.
    trace.tagged("calm").monitor("imbalance_ratio").each(..=8.0, v);
    let crowded = trace.tagged("crowded");
    crowded.monitor("imbalance_ratio").each(8.5.., v);
    crowded.cpu(Cpu(0)).field("nr_running").each(20.., v);
    // As often as all operations were done.
    claim!(v, crowded.len()).between(1, TRIES);
    claim!(v, trace.tagged("calm").len()).eq(2 * crowded.len());
    let workers = trace.workers();
    let crowd = workers.iter().filter(|worker| worker.cgroup == "crowd");
    claim!(
        v,
        crowd.filter(|worker| worker.phase.as_ref().is_some_and(|(_, name)| name == "crowded")).count()
    )
    .eq(48 * crowded.len());
    let all = trace.captures();
    all.workers("cpu_share").each(0.0..=1.1, v);
    let misspelt = all.workers("cpu_shore");
    claim!(v, misspelt.points.len()).eq(workers.len());
    claim!(v, misspelt.usable().count()).eq(0).because("no such thing is reported");
    let ends = all.snapshots().filter(|capture| capture.sample().checkpoint.is_some());
    for capture in ends {
        let of_init = capture.tasks()?.by_pid(1).map(|task| task.comm.clone());
        claim!(v, u8::from(of_init.as_deref() == Some("init")))
            .eq(1)
            .because(format!("{of_init:?} is process 1"));
        let cpus = (0..4).filter(|cpu| capture.rq(Cpu(*cpu)).is_ok()).count();
        claim!(v, cpus).eq(4).because("each CPU has a runqueue");
        let local = capture.dsqs()?.dsqs.iter().filter(|queue| queue.whose.starts_with("local")).count();
        claim!(v, local).eq(4).because("and a local dispatch queue");
        claim!(v, capture.kernel("init_task.pid")?.to_f64()).eq(0.0);
        // A kernel that finds out by itself how fast its clock is may be wrong by any factor on a busy host.
        let cmdline = &trace.manifest()?.kernel.cmdline;
        if let Some(told) = cmdline.split(' ').find_map(|word| word.strip_prefix("tsc_early_khz=")) {
            let told: f64 = told.parse()?;
            claim!(v, capture.kernel("(u32)tsc_khz")?.to_f64()).between(told * 0.99, told * 1.01);
        }
        let said = capture
            .kernel("init_task.pit")
            .map_or_else(|error| error.to_string(), |number| number.to_string());
        claim!(v, u8::from(said.contains("`pid`"))).eq(1).because(said);
        claim!(v, u8::from(capture.scx()?.is_enabled())).eq(0).because("no scheduler is under test");
    }
    Ok(())
}

/// Nothing is booted for that.
#[test]
fn every_bound_of_a_test_skips_the_machines_outside_of_it() {
    for (machine, why) in [
        ("llcs2_cpus4", "4 CPUs, `min_cpus` is 8"),
        ("llcs4_cpus32_smt", "32 CPUs, `max_cpus` is 16"),
        ("llcs1_cpus16_smt", "1 NUMA node, `min_numa_nodes` is 2"),
        ("nodes2_llcs2_cpus8", "no SMT, which the test requires"),
    ] {
        let variant = format!("gauntlet_operations_and_attributes::{machine}");
        let run = fixture(&variant).run();
        assert!(run.status.success(), "{run}");
        assert_eq!(run.report().lines().next(), Some(&*format!("SKIP {variant}: {why}")), "{run}");
        run.assert_replays();
    }
}

declare_scheduler!(ON_PATH, {
    name = "on_path",
    binary = "scx_fields",
    topology = (1, 2, 1, 2),
    kargs = ["ktstr_word=of_the_scheduler"],
    assert = Assert::NONE.min_work_rate(1e12).min_share_pct(100),
});

/// Fails for the limits of its scheduler, and for nothing else: nobody does as much, and of three on two CPUs one gets less than the others.
#[ktstr_test(
    ignore,
    scheduler = ON_PATH,
    threads = 1,
    kargs = ["ktstr_word=of_the_test"],
    duration_s = 1,
    num_snapshots = 2,
    checkpoint = never
)]
fn inherits(ctx: &Ctx) -> Result<AssertResult> {
    let mut result = AssertResult::pass();
    let (cpus, llcs) = (ctx.topo.cpus.to_string(), ctx.topo.llcs.len());
    result.check((&*cpus, llcs) == ("0-1", 2), format!("CPUs {cpus} in {llcs} LLCs"));
    let cmdline = fs::read_to_string("/proc/cmdline")?;
    let words: Vec<&str> =
        cmdline.split_whitespace().filter(|word| word.starts_with("ktstr_word=")).collect();
    result.check(words == ["ktstr_word=of_the_scheduler", "ktstr_word=of_the_test"], cmdline);
    let ops = fs::read_to_string("/sys/kernel/sched_ext/root/ops")?;
    result.check(ops.trim() == "demo", format!("the scheduler that is enabled is {ops}"));
    Ok(result.merge(execute_defs(ctx, vec![CgroupDef::named("cg_0").workers(3)])?))
}

/// The program of scx_demo, as tests build it that declare its source.
fn scx_demo() -> PathBuf {
    let provisioner = Provisioner::open().expect("provisioning");
    let asked = env::var("KTSTR_KERNEL").unwrap_or_else(|_| "latest".to_owned());
    let kernel = provisioner.kernel(&KernelSpec::parse(&asked).expect("a kernel")).expect("the kernel");
    let toolchain = provisioner.toolchain().expect("the toolchain");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("scx_demo");
    let cache = Cache::open().expect("the cache");
    build_c(&sources, "scx_demo", &kernel, &toolchain, &cache).expect("scx_demo")
}

#[test]
fn what_a_scheduler_declares_counts_for_its_tests() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = |name: &str| {
        let path = folder.path().join(name);
        fs::copy(scx_demo(), &path).expect("a copy");
        path
    };
    let (found, given) = (program("scx_fields"), program("scx_given"));
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([folder.path().to_owned()].into_iter().chain(env::split_paths(&path)));
    let path = path.expect("folders");
    for (key, value, binary) in
        [("PATH", path.as_os_str(), &found), ("KTSTR_SCHEDULER", given.as_os_str(), &given)]
    {
        let run = fixture("inherits").env(key, value).run();
        assert!(!run.status.success(), "{run}");
        // Of a failure by the clock of a machine that the host did not run for a while nobody can say whose it is.
        let is_bad = |line: &&str| line.starts_with("FAIL  ") || line.starts_with("????  ");
        let report = run.report();
        let bad: Vec<&str> = report.lines().filter(is_bad).map(|line| line[6..].trim()).collect();
        assert_eq!(bad, ["min_share_pct", "min_work_rate"], "{run}");
        let trace = run.trace();
        let scheduler = trace.manifest().expect("a manifest").scheduler.clone().expect("a scheduler");
        let name = binary.file_name().expect("a name").to_string_lossy();
        assert_eq!((scheduler.name.as_str(), scheduler.binary), ("on_path", name.into_owned()), "{run}");
        // Periodic captures were taken, and no memory was kept with any.
        assert_eq!(trace.periodic().len(), 2, "{run}");
        assert_eq!(trace.checkpoints().len(), 0, "{run}");
        run.assert_replays();
    }
}

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// By itself it would be ejected 8 s after it stopped to dispatch, and a second machine would be looked at then. It stops long after it was
/// attached: until the body begins, which sets the time, the test's program has to reach the guest.
#[ktstr_test(
    ignore,
    scheduler = DEMO,
    cores = 1,
    duration_s = 40,
    checkpoint = ends,
    attached = false,
    watchdog_timeout_s = 2,
    auto_repro = false,
    extra_sched_args = ["--stall-after-ms", "10000", "--timeout-ms", "8000"]
)]
fn stalls_for_two_seconds(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

#[test]
fn the_watchdog_is_the_tests_and_no_second_machine_is_started() {
    let run = fixture("stalls_for_two_seconds").env("KTSTR_AUTO_REPRO", "1").run();
    assert!(!run.status.success(), "{run}");
    let timeout = |kind| run.sample(kind).scx.and_then(|scx| scx.watchdog_timeout_ns);
    assert_eq!(timeout(CaptureKind::Attach), Some(8_000_000_000), "as the scheduler says:\n{run}");
    assert_eq!(timeout(CaptureKind::SchedulerExit), Some(2_000_000_000), "{run}");
    let message =
        run.sample(CaptureKind::SchedulerExit).scx.and_then(|scx| scx.exit_message).unwrap_or_default();
    let waited =
        ["failed to run for ", "failed to check in for "].iter().find_map(|words| message.split_once(words));
    let seconds = waited.and_then(|(_, rest)| rest.trim_end_matches('s').parse::<f64>().ok());
    // By the scheduler's own time it would be 8 s at least; so it may be where the host did not run the machine meanwhile.
    let was_stopped = !run.trace().host_gaps().is_empty();
    let is_in_time = |seconds: f64| seconds >= 2.0 && (seconds < 8.0 || was_stopped);
    assert!(seconds.is_some_and(is_in_time), "{message}\n{run}");
    assert!(run.trace().segments().is_empty(), "a second machine was started:\n{run}");
    run.assert_replays();
}

declare_scheduler!(NEVER_ENABLED, {
    name = "never_enabled",
    source = "scx_demo",
    sched_args = ["--never-load"],
    enable_timeout_s = 2,
});

#[ktstr_test(ignore, scheduler = NEVER_ENABLED, cores = 1, duration_s = 20)]
fn waits_as_long_as_its_scheduler_says(_ctx: &Ctx) -> Result<AssertResult> {
    bail!("it was enabled")
}

#[test]
fn the_scheduler_says_how_long_it_may_take_to_become_enabled() {
    let run = fixture("waits_as_long_as_its_scheduler_says").run();
    assert!(!run.status.success(), "{run}");
    assert!(run.report().contains("never_enabled was not enabled within 2.000s"), "{run}");
}
