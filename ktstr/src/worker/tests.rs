//! Workers as a whole: how they start, end and are reported, and that their settings are the kernel's.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::{Duration, Instant};

use guest_init::message::{Latencies, WorkerDetail, WorkerReport};
use rustix::process::{Pid, Signal, kill_process};

use super::kinds::*;
use super::slot::{SlotState, WorkerSlot};
use super::sys;
use super::*;
use crate::cpu_set::CpuSet;

/// A guard against a hang, of a test that waits for something to happen.
const HANG: Duration = Duration::from_secs(60);

fn group(work: impl Into<WorkType>, count: usize) -> WorkerGroup {
    WorkerGroup::new("cg", count, work)
}

fn with(settings: Settings) -> WorkerGroup {
    WorkerGroup { settings, ..group(SpinWait, 1) }
}

/// The CPUs that this test may use.
pub fn own_cpus() -> Vec<u32> {
    let mask = sys::affinity().expect("the test's own CPUs");
    (0..1024).filter(|cpu: &u32| mask[*cpu as usize / 64] >> (cpu % 64) & 1 == 1).collect()
}

/// Start workers and let them run until `done`, or one of them has ended.
pub fn run_until(groups: &[WorkerGroup], done: impl Fn(&[WorkerSlot]) -> bool) -> Vec<WorkerReport> {
    let mut workload = WorkloadHandle::spawn(groups).expect("workers");
    workload.start().expect("a start");
    wait_until(|| {
        let slots = workload.slots();
        done(slots) || slots.iter().any(WorkerSlot::has_died)
    });
    workload.stop_and_collect()
}

/// Wait until it is so.
pub fn wait_until(mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < HANG, "nothing came of it");
        sleep(Duration::from_millis(2));
    }
}

/// Whether this process may do what init of a guest may: be another user, have any policy and nice value. Workers that need it
/// are run in guests as well, so that a user without privileges can do without these tests.
pub fn is_privileged() -> bool {
    const NEEDED: [u32; 3] = [6, 7, 23]; // CAP_SETGID, CAP_SETUID, CAP_SYS_NICE of linux/capability.h
    let own = Pid::from_raw(std::process::id().cast_signed()).expect("a pid");
    let has = u64::from_str_radix(&status(own, "CapEff:"), 16).expect("capabilities");
    let may = NEEDED.iter().all(|bit| has >> bit & 1 == 1);
    if !may {
        println!("not run: this user may not change users, policies and nice values");
    }
    may
}

