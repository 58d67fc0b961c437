//! Every operation of a scenario, in a guest: it does what it says, and is undone at the end of its step.
//!
//! A thread of the body, which the scenario knows nothing of, reads the kernel's files all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_replay::trace::record::{CaptureKind, EventBody, ScxState, WorkerReport};

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", sched_args = ["--restart"] });
declare_scheduler!(ZOO, { name = "zoo", source = "map_zoo" });

const GROUPS: &str = "/sys/fs/cgroup";
const PID_MAX: &str = "/proc/sys/kernel/pid_max";
const PANIC: &str = "/proc/sys/kernel/panic";
/// The number behind [`PANIC`], by its name in the kernel.
const PANIC_TIMEOUT: &str = "kernel.(int)panic_timeout";
const MADVISE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Reads files again and again, and keeps what each of them ever had.
struct Spy {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<String, BTreeSet<String>>>,
}

impl Spy {
    fn on(files: &[&str]) -> Self {
        let files: Vec<String> = files.iter().map(|&file| file.to_owned()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            while !until.load(Ordering::Relaxed) {
                for file in &files {
                    if let Ok(text) = fs::read_to_string(file) {
                        seen.entry(file.clone()).or_default().insert(text.trim().to_owned());
                    }
                }
                sleep(Duration::from_millis(3));
            }
            seen
        });
        Self { stop, thread }
    }

    fn seen(self) -> BTreeMap<String, BTreeSet<String>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// Two LLCs of one core with two threads each. CPUs 0 and 1 are one core, 2 and 3 the other.
#[ktstr_test(llcs = 2, cores = 1, threads = 2, duration_s = 40, check = events_tell)]
fn operations(ctx: &Ctx) -> Result<AssertResult> {
    // On a host that stops the machine for longer than a step holds what the step does may go unseen: then all is done again.
    let mut result = AssertResult::pass();
    for nth in 1..=TRIES {
        let (ran, unseen) = operations_once(&ctx.part(1.0 / TRIES as f64))?;
        result = result.merge(ran);
        if unseen.is_empty() {
            break;
        }
        for what in unseen {
            result.check(nth < TRIES, what);
        }
    }
    Ok(result)
}

/// How often all operations are done at most.
const TRIES: usize = 3;

