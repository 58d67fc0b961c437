//! System calls that rustix does not have, or has for a whole process only. All of them may be made after a fork.

use std::ffi::{c_int, c_long, c_void};
use std::mem::{offset_of, zeroed};
use std::ptr::{self, null, null_mut};
use std::sync::atomic::Ordering::{Relaxed, Release};

use ktstr_replay::units::nanos;
use libc::{rusage, sched_attr, syscall};
use rustix::io::{Errno, Result};

use super::settings::SchedPolicy;
use super::slot::{Life, MAX_CPUS, WorkerSlot};
use crate::cpu_set::CpuSet;

/// CPUs, or NUMA nodes, a bit each.
pub type Mask = [u64; MAX_CPUS / 64];
/// What calls that take a mask of nodes want: its bits, and one (`get_nodes` of the kernel's mm/mempolicy.c).
const NODE_BITS: c_long = MAX_CPUS as c_long + 1;
/// `SCHED_EXT` of include/uapi/linux/sched.h.
const SCHED_EXT: c_int = 7;
/// `MPOL_F_MEMS_ALLOWED` of include/uapi/linux/mempolicy.h.
const MEMS_ALLOWED: c_long = 1 << 2;
/// `MPOL_MF_MOVE`.
const MOVE: c_long = 1 << 1;

/// What the kernel counts of a thread. Source: `getrusage(2)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// `ru_minflt`.
    pub minor_faults: u64,
    /// `ru_majflt`.
    pub major_faults: u64,
    /// `ru_nvcsw`.
    pub voluntary_switches: u64,
    /// `ru_nivcsw`.
    pub involuntary_switches: u64,
}

fn result(value: c_long) -> Result<c_long> {
    match value {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        value => Ok(value),
    }
}

/// The bits of a set; `None` where a number is not below [`MAX_CPUS`].
pub fn mask(set: &CpuSet) -> Option<Mask> {
    let mut mask = Mask::default();
    for &number in set.iter() {
        *mask.get_mut(number as usize / 64)? |= 1 << (number % 64);
    }
    Some(mask)
}

/// The mask of one number below [`MAX_CPUS`]; of nothing for a larger one.
pub fn mask_of(number: usize) -> Mask {
    let mut mask = Mask::default();
    if let Some(word) = mask.get_mut(number / 64) {
        *word = 1 << (number % 64);
    }
    mask
}

/// The next number of the mask after `last`, from the first one after the last.
pub fn next_in(mask: &Mask, last: usize) -> Option<usize> {
    let is_in = |number: &usize| mask.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1);
    (last + 1..MAX_CPUS).chain(0..MAX_CPUS).find(is_in)
}

/// Let a thread (0: the calling one) run on these CPUs.
pub fn set_affinity(tid: u32, cpus: &Mask) -> Result<()> {
    // SAFETY: the kernel reads the mask's bytes, which are borrowed for the call.
    result(unsafe { syscall(libc::SYS_sched_setaffinity, tid, size_of::<Mask>(), cpus.as_ptr()) })?;
    Ok(())
}

/// NUMA node of the CPU that the calling thread runs on; 0 where the kernel does not tell.
pub fn node() -> u32 {
    let mut node = 0_u32;
    // SAFETY: the kernel writes the number of the node, which is ours; it takes null for what is not asked.
    let told = result(unsafe { syscall(libc::SYS_getcpu, null::<u32>(), &raw mut node, null::<u32>()) });
    told.map_or(0, |_| node)
}

/// The CPUs that the calling thread may run on.
pub fn affinity() -> Result<Mask> {
    let mut cpus = Mask::default();
    // SAFETY: the kernel writes at most the mask's bytes, which are ours.
    result(unsafe { syscall(libc::SYS_sched_getaffinity, 0, size_of::<Mask>(), cpus.as_mut_ptr()) })?;
    Ok(cpus)
}

/// The number that the kernel has for a policy.
pub fn policy_number(policy: SchedPolicy) -> c_int {
    match policy {
        SchedPolicy::Normal => libc::SCHED_OTHER,
        SchedPolicy::Batch => libc::SCHED_BATCH,
        SchedPolicy::Idle => libc::SCHED_IDLE,
        SchedPolicy::Fifo(_) => libc::SCHED_FIFO,
        SchedPolicy::RoundRobin(_) => libc::SCHED_RR,
        SchedPolicy::Deadline { .. } => libc::SCHED_DEADLINE,
        SchedPolicy::Ext => SCHED_EXT,
    }
}

