//! The kernel's own scheduler, on machines of several topologies.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ktstr::prelude::*;
use ktstr_replay::trace::record::{self, EventBody, Stage};
use ktstr_tests::fixture;

// The kernel's own scheduler without its groups of sessions, which is said to the kernel's log, too.
declare_scheduler!(PLAIN, {
    name = "plain",
    enable = ["echo 0 > /proc/sys/kernel/sched_autogroup_enabled", "echo 'ktstr: plain is on' > /dev/kmsg"],
    disable = ["echo 1 > /proc/sys/kernel/sched_autogroup_enabled", "echo 'ktstr: plain is off' > /dev/kmsg"],
});

/// Two cgroups of busy workers: the kernel's own scheduler starves nobody, and no sched_ext scheduler is there.
#[ktstr_test(ignore, duration_s = 4, num_snapshots = 4, not_starved)]
fn two_cgroups(ctx: &Ctx) -> Result<AssertResult> {
    let state = fs::read_to_string("/sys/kernel/sched_ext/state").context("sched_ext's state")?;
    ensure!(state.trim() == "disabled", "sched_ext is {state}");
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

#[test]
fn the_kernels_own_scheduler_starves_nobody() {
    let run = fixture("two_cgroups").run_undisturbed();
    run.assert_replays();
    run.assert_holds();
}

/// A name that is longer than what the kernel keeps of a worker's.
const LIGHT: &str = "light_in_the_background";

/// A cgroup with four times the weight of the other gets most of the one CPU.
/// Its scheduler is switched on by lines before, and off after.
/// Its workers, which were given no name, have one of their cgroup and number, cut where it does not fit.
#[ktstr_test(
    scheduler = PLAIN,
    cores = 1,
    duration_s = 4,
    num_snapshots = 1,
    claims = [
        "final(count(tasks where comm == \"heavy/0\" and cgroup == /heavy) == 1)",
        "final(count(tasks where comm == \"light_~ground/0\" and cgroup == /light_in_the_background) == 1)",
    ],
    check = the_heavy_one_leads
)]
fn weights(ctx: &Ctx) -> Result<AssertResult> {
    let groups = fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled")?;
    ensure!(groups.trim() == "0", "its first line was not run: {groups}");
    let heavy = CgroupDef::named("heavy").workers(1).cpu_weight(400);
    let light = CgroupDef::named(LIGHT).workers(1).cpu_weight(100);
    execute_defs(ctx, vec![heavy, light])
}

fn the_heavy_one_leads(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let cpu_ns = |cgroup: &str| -> u64 {
        worker_reports(trace).filter(|worker| worker.cgroup == cgroup).map(|worker| worker.cpu_ns).sum()
    };
    let heavy_over_light = cpu_ns("heavy") as f64 / cpu_ns(LIGHT) as f64;
    // 4, unless the host takes the CPU from the machine at the end of a turn; without weights 1. One that it takes it from for long
    // gives it back in the midst of anybody's turn.
    let (least, most) = if trace.host_gaps().is_empty() { (2.0, 8.0) } else { (1.2, 20.0) };
    claim!(v, heavy_over_light).between(least, most).because("their weights are 400 and 100");
    // In the kernel's own words: on before the body, and off after the end of the test's process.
    let events = trace.events();
    let at = |wanted: &dyn Fn(&EventBody) -> bool| events.iter().position(|event| wanted(&event.body));
    let logged = |text: &'static str| {
        at(&move |body| matches!(body, EventBody::Kmsg { text: line, .. } if line.contains(text)))
    };
    let reached =
        |wanted| at(&move |body| matches!(body, EventBody::Stage { stage, .. } if *stage == wanted));
    let order = [
        logged("plain is on"),
        reached(Stage::BodyStarted),
        reached(Stage::TestExited),
        logged("plain is off"),
        reached(Stage::PoweringOff),
    ];
    claim!(v, u8::from(order.iter().all(Option::is_some) && order.is_sorted()))
        .eq(1)
        .because(format!("on, begin, end, off, power-off are events {order:?}"));
    Ok(())
}

fn worker_reports(trace: &Trace) -> impl Iterator<Item = record::WorkerReport> {
    trace.events().into_iter().filter_map(|event| match event.body {
        EventBody::Worker(report) => Some(report),
        _ => None,
    })
}

#[ktstr_test(numa_nodes = 1, llcs = 1, cores = 1, threads = 1, duration_s = 1)]
fn topology_of_one_cpu(_ctx: &Ctx) -> Result<AssertResult> {
    sees(1, 1, 1, 1)
}

#[ktstr_test(numa_nodes = 1, llcs = 2, cores = 2, threads = 1, duration_s = 1)]
fn topology_of_two_llcs(_ctx: &Ctx) -> Result<AssertResult> {
    sees(1, 2, 2, 1)
}

#[ktstr_test(numa_nodes = 1, llcs = 1, cores = 2, threads = 2, duration_s = 1)]
fn topology_with_smt(_ctx: &Ctx) -> Result<AssertResult> {
    sees(1, 1, 2, 2)
}

#[ktstr_test(numa_nodes = 2, llcs = 4, cores = 1, threads = 2, duration_s = 1)]
fn topology_with_numa_and_smt(_ctx: &Ctx) -> Result<AssertResult> {
    sees(2, 4, 1, 2)
}

/// Reads `/sys` without ktstr's help, and compares: CPUs, nodes with their CPUs, LLCs and SMT siblings.
fn sees(
    numa_nodes: usize,
    llcs: usize,
    cores_per_llc: usize,
    threads_per_core: usize,
) -> Result<AssertResult> {
    let cpus = llcs * cores_per_llc * threads_per_core;
    let mut result = AssertResult::pass();
    let mut expect = |what: &str, found: Vec<usize>, wanted: Vec<usize>| {
        result.check(found == wanted, format!("{what}: found {found:?}, wanted {wanted:?}"));
    };
    expect("CPUs online", vec![list("/sys/devices/system/cpu/online")?.len()], vec![cpus]);
    let per_cpu = |file: &str| -> Result<Vec<usize>> {
        let mut groups = BTreeSet::new();
        for cpu in 0..cpus {
            groups.insert(list(&format!("/sys/devices/system/cpu/cpu{cpu}/{file}"))?);
        }
        Ok(groups.iter().map(Vec::len).collect())
    };
    let cpus_per_llc = cores_per_llc * threads_per_core;
    expect("CPUs of each LLC", per_cpu("cache/index3/shared_cpu_list")?, vec![cpus_per_llc; llcs]);
    let cores = llcs * cores_per_llc;
    expect("CPUs of each core", per_cpu("topology/thread_siblings_list")?, vec![threads_per_core; cores]);

    let mut nodes = Vec::new();
    for node in list("/sys/devices/system/node/online")? {
        nodes.push(list(&format!("/sys/devices/system/node/node{node}/cpulist"))?.len());
    }
    expect("CPUs of each NUMA node", nodes, vec![cpus / numa_nodes; numa_nodes]);
    Ok(result)
}

/// A list of the kernel's, such as `0-3,8`, as numbers.
fn list(path: &str) -> Result<Vec<usize>> {
    let text = fs::read_to_string(Path::new(path)).with_context(|| format!("reading {path}"))?;
    let mut numbers = Vec::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        numbers.extend(first.parse::<usize>()?..=last.parse()?);
    }
    Ok(numbers)
}
