//! A worker's settings, as it applies them to itself: all of it made before the fork.

use std::ffi::{CString, c_int};
use std::fmt;

use rustix::io::{Errno, Result};
use rustix::process::setpriority_process;
use rustix::thread::set_name;

use super::settings::{MemPolicy, SchedPolicy, Settings};
use super::sys::{self, Mask};
use crate::cpu_set::CpuSet;

/// `MPOL_PREFERRED_MANY` and `MPOL_WEIGHTED_INTERLEAVE` of include/uapi/linux/mempolicy.h.
const PREFERRED_MANY: c_int = 5;
const WEIGHTED_INTERLEAVE: c_int = 6;

/// A step of a worker's way to its start, in the order in which they are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Setting {
    /// A thread of its process.
    Thread = 0,
    /// What lets others notice its death, and the signal of its kind.
    Base = 1,
    /// `comm`.
    Comm = 2,
    /// `mem_policy`.
    MemPolicy = 3,
    /// `cpus`.
    Cpus = 4,
    /// `nice`.
    Nice = 5,
    /// `policy`.
    Policy = 6,
    /// `gid`.
    Gid = 7,
    /// `uid`.
    Uid = 8,
}

/// What a group's workers set, in the form in which it needs no memory.
#[derive(Debug, Default)]
pub struct PreparedSettings {
    comm: Option<CString>,
    mem_policy: Option<(c_int, Mask)>,
    nice: Option<i32>,
    policy: Option<SchedPolicy>,
    gid: Option<u32>,
    uid: Option<u32>,
}

impl PreparedSettings {
    /// Of settings that were checked.
    pub fn of(settings: &Settings) -> Self {
        Self {
            comm: settings.comm.as_ref().and_then(|comm| CString::new(comm.as_str()).ok()),
            mem_policy: settings.mem_policy.as_ref().map(mode),
            nice: settings.nice,
            policy: settings.policy,
            gid: settings.gid,
            uid: settings.uid,
        }
    }

    /// Apply them, and `cpus`, to the calling thread; the user last, who may set less.
    ///
    /// # Errors
    /// The setting that the kernel refused, and why.
    pub fn apply(&self, cpus: Option<&Mask>) -> std::result::Result<(), (Setting, Errno)> {
        let named = |setting| move |errno| (setting, errno);
        self.comm.as_deref().map_or(Ok(()), set_name).map_err(named(Setting::Comm))?;
        let memory =
            self.mem_policy.as_ref().map_or(Ok(()), |(mode, nodes)| sys::set_mem_policy(*mode, nodes));
        memory.map_err(named(Setting::MemPolicy))?;
        cpus.map_or(Ok(()), |cpus| sys::set_affinity(0, cpus)).map_err(named(Setting::Cpus))?;
        let nice = self.nice.map_or(Ok(()), |nice| setpriority_process(None, nice));
        nice.map_err(named(Setting::Nice))?;
        self.policy.map_or(Ok(()), sys::set_policy).map_err(named(Setting::Policy))?;
        self.gid.map_or(Ok(()), sys::set_group).map_err(named(Setting::Gid))?;
        self.uid.map_or(Ok(()), become_user).map_err(named(Setting::Uid))
    }

    /// Whether the worker becomes another user.
    pub fn changes_user(&self) -> bool {
        self.uid.is_some() || self.gid.is_some()
    }
}

fn become_user(uid: u32) -> Result<()> {
    // Root's further groups are not the user's. Who is not root has no others to give up.
    if rustix::process::geteuid().is_root() {
        sys::drop_groups()?;
    }
    sys::set_user(uid)
}

