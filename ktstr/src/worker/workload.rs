//! A set of workers that begin together: spawn, place, configure, start, stop, collect.

use std::ffi::CString;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ktstr_replay::units::nanos;
use rustix::io::Errno;
use rustix::process::{Pid, getpid};

use super::apply::{PreparedSettings, Setting};
use super::churned::Churned;
use super::clock::monotonic_ns;
use super::comm::WorkerName;
use super::error::WorkerError;
use super::fork::{Task, Thread, fork_threads, fork_worker};
use super::group::WorkerGroup;
use super::links::Files;
use super::process::{Process, Schedstat, wait_for_all};
use super::report::{End, KILL_TIMEOUT, Member, STOP_TIMEOUT};
use super::shared::SharedMemory;
use super::slot::{SlotState, WorkerSlot};
use super::sys;
use crate::cpu_set::CpuSet;
use guest_init::message::WorkerReport;

/// How long workers may take to apply their settings.
const CONFIGURE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two looks whether a worker has died before it applied its settings.
const CONFIGURE_LOOK: Duration = Duration::from_millis(100);

/// Forked workers. Dropping it kills those that still live.
///
/// ```
/// use ktstr::prelude::*;
///
/// let group = WorkerGroup::new("cg_0", 2, SpinWait);
/// let mut workload = WorkloadHandle::spawn(&[group])?;
/// workload.start()?;
/// std::thread::sleep(std::time::Duration::from_millis(10));
/// let reports = workload.stop_and_collect();
/// assert_eq!(reports.len(), 2);
/// # Ok::<(), anyhow::Error>(())
/// ```
///
/// Several of them begin at one moment, and end so. In a guest the processes are put into cgroups before.
///
/// ```
/// use ktstr::prelude::*;
///
/// let mut one = WorkloadHandle::spawn(&[WorkerGroup::new("cg_0", 1, SpinWait)])?;
/// let mut other = WorkloadHandle::spawn(&[WorkerGroup::new("cg_1", 2, PipeIo::default())])?;
/// assert_eq!((one.worker_count(), other.tids().count(), other.pids().count()), (1, 2, 2));
/// WorkloadHandle::start_together(&mut [&mut one, &mut other])?;
/// // The first worker on one CPU from now on: any that this process may use.
/// # let cpu = rustix::thread::sched_getcpu();
/// one.set_affinity(0, &[cpu as u32].into_iter().collect())?;
/// std::thread::sleep(std::time::Duration::from_millis(10));
/// assert_eq!(WorkloadHandle::stop_together(vec![one, other]).len(), 3);
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Debug)]
pub struct WorkloadHandle {
    shared: SharedMemory,
    groups: Vec<WorkerGroup>,
    processes: Vec<Process>,
    /// For each process, its group.
    homes: Vec<usize>,
    /// The workers, in the order of the slots.
    members: Vec<Member>,
    /// Last, so that it is dropped when the processes are gone.
    churned: Churned,
}

impl WorkloadHandle {
    /// Fork the workers of all groups; they sleep until [`WorkloadHandle::start`].
    ///
    /// # Errors
    /// A group that cannot be, and what the kernel refuses. Workers that were already forked are killed.
    pub fn spawn(groups: &[WorkerGroup]) -> Result<Self, WorkerError> {
        for group in groups {
            group.check()?;
        }
        let total = groups.iter().map(|group| group.count).sum();
        let shared =
            SharedMemory::new(total).map_err(|source| WorkerError::Map { workers: total, source })?;
        let mut workload = Self {
            shared,
            groups: groups.to_vec(),
            processes: Vec::new(),
            homes: Vec::new(),
            members: Vec::with_capacity(total),
            churned: Churned::new(groups),
        };
        for (number, group) in groups.iter().enumerate() {
            workload.spawn_group(number, group)?;
        }
        Ok(workload)
    }

