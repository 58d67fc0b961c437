//! That each kind of work does what it is for, by its report.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use guest_init::message::WorkerReport;

use super::super::WorkloadHandle;
use super::super::group::WorkerGroup;
use super::super::settings::{CloneMode, SchedPolicy, Settings};
use super::super::slot::WorkerSlot;
use super::super::tests::{is_privileged, own_cpus, policy, run_until, wait_until};
use super::*;
use crate::cpu_set::CpuSet;

fn group(work: impl Into<WorkType>, count: usize) -> WorkerGroup {
    WorkerGroup::new("cg", count, work)
}

/// All on the first CPU.
fn pinned(work: impl Into<WorkType>, count: usize) -> WorkerGroup {
    WorkerGroup { cpus: vec![CpuSet::from_iter([own_cpus()[0]])], ..group(work, count) }
}

/// A group as small as can be, but of two at least.
fn smallest(work: WorkType) -> WorkerGroup {
    let count = match work.gang() {
        Gang::Alone => 2,
        Gang::Of(size) => size,
        Gang::Group { min } => min + 1,
    };
    group(work, count)
}

/// Whether all have done so many turns.
pub fn turns(least: u64) -> impl Fn(&[WorkerSlot]) -> bool {
    move |slots| slots.iter().all(|slot| slot.iterations.load(Relaxed) >= least)
}

fn run(group: WorkerGroup, done: impl Fn(&[WorkerSlot]) -> bool) -> Vec<WorkerReport> {
    let reports = run_until(&[group], done);
    for report in &reports {
        assert_eq!(report.fault, None, "{report:?}");
    }
    reports
}

/// Kinds that have nice values or policies which only root may give.
const OF_ROOT: [&str; 5] = ["NiceSweep", "PolicyChurn", "PreemptStorm", "PriorityInversion", "RtStarvation"];

/// Whether a kind can run here: cgroups may be read-only in a container.
pub fn is_possible(work: &WorkType) -> bool {
    (!work.changes_cgroup() || can_make_cgroups()) && (!OF_ROOT.contains(&work.name()) || is_privileged())
}

fn can_make_cgroups() -> bool {
    let Some(mount) = cgroup2_mount() else { return false };
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::/")) else { return false };
    let probe = PathBuf::from(mount.to_str().unwrap_or_default()).join(path).join("ktstr_probe");
    std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe)).is_ok()
}

#[test]
fn every_kind_does_some_work_and_ends_when_told_to() {
    for mode in [CloneMode::Process, CloneMode::Thread] {
        for work in WorkType::defaults().into_iter().filter(is_possible) {
            if mode == CloneMode::Thread && work.changes_cgroup() {
                continue;
            }
            let mut group = smallest(work);
            group.settings.clone_mode = Some(mode);
            for report in
                run(group.clone(), |slots| slots.iter().all(|slot| slot.work_units.load(Relaxed) > 0))
            {
                assert!(report.work_units > 0 && report.iterations > 0, "{report:?}");
                assert!(report.cpu_ns > 0 && report.cpu_ns <= report.wall_ns, "{report:?}");
                assert!(report.max_gap_ns > 0 && report.max_gap_at_ns <= report.wall_ns, "{report:?}");
                assert!(!report.cpus_used.is_empty(), "{report:?}");
                assert_eq!(report.work, group.work.name());
            }
        }
    }
}

#[test]
fn the_page_of_workers_has_a_row_for_each_kind() {
    let page = include_str!("../../../../docs/workers.md");
    for work in WorkType::defaults() {
        let workers = match work.gang() {
            Gang::Alone => "1".to_owned(),
            Gang::Of(size) => size.to_string(),
            Gang::Group { .. } => "group".to_owned(),
        };
        assert!(page.contains(&format!("| `{work}` | {workers} |")), "{work}: {workers}");
    }
}

