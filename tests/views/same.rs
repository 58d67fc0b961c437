//! Between two captures the guest prints what it knows; our views of the two agree with it: facts are equal, counters lie
//! between the two.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr_replay::kernel::cgroup::{Cgroup, Cgroups, read_cgroups};
use ktstr_replay::kernel::cputime::{CpuTimes, read_cpu_times};
use ktstr_replay::kernel::log::{KernelLog, read_log};
use ktstr_replay::kernel::scx::{SchedExt, read_schedulers};
use ktstr_replay::kernel::task::{Task, Tasks, read_tasks};
use ktstr_replay::run::Run;
use ktstr_replay::run::{Checkpoints, OpenCheckpoint};

use crate::lacking;
use crate::said::{Said, say_all};

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// Nice value that the body gives itself.
const NICE: i32 = 7;
/// `cpu.weight` of the body's cgroup.
const WEIGHT: u64 = 250;
/// The body's cgroup.
const CGROUP: &str = "/sys/fs/cgroup/said";
/// `USER_HZ` of `/proc`, in ns.
const TICK_NS: u64 = 10_000_000;

#[ktstr_test(scheduler = DEMO, duration_s = 1, checkpoint = "every", check = agrees)]
fn views_agree_with_the_guest(ctx: &Ctx) -> Result<AssertResult> {
    let result = execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])?;
    fs::create_dir(CGROUP)?;
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu")?;
    fs::write(format!("{CGROUP}/cpu.weight"), WEIGHT.to_string())?;
    fs::write(format!("{CGROUP}/cgroup.procs"), "0")?;
    let mut ended = end_unawaited()?;
    rustix::process::setpriority_process(None, NICE)?;
    ctx.capture_snapshot("before")?;
    say_all()?;
    ctx.capture_snapshot("after")?;
    ended.wait()?;
    Ok(result)
}

/// A process of the body's cgroup that has ended and was not waited for.
fn end_unawaited() -> Result<Child> {
    let child = Command::new("/proc/self/exe").arg("--help").stdout(Stdio::null()).spawn()?;
    let stat = format!("/proc/{}/stat", child.id());
    let began = Instant::now();
    while !fs::read_to_string(&stat)?.contains(") Z ") {
        ensure!(began.elapsed() < Duration::from_secs(60), "it does not end: {}", fs::read_to_string(&stat)?);
        sleep(Duration::from_millis(5));
    }
    Ok(child)
}

/// All that is compared, of one capture.
struct Seen {
    tasks: Tasks,
    scx: SchedExt,
    cgroups: Cgroups,
    times: CpuTimes,
    log: KernelLog,
}

impl Seen {
    fn of(checkpoint: &OpenCheckpoint<'_>) -> Result<Self> {
        let view = checkpoint.kernel();
        let tasks = read_tasks(&view)?;
        let cgroups = read_cgroups(&view, &tasks)?;
        let scx = read_schedulers(&view).context("sched_ext")?;
        let seen = Self { scx, cgroups, times: read_cpu_times(&view)?, log: read_log(&view)?, tasks };
        let gaps = [&seen.tasks.gaps, &seen.scx.gaps, &seen.cgroups.gaps, &seen.times.gaps, &seen.log.gaps];
        for gaps in gaps {
            ensure!(gaps.faults.is_empty(), "{}: {gaps:?}", checkpoint.title());
            // Kernels before 7.2 have fewer fields, which the gaps name.
            let whole = gaps.missing.is_empty() || is_before_7_2(view.profile().release());
            ensure!(whole, "{}: {gaps:?}", checkpoint.title());
        }
        Ok(seen)
    }
}