    fn spawn_group(&mut self, number: usize, group: &WorkerGroup) -> Result<(), WorkerError> {
        let fault = |what, index| {
            let cgroup = group.cgroup.clone();
            move |source| WorkerError::Spawn { what, index, cgroup, source }
        };
        let (size, wants) = (group.gang_size(), group.work.files());
        let wanted = PreparedSettings::of(&group.settings);
        let mount = self.churned.mount().map(CString::from);
        let slots = self.shared.slots();
        let slots = slots.get(self.members.len()..).and_then(|slots| slots.get(..group.count));
        let slots = slots.ok_or(Errno::NOMEM).map_err(fault("find memory", 0))?;
        let parent = getpid();
        let task = |index: usize, gang| Task {
            header: &self.shared,
            gang,
            member: index % size,
            index,
            count: group.count,
            name: WorkerName::of(&group.cgroup, index),
            work: &group.work,
            wanted: &wanted,
            cpus: group.cpus_of(index).and_then(sys::mask),
            cgroup_mount: mount.as_deref(),
            parent,
        };
        let mut forked = Vec::new();
        if group.is_threads() {
            let gangs: Vec<(&[WorkerSlot], Files)> = slots
                .chunks(size)
                .map(|gang| Files::new(wants, size).map(|files| (gang, files)))
                .collect::<Result<_, _>>()
                .map_err(fault("make pipes", 0))?;
            let threads: Vec<Thread<'_>> = (0..group.count)
                .filter_map(|index| {
                    let (gang, files) = gangs.get(index / size)?;
                    Some(Thread { task: task(index, gang), files })
                })
                .collect();
            let (name, room) = (WorkerName::of_process(&group.cgroup), Vec::with_capacity(group.count));
            forked.push(fork_threads(&threads, name, room).map_err(fault("fork", 0))?);
        } else {
            for (gang, slots) in slots.chunks(size).enumerate() {
                // Dropped after its members are forked: only they hold it then.
                let mut files = Files::new(wants, size).map_err(fault("make pipes", gang * size))?;
                for index in gang * size..(gang + 1) * size {
                    forked.push(fork_worker(&task(index, slots), &mut files).map_err(fault("fork", index))?);
                }
            }
        }
        for index in 0..group.count {
            let process = self.processes.len() + index.min(forked.len().saturating_sub(1));
            self.members.push(Member { process, group: number, index, baseline: Schedstat::default() });
        }
        for (index, pid) in forked.into_iter().enumerate() {
            self.processes.push(Process::new(pid).map_err(fault("open a pidfd", index))?);
            self.homes.push(number);
        }
        Ok(())
    }

    /// The workers' processes with their cgroups' names, in the order of the groups. A group of threads is one process.
    pub fn pids(&self) -> impl Iterator<Item = (Pid, &str)> {
        let homes = self.homes.iter().filter_map(|group| self.groups.get(*group));
        self.processes.iter().zip(homes).map(|(process, group)| (process.pid(), group.cgroup.as_str()))
    }

    /// The workers' thread ids with their cgroups' names, in the order of the groups; those of threads that do not run yet
    /// are left out. A process of its own has its pid.
    pub fn tids(&self) -> impl Iterator<Item = (Pid, &str)> {
        let slots = self.shared.slots().iter();
        self.members.iter().zip(slots).filter_map(|(member, slot)| {
            let group = self.groups.get(member.group)?;
            Some((self.tid(member, slot)?, group.cgroup.as_str()))
        })
    }

    /// Workers of all groups.
    pub fn worker_count(&self) -> usize {
        self.members.len()
    }

    /// Let all workers apply their settings, then begin at one moment.
    ///
    /// # Errors
    /// A setting that the kernel refused, a worker that died or did not come to it within 30 s, and
    /// `WorkerError::Schedstat`.
    pub fn start(&mut self) -> Result<(), WorkerError> {
        Self::start_together(&mut [self])
    }

    /// As [`WorkloadHandle::start`], of several at one moment.
    ///
    /// # Errors
    /// As there. Then none of them has begun.
    pub fn start_together(handles: &mut [&mut Self]) -> Result<(), WorkerError> {
        Self::start_within(handles, CONFIGURE_TIMEOUT)
    }

