//! Dispatch queues: where tasks of sched_ext wait, in the order in which they would be taken.
//!
//! Sources: `include/linux/sched/ext.h`, `kernel/sched/ext.c` of Linux.

use serde::Serialize;

use crate::kernel::lists::rhashtable_entries;
use crate::kernel::mirror::{At, Text, mirror};
use crate::kernel::scx::{scheduler_addresses, scheduler_name};
use crate::kernel::task::{Affinities, DsqId};
use crate::kernel::trees::rbtree_nodes;
use crate::kernel::{Cpus, FieldMissing, Gaps, Jiffies, KernelError, KernelView, list_nodes};
use crate::units::{CpuList, KernelVirt};

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
        cpus_ptr: Result<KernelVirt, FieldMissing>,
    }
}

/// Most tasks of all queues: lists of hostile memory may share theirs.
const MAX_QUEUED: usize = 1 << 16;

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
    /// Which CPUs it may run on; `None` where that cannot be read.
    pub cpus_allowed: Option<CpuList>,
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
    /// The `struct scx_sched` that has it; `None` for those of runqueues, and on kernels that have one table of queues for all.
    #[serde(skip)]
    pub scheduler: Option<KernelVirt>,
}

impl Dsq {
    /// The queue at `at`; `room` is how many tasks may still be read.
    ///
    /// # Errors
    /// Those of [`KernelView::mirror`]; what cannot be read of its tasks is a fault.
    fn read(
        view: &KernelView<'_>,
        at: KernelVirt,
        whose: String,
        shared: Shared,
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
            let Some(task) = task else { continue };
            let mask = gaps.field(task.cpus_ptr).map(|mask| shared.affinities.read(view, mask));
            tasks.push(QueuedTask {
                pid: task.pid,
                comm: task.comm.0,
                cpu: gaps.field(task.cpu),
                vtime: task.vtime,
                slice_ns: task.slice,
                cpus_allowed: mask.and_then(|mask| gaps.read(&what, mask)).flatten(),
                runnable_age_ns: shared.jiffies.map(|jiffies| jiffies.age_ns(task.runnable_at)),
                at,
            });
        }
        if tasks.len() as u64 != raw.nr {
            gaps.fault(format_args!(
                "{what}: it counts {} tasks, and {} are on its list",
                raw.nr,
                tasks.len()
            ));
        }
        Ok(Self { id, whose, nr: raw.nr, order, seq: gaps.field(raw.seq), tasks, at, scheduler: None })
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
        let nodes = rbtree_nodes(view, root, listed.len())?;
        Ok(nodes.into_iter().map(|at| KernelVirt(at.0.wrapping_sub(in_task))).collect::<Vec<_>>())
    });
    if let Some(tree) = gaps.read(what, tree)
        && tree != listed
    {
        gaps.fault(format_args!("{what}: its tree has {} tasks in another order than its list", tree.len()));
    }
}

mirror! {
    /// `struct scx_sched`, as far as its queues go.
    struct SchedQueues, SchedQueuesLayout = "scx_sched" {
        dsq_hash: Result<At, FieldMissing>,
        pnode: Result<KernelVirt, FieldMissing>,
        global_dsqs: Result<KernelVirt, FieldMissing>,
        pcpu: Result<KernelVirt, FieldMissing>,
    }
}

/// Most queues of one scheduler.
const MAX_QUEUES: usize = 1 << 16;
/// Most memory nodes.
const MAX_NODES: u32 = 1024;

/// All dispatch queues at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Dsqs {
    /// The queues: local ones by CPU, then global ones by node, then those that BPF made, by id.
    pub dsqs: Vec<Dsq>,
    /// What could not be read.
    pub gaps: Gaps,
}

impl Dsqs {
    /// The queue with this id that is not one of the kernel's own.
    #[must_use]
    pub fn user(&self, id: u64) -> Option<&Dsq> {
        self.dsqs.iter().find(|dsq| !dsq.id.is_builtin() && dsq.id.number == id)
    }
}

/// What is read once for all queues.
#[derive(Clone, Copy)]
struct Shared {
    jiffies: Option<Jiffies>,
    affinities: Affinities,
}

/// Where queues are found and what is needed to read them.
struct Reader<'v, 'm> {
    view: &'v KernelView<'m>,
    shared: Shared,
    /// How many tasks may still be read.
    room: usize,
    found: Dsqs,
}