/// Does them, and gives what was not seen of it.
fn operations_once(ctx: &Ctx) -> Result<(AssertResult, Vec<String>)> {
    let files = [
        "/sys/devices/system/cpu/cpu1/online",
        PID_MAX,
        MADVISE,
        PANIC,
        "/tmp/written",
        "/sys/fs/cgroup/a/cpuset.cpus",
        "/sys/fs/cgroup/a/cpu.weight",
        "/sys/fs/cgroup/a/cgroup.freeze",
        "/sys/fs/cgroup/b/cpuset.cpus",
        "/sys/fs/cgroup/limited/cpu.max",
        "/sys/fs/cgroup/limited/memory.max",
        "/sys/fs/cgroup/limited/memory.high",
        "/sys/fs/cgroup/limited/pids.max",
        "/sys/fs/cgroup/limited/cpuset.mems",
        "/sys/fs/cgroup/outer/inner/cgroup.procs",
    ];
    let before = fs::read_to_string(PID_MAX)?;
    let before_panic = fs::read_to_string(PANIC)?;
    let before_madvise = fs::read_to_string(MADVISE)?;
    let irqs = fs::read_to_string("/proc/irq/9/smp_affinity_list")?;
    let spy = Spy::on(&files);
    let hold = HoldSpec::Frac(0.08);
    let part = |index| CpusetSpec::Disjoint { index, of: 2 };
    let backdrop =
        Backdrop::new(vec![ctx.cgroup_def("a").cpuset(part(0)), ctx.cgroup_def("b").cpuset(part(1))]);
    let limited = CgroupDef::named("limited")
        .workers(1)
        .cpu_quota_pct(150.0)
        .memory_max(256 << 20)
        .memory_high(128 << 20)
        .pids_max(100)
        .cpuset_mems("0".parse()?);
    let inner = CgroupDef::named("outer/inner").workers(1).cpu_weight(50);
    let pinned = CgroupDef::named("pinned").workers(4).affinity(Affinity::SingleCpu);
    let pairs = CgroupDef::named("pairs").workers(2).affinity(Affinity::SmtSiblingPair);
    let steps = vec![
        Step::new(vec![limited, CgroupDef::named("outer").workers(0), inner, pinned, pairs], hold)
            .named("made"),
        Step::of_ops([Op::swap_cpusets("a", "b")], hold).named("swapped"),
        Step::of_ops([Op::clear_cpuset("a"), Op::set_cpu_weight("a", 300)], hold).named("cleared"),
        Step::of_ops([Op::freeze("a"), Op::capture_snapshot("frozen")], hold).named("frozen"),
        Step::of_ops([Op::offline(1), Op::capture_snapshot("offline")], hold).named("offline"),
        Step::of_ops(
            [
                Op::sysctl("kernel.pid_max", "30000"),
                Op::write_file(MADVISE, "never"),
                Op::write_file("/tmp/written", "text"),
                Op::irq_affinity(9, "2".parse()?),
                Op::write_kernel(PANIC_TIMEOUT, 77),
                Op::read_kernel(PANIC_TIMEOUT),
            ],
            hold,
        )
        .named("files"),
        Step::new(vec![CgroupDef::named("c").workers(0)], hold)
            .ops([Op::move_tasks("a", "c"), Op::set_affinity("b", Affinity::Exact("3".parse()?))])
            .named("moved"),
        Step::new(vec![CgroupDef::named("d").workers(1)], hold)
            .ops([
                Op::spawn("b", WorkSpec::new(WorkType::default()).workers(1).comm("besides")),
                Op::stop_cgroup("d"),
                Op::add_cgroup(CgroupDef::named("e").workers(1)),
                Op::remove_cgroup("e"),
            ])
            .named("spawned"),
        Step::of_ops(
            [Op::offline(3), Op::online(3)],
            HoldSpec::Loop { interval: Duration::from_millis(300) },
        )
        .named("looped"),
    ];
    let mut result = execute_scenario(ctx, backdrop, steps)?;
    let seen = spy.seen();
    let had = |file: &str| seen.get(file).cloned().unwrap_or_default();
    let mut unseen = Vec::new();
    for (file, text) in [
        ("/sys/devices/system/cpu/cpu1/online", "0"),
        (PID_MAX, "30000"),
        (MADVISE, "always madvise [never]"),
        (PANIC, "77"),
        ("/tmp/written", "text"),
        ("/sys/fs/cgroup/a/cpuset.cpus", "0-1"),
        ("/sys/fs/cgroup/a/cpuset.cpus", "2-3"),
        ("/sys/fs/cgroup/a/cpuset.cpus", ""),
        ("/sys/fs/cgroup/b/cpuset.cpus", "0-1"),
        ("/sys/fs/cgroup/a/cpu.weight", "300"),
        ("/sys/fs/cgroup/a/cgroup.freeze", "1"),
        ("/sys/fs/cgroup/limited/cpu.max", "150000 100000"),
        ("/sys/fs/cgroup/limited/memory.max", "268435456"),
        ("/sys/fs/cgroup/limited/memory.high", "134217728"),
        ("/sys/fs/cgroup/limited/pids.max", "100"),
        ("/sys/fs/cgroup/limited/cpuset.mems", "0"),
    ] {
        if !had(file).contains(text) {
            unseen.push(format!("{file} never had `{text}`: {:?}", had(file)));
        }
    }
    if had("/sys/fs/cgroup/outer/inner/cgroup.procs").is_empty() {
        unseen.push("the inner cgroup was never there".to_owned());
    }
    result.check(fs::read_to_string(PID_MAX)? == before, "pid_max is as before");
    result
        .check(fs::read_to_string(PANIC)? == before_panic, "the number in the kernel's memory is as before");
    let is = ctx.read_kernel(PANIC_TIMEOUT)?;
    result.check(before_panic.trim() == is.to_string(), format!("it is read as {is}, and is {before_panic}"));
    for (target, value, why) in [
        (PANIC_TIMEOUT, 1_i64 << 40, "a signed number of 4 bytes, -2147483648 to 2147483647"),
        ("kernel.(int)panic_timeoot", 1, "panic_timeout"),
    ] {
        let said =
            ctx.write_kernel(target, value).map_or_else(|error| error.to_string(), |_| "done".to_owned());
        result.check(said.contains(why), format!("{target} was set to {value}: {said}"));
    }
    result.check(fs::read_to_string(MADVISE)? == before_madvise, "transparent_hugepage is as before");
    result.check(fs::read_to_string("/proc/irq/9/smp_affinity_list")? == irqs, "the interrupt is as before");
    result
        .check(fs::read_to_string("/sys/devices/system/cpu/online")?.trim() == "0-3", "all CPUs are online");
    result.check(fs::metadata("/tmp/written").is_err(), "the file that was written is gone");
    let left: Vec<_> = fs::read_dir(GROUPS)?.flatten().filter(|entry| entry.path().is_dir()).collect();
    result.check(left.is_empty(), format!("cgroups are left: {left:?}"));
    Ok((result, unseen))
}

