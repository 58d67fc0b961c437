//! A capture: the scheduler's maps, sched_ext's state, runqueues and registers at one stop of the machine.

#![expect(missing_docs, reason = "rkyv's derive makes undocumented resolvers for enums with named fields")]

use rkyv::{Archive, Deserialize, Serialize};

use super::BlobId;
use crate::trace::body::archived_body;
use crate::units::{Cpu, GuestNs, HostNs};

/// One capture.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct SampleV1 {
    /// Position among the trace's samples, from 0.
    pub index: u32,
    /// `periodic_000`, `attach`, `end`, or the name that the test gave.
    pub tag: String,
    /// Why it was taken.
    pub kind: CaptureKindV1,
    /// Guest `CLOCK_MONOTONIC` in ns, estimated from the last clock record.
    pub guest_ns: GuestNs,
    /// Host time since the recording began, in ns.
    pub host_ns: HostNs,
    /// Index and name of the scenario's phase, if one was on.
    pub phase: Option<(u32, String)>,
    /// `Some(reason)`: the capture could not be taken and this is its placeholder; all below is empty.
    pub missed: Option<String>,
    /// sched_ext's state; `None` where the kernel has no sched_ext or it could not be read (see `faults`).
    pub scx: Option<ScxStateV1>,
    /// Every BPF map of the guest, ascending by id.
    pub maps: Vec<MapStateV1>,
    /// Runqueues, by CPU.
    pub cpus: Vec<CpuStateV1>,
    /// Registers, by vCPU.
    pub vcpus: Vec<VcpuRegsV1>,
    /// What could not be read, and why.
    pub faults: Vec<String>,
    /// Index of the checkpoint that was taken with it.
    pub checkpoint: Option<u32>,
    /// How long the guest stood still, in us.
    pub pause_us: u64,
    /// The part of it that the machine took to stop and to go on, in us.
    pub machine_us: u64,
}

/// Why a capture was taken.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CaptureKindV1 {
    /// The scheduler had attached (or, without one, the body was about to start).
    Attach,
    /// On the cadence of `num_snapshots`.
    Periodic,
    /// The test asked for it.
    OnDemand,
    /// The body had ended.
    End,
    /// The scheduler had exited or was ejected.
    SchedulerExit,
    /// The guest died.
    GuestDeath,
    /// A watched address was written.
    Watch,
    /// A task had waited for half of the watchdog's time, or of what `max_gap_ms` allows.
    HalfWatchdog,
    /// A probed function was called. Reserved: this release takes none.
    Probe,
    /// It is what a core file has, which was not recorded by ktstr.
    Import,
    /// The scheduler had not become enabled in its time.
    NotEnabled,
    /// A scheduler below the root had ended with an error.
    SubSchedulerExit,
}

impl CaptureKindV1 {
    /// Whether it is of the beginning, the end or a failure of a run, and not one of many in between.
    #[must_use]
    pub fn is_of_an_end(self) -> bool {
        match self {
            Self::Attach | Self::End | Self::SchedulerExit | Self::GuestDeath => true,
            Self::HalfWatchdog | Self::Import | Self::NotEnabled | Self::SubSchedulerExit => true,
            Self::Periodic | Self::OnDemand | Self::Watch | Self::Probe => false,
        }
    }
}

/// sched_ext as the kernel has it. Sources: `kernel/sched/ext.c`, `struct scx_sched`, `struct scx_exit_info`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct ScxStateV1 {
    /// `enabled`, `disabled`, ... as `/sys/kernel/sched_ext/state` shows it.
    pub state: String,
    /// The scheduler's `ops.name`, if one is (or was last) there.
    pub ops_name: Option<String>,
    /// `scx_exit_kind`, 0 while it runs.
    pub exit_kind: u64,
    /// Name of that kind by the kernel's own enum, such as `SCX_EXIT_ERROR_STALL`.
    pub exit_kind_name: Option<String>,
    /// `scx_exit_info.exit_code`.
    pub exit_code: i64,
    /// `scx_exit_info.reason`.
    pub exit_reason: Option<String>,
    /// `scx_exit_info.msg`.
    pub exit_message: Option<String>,
    /// `scx_exit_info.dump`.
    pub exit_dump: Option<String>,
    /// How many times a scheduler was enabled since boot.
    pub enable_seq: Option<u64>,
    /// Depth of bypass mode.
    pub bypass_depth: Option<i64>,
    /// Tasks that asked for SCHED_EXT and were refused.
    pub nr_rejected: Option<u64>,
    /// Watchdog timeout, in ns.
    pub watchdog_timeout_ns: Option<u64>,
}

