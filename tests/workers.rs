//! Workers in a guest: every kind does its work and reports what it is for, and every setting is what the kernel shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_replay::trace::record::{EventBody, WorkerDetail, WorkerReport};

/// Kinds of work that run at the same time.
const AT_ONCE: usize = 8;

/// The step with 64 workers in 8 cgroups.
const MANY: &str = "many";

/// All kinds with their default parameters, a cgroup each, then all settings.
#[ktstr_test(numa_nodes = 2, llcs = 2, cores = 2, duration_s = 16, check = kinds_report_what_they_are_for)]
fn kinds_and_settings(ctx: &Ctx) -> Result<AssertResult> {
    let kinds: Vec<WorkType> = WorkType::defaults();
    let rounds = kinds.chunks(AT_ONCE).map(|kinds| {
        let defs = kinds
            .iter()
            .map(|kind| CgroupDef::named(kind.name()).workers(smallest(kind)).work_type(kind.clone()));
        Step::new(defs.collect(), HoldSpec::Frac(0.15))
    });
    let threads = CgroupDef::named("threads").workers(3).clone_mode(CloneMode::Thread).nice(4);
    let rounds = rounds.chain([Step::new(vec![threads], HoldSpec::Frac(0.1)).named("threads")]);
    let result = execute_steps(ctx, rounds.collect())?;
    let many = (0..8).map(|group| CgroupDef::named(format!("many_{group}")).workers(8));
    let many = Step::new(many.collect(), HoldSpec::Fixed(Duration::from_millis(200))).named(MANY);
    let result = result.merge(execute_steps(ctx, vec![many])?);
    Ok(result.merge(settings(ctx)?))
}

fn smallest(work: &WorkType) -> usize {
    match work.gang() {
        Gang::Alone => 1,
        Gang::Of(size) => size,
        Gang::Group { min } => min + 1,
    }
}

/// Workers with every setting, found by their names in `/proc` while they run.
fn settings(ctx: &Ctx) -> Result<AssertResult> {
    let ms = Duration::from_millis;
    let deadline = SchedPolicy::Deadline { runtime: ms(2), deadline: ms(50), period: ms(100) };
    let rests = || WorkSpec::new(Bursty::default()).workers(1);
    let groups = [
        rests().comm("normal").sched_policy(SchedPolicy::Normal),
        rests().comm("batch").sched_policy(SchedPolicy::Batch),
        rests().comm("idle").sched_policy(SchedPolicy::Idle),
        rests().comm("fifo").sched_policy(SchedPolicy::Fifo(7)),
        rests().comm("rr").sched_policy(SchedPolicy::RoundRobin(8)),
        rests().comm("deadline").sched_policy(deadline),
        rests().comm("ext").sched_policy(SchedPolicy::Ext),
        rests().comm("user").uid(1234).gid(2345).nice(-3),
        rests().comm("memory").mem_policy(MemPolicy::Bind("1".parse()?)),
        rests().comm("cpu").affinity(Affinity::Exact("2".parse()?)),
    ];
    let def = groups.into_iter().fold(CgroupDef::named("settings"), CgroupDef::work);
    let over = AtomicBool::new(false);
    let (result, seen) = scope(|scope| {
        let spy = scope.spawn(|| {
            let mut seen: BTreeMap<String, BTreeSet<Seen>> = BTreeMap::new();
            while !over.load(Ordering::Relaxed) {
                for (name, one) in tasks() {
                    seen.entry(name).or_default().insert(one);
                }
                sleep(Duration::from_millis(20));
            }
            seen
        });
        let result = execute_steps(ctx, vec![Step::new(vec![def], HoldSpec::Frac(0.25)).named("settings")]);
        over.store(true, Ordering::Relaxed);
        (result, spy.join().unwrap_or_default())
    });
    let mut result = result?;
    let mut expect = |name: &str, what: &str, is: &dyn Fn(&Seen) -> bool| {
        let all = seen.get(name).cloned().unwrap_or_default();
        result.check(all.iter().any(is), format!("{name}: never {what}: {all:?}"));
    };
    // Numbers of policies: include/uapi/linux/sched.h.
    for (name, policy) in
        [("normal", 0), ("fifo", 1), ("rr", 2), ("batch", 3), ("idle", 5), ("deadline", 6), ("ext", 7)]
    {
        expect(name, &format!("of policy {policy}"), &|seen| seen.policy == policy);
    }
    expect("fifo", "of priority 7", &|seen| seen.rt_priority == 7);
    expect("rr", "of priority 8", &|seen| seen.rt_priority == 8);
    expect("user", "of nice -3, uid 1234, gid 2345", &|seen| {
        (seen.nice, seen.uid, seen.gid) == (-3, 1234, 2345)
    });
    expect("cpu", "on CPU 2 alone", &|seen| seen.cpus == "2");
    expect("memory", "bound to node 1", &|seen| seen.memory);
    Ok(result)
}

/// What `/proc` says of a task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    policy: u64,
    rt_priority: u64,
    nice: i64,
    uid: u64,
    gid: u64,
    cpus: String,
    /// Some of its memory is bound to node 1.
    memory: bool,
}

/// All tasks, by their names. Those that end meanwhile are left out. Reading where the memory of one is takes long, and is done for the one
/// of which it is asked.
fn tasks() -> Vec<(String, Seen)> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| task(&entry.path())).collect()
}