/// Read all dispatch queues. What cannot be read of one is a fault, and the others stay.
///
/// # Errors
/// [`KernelError`] when the kernel has no dispatch queues, or its CPUs cannot be read.
pub fn read_dsqs(view: &KernelView<'_>) -> Result<Dsqs, KernelError> {
    let mut found = Dsqs::default();
    let jiffies = found.gaps.read("the age of tasks", Jiffies::read(view));
    let affinities = Affinities::new(view, &mut found.gaps);
    let shared = Shared { jiffies, affinities };
    let mut reader = Reader { view, shared, room: MAX_QUEUED, found };
    let cpus = view.cpus()?;
    let runqueues = view.symbol("runqueues")?;
    let local = view.offset_of("rq", "scx.local_dsq")?;
    // Queues of the runqueue that only newer kernels have.
    let others = [("reject", "scx.reject_dsq"), ("rescue", "scx.rescue.dsq")];
    // Tasks in the queue of a CPU that is gone wait for it to come back.
    for &cpu in cpus.possible() {
        let Some(rq) = cpus.place(runqueues, cpu) else { continue };
        let offline = if cpus.is_online(cpu) { "" } else { " (offline)" };
        reader.add(KernelVirt(rq.0.wrapping_add(local)), format!("local CPU {cpu}{offline}"));
        for (name, path) in others {
            if let Ok(offset) = view.offset_of("rq", path) {
                let whose = format!("{name} CPU {cpu}{offline}");
                reader.add_if_used(KernelVirt(rq.0.wrapping_add(offset)), whose);
            }
        }
    }
    let schedulers = scheduler_addresses(view, &mut reader.found.gaps);
    for (position, at) in schedulers.iter().enumerate() {
        // The first is the root; queues of others are told with whose they are.
        let of = match position {
            0 => String::new(),
            _ => scheduler_name(view, *at)
                .map_or_else(|_| format!(" of scheduler {position}"), |name| format!(" of {name}")),
        };
        reader.of_scheduler(*at, &cpus, &of);
    }
    if let Some(table) = view.profile().symbols().address("dsq_hash") {
        reader.user(table, "", None);
    }
    Ok(reader.found)
}

impl Reader<'_, '_> {
    fn read(&mut self, at: KernelVirt, whose: String) -> Option<Dsq> {
        let what = format!("dispatch queue {whose}");
        let dsq = Dsq::read(self.view, at, whose, self.shared, &mut self.room, &mut self.found.gaps);
        self.found.gaps.read(what, dsq)
    }

    fn add(&mut self, at: KernelVirt, whose: String) {
        let dsq = self.read(at, whose);
        self.found.dsqs.extend(dsq);
    }

    /// A queue that is only worth a line when there is something in it.
    fn add_if_used(&mut self, at: KernelVirt, whose: String) {
        let dsq = self.read(at, whose).filter(|dsq| dsq.nr > 0 || !dsq.tasks.is_empty());
        self.found.dsqs.extend(dsq);
    }

    fn of_scheduler(&mut self, at: KernelVirt, cpus: &Cpus, of: &str) {
        let sched = self.view.mirror::<SchedQueues>(at);
        let Some(sched) = self.found.gaps.read("a scheduler's queues", sched) else { return };
        let global_at = self.view.offset_of("scx_sched_pnode", "global_dsq");
        let nodes = match (sched.pnode, sched.global_dsqs) {
            (Ok(pnode), _) => self.found.gaps.read("global queues", global_at).map(|offset| (pnode, offset)),
            (Err(_), Ok(queues)) => Some((queues, 0)),
            (Err(missing), Err(_)) => self.found.gaps.field::<()>(Err(missing)).map(|()| (KernelVirt(0), 0)),
        };
        for (node, place) in nodes.map(|nodes| self.by_node(nodes)).unwrap_or_default() {
            self.add(place, format!("global node {node}{of}"));
        }
        if let (Ok(pcpu), Ok(offset)) = (sched.pcpu, self.view.offset_of("scx_sched_pcpu", "bypass_dsq")) {
            for &cpu in cpus.online() {
                if let Some(place) = cpus.place(pcpu, cpu) {
                    let place = KernelVirt(place.0.wrapping_add(offset));
                    self.add_if_used(place, format!("bypass CPU {cpu}{of}"));
                }
            }
        }
        if let Some(table) = self.found.gaps.field(sched.dsq_hash) {
            self.user(table.0, of, Some(at));
        }
    }

    /// The queues that an array of pointers has for each node, each `offset` into what is pointed at.
    fn by_node(&mut self, (array, offset): (KernelVirt, u64)) -> Vec<(u32, KernelVirt)> {
        let ids = self.view.profile().symbols().address("nr_node_ids");
        let nodes = ids.and_then(|at| self.view.u32(at).ok()).unwrap_or(1).clamp(1, MAX_NODES);
        let mut places = Vec::new();
        for node in 0..nodes {
            let pointer = self.view.pointer(KernelVirt(array.0.wrapping_add(u64::from(node) * 8)));
            if let Some(Some(at)) = self.found.gaps.read(format_args!("global queue of node {node}"), pointer)
            {
                places.push((node, KernelVirt(at.0.wrapping_add(offset))));
            }
        }
        places
    }

    /// The queues of a hash table, by id; `scheduler`: whose it is.
    fn user(&mut self, table: KernelVirt, of: &str, scheduler: Option<KernelVirt>) {
        let heads = rhashtable_entries(self.view, table, MAX_QUEUES, &mut self.found.gaps);
        let place =
            self.view.offset_of("scx_dispatch_q", "hash_node").and_then(|offset| Ok((offset, heads?)));
        let Some((offset, heads)) = self.found.gaps.read("queues that BPF made", place) else { return };
        let first = self.found.dsqs.len();
        for head in heads {
            self.add(KernelVirt(head.0.wrapping_sub(offset)), format!("user{of}"));
        }
        if let Some(user) = self.found.dsqs.get_mut(first..) {
            user.sort_by_key(|dsq: &Dsq| dsq.id.number);
            user.iter_mut().for_each(|dsq| dsq.scheduler = scheduler);
        }
    }
}