fn status(pid: Pid, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Starts a worker with these settings and looks at it.
fn look<T>(group: &WorkerGroup, at: impl Fn(Pid) -> T) -> T {
    let mut workload = WorkloadHandle::spawn(std::slice::from_ref(group)).expect("a worker");
    workload.start().expect("a start");
    let (tid, _) = workload.tids().next().expect("a thread");
    at(tid)
}

#[test]
fn workers_wait_for_the_common_start() {
    let mut workload = WorkloadHandle::spawn(&[group(SpinWait, 2)]).expect("workers");
    sleep(Duration::from_millis(20));
    assert!(workload.slots().iter().all(|slot| slot.state() == SlotState::Forked));
    assert_eq!((workload.pids().count(), workload.worker_count()), (2, 2));
    workload.start().expect("a start");
    let running = |slot: &WorkerSlot| slot.state() == SlotState::Running;
    wait_until(|| workload.slots().iter().all(running));
}

#[test]
fn several_workloads_begin_at_one_moment() {
    let mut first = WorkloadHandle::spawn(&[group(SpinWait, 1)]).expect("workers");
    let mut second =
        WorkloadHandle::spawn(&[with(Settings { nice: Some(3), ..Settings::default() })]).expect("workers");
    WorkloadHandle::start_together(&mut [&mut first, &mut second]).expect("a start");
    wait_until(|| {
        let mut slots = first.slots().iter().chain(second.slots());
        slots.all(|slot| slot.work_units.load(Relaxed) > 0)
    });
    let (first, second) = (first.stop_and_collect(), second.stop_and_collect());
    assert_eq!((first[0].fault.as_deref(), second[0].fault.as_deref()), (None, None));
}

#[test]
fn none_of_several_workloads_begins_when_one_is_refused() {
    let mut first = WorkloadHandle::spawn(&[group(SpinWait, 1)]).expect("workers");
    let cpus = vec![CpuSet::from_iter([1023])];
    let mut second = WorkloadHandle::spawn(&[WorkerGroup { cpus, ..group(SpinWait, 2) }]).expect("workers");
    let error = WorkloadHandle::start_together(&mut [&mut first, &mut second]).expect_err("no such CPU");
    let text = error.to_string();
    assert!(text.contains("worker 0 of `cg` could not set its CPUs to 1023: "), "{text}");
    assert!(text.contains("none of them is online"), "{text}");
    assert!(first.slots().iter().all(|slot| slot.state() == SlotState::Ready));
}

#[test]
fn a_spinning_worker_always_wants_the_cpu_and_a_bursty_one_does_not() {
    // Time on a CPU or waiting for one, as a part of wall time: true on a busy host, too.
    let wanting = |work: WorkType| {
        let report =
            run_until(&[group(work, 1)], |slots| slots[0].wall_ns.load(Relaxed) > 200_000_000).remove(0);
        (report.cpu_ns + report.run_delay_ns) as f64 / report.wall_ns as f64
    };
    let (spin, bursty) = (wanting(SpinWait.into()), wanting(Bursty::default().into()));
    assert!(spin > 0.9, "spin {spin:.2}");
    assert!(bursty < spin, "spin {spin:.2}, bursty {bursty:.2}");
}

#[test]
fn a_worker_that_is_killed_is_a_fault_with_its_numbers_so_far() {
    let mut workload = WorkloadHandle::spawn(&[group(SpinWait, 2)]).expect("workers");
    workload.start().expect("a start");
    wait_until(|| workload.slots()[0].work_units.load(Relaxed) > 100);
    let (killed, _) = workload.pids().next().expect("a worker");
    kill_process(killed, Signal::ABORT).expect("a signal");
    wait_until(|| workload.slots()[0].has_died());
    let reports = workload.stop_and_collect();
    assert_eq!(reports[0].fault.as_deref(), Some("was killed by signal 6"));
    assert!(reports[0].work_units > 0 && reports[0].cpu_ns > 0, "{:?}", reports[0]);
    assert_eq!(reports[1].fault, None);
}

#[test]
fn a_worker_that_dies_before_the_start_is_named() {
    let mut workload = WorkloadHandle::spawn(&[group(SpinWait, 2)]).expect("workers");
    let (killed, _) = workload.pids().nth(1).expect("a worker");
    kill_process(killed, Signal::KILL).expect("a signal");
    let error = workload.start().expect_err("a dead worker").to_string();
    assert_eq!(error, "worker 1 of `cg` was killed by signal 9 before the start");
}

#[test]
fn a_worker_that_does_not_come_to_its_settings_is_named() {
    let mut workload = WorkloadHandle::spawn(&[group(SpinWait, 2)]).expect("workers");
    let (stopped, _) = workload.pids().nth(1).expect("a worker");
    kill_process(stopped, Signal::STOP).expect("a signal");
    wait_until(|| status(stopped, "State:").starts_with('T'));
    // The other one may be late, too, on a host that is busy, and is named then.
    let timeout = Duration::from_millis(200);
    let error = WorkloadHandle::start_within(&mut [&mut workload], timeout).expect_err("a stopped worker");
    let error = error.to_string();
    assert!(error.contains("within 200ms") && error.contains("worker 1 of `cg`"), "{error}");
}

#[test]
fn the_reports_of_64_workers_have_room_in_a_mebibyte() {
    let full = Latencies { samples_ns: vec![u64::MAX; latency::SAMPLES], ..Latencies::default() };
    let detail = WorkerDetail {
        policy: "Deadline { runtime: 100.123456ms, deadline: 100.123456ms, period: 100.123456ms }".to_owned(),
        wakes: full.clone(),
        timers: full,
        node_pages: (0..slot::MAX_NODES as u32).map(|node| (node, 1)).collect(),
        ..WorkerDetail::default()
    };
    let cpus_used = (0..slot::MAX_CPUS as u32).collect();
    let report = WorkerReport { cpus_used, detail, ..WorkerReport::default() };
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&report).expect("bytes").len();
    assert!(64 * bytes <= 1 << 20, "{bytes} bytes of each");
}

#[test]
fn the_peers_of_a_lost_worker_say_so() {
    for work in
        [WorkType::from(PipeIo::default()), FutexPingPong::default().into(), SignalStorm::default().into()]
    {
        let mut workload = WorkloadHandle::spawn(&[group(work.clone(), 2)]).expect("workers");
        workload.start().expect("a start");
        let (killed, _) = workload.pids().next().expect("a worker");
        kill_process(killed, Signal::KILL).expect("a signal");
        wait_until(|| workload.slots().iter().all(WorkerSlot::has_died));
        let reports = workload.stop_and_collect();
        assert_eq!(reports[0].fault.as_deref(), Some("was killed by signal 9"));
        let fault = reports[1].fault.as_deref().unwrap_or_default();
        assert!(fault.contains("a worker that it works with ended"), "{work}: {fault}");
    }
}

