//! Control groups: the unified hierarchy, and the paths of its groups by their kernfs nodes.
//!
//! Sources: `include/linux/cgroup-defs.h`, `fs/kernfs/dir.c`, `kernel/sched/core.c` of Linux.

mod time;

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::kernel::mirror::{At, mirror};
use crate::kernel::task::Tasks;
use crate::kernel::{FieldMissing, Gaps, KernelError, KernelView, list_entries};
use crate::units::KernelVirt;
use time::Times;

mirror! {
    /// `struct cgroup`, as far as its name goes.
    struct Named, NamedLayout = "cgroup" {
        kn: KernelVirt,
    }
}

mirror! {
    /// `struct kernfs_node`.
    struct Node, NodeLayout = "kernfs_node" {
        parent: KernelVirt = "__parent" | "parent",
        name: KernelVirt,
    }
}

/// Deepest path that is followed.
const MAX_DEPTH: usize = 128;
/// Longest name of one directory, in bytes (`NAME_MAX`).
const MAX_NAME_BYTES: usize = 255;

/// Paths of cgroups, each found once.
#[derive(Debug, Default)]
pub struct Paths {
    known: HashMap<KernelVirt, Result<String, KernelError>>,
}

impl Paths {
    /// The path of the `struct cgroup` at `at` from the root of its hierarchy, as `/proc/PID/cgroup` shows it.
    ///
    /// # Errors
    /// [`KernelError::Broken`] when its parents do not end; those of `KernelView::mirror`.
    pub fn of(&mut self, view: &KernelView<'_>, at: KernelVirt) -> Result<String, KernelError> {
        self.known.entry(at).or_insert_with(|| path(view, at)).clone()
    }
}

fn path(view: &KernelView<'_>, at: KernelVirt) -> Result<String, KernelError> {
    let mut node_at = view.mirror::<Named>(at)?.kn;
    let mut names = Vec::new();
    for _ in 0..MAX_DEPTH {
        let node: Node = view.mirror(node_at)?;
        if node.parent.0 == 0 {
            names.reverse();
            return Ok(format!("/{}", names.join("/")));
        }
        names.push(view.text(node.name, MAX_NAME_BYTES)?);
        node_at = node.parent;
    }
    let why = format!("it is deeper than {MAX_DEPTH} levels");
    Err(KernelError::Broken { what: "a cgroup's path", at, why })
}

mirror! {
    /// `struct cgroup`.
    struct RawCgroup, RawCgroupLayout = "cgroup" {
        children: At = "self.children",
        subsys: At,
        level: Result<i64, FieldMissing>,
        run: Result<u64, FieldMissing> = "bstat.cputime.sum_exec_runtime",
        run_told: Result<u64, FieldMissing> = "last_bstat.cputime.sum_exec_runtime",
        run_on: Result<KernelVirt, FieldMissing> = "rstat_base_cpu" | "rstat_cpu",
    }
}

mirror! {
    /// `struct task_group`: what the CPU controller has of a cgroup.
    struct TaskGroup, TaskGroupLayout = "task_group" {
        shares: Result<u64, FieldMissing>,
        scx_weight: Result<u64, FieldMissing> = "scx.weight" | "scx_weight",
    }
}

/// Most threads that are counted: lists of hostile memory may share theirs.
const MAX_THREADS: usize = 1 << 16;
/// Most cgroups that are looked at.
const MAX_CGROUPS: usize = 1 << 16;

/// A cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cgroup {
    /// Its path in the unified hierarchy.
    pub path: String,
    /// How deep it is; 0 for the root.
    pub level: Option<i64>,
    /// How many threads are in it, not counting those of its children: the lines of its `cgroup.threads`. Threads that have ended
    /// are in no cgroup, although they may not have been waited for.
    pub tasks: usize,
    /// `cpu.weight`; `None` where the CPU controller does not reach, or has no weight (the root).
    pub cpu_weight: Option<u64>,
    /// The weight that sched_ext was told.
    pub scx_weight: Option<u64>,
    /// CPU time of its threads and of those of its children, gone ones included, in ns: `usage_usec` of `cpu.stat`. `None` for the
    /// root, whose time is the sum over all CPUs.
    pub cpu_ns: Option<u64>,
}

/// All cgroups at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cgroups {
    /// The cgroups, each before its children.
    pub cgroups: Vec<Cgroup>,
    /// What could not be read.
    pub gaps: Gaps,
}

