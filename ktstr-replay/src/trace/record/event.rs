//! Timed events: what happened, in the guest's time and in the host's.

#![expect(missing_docs, reason = "rkyv's derive makes undocumented resolvers for enums with named fields")]

use rkyv::{Archive, Deserialize, Serialize};

use super::history::HistoryV1;
use super::payload::PayloadRunV1;
use super::probe::ProbeEventV1;
use super::scheduler_maps::SchedulerMapsV1;
use super::wait::LongWaitV1;
use super::watch::WatchEventV1;
use crate::trace::body::archived_body;
use crate::units::{Cpu, GuestNs, HostNs};

/// The body of an events record: events in the order in which they reached the recorder.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct EventChunkV1 {
    /// The events.
    pub events: Vec<EventV1>,
}

/// One event.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct EventV1 {
    /// Guest `CLOCK_MONOTONIC`, in ns. Estimated from the last clock record for events that the host made.
    pub guest_ns: GuestNs,
    /// Host `CLOCK_MONOTONIC` since the recording began, in ns, when the event reached the recorder.
    pub host_ns: HostNs,
    /// What happened.
    pub body: EventBodyV1,
}

/// What happened.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum EventBodyV1 {
    /// Bytes of the serial console.
    Console(Vec<u8>),
    /// A line of the guest's kernel log (`/dev/kmsg`).
    Kmsg {
        /// syslog level, 0 to 7.
        level: u8,
        /// Sequence number in the kernel's log.
        sequence: u64,
        /// Time that the kernel put on the line, in ns since boot.
        kernel_ns: u64,
        /// The line, without its newline.
        text: String,
    },
    /// Bytes that a program of the guest wrote.
    Output {
        /// Who wrote them.
        source: OutputSourceV1,
        /// On standard error rather than standard output.
        stderr: bool,
        /// What was written; chunks may cut lines anywhere.
        bytes: Vec<u8>,
    },
    /// The run reached a stage of its life.
    Stage {
        /// Which.
        stage: StageV1,
        /// For people: scheduler name, exit status and the like. May be empty.
        detail: String,
    },
    /// A phase of the scenario began.
    PhaseBegin {
        /// Position of the phase, from 0.
        index: u32,
        /// Its name.
        name: String,
    },
    /// A phase of the scenario ended.
    PhaseEnd {
        /// Position of the phase, from 0.
        index: u32,
    },
    /// The scenario did something to the guest (made a cgroup, moved tasks), or, as [`EventBodyV1::MENDED`], the machine.
    Op {
        /// The operation's name.
        name: String,
        /// What it was done to.
        detail: String,
    },
    /// A worker ended and says what it did.
    Worker(WorkerReportV1),
    /// The test's body returned.
    Body {
        /// `None`: the body returned `Ok`; else the error's text.
        error: Option<String>,
        /// Lines of failed guest-side assertions, empty when all held.
        failures: Vec<String>,
    },
    /// The machine ended. Always the last event of a complete recording.
    End {
        /// How.
        end: GuestEndV1,
        /// For people.
        detail: String,
    },
    /// What else a worker measured; comes right after its [`Worker`](EventBodyV1::Worker). In a box, so that events stay of the
    /// size that they had before there was this.
    WorkerDetail(Box<WorkerDetailV1>),
    /// What the scheduler's statistics server answered after a capture, or why it did not. In a box likewise.
    Stats(Box<StatsAnswerV1>),
    /// A payload ended, or could not be started. In a box for the same reason.
    Payload(Box<PayloadRunV1>),
    /// Something happened to a watch: it was asked for, armed, it fired. In a box likewise.
    Watch(Box<WatchEventV1>),
    /// A task had waited for a part of the time that it may. In a box likewise.
    LongWait(Box<LongWaitV1>),
    /// What a CPU of the guest did, as its kernel noted it. The time of the event is that at which it was read. In a box likewise.
    History(Box<HistoryV1>),
    /// Something happened to a probe: it was asked for, armed, a function was called. In a box likewise.
    Probe(Box<ProbeEventV1>),
    /// Whose BPF maps are, told once of each scheduler of a guest that has several. In a box likewise.
    SchedulerMaps(Box<SchedulerMapsV1>),
}

