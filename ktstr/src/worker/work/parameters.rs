//! That each parameter of a kind of work has its effect: workers have values that are far from the defaults, and what they do shows them.
//!
//! Times are looked at from below alone: a busy host makes a turn longer, and never shorter than what it is asked to do.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use guest_init::message::WorkerReport;
use rustix::process::Pid;

use super::super::WorkloadHandle;
use super::super::clock::thread_cpu_ns;
use super::super::group::WorkerGroup;
use super::super::member::{PAGE, burn};
use super::super::settings::SchedPolicy;
use super::super::slot::WorkerSlot;
use super::super::tests::{is_privileged, run_until, wait_until};
use super::tests::{is_possible, turns};
use super::*;

/// Far more than any kind does by default.
const ROUNDS: u32 = 1_000_000;
/// Far longer than any kind sleeps by default, but for those that say so.
const LONG: Duration = Duration::from_millis(25);
/// As short as can be.
const SHORT: Duration = Duration::from_micros(1);
/// Turns of each worker.
const TURNS: u64 = 4;

/// A turn of these workers takes so long at least.
struct Lasts {
    work: WorkType,
    workers: usize,
    /// Which of them.
    whose: &'static [usize],
    least: Duration,
}

/// What so many rounds take at least: on another CPU, or at another time, they may be done sooner than here.
fn rounds_take() -> Duration {
    let once = || {
        let began = thread_cpu_ns();
        burn(ROUNDS);
        thread_cpu_ns() - began
    };
    Duration::from_nanos((0..3).map(|_| once()).min().unwrap_or_default() / 2)
}

#[test]
fn a_turn_lasts_as_long_as_its_parameters_ask_for() {
    let (rounds, least) = (ROUNDS, rounds_take());
    assert!(least > Duration::from_micros(200), "so many rounds take {least:?}");
    let policies = vec![SchedPolicy::Normal, SchedPolicy::Batch];
    let brief = ProducerConsumer { produce: 1, consume: 1, ..ProducerConsumer::default() };
    let inversion = PriorityInversion { hold: SHORT, rest: SHORT, ..PriorityInversion::default() };
    let storm = PreemptStorm { interval: SHORT, rounds: 1, priority: 1 };
    let herd = ThunderingHerd { interval: LONG, rounds: 1 };
    let starvation = RtStarvation { busy: SHORT, rest: SHORT, priority: 1 };
    let row = |work: WorkType, workers, whose, least| Lasts { work, workers, whose, least };
    let all = [
        row(YieldHeavy { rounds }.into(), 1, &[0], least),
        row(IdleChurn { rounds, idle: SHORT }.into(), 1, &[0], least),
        row(IdleChurn { rounds: 1, idle: LONG }.into(), 1, &[0], LONG),
        row(Bursty { burst: LONG, rest: SHORT }.into(), 1, &[0], LONG),
        row(Bursty { burst: SHORT, rest: LONG }.into(), 1, &[0], LONG),
        // It counts one turn for what it computes, and one for its yields; then it rests.
        row(Mixed { compute: LONG, yields: 1, rest: SHORT }.into(), 1, &[0], LONG / 2),
        row(Mixed { compute: SHORT, yields: 1, rest: LONG }.into(), 1, &[0], LONG / 4),
        row(FutexPingPong { rounds }.into(), 2, &[0, 1], least),
        row(FutexFanOut { rounds }.into(), 3, &[0, 1, 2], least),
        row(WakeChain { rounds }.into(), 3, &[0, 1, 2], least),
        row(herd.into(), 3, &[0], LONG),
        row(EpollStorm { events: 1, interval: LONG }.into(), 3, &[0], LONG),
        row(ProducerConsumer { produce: rounds, ..brief }.into(), 2, &[0], least),
        row(ProducerConsumer { consume: rounds, ..brief }.into(), 2, &[1], least),
        row(TimerLatency { interval: LONG }.into(), 1, &[0], LONG),
        row(NiceSweep { from: 10, to: 12, rounds }.into(), 1, &[0], least),
        row(AffinityChurn { rounds }.into(), 1, &[0], least),
        row(PolicyChurn { policies, rounds }.into(), 1, &[0], least),
        row(CgroupChurn { rounds }.into(), 1, &[0], least),
        // One that has it after the other.
        row(MutexContention { inside: rounds, outside: 1 }.into(), 3, &[0, 1, 2], least),
        row(MutexContention { inside: 1, outside: rounds }.into(), 2, &[0, 1], least),
        row(PriorityInversion { hold: LONG, ..inversion }.into(), 3, &[0], LONG),
        row(PriorityInversion { rest: LONG, ..inversion }.into(), 3, &[1, 2], LONG),
        row(PreemptStorm { interval: LONG, ..storm }.into(), 2, &[0], LONG),
        row(PreemptStorm { rounds, ..storm }.into(), 2, &[0], least),
        row(RtStarvation { busy: 10 * LONG, ..starvation }.into(), 2, &[0], 10 * LONG),
        row(RtStarvation { rest: 10 * LONG, ..starvation }.into(), 2, &[0], 10 * LONG),
    ];
    let mut shorter = Vec::new();
    for Lasts { work, workers, whose, least } in all.into_iter().filter(|row| is_possible(&row.work)) {
        let group = WorkerGroup::new("cg", workers, work.clone());
        let reports = run_until(&[group], |slots| {
            whose.iter().all(|&index| slots[index].iterations.load(Relaxed) >= TURNS)
        });
        for report in whose.iter().map(|&index| &reports[index]) {
            assert_eq!(report.fault, None, "{work:?}: {report:?}");
            // One that is told to end sleeps no longer, and counts a turn besides; another one was the first, before which nothing is.
            let whole = u32::try_from(report.iterations - 2).expect("few turns");
            // What one computes itself takes CPU time: its turns may be long for other reasons on a busy host.
            let computes = matches!(work, WorkType::YieldHeavy(_));
            let lasted = Duration::from_nanos(if computes { report.cpu_ns } else { report.wall_ns });
            if lasted < whole * least {
                shorter.push(format!("{work:?}: {whole} times {least:?} in {lasted:?}: {report:?}"));
            }
        }
    }
    assert!(shorter.is_empty(), "{}", shorter.join("\n"));
}

