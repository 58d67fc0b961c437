//! Workers in a guest: every kind does its work and reports what it is for, and every setting is what the kernel shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_replay::trace::record::{EventBody, WorkerDetail, WorkerReport};
use rustix::thread::{CpuSet as KernelSet, sched_setaffinity};

/// Kinds of work that run at the same time.
const AT_ONCE: usize = 8;
/// The `seed` of the test.
const SEED: u64 = 7;

/// Steps in which kinds are looked at again at most, and what the names of their cgroups end with then.
const AGAIN: usize = 6;
const ANEW: &str = "_anew";

/// The step with 64 workers in 8 cgroups.
const MANY: &str = "many";

/// All kinds with their default parameters, a cgroup each, then some with a CPU to themselves, then all settings. CPUs 0 and 1 are of one
/// node, 2 and 3 of the other. Without that sysctl the kernel does not count yields.
#[ktstr_test(
    numa_nodes = 2,
    llcs = 2,
    cores = 2,
    duration_s = 30,
    seed = 7,
    sysctls = ["kernel.sched_schedstats=1"],
    check = kinds_report_what_they_are_for
)]
fn kinds_and_settings(ctx: &Ctx) -> Result<AssertResult> {
    let kinds: Vec<WorkType> = WorkType::defaults();
    let rounds = kinds.chunks(AT_ONCE).map(|kinds| {
        let defs = kinds
            .iter()
            .map(|kind| CgroupDef::named(kind.name()).workers(smallest(kind)).work_type(kind.clone()));
        Step::new(defs.collect(), HoldSpec::Frac(0.1))
    });
    let threads = CgroupDef::named("threads").workers(3).clone_mode(CloneMode::Thread).nice(4);
    let rounds = rounds.chain([Step::new(vec![threads], HoldSpec::Frac(0.05)).named("threads")]);
    let (result, mut seen) = watched(&[], || execute_steps(ctx, rounds.collect()));
    let mut result = result?;
    // What comes and goes is met by chance, and seldom where the spy has to wait for a CPU: it is looked for again, among fewer.
    for _ in 0..AGAIN {
        let missing: Vec<WorkType> =
            WorkType::defaults().into_iter().filter(|kind| !shows(kind, &seen).1).collect();
        if missing.is_empty() {
            break;
        }
        let defs = missing.iter().map(|kind| {
            CgroupDef::named(format!("{}{ANEW}", kind.name())).workers(smallest(kind)).work_type(kind.clone())
        });
        let again = Step::new(defs.collect(), HoldSpec::Fixed(Duration::from_secs(1))).named("again");
        let (more, also) = watched(&[], || execute_steps(ctx, vec![again]));
        result = result.merge(more?);
        also.into_iter().for_each(|(name, behaviour)| seen.entry(name).or_default().add(behaviour));
    }
    for kind in WorkType::defaults() {
        let (what, holds) = shows(&kind, &seen);
        result.check(holds, format!("{kind}: {what}: {:?}", seen.get(kind.name())));
    }
    let many = (0..8).map(|group| CgroupDef::named(format!("many_{group}")).workers(8));
    let many = Step::new(many.collect(), HoldSpec::Fixed(Duration::from_millis(200))).named(MANY);
    let result = result.merge(execute_steps(ctx, vec![many])?);
    let on_cpus = pinned(ctx)?;
    // What a host may have kept a CPU from is done once more.
    let on_cpus = if on_cpus.passed() { on_cpus } else { pinned(ctx)? };
    Ok(result.merge(on_cpus).merge(settings(ctx)?))
}

/// What the kernel showed of a cgroup's workers while they ran.
#[derive(Debug, Default)]
struct Behaviour {
    pids: BTreeSet<String>,
    /// The cgroup, and those below it in which they were.
    folders: BTreeSet<String>,
    policies: BTreeSet<u64>,
    rt_priorities: BTreeSet<u64>,
    nices: BTreeSet<i64>,
    cpus: BTreeSet<String>,
    /// System calls in which they slept; of futex(2) the operation besides.
    sleeps: BTreeSet<(u64, u64)>,
    /// Page faults of children that one of them has reaped.
    child_faults: u64,
    read_bytes: u64,
    written_bytes: u64,
    /// Policies of its memory, of NumaSweep alone.
    memory: BTreeSet<&'static str>,
}

