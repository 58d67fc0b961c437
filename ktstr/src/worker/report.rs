//! What is reported of a worker that has ended.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;

use super::group::WorkerGroup;
use super::process::Schedstat;
use super::settings::SchedPolicy;
use super::slot::{SlotState, WorkerSlot};
use super::sys;
use guest_init::message::{WorkerDetail, WorkerReport};

/// How long workers may take to end after they were told to. Longer than a scheduler is let starve them by the
/// default watchdog (5 s), so that only a worker that is really stuck is killed.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a killed worker may take to die.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(8);

/// A worker, as its parent knows it.
#[derive(Debug)]
pub struct Member {
    /// Number of its process.
    pub process: usize,
    /// Number of its group.
    pub group: usize,
    /// Its number in the group.
    pub index: usize,
    /// What the kernel had accounted to it when it began.
    pub baseline: Schedstat,
}

/// How a worker's end looked from outside.
#[derive(Clone, Debug)]
pub struct End {
    /// It had ended before it was told to.
    pub early: bool,
    /// Its process had to be killed.
    pub stuck: bool,
    /// How its process ended: `None` if it did not, `None` inside for exit code 0.
    pub exit: Option<Option<String>>,
    /// What the kernel accounts to it, unless it is a thread that is gone.
    pub last: Option<Schedstat>,
    /// From the common start to the stop, ns.
    pub wall_ns: u64,
}

impl Member {
    /// The report of a worker whose process was reaped.
    pub fn report(&self, group: &WorkerGroup, pid: Pid, slot: &WorkerSlot, end: End) -> WorkerReport {
        let state = slot.state();
        let now = |counter: &AtomicU64| counter.load(Relaxed);
        let is_thread = group.is_threads();
        let tid = if is_thread { slot.tid.load(Relaxed) } else { pid.as_raw_pid().cast_unsigned() };
        let last = end.last.unwrap_or(Schedstat {
            cpu_ns: self.baseline.cpu_ns.saturating_add(now(&slot.cpu_ns)),
            run_delay_ns: self.baseline.run_delay_ns,
        });
        let run_delay_ns = if state.is_end() { now(&slot.run_delay_ns) } else { last.run_delay_ns };
        let mut report = WorkerReport {
            index: u32::try_from(self.index).unwrap_or(u32::MAX),
            pid: tid,
            cgroup: group.cgroup.clone(),
            work: group.work.name().to_owned(),
            work_units: now(&slot.work_units),
            iterations: now(&slot.iterations),
            cpu_ns: now(&slot.cpu_ns),
            wall_ns: now(&slot.wall_ns),
            max_gap_ns: now(&slot.max_gap_ns),
            max_gap_at_ns: now(&slot.max_gap_at_ns),
            run_delay_ns: run_delay_ns.saturating_sub(self.baseline.run_delay_ns),
            migrations: now(&slot.migrations),
            cpus_used: slot.cpus_used(),
            fault: fault(slot, state, &end),
            detail: WorkerDetail {
                cross_node_migrations: Some(now(&slot.cross_node_migrations)),
                policy: policy_name(group, slot),
                is_thread,
                max_off_cpu_ns: now(&slot.max_off_cpu_ns),
                minor_faults: now(&slot.minor_faults),
                major_faults: now(&slot.major_faults),
                voluntary_switches: now(&slot.voluntary_switches),
                involuntary_switches: now(&slot.involuntary_switches),
                wakes: slot.wakes.read(),
                timers: slot.timers.read(),
                node_pages: slot.node_pages(),
            },
        };
        if !state.is_end() {
            // It never wrote its last numbers: the kernel knows its CPU time, and the time since its last turn
            // is a gap that it did not live to count.
            report.cpu_ns = last.cpu_ns.saturating_sub(self.baseline.cpu_ns);
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

/// As it is written in a test; an inherited one as the kernel has it.
fn policy_name(group: &WorkerGroup, slot: &WorkerSlot) -> String {
    if let Some(policy) = group.settings.policy {
        return policy.to_string();
    }
    let number = slot.policy.load(Relaxed).cast_signed();
    let inherited = [SchedPolicy::Normal, SchedPolicy::Batch, SchedPolicy::Idle, SchedPolicy::Ext];
    let known = inherited.into_iter().find(|policy| sys::policy_number(*policy) == number);
    known.map_or_else(|| format!("policy {number}"), |policy| policy.to_string())
}

fn fault(slot: &WorkerSlot, state: SlotState, end: &End) -> Option<String> {
    match (&end.exit, end.stuck, state) {
        (None, ..) => Some(format!("did not die within {} s of being killed", KILL_TIMEOUT.as_secs())),
        // A thread that ended well, of a process that was killed for another one.
        (Some(_), true, state) if state.is_end() => state_fault(slot, state, end.early),
        (Some(_), true, _) => Some(format!("did not end within {} s and was killed", STOP_TIMEOUT.as_secs())),
        (Some(Some(how)), false, _) => Some(how.clone()),
        (Some(None), false, state) => state_fault(slot, state, end.early),
    }
}

fn state_fault(slot: &WorkerSlot, state: SlotState, early: bool) -> Option<String> {
    match state {
        SlotState::Done => early.then(|| "ended before it was told to".to_owned()),
        SlotState::PeerGone => Some("a worker that it works with ended before it was told to".to_owned()),
        SlotState::Failed => {
            let errno = Errno::from_raw_os_error(slot.errno.load(Relaxed).cast_signed());
            Some(format!("a system call of its work failed: {errno}"))
        }
        SlotState::Panicked => Some("its loop panicked".to_owned()),
        SlotState::Refused => Some("the kernel refused one of its settings".to_owned()),
        SlotState::Forked | SlotState::Ready | SlotState::Running => {
            Some("exited in the middle of its work".to_owned())
        }
    }
}
