//! Every task with what a scheduler's author asks of it, and where the tasks are.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::kernel::cgroup::Paths;
use crate::kernel::mirror::{At, Text, mirror};
use crate::kernel::scx::scheduler_name;
use crate::kernel::task::{Affinities, Entity};
use crate::kernel::{FieldMissing, Gaps, Jiffies, KernelError, KernelView, list_entries};
use crate::units::{Cpu, CpuList, KernelVirt};

mirror! {
    /// `struct task_struct`.
    struct RawTask, RawTaskLayout = "task_struct" {
        state: u64 = "__state" | "state",
        exit_state: u64,
        flags: u64,
        on_cpu: u64,
        pid: i64,
        tgid: i64,
        comm: Text,
        cpu: Result<u64, FieldMissing> = "thread_info.cpu" | "cpu",
        sched_class: KernelVirt,
        policy: u64,
        prio: i64,
        static_prio: i64,
        rt_priority: u64,
        mm: KernelVirt,
        utime: u64,
        stime: u64,
        sum_exec_runtime: u64 = "se.sum_exec_runtime",
        nvcsw: u64,
        nivcsw: u64,
        nr_cpus_allowed: u64,
        cpus_ptr: Result<KernelVirt, FieldMissing>,
        cgroup: Result<KernelVirt, FieldMissing> = "cgroups",
        scx: Result<At, FieldMissing>,
    }
}

mirror! {
    /// `struct css_set`: which cgroups a task is in.
    struct CssSet, CssSetLayout = "css_set" {
        dfl_cgrp: KernelVirt,
    }
}

/// `PF_KTHREAD` of `include/linux/sched.h`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// A thread.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Task {
    /// Thread id; 0 for idle tasks.
    pub pid: i64,
    /// Process id.
    pub tgid: i64,
    /// Command name.
    pub comm: String,
    /// State as `ps` shows it: `R`, `S`, `D`, `I`, ...
    pub state: char,
    /// CPU that it runs on, or ran on last.
    pub cpu: Option<u64>,
    /// Whether it is running on that CPU.
    pub on_cpu: bool,
    /// Scheduling class: `ext`, `fair`, `rt`, `idle`, ...
    pub class: String,
    /// `NORMAL`, `EXT`, `FIFO`, ...
    pub policy: String,
    /// The kernel's priority, 120 for nice 0.
    pub prio: i64,
    /// The priority before boosts.
    pub static_prio: i64,
    /// Nice value.
    pub nice: i64,
    /// Real-time priority, 0 for others.
    pub rt_priority: u64,
    /// Path in the unified cgroup hierarchy.
    pub cgroup: Option<String>,
    /// A kernel thread (or idle task).
    pub kernel_thread: bool,
    /// It has an address space of its own.
    pub has_mm: bool,
    /// Time in user mode, in ns.
    pub utime_ns: u64,
    /// Time in the kernel, in ns.
    pub stime_ns: u64,
    /// Time on a CPU, in ns.
    pub sum_exec_runtime_ns: u64,
    /// Times it gave up its CPU.
    pub voluntary_switches: u64,
    /// Times it was made to.
    pub involuntary_switches: u64,
    /// How many CPUs it may run on.
    pub nr_cpus_allowed: u64,
    /// Which CPUs it may run on, offline ones among them; `None` where that cannot be read.
    pub cpus_allowed: Option<CpuList>,
    /// As sched_ext sees it; `None` where the kernel has none.
    pub scx: Option<Entity>,
    /// Where its `task_struct` is.
    #[serde(skip)]
    pub at: KernelVirt,
    /// Where its cgroup of the unified hierarchy is.
    #[serde(skip)]
    pub cgroup_at: Option<KernelVirt>,
    /// Where the set of cgroups is that it is in.
    #[serde(skip)]
    pub css_set_at: Option<KernelVirt>,
}

/// All tasks at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tasks {
    /// The tasks: idle ones by CPU, then by process in the kernel's order.
    pub tasks: Vec<Task>,
    /// What could not be read.
    pub gaps: Gaps,
}

impl Tasks {
    /// The task with this pid; idle tasks have none.
    #[must_use]
    pub fn by_pid(&self, pid: i64) -> Option<&Task> {
        self.tasks.iter().find(|task| task.pid == pid && pid != 0)
    }
}