fn is_before_7_2(release: &str) -> bool {
    let mut numbers = release.split(['.', '-', '+']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (7, 2)
}

fn agrees(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let said = Said::of(trace)?;
    let run = Run::load(trace);
    let checkpoints = Checkpoints::of(&run)?;
    let before = Seen::of(&checkpoints.at(Some("before"))?)?;
    let after = Seen::of(&checkpoints.at(Some("after"))?)?;
    tasks(&said, &before.tasks, &after.tasks, v)?;
    sched_ext(&said, &before.scx, &after.scx, v)?;
    cgroups(&said, &before.cgroups, &after.cgroups, v)?;
    lacking::fields_are_named(trace, &checkpoints.at(Some("before"))?, v)?;
    times(&said, &before.times, &after.times, v)?;
    log(&said, &before.log, v)
}

fn between(what: &str, low: u64, said: u64, high: u64) -> Result<()> {
    ensure!(low <= said && said <= high, "{what}: the guest says {said}, and we saw {low} and then {high}");
    Ok(())
}

fn tasks(said: &Said, before: &Tasks, after: &Tasks, v: &mut Verdict) -> Result<()> {
    let threads = said.threads();
    let mut compared = 0u64;
    for (pid, dir) in &threads {
        // What came or went in between is not in all three.
        let (Some(old), Some(new)) = (before.by_pid(*pid), after.by_pid(*pid)) else { continue };
        task(said, dir, old, new).with_context(|| format!("{} [{pid}]", old.comm))?;
        compared += 1;
    }
    v.check("threads that agree with /proc", compared).at_least(40);
    // None is missing: every thread that was there throughout was printed.
    let ours = before.tasks.iter().filter(|task| task.pid != 0 && after.by_pid(task.pid).is_some());
    let unsaid: Vec<_> =
        ours.filter(|task| !threads.contains_key(&task.pid)).map(|task| &task.comm).collect();
    v.check("threads that /proc does not have", unsaid.len() as u64).eq(0);
    let nice = |task: &&Task| task.cgroup.as_deref() == Some("/said") && task.nice == i64::from(NICE);
    v.check("threads that the body made nice", before.tasks.iter().filter(nice).count() as u64).eq(1);
    let ended = |task: &&Task| task.cgroup.as_deref() == Some("/said") && task.state == 'Z';
    v.check("ended threads of the body's cgroup", before.tasks.iter().filter(ended).count() as u64).eq(1);
    let bound = |task: &&Task| task.cpus_allowed.as_ref().is_some_and(|cpus| cpus.to_string() == "1");
    v.check("threads that may run on CPU 1 only", before.tasks.iter().filter(bound).count() as u64)
        .at_least(2);
    v.check("kernel threads", before.tasks.iter().filter(|task| task.kernel_thread).count() as u64)
        .at_least(20);
    Ok(())
}

fn task(said: &Said, dir: &str, old: &Task, new: &Task) -> Result<()> {
    let stat = said.file(&format!("{dir}/stat"))?;
    // pid (comm) state ppid ...: fields are numbered from 1, as in proc(5).
    let (head, rest) = stat.rsplit_once(") ").context("a stat")?;
    let comm = head.split_once(" (").context("a comm")?.1;
    let field = |number: usize| -> Result<i64> {
        let word = rest.split_whitespace().nth(number - 3);
        Ok(word.with_context(|| format!("field {number}"))?.parse()?)
    };
    // A kernel thread is shown by its long name, a worker with the queue that it works for.
    let same = if old.kernel_thread { comm.starts_with(&old.comm) } else { comm == old.comm };
    ensure!(same, "comm: {comm} and {}", old.comm);
    ensure!(field(19)? == old.nice, "nice: {} and {}", field(19)?, old.nice);
    let policies = ["NORMAL", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE", "EXT"];
    ensure!(policies[field(41)? as usize] == old.policy, "policy: {} and {}", field(41)?, old.policy);
    ensure!(field(40)? == old.rt_priority as i64, "rt priority: {} and {}", field(40)?, old.rt_priority);
    // `prio` of /proc is 100 less.
    ensure!(field(18)? + 100 == old.prio, "prio: {} and {}", field(18)?, old.prio);
    let status = format!("{dir}/status");
    ensure!(said.number(&status, "Tgid")? == old.tgid, "tgid: {}", old.tgid);
    let switches = [
        ("voluntary_ctxt_switches", old.voluntary_switches, new.voluntary_switches),
        ("nonvoluntary_ctxt_switches", old.involuntary_switches, new.involuntary_switches),
    ];
    for (name, low, high) in switches {
        between(name, low, u64::try_from(said.number(&status, name)?)?, high)?;
    }
    let runtime = said.file(&format!("{dir}/schedstat"))?.split_whitespace().next().context("a runtime")?;
    // Of a task that runs, /proc brings the runtime up to the moment first.
    between("runtime", old.sum_exec_runtime_ns, runtime.parse()?, new.sum_exec_runtime_ns + TICK_NS)?;
    let cgroup = said.file(&format!("{dir}/cgroup"))?.strip_prefix("0::").context("a unified cgroup")?;
    ensure!(Some(cgroup) == old.cgroup.as_deref(), "cgroup: {cgroup} and {:?}", old.cgroup);
    // A task that sleeps throughout is shown as it sleeps.
    let state = rest.chars().next();
    if old.state == new.state
        && old.voluntary_switches == new.voluntary_switches
        && !old.on_cpu
        && !new.on_cpu
    {
        ensure!(state == Some(old.state), "state: {state:?} and {}", old.state);
        // A task that runs may have migration disabled for a moment, which /proc does not show here.
        let allowed = said.word(&status, "Cpus_allowed_list")?;
        let ours = old.cpus_allowed.as_ref().map(ToString::to_string);
        ensure!(ours.as_deref() == Some(allowed), "allowed CPUs: {allowed} and {ours:?}");
    }
    Ok(())
}

fn sched_ext(said: &Said, before: &SchedExt, after: &SchedExt, v: &mut Verdict) -> Result<()> {
    let dir = "/sys/kernel/sched_ext";
    let state = said.file(&format!("{dir}/state"))?;
    ensure!(before.state.as_deref() == Some(state), "state: {state} and {:?}", before.state);
    let numbers = [
        ("nr_rejected", before.nr_rejected),
        ("hotplug_seq", before.hotplug_seq),
        ("enable_seq", before.enable_seq),
    ];
    for (name, ours) in numbers {
        let theirs: u64 = said.file(&format!("{dir}/{name}"))?.parse()?;
        ensure!(ours == Some(theirs), "{name}: {theirs} and {ours:?}");
    }
    let (Some(old), Some(new)) = (before.schedulers.first(), after.schedulers.first()) else {
        bail!("no scheduler in memory");
    };
    let ops = said.file(&format!("{dir}/root/ops"))?;
    ensure!(old.name.as_deref() == Some(ops), "ops: {ops} and {:?}", old.name);
    let events = format!("{dir}/root/events");
    let mut counted = 0;
    for (low, high) in old.events.iter().zip(&new.events) {
        let theirs = said.number(&events, &low.name)?;
        ensure!(
            low.count <= theirs && theirs <= high.count,
            "{}: {theirs}, not in {}..{}",
            low.name,
            low.count,
            high.count
        );
        counted += theirs;
    }
    v.check("event counters", old.events.len() as u64).eq(said.file(&events)?.lines().count() as u64);
    v.check("events counted", counted).at_least(1);
    Ok(())
}

fn cgroups(said: &Said, ours: &Cgroups, after: &Cgroups, v: &mut Verdict) -> Result<()> {
    let by_path: BTreeMap<_, _> = ours.cgroups.iter().map(|one| (one.path.as_str(), one)).collect();
    let mine = by_path.get("/said").context("the body's cgroup")?;
    let weight: u64 = said.file(&format!("{CGROUP}/cpu.weight"))?.parse()?;
    v.check("cpu.weight that the guest shows", weight).eq(WEIGHT);
    v.check("cpu.weight", mine.cpu_weight.context("a weight")?).eq(WEIGHT);
    let threads = said.file(&format!("{CGROUP}/cgroup.threads"))?.lines().count();
    v.check("threads of the cgroup", mine.tasks as u64).eq(threads as u64);
    let stat = said.file(&format!("{CGROUP}/cpu.stat"))?;
    let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).context("usage_usec")?;
    let used_us = |cgroup: &Cgroup| -> Result<u64> { Ok(cgroup.cpu_ns.context("CPU time")? / 1000) };
    let later = after.cgroups.iter().find(|one| one.path == "/said").context("the body's cgroup, later")?;
    v.check("CPU time of the cgroup before, in us", used_us(mine)?).at_least(1);
    between("usage_usec", used_us(mine)?, usage.parse()?, used_us(later)?)
}

fn times(said: &Said, before: &CpuTimes, after: &CpuTimes, v: &mut Verdict) -> Result<()> {
    let mut compared = 0u64;
    for (old, new) in before.cpus.iter().zip(&after.cpus) {
        let name = format!("cpu{} ", old.cpu);
        let line =
            said.file("/proc/stat")?.lines().find_map(|line| line.strip_prefix(&name)).context("a CPU")?;
        let theirs: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        // user nice system idle iowait irq softirq steal, as proc(5) has them; idle is computed otherwise.
        for (position, kind) in [(0, "user"), (1, "nice"), (2, "system"), (6, "softirq")] {
            let at = before.kinds.iter().position(|name| name == kind).context("a kind of time")?;
            between(kind, old.ns[at] / TICK_NS, theirs[position], new.ns[at] / TICK_NS + 1)?;
            compared += theirs[position];
        }
    }
    v.check("ticks of CPU time", compared).at_least(10);
    let uptime: f64 = said.file("/proc/uptime")?.split_whitespace().next().context("an uptime")?.parse()?;
    let (low, high) = (before.uptime_ns.context("uptime")?, after.uptime_ns.context("uptime")?);
    // The clock of /proc/uptime and the jiffies part by little while the guest boots.
    let slack = 500_000_000;
    between("uptime", low.saturating_sub(slack), (uptime * 1e9) as u64, high + slack)
}

fn log(said: &Said, ours: &KernelLog, v: &mut Verdict) -> Result<()> {
    let mut theirs = BTreeMap::new();
    for record in said.file("/dev/kmsg")?.lines() {
        let (head, text) = record.split_once(';').context("a record")?;
        let mut fields = head.split(',').map(str::parse::<u64>);
        let mut next = || fields.next().context("a field")?.context("a number");
        theirs.insert(next_of(&mut next)?, text);
    }
    let mut compared = 0u64;
    for record in &ours.records {
        let Some((level, micros, text)) = theirs
            .iter()
            .find_map(|((level, seq, micros), text)| (*seq == record.seq).then_some((level, micros, text)))
        else {
            bail!("record {} is not in /dev/kmsg: {}", record.seq, record.text);
        };
        // Level and facility are one number; characters that are not printable are escaped.
        ensure!(*level == record.facility * 8 + record.level, "level of {}", record.text);
        ensure!(*micros == record.at_ns / 1000, "time of {}", record.text);
        let first = record.text.lines().next().unwrap_or_default();
        if !text.contains("\\x") {
            ensure!(*text == first, "text: {text:?} and {first:?}");
            compared += 1;
        }
    }
    v.check("lines of the kernel log that agree with /dev/kmsg", compared).at_least(100);
    Ok(())
}

/// Level, sequence and time of a record.
fn next_of(next: &mut impl FnMut() -> Result<u64>) -> Result<(u64, u64, u64)> {
    Ok((next()?, next()?, next()?))
}
