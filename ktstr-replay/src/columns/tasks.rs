//! Columns of the tasks.

use super::{Cell, Column};
use crate::kernel::task::{Entity, Task};

/// What `class` can be: the classes that kernels have.
const CLASSES: &[&str] = &["stop", "dl", "rt", "fair", "ext", "idle"];
/// What `state` can be.
const STATES: &[&str] = &["R", "S", "D", "T", "t", "X", "Z", "P", "I"];

/// The columns, in the order of the view.
pub(crate) const TASKS: &[Column<Task>] = &[
    Column::<Task>::right("pid", "pid", |task| Cell::number(Some(task.pid))),
    Column::<Task>::right("tgid", "tgid", |task| Cell::number(Some(task.tgid))),
    Column::<Task>::left("comm", "comm", |task| Cell::Text(task.comm.clone())),
    Column::<Task>::left("state", "st", |task| Cell::Text(task.state.to_string()))
        .showing(|task| format!("{}{}", task.state, if task.on_cpu { "*" } else { "" }))
        .one_of(STATES),
    Column::<Task>::right("cpu", "cpu", |task| Cell::number(task.cpu)),
    Column::<Task>::left("cpus_allowed", "may run on", |task| {
        Cell::text(task.cpus_allowed.as_ref().map(ToString::to_string))
    }),
    Column::<Task>::left("class", "class", |task| Cell::Text(task.class.clone())).one_of(CLASSES),
    Column::<Task>::right("prio", "prio", |task| Cell::number(Some(task.prio))),
    Column::<Task>::right("nice", "nice", |task| Cell::number(Some(task.nice))),
    Column::<Task>::left("cgroup", "cgroup", |task| Cell::text(task.cgroup.as_ref())),
    Column::<Task>::left("dsq", "dsq", |task| match scx(task).and_then(|scx| scx.dsq.as_ref()) {
        Some(dsq) => Cell::Named(dsq.number.into(), dsq.to_string()),
        None => Cell::None,
    }),
    Column::<Task>::right("slice_ms", "slice ms", |task| {
        Cell::millis(scx(task).map(|scx| signed(scx.slice_ns)))
    }),
    Column::<Task>::right("vtime", "vtime", |task| Cell::number(scx(task).map(|scx| scx.vtime))),
    // A task of sched_ext that waits for no CPU has waited for none, so that the longest of all can be asked for.
    Column::<Task>::right("runnable_ms", "runnable ms", |task| {
        Cell::millis(scx(task).map(|_| waits_ns(task).unwrap_or(0)))
    })
    .showing(|task| Cell::millis(waits_ns(task)).display()),
    Column::<Task>::left("scx", "scx", |task| Cell::text(scx(task).map(described))),
    Column::<Task>::right("cpu_ms", "cpu ms", |task| Cell::millis(Some(signed(task.sum_exec_runtime_ns)))),
    Column::<Task>::hidden("on_cpu", |task| Cell::number(Some(task.on_cpu))),
    Column::<Task>::hidden("policy", |task| Cell::Text(task.policy.clone())),
    Column::<Task>::hidden("rt_priority", |task| Cell::number(Some(task.rt_priority))),
    Column::<Task>::hidden("kernel_thread", |task| Cell::number(Some(task.kernel_thread))),
    Column::<Task>::hidden("voluntary_switches", |task| Cell::number(Some(task.voluntary_switches))),
    Column::<Task>::hidden("involuntary_switches", |task| Cell::number(Some(task.involuntary_switches))),
    Column::<Task>::hidden("nr_cpus_allowed", |task| Cell::number(Some(task.nr_cpus_allowed))),
    Column::<Task>::hidden("weight", |task| Cell::number(scx(task).map(|scx| scx.weight))),
    Column::<Task>::hidden("scx_state", |task| Cell::text(scx(task).map(|scx| scx.state.clone()))),
    Column::<Task>::hidden("scheduler", |task| Cell::text(scx(task).and_then(|scx| scx.scheduler.clone()))),
    Column::<Task>::hidden("ops_state", |task| Cell::text(scx(task).map(|scx| scx.ops_state.clone()))),
];

fn scx(task: &Task) -> Option<&Entity> {
    task.scx.as_ref().filter(|_| task.class == "ext")
}

/// How long it has been waiting for a CPU.
fn waits_ns(task: &Task) -> Option<i64> {
    scx(task).filter(|scx| scx.runnable).and_then(|scx| scx.runnable_age_ns)
}

fn described(scx: &Entity) -> String {
    format!("{}/{} {}", scx.state, scx.ops_state, scx.flags.join("|"))
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}