/// Read all tasks. What cannot be read of one is a fault, and the others stay.
///
/// # Errors
/// Those of `task_addresses`.
pub fn read_tasks(view: &KernelView<'_>) -> Result<Tasks, KernelError> {
    let mut gaps = Gaps::default();
    let mut shared = TaskContext {
        jiffies: gaps.read("the age of tasks", Jiffies::read(view)),
        affinities: Affinities::new(view, &mut gaps),
        paths: Paths::default(),
        schedulers: HashMap::new(),
    };
    let mut tasks = Vec::new();
    for at in task_addresses(view, &mut gaps)? {
        let task = one(view, at, &mut shared, &mut gaps);
        tasks.extend(gaps.read(format_args!("the task at {at}"), task));
    }
    Ok(Tasks { tasks, gaps })
}

/// What is read once for all tasks.
struct TaskContext {
    jiffies: Option<Jiffies>,
    affinities: Affinities,
    paths: Paths,
    /// Names of schedulers, by where they are.
    schedulers: HashMap<KernelVirt, Option<String>>,
}

fn one(
    view: &KernelView<'_>,
    at: KernelVirt,
    shared: &mut TaskContext,
    gaps: &mut Gaps,
) -> Result<Task, KernelError> {
    let raw: RawTask = view.mirror(at)?;
    let css_set_at = gaps.field(raw.cgroup).filter(|set| set.0 != 0);
    let set = css_set_at.and_then(|set| gaps.read("a task's cgroup", view.mirror::<CssSet>(set)));
    let cgroup_at = set.map(|set| set.dfl_cgrp);
    let entity = gaps.field(raw.scx).map(|at| Entity::read(view, at.0, shared.jiffies, gaps));
    let entity = entity.map(|entity| {
        entity.map(|entity| {
            // A task of another class may still point at a scheduler that is gone.
            let name = |at: KernelVirt| {
                let read = || gaps.read("a task's scheduler", scheduler_name(view, at));
                shared.schedulers.entry(at).or_insert_with(read).clone()
            };
            let at = entity.sched_at.filter(|_| class_of(view, raw.sched_class) == "ext");
            Entity { scheduler: at.and_then(name), ..entity }
        })
    });
    let mask = gaps.field(raw.cpus_ptr).map(|mask| shared.affinities.read(view, mask));
    Ok(Task {
        pid: raw.pid,
        tgid: raw.tgid,
        comm: raw.comm.0,
        state: letter(raw.state, raw.exit_state),
        cpu: gaps.field(raw.cpu),
        on_cpu: raw.on_cpu != 0,
        class: class_of(view, raw.sched_class),
        policy: policy(raw.policy),
        prio: raw.prio,
        static_prio: raw.static_prio,
        nice: raw.static_prio.saturating_sub(120),
        rt_priority: raw.rt_priority,
        cgroup: cgroup_at.and_then(|cgroup| gaps.read("a task's cgroup", shared.paths.of(view, cgroup))),
        kernel_thread: raw.flags & KERNEL_THREAD != 0,
        has_mm: raw.mm.0 != 0,
        utime_ns: raw.utime,
        stime_ns: raw.stime,
        sum_exec_runtime_ns: raw.sum_exec_runtime,
        voluntary_switches: raw.nvcsw,
        involuntary_switches: raw.nivcsw,
        nr_cpus_allowed: raw.nr_cpus_allowed,
        cpus_allowed: mask.and_then(|mask| gaps.read("a task's allowed CPUs", mask)).flatten(),
        scx: entity
            .and_then(|entity| gaps.read(format_args!("sched_ext's part of task {}", raw.pid), entity)),
        at,
        cgroup_at,
        css_set_at,
    })
}

/// Bits of `__state` and `exit_state` that are reported (`TASK_REPORT`), and their letters by the highest bit that is
/// set. Source: `__task_state_index` and `task_index_to_char` of `include/linux/sched.h`, whose bits are macros that
/// BTF does not have.
const REPORTED: u64 = 0x7f;
const LETTERS: [char; 8] = ['R', 'S', 'D', 'T', 't', 'X', 'Z', 'P'];
/// `TASK_NOLOAD`: with it, uninterruptible sleep is idling.
const NO_LOAD: u64 = 0x400;
/// `TASK_RTLOCK_WAIT` and `TASK_FROZEN` are shown as uninterruptible sleep.
const SHOWN_AS_SLEEP: u64 = 0x1000 | 0x8000;
const UNINTERRUPTIBLE: u64 = 2;

/// The state as `ps` shows it.
fn letter(state: u64, exit_state: u64) -> char {
    let either = state | exit_state;
    if either & (UNINTERRUPTIBLE | NO_LOAD) == UNINTERRUPTIBLE | NO_LOAD {
        return 'I';
    }
    if either & SHOWN_AS_SLEEP != 0 {
        return 'D';
    }
    let highest = 64 - (either & REPORTED).leading_zeros();
    LETTERS.get(highest as usize).copied().unwrap_or('?')
}