#[test]
fn names_are_those_of_the_kinds() {
    let kinds = WorkType::defaults();
    assert_eq!(kinds.len(), 31);
    for work in kinds {
        assert!(format!("{work:?}").starts_with(work.name()), "{work:?}");
    }
}

#[test]
fn kinds_that_compute_stay_on_their_cpu_or_give_it_up() {
    let spin = run(pinned(SpinWait, 1), turns(1000)).remove(0);
    assert_eq!((spin.migrations, spin.cpus_used.len()), (0, 1), "{spin:?}");
    assert_eq!((spin.detail.wakes.total, spin.detail.timers.total), (0, 0));
    // With two on one CPU each yield is a switch to the other, which the kernel counts as involuntary.
    for yields in run(pinned(YieldHeavy::default(), 2), turns(1000)) {
        let switches = yields.detail.voluntary_switches + yields.detail.involuntary_switches;
        assert!(switches >= 100, "{yields:?}");
    }
    for cache in run(pinned(CacheYield::default(), 2), turns(200)) {
        let switches = cache.detail.voluntary_switches + cache.detail.involuntary_switches;
        assert!(switches >= 20, "{cache:?}");
        assert_eq!(cache.detail.node_pages.iter().map(|(_, pages)| pages).sum::<u64>(), 64, "{cache:?}");
    }
    let cache = run(group(CachePressure::default(), 1), turns(10)).remove(0);
    assert_eq!(cache.detail.node_pages.iter().map(|(_, pages)| pages).sum::<u64>(), 256, "{cache:?}");
}

#[test]
fn kinds_that_sleep_measure_their_timers() {
    let ms = Duration::from_millis;
    for work in [
        WorkType::from(Bursty { burst: Duration::from_micros(100), rest: ms(1) }),
        IdleChurn::default().into(),
        Mixed { compute: Duration::from_micros(100), yields: 1, rest: ms(1) }.into(),
    ] {
        let report = run(group(work, 1), turns(20)).remove(0);
        let turns_a_rest = if report.work == "Mixed" { 2 } else { 1 };
        assert!(report.detail.timers.total >= report.iterations / turns_a_rest - 2, "{report:?}");
        assert!(report.detail.voluntary_switches >= 8, "{report:?}");
        assert!(report.detail.max_off_cpu_ns > 0, "{report:?}");
    }
    let timer = run(group(TimerLatency::default(), 1), turns(20)).remove(0);
    assert_eq!(timer.detail.timers.total, timer.iterations);
    assert!(timer.detail.timers.max_ns > 0 && timer.detail.timers.sum_ns >= timer.detail.timers.max_ns);
    assert_eq!(timer.detail.timers.samples_ns.len() as u64, timer.iterations.min(512));
}

#[test]
fn kinds_that_wake_each_other_measure_it() {
    for work in [
        WorkType::from(PipeIo { bytes: 512 }),
        FutexPingPong::default().into(),
        FutexFanOut::default().into(),
        WakeChain::default().into(),
        SignalStorm { burst: 1 }.into(),
    ] {
        let reports = run(smallest(work), turns(200));
        for report in &reports {
            let trips = report.iterations;
            assert!((trips..=trips + 2).contains(&report.detail.wakes.total), "{report:?}");
            assert!(report.detail.wakes.max_ns > 0, "{report:?}");
        }
        // On one CPU a worker may be preempted by the one that it woke, which then sleeps before it is woken again.
        let slept: u64 = reports.iter().map(|report| report.detail.voluntary_switches).sum();
        assert!(slept >= reports[0].iterations / 10, "{reports:?}");
    }
    for work in [WorkType::from(ThunderingHerd::default()), EpollStorm::default().into()] {
        let reports = run(smallest(work), turns(20));
        assert_eq!(reports[0].detail.wakes.total, 0, "{:?}", reports[0]);
        assert!(reports[0].detail.timers.total >= 10, "{:?}", reports[0]);
        for report in &reports[1..] {
            assert_eq!(report.detail.wakes.total, report.iterations, "{report:?}");
        }
    }
    let storm = run(group(SignalStorm { burst: 8 }, 2), turns(20));
    assert_eq!(storm[1].work_units, 8 * storm[1].iterations);
}