impl EventBodyV1 {
    /// Name of the [`Op`](EventBodyV1::Op) that tells whether the machine was saved as a template with its scheduler enabled.
    pub const TEMPLATE: &str = "template";
    /// Name of the [`Op`](EventBodyV1::Op) that tells of a fault of the machine which it has mended itself.
    pub const MENDED: &str = "the emulator's fault, mended";
    /// What the detail of such an operation says of a breakpoint that is in the kernel's memory, and not of the kernel's own
    /// making: it was executed again, and the kernel died of it, not of the emulator.
    pub const UNKNOWN_BREAKPOINT: &str = "the kernel did not know of";
}

/// Who wrote output in the guest.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputSourceV1 {
    /// The scheduler under test.
    Scheduler,
    /// The test binary.
    Test,
    /// guest-init itself.
    Init,
}

/// Stages of a run's life, in the order in which they come.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StageV1 {
    /// The emulator was started to boot the kernel.
    Booting,
    /// The machine was restored from a template.
    Restored,
    /// guest-init runs and waits for its job.
    Ready,
    /// The job has arrived and is unpacked.
    JobUnpacked,
    /// The scheduler's process was started.
    SchedulerStarted,
    /// sched_ext's state became `enabled`.
    SchedulerEnabled,
    /// The scheduler's process ended; the detail says how.
    SchedulerExited,
    /// The test's body began.
    BodyStarted,
    /// The test's body ended.
    BodyEnded,
    /// The test binary's process ended; the detail says how.
    TestExited,
    /// guest-init is about to power the machine off.
    PoweringOff,
    /// A start was tried again after a fault of the emulator; the detail says which.
    StartRetried,
    /// guest-init could not do its job; the detail says what.
    InitFailed,
    /// The scheduler left for a restart and is enabled again; the detail says why. Reserved: this release reports none.
    SchedulerRestarted,
}

impl StageV1 {
    /// In words: `guest-init is ready`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Booting => "the emulator started",
            Self::Restored => "restored from a template",
            Self::Ready => "guest-init is ready",
            Self::JobUnpacked => "the job is unpacked",
            Self::SchedulerStarted => "the scheduler started",
            Self::SchedulerEnabled => "the scheduler is enabled",
            Self::SchedulerExited => "the scheduler exited",
            Self::BodyStarted => "the body began",
            Self::BodyEnded => "the body ended",
            Self::TestExited => "the test binary exited",
            Self::PoweringOff => "powering off",
            Self::StartRetried => "the start was tried again",
            Self::InitFailed => "guest-init failed",
            Self::SchedulerRestarted => "the scheduler restarted",
        }
    }
}

/// How a machine ended.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuestEndV1 {
    /// The guest powered itself off.
    PoweredOff,
    /// The guest's kernel panicked.
    Panicked,
    /// The guest reset itself without a panic on the console.
    Reset,
    /// The guest did not get on within its time, and was ended.
    TimedOut,
    /// The machine's own process died.
    MachineDied,
    /// The run was ended from outside (Ctrl-C).
    Interrupted,
    /// The run was ended because a claim had failed (`fail_fast`).
    FailedFast,
}

/// What one worker did. Times are in ns and of the guest.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct WorkerReportV1 {
    /// Worker's number in its group, from 0.
    pub index: u32,
    /// Process id in the guest.
    pub pid: u32,
    /// The cgroup it ran in, by name.
    pub cgroup: String,
    /// Name of the work type.
    pub work: String,
    /// Units of work done (the work type says what a unit is).
    pub work_units: u64,
    /// Turns of the outer loop.
    pub iterations: u64,
    /// CPU time used.
    pub cpu_ns: u64,
    /// Wall time from the common start to the stop.
    pub wall_ns: u64,
    /// Longest stretch of wall time between two turns of the loop.
    pub max_gap_ns: u64,
    /// When, since the common start, that stretch ended.
    pub max_gap_at_ns: u64,
    /// Time spent runnable but not running (schedstat's run delay).
    pub run_delay_ns: u64,
    /// Times the worker was seen on another CPU than before.
    pub migrations: u64,
    /// CPUs it was seen on, ascending.
    pub cpus_used: Vec<Cpu>,
    /// `None`: it ended when told to. Else how it died or that it had to be killed; its numbers are then partial.
    pub fault: Option<String>,
}