fn mode(policy: &MemPolicy) -> (c_int, Mask) {
    let nodes = |set| sys::mask(set).unwrap_or_default();
    match policy {
        MemPolicy::Default => (libc::MPOL_DEFAULT, Mask::default()),
        MemPolicy::Bind(set) => (libc::MPOL_BIND, nodes(set)),
        MemPolicy::Preferred(node) => (libc::MPOL_PREFERRED, sys::mask_of(*node as usize)),
        MemPolicy::Interleave(set) => (libc::MPOL_INTERLEAVE, nodes(set)),
        MemPolicy::Local => (libc::MPOL_LOCAL, Mask::default()),
        MemPolicy::PreferredMany(set) => (PREFERRED_MANY, nodes(set)),
        MemPolicy::WeightedInterleave(set) => (WEIGHTED_INTERLEAVE, nodes(set)),
    }
}

impl Setting {
    /// That of a number.
    pub fn from_number(number: u32) -> Self {
        const ALL: [Setting; 9] = [
            Setting::Thread,
            Setting::Base,
            Setting::Comm,
            Setting::MemPolicy,
            Setting::Cpus,
            Setting::Nice,
            Setting::Policy,
            Setting::Gid,
            Setting::Uid,
        ];
        ALL.into_iter().find(|setting| *setting as u32 == number).unwrap_or(Setting::Base)
    }

    /// What was tried: `set nice to 5`.
    pub fn describe(self, settings: &Settings, cpus: Option<&CpuSet>) -> String {
        fn of(name: &str, value: Option<&dyn fmt::Debug>) -> String {
            format!("set {name} to {}", value.map_or_else(String::new, |value| format!("{value:?}")))
        }
        fn given<T: fmt::Debug>(value: &Option<T>) -> Option<&dyn fmt::Debug> {
            value.as_ref().map(|value| -> &dyn fmt::Debug { value })
        }
        match self {
            Self::Thread => "make its thread".to_owned(),
            Self::Base => "register its robust list and block its signal".to_owned(),
            Self::Comm => of("comm", given(&settings.comm)),
            Self::MemPolicy => of("mem_policy", given(&settings.mem_policy)),
            Self::Cpus => format!("set its CPUs to {}", cpus.map(ToString::to_string).unwrap_or_default()),
            Self::Nice => of("nice", given(&settings.nice)),
            Self::Policy => of("the policy", given(&settings.policy)),
            Self::Gid => of("gid", given(&settings.gid)),
            Self::Uid => of("uid", given(&settings.uid)),
        }
    }

    /// What such a failure mostly comes from, to follow the error number; empty where that says it all.
    pub fn reason(self, settings: &Settings, errno: Errno) -> &'static str {
        match (self, settings.policy, errno) {
            (Self::Policy, Some(SchedPolicy::Ext), Errno::INVAL) => {
                " (this kernel is built without CONFIG_SCHED_CLASS_EXT)"
            }
            (Self::Policy, Some(SchedPolicy::Ext), Errno::ACCESS) => {
                " (the worker was refused by the sched_ext scheduler that runs)"
            }
            (Self::Policy, Some(SchedPolicy::Deadline { .. }), Errno::PERM) => {
                " (a deadline worker must be free to run on every CPU: give it neither an affinity nor a cpuset; and only root may have one)"
            }
            (Self::Policy, Some(SchedPolicy::Deadline { .. }), Errno::BUSY) => {
                " (all deadline workers together want more than the CPUs may give them, 95 % by /proc/sys/kernel/sched_rt_runtime_us)"
            }
            (Self::Policy, Some(SchedPolicy::Fifo(_) | SchedPolicy::RoundRobin(_)), Errno::PERM) => {
                " (real-time policies need root, and on a kernel with CONFIG_RT_GROUP_SCHED a cgroup with real-time runtime)"
            }
            (Self::Cpus, _, Errno::INVAL) => " (none of them is online and in the cgroup's cpuset)",
            (Self::MemPolicy, _, Errno::INVAL) => {
                " (a node that is not there or not in the cgroup's cpuset.mems, or a policy that is newer than this kernel)"
            }
            (Self::Nice, _, Errno::ACCESS | Errno::PERM) => " (only root may lower it)",
            (Self::Gid | Self::Uid, _, Errno::PERM) => " (only root may become another)",
            _ => "",
        }
    }
}
