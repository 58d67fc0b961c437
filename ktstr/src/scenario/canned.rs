//! Scenarios that most schedulers are to be tried with, each a body of its own: `scenarios::steady(ctx)`.
//!
//! ```
//! use ktstr::prelude::*;
//!
//! #[ktstr_test(llcs = 2, cores = 2, duration_s = 6, not_starved)]
//! fn one_cgroup_in_each_llc(ctx: &Ctx) -> Result<AssertResult> {
//!     scenarios::steady_llc(ctx)
//! }
//! ```

use std::time::Duration;

use super::execute::{execute_defs, execute_scenario};
use super::op::Op;
use super::step::{Backdrop, HoldSpec, Step};
use crate::assert::AssertResult;
use crate::cgroup::{CgroupDef, CpusetSpec};
use crate::ctx::Ctx;
use crate::worker::kinds::{Bursty, PipeIo, SpinWait, YieldHeavy};
use crate::worker::{Affinity, WorkType};

type Outcome = anyhow::Result<AssertResult>;

/// A scenario of this module.
pub type Scenario = fn(&Ctx) -> Outcome;

/// All of them, by name.
pub const ALL: [(&str, Scenario); 14] = [
    ("steady", steady),
    ("steady_llc", steady_llc),
    ("oversubscribed", oversubscribed),
    ("cpuset_apply", cpuset_apply),
    ("cpuset_clear", cpuset_clear),
    ("cpuset_resize", cpuset_resize),
    ("cgroup_add", cgroup_add),
    ("cgroup_remove", cgroup_remove),
    ("affinity_change", affinity_change),
    ("affinity_pinned", affinity_pinned),
    ("host_contention", host_contention),
    ("mixed_workloads", mixed_workloads),
    ("nested_steady", nested_steady),
    ("nested_task_move", nested_task_move),
];

const HALF: HoldSpec = HoldSpec::Frac(0.5);
const THIRD: HoldSpec = HoldSpec::Frac(1.0 / 3.0);
/// From one change to the next in scenarios that change all the time.
const INTERVAL: Duration = Duration::from_millis(250);

/// One half of the machine's CPUs.
fn half(index: usize) -> CpusetSpec {
    CpusetSpec::Disjoint { index, of: 2 }
}

fn two(ctx: &Ctx) -> Vec<CgroupDef> {
    vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")]
}

/// Two cgroups whose workers compute all the time.
///
/// # Errors
/// As [`execute_scenario`]; so with all of them.
pub fn steady(ctx: &Ctx) -> Outcome {
    execute_defs(ctx, two(ctx))
}

/// A cgroup for each last-level cache, confined to its CPUs.
///
/// # Errors
/// As [`execute_scenario`].
pub fn steady_llc(ctx: &Ctx) -> Outcome {
    let of_llc = |llc| ctx.cgroup_def(format!("cg_{llc}")).cpuset(CpusetSpec::Llc(llc));
    execute_defs(ctx, (0..ctx.topo.llcs.len()).map(of_llc).collect())
}

/// Two cgroups with two workers for each CPU of the machine in each: four times as many as can run.
///
/// # Errors
/// As [`execute_scenario`].
pub fn oversubscribed(ctx: &Ctx) -> Outcome {
    execute_defs(ctx, two(ctx).into_iter().map(|def| def.workers_pct(200.0)).collect())
}

/// Two cgroups that run anywhere, and from the middle on in one half of the CPUs each.
///
/// # Errors
/// As [`execute_scenario`], a machine with one CPU.
pub fn cpuset_apply(ctx: &Ctx) -> Outcome {
    let apply = [Op::set_cpuset("cg_0", half(0)), Op::set_cpuset("cg_1", half(1))];
    let steps = vec![Step::new(vec![], HALF).named("anywhere"), Step::of_ops(apply, HALF).named("apart")];
    execute_scenario(ctx, Backdrop::new(two(ctx)), steps)
}

/// Two cgroups in one half of the CPUs each, which from the middle on run anywhere.
///
/// # Errors
/// As [`execute_scenario`], a machine with one CPU.
pub fn cpuset_clear(ctx: &Ctx) -> Outcome {
    let apart = two(ctx).into_iter().enumerate().map(|(index, def)| def.cpuset(half(index))).collect();
    let clear = [Op::clear_cpuset("cg_0"), Op::clear_cpuset("cg_1")];
    let steps = vec![Step::new(vec![], HALF).named("apart"), Step::of_ops(clear, HALF).named("anywhere")];
    execute_scenario(ctx, Backdrop::new(apart), steps)
}