/// What else one worker measured. Times are in ns and of the guest.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct WorkerDetailV1 {
    /// Process id in the guest (thread id, of a thread): that of the report before.
    pub pid: u32,
    /// Scheduling policy that it ran with, as `SchedPolicy` prints it: `Fifo(10)`.
    pub policy: String,
    /// A thread of a process with others, not a process of its own.
    pub is_thread: bool,
    /// Longest stretch between two of its own looks at the clocks in which it was on no CPU.
    pub max_off_cpu_ns: u64,
    /// Page faults without I/O, from the common start to the end. Source: `getrusage(RUSAGE_THREAD)`.
    pub minor_faults: u64,
    /// Page faults with I/O.
    pub major_faults: u64,
    /// Times that it gave up its CPU to wait.
    pub voluntary_switches: u64,
    /// Times that its CPU was taken from it.
    pub involuntary_switches: u64,
    /// From the waker's store or write until the woken worker ran. Empty for work that nobody wakes.
    pub wakes: LatenciesV1,
    /// From the time that a timer was set to until the worker ran. Empty for work without timers.
    pub timers: LatenciesV1,
    /// Pages of its work's memory, by NUMA node; empty for work without memory of its own.
    pub node_pages: Vec<NodePagesV1>,
    /// Of its migrations, those to a CPU of another NUMA node. `None`: it was not counted.
    pub cross_node_migrations: Option<u64>,
}

/// Pages on one NUMA node.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodePagesV1 {
    /// The node.
    pub node: u32,
    /// How many.
    pub pages: u64,
}

/// Latencies: how many there were, and a fair sample of them (a reservoir, so that none is likelier kept than another).
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct LatenciesV1 {
    /// How many were measured.
    pub total: u64,
    /// Their sum.
    pub sum_ns: u64,
    /// The longest, whether it is in the sample or not.
    pub max_ns: u64,
    /// The sample, at most 512, in no order.
    pub samples_ns: Vec<u64>,
}

/// What a scheduler's statistics server answered after a capture. The time of the event is that of the answer.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct StatsAnswerV1 {
    /// The capture, by the number of its sample.
    pub sample: u32,
    /// What was asked for: `top`.
    pub target: String,
    /// When it was asked for, guest `CLOCK_MONOTONIC`, in ns; 0 where it was not.
    pub asked_ns: GuestNs,
    /// The answer as it came: one line of JSON, without its newline. Source: crate scx_stats, `server.rs`. Empty where there is
    /// none.
    pub line: Vec<u8>,
    /// Why there is none.
    pub fault: Option<String>,
}

archived_body!(EventChunkV1, Events, 1);

/// The current chunk of events.
pub type EventChunk = EventChunkV1;
/// The current event.
pub type Event = EventV1;
/// The current event body.
pub type EventBody = EventBodyV1;
/// The current output source.
pub type OutputSource = OutputSourceV1;
/// The current stage.
pub type Stage = StageV1;
/// The current guest end.
pub type GuestEnd = GuestEndV1;
/// The current worker report.
pub type WorkerReport = WorkerReportV1;
/// The current detail of a worker.
pub type WorkerDetail = WorkerDetailV1;
/// The current latencies.
pub type Latencies = LatenciesV1;
/// The current pages of a node.
pub type NodePages = NodePagesV1;
/// The current answer of a statistics server.
pub type StatsAnswer = StatsAnswerV1;