/// Read the tree; `tasks` says how many are in each.
///
/// # Errors
/// [`KernelError`] when this kernel has no cgroups, or its types do not describe them.
pub fn read_cgroups(view: &KernelView<'_>, tasks: &Tasks) -> Result<Cgroups, KernelError> {
    let root = view.symbol("cgrp_dfl_root")?;
    let root = KernelVirt(root.0.wrapping_add(view.offset_of("cgroup_root", "cgrp")?));
    let css_in_cgroup = view.offset_of("cgroup", "self")?;
    let controller = cpu_controller(view);
    let mut found = Cgroups::default();
    let counts = threads(view, tasks, &mut found.gaps);
    let mut paths = Paths::default();
    let mut times = Times::new(view);
    // With the position of the parent.
    let (mut pending, mut seen) = (vec![(root, None)], HashSet::new());
    while let Some((at, parent)) = pending.pop() {
        if !seen.insert(at) || seen.len() > MAX_CGROUPS {
            found.gaps.fault("the tree of cgroups goes in circles, or is too large");
            break;
        }
        let Some(raw) = found.gaps.read("a cgroup", view.mirror::<RawCgroup>(at)) else { continue };
        let Some(path) = found.gaps.read("a cgroup's path", paths.of(view, at)) else { continue };
        let group = controller.and_then(|controller| {
            let place = KernelVirt(raw.subsys.0.0.wrapping_add(controller.wrapping_mul(8)));
            found.gaps.read(format_args!("the CPU controller of {path}"), group(view, place))?
        });
        let is_root = at == root;
        // The root's is that of all CPUs, and kept elsewhere.
        let time = if is_root { Ok(None) } else { times.of(view, &raw) };
        let time = found.gaps.read(format_args!("the CPU time of {path}"), time).flatten();
        let shares = group.as_ref().and_then(|group| found.gaps.field(group.shares.clone()));
        let scx_weight = group.and_then(|group| found.gaps.field(group.scx_weight));
        found.cgroups.push(Cgroup {
            path: path.clone(),
            level: found.gaps.field(raw.level),
            tasks: counts.get(&at).copied().unwrap_or_default(),
            cpu_weight: shares.filter(|_| !is_root).map(weight_of_shares),
            scx_weight,
            cpu_ns: None,
        });
        times.push(time, parent);
        let position = found.cgroups.len() - 1;
        let of = ("cgroup_subsys_state", "sibling");
        let room = MAX_CGROUPS.saturating_sub(seen.len() + pending.len());
        let children = list_entries(view, raw.children.0, of, room, &mut found.gaps);
        let place = |css: &KernelVirt| KernelVirt(css.0.wrapping_sub(css_in_cgroup));
        pending.extend(children.iter().rev().map(|css| (place(css), Some(position))));
    }
    for (cgroup, ns) in found.cgroups.iter_mut().zip(times.with_children()) {
        cgroup.cpu_ns = ns;
    }
    Ok(found)
}

mirror! {
    /// `struct css_set`, as far as its tasks go.
    struct Members, MembersLayout = "css_set" {
        dfl_cgrp: KernelVirt,
        tasks: At,
        mg_tasks: At,
    }
}

/// How many threads are in each cgroup, by the lists that `cgroup.threads` goes through (`css_task_iter_advance`): those of
/// the sets that tasks are in, without `dying_tasks`.
fn threads(view: &KernelView<'_>, tasks: &Tasks, gaps: &mut Gaps) -> HashMap<KernelVirt, usize> {
    let sets: HashSet<KernelVirt> = tasks.tasks.iter().filter_map(|task| task.css_set_at).collect();
    let mut counts = HashMap::new();
    let mut room = MAX_THREADS;
    for set in sets {
        let Some(members) = gaps.read("the tasks of a cgroup", view.mirror::<Members>(set)) else { continue };
        for list in [members.tasks, members.mg_tasks] {
            let listed = list_entries(view, list.0, ("task_struct", "cg_list"), room, gaps);
            room = room.saturating_sub(listed.len());
            *counts.entry(members.dfl_cgrp).or_default() += listed.len();
        }
    }
    counts
}

/// The CPU controller's number in this kernel.
fn cpu_controller(view: &KernelView<'_>) -> Option<u64> {
    view.types().constant("cgroup_subsys_id", "cpu_cgrp_id")
}

/// The task group that the pointer at `place` is the css of; `None` where the controller does not reach.
fn group(view: &KernelView<'_>, place: KernelVirt) -> Result<Option<TaskGroup>, KernelError> {
    let Some(css) = view.pointer(place)? else { return Ok(None) };
    let at = KernelVirt(css.0.wrapping_sub(view.offset_of("task_group", "css")?));
    view.mirror(at).map(Some)
}

/// `cpu.weight` of `task_group.shares`: `tg_weight` and `sched_weight_to_cgroup` of the kernel, where a share is 1024 for
/// weight 100, scaled by 1024 again on 64-bit machines.
fn weight_of_shares(shares: u64) -> u64 {
    let scaled_down = if shares == 0 { 0 } else { (shares >> 10).max(2) };
    (scaled_down.saturating_mul(100).saturating_add(512) / 1024).clamp(1, 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_the_interface() {
        assert_eq!(weight_of_shares(1024 << 10), 100);
        assert_eq!(weight_of_shares((1024 << 10) * 2), 200);
        assert_eq!(weight_of_shares(10 << 10), 1);
        assert_eq!(weight_of_shares(u64::MAX), 10_000);
    }
}