    /// As [`WorkloadHandle::start_together`], with a time of its own for the settings.
    ///
    /// # Errors
    /// As there.
    pub(super) fn start_within(handles: &mut [&mut Self], timeout: Duration) -> Result<(), WorkerError> {
        for handle in &*handles {
            handle.shared.configure(handle.members.len());
        }
        let deadline_ns = monotonic_ns().saturating_add(nanos(timeout));
        for handle in &mut *handles {
            handle.wait_until_configured(deadline_ns, timeout)?;
            handle.take_baselines()?;
        }
        let now_ns = monotonic_ns();
        for handle in &*handles {
            handle.shared.start(now_ns);
        }
        Ok(())
    }

    fn wait_until_configured(&self, deadline_ns: u64, timeout: Duration) -> Result<(), WorkerError> {
        while !self.shared.wait_for_acknowledged(self.members.len(), nanos(CONFIGURE_LOOK)) {
            self.look_for_dead()?;
            if monotonic_ns() > deadline_ns {
                let late = self.slotted().filter(|(_, slot)| slot.state() == SlotState::Forked);
                let late: Vec<String> = late
                    .map(|(member, _)| format!("worker {} of `{}`", member.index, self.cgroup(member)))
                    .collect();
                return Err(WorkerError::Late { workers: late.join(", "), timeout });
            }
        }
        match self.slotted().find(|(_, slot)| slot.state() == SlotState::Refused) {
            None => Ok(()),
            Some((member, slot)) => Err(self.refused(member, slot)),
        }
    }

    fn look_for_dead(&self) -> Result<(), WorkerError> {
        for (member, slot) in self.slotted().filter(|(_, slot)| slot.state() == SlotState::Forked) {
            let end = self.processes.get(member.process).and_then(Process::end);
            // It may have applied its settings, or been refused one, between the two looks.
            if let Some(how) = end.filter(|_| slot.state() == SlotState::Forked) {
                let how = how.unwrap_or_else(|| "ended".to_owned());
                return Err(WorkerError::Died { index: member.index, cgroup: self.cgroup(member), how });
            }
        }
        Ok(())
    }

    fn refused(&self, member: &Member, slot: &WorkerSlot) -> WorkerError {
        let errno = Errno::from_raw_os_error(slot.errno.load(Relaxed).cast_signed());
        let setting = Setting::from_number(slot.setting.load(Relaxed));
        let (mut what, mut reason) = (String::new(), "");
        if let Some(group) = self.groups.get(member.group) {
            what = setting.describe(&group.settings, group.cpus_of(member.index));
            reason = setting.reason(&group.settings, errno);
        }
        WorkerError::Setting { index: member.index, cgroup: self.cgroup(member), what, errno, reason }
    }

    fn take_baselines(&mut self) -> Result<(), WorkerError> {
        for (member, slot) in self.members.iter_mut().zip(self.shared.slots()) {
            let process = self.processes.get(member.process);
            let tid = Pid::from_raw(slot.tid.load(Relaxed).cast_signed());
            if let Some((process, tid)) = process.zip(tid) {
                member.baseline = process.schedstat(tid)?;
            }
        }
        self.churned.note(&self.processes);
        Ok(())
    }

    /// Let a worker, by its number over all groups, run on these CPUs from now on.
    ///
    /// # Errors
    /// No such worker, a CPU of 1024 or above, and what the kernel refuses: none of the CPUs in the cgroup's
    /// cpuset, or a worker that has ended.
    pub fn set_affinity(&self, worker: usize, cpus: &CpuSet) -> Result<(), WorkerError> {
        let workers = self.members.len();
        let found = self.members.get(worker).zip(self.shared.slots().get(worker));
        let (member, slot) = found.ok_or(WorkerError::NoSuchWorker { worker, workers })?;
        let tid = self.tid(member, slot).ok_or(Errno::SRCH);
        let mask = sys::mask(cpus).ok_or(Errno::INVAL);
        let set = tid.and_then(|tid| sys::set_affinity(tid.as_raw_pid().cast_unsigned(), &mask?));
        set.map_err(|errno| WorkerError::Affinity {
            index: member.index,
            cgroup: self.cgroup(member),
            cpus: cpus.clone(),
            errno,
        })
    }