#[test]
fn a_stopped_worker_shows_the_gap_off_the_cpu() {
    let mut workload = WorkloadHandle::spawn(&[group(SpinWait, 1)]).expect("workers");
    workload.start().expect("a start");
    let (pid, _) = workload.pids().next().expect("a worker");
    wait_until(|| workload.slots()[0].work_units.load(Relaxed) > 0);
    kill_process(pid, Signal::STOP).expect("a signal");
    wait_until(|| status(pid, "State:").starts_with('T'));
    sleep(Duration::from_millis(300));
    let before = workload.slots()[0].iterations.load(Relaxed);
    kill_process(pid, Signal::CONT).expect("a signal");
    wait_until(|| workload.slots()[0].iterations.load(Relaxed) > before + 10);
    let reports = workload.stop_and_collect();
    assert_eq!(reports[0].fault, None);
    assert!(reports[0].max_gap_ns >= 290_000_000, "{:?}", reports[0]);
    assert!(reports[0].max_gap_at_ns >= 290_000_000, "{:?}", reports[0]);
    assert!(reports[0].detail.max_off_cpu_ns >= 290_000_000, "{:?}", reports[0]);
}

#[test]
fn what_the_kernel_has_of_a_worker_is_what_was_set() {
    if !is_privileged() {
        return;
    }
    let cpu = own_cpus()[0];
    // Of this thread only, from which workers are forked.
    // SAFETY: the kernel reads one group from a constant.
    let set = unsafe { libc::syscall(libc::SYS_setgroups, 1, &raw const GROUP) };
    assert_eq!(set, 0);
    let settings = Settings {
        nice: Some(7),
        comm: Some("fifteen bytes !".to_owned()),
        uid: Some(65_534),
        gid: Some(65_533),
        policy: Some(SchedPolicy::Batch),
        mem_policy: Some(MemPolicy::Bind(CpuSet::from_iter([0]))),
        ..Settings::default()
    };
    let whole = WorkerGroup { cpus: vec![CpuSet::from_iter([cpu])], ..with(settings) };
    for clone_mode in [CloneMode::Process, CloneMode::Thread] {
        let mut whole = whole.clone();
        whole.settings.clone_mode = Some(clone_mode);
        look(&whole, |tid| {
            assert_eq!(status(tid, "Name:"), "fifteen bytes !");
            assert_eq!(status(tid, "Uid:"), "65534 65534 65534 65534");
            assert_eq!(status(tid, "Gid:"), "65533 65533 65533 65533");
            assert_eq!(status(tid, "Groups:"), "");
            assert_eq!(status(tid, "Cpus_allowed_list:"), cpu.to_string());
            let nice = rustix::process::getpriority_process(Some(tid)).expect("a nice value");
            assert_eq!((nice, policy(tid).0), (7, libc::SCHED_BATCH));
            let maps = std::fs::read_to_string(format!("/proc/{tid}/numa_maps")).expect("maps");
            assert!(maps.contains("bind:0"), "{maps}");
        });
    }
}

#[test]
fn a_worker_without_a_name_is_called_after_its_cgroup_and_number() {
    for clone_mode in [CloneMode::Process, CloneMode::Thread] {
        let named = |cgroup: &str, comm: Option<&str>| {
            let settings = Settings {
                comm: comm.map(str::to_owned),
                clone_mode: Some(clone_mode),
                ..Settings::default()
            };
            WorkerGroup { settings, ..WorkerGroup::new(cgroup, 2, SpinWait) }
        };
        let groups = [named("cg_0", None), named("background_is_starved", None), named("other", Some("own"))];
        let mut workload = WorkloadHandle::spawn(&groups).expect("workers");
        workload.start().expect("a start");
        let names: Vec<String> = workload.tids().map(|(tid, _)| status(tid, "Name:")).collect();
        assert_eq!(names, ["cg_0/0", "cg_0/1", "backgr~tarved/0", "backgr~tarved/1", "own", "own"]);
        let processes: Vec<String> = workload.pids().map(|(pid, _)| status(pid, "Name:")).collect();
        match clone_mode {
            CloneMode::Process => assert_eq!(processes, names),
            CloneMode::Thread => assert_eq!(processes, ["cg_0", "backgro~starved", "other"]),
        }
        workload.stop_and_collect();
    }
}

/// A further group of the test, which is not that of the worker.
static GROUP: u32 = 4711;