#[test]
fn kinds_that_share_something_wait_for_it() {
    let slow = ProducerConsumer { depth: 4, consume: 100_000, ..ProducerConsumer::default() };
    let queue = run(pinned(slow, 2), turns(20));
    let (put, taken) = (queue[0].work_units, queue[1].work_units);
    assert!(put >= taken.saturating_sub(1) && put <= taken + 6, "{put} put, {taken} taken");
    assert!(queue[0].detail.wakes.total > 0, "{:?}", queue[0]);
    // On one CPU a mutex is wanted only when its owner was preempted.
    let busy = MutexContention { inside: 1_000_000, outside: 1 };
    let owners =
        run(pinned(busy, 3), |slots| turns(5)(slots) && slots.iter().any(|slot| slot.wakes.read().total > 0));
    assert!(owners.iter().any(|owner| owner.detail.wakes.total > 0), "{owners:?}");
}

/// Policy, priority and nice value of each worker of a group, when each has done a turn.
fn classes(group: WorkerGroup) -> Vec<(i32, u32, i32)> {
    let mut workload = WorkloadHandle::spawn(&[group]).expect("workers");
    workload.start().expect("a start");
    wait_until(|| turns(1)(workload.slots()));
    let class = |tid| {
        let (policy, priority, _) = policy(tid);
        (policy, priority, rustix::process::getpriority_process(Some(tid)).expect("a nice value"))
    };
    workload.tids().map(|(tid, _)| class(tid)).collect()
}

#[test]
fn kinds_of_unequal_workers_give_them_their_classes() {
    if !is_privileged() {
        return;
    }
    let (fifo, other) = (libc::SCHED_FIFO, libc::SCHED_OTHER);
    let own = rustix::process::getpriority_process(None).expect("the test's nice value");
    let nice = PriorityInversion::default();
    let realtime = PriorityInversion { realtime: true, ..nice };
    assert_eq!(classes(group(nice, 3)), [(other, 0, 19), (other, 0, 0), (other, 0, -20)]);
    assert_eq!(classes(group(realtime, 3)), [(fifo, 1, own), (fifo, 2, own), (fifo, 3, own)]);
    let preempts = PreemptStorm { priority: 7, ..PreemptStorm::default() };
    assert_eq!(classes(group(preempts, 3)), [(fifo, 7, own), (other, 0, own), (other, 0, own)]);
    let starves = RtStarvation { priority: 8, busy: Duration::from_millis(5), ..RtStarvation::default() };
    assert_eq!(classes(group(starves, 2)), [(fifo, 8, own), (other, 0, own)]);
}

#[test]
fn the_important_worker_of_an_inversion_waits_for_the_mutex() {
    if !is_privileged() {
        return;
    }
    for inherit in [false, true] {
        for realtime in [false, true] {
            let work = PriorityInversion { realtime, inherit, ..PriorityInversion::default() };
            // The low worker has it for most of its time, so that the high one must wait sooner or later.
            let reports = run(pinned(work, 3), |slots| turns(2)(slots) && slots[2].wakes.read().total > 0);
            assert!(reports[2].detail.wakes.total > 0, "{reports:?}");
        }
    }
}

#[test]
fn kinds_that_change_their_own_settings_really_do() {
    if !is_privileged() {
        return;
    }
    for work in [
        WorkType::from(NiceSweep::default()),
        PolicyChurn::default().into(),
        AffinityChurn::default().into(),
        CgroupChurn::default().into(),
    ] {
        if !is_possible(&work) {
            continue;
        }
        let report = run(group(work, 1), turns(120)).remove(0);
        assert_eq!(report.work_units, report.iterations, "{report:?}");
        if report.work == "AffinityChurn" {
            assert_eq!(report.cpus_used, own_cpus(), "{report:?}");
            assert!(own_cpus().len() == 1 || report.migrations >= report.iterations - 1, "{report:?}");
        }
    }
}

