//! A task as sched_ext sees it, and bits by the names that the kernel's own enums give them.

use std::fmt;

use serde::Serialize;

use crate::btf::{Kind, Types};
use crate::kernel::mirror::mirror;
use crate::kernel::{FieldMissing, Gaps, Jiffies, KernelError, KernelView};
use crate::units::KernelVirt;

mirror! {
    /// `struct sched_ext_entity`.
    struct RawEntity, RawEntityLayout = "sched_ext_entity" {
        dsq: KernelVirt,
        ops_state: u64,
        flags: u64,
        dsq_flags: Result<u64, FieldMissing>,
        weight: u64,
        sticky_cpu: i64,
        holding_cpu: i64,
        selected_cpu: Result<i64, FieldMissing>,
        runnable_next: KernelVirt = "runnable_node.next",
        runnable_at: u64,
        slice: u64,
        dsq_vtime: u64,
        ddsp_dsq_id: u64,
        sched: Result<KernelVirt, FieldMissing>,
    }
}

mirror! {
    /// `struct scx_dispatch_q`, as far as its name goes.
    struct DsqName, DsqNameLayout = "scx_dispatch_q" {
        id: u64,
    }
}

/// A task as sched_ext sees it: `struct sched_ext_entity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Entity {
    /// What is left of its slice, in ns.
    pub slice_ns: u64,
    /// Where it is in a queue that is ordered by vtime.
    pub vtime: u64,
    /// The queue that it is in, or `None`.
    pub dsq: Option<DsqId>,
    /// The queue that it is about to be put into, where it was dispatched before it was enqueued.
    pub direct_dsq: Option<DsqId>,
    /// `SCX_TASK_*` bits, such as `QUEUED`.
    pub flags: Vec<String>,
    /// Its state with the scheduler, such as `ENABLED`.
    pub state: String,
    /// Who has it: `NONE`, `QUEUEING`, `QUEUED` (the BPF scheduler), `DISPATCHING`.
    pub ops_state: String,
    /// Weight, 100 for nice 0.
    pub weight: u64,
    /// Whether it waits for a CPU: it is on its runqueue's list of runnable tasks, which the running one is taken off.
    pub runnable: bool,
    /// When it became runnable, or was last put on the list: how long ago, in ns. Stale unless it is runnable.
    pub runnable_age_ns: Option<i64>,
    /// The same by the kernel's count of ticks, which stays what it is as long as one waits; 0 of one that never was runnable.
    #[serde(skip)]
    pub runnable_at: u64,
    /// CPU that it must run on next, or -1.
    pub sticky_cpu: i64,
    /// CPU that is moving it, or -1.
    pub holding_cpu: i64,
    /// CPU that `ops.select_cpu` chose last.
    pub selected_cpu: Option<i64>,
    /// Its scheduler: `qmap`, or `qmap on /below` of one below the root; `None` where the kernel has one for all tasks.
    pub scheduler: Option<String>,
    /// Where its queue is.
    #[serde(skip)]
    pub dsq_at: KernelVirt,
    /// Where its scheduler is.
    #[serde(skip)]
    pub sched_at: Option<KernelVirt>,
}

impl Entity {
    /// The entity at `at`.
    ///
    /// # Errors
    /// Those of [`KernelView::mirror`].
    pub(super) fn read(
        view: &KernelView<'_>,
        at: KernelVirt,
        jiffies: Option<Jiffies>,
        gaps: &mut Gaps,
    ) -> Result<Self, KernelError> {
        let raw: RawEntity = view.mirror(at)?;
        let types = view.types();
        let node = view.offset_of("sched_ext_entity", "runnable_node")?;
        let dsq = match raw.dsq.0 {
            0 => None,
            _ => gaps.read("a task's queue", view.mirror::<DsqName>(raw.dsq)).map(|dsq| dsq.id),
        };
        gaps.field(raw.dsq_flags);
        Ok(Self {
            slice_ns: raw.slice,
            vtime: raw.dsq_vtime,
            dsq: dsq.map(|id| DsqId::new(types, id)),
            direct_dsq: Some(DsqId::new(types, raw.ddsp_dsq_id)).filter(|id| !id.is_invalid()),
            flags: named_flags(types, "scx_ent_flags", "SCX_TASK_", raw.flags, number_bits(types)),
            state: state(types, raw.flags),
            ops_state: ops_state(types, raw.ops_state),
            weight: raw.weight,
            runnable: raw.runnable_next.0 != 0 && raw.runnable_next.0 != at.0.wrapping_add(node),
            runnable_age_ns: jiffies.filter(|_| raw.runnable_at != 0).map(|j| j.age_ns(raw.runnable_at)),
            runnable_at: raw.runnable_at,
            sticky_cpu: raw.sticky_cpu,
            holding_cpu: raw.holding_cpu,
            selected_cpu: gaps.field(raw.selected_cpu),
            scheduler: None,
            dsq_at: raw.dsq,
            sched_at: raw.sched.ok().filter(|sched| sched.0 != 0),
        })
    }
}

/// Bits of `flags` that are not flags but numbers.
fn number_bits(types: &Types) -> u64 {
    let mask = |name: &str| types.constant("scx_ent_flags", name).unwrap_or_default();
    // Older kernels have the state's place only.
    let shift = mask("SCX_TASK_STATE_SHIFT").min(32);
    let bits = mask("SCX_TASK_STATE_BITS").min(31);
    mask("SCX_TASK_STATE_MASK") | mask("SCX_TASK_REENQ_REASON_MASK") | (((1u64 << bits) - 1) << shift)
}