/// What children compute is CPU time of theirs, which the kernel keeps for those that were waited for, whoever else runs.
#[test]
fn a_child_takes_its_rounds() {
    // They take half a second, which may be a minute on a busy host.
    const CHILDREN: u64 = 8;
    let least = 10 * rounds_take();
    let work = ForkExit { rounds: 10 * ROUNDS };
    let mut workload = WorkloadHandle::spawn(&[WorkerGroup::new("cg", 1, work)]).expect("a worker");
    workload.start().expect("a start");
    wait_until(|| workload.slots()[0].iterations.load(Relaxed) >= CHILDREN);
    let (pid, _) = workload.pids().next().expect("a worker");
    let reaped = u32::try_from(workload.slots()[0].iterations.load(Relaxed)).expect("few children");
    let took = of_children(pid);
    assert_eq!(workload.stop_and_collect()[0].fault, None);
    assert!(took >= reaped * least, "{reaped} times {least:?} in {took:?}");
}

/// CPU time of the children that a process has waited for, at most: user and system time, each rounded down to a tick (`proc_pid_stat(5)`).
fn of_children(pid: Pid) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its times");
    let (_, fields) = text.rsplit_once(") ").expect("a name");
    let times = fields.split(' ').skip(13).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks"));
    // `USER_HZ` of include/uapi/asm-generic/param.h.
    times.map(|ticks| Duration::from_millis((ticks + 1) * 10)).sum()
}

/// The job is one worker's, whichever that is.
#[test]
fn a_job_of_a_herd_takes_its_rounds() {
    let least = rounds_take();
    let herd = ThunderingHerd { interval: Duration::from_millis(1), rounds: ROUNDS };
    let is_done = |slots: &[WorkerSlot]| turns(TURNS)(slots);
    let reports = run_until(&[WorkerGroup::new("cg", 3, herd)], is_done);
    let longest = reports[1..].iter().map(|report| report.max_gap_ns).max().unwrap_or_default();
    assert!(Duration::from_nanos(longest) >= least, "{least:?}: {reports:?}");
}