#[test]
fn the_cgroups_of_a_churner_are_gone_also_when_it_was_killed() {
    if !can_make_cgroups() {
        return;
    }
    let mut workload = WorkloadHandle::spawn(&[group(CgroupChurn::default(), 1)]).expect("a worker");
    workload.start().expect("a start");
    let mount = PathBuf::from(cgroup2_mount().expect("a mount").to_str().expect("a path"));
    let (pid, _) = workload.pids().next().expect("a worker");
    let churning = || {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.strip_prefix("0::/"))
            .find_map(|path| path.contains(CHURN_PREFIX).then(|| mount.join(path)))
    };
    let mut path = None;
    wait_until(|| {
        path = churning();
        path.is_some()
    });
    let path = path.expect("a cgroup of its own");
    assert!(path.exists());
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a signal");
    let report = workload.stop_and_collect().remove(0);
    assert_eq!(report.fault.as_deref(), Some("was killed by signal 9"));
    assert!(!path.exists(), "{} is left", path.display());
}

#[test]
fn kinds_with_memory_fault_and_tell_its_nodes() {
    let faults = run(group(PageFaultChurn { pages: 100 }, 1), turns(20)).remove(0);
    assert!(faults.detail.minor_faults >= faults.work_units * 100, "{faults:?}");
    assert_eq!(faults.detail.node_pages.iter().map(|(_, pages)| pages).sum::<u64>(), 100);
    let sweep = run(group(NumaSweep { bytes: 40 * 4096 }, 1), turns(20)).remove(0);
    assert_eq!(sweep.detail.node_pages.iter().map(|(_, pages)| pages).sum::<u64>(), 40);
}

#[test]
fn kinds_that_preempt_take_the_cpu_from_the_others() {
    if !is_privileged() {
        return;
    }
    let (busy, rest) = (Duration::from_millis(20), Duration::from_millis(5));
    for work in [WorkType::from(PreemptStorm::default()), RtStarvation { busy, rest, priority: 5 }.into()] {
        // So much CPU time is much more than there is between two of the preemptions.
        let has_run = |slot: &WorkerSlot| slot.cpu_ns.load(Relaxed) >= 50_000_000;
        let reports = run(pinned(work, 2), |slots| turns(20)(slots) && has_run(&slots[1]));
        assert!(reports[1].detail.involuntary_switches >= 5, "{reports:?}");
        if reports[0].work == "RtStarvation" {
            assert!(reports[1].detail.max_off_cpu_ns >= 19_000_000, "{reports:?}");
        }
    }
}