fn reports(trace: &Trace) -> Vec<WorkerReport> {
    let reports = trace.events().into_iter().filter_map(|event| match event.body {
        EventBody::Worker(report) => Some(report),
        _ => None,
    });
    reports.collect()
}

/// What was done is told by events, and the workers ran where they were to run.
fn events_tell(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let mut phase = String::new();
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in trace.events() {
        match event.body {
            EventBody::PhaseBegin { name, .. } => phase = name,
            EventBody::Op { name, detail } => {
                told.entry(phase.clone()).or_default().push(format!("{name} {detail}"));
            }
            _ => {}
        }
    }
    for (phase, op) in [
        ("made", "set_affinity pinned: 0 | 1 | 2 | 3"),
        ("made", "set_affinity pairs: 0-1 | 2-3"),
        ("swapped", "set_cpuset a: 2-3"),
        ("swapped", "set_cpuset b: 0-1"),
        ("swapped", "set_cpuset a: 0-1"),
        ("cleared", "clear_cpuset a"),
        ("cleared", "set_cpu_weight a: 300"),
        ("frozen", "unfreeze a"),
        ("offline", "offline 1"),
        ("offline", "online 1"),
        ("files", "irq_affinity 9: 2"),
        ("files", "read_kernel kernel.(int)panic_timeout: 77"),
        ("moved", "move_tasks 2 from a to c"),
        ("moved", "move_tasks back to a"),
        ("moved", "set_affinity b: 3"),
        ("spawned", "spawn b: 1 SpinWait"),
        ("spawned", "stop d"),
        ("spawned", "remove_cgroup e"),
    ] {
        let ops = told.get(phase).map_or(&[][..], Vec::as_slice);
        claim!(v, ops.iter().filter(|told| *told == op).count())
            .at_least(1)
            .because(format!("{phase}: {op} in {ops:?}"));
    }
    let rounds = told.get("looped").into_iter().flatten().filter(|op| *op == "offline 3").count();
    claim!(v, rounds).at_least(2).because("a loop does its operations again");
    let reports = reports(trace);
    // All is done again where something of it went unseen.
    let times = reports.iter().filter(|report| report.cgroup == "limited").count();
    claim!(v, times).between(1, TRIES).because("the worker of `limited` reports each time");
    for (nth, report) in reports.iter().filter(|report| report.cgroup == "pinned").enumerate() {
        let cpu = nth % 4;
        let used: Vec<u32> = report.cpus_used.iter().map(|cpu| cpu.0).collect();
        claim!(v, u8::from(used == [cpu as u32]))
            .eq(1)
            .because(format!("pinned worker {cpu} ran on {used:?}"));
    }
    let count = |cgroup: &str| reports.iter().filter(|report| report.cgroup == cgroup).count();
    let expected = [
        ("a", 2),
        ("b", 3),
        ("pinned", 4),
        ("pairs", 2),
        ("limited", 1),
        ("outer/inner", 1),
        ("d", 1),
        ("e", 1),
    ];
    for (cgroup, workers) in expected {
        claim!(v, count(cgroup)).eq(workers * times).because(format!("workers of {cgroup} that reported"));
    }
    for report in reports {
        claim!(v, report.work_units)
            .at_least(u64::from(report.cgroup != "e" && report.cgroup != "d"))
            .because(format!("{report:?}"));
    }
    Ok(())
}