/// Which of several there are is seen in units, pages, files and bytes.
#[test]
fn numbers_and_sizes_are_those_that_were_asked_for() {
    let ran = |work: WorkType, workers| run_until(&[WorkerGroup::new("cg", workers, work)], turns(TURNS));
    let pages = |report: &WorkerReport| report.detail.node_pages.iter().map(|(_, pages)| pages).sum::<u64>();
    let bytes = 40 * PAGE;
    assert_eq!(pages(&ran(CachePressure { bytes }.into(), 1)[0]), 40);
    assert_eq!(pages(&ran(CacheYield { bytes }.into(), 1)[0]), 40);
    let yields = 1000;
    let mixed = ran(Mixed { compute: SHORT, yields, rest: SHORT }.into(), 1).remove(0);
    assert!(mixed.work_units >= (mixed.iterations / 2 - 1) * u64::from(yields), "{mixed:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let folder = fs::canonicalize(folder.path()).expect("its path");
    for (work, workers, what, least) in [
        (WorkType::from(PipeIo { bytes: 2000 }), 2, "rchar", 2000),
        (IoSyncWrite { folder: folder.clone(), blocks: 20 }.into(), 1, "wchar", 20 * PAGE as u64),
    ] {
        with_worker(work, workers, |pid, slot| {
            let turns = slot.iterations.load(Relaxed);
            let is = io(pid, what);
            assert!(is >= turns * least, "{what} {is} in {turns} turns");
        });
    }
    for (work, bytes) in [
        (WorkType::from(IoRandRead { folder: folder.clone(), bytes: 40 * PAGE }), Some(40 * PAGE as u64)),
        (IoSyncWrite { folder: folder.clone(), blocks: 1 }.into(), None),
    ] {
        with_worker(work, 1, |pid, _| {
            let own: Vec<PathBuf> =
                files(pid).into_iter().filter(|(_, to)| to.starts_with(&folder)).map(|(at, _)| at).collect();
            assert_eq!(own.len(), 1, "files below {}: {:?}", folder.display(), files(pid));
            let is = fs::metadata(&own[0]).expect("its file").len();
            assert!(bytes.is_none_or(|bytes| is == bytes), "{is} bytes of {bytes:?}");
        });
    }
    with_worker(EpollStorm { events: 7, ..EpollStorm::default() }.into(), 3, |pid, _| {
        assert_eq!(waited_for(pid), [7], "files of the one epoll instance");
    });
    if is_privileged() {
        let sweep = NiceSweep { from: 10, to: 11, rounds: 1 };
        with_worker(sweep.into(), 1, |pid, _| {
            let nices: Vec<i32> = (0..200)
                .map(|_| rustix::process::getpriority_process(Some(pid)).expect("its nice value"))
                .collect();
            assert!(nices.iter().all(|nice| (10..=11).contains(nice)), "{nices:?}");
        });
    }
}

/// Looks at the last of some workers after some turns, while they run.
fn with_worker(work: WorkType, workers: usize, look: impl Fn(Pid, &WorkerSlot)) {
    let mut workload = WorkloadHandle::spawn(&[WorkerGroup::new("cg", workers, work)]).expect("workers");
    workload.start().expect("a start");
    wait_until(|| turns(TURNS)(workload.slots()));
    let (pid, _) = workload.pids().last().expect("a worker");
    look(pid, &workload.slots()[workers - 1]);
    for report in workload.stop_and_collect() {
        assert_eq!(report.fault, None, "{report:?}");
    }
}

/// A count of `/proc/PID/io`. Source: Documentation/filesystems/proc.rst, 3.3.
fn io(pid: Pid, what: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).expect("its input and output");
    let line = text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(": "));
    line.and_then(|count| count.parse().ok()).expect("a count")
}

/// The open files of a process: each by its number, and where it leads.
fn files(pid: Pid) -> Vec<(PathBuf, PathBuf)> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).expect("its files");
    let paths = folder.flatten().map(|entry| entry.path());
    paths.filter_map(|path| Some((path.clone(), fs::read_link(path).ok()?))).collect()
}

/// How many files each epoll instance of a process waits for. Source: Documentation/filesystems/proc.rst, 3.8.
fn waited_for(pid: Pid) -> Vec<usize> {
    let folder = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("its files");
    let texts = folder.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let count = |text: String| text.lines().filter(|line| line.starts_with("tfd:")).count();
    texts.map(count).filter(|count| *count > 0).collect()
}
