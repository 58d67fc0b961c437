//! Runnable tasks that wait for a CPU for long, and the limits that they come near to. Made to be read often, and while the kernel
//! runs: what is found there may be torn, so that whoever acts on it stops the kernel and looks again.
//!
//! Sources: `check_rq_for_timeouts`, `scx_watchdog_workfn` and `scx_tick` of `kernel/sched/ext/ext.c`; `sched_info_enqueue` and
//! `sched_info_arrive` of `kernel/sched/stats.h`.

use std::collections::HashMap;

use crate::kernel::mirror::{At, Text, mirror};
use crate::kernel::scx::state_of;
use crate::kernel::task::task_addresses;
use crate::kernel::{Cpus, FieldMissing, Gaps, Jiffies, KernelError, KernelView, list_entries};
use crate::trace::record::WaitLimit;
use crate::units::{Cpu, KernelVirt};

mirror! {
    /// `struct scx_sched`, as far as its watchdog goes.
    struct Watched, WatchedLayout = "scx_sched" {
        exit_kind: u64,
        watchdog_timeout: Result<u64, FieldMissing>,
    }
}

mirror! {
    /// `struct rq`.
    struct WaitRq, WaitRqLayout = "rq" {
        clock: Result<u64, FieldMissing>,
        runnable_list: Result<At, FieldMissing> = "scx.runnable_list",
    }
}

mirror! {
    /// `struct task_struct`, as the watchdog looks at it.
    struct Runnable, RunnableLayout = "task_struct" {
        pid: u32,
        comm: Text,
        runnable_at: u64 = "scx.runnable_at",
        sched: Result<KernelVirt, FieldMissing> = "scx.sched",
    }
}

mirror! {
    /// `struct task_struct`, as `/proc/PID/schedstat` accounts it, whatever its class.
    struct Queued, QueuedLayout = "task_struct" {
        pid: u32,
        comm: Text,
        mm: KernelVirt,
        on_rq: u64,
        on_cpu: u64,
        cpu: Result<u64, FieldMissing> = "thread_info.cpu" | "cpu",
        last_queued: u64 = "sched_info.last_queued",
    }
}

/// `TASK_ON_RQ_QUEUED` of `kernel/sched/sched.h`.
const ON_RUNQUEUE: u64 = 1;
/// Most runnable tasks of all CPUs.
const MAX_RUNNABLE: usize = 4096;

/// A wait, and the limit that it may not reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitedWait {
    /// Whose limit it is.
    pub limit: WaitLimit,
    /// The limit, in ns.
    pub limit_ns: u64,
    /// How long it has waited, in ns.
    pub waited_ns: u64,
    /// Thread id; `None` where it is the watchdog that waits to be run.
    pub pid: Option<u32>,
    /// Command name.
    pub comm: String,
    /// The CPU whose runqueue it is on.
    pub cpu: Option<Cpu>,
    /// When it began, by whatever clock it is counted in: the same for as long as it is the same wait.
    pub since: u64,
}

