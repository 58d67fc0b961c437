//! A set of workers that begin together: spawn, place, start, stop, collect.

use std::ffi::CString;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;

use super::links::Links;
use super::process::{self, Process, Schedstat, SchedstatError, Task, wait_for_all};
use super::settings::{RangeError, Settings};
use super::shared::{SharedMemory, SlotState, WorkerSlot, monotonic_ns};
use super::work::WorkType;
use crate::cpu_set::CpuSet;
use guest_init::message::{WorkerDetail, WorkerReport};

/// How long workers may take to end after they were told to. Longer than a scheduler is let starve them by the
/// default watchdog (5 s), so that only a worker that is really stuck is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a killed worker may take to die.
const KILL_TIMEOUT: Duration = Duration::from_secs(8);

/// Workers of one kind in one cgroup.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerGroup {
    /// Name of the cgroup, for reports.
    pub cgroup: String,
    /// How many.
    pub count: usize,
    /// What they do.
    pub work: WorkType,
    /// How the kernel is to treat them.
    pub settings: Settings,
    /// The CPUs of each, in turn; empty: those of the cgroup.
    pub cpus: Vec<CpuSet>,
}

impl WorkerGroup {
    /// So many workers of this kind, with nothing set.
    pub fn new(cgroup: impl Into<String>, count: usize, work: impl Into<WorkType>) -> Self {
        Self {
            cgroup: cgroup.into(),
            count,
            work: work.into(),
            settings: Settings::default(),
            cpus: Vec::new(),
        }
    }

    /// Whether there can be such workers.
    ///
    /// # Errors
    /// A number that does not fit the work, a setting out of its range.
    pub fn check(&self) -> Result<(), WorkerError> {
        let Self { cgroup, count, work, settings, .. } = self;
        let gang = work.gang();
        if *count == 0 || !count.is_multiple_of(gang) {
            return Err(WorkerError::Count { cgroup: cgroup.clone(), count: *count, work: *work, gang });
        }
        settings.check().map_err(|source| WorkerError::Range { cgroup: cgroup.clone(), source })
    }
}

/// Why workers could not be had.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A group's size does not fit its work.
    #[error(
        "{count} workers of type {work} in `{cgroup}`: workers of this type work in groups of {gang}: the number must be a multiple of {gang}, and at least {gang}"
    )]
    Count {
        /// The group's cgroup.
        cgroup: String,
        /// Workers asked for.
        count: usize,
        /// Their work.
        work: WorkType,
        /// How many work together.
        gang: usize,
    },
    /// A setting out of its range.
    #[error("workers of `{cgroup}`")]
    Range {
        /// The group's cgroup.
        cgroup: String,
        /// Which.
        source: RangeError,
    },
    /// The kernel gave no process, pipe or memory.
    #[error("could not {what} for worker {index} of `{cgroup}`")]
    Spawn {
        /// What was tried.
        what: &'static str,
        /// The worker's number in its group.
        index: usize,
        /// The group's cgroup.
        cgroup: String,
        /// Why.
        source: Errno,
    },
    /// No memory to share with the workers.
    #[error("could not map shared memory for {workers} workers")]
    Map {
        /// How many.
        workers: usize,
        /// Why.
        source: Errno,
    },
    /// The kernel does not tell a worker's run delay.
    #[error(transparent)]
    Schedstat(#[from] SchedstatError),
}

/// Forked workers. Dropping it kills those that still live.
///
/// ```
/// use ktstr::prelude::*;
///
/// let group = WorkerGroup::new("cg_0", 2, WorkType::SpinWait);
/// let mut workload = WorkloadHandle::spawn(&[group])?;
/// workload.start()?;
/// std::thread::sleep(std::time::Duration::from_millis(10));
/// let reports = workload.stop_and_collect();
/// assert_eq!(reports.len(), 2);
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Debug)]
pub struct WorkloadHandle {
    shared: SharedMemory,
    workers: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    process: Process,
    index: usize,
    group: WorkerGroup,
    baseline: Schedstat,
}

impl WorkloadHandle {
    /// Fork the workers of all groups; they sleep until [`WorkloadHandle::start`].
    ///
    /// # Errors
    /// A group whose size does not fit its work, and what the kernel refuses. Workers that were already forked
    /// are killed.
    pub fn spawn(groups: &[WorkerGroup]) -> Result<Self, WorkerError> {
        groups.iter().try_for_each(WorkerGroup::check)?;
        let total = groups.iter().map(|group| group.count).sum();
        let shared =
            SharedMemory::new(total).map_err(|source| WorkerError::Map { workers: total, source })?;
        let mut workload = Self { shared, workers: Vec::with_capacity(total) };
        for group in groups {
            workload.spawn_group(group)?;
        }
        Ok(workload)
    }