/// Fields of `stat`: Documentation/filesystems/proc.rst, table 1-4.
fn task(folder: &std::path::Path) -> Option<(String, Seen)> {
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
    let stat = read("stat")?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse().ok();
    let status = read("status")?;
    let line = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_ascii_whitespace().next().map(str::to_owned)
    };
    let seen = Seen {
        policy: number(38)?,
        rt_priority: number(37)?,
        nice: fields.get(16)?.parse().ok()?,
        uid: line("Uid:")?.parse().ok()?,
        gid: line("Gid:")?.parse().ok()?,
        cpus: line("Cpus_allowed_list:")?,
        memory: name == "memory" && read("numa_maps").is_some_and(|text| text.contains("bind:1")),
    };
    Some((name.to_owned(), seen))
}

fn workers(trace: &Trace) -> Vec<(WorkerReport, WorkerDetail)> {
    let mut reports = Vec::new();
    let mut last = None;
    for event in trace.events() {
        match event.body {
            EventBody::Worker(report) => last = Some(report),
            EventBody::WorkerDetail(detail) => {
                reports.extend(
                    last.take().filter(|report| report.pid == detail.pid).map(|report| (report, *detail)),
                );
            }
            _ => {}
        }
    }
    reports
}

/// How long 64 workers take from the begin of their step until all are started is told, for SPECIFICATION.md; it is the host's speed, too.
fn many_workers_report(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let events = trace.events();
    let begin = events
        .iter()
        .position(|event| matches!(&event.body, EventBody::PhaseBegin { name, .. } if name == MANY));
    let (begin, rest) =
        events.split_at(begin.context("the step is not there")?).1.split_first().context("it")?;
    let is_start = |body: &EventBody| matches!(body, EventBody::Op { name, .. } if name == "start");
    let start = rest.iter().find(|event| is_start(&event.body)).context("its workers are not started")?;
    let EventBody::Op { detail, .. } = &start.body else { bail!("another event") };
    v.check("64 workers are started", u64::from(detail == "64 workers")).eq(1).because(detail);
    println!(
        "64 workers in 8 cgroups: {} ms until all are started",
        start.guest_ns.since(begin.guest_ns) / 1_000_000
    );
    Ok(())
}

fn kinds_report_what_they_are_for(trace: &Trace, v: &mut Verdict) -> Result<()> {
    many_workers_report(trace, v)?;
    let workers = workers(trace);
    for group in 0..8 {
        let name = format!("many_{group}");
        let of_group = workers.iter().filter(|(report, _)| report.cgroup == name && report.fault.is_none());
        claim!(v, of_group.count()).eq(8).because(format!("all workers of {name} report"));
    }
    for kind in WorkType::defaults() {
        let of_kind: Vec<_> = workers.iter().filter(|(report, _)| report.cgroup == kind.name()).collect();
        claim!(v, of_kind.len()).eq(smallest(&kind)).because(format!("workers of {kind} that reported"));
        let units: u64 = of_kind.iter().map(|(report, _)| report.work_units).sum();
        claim!(v, units).at_least(1).because(format!("{kind} does its work: {of_kind:?}"));
        let sum =
            |of: fn(&(WorkerReport, WorkerDetail)) -> u64| of_kind.iter().map(|one| of(one)).sum::<u64>();
        match kind.name() {
            "PipeIo" | "FutexPingPong" | "FutexFanOut" | "WakeChain" | "ThunderingHerd" | "EpollStorm"
            | "ProducerConsumer" | "SignalStorm" => {
                claim!(v, sum(|(_, detail)| detail.wakes.total)).at_least(1).because(format!("{kind} wakes"));
                claim!(v, sum(|(_, detail)| detail.voluntary_switches))
                    .at_least(1)
                    .because(format!("{kind} waits"));
            }
            "TimerLatency" | "IdleChurn" | "Bursty" => {
                claim!(v, sum(|(_, detail)| detail.timers.total))
                    .at_least(1)
                    .because(format!("{kind} sleeps"));
            }
            "PageFaultChurn" => {
                claim!(v, sum(|(_, detail)| detail.minor_faults))
                    .at_least(256)
                    .because("a pass faults 256 pages in");
            }
            "AffinityChurn" => {
                claim!(v, sum(|(report, _)| report.migrations))
                    .at_least(1)
                    .because("it goes from CPU to CPU");
                let crossed = sum(|(_, detail)| detail.cross_node_migrations.unwrap_or_default());
                claim!(v, crossed).at_least(1).because("the CPUs are of two nodes");
            }
            "NumaSweep" | "CachePressure" => {
                let pages = sum(|(_, detail)| detail.node_pages.iter().map(|on| on.pages).sum());
                claim!(v, pages).at_least(1).because(format!("{kind} has memory"));
            }
            _ => {}
        }
    }
    let threads: Vec<_> = workers.iter().filter(|(report, _)| report.cgroup == "threads").collect();
    claim!(v, threads.len()).eq(3_usize);
    claim!(v, threads.iter().filter(|(report, detail)| detail.is_thread && report.work_units > 0).count())
        .eq(3_usize);
    for (report, detail) in &workers {
        claim!(v, u8::from(report.fault.is_some())).eq(0).because(format!("{report:?}"));
        claim!(v, detail.wakes.samples_ns.len().max(detail.timers.samples_ns.len())).at_most(512);
    }
    Ok(())
}