/// The time of sched_ext's watchdog, as operations name it.
const WATCHDOG: &str = "scx.watchdog_timeout_ms";

/// The scheduler is detached, started again, replaced by another one, and restarts at the loss of a CPU; at the end of each step it is
/// there again.
#[ktstr_test(
    scheduler = DEMO,
    staged_schedulers = [ZOO, FROM_FILE],
    duration_s = 12,
    num_snapshots = 12,
    checkpoint = ends,
    allow_restarts,
    watchdog_timeout_s = 9,
    check = schedulers_come_and_go
)]
fn schedulers(ctx: &Ctx) -> Result<AssertResult> {
    let spy = Spy::on(&["/sys/kernel/sched_ext/state", "/sys/kernel/sched_ext/root/ops"]);
    let hold = HoldSpec::Frac(0.14);
    let steps = vec![
        Step::of_ops([Op::write_kernel(WATCHDOG, 7000), Op::capture_snapshot("written")], hold)
            .named("before"),
        Step::of_ops(
            [Op::read_kernel(WATCHDOG), Op::detach_scheduler(), Op::capture_snapshot("detached")],
            hold,
        )
        .named("detached"),
        Step::of_ops(
            [Op::capture_snapshot("enabled"), Op::restart_scheduler(), Op::capture_snapshot("restarted")],
            hold,
        )
        .named("restarted"),
        Step::of_ops([Op::replace_scheduler(&ZOO), Op::capture_snapshot("replaced")], hold).named("replaced"),
        Step::of_ops([Op::replace_scheduler(&FROM_FILE), Op::capture_snapshot("configured")], hold)
            .named("configured"),
        Step::of_ops([Op::offline(1)], hold).named("hotplug"),
        Step::of_ops(
            [Op::detach_scheduler(), Op::attach_scheduler(), Op::capture_snapshot("attached")],
            hold,
        )
        .named("attached"),
    ];
    let mut result = execute_scenario(ctx, Backdrop::new(vec![ctx.cgroup_def("cg_0")]), steps)?;
    let seen = spy.seen();
    let had = |file: &str, text: &str| seen.get(file).is_some_and(|texts| texts.contains(text));
    result.check(had("/sys/kernel/sched_ext/state", "disabled"), "the scheduler was never detached");
    for ops in ["demo", "zoo"] {
        result.check(had("/sys/kernel/sched_ext/root/ops", ops), format!("{ops} was never attached"));
    }
    let now = fs::read_to_string("/sys/kernel/sched_ext/root/ops")?;
    result.check(now.trim() == "demo", format!("at the end it is {now}"));
    Ok(result)
}