    fn spawn_group(&mut self, group: &WorkerGroup) -> Result<(), WorkerError> {
        let gang = group.work.gang();
        let mut ring: Vec<Links> = Vec::new();
        for index in 0..group.count {
            let fault = |what| {
                let cgroup = group.cgroup.clone();
                move |source| WorkerError::Spawn { what, index, cgroup, source }
            };
            let member = index % gang;
            if member == 0 && gang > 1 {
                // Drops the ring of the gang before: only its members hold those pipes now.
                ring = Links::ring(gang).map_err(fault("make pipes"))?;
            }
            let slots = self.shared.slots();
            let slot = slots.get(self.workers.len()).ok_or(Errno::NOMEM).map_err(fault("find memory"))?;
            let comm = group.settings.comm.as_ref().and_then(|comm| CString::new(comm.as_str()).ok());
            let task =
                Task { header: &self.shared, slot, work: group.work, comm: comm.as_deref(), member, ring };
            let (pid, given_back) = process::fork(task).map_err(fault("fork"))?;
            ring = given_back;
            let process = Process::new(pid).map_err(fault("open a pidfd"))?;
            let (group, baseline) = (group.clone(), Schedstat::default());
            self.workers.push(Worker { process, index, group, baseline });
        }
        Ok(())
    }

    /// The workers' pids with their cgroups' names, in the order of the groups.
    pub fn pids(&self) -> impl Iterator<Item = (Pid, &str)> {
        self.workers.iter().map(|worker| (worker.process.pid(), worker.group.cgroup.as_str()))
    }

    /// Let all workers begin.
    ///
    /// # Errors
    /// `WorkerError::Schedstat`.
    pub fn start(&mut self) -> Result<(), WorkerError> {
        for worker in &mut self.workers {
            worker.baseline = worker.process.schedstat()?;
        }
        self.shared.start();
        Ok(())
    }

    /// Tell all workers to end, wait for them, kill those that do not, and report on each.
    ///
    /// Takes at most the two timeouts (16 s), however many workers are stuck.
    pub fn stop_and_collect(mut self) -> Vec<WorkerReport> {
        // Whoever ended before the flag did so on its own.
        let early: Vec<bool> = self.workers.iter().map(|worker| worker.process.has_ended()).collect();
        self.shared.stop();
        let stopped_ns = monotonic_ns();
        wait_for_all(&self.alive(), nanos(STOP_TIMEOUT));
        let stuck: Vec<bool> = self.workers.iter().map(|worker| !worker.process.has_ended()).collect();
        for (worker, _) in self.workers.iter().zip(&stuck).filter(|(_, stuck)| **stuck) {
            worker.process.kill();
        }
        wait_for_all(&self.alive(), nanos(KILL_TIMEOUT));
        let started_ns = self.shared.started_ns();
        let wall_ns = if started_ns == 0 { 0 } else { stopped_ns.saturating_sub(started_ns) };
        let slots = self.shared.slots();
        let ends = early.into_iter().zip(stuck).map(|(early, stuck)| End { early, stuck, wall_ns });
        self.workers
            .iter_mut()
            .zip(slots)
            .zip(ends)
            .map(|((worker, slot), end)| worker.report(slot, end))
            .collect()
    }

    fn alive(&self) -> Vec<&Process> {
        self.workers.iter().map(|worker| &worker.process).collect()
    }
}

/// How a worker's end looked from outside.
#[derive(Clone, Copy, Debug)]
struct End {
    /// It had ended before it was told to.
    early: bool,
    /// It had to be killed.
    stuck: bool,
    /// From the common start to the stop, ns.
    wall_ns: u64,
}

