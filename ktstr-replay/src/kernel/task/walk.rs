//! Where the tasks are.

use std::collections::HashSet;

use crate::kernel::mirror::{At, mirror};
use crate::kernel::{Gaps, KernelError, KernelView, list_entries};
use crate::units::KernelVirt;

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

/// Most tasks that are looked at.
const MAX_TASKS: usize = 1 << 16;

/// The addresses of all `task_struct`s: the idle tasks by CPU, then each process with its threads, in the order of the
/// kernel's own list.
///
/// # Errors
/// [`KernelError`] when there is no `init_task`, or the kernel's types do not describe the lists.
pub fn task_addresses(view: &KernelView<'_>, gaps: &mut Gaps) -> Result<Vec<KernelVirt>, KernelError> {
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
    let of = |&cpu: &u32| {
        let at = cpus.place(runqueues, cpu)?;
        gaps.read(format_args!("idle task of CPU {cpu}"), view.mirror::<IdleRq>(at)).map(|rq| rq.idle)
    };
    cpus.online().iter().filter_map(of).filter(|idle| idle.0 != 0).collect()
}