/// `sched_getattr(2)`: policy, priority, and the three times of a deadline.
pub fn policy(tid: Pid) -> (i32, u32, [u64; 3]) {
    // SAFETY: all zeros is a valid structure.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    let (tid, bytes) = (tid.as_raw_pid(), size_of::<libc::sched_attr>());
    // SAFETY: the kernel writes at most `bytes` bytes of the structure, which is ours.
    let read = unsafe { libc::syscall(libc::SYS_sched_getattr, tid, &raw mut attr, bytes, 0) };
    assert_eq!(read, 0);
    let times = [attr.sched_runtime, attr.sched_deadline, attr.sched_period];
    (attr.sched_policy.cast_signed(), attr.sched_priority, times)
}

#[test]
fn every_policy_is_the_kernels_and_is_reported() {
    if !is_privileged() {
        return;
    }
    let ms = Duration::from_millis;
    let deadline = SchedPolicy::Deadline { runtime: ms(1), deadline: ms(50), period: ms(100) };
    let rests: WorkType = Bursty { burst: Duration::from_micros(10), rest: ms(1) }.into();
    for (wanted, number, priority, times) in [
        (SchedPolicy::Normal, libc::SCHED_OTHER, 0, None),
        (SchedPolicy::Batch, libc::SCHED_BATCH, 0, None),
        (SchedPolicy::Idle, libc::SCHED_IDLE, 0, None),
        (SchedPolicy::Fifo(3), libc::SCHED_FIFO, 3, None),
        (SchedPolicy::RoundRobin(4), libc::SCHED_RR, 4, None),
        (deadline, libc::SCHED_DEADLINE, 0, Some([1_000_000, 50_000_000, 100_000_000])),
    ] {
        let settings = Settings { policy: Some(wanted), ..Settings::default() };
        let group = WorkerGroup { settings, ..group(rests.clone(), 1) };
        let (found, its_priority, its_times) = look(&group, policy);
        assert_eq!((found, its_priority), (number, priority), "{wanted}");
        assert!(times.is_none_or(|times| times == its_times), "{its_times:?}");
        let report = run_until(&[group], |slots| slots[0].work_units.load(Relaxed) > 0).remove(0);
        assert_eq!(report.detail.policy, wanted.to_string());
    }
}

#[test]
fn ext_is_set_or_refused_with_the_reason() {
    let mut workload =
        WorkloadHandle::spawn(&[with(Settings { policy: Some(SchedPolicy::Ext), ..Settings::default() })])
            .expect("workers");
    let started = workload.start();
    if PathBuf::from("/sys/kernel/sched_ext").exists() {
        started.expect("a policy that the kernel has");
        let (pid, _) = workload.pids().next().expect("a worker");
        assert_eq!(policy(pid).0, 7);
    } else {
        let error = started.expect_err("a policy that the kernel has not").to_string();
        assert!(error.contains("set the policy to Ext"), "{error}");
        assert!(error.contains("without CONFIG_SCHED_CLASS_EXT"), "{error}");
    }
}

#[test]
fn every_memory_policy_is_the_kernels() {
    let zero = || CpuSet::from_iter([0]);
    for (wanted, told) in [
        (MemPolicy::Default, " default "),
        (MemPolicy::Bind(zero()), " bind:0 "),
        (MemPolicy::Preferred(0), " prefer:0 "),
        (MemPolicy::Interleave(zero()), " interleave:0 "),
        (MemPolicy::Local, " local "),
        (MemPolicy::PreferredMany(zero()), " prefer (many):0 "),
    ] {
        let group = with(Settings { mem_policy: Some(wanted.clone()), ..Settings::default() });
        let maps =
            look(&group, |pid| std::fs::read_to_string(format!("/proc/{pid}/numa_maps"))).expect("maps");
        assert!(maps.contains(told), "{wanted:?}: {maps}");
    }
}

#[test]
fn a_running_worker_gets_other_cpus() {
    let cpu = own_cpus()[0];
    for mode in [CloneMode::Process, CloneMode::Thread] {
        let settings = Settings { clone_mode: Some(mode), ..Settings::default() };
        let mut workload =
            WorkloadHandle::spawn(&[WorkerGroup { settings, ..group(SpinWait, 2) }]).expect("workers");
        workload.start().expect("a start");
        let cpus = CpuSet::from_iter([cpu]);
        workload.set_affinity(1, &cpus).expect("a CPU");
        let (tid, _) = workload.tids().nth(1).expect("a worker");
        assert_eq!(status(tid, "Cpus_allowed_list:"), cpus.to_string());
        let error = workload.set_affinity(2, &cpus).expect_err("no such worker").to_string();
        assert!(error.contains("no worker 2: there are 2"), "{error}");
        let error = workload.set_affinity(0, &CpuSet::new()).expect_err("no CPU").to_string();
        assert!(error.contains("worker 0 of `cg`"), "{error}");
    }
}