/// Give the calling thread a policy; its nice value stays.
pub fn set_policy(policy: SchedPolicy) -> Result<()> {
    let mut attr = sched_attr {
        size: size_of::<sched_attr>() as u32,
        sched_policy: policy_number(policy).cast_unsigned(),
        sched_flags: 0,
        sched_nice: rustix::process::getpriority_process(None)?,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    match policy {
        SchedPolicy::Fifo(priority) | SchedPolicy::RoundRobin(priority) => attr.sched_priority = priority,
        SchedPolicy::Deadline { runtime, deadline, period } => {
            attr.sched_runtime = nanos(runtime);
            attr.sched_deadline = nanos(deadline);
            attr.sched_period = nanos(period);
            // Else the worker could not fork.
            attr.sched_flags = libc::SCHED_FLAG_RESET_ON_FORK as u64;
        }
        SchedPolicy::Normal | SchedPolicy::Batch | SchedPolicy::Idle | SchedPolicy::Ext => {}
    }
    // SAFETY: the kernel reads `size` bytes of the structure, which is borrowed for the call.
    result(unsafe { syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })?;
    Ok(())
}

/// The number of the calling thread's policy.
pub fn policy() -> Result<c_int> {
    // SAFETY: the call takes no pointers.
    let policy = result(unsafe { syscall(libc::SYS_sched_getscheduler, 0) })?;
    Ok(policy as c_int & !libc::SCHED_RESET_ON_FORK)
}

/// Set where the calling thread's memory is taken from.
pub fn set_mem_policy(mode: c_int, nodes: &Mask) -> Result<()> {
    let some = nodes.iter().any(|word| *word != 0);
    // A mode without nodes wants none: a null pointer.
    let (nodes, bits) = if some { (nodes.as_ptr(), NODE_BITS) } else { (null(), 0) };
    // SAFETY: the kernel reads the mask's bytes, which are borrowed for the call, or nothing.
    result(unsafe { syscall(libc::SYS_set_mempolicy, mode, nodes, bits) })?;
    Ok(())
}

/// The NUMA nodes that the calling thread may have memory of.
pub fn memory_nodes() -> Result<Mask> {
    let mut nodes = Mask::default();
    let mode: *mut c_int = null_mut();
    // SAFETY: the kernel writes at most the mask's bytes, which are ours.
    result(unsafe {
        syscall(
            libc::SYS_get_mempolicy,
            mode,
            nodes.as_mut_ptr(),
            NODE_BITS,
            null_mut::<c_void>(),
            MEMS_ALLOWED,
        )
    })?;
    Ok(nodes)
}

/// Move memory to one NUMA node, and bind it there.
pub fn move_to_node(memory: &mut [u8], node: usize) -> Result<()> {
    let (start, bytes, nodes) = (memory.as_mut_ptr(), memory.len(), mask_of(node));
    // SAFETY: moving pages changes neither their addresses nor what they hold; the mask is borrowed for the call.
    result(unsafe {
        syscall(libc::SYS_mbind, start, bytes, libc::MPOL_BIND, nodes.as_ptr(), NODE_BITS, MOVE)
    })?;
    Ok(())
}

/// The NUMA node of each page, or a negative errno.
pub fn nodes_of<const N: usize>(pages: &[*const u8; N], count: usize) -> Result<[c_int; N]> {
    let mut nodes = [-1; N];
    let (addresses, wanted): (_, *const c_int) = (pages.as_ptr(), null());
    // SAFETY: without a list of nodes nothing is moved: the kernel reads `count` addresses, which it does not trust,
    // and writes as many numbers; both arrays are that long.
    result(unsafe {
        syscall(libc::SYS_move_pages, 0, count.min(N), addresses, wanted, nodes.as_mut_ptr(), 0)
    })?;
    Ok(nodes)
}

/// Become a user: this thread only.
pub fn set_user(uid: u32) -> Result<()> {
    // SAFETY: the call takes no pointers.
    result(unsafe { syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    Ok(())
}

/// Become of a group: this thread only.
pub fn set_group(gid: u32) -> Result<()> {
    // SAFETY: the call takes no pointers.
    result(unsafe { syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    Ok(())
}

/// Be of no further groups: this thread only.
pub fn drop_groups() -> Result<()> {
    // SAFETY: no group is read from the null pointer.
    result(unsafe { syscall(libc::SYS_setgroups, 0, null::<u32>()) })?;
    Ok(())
}

/// What the kernel counts of the calling thread.
pub fn usage() -> Usage {
    // SAFETY: all zeros is a valid `rusage`.
    let mut usage: rusage = unsafe { zeroed() };
    // SAFETY: the kernel writes the structure, which is ours. The call fails for no thread.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    Usage {
        minor_faults: usage.ru_minflt.cast_unsigned(),
        major_faults: usage.ru_majflt.cast_unsigned(),
        voluntary_switches: usage.ru_nvcsw.cast_unsigned(),
        involuntary_switches: usage.ru_nivcsw.cast_unsigned(),
    }
}

/// Let the kernel mark the slot when the calling thread, `tid`, dies.
pub fn hold_life(slot: &WorkerSlot, tid: u32) -> Result<()> {
    let life = &slot.life;
    let address = |place: *const c_void| place.addr() as u64;
    life.offset.store((offset_of!(Life, owner) - offset_of!(Life, entry)) as u64, Relaxed);
    life.head.store(address((&raw const life.entry).cast()), Relaxed);
    life.entry.store(address((&raw const life.head).cast()), Relaxed);
    life.owner.store(tid, Release);
    // The head is the first three words.
    let bytes = offset_of!(Life, entry);
    // SAFETY: the list is in a mapping that the thread keeps until it ends, and is made as the kernel wants it; no
    // robust mutex of the C library is used by a worker, whose list this replaces.
    result(unsafe { syscall(libc::SYS_set_robust_list, ptr::from_ref(life), bytes) })?;
    Ok(())
}

/// Fork a child that runs `work`, which may do as little as a worker may, and exits. Returns its pid.
pub fn fork_child(work: impl FnOnce()) -> Result<c_int> {
    // SAFETY: a plain fork without the C library's handlers. The child makes no calls but `work`'s and `_exit`.
    match result(unsafe { syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) })? {
        0 => {
            work();
            // SAFETY: `_exit` is async-signal-safe.
            unsafe { libc::_exit(0) }
        }
        pid => Ok(pid as c_int),
    }
}