impl Behaviour {
    fn add(&mut self, other: Self) {
        self.pids.extend(other.pids);
        self.folders.extend(other.folders);
        self.policies.extend(other.policies);
        self.rt_priorities.extend(other.rt_priorities);
        self.nices.extend(other.nices);
        self.cpus.extend(other.cpus);
        self.sleeps.extend(other.sleeps);
        self.child_faults = self.child_faults.max(other.child_faults);
        self.read_bytes = self.read_bytes.max(other.read_bytes);
        self.written_bytes = self.written_bytes.max(other.written_bytes);
        self.memory.extend(other.memory);
    }
}

/// Runs `work`, and looks meanwhile at every process in a cgroup, from these CPUs; none: from whichever there are.
fn watched<R>(from: &[usize], work: impl FnOnce() -> R) -> (R, BTreeMap<String, Behaviour>) {
    let over = AtomicBool::new(false);
    scope(|scope| {
        let spy = scope.spawn(|| {
            if !from.is_empty() {
                let mut cpus = KernelSet::new();
                from.iter().for_each(|cpu| cpus.set(*cpu));
                sched_setaffinity(None, &cpus).expect("the CPUs of the spy");
            }
            let mut seen = BTreeMap::new();
            while !over.load(Ordering::Relaxed) {
                for folder in folders(Path::new("/sys/fs/cgroup")) {
                    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    let of_it: &mut Behaviour =
                        seen.entry(name.trim_end_matches(ANEW).to_owned()).or_default();
                    look(&folder, of_it);
                    folders(&folder).iter().for_each(|below| look(below, of_it));
                }
                sleep(Duration::from_millis(5));
            }
            seen
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        (done, spy.join().unwrap_or_default())
    })
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn look(cgroup: &Path, seen: &mut Behaviour) {
    let pids = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines() {
        let Some((_, task)) = task(&Path::new("/proc").join(pid)) else { continue };
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        seen.pids.insert(pid.to_owned());
        seen.folders.insert(cgroup.display().to_string().replace(ANEW, ""));
        seen.policies.insert(task.policy);
        seen.rt_priorities.insert(task.rt_priority);
        seen.nices.insert(task.nice);
        seen.cpus.insert(task.cpus);
        seen.child_faults = seen.child_faults.max(task.child_faults);
        seen.sleeps.extend(slept_in(&read("syscall")));
        let io = read("io");
        let bytes = |key: &str| io.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        seen.read_bytes = seen.read_bytes.max(bytes("rchar:").unwrap_or_default());
        seen.written_bytes = seen.written_bytes.max(bytes("wchar:").unwrap_or_default());
        if cgroup.to_string_lossy().contains("NumaSweep") {
            seen.memory.extend(memory_policies(&read("numa_maps")));
        }
    }
}

/// The system call in which a process sleeps, and of futex(2) the operation. Source: `proc_pid_syscall(5)`.
fn slept_in(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let operation = u64::from_str_radix(words.nth(1)?.strip_prefix("0x")?, 16).ok()?;
    // FUTEX_CMD_MASK of include/uapi/linux/futex.h.
    Some((number, if number == FUTEX { operation & 0x7f } else { 0 }))
}

/// Numbers of system calls: arch/x86/entry/syscalls/syscall_64.tbl.
const READ: u64 = 0;
const WAIT4: u64 = 61;
const RT_SIGTIMEDWAIT: u64 = 128;
const FUTEX: u64 = 202;
const CLOCK_NANOSLEEP: u64 = 230;
const EPOLL_WAITS: [u64; 3] = [232, 281, 441];
/// `FUTEX_LOCK_PI` and `FUTEX_LOCK_PI2` of include/uapi/linux/futex.h.
const LOCK_PI: [u64; 2] = [6, 13];
/// Policies of include/uapi/linux/sched.h.
const FIFO: u64 = 1;

/// What the policies of memory are called: `mempolicy_to_str` of mm/mempolicy.c.
const MEMORY_POLICIES: [&str; 8] = [
    "default",
    "local",
    "bind:0",
    "bind:1",
    "prefer:1",
    "prefer (many):0-1",
    "interleave:0-1",
    "weighted interleave:0-1",
];

/// Those of them that are in a text of `/proc/PID/numa_maps`.
fn memory_policies(text: &str) -> Vec<&'static str> {
    let is_of = |line: &str, policy: &str| {
        let rest = line.split_once(' ').and_then(|(_, rest)| rest.strip_prefix(policy));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let has = |policy: &&str| text.lines().any(|line| is_of(line, policy));
    MEMORY_POLICIES.into_iter().filter(has).collect()
}

/// What a kind does to the kernel, and whether it was seen to.
fn shows(kind: &WorkType, seen: &BTreeMap<String, Behaviour>) -> (&'static str, bool) {
    let nothing = Behaviour::default();
    let is = seen.get(kind.name()).unwrap_or(&nothing);
    let sleeps_in = |numbers: &[u64]| is.sleeps.iter().any(|(number, _)| numbers.contains(number));
    match kind.name() {
        "PipeIo" => ("sleeps in read", sleeps_in(&[READ])),
        "FutexPingPong" | "FutexFanOut" | "WakeChain" | "ThunderingHerd" | "ProducerConsumer"
        | "MutexContention" => ("sleeps in futex", sleeps_in(&[FUTEX])),
        "EpollStorm" => ("sleeps in epoll_wait", sleeps_in(&EPOLL_WAITS)),
        "SignalStorm" => ("sleeps in rt_sigtimedwait", sleeps_in(&[RT_SIGTIMEDWAIT])),
        "TimerLatency" => ("sleeps in clock_nanosleep", sleeps_in(&[CLOCK_NANOSLEEP])),
        "ForkExit" => {
            ("reaps children that ran", is.child_faults > 0 && (is.pids.len() > 2 || sleeps_in(&[WAIT4])))
        }
        "NiceSweep" => ("has many nice values", is.nices.len() >= 4),
        "AffinityChurn" => ("may use one CPU, then another", is.cpus.len() >= 3),
        // With a real-time policy it is done before the spy has a turn; that the kernel had each is what its units count.
        "PolicyChurn" => ("has several policies", is.policies.len() >= 2),
        "CgroupChurn" => ("is in two cgroups below its own", is.folders.len() >= 3),
        "NumaSweep" => {
            ("has its memory on each node", ["bind:0", "bind:1"].iter().all(|on| is.memory.contains(on)))
        }
        "PriorityInversion" => ("has three weights", [19, 0, -20].iter().all(|nice| is.nices.contains(nice))),
        "PreemptStorm" | "RtStarvation" => {
            ("is of two classes", is.policies.contains(&FIFO) && is.policies.contains(&0))
        }
        "IoSyncWrite" => ("writes more than a few blocks", is.written_bytes >= 1 << 20),
        "IoRandRead" => ("reads more than its file once", is.read_bytes >= 2 << 20),
        // What they do is in their reports, or counted by the CPU that they have to themselves in `pinned`.
        _ => ("was there", !is.pids.is_empty()),
    }
}

/// Kinds with a CPU to themselves, of which the kernel counts what happens on it, and kinds with parameters.
fn pinned(ctx: &Ctx) -> Result<AssertResult> {
    fn odd(worker: &mut Worker<'_>) -> std::io::Result<()> {
        while worker.turn(worker.group_size() as u64) {
            if worker.index() == 0 {
                worker.compute(Duration::from_millis(1));
                worker.note_wake(worker.now_ns() - 1_000_000);
            } else {
                worker.note_timer(worker.now_ns() - 2_000_000);
                worker.rest(Duration::from_millis(1));
            }
        }
        Ok(())
    }
    let on =
        |name: &str, cpu: u32| CgroupDef::named(name).cpuset(CpusetSpec::Exact([cpu].into_iter().collect()));
    let policies = vec![SchedPolicy::Normal, SchedPolicy::Batch];
    let sequence = Sequence(vec![
        (NiceSweep { from: 3, to: 5, rounds: 4096 }.into(), Duration::from_millis(40)),
        (PolicyChurn { policies, rounds: 4096 }.into(), Duration::from_millis(40)),
    ]);
    let inversion = PriorityInversion {
        hold: Duration::from_millis(30),
        realtime: true,
        inherit: true,
        ..PriorityInversion::default()
    };
    let defs = vec![
        on("yields", 0).workers(1).work_type(YieldHeavy::default()),
        on("mixed", 1).workers(1).work_type(Mixed::default()),
        on("cache", 2).workers(1).work_type(CacheYield::default()),
        on("spins", 3).workers(1).work_type(SpinWait),
        on("sequence", 1).workers(1).work_type(sequence),
        on("custom", 1).workers(2).work_type(Custom(odd)),
        on("inversion", 2).workers(3).work_type(inversion),
    ];
    let before = yields()?;
    // Who looks needs a CPU, too, and not that of the worker which is to have one to itself.
    let (result, seen) =
        watched(&[0, 1], || execute_steps(ctx, vec![Step::new(defs, HoldSpec::Frac(0.09)).named("pinned")]));
    let mut result = result?;
    let yielded: Vec<u64> =
        yields()?.iter().zip(before).map(|(after, before)| after.wrapping_sub(before)).collect();
    let [heavy, mixed, cache, spins] = yielded.as_slice() else { bail!("yields of four CPUs: {yielded:?}") };
    for (kind, count) in [("YieldHeavy", heavy), ("Mixed", mixed), ("CacheYield", cache)] {
        result.check(
            *count >= 16 && count > spins,
            format!("{kind} yields, and SpinWait does not: {yielded:?}"),
        );
    }
    let nothing = Behaviour::default();
    let of = |name: &str| seen.get(name).unwrap_or(&nothing);
    let sequence = of("sequence");
    result.check(
        [3, 4, 5].iter().all(|nice| sequence.nices.contains(nice)) && sequence.policies.len() == 2,
        format!("a sequence does each of its kinds: {sequence:?}"),
    );
    let inversion = of("inversion");
    result.check(
        [1, 2, 3].iter().all(|priority| inversion.rt_priorities.contains(priority))
            && inversion.sleeps.iter().any(|(number, op)| *number == FUTEX && LOCK_PI.contains(op)),
        format!("the mutex lends its owner the priority of who waits: {inversion:?}"),
    );
    Ok(result)
}

/// `sched_yield(2)`s of each CPU, ascending. Source: Documentation/scheduler/sched-stats.rst.
fn yields() -> Result<Vec<u64>> {
    let text = fs::read_to_string("/proc/schedstat").context("/proc/schedstat")?;
    let of_cpus = text.lines().filter(|line| line.starts_with("cpu"));
    of_cpus
        .map(|line| {
            let count = line.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
            count.with_context(|| format!("no count of yields in `{line}`"))
        })
        .collect()
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
        rests().comm("cpu").affinity(Affinity::Exact("2".parse()?)),
        rests().comm("mem_bind").mem_policy(MemPolicy::Bind("1".parse()?)),
        rests().comm("mem_prefer").mem_policy(MemPolicy::Preferred(1)),
        rests().comm("mem_many").mem_policy(MemPolicy::PreferredMany("0-1".parse()?)),
        rests().comm("mem_interleave").mem_policy(MemPolicy::Interleave("0-1".parse()?)),
        rests().comm("mem_local").mem_policy(MemPolicy::Local),
    ];
    let def = groups.into_iter().fold(CgroupDef::named("settings"), CgroupDef::work);
    // Half of four CPUs, and a group that has most of what is said for all.
    let whole = CgroupDef::named("whole")
        .workers_pct(50.0)
        .work_type(Bursty::default())
        .comm("mem_whole")
        .sched_policy(SchedPolicy::Batch)
        .nice(5)
        .uid(77)
        .gid(78)
        .mem_policy(MemPolicy::WeightedInterleave("0-1".parse()?))
        .affinity(Affinity::LlcAligned)
        .work(rests().comm("mem_own").sched_policy(SchedPolicy::Idle).mem_policy(MemPolicy::Default));
    let random = CgroupDef::named("random")
        .workers(4)
        .work_type(Bursty::default())
        .comm("random")
        .affinity(Affinity::RandomSubset);
    let subsets = Affinity::RandomSubset.resolve(&ctx.topo, &ctx.topo.cpus, 4, SEED)?;
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
        let result = execute_steps(
            ctx,
            vec![Step::new(vec![def, whole, random], HoldSpec::Frac(0.15)).named("settings")],
        );
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
    for (name, policy) in [
        ("mem_bind", "bind:1"),
        ("mem_prefer", "prefer:1"),
        ("mem_many", "prefer (many):0-1"),
        ("mem_interleave", "interleave:0-1"),
        ("mem_local", "local"),
        ("mem_whole", "weighted interleave:0-1"),
    ] {
        expect(name, &format!("with memory {policy}"), &|seen| seen.memory.contains(&policy));
    }
    for cpus in ["0-1", "2-3"] {
        expect("mem_whole", "of the cgroup's policy, nice value, user and an LLC", &|seen| {
            (seen.policy, seen.nice, seen.uid, seen.gid, &*seen.cpus) == (3, 5, 77, 78, cpus)
        });
    }
    expect("mem_own", "of its own policy, and else as its cgroup", &|seen| {
        (seen.policy, seen.nice, seen.uid, seen.gid) == (5, 5, 77, 78) && seen.memory == ["default"]
    });
    for subset in &subsets {
        expect("random", "on the CPUs that the seed says", &|seen| seen.cpus == subset.to_string());
    }
    let all = ctx.topo.cpus.to_string();
    result.check(
        subsets.iter().any(|subset| subset.to_string() != all),
        format!("some of the CPUs: {subsets:?}"),
    );
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
    /// Page faults of the children that it has reaped.
    child_faults: u64,
    /// Policies of its memory, of tasks whose names begin with `mem_`.
    memory: Vec<&'static str>,
}

/// All tasks, by their names. Those that end meanwhile are left out. Reading where the memory of one is takes long, and is done for the one
/// of which it is asked.
fn tasks() -> Vec<(String, Seen)> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| task(&entry.path())).collect()
}