#[test]
fn threads_are_one_process_and_a_report_each() {
    let settings = Settings { clone_mode: Some(CloneMode::Thread), ..Settings::default() };
    let mut workload =
        WorkloadHandle::spawn(&[WorkerGroup { settings, ..group(FutexPingPong::default(), 4) }])
            .expect("workers");
    workload.start().expect("a start");
    let pids: Vec<Pid> = workload.pids().map(|(pid, _)| pid).collect();
    let tids: Vec<Pid> = workload.tids().map(|(tid, _)| tid).collect();
    assert_eq!((pids.len(), tids.len()), (1, 4));
    assert!(tids.iter().all(|tid| PathBuf::from(format!("/proc/{}/task/{tid}", pids[0])).exists()));
    wait_until(|| workload.slots().iter().all(|slot| slot.work_units.load(Relaxed) > 100));
    let reports = workload.stop_and_collect();
    for (report, tid) in reports.iter().zip(tids) {
        assert_eq!(report.fault, None, "{report:?}");
        assert!(report.detail.is_thread && report.pid == tid.as_raw_pid().cast_unsigned(), "{report:?}");
        assert!(report.cpu_ns > 0 && report.cpu_ns <= report.wall_ns, "{report:?}");
        assert!(report.detail.wakes.total > 0, "{report:?}");
    }
}

#[test]
fn a_killed_process_is_a_fault_of_all_its_threads() {
    let settings = Settings { clone_mode: Some(CloneMode::Thread), ..Settings::default() };
    let mut workload =
        WorkloadHandle::spawn(&[WorkerGroup { settings, ..group(SpinWait, 2) }]).expect("workers");
    workload.start().expect("a start");
    wait_until(|| workload.slots().iter().all(|slot| slot.cpu_ns.load(Relaxed) > 0));
    let (pid, _) = workload.pids().next().expect("a process");
    kill_process(pid, Signal::KILL).expect("a signal");
    wait_until(|| workload.slots().iter().all(WorkerSlot::has_died));
    for report in workload.stop_and_collect() {
        assert_eq!(report.fault.as_deref(), Some("was killed by signal 9"));
        assert!(report.work_units > 0 && report.cpu_ns > 0, "{report:?}");
    }
}

#[test]
fn groups_that_do_not_fit_their_work_are_refused() {
    for (group, why) in [
        (group(PipeIo::default(), 3), "multiple of 2"),
        (group(SpinWait, 0), "at least one"),
        (group(WakeChain::default(), 1), "at least 2 of them"),
        (group(PriorityInversion::default(), 4), "multiple of 3"),
    ] {
        let error = WorkloadHandle::spawn(&[group]).expect_err("a bad size").to_string();
        assert!(error.contains(why), "{error}");
    }
    let bad = with(Settings { comm: Some(String::new()), ..Settings::default() });
    assert!(WorkloadHandle::spawn(&[bad]).is_err());
    let bad = WorkerGroup { cpus: vec![CpuSet::new()], ..group(SpinWait, 1) };
    assert!(WorkloadHandle::spawn(&[bad]).is_err());
}

#[test]
fn dropping_a_workload_leaves_no_process() {
    let workload = WorkloadHandle::spawn(&[group(SpinWait, 2)]).expect("workers");
    let pids: Vec<Pid> = workload.pids().map(|(pid, _)| pid).collect();
    drop(workload);
    for pid in pids {
        assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "{pid} is left");
    }
}

#[test]
fn a_worker_of_another_user_still_dies_with_the_test() {
    if !is_privileged() {
        return;
    }
    let tells_signal = Custom(|worker| {
        let signal = rustix::process::parent_process_death_signal()?;
        let units = signal.map_or(0, |signal| signal.as_raw().unsigned_abs().into());
        while worker.turn(units) {
            worker.rest(Duration::from_millis(1));
        }
        Ok(())
    });
    let settings = Settings { uid: Some(65_534), gid: Some(65_534), ..Settings::default() };
    let group = WorkerGroup { settings, ..group(tells_signal, 1) };
    let report = run_until(&[group], |slots| slots[0].iterations.load(Relaxed) > 0).remove(0);
    assert_eq!((report.fault, report.work_units), (None, 9 * report.iterations));
}
