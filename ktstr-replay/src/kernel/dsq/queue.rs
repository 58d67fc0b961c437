//! One dispatch queue.

use serde::Serialize;

use super::rbtree::in_order;
use crate::kernel::mirror::{At, Text, mirror};
use crate::kernel::task::DsqId;
use crate::kernel::{FieldMissing, Gaps, Jiffies, KernelError, KernelView, list_nodes};
use crate::units::KernelVirt;

mirror! {
    /// `struct scx_dispatch_q`.
    struct RawDsq, RawDsqLayout = "scx_dispatch_q" {
        list: At,
        priq: KernelVirt = "priq.rb_node",
        nr: u64,
        seq: Result<u64, FieldMissing>,
        id: u64,
    }
}

mirror! {
    /// `struct task_struct`, as far as a queue goes.
    struct RawQueued, RawQueuedLayout = "task_struct" {
        pid: i64,
        comm: Text,
        cpu: Result<u64, FieldMissing> = "thread_info.cpu" | "cpu",
        vtime: u64 = "scx.dsq_vtime",
        slice: u64 = "scx.slice",
        runnable_at: u64 = "scx.runnable_at",
    }
}

/// Most tasks of all queues: lists of hostile memory may share theirs.
pub(super) const MAX_QUEUED: usize = 1 << 16;

/// In what order a queue gives its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DsqOrder {
    /// First in, first out, or there is no task.
    Fifo,
    /// By vtime, the smallest first.
    Vtime,
}

/// A task in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueuedTask {
    /// Thread id.
    pub pid: i64,
    /// Command name.
    pub comm: String,
    /// CPU whose runqueue it is on.
    pub cpu: Option<u64>,
    /// Its vtime.
    pub vtime: u64,
    /// What is left of its slice, in ns.
    pub slice_ns: u64,
    /// How long it has been runnable, in ns.
    pub runnable_age_ns: Option<i64>,
    /// Where its `task_struct` is.
    #[serde(skip)]
    pub at: KernelVirt,
}

/// A dispatch queue: `struct scx_dispatch_q`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dsq {
    /// Its id.
    pub id: DsqId,
    /// Whose it is: `user`, `local CPU 1`, `global node 0`, `bypass CPU 0`.
    pub whose: String,
    /// How many tasks the kernel counts in it.
    pub nr: u64,
    /// In what order it gives them.
    pub order: DsqOrder,
    /// Tasks put into it since it was made.
    pub seq: Option<u64>,
    /// The tasks, the next one first.
    pub tasks: Vec<QueuedTask>,
    /// Where it is.
    #[serde(skip)]
    pub at: KernelVirt,
}

impl Dsq {
    /// The queue at `at`; `room` is how many tasks may still be read.
    ///
    /// # Errors
    /// Those of [`KernelView::mirror`]; what cannot be read of its tasks is a fault.
    pub(super) fn read(
        view: &KernelView<'_>,
        at: KernelVirt,
        whose: String,
        jiffies: Option<Jiffies>,
        room: &mut usize,
        gaps: &mut Gaps,
    ) -> Result<Self, KernelError> {
        let raw: RawDsq = view.mirror(at)?;
        let id = DsqId::new(view.types(), raw.id);
        let what = format!("dispatch queue {id} ({whose})");
        let listed = listed(view, &what, raw.list.0, *room, gaps)?;
        *room = room.saturating_sub(listed.len());
        let mut order = DsqOrder::Fifo;
        if raw.priq.0 != 0 {
            order = DsqOrder::Vtime;
            same_as_tree(view, &what, &listed, raw.priq, gaps);
        }
        let mut tasks = Vec::with_capacity(listed.len());
        for at in listed {
            let task: Option<RawQueued> =
                gaps.read(format_args!("{what}: the task at {at}"), view.mirror(at));
            tasks.extend(task.map(|task| QueuedTask {
                pid: task.pid,
                comm: task.comm.0,
                cpu: gaps.field(task.cpu),
                vtime: task.vtime,
                slice_ns: task.slice,
                runnable_age_ns: jiffies.map(|jiffies| jiffies.age_ns(task.runnable_at)),
                at,
            }));
        }
        if tasks.len() as u64 != raw.nr {
            gaps.fault(format_args!(
                "{what}: it counts {} tasks, and {} are on its list",
                raw.nr,
                tasks.len()
            ));
        }
        Ok(Self { id, whose, nr: raw.nr, order, seq: gaps.field(raw.seq), tasks, at })
    }
}

/// The `task_struct`s on a queue's list, which has those of its tree too, in the same order. Cursors of iterators are
/// on it as well, and are left out.
fn listed(
    view: &KernelView<'_>,
    what: &str,
    list: KernelVirt,
    room: usize,
    gaps: &mut Gaps,
) -> Result<Vec<KernelVirt>, KernelError> {
    let in_task = view.offset_of("task_struct", "scx.dsq_list.node")?;
    let node = view.offset_of("scx_dsq_list_node", "node")?;
    let flags = view.offset_of("scx_dsq_list_node", "flags")?;
    let is_cursor = |at: &KernelVirt| {
        let flags = view.u32(KernelVirt(at.0.wrapping_sub(node).wrapping_add(flags)));
        // `SCX_DSQ_LNODE_ITER_CURSOR`, the only bit of its enum in kernels that have names for it.
        flags.is_ok_and(|flags| flags & 1 != 0)
    };
    let nodes = list_nodes(view, what, list, room, gaps);
    let tasks = nodes.into_iter().filter(|at| !is_cursor(at));
    Ok(tasks.map(|at| KernelVirt(at.0.wrapping_sub(in_task))).collect())
}

/// A fault if the tree of a queue does not have its tasks in the order of its list.
fn same_as_tree(view: &KernelView<'_>, what: &str, listed: &[KernelVirt], root: KernelVirt, gaps: &mut Gaps) {
    let tree = view.offset_of("task_struct", "scx.dsq_priq").and_then(|in_task| {
        let nodes = in_order(view, root, listed.len())?;
        Ok(nodes.into_iter().map(|at| KernelVirt(at.0.wrapping_sub(in_task))).collect::<Vec<_>>())
    });
    if let Some(tree) = gaps.read(what, tree)
        && tree != listed
    {
        gaps.fault(format_args!("{what}: its tree has {} tasks in another order than its list", tree.len()));
    }
}