/// The waits that sched_ext's watchdog counts: those of the runnable tasks of its class, and that for the watchdog itself. None while no
/// scheduler is enabled, or while one is on its way out.
///
/// # Errors
/// [`KernelError`] when sched_ext's state, the clock or the CPUs cannot be read. What cannot be read of one task leaves that out.
pub fn read_watchdog_waits(view: &KernelView<'_>) -> Result<Vec<LimitedWait>, KernelError> {
    let Some(root_limit) = watchdog_limit(view)? else { return Ok(Vec::new()) };
    let jiffies = Jiffies::read(view)?;
    let uptime_ns = jiffies.uptime_ns();
    // Of the future, or from before boot: the kernel was at it, or it is no task.
    let waited =
        |since: u64| u64::try_from(jiffies.age_ns(since)).ok().filter(|ns| since != 0 && *ns <= uptime_ns);
    let mut waits = Vec::new();
    let looked = view.profile().symbols().address("scx_watchdog_timestamp").map(|at| view.u64(at));
    if let Some(Ok(since)) = looked
        && let Some(waited_ns) = waited(since)
    {
        let (limit, limit_ns) = (WaitLimit::CheckIn, root_limit.saturating_mul(jiffies.each_ns));
        waits.push(LimitedWait {
            limit,
            limit_ns,
            waited_ns,
            pid: None,
            comm: String::new(),
            cpu: None,
            since,
        });
    }
    let mut limits: HashMap<KernelVirt, u64> = HashMap::new();
    let (cpus, runqueues) = (view.cpus()?, view.symbol("runqueues")?);
    let mut gaps = Gaps::default();
    let mut room = MAX_RUNNABLE;
    for (cpu, rq) in online(view, &cpus, runqueues) {
        let Ok(list) = rq.runnable_list else { continue };
        let tasks = list_entries(view, list.0, ("task_struct", "scx.runnable_node"), room, &mut gaps);
        room = room.saturating_sub(tasks.len());
        for at in tasks {
            let Ok(task) = view.mirror::<Runnable>(at) else { continue };
            let Some(waited_ns) = waited(task.runnable_at) else { continue };
            let own = task.sched.ok().filter(|sched| sched.0 != 0);
            let limit = own.map_or(root_limit, |at| {
                let read = || view.mirror::<Watched>(at).ok()?.watchdog_timeout.ok();
                *limits.entry(at).or_insert_with(|| read().unwrap_or(root_limit))
            });
            waits.push(LimitedWait {
                limit: WaitLimit::Watchdog,
                limit_ns: limit.saturating_mul(jiffies.each_ns),
                waited_ns,
                pid: Some(task.pid),
                comm: task.comm.0,
                cpu: Some(cpu),
                since: task.runnable_at,
            });
        }
    }
    Ok(waits)
}

/// The waits of the runnable threads of user space, of every class, against `limit_ns`.
///
/// # Errors
/// [`KernelError`] when the CPUs or the list of tasks cannot be found, or this kernel does not account waits. What cannot be read of
/// one task leaves that out.
pub fn read_waits(view: &KernelView<'_>, limit_ns: u64) -> Result<Vec<LimitedWait>, KernelError> {
    let (cpus, runqueues) = (view.cpus()?, view.symbol("runqueues")?);
    let clocks = online(view, &cpus, runqueues).filter_map(|(_, rq)| rq.clock.ok());
    // They are one clock, which a CPU reads when it has something to do.
    let Some(now) = clocks.max() else { return Ok(Vec::new()) };
    let mut waits = Vec::new();
    for at in task_addresses(view, &mut Gaps::default())? {
        let task = match view.mirror::<Queued>(at) {
            Ok(task) => task,
            Err(KernelError::Field(missing)) => return Err(missing.into()),
            Err(_) => continue,
        };
        let waits_now = task.on_rq == ON_RUNQUEUE && task.on_cpu == 0 && task.last_queued != 0;
        let Some(waited_ns) = now.checked_sub(task.last_queued).filter(|_| waits_now && task.mm.0 != 0)
        else {
            continue;
        };
        waits.push(LimitedWait {
            limit: WaitLimit::Gap,
            limit_ns,
            waited_ns,
            pid: Some(task.pid),
            comm: task.comm.0,
            cpu: task.cpu.ok().and_then(|cpu| u32::try_from(cpu).ok()).map(Cpu),
            since: task.last_queued,
        });
    }
    Ok(waits)
}

/// The runqueues of the CPUs that run.
fn online<'v>(
    view: &'v KernelView<'_>,
    cpus: &'v Cpus,
    runqueues: KernelVirt,
) -> impl Iterator<Item = (Cpu, WaitRq)> + use<'v> {
    cpus.online().iter().filter_map(move |&cpu| {
        let at = cpus.place(runqueues, cpu)?;
        Some((cpu, view.mirror::<WaitRq>(at).ok()?))
    })
}