/// Two cgroups of one half of the CPUs each; one of them gets all CPUs, then only the first.
///
/// # Errors
/// As [`execute_scenario`], a machine with one CPU.
pub fn cpuset_resize(ctx: &Ctx) -> Outcome {
    let apart = two(ctx).into_iter().enumerate().map(|(index, def)| def.cpuset(half(index))).collect();
    let all = CpusetSpec::Exact(ctx.topo.cpus.clone());
    let first = CpusetSpec::Exact(ctx.topo.cpus.iter().copied().take(1).collect());
    let steps = vec![
        Step::new(vec![], THIRD).named("half"),
        Step::of_ops([Op::set_cpuset("cg_0", all)], THIRD).named("all"),
        Step::of_ops([Op::set_cpuset("cg_0", first)], THIRD).named("one"),
    ];
    execute_scenario(ctx, Backdrop::new(apart), steps)
}

/// A cgroup runs all the time; from the middle on there is another one.
///
/// # Errors
/// As [`execute_scenario`].
pub fn cgroup_add(ctx: &Ctx) -> Outcome {
    let steps = vec![
        Step::new(vec![], HALF).named("one"),
        Step::of_ops([Op::add_cgroup(ctx.cgroup_def("cg_1"))], HALF).named("two"),
    ];
    execute_scenario(ctx, Backdrop::new(vec![ctx.cgroup_def("cg_0")]), steps)
}

/// Two cgroups; in the middle one of them is removed.
///
/// # Errors
/// As [`execute_scenario`].
pub fn cgroup_remove(ctx: &Ctx) -> Outcome {
    let steps = vec![
        Step::new(vec![], HALF).named("two"),
        Step::of_ops([Op::remove_cgroup("cg_1")], HALF).named("one"),
    ];
    execute_scenario(ctx, Backdrop::new(two(ctx)), steps)
}

/// A cgroup with a worker for each CPU, whose workers may run anywhere, then on one CPU each, then on some at random.
///
/// # Errors
/// As [`execute_scenario`].
pub fn affinity_change(ctx: &Ctx) -> Outcome {
    let step = |name: &str, affinity| Step::of_ops([Op::set_affinity("cg_0", affinity)], THIRD).named(name);
    let steps = vec![
        Step::new(vec![], THIRD).named("anywhere"),
        step("pinned", Affinity::SingleCpu),
        step("random", Affinity::RandomSubset),
    ];
    execute_scenario(ctx, Backdrop::new(vec![CgroupDef::named("cg_0").workers_pct(100.0)]), steps)
}

/// A cgroup with two workers for each CPU, each bound to one.
///
/// # Errors
/// As [`execute_scenario`].
pub fn affinity_pinned(ctx: &Ctx) -> Outcome {
    execute_defs(ctx, vec![CgroupDef::named("cg_0").workers_pct(200.0).affinity(Affinity::SingleCpu)])
}

/// A cgroup beside one of ten times its weight, as other services of a host are, with a worker for each CPU.
///
/// # Errors
/// As [`execute_scenario`].
pub fn host_contention(ctx: &Ctx) -> Outcome {
    let host = CgroupDef::named("host").workers_pct(100.0).cpu_weight(1000);
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0").cpu_weight(100), host])
}

/// Cgroups whose workers compute, compute in bursts, give up their CPU all the time, and wake each other.
///
/// # Errors
/// As [`execute_scenario`].
pub fn mixed_workloads(ctx: &Ctx) -> Outcome {
    let kinds = [
        ("spin", WorkType::from(SpinWait)),
        ("bursts", Bursty::default().into()),
        ("yields", YieldHeavy::default().into()),
        ("pipes", PipeIo::default().into()),
    ];
    // An even number, as those with pipes are pairs.
    let def = |(name, work)| CgroupDef::named(name).workers(2).work_type(work);
    execute_defs(ctx, kinds.map(def).to_vec())
}

/// Two cgroups inside of a third one, which has none of its own workers.
fn nested(ctx: &Ctx) -> Vec<CgroupDef> {
    vec![
        CgroupDef::named("outer").workers(0),
        ctx.cgroup_def("outer/inner_0"),
        ctx.cgroup_def("outer/inner_1"),
    ]
}

/// Two cgroups inside of a third one, and a cgroup beside that.
///
/// # Errors
/// As [`execute_scenario`].
pub fn nested_steady(ctx: &Ctx) -> Outcome {
    execute_defs(ctx, [nested(ctx), vec![ctx.cgroup_def("cg_0")]].concat())
}

/// All tasks of one inner cgroup move to the other one and back, all the time.
///
/// # Errors
/// As [`execute_scenario`].
pub fn nested_task_move(ctx: &Ctx) -> Outcome {
    let moves =
        [Op::move_tasks("outer/inner_0", "outer/inner_1"), Op::move_tasks("outer/inner_1", "outer/inner_0")];
    let steps = vec![Step::of_ops(moves, HoldSpec::Loop { interval: INTERVAL }).named("moves")];
    execute_scenario(ctx, Backdrop::new(nested(ctx)), steps)
}