impl Worker {
    fn report(&mut self, slot: &WorkerSlot, end: End) -> WorkerReport {
        let now = self.process.schedstat();
        let exit = self.process.reap();
        let state = slot.state();
        let fault = match (end.stuck, exit) {
            (_, None) => Some(format!("did not die within {} s of being killed", KILL_TIMEOUT.as_secs())),
            (true, Some(_)) => {
                Some(format!("did not end within {} s and was killed", STOP_TIMEOUT.as_secs()))
            }
            (false, Some(Some(how))) => Some(how),
            (false, Some(None)) => state_fault(slot, state, end.early),
        };
        let now = match now {
            Ok(now) => now,
            // The file was there at the start: it can only be gone with the process, which is a fault already.
            Err(_) => self.baseline,
        };
        let from_kernel_ns = now.cpu_ns.saturating_sub(self.baseline.cpu_ns);
        let mut report = WorkerReport {
            index: u32::try_from(self.index).unwrap_or(u32::MAX),
            pid: self.process.pid().as_raw_pid().cast_unsigned(),
            cgroup: self.group.cgroup.clone(),
            work: self.group.work.name().to_owned(),
            work_units: slot.work_units.load(Relaxed),
            iterations: slot.iterations.load(Relaxed),
            cpu_ns: slot.cpu_ns.load(Relaxed),
            wall_ns: slot.wall_ns.load(Relaxed),
            max_gap_ns: slot.max_gap_ns.load(Relaxed),
            max_gap_at_ns: slot.max_gap_at_ns.load(Relaxed),
            run_delay_ns: now.run_delay_ns.saturating_sub(self.baseline.run_delay_ns),
            migrations: slot.migrations.load(Relaxed),
            cpus_used: slot.cpus_used(),
            fault,
            detail: WorkerDetail::default(),
        };
        if !matches!(state, SlotState::Done | SlotState::PeerGone | SlotState::Failed) {
            // It never wrote its last numbers: the kernel knows its CPU time, and the time since its last turn
            // is a gap that it did not live to count.
            report.cpu_ns = from_kernel_ns;
            let last_gap_ns = end.wall_ns.saturating_sub(report.wall_ns);
            if last_gap_ns > report.max_gap_ns {
                report.max_gap_ns = last_gap_ns;
                report.max_gap_at_ns = end.wall_ns;
            }
            report.wall_ns = end.wall_ns;
        }
        report
    }
}

