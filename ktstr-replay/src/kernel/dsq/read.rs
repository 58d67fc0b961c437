//! All dispatch queues.

use serde::Serialize;

use super::rhash::elements;
use super::{Dsq, queue};
use crate::kernel::mirror::{At, mirror};
use crate::kernel::scx::scheduler_addresses;
use crate::kernel::{Cpus, FieldMissing, Gaps, Jiffies, KernelError, KernelView};
use crate::units::KernelVirt;

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

/// Where queues are found and what is needed to read them.
struct Reader<'v, 'm> {
    view: &'v KernelView<'m>,
    jiffies: Option<Jiffies>,
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
    let mut reader = Reader { view, jiffies, room: queue::MAX_QUEUED, found };
    let cpus = view.cpus()?;
    let runqueues = view.symbol("runqueues")?;
    let local = view.offset_of("rq", "scx.local_dsq")?;
    // Queues of the runqueue that only newer kernels have.
    let others = [("reject", "scx.reject_dsq"), ("rescue", "scx.rescue.dsq")];
    for &cpu in cpus.online() {
        let Some(rq) = cpus.place(runqueues, cpu) else { continue };
        reader.add(KernelVirt(rq.0.wrapping_add(local)), format!("local CPU {cpu}"));
        for (name, path) in others {
            if let Ok(offset) = view.offset_of("rq", path) {
                reader.add_if_used(KernelVirt(rq.0.wrapping_add(offset)), format!("{name} CPU {cpu}"));
            }
        }
    }
    let schedulers = scheduler_addresses(view, &mut reader.found.gaps);
    for (position, at) in schedulers.iter().enumerate() {
        // The first is the root; queues of others are told by their number.
        let of = if position == 0 { String::new() } else { format!(" of scheduler {position}") };
        reader.of_scheduler(*at, &cpus, &of);
    }
    if let Some(table) = view.profile().symbols().address("dsq_hash") {
        reader.user(table, "");
    }
    Ok(reader.found)
}

impl Reader<'_, '_> {
    fn add(&mut self, at: KernelVirt, whose: String) {
        let what = format!("dispatch queue {whose}");
        let dsq = Dsq::read(self.view, at, whose, self.jiffies, &mut self.room, &mut self.found.gaps);
        self.found.dsqs.extend(self.found.gaps.read(what, dsq));
    }

    /// A queue that is only worth a line when there is something in it.
    fn add_if_used(&mut self, at: KernelVirt, whose: String) {
        let what = format!("dispatch queue {whose}");
        let dsq = Dsq::read(self.view, at, whose, self.jiffies, &mut self.room, &mut self.found.gaps);
        let dsq = self.found.gaps.read(what, dsq).filter(|dsq| dsq.nr > 0 || !dsq.tasks.is_empty());
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
            self.user(table.0, of);
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

    /// The queues of a hash table, by id.
    fn user(&mut self, table: KernelVirt, of: &str) {
        let heads = elements(self.view, table, MAX_QUEUES, &mut self.found.gaps);
        let place =
            self.view.offset_of("scx_dispatch_q", "hash_node").and_then(|offset| Ok((offset, heads?)));
        let Some((offset, heads)) = self.found.gaps.read("queues that BPF made", place) else { return };
        let first = self.found.dsqs.len();
        for head in heads {
            self.add(KernelVirt(head.0.wrapping_sub(offset)), format!("user{of}"));
        }
        if let Some(user) = self.found.dsqs.get_mut(first..) {
            user.sort_by_key(|dsq: &queue::Dsq| dsq.id.number);
        }
    }
}