fn schedulers_come_and_go(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let samples = trace.samples().collect::<Result<Vec<_>, _>>()?;
    let scx = |tag: &str| {
        let sample = samples.iter().find(|sample| sample.tag == tag);
        let scx = sample.and_then(|sample| sample.scx.clone());
        scx.with_context(|| format!("no state of sched_ext in {tag}"))
    };
    let (detached, enabled, restarted, replaced, attached, end) = (
        scx("detached")?,
        scx("enabled")?,
        scx("restarted")?,
        scx("replaced")?,
        scx("attached")?,
        scx("end")?,
    );
    claim!(v, u8::from(detached.is_enabled())).eq(0).because("nothing is attached while it is detached");
    let seq = |scx: &ScxState| scx.enable_seq.context("the kernel counts enablings");
    claim!(v, seq(&restarted)?).gt(seq(&enabled)?).because("a restart enables anew");
    claim!(v, u8::from(attached.is_enabled())).eq(1).because("it is attached before the step's end");
    claim!(v, u8::from(replaced.ops_name.as_deref() == Some("zoo")))
        .eq(1)
        .because(format!("{:?}", replaced.ops_name));
    claim!(v, u8::from(end.ops_name.as_deref() == Some("demo"))).eq(1).because(format!("{:?}", end.ops_name));
    let written = scx("written")?.watchdog_timeout_ns.context("the kernel has a watchdog")?;
    claim!(v, written).eq(7_000_000_000_u64).because("a step may set the watchdog, too");
    let read: Vec<String> = trace
        .events()
        .into_iter()
        .filter_map(|event| match event.body {
            EventBody::Op { name, detail } if name == "read_kernel" => Some(detail),
            _ => None,
        })
        .collect();
    claim!(v, u8::from(read == [format!("{WATCHDOG}: 9000")])).eq(1).because(format!("undone: {read:?}"));
    // Each of those that the test has attached has the watchdog that the test says.
    for (tag, scx) in [("restarted", &restarted), ("replaced", &replaced), ("end", &end)] {
        claim!(v, scx.watchdog_timeout_ns.unwrap_or_default()).eq(9_000_000_000_u64).because(tag);
    }
    trace
        .tagged("configured")
        .var("slice_ns")
        .each(9_000_000..=9_000_000, v)
        .because("it has its own `config_file`");
    trace
        .tagged("restarted")
        .var("slice_ns")
        .each(20_000_000..=20_000_000, v)
        .because("the first one has none");
    // Exits that nobody ordered: the loss of a CPU and its return, of which one may be over before it is noticed.
    let exits = samples.iter().filter(|sample| sample.kind == CaptureKind::SchedulerExit).count();
    // One that is not noticed within the time of a host's gap is over before, too; and a gap can bring about one by the watchdog.
    let bounds = if trace.host_gaps().is_empty() { (1, 2) } else { (0, 3) };
    claim!(v, exits).between(bounds.0, bounds.1).because("what the test orders is no exit");
    Ok(())
}

/// The scenarios that come with ktstr, one after the other.
#[ktstr_test(llcs = 2, cores = 1, threads = 2, duration_s = 7, check = each_did_what_it_says)]
fn canned_under_the_kernels_own(ctx: &Ctx) -> Result<AssertResult> {
    all_canned(ctx)
}

#[ktstr_test(scheduler = DEMO, cores = 4, duration_s = 7, checkpoint = ends, claims = ["always(alive)"], check = every_worker_worked)]
fn canned_under_demo(ctx: &Ctx) -> Result<AssertResult> {
    all_canned(ctx)
}

fn all_canned(ctx: &Ctx) -> Result<AssertResult> {
    let part = 1.0 / scenarios::ALL.len() as f64;
    let mut all = AssertResult::pass();
    for (name, scenario) in scenarios::ALL {
        all = all.merge(scenario(&ctx.part(part)).context(name)?);
    }
    Ok(all)
}

/// What each of them does that the others do not, in their order, on two LLCs of one core with two threads each: phases, and operations, of
/// which those that end with a star have any detail.
const DONE: [&str; 35] = [
    // steady, and steady_llc
    "spawn cg_1: 2 SpinWait",
    "set_cpuset cg_0: 0-1",
    "set_cpuset cg_1: 2-3",
    // oversubscribed
    "spawn cg_0: 8 SpinWait",
    "spawn cg_1: 8 SpinWait",
    // cpuset_apply, cpuset_clear, cpuset_resize
    "begin anywhere",
    "begin apart",
    "set_cpuset cg_0: 0-1",
    "set_cpuset cg_1: 2-3",
    "end",
    "begin apart",
    "begin anywhere",
    "clear_cpuset cg_0",
    "clear_cpuset cg_1",
    "set_cpuset cg_0: 0-3",
    "set_cpuset cg_0: 0",
    // cgroup_add, cgroup_remove
    "begin two",
    "add_cgroup cg_1",
    "end",
    "begin two",
    "begin one",
    "stop cg_1",
    // affinity_change, affinity_pinned
    "spawn cg_0: 4 SpinWait",
    "set_affinity cg_0: 0 | 1 | 2 | 3",
    "begin random",
    "set_affinity cg_0: *",
    "spawn cg_0: 8 SpinWait",
    "set_affinity cg_0: 0 | 1 | 2 | 3 | 0 | 1 | 2 | 3",
    // host_contention, mixed_workloads
    "set_cpu_weight host: 1000",
    "spawn host: 4 SpinWait",
    "spawn bursts: 2 Bursty",
    "spawn pipes: 2 PipeIo",
    // nested_steady, nested_task_move
    "spawn outer/inner_1: 2 SpinWait",
    "move_tasks 2 from outer/inner_0 to outer/inner_1",
    "move_tasks 4 from outer/inner_1 to outer/inner_0",
];