/// Fields of `stat`: Documentation/filesystems/proc.rst, table 1-4.
fn task(folder: &Path) -> Option<(String, Seen)> {
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
        child_faults: number(8)?,
        memory: match name.starts_with("mem_") {
            true => memory_policies(&read("numa_maps")?),
            false => Vec::new(),
        },
    };
    Some((name.to_owned(), seen))
}

fn workers(trace: &Trace) -> Vec<(WorkerReport, WorkerDetail)> {
    let reported = trace.workers().into_iter();
    reported.filter_map(|worker| worker.detail.map(|detail| (worker.report, detail))).collect()
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
            "TimerLatency" | "IdleChurn" | "Bursty" | "PriorityInversion" | "PreemptStorm"
            | "RtStarvation" | "Mixed" | "Sequence" => {
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
            "NumaSweep" | "CachePressure" | "CacheYield" => {
                let pages = sum(|(_, detail)| detail.node_pages.iter().map(|on| on.pages).sum());
                let least = if kind.name() == "CacheYield" { 64 } else { 256 };
                claim!(v, pages).at_least(least).because(format!("{kind} touches all of its memory"));
            }
            "SpinWait" | "Custom" => {
                claim!(v, sum(|(_, detail)| detail.voluntary_switches))
                    .at_most(2)
                    .because(format!("{kind} never waits"));
            }
            "ForkExit" | "MutexContention" => {
                claim!(v, sum(|(_, detail)| detail.voluntary_switches))
                    .at_least(1)
                    .because(format!("{kind} waits"));
            }
            "NiceSweep" | "PolicyChurn" | "CgroupChurn" => {
                // A unit is a change that the kernel tells back.
                claim!(v, units)
                    .eq(sum(|(report, _)| report.iterations))
                    .because(format!("{kind} changes each time"));
            }
            _ => {}
        }
    }
    let alone = |cgroup: &str| workers.iter().find(|(report, _)| report.cgroup == cgroup);
    let (spins, detail) = alone("spins").context("a report of the worker with a CPU to itself")?;
    claim!(v, spins.cpu_ns as f64 / spins.wall_ns as f64).at_least(0.5).because("nobody else uses CPU 3");
    claim!(v, spins.migrations + detail.voluntary_switches).at_most(2);
    claim!(v, workers.iter().filter(|(report, _)| report.cgroup == "whole").count())
        .eq(3_usize)
        .because("half of four CPUs, and one besides");
    for (report, detail) in workers.iter().filter(|(report, _)| report.cgroup == "custom") {
        claim!(v, report.work_units).eq(2 * report.iterations).because("each turn counts the group's size");
        let (noted, by) =
            if report.index == 0 { (&detail.wakes, 1_000_000) } else { (&detail.timers, 2_000_000) };
        claim!(v, noted.max_ns).at_least(by).because(format!("custom worker {} notes it", report.index));
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