/// `ENABLED` for `SCX_TASK_ENABLED`, which is a value of a part of the flags, or of an enum of its own.
fn state(types: &Types, flags: u64) -> String {
    let constant = |name| types.constant("scx_ent_flags", name);
    let shift = constant("SCX_TASK_STATE_SHIFT").unwrap_or(8).min(63);
    let bits = constant("SCX_TASK_STATE_BITS").unwrap_or(2).min(31);
    let value = (flags >> shift) & ((1 << bits) - 1);
    let of_its_own = types.enum_name_of("scx_task_state", i128::from(value));
    let found = of_its_own.map(str::to_owned).or_else(|| {
        if value == 0 {
            return Some("SCX_TASK_NONE".to_owned());
        }
        types.enum_name_of("scx_ent_flags", i128::from(value << shift)).map(str::to_owned)
    });
    found.map_or_else(|| value.to_string(), |name| name.trim_start_matches("SCX_TASK_").to_owned())
}

/// `QUEUED` for `SCX_OPSS_QUEUED`; the number of the queueing above it is left out.
fn ops_state(types: &Types, value: u64) -> String {
    let shift = types.constant("scx_ops_state", "SCX_OPSS_QSEQ_SHIFT").unwrap_or(2).min(63);
    let value = value & ((1 << shift) - 1);
    match types.enum_name_of("scx_ops_state", i128::from(value)) {
        Some(name) => name.trim_start_matches("SCX_OPSS_").to_owned(),
        None => value.to_string(),
    }
}

/// The id of a dispatch queue, with the name of the kernel's own ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DsqId {
    /// `scx_dispatch_q.id`.
    pub number: u64,
    name: Option<String>,
}

impl DsqId {
    /// The id, named by the kernel's `enum scx_dsq_id_flags`.
    #[must_use]
    pub fn new(types: &Types, number: u64) -> Self {
        let constant = |name| types.constant("scx_dsq_id_flags", name);
        let builtin = constant("SCX_DSQ_FLAG_BUILTIN").unwrap_or(1 << 63);
        let local_on = constant("SCX_DSQ_LOCAL_ON").unwrap_or(0xc000_0000_0000_0000);
        let cpu = constant("SCX_DSQ_LOCAL_CPU_MASK").unwrap_or(0xffff_ffff);
        let name = match number {
            _ if number & builtin == 0 => None,
            _ if number == builtin => Some("INVALID".to_owned()),
            _ if number & local_on == local_on => Some(format!("LOCAL_ON|{}", number & cpu)),
            _ => types
                .enum_name_of("scx_dsq_id_flags", i128::from(number))
                .map(|name| name.trim_start_matches("SCX_DSQ_").to_owned()),
        };
        Self { number, name }
    }

    /// The id without a kernel's types, as the kernel's dump prints it. The numbers are those that BPF programs are compiled
    /// with: `enum scx_dsq_id_flags` of `include/linux/sched/ext.h`.
    #[must_use]
    pub fn of_dump(number: u64) -> Self {
        const BUILTIN: u64 = 1 << 63;
        const LOCAL_ON: u64 = 3 << 62;
        let name = match number {
            _ if number & BUILTIN == 0 => None,
            _ if number & LOCAL_ON == LOCAL_ON => Some(format!("LOCAL_ON|{}", number & 0xffff_ffff)),
            _ => ["INVALID", "GLOBAL", "LOCAL", "BYPASS"]
                .get(usize::try_from(number & !BUILTIN).unwrap_or(usize::MAX))
                .map(|name| (*name).to_owned()),
        };
        Self { number, name }
    }

    /// Whether it is `SCX_DSQ_INVALID`: no queue.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.name.as_deref() == Some("INVALID")
    }

    /// Whether it is one of the kernel's own queues.
    #[must_use]
    pub fn is_builtin(&self) -> bool {
        self.name.is_some()
    }
}

impl fmt::Display for DsqId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x}", self.number),
        }
    }
}

impl Serialize for DsqId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The names of the bits that are set in `value`, by the enum `enum_name`, without `prefix`; what has no name is one
/// hexadecimal number at the end. Only enumerators of one bit are names; bits of `fields` are parts of a number and
/// are left out.
#[must_use]
pub(in crate::kernel) fn named_flags(
    types: &Types,
    enum_name: &str,
    prefix: &str,
    value: u64,
    fields: u64,
) -> Vec<String> {
    let id = types.find(Kind::Enum, enum_name).or_else(|| types.find(Kind::Enum64, enum_name));
    let known = id.and_then(|id| types.enumerators(id).ok()).unwrap_or_default();
    let mut rest = value & !fields;
    let mut names = Vec::new();
    for one in known {
        // Enums with a negative member have the highest bit as a sign.
        let Ok(bit) =
            u64::try_from(one.value & i128::from(u32::MAX)).map(|low| match u64::try_from(one.value) {
                Ok(whole) => whole,
                Err(_) => low,
            })
        else {
            continue;
        };
        let is_number = ["_SHIFT", "_BITS", "_MASK"].iter().any(|end| one.name.ends_with(end));
        if bit.is_power_of_two() && rest & bit != 0 && !is_number {
            names.push(one.name.trim_start_matches(prefix).to_owned());
            rest &= !bit;
        }
    }
    if rest != 0 {
        names.push(format!("{rest:#x}"));
    }
    names
}