fn each_did_what_it_says(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let told: Vec<String> = trace
        .events()
        .into_iter()
        .filter_map(|event| match event.body {
            EventBody::PhaseBegin { name, .. } => Some(format!("begin {name}")),
            EventBody::PhaseEnd { .. } => Some("end".to_owned()),
            EventBody::Op { name, detail } => Some(format!("{name} {detail}")),
            _ => None,
        })
        .collect();
    let mut rest = told.iter();
    for (nth, done) in DONE.iter().enumerate() {
        let is_it = |line: &String| match done.strip_suffix('*') {
            Some(begin) => line.starts_with(begin),
            None => line == done,
        };
        ensure!(rest.any(is_it), "number {nth}, `{done}`, is not behind those before it: {told:#?}");
    }
    every_worker_worked(trace, v)
}

/// Nothing is starved so long that it did nothing at all. Of one that lives for less time than a host may stop a CPU of the machine for
/// without a word, and of few where it has stopped it, that cannot be asked.
fn every_worker_worked(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let reports = reports(trace);
    claim!(v, reports.len()).at_least(60);
    let was_stopped = !trace.host_gaps().is_empty();
    let mut excused = 0_usize;
    for report in &reports {
        if report.work_units == 0 && (was_stopped || report.wall_ns < STOPPED_NS) {
            excused += 1;
            continue;
        }
        claim!(v, report.work_units).at_least(1).because(format!("{report:?}"));
    }
    claim!(v, excused).at_most(reports.len() / 20).because("those that did nothing for want of time");
    Ok(())
}

/// For how long a host may stop a machine before it is told of.
const STOPPED_NS: u64 = 300_000_000;

declare_scheduler!(CONFIGURED, {
    name = "configured",
    source = "scx_demo",
    sysctls = ["kernel.sched_rr_timeslice_ms = 70"],
    config_file_def = ("--config {file}", "/etc/demo/slice"),
    cgroup_parent = "workload.slice/tests",
});
declare_scheduler!(FROM_FILE, { name = "from_file", source = "scx_demo", config_file = "fixtures/slice.conf" });

/// Configuration as text, kernel parameters of the scheduler and of the test, cgroups where the scheduler wants them.
#[ktstr_test(
    scheduler = CONFIGURED,
    cores = 1,
    config = "slice-us 7000\n",
    sysctls = ["kernel.pid_max=30000"],
    duration_s = 1,
    checkpoint = never,
    claims = ["final(slice_ns == 7000000)"]
)]
fn configured_by_the_test(ctx: &Ctx) -> Result<AssertResult> {
    let parent = format!("{GROUPS}/workload.slice/tests");
    let (of_test, elsewhere) = (format!("{parent}/cg_0/cpu.weight"), format!("{GROUPS}/cg_0/cpu.weight"));
    let spy = Spy::on(&[&of_test, &elsewhere]);
    // The weight takes a controller, which has to be enabled all the way down.
    let mut result = execute_defs(ctx, vec![ctx.cgroup_def("cg_0").cpu_weight(300)])?;
    let seen = spy.seen();
    let weights = seen.get(&of_test).cloned().unwrap_or_default();
    result.check(weights.contains("300"), format!("cg_0 is not in {parent}: {seen:?}"));
    result.check(!seen.contains_key(&elsewhere), "cg_0 is in the root, too".to_owned());
    for (name, value) in [("sched_rr_timeslice_ms", "70"), ("pid_max", "30000")] {
        let is = fs::read_to_string(format!("/proc/sys/kernel/{name}"))?;
        result.check(is.trim() == value, format!("{name} is {is}"));
    }
    Ok(result)
}

#[ktstr_test(
    scheduler = FROM_FILE,
    cores = 1,
    duration_s = 1,
    checkpoint = never,
    claims = ["final(slice_ns == 9000000)"]
)]
fn configured_by_a_file(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}