/// The watchdog's time of the scheduler that is enabled, the root one where there are several, in jiffies. `None`: there is none, or it
/// is on its way out.
fn watchdog_limit(view: &KernelView<'_>) -> Result<Option<u64>, KernelError> {
    let symbols = view.profile().symbols();
    if state_of(view)?.as_deref() != Some("enabled") {
        return Ok(None);
    }
    let number = |name: &str| symbols.address(name).map(|at| view.u64(at)).transpose();
    let (exit_kind, own) = match symbols.address("scx_root") {
        Some(root) => match view.pointer(root)? {
            Some(root) => {
                let root: Watched = view.mirror(root)?;
                (root.exit_kind, root.watchdog_timeout.ok())
            }
            None => return Ok(None),
        },
        // Kernels that have one scheduler and keep it in variables.
        None => {
            let kind = symbols.address("scx_exit_kind").map(|at| view.u32(at)).transpose()?;
            (u64::from(kind.unwrap_or_default()), None)
        }
    };
    let limit = match own {
        Some(own) => Some(own),
        None => number("scx_watchdog_timeout")?,
    };
    Ok(limit.filter(|limit| exit_kind == 0 && *limit > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Guest, Object, SEEDS};

    const MS: u64 = 1_000_000;

    /// What `jiffies` is ten seconds after boot, at 250 Hz.
    const NOW: u64 = 0xffff_ffff - 75_000 + 1 + 2500;

    /// A kernel of two CPUs at that time; its scheduler, whose tasks may wait for 500 jiffies, and its runqueues.
    fn guest(seed: u64, lacking: &[&str]) -> (Guest, Object, Object) {
        let mut guest = Guest::lacking(seed, lacking);
        guest.cpus(2);
        let clock = guest.variable("clocksource_jiffies", "clocksource");
        guest.set(clock, "mult", 4_000_000u32 << 8);
        guest.set(clock, "shift", 8u32);
        guest.number("jiffies_64", "u64", NOW);
        guest.number("scx_enable_state_var", "u32", 1u32);
        let sched = guest.add("scx_sched");
        if !lacking.contains(&"scx_sched.watchdog_timeout") {
            guest.set(sched, "watchdog_timeout", 500u32);
        }
        guest.number("scx_root", "ptr", sched);
        guest.number("scx_watchdog_timestamp", "u64", NOW - 100);
        let runqueues = guest.per_cpu("runqueues", "rq");
        for cpu in 0..2u32 {
            let rq = guest.on_cpu(runqueues, cpu.into());
            guest.set(rq, "clock", 10_000_000_000u64 - u64::from(cpu));
            guest.ring(&[guest.at(rq, "scx.runnable_list")]);
        }
        (guest, sched, runqueues)
    }

    /// Put tasks on CPU 1's list, runnable since so many jiffies.
    fn runnable(guest: &mut Guest, runqueues: Object, ages: &[(u32, u64)]) -> Vec<Object> {
        let rq = guest.on_cpu(runqueues, 1);
        let tasks: Vec<Object> = ages.iter().map(|_| guest.add("task_struct")).collect();
        let mut ring = vec![guest.at(rq, "scx.runnable_list")];
        for (task, (pid, age)) in tasks.iter().zip(ages) {
            guest.set(*task, "pid", *pid);
            guest.text(*task, "comm", &format!("task{pid}"));
            guest.set(*task, "scx.runnable_at", NOW.wrapping_sub(*age));
            ring.push(guest.at(*task, "scx.runnable_node"));
        }
        guest.ring(&ring);
        tasks
    }

    fn watchdog(guest: &Guest) -> Vec<(Option<u32>, u64, u64)> {
        let profile = guest.profile();
        let waits = read_watchdog_waits(&KernelView::new(&profile, &guest.ram)).unwrap();
        waits.into_iter().map(|wait| (wait.pid, wait.waited_ns / MS, wait.limit_ns / MS)).collect()
    }

    #[test]
    fn runnable_tasks_and_the_watchdog_itself_are_told_with_their_limits() {
        for seed in SEEDS {
            let (mut guest, _, runqueues) = guest(seed, &["sched_ext_entity.sched"]);
            // One of the future and one from before boot are torn, or none.
            runnable(&mut guest, runqueues, &[(7, 250), (8, 1), (9, u64::MAX), (10, 5000)]);
            assert_eq!(watchdog(&guest), [(None, 400, 2000), (Some(7), 1000, 2000), (Some(8), 4, 2000)]);
        }
    }

    #[test]
    fn a_task_of_a_sub_scheduler_may_wait_for_as_long_as_that_says() {
        for seed in SEEDS {
            let (mut guest, root, runqueues) = guest(seed, &[]);
            let below = guest.add("scx_sched");
            guest.set(below, "watchdog_timeout", 100u32);
            let tasks = runnable(&mut guest, runqueues, &[(7, 50), (8, 50)]);
            guest.set(tasks[0], "scx.sched", below);
            guest.set(tasks[1], "scx.sched", root);
            assert_eq!(watchdog(&guest)[1..], [(Some(7), 200, 400), (Some(8), 200, 2000)]);
        }
    }

    #[test]
    fn kernels_that_keep_the_watchdogs_time_in_a_variable_are_read() {
        for seed in SEEDS {
            let lacking = ["scx_sched.watchdog_timeout", "sched_ext_entity.sched"];
            let (mut guest, _, runqueues) = guest(seed, &lacking);
            guest.number("scx_watchdog_timeout", "u64", 250u32);
            runnable(&mut guest, runqueues, &[(7, 50)]);
            assert_eq!(watchdog(&guest), [(None, 400, 1000), (Some(7), 200, 1000)]);
        }
    }

    #[test]
    fn a_scheduler_that_is_not_enabled_or_leaves_has_no_waits() {
        for seed in SEEDS {
            let (mut guest, sched, runqueues) = guest(seed, &[]);
            runnable(&mut guest, runqueues, &[(7, 250)]);
            assert_eq!(watchdog(&guest).len(), 2);
            guest.set(sched, "exit_kind", 1026u32);
            assert_eq!(watchdog(&guest), []);
            guest.set(sched, "exit_kind", 0u32);
            guest.number("scx_enable_state_var", "u32", 3u32);
            assert_eq!(watchdog(&guest), []);
            guest.number("scx_enable_state_var", "u32", 1u32);
            guest.number("scx_root", "ptr", 0u64);
            assert_eq!(watchdog(&guest), []);
        }
    }

    #[test]
    fn a_list_that_never_returns_ends() {
        for seed in SEEDS {
            let (mut guest, _, runqueues) = guest(seed, &[]);
            let tasks = runnable(&mut guest, runqueues, &[(7, 250), (8, 10)]);
            let first = guest.at(tasks[0], "scx.runnable_node");
            guest.write_u64(guest.at(tasks[1], "scx.runnable_node"), first);
            assert_eq!(watchdog(&guest).len(), 3);
        }
    }

    #[test]
    fn threads_of_user_space_wait_in_every_class() {
        for seed in SEEDS {
            let (mut guest, ..) = guest(seed, &[]);
            let init = guest.variable("init_task", "task_struct");
            let mut ring = vec![guest.at(init, "tasks")];
            // The first waits; then one that runs, one that sleeps, one of the kernel, and one that just began.
            for (pid, on_rq, on_cpu, mm, queued_ms) in [
                (11u32, 1u32, 0u32, 0x1000u64, 9000u64),
                (12, 1, 1, 0x1000, 9000),
                (13, 0, 0, 0x1000, 9000),
                (14, 1, 0, 0, 9000),
                (15, 1, 0, 0x1000, 9999),
            ] {
                let task = guest.add("task_struct");
                guest.set(task, "pid", pid);
                guest.set(task, "on_rq", on_rq);
                guest.set(task, "on_cpu", on_cpu);
                guest.set(task, "mm", mm);
                guest.set(task, "thread_info.cpu", 1u32);
                guest.set(task, "sched_info.last_queued", queued_ms * MS);
                ring.push(guest.at(task, "tasks"));
            }
            guest.ring(&ring);
            let profile = guest.profile();
            let waits = read_waits(&KernelView::new(&profile, &guest.ram), 500 * MS).unwrap();
            let found: Vec<_> = waits.iter().map(|wait| (wait.pid, wait.waited_ns / MS, wait.cpu)).collect();
            assert_eq!(found, [(Some(11), 1000, Some(Cpu(1))), (Some(15), 1, Some(Cpu(1)))]);
            assert!(waits.iter().all(|wait| wait.limit_ns == 500 * MS && wait.limit == WaitLimit::Gap));
        }
    }

    #[test]
    fn a_kernel_that_does_not_account_waits_is_an_error() {
        let (mut guest, ..) = guest(0, &["task_struct.sched_info"]);
        let init = guest.variable("init_task", "task_struct");
        guest.ring(&[guest.at(init, "tasks")]);
        let profile = guest.profile();
        let error = read_waits(&KernelView::new(&profile, &guest.ram), MS).unwrap_err().to_string();
        assert!(error.contains("sched_info.last_queued"), "{error}");
    }
}