fn state_fault(slot: &WorkerSlot, state: SlotState, early: bool) -> Option<String> {
    match state {
        SlotState::Done => early.then(|| "ended before it was told to".to_owned()),
        SlotState::PeerGone => Some("the worker that it works with ended before it was told to".to_owned()),
        SlotState::Failed => {
            let errno = Errno::from_raw_os_error(slot.errno.load(Relaxed).cast_signed());
            Some(format!("a system call of its work failed: {errno}"))
        }
        SlotState::Waiting | SlotState::Running => Some("exited in the middle of its work".to_owned()),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::thread::sleep;

    use rustix::process::{Signal, kill_process};

    use super::*;

    fn group(work: WorkType, count: usize) -> WorkerGroup {
        WorkerGroup::new("cg", count, work)
    }

    fn run(work: WorkType, count: usize, ms: u64) -> Vec<WorkerReport> {
        let mut workload = WorkloadHandle::spawn(&[group(work, count)]).expect("workers");
        workload.start().expect("a start");
        sleep(Duration::from_millis(ms));
        workload.stop_and_collect()
    }

    #[test]
    fn every_kind_of_work_does_some_and_ends_when_told_to() {
        for work in WorkType::ALL {
            for report in run(*work, 2, 100) {
                assert_eq!(report.fault, None, "{report:?}");
                assert!(report.work_units > 0 && report.iterations > 0, "{report:?}");
                assert!(report.wall_ns >= 50_000_000, "{report:?}");
                assert!(report.cpu_ns > 0 && report.cpu_ns <= report.wall_ns, "{report:?}");
                assert!(report.max_gap_ns > 0 && report.max_gap_at_ns <= report.wall_ns, "{report:?}");
                assert!(!report.cpus_used.is_empty(), "{report:?}");
                assert_eq!(report.work, work.name());
            }
        }
    }

    #[test]
    fn a_spinning_worker_always_wants_the_cpu_and_a_bursty_one_does_not() {
        // Time on a CPU or waiting for one, as a part of wall time: true on a busy host, too.
        let wanting = |work| {
            let report = run(work, 1, 300).remove(0);
            (report.cpu_ns + report.run_delay_ns) as f64 / report.wall_ns as f64
        };
        let (spin, bursty) = (wanting(WorkType::SpinWait), wanting(WorkType::Bursty));
        assert!(spin > 0.9, "spin {spin:.2}");
        assert!(bursty < spin, "spin {spin:.2}, bursty {bursty:.2}");
    }

    #[test]
    fn workers_wait_for_the_common_start() {
        let workload = WorkloadHandle::spawn(&[group(WorkType::SpinWait, 2)]).expect("workers");
        sleep(Duration::from_millis(50));
        assert!(workload.shared.slots().iter().all(|slot| slot.state() == SlotState::Waiting));
        assert_eq!(workload.pids().count(), 2);
    }

    #[test]
    fn a_worker_that_is_killed_is_a_fault_with_its_numbers_so_far() {
        let mut workload = WorkloadHandle::spawn(&[group(WorkType::SpinWait, 2)]).expect("workers");
        workload.start().expect("a start");
        sleep(Duration::from_millis(100));
        let (killed, _) = workload.pids().next().expect("a worker");
        kill_process(killed, Signal::ABORT).expect("a signal");
        sleep(Duration::from_millis(100));
        let reports = workload.stop_and_collect();
        assert_eq!(reports[0].fault.as_deref(), Some("was killed by signal 6"));
        assert!(reports[0].work_units > 0 && reports[0].cpu_ns > 0, "{:?}", reports[0]);
        assert_eq!(reports[1].fault, None);
    }

    #[test]
    fn the_peer_of_a_lost_worker_says_so() {
        let mut workload = WorkloadHandle::spawn(&[group(WorkType::PipeIo, 2)]).expect("workers");
        workload.start().expect("a start");
        let (killed, _) = workload.pids().next().expect("a worker");
        kill_process(killed, Signal::KILL).expect("a signal");
        wait_for_all(&workload.alive(), nanos(STOP_TIMEOUT));
        let reports = workload.stop_and_collect();
        assert_eq!(reports[0].fault.as_deref(), Some("was killed by signal 9"));
        let fault = reports[1].fault.as_deref().unwrap_or_default();
        assert!(fault.contains("the worker that it works with ended"), "{fault}");
    }

    #[test]
    fn a_stopped_worker_shows_the_gap() {
        let mut workload = WorkloadHandle::spawn(&[group(WorkType::SpinWait, 1)]).expect("workers");
        workload.start().expect("a start");
        let (pid, _) = workload.pids().next().expect("a worker");
        sleep(Duration::from_millis(50));
        kill_process(pid, Signal::STOP).expect("a signal");
        sleep(Duration::from_millis(300));
        kill_process(pid, Signal::CONT).expect("a signal");
        sleep(Duration::from_millis(50));
        let reports = workload.stop_and_collect();
        assert_eq!(reports[0].fault, None);
        assert!(reports[0].max_gap_ns >= 290_000_000, "{:?}", reports[0]);
        assert!(reports[0].max_gap_at_ns >= 300_000_000, "{:?}", reports[0]);
    }

    #[test]
    fn odd_numbers_of_pairs_and_empty_groups_are_refused() {
        let error = WorkloadHandle::spawn(&[group(WorkType::PipeIo, 3)]).expect_err("an odd one").to_string();
        assert!(error.contains("multiple of 2"), "{error}");
        assert!(WorkloadHandle::spawn(&[group(WorkType::SpinWait, 0)]).is_err());
    }

    #[test]
    fn workers_have_the_command_name_that_is_asked_for() {
        let named = |comm: &str| WorkerGroup {
            settings: Settings { comm: Some(comm.to_owned()), ..Settings::default() },
            ..group(WorkType::SpinWait, 1)
        };
        let workload = WorkloadHandle::spawn(&[named("fifteen bytes !"), group(WorkType::SpinWait, 1)])
            .expect("workers");
        let comm = |pid: Pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("a name");
        let pids: Vec<Pid> = workload.pids().map(|(pid, _)| pid).collect();
        // It names itself right after the fork, whenever that is.
        while comm(pids[0]) == comm(pids[1]) {
            sleep(Duration::from_millis(1));
        }
        assert_eq!(comm(pids[0]), "fifteen bytes !\n");
        for bad in ["", "sixteen bytes !!", "a\0b"] {
            let error = WorkloadHandle::spawn(&[named(bad)]).expect_err("a bad name");
            assert!(matches!(error, WorkerError::Range { .. }), "{error}");
        }
    }

    #[test]
    fn dropping_a_workload_leaves_no_process() {
        let workload = WorkloadHandle::spawn(&[group(WorkType::SpinWait, 2)]).expect("workers");
        let pids: Vec<Pid> = workload.pids().map(|(pid, _)| pid).collect();
        drop(workload);
        for pid in pids {
            assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "{pid} is left");
        }
    }
}