/// `ext` for `ext_sched_class`: the class by the name of its symbol.
pub(crate) fn class_of(view: &KernelView<'_>, at: KernelVirt) -> String {
    let symbols = view.profile().symbols();
    let name = match symbols.at(at) {
        Some((symbol, 0)) => symbol.name,
        _ => return at.to_string(),
    };
    // The linker script has a label at the first class, which is that of the stopper threads.
    let labelled = name.starts_with("__") && symbols.address("stop_sched_class") == Some(at);
    if labelled { "stop".to_owned() } else { name.trim_end_matches("_sched_class").to_owned() }
}

/// The policy by its name in `include/uapi/linux/sched.h`, whose values are part of the system call interface.
fn policy(number: u64) -> String {
    let names = ["NORMAL", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE", "EXT"];
    let name = usize::try_from(number).ok().and_then(|number| names.get(number));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

mirror! {
    /// `struct task_struct`, as far as the way to others goes.
    struct Leader, LeaderLayout = "task_struct" {
        signal: KernelVirt,
    }
}

mirror! {
    /// `struct signal_struct`: what the threads of a process share.
    struct Signal, SignalLayout = "signal_struct" {
        thread_head: At,
    }
}

mirror! {
    /// `struct rq`, as far as its idle task goes.
    struct IdleRq, IdleRqLayout = "rq" {
        idle: KernelVirt,
    }
}

mirror! {
    /// `struct task_struct`, as far as naming a task goes.
    pub(in crate::kernel) struct TaskName, TaskNameLayout = "task_struct" {
        pid: u32,
        comm: Text,
    }
}

/// Most tasks that are looked at.
const MAX_TASKS: usize = 1 << 16;

/// The addresses of all `task_struct`s: the idle tasks by CPU (those of offline CPUs too), then each process with its threads, in the order of the
/// kernel's own list.
///
/// # Errors
/// [`KernelError`] when there is no `init_task`, or the kernel's types do not describe the lists.
pub(in crate::kernel) fn task_addresses(
    view: &KernelView<'_>,
    gaps: &mut Gaps,
) -> Result<Vec<KernelVirt>, KernelError> {
    let init = view.symbol("init_task")?;
    let head = KernelVirt(init.0.wrapping_add(view.offset_of("task_struct", "tasks")?));
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut add = |at: KernelVirt| {
        if seen.insert(at) {
            found.push(at);
        }
    };
    for idle in idle_tasks(view, gaps) {
        add(idle);
    }
    add(init);
    let mut room = MAX_TASKS;
    for leader in list_entries(view, head, ("task_struct", "tasks"), MAX_TASKS, gaps) {
        add(leader);
        for thread in threads(view, leader, room, gaps) {
            room = room.saturating_sub(1);
            add(thread);
        }
    }
    Ok(found)
}

fn threads(view: &KernelView<'_>, leader: KernelVirt, max: usize, gaps: &mut Gaps) -> Vec<KernelVirt> {
    let what = format!("threads of the task at {leader}");
    let signal = gaps.read(&what, view.mirror::<Leader>(leader)).map(|leader| leader.signal);
    // A process that is being reaped has lost it.
    let Some(signal) = signal.filter(|signal| signal.0 != 0) else { return Vec::new() };
    let Some(signal) = gaps.read(&what, view.mirror::<Signal>(signal)) else { return Vec::new() };
    list_entries(view, signal.thread_head.0, ("task_struct", "thread_node"), max, gaps)
}

fn idle_tasks(view: &KernelView<'_>, gaps: &mut Gaps) -> Vec<KernelVirt> {
    let place = view.cpus().and_then(|cpus| Ok((cpus, view.symbol("runqueues")?)));
    let Some((cpus, runqueues)) = gaps.read("idle tasks", place) else { return Vec::new() };
    let of = |&cpu: &Cpu| {
        let at = cpus.place(runqueues, cpu)?;
        gaps.read(format_args!("idle task of CPU {cpu}"), view.mirror::<IdleRq>(at)).map(|rq| rq.idle)
    };
    cpus.possible().iter().filter_map(of).filter(|idle| idle.0 != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_those_of_ps() {
        let shown: String = [
            (0, 0),
            (1, 0),
            (2, 0),
            (0x402, 0),
            (4, 0),
            (8, 0),
            (0, 0x20),
            (0, 0x10),
            (0x40, 0),
            (0x8000, 0),
        ]
        .into_iter()
        .map(|(state, exit)| letter(state, exit))
        .collect();
        assert_eq!(shown, "RSDITtZXPD");
    }
}