    /// Tell all workers to end, wait for them, kill those that do not, and report on each.
    ///
    /// Takes at most the two timeouts (16 s), however many workers are stuck.
    pub fn stop_and_collect(self) -> Vec<WorkerReport> {
        Self::stop_together(vec![self])
    }

    /// As [`WorkloadHandle::stop_and_collect`], of several: all are told at one moment, and the two timeouts are for all of them.
    pub fn stop_together(handles: Vec<Self>) -> Vec<WorkerReport> {
        // Whoever ended before the flag did so on its own.
        let early: Vec<Vec<bool>> = handles.iter().map(Self::ended_early).collect();
        handles.iter().for_each(|handle| handle.shared.stop());
        let stopped_ns = monotonic_ns();
        let all = || handles.iter().flat_map(|handle| &handle.processes);
        wait_for_all(&all().collect::<Vec<_>>(), nanos(STOP_TIMEOUT));
        // A thread's numbers are gone with it.
        let ends: Vec<(Vec<bool>, Vec<Option<Schedstat>>)> = handles
            .iter()
            .map(|handle| {
                let stuck = handle.processes.iter().map(|process| !process.has_ended()).collect();
                (stuck, handle.slotted().map(|(member, slot)| handle.schedstat(member, slot)).collect())
            })
            .collect();
        all().filter(|process| !process.has_ended()).for_each(Process::kill);
        wait_for_all(&all().collect::<Vec<_>>(), nanos(KILL_TIMEOUT));
        let told = handles.into_iter().zip(early).zip(ends);
        told.flat_map(|((handle, early), (stuck, last))| handle.reports(&early, &stuck, last, stopped_ns))
            .collect()
    }

    fn ended_early(&self) -> Vec<bool> {
        let ended: Vec<bool> = self.processes.iter().map(Process::has_ended).collect();
        self.slotted()
            .map(|(member, slot)| slot.state().is_end() || ended.get(member.process) == Some(&true))
            .collect()
    }

    /// What each worker says, or is said of it. `early`, and `last`, what the kernel said last: by worker; `stuck`: by process.
    fn reports(
        mut self,
        early: &[bool],
        stuck: &[bool],
        last: Vec<Option<Schedstat>>,
        stopped_ns: u64,
    ) -> Vec<WorkerReport> {
        let exits: Vec<Option<Option<String>>> = self.processes.iter_mut().map(Process::reap).collect();
        let started_ns = self.shared.started_ns();
        let wall_ns = if started_ns == 0 { 0 } else { stopped_ns.saturating_sub(started_ns) };
        let ends = early.iter().copied().zip(last).zip(self.slotted());
        let reports = ends.filter_map(|((early, last), (member, slot))| {
            let group = self.groups.get(member.group)?;
            let exit = exits.get(member.process).cloned().flatten();
            let stuck = stuck.get(member.process) == Some(&true);
            let pid = self.processes.get(member.process)?.pid();
            Some(member.report(group, pid, slot, End { early, stuck, exit, last, wall_ns }))
        });
        reports.collect()
    }

    fn schedstat(&self, member: &Member, slot: &WorkerSlot) -> Option<Schedstat> {
        self.processes.get(member.process)?.schedstat(self.tid(member, slot)?).ok()
    }

    fn tid(&self, member: &Member, slot: &WorkerSlot) -> Option<Pid> {
        let tid = Pid::from_raw(slot.tid.load(Relaxed).cast_signed());
        match self.groups.get(member.group)?.is_threads() {
            true => tid,
            false => Some(self.processes.get(member.process)?.pid()),
        }
    }

    fn slotted(&self) -> impl Iterator<Item = (&Member, &WorkerSlot)> {
        self.members.iter().zip(self.shared.slots())
    }

    fn cgroup(&self, member: &Member) -> String {
        self.groups.get(member.group).map(|group| group.cgroup.clone()).unwrap_or_default()
    }

    /// The slots, to look at running workers.
    #[cfg(test)]
    pub(super) fn slots(&self) -> &[WorkerSlot] {
        self.shared.slots()
    }
}