/// One BPF map.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct MapStateV1 {
    /// Kernel id of the map.
    pub id: u32,
    /// Its name, at most 15 characters; global data is `<object>.bss` and the like.
    pub name: String,
    /// `enum bpf_map_type`.
    pub map_type: u32,
    /// Key size in bytes.
    pub key_size: u32,
    /// Value size in bytes (one CPU's, for per-CPU maps).
    pub value_size: u32,
    /// Declared capacity in entries.
    pub max_entries: u32,
    /// The BTF blob that the type ids below belong to.
    pub btf: Option<BlobId>,
    /// BTF type of a key, 0 when unknown.
    pub key_type_id: u32,
    /// BTF type of a value, 0 when unknown. For global data it is the section's `DATASEC`.
    pub value_type_id: u32,
    /// What was in it.
    pub contents: MapContentsV1,
}

/// The entries of a map.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum MapContentsV1 {
    /// `values` holds `value_size` bytes for each index from 0.
    Array {
        /// Concatenated values.
        values: Vec<u8>,
    },
    /// `values` holds, for each index, `value_size` bytes for each CPU in `cpus`.
    PerCpuArray {
        /// CPU numbers, ascending.
        cpus: Vec<Cpu>,
        /// Concatenated values, index-major.
        values: Vec<u8>,
    },
    /// Entry i has its key at `i * key_size` and its value at `i * value_size`.
    Hash {
        /// Concatenated keys.
        keys: Vec<u8>,
        /// Concatenated values.
        values: Vec<u8>,
    },
    /// Entry i has its key at `i * key_size` and a value for each CPU in `cpus`.
    PerCpuHash {
        /// CPU numbers, ascending.
        cpus: Vec<Cpu>,
        /// Concatenated keys.
        keys: Vec<u8>,
        /// Concatenated values, entry-major.
        values: Vec<u8>,
    },
    /// Not read, and why: a map type without a reader, or a failed read.
    Unread {
        /// The reason.
        why: String,
    },
}

/// A CPU's runqueue. Source: `struct rq`, `struct scx_rq` in `kernel/sched/sched.h`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct CpuStateV1 {
    /// CPU number.
    pub cpu: Cpu,
    /// Runnable tasks of all classes.
    pub nr_running: Option<u64>,
    /// Pid of the running task.
    pub curr_pid: Option<i64>,
    /// Its command name.
    pub curr_comm: Option<String>,
    /// The runqueue's clock, in ns.
    pub clock_ns: Option<u64>,
    /// Runnable tasks of the ext class.
    pub scx_nr_running: Option<u64>,
    /// Tasks in the CPU's local dispatch queue.
    pub local_dsq_nr: Option<u64>,
    /// `scx_rq.flags`.
    pub scx_flags: Option<u64>,
}

/// A vCPU's registers.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct VcpuRegsV1 {
    /// CPU number.
    pub cpu: Cpu,
    /// rax rbx rcx rdx rsi rdi rbp rsp r8 ... r15, in this order (gdb's).
    pub gpr: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// Selectors: cs ss ds es fs gs, in this order (gdb's).
    pub segments: [u32; 6],
    /// Base of fs.
    pub fs_base: u64,
    /// Base of gs.
    pub gs_base: u64,
    /// The other gs base, swapped in by `swapgs`.
    pub kernel_gs_base: u64,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
}

archived_body!(SampleV1, Sample, 1);

impl ScxStateV1 {
    /// A scheduler is enabled. In bypass it is too, and the kernel schedules.
    pub fn is_enabled(&self) -> bool {
        self.state == "enabled"
    }
}

impl SampleV1 {
    /// A capture of which nothing has been read yet.
    #[must_use]
    pub fn new(
        index: u32,
        tag: impl Into<String>,
        kind: CaptureKindV1,
        guest_ns: GuestNs,
        host_ns: HostNs,
    ) -> Self {
        Self {
            index,
            tag: tag.into(),
            kind,
            guest_ns,
            host_ns,
            phase: None,
            missed: None,
            scx: None,
            maps: Vec::new(),
            cpus: Vec::new(),
            vcpus: Vec::new(),
            faults: Vec::new(),
            checkpoint: None,
            pause_us: 0,
            machine_us: 0,
        }
    }
}

/// The current sample.
pub type Sample = SampleV1;
/// The current capture kind.
pub type CaptureKind = CaptureKindV1;
/// The current sched_ext state.
pub type ScxState = ScxStateV1;
/// The current map state.
pub type MapState = MapStateV1;
/// The current map contents.
pub type MapContents = MapContentsV1;
/// The current CPU state.
pub type CpuState = CpuStateV1;
/// The current vCPU registers.
pub type VcpuRegs = VcpuRegsV1;