#[test]
fn children_are_reaped_and_files_are_read_and_written() {
    let forks = run(group(ForkExit::default(), 1), turns(20)).remove(0);
    assert_eq!(forks.work_units, forks.iterations);
    // Each child is waited for; one that had ended before, on another CPU, without a switch.
    assert!(forks.detail.voluntary_switches >= 1, "{forks:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_path_buf();
    run(group(IoSyncWrite { folder: path.clone(), blocks: 2 }, 1), turns(5));
    let read = run(group(IoRandRead { folder: path.clone(), bytes: 1 << 16 }, 1), turns(500)).remove(0);
    assert_eq!(read.work_units, read.iterations);
    assert_eq!(std::fs::read_dir(&path).expect("the folder").count(), 0);
    let gone = IoSyncWrite { folder: path.join("gone"), blocks: 1 };
    assert!(group(gone, 1).check().is_err());
}

#[test]
fn a_sequence_does_each_of_its_kinds() {
    let ms = Duration::from_millis(5);
    let kinds: Vec<(WorkType, Duration)> = vec![
        (SpinWait.into(), ms),
        (TimerLatency::default().into(), ms),
        (PageFaultChurn { pages: 10 }.into(), ms),
    ];
    let report = run(group(Sequence(kinds), 1), |slots| {
        let slot = &slots[0];
        slot.timers.read().total >= 4 && slot.node_pages[0].load(Relaxed) == 10
    });
    assert!(report[0].detail.minor_faults >= 10, "{report:?}");
    let nested = Sequence(vec![(Sequence::default().into(), ms)]);
    assert!(nested.check().is_err());
}

#[test]
fn an_authors_loop_has_its_place_and_its_faults_are_reported() {
    let place = Custom(|worker| {
        let units = (worker.index() * 10 + worker.group_size()) as u64;
        worker.note_wake(worker.now_ns());
        while worker.turn(units) {
            worker.rest(Duration::from_millis(1));
        }
        Ok(())
    });
    let reports = run(group(place, 3), turns(3));
    assert_eq!(reports[2].work_units, 23 * reports[2].iterations);
    assert_eq!(reports[2].detail.wakes.total, 1);
    assert!(reports[2].detail.timers.total >= 2);
    let failed = |work| run_until(&[group(work, 1)], |_| false).remove(0).fault.unwrap_or_default();
    assert_eq!(failed(Custom(|_| Ok(()))), "ended before it was told to");
    let errs = Custom(|_| Err(std::io::Error::from_raw_os_error(libc::ENOSPC)));
    assert!(failed(errs).contains("system call of its work failed: No space left"));
    // Without the hook, which would print.
    let panics = Custom(|_| std::panic::resume_unwind(Box::new(())));
    assert_eq!(failed(panics), "its loop panicked");
}

#[test]
fn a_parameter_out_of_its_bounds_is_named() {
    let zero = Duration::ZERO;
    for (work, named) in [
        (WorkType::from(YieldHeavy { rounds: 0 }), "YieldHeavy.rounds is 0"),
        (Mixed { compute: zero, ..Mixed::default() }.into(), "Mixed.compute is 0ns"),
        (Mixed { yields: 0, ..Mixed::default() }.into(), "Mixed.yields is 0"),
        (Mixed { rest: zero, ..Mixed::default() }.into(), "Mixed.rest"),
        (
            Bursty { burst: zero, ..Bursty::default() }.into(),
            "Bursty.burst is 0ns; it must be from 1 µs to 10 s",
        ),
        (Bursty { rest: Duration::from_secs(11), ..Bursty::default() }.into(), "Bursty.rest is 11s"),
        (IdleChurn { rounds: 0, ..IdleChurn::default() }.into(), "IdleChurn.rounds"),
        (IdleChurn { idle: zero, ..IdleChurn::default() }.into(), "IdleChurn.idle"),
        (CachePressure { bytes: 0 }.into(), "CachePressure.bytes"),
        (CacheYield { bytes: usize::MAX }.into(), "CacheYield.bytes"),
        (PipeIo { bytes: 7 }.into(), "PipeIo.bytes is 7"),
        (FutexPingPong { rounds: 0 }.into(), "FutexPingPong.rounds"),
        (FutexFanOut { rounds: 0 }.into(), "FutexFanOut.rounds"),
        (WakeChain { rounds: 0 }.into(), "WakeChain.rounds"),
        (ThunderingHerd { interval: zero, ..ThunderingHerd::default() }.into(), "ThunderingHerd.interval"),
        (ThunderingHerd { rounds: 0, ..ThunderingHerd::default() }.into(), "ThunderingHerd.rounds"),
        (EpollStorm { events: 65, ..EpollStorm::default() }.into(), "EpollStorm.events is 65"),
        (EpollStorm { interval: zero, ..EpollStorm::default() }.into(), "EpollStorm.interval"),
        (ProducerConsumer { depth: 0, ..ProducerConsumer::default() }.into(), "ProducerConsumer.depth"),
        (ProducerConsumer { produce: 0, ..ProducerConsumer::default() }.into(), "ProducerConsumer.produce"),
        (ProducerConsumer { consume: 0, ..ProducerConsumer::default() }.into(), "ProducerConsumer.consume"),
        (TimerLatency { interval: Duration::from_secs(2) }.into(), "TimerLatency.interval is 2s"),
        (ForkExit { rounds: 0 }.into(), "ForkExit.rounds"),
        (NiceSweep { from: 5, to: 5, rounds: 1 }.into(), "NiceSweep.from..to is 5..5"),
        (NiceSweep { rounds: 0, ..NiceSweep::default() }.into(), "NiceSweep.rounds"),
        (AffinityChurn { rounds: 0 }.into(), "AffinityChurn.rounds"),
        (PolicyChurn { policies: Vec::new(), rounds: 1 }.into(), "the number of PolicyChurn.policies is 0"),
        (
            PolicyChurn { policies: vec![SchedPolicy::Normal, SchedPolicy::Fifo(100)], rounds: 1 }.into(),
            "the priority is 100",
        ),
        (PageFaultChurn { pages: 0 }.into(), "PageFaultChurn.pages"),
        (NumaSweep { bytes: 1 }.into(), "NumaSweep.bytes is 1"),
        (MutexContention { inside: 0, outside: 1 }.into(), "MutexContention.inside"),
        (MutexContention { inside: 1, outside: 0 }.into(), "MutexContention.outside"),
        (PriorityInversion { hold: zero, ..PriorityInversion::default() }.into(), "PriorityInversion.hold"),
        (PriorityInversion { rest: zero, ..PriorityInversion::default() }.into(), "PriorityInversion.rest"),
        (SignalStorm { burst: 0 }.into(), "SignalStorm.burst"),
        (PreemptStorm { interval: zero, ..PreemptStorm::default() }.into(), "PreemptStorm.interval"),
        (PreemptStorm { rounds: 0, ..PreemptStorm::default() }.into(), "PreemptStorm.rounds"),
        (PreemptStorm { priority: 0, ..PreemptStorm::default() }.into(), "PreemptStorm.priority"),
        (RtStarvation { busy: zero, ..RtStarvation::default() }.into(), "RtStarvation.busy"),
        (RtStarvation { rest: zero, ..RtStarvation::default() }.into(), "RtStarvation.rest"),
        (RtStarvation { priority: 100, ..RtStarvation::default() }.into(), "RtStarvation.priority is 100"),
        (IoSyncWrite { blocks: 0, ..IoSyncWrite::default() }.into(), "IoSyncWrite.blocks"),
        (IoSyncWrite { folder: "/none".into(), blocks: 1 }.into(), "IoSyncWrite.folder is `/none`"),
        (IoRandRead { bytes: 0, ..IoRandRead::default() }.into(), "IoRandRead.bytes"),
        (IoRandRead { folder: "/none".into(), bytes: 4096 }.into(), "IoRandRead.folder is `/none`"),
        (Sequence(Vec::new()).into(), "the length of a Sequence is 0"),
        (Sequence(vec![(SpinWait.into(), zero)]).into(), "a time of a Sequence is 0ns"),
        (Sequence(vec![(PipeIo::default().into(), zero)]).into(), "a kind of a Sequence is PipeIo"),
        (
            Sequence(vec![(ForkExit { rounds: 0 }.into(), Duration::from_secs(1))]).into(),
            "ForkExit.rounds is 0",
        ),
    ] {
        let error = work.check().expect_err("out of its bounds").to_string();
        assert!(error.contains(named), "{error}");
    }
    let settings = Settings { clone_mode: Some(CloneMode::Thread), ..Settings::default() };
    let threads = WorkerGroup { settings, ..group(CgroupChurn::default(), 1) };
    assert!(threads.check().is_err());
}
