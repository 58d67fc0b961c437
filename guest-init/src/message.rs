//! The messages that frames carry, as rkyv archives.

#![expect(missing_docs, reason = "rkyv's derive makes undocumented resolvers for enums with named fields")]

use rkyv::{Archive, Deserialize, Serialize};

/// From the host to init, in this order: the clock; the scheduler, its files and the order to start it; the clock once
/// more, where the machine was or may be saved meanwhile; the test binary, its files and the order to start it.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum ToGuest {
    /// A piece of a file, to be appended at `path` (its folders are made, the first piece truncates).
    File {
        /// Absolute path in the guest.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Begin the file anew.
        first: bool,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The host wants to write the begin of a file into guest memory by itself. init answers with
    /// [`ToHost::Pages`].
    Place {
        /// Absolute path in the guest.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Size of the file.
        bytes: u64,
    },
    /// It has: the file has its begin, as far as the pages go. What is missing follows as pieces.
    Placed,
    /// A symbolic link.
    Link {
        /// Absolute path in the guest.
        path: String,
        /// What it points to.
        target: String,
    },
    /// Set the wall clock, and add to the kernel's randomness. The first message.
    Clock {
        /// Ns since the epoch.
        wall_clock_ns: u64,
        /// Bytes for the kernel's entropy pool.
        seed: Vec<u8>,
    },
    /// The scheduler that is to be run. A job without one has no such message.
    Scheduler(SchedulerJob),
    /// The test that is to be run.
    Test(TestJob),
    /// All files of this program are there: start it. The scheduler's order, if there is one, comes before that
    /// of the test binary, so that the scheduler is being enabled while the rest still arrives.
    Start(Source),
    /// Stop the run: end the test binary and the scheduler, then power off.
    Stop,
    /// A capture was taken: the scheduler is to be asked for its statistics, if it serves any. init answers with
    /// [`ToHost::Stats`] then, and with nothing else.
    Captured {
        /// The number of its sample.
        sample: u32,
    },
    /// What came of a [`FromTest::Memory`].
    Memory(MemoryAnswer),
    /// Input of a person for the shell that takes the place of the test's body. init passes it on to the test binary.
    Shell(ShellInput),
}

/// Input for a shell.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum ShellInput {
    /// Bytes that were typed or piped.
    Bytes(Vec<u8>),
    /// There will be no more.
    End,
    /// The terminal has this size.
    Size {
        /// Lines.
        rows: u16,
        /// Columns.
        columns: u16,
    },
}

impl ShellInput {
    /// As init sends it to the test binary: one packet.
    pub fn to_packet(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => [&[2], &bytes[..]].concat(),
            Self::End => vec![3],
            Self::Size { rows, columns } => [&[4], &rows.to_le_bytes()[..], &columns.to_le_bytes()].concat(),
        }
    }

    /// What a packet is; `None` for another one.
    pub fn of_packet(packet: &[u8]) -> Option<Self> {
        match packet {
            [2, bytes @ ..] => Some(Self::Bytes(bytes.to_vec())),
            [3] => Some(Self::End),
            [4, a, b, c, d] => {
                Some(Self::Size { rows: u16::from_le_bytes([*a, *b]), columns: u16::from_le_bytes([*c, *d]) })
            }
            _ => None,
        }
    }
}

/// A scheduler to run. Nothing in it depends on the test: a machine may be saved when the scheduler is enabled, and
/// serve other tests.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
pub struct SchedulerJob {
    /// Its program; one without a path: it is part of the kernel, and its lines are all that is done.
    pub program: Program,
    /// What is written to files before it is started.
    pub enable: Vec<EchoLine>,
    /// What is written to files when it has ended, however it did.
    pub disable: Vec<EchoLine>,
    /// Kernel parameters that are set before it is started.
    pub sysctls: Vec<Sysctl>,
    /// How long it may take to become `enabled`, in ms.
    pub enable_timeout_ms: u64,
    /// How long it may take to exit after SIGINT at the end, in ms, before it is killed.
    pub exit_timeout_ms: u64,
}

/// A test to run.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
pub struct TestJob {
    /// The test binary, in guest mode.
    pub program: Program,
    /// Kernel parameters that are set before it is started.
    pub sysctls: Vec<Sysctl>,
    /// The test binary waits for a packet of one byte on its socket before it runs the body: so it can be started
    /// while the scheduler is being enabled.
    pub waits: bool,
    /// How long a scheduler that is not enabled any more may take to be enabled again, in ms.
    pub restart_timeout_ms: u64,
    /// How long the test binary may run, in ms, before init ends it.
    pub timeout_ms: u64,
    /// Schedulers that the test may attach in the place of the first, by name.
    pub staged: Vec<StagedScheduler>,
    /// The kernel is not to note what its CPUs do.
    pub without_history: bool,
}

impl SchedulerJob {
    /// Whether it is part of the kernel.
    pub fn is_built_in(&self) -> bool {
        self.program.path.is_empty()
    }
}

/// A line `echo VALUE > /path`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct EchoLine {
    /// As its author wrote it.
    pub line: String,
    /// Where it writes to, an absolute path in the guest.
    pub path: String,
    /// What it writes, with the newline at the end.
    pub text: String,
}

/// A kernel parameter with its value.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
pub struct Sysctl {
    /// Its name: `kernel.pid_max`.
    pub name: String,
    /// What is written to its file.
    pub value: String,
}

impl Sysctl {
    /// The file of the parameter of this name.
    pub fn path(name: &str) -> String {
        format!("/proc/sys/{}", name.replace('.', "/"))
    }
}

/// A scheduler that is there and does not run.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
pub struct StagedScheduler {
    /// What the test calls it.
    pub name: String,
    /// Its program.
    pub program: Program,
}

/// What a test does with its scheduler.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum SchedulerOrder {
    /// End it as its user would, and wait until the kernel's own schedules.
    Detach,
    /// Start one where there is none, and wait until it is enabled.
    Attach {
        /// A staged one; `None`: the scheduler under test.
        name: Option<String>,
    },
}

/// A program with its arguments and environment.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
pub struct Program {
    /// Absolute path in the guest.
    pub path: String,
    /// Arguments, without the program's own name.
    pub args: Vec<String>,
    /// Environment, `KEY=VALUE`.
    pub env: Vec<String>,
}

/// From init to the host. Every frame also carries the guest's `CLOCK_MONOTONIC`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum ToHost {
    /// init is up.
    Ready {
        /// `uname -r`.
        release: String,
    },
    /// A stage was reached.
    Stage {
        /// Which.
        stage: GuestStage,
        /// For people.
        detail: String,
    },
    /// Output of a program.
    Output {
        /// Whose.
        source: Source,
        /// On standard error.
        stderr: bool,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A line of `/dev/kmsg`.
    Kmsg {
        /// syslog level.
        level: u8,
        /// Sequence number in the kernel's log.
        sequence: u64,
        /// The kernel's time of it, ns.
        kernel_ns: u64,
        /// The text.
        text: String,
    },
    /// Something the test binary says: an archive of [`FromTest`], passed on unread.
    Test(Vec<u8>),
    /// Take a capture. The machine is stopped by the doorbell that follows; init does not go on before
    /// `capture_ack` is `id`.
    Capture {
        /// Ascending from 1.
        id: u64,
        /// Name of the capture.
        tag: String,
        /// Why.
        reason: CaptureReason,
    },
    /// Where the pages of the file are that the host wants to place. They begin with stamps.
    Pages {
        /// The page of index `i` begins with this value XOR `i`.
        stamp: u64,
        /// Numbers of the page frames, in the file's order; none: the file is to be sent in pieces.
        frames: Vec<u64>,
    },
    /// init had to drop frames because the ring was full.
    Dropped {
        /// How many.
        frames: u64,
        /// How many bytes they had.
        bytes: u64,
    },
    /// What the scheduler's statistics server answered after a capture, or why it did not.
    Stats {
        /// The number of the capture's sample.
        sample: u32,
        /// What was asked for.
        target: String,
        /// When it was asked, by the guest's `CLOCK_MONOTONIC`, ns; 0 where it was not.
        asked_ns: u64,
        /// The answer: one line, without its newline. Empty where there is none.
        line: Vec<u8>,
        /// Why there is none.
        fault: Option<String>,
    },
}

/// Why init asks for a capture.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureReason {
    /// The scheduler is enabled (or there is none) and the body is about to begin.
    Attach,
    /// The test's body asked.
    OnDemand,
    /// The test binary has ended, the scheduler still runs.
    End,
    /// The scheduler exited or was ejected.
    SchedulerExit,
    /// The scheduler has not become enabled in its time, and is about to be ended.
    NotEnabled,
    /// No capture is wanted: the host looks for what the test wants watched, which it was told before. `capture_ack` is the
    /// complement of the id where that cannot be had.
    Watch,
    /// The same for a function whose calls are to be recorded.
    Probe,
}

/// Stages that init reports.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestStage {
    /// All files of the job are unpacked.
    JobUnpacked,
    /// The scheduler's process runs.
    SchedulerStarted,
    /// sched_ext is `enabled`; the detail is the ops name.
    SchedulerEnabled,
    /// The scheduler is enabled again, or enabled anew; the detail is the ops name.
    SchedulerRestarted,
    /// The scheduler's process ended; the detail says how.
    SchedulerExited,
    /// The test binary's process ended; the detail says how.
    TestExited,
    /// Power-off follows.
    PoweringOff,
    /// init could not do its job; the detail says what was tried and what was found.
    Failed,
}

/// Who wrote output.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The scheduler.
    Scheduler,
    /// The test binary.
    Test,
    /// init.
    Init,
}

/// From the test binary (in guest mode) to init, over the socket that it inherits as [`TEST_SOCKET_FD`]:
/// one archive a packet (`SOCK_SEQPACKET`).
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum FromTest {
    /// The body begins: the cadence of periodic captures starts here.
    BodyStarted,
    /// The body returned.
    BodyEnded {
        /// The error's text, if it was one.
        error: Option<String>,
        /// Failed guest-side assertions.
        failures: Vec<String>,
    },
    /// A phase begins.
    PhaseBegin {
        /// From 0.
        index: u32,
        /// Its name.
        name: String,
    },
    /// A phase ends.
    PhaseEnd {
        /// From 0.
        index: u32,
    },
    /// An operation on the guest.
    Op {
        /// What.
        name: String,
        /// On what.
        detail: String,
    },
    /// A worker's report.
    Worker(Box<WorkerReport>),
    /// Take a capture; init answers with a packet of one byte, 1 when it was taken and 0 when not.
    Capture {
        /// Name of the capture.
        tag: String,
    },
    /// Do something with the scheduler. init answers with a packet when it is done: 1 and the process id of the scheduler (4 bytes,
    /// little-endian, 0 where there is none), or 0 and why it could not be done.
    Scheduler(SchedulerOrder),
    /// A payload ended, or could not be started: an archive of `PayloadRunV1` of `ktstr-replay`, passed on unread.
    Payload(Vec<u8>),
    /// Watch something for stores. init passes it on, has the host look at it at once, and answers with a packet of one byte: 1 when
    /// it is watched or will be, 2 when it cannot be, 0 when the host did not answer.
    Watch(WatchOrder),
    /// Read a number in the kernel's memory, or change it: the host does so. init passes the host's answer on as a packet: 1 and the
    /// number as it was (16 bytes, little-endian), or 0 and why it could not be done.
    Memory(MemoryOrder),
    /// Record the calls of a function. init passes it on and answers as to a [`FromTest::Watch`].
    Probe(ProbeOrder),
}

/// Which function's calls are to be recorded.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ProbeOrder {
    /// The function and what is read at its calls, as `ProbeTarget` of `ktstr-replay` reads it: `enqueue_task_scx(p->pid)`.
    pub target: String,
    /// After how many recorded calls it is taken away.
    pub max_hits: u32,
}

impl ProbeOrder {
    /// After how many calls a probe is taken away if nobody says.
    pub const MAX_HITS: u32 = 1 << 14;

    /// Every call of `target`, up to [`ProbeOrder::MAX_HITS`] of them.
    pub fn of(target: impl Into<String>) -> Self {
        Self { target: target.into(), max_hits: Self::MAX_HITS }
    }
}

/// The target of a [`MemoryOrder`] that is sched_ext's stall watchdog: how long a task may wait for a CPU until the kernel ejects the
/// scheduler, in ms.
pub const WATCHDOG_TIMEOUT_MS: &str = "scx.watchdog_timeout_ms";

/// What the host does with a number in the kernel's memory.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct MemoryOrder {
    /// Which, as `WatchTarget` of `ktstr-replay` reads it, or [`WATCHDOG_TIMEOUT_MS`].
    pub target: String,
    /// What it becomes; `None`: it is only read.
    pub write: Option<i128>,
}

/// What came of a [`MemoryOrder`].
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum MemoryAnswer {
    /// The number as it was.
    Value(i128),
    /// Why it could not be done.
    Refused(String),
}

/// What is to be watched for stores.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct WatchOrder {
    /// A number in memory, as `WatchTarget` of `ktstr-replay` reads it: `scx_root->exit_kind`, `bss.x`.
    pub target: String,
    /// Which stores count, as `WatchCondition` of `ktstr-replay` reads it; `None`: all.
    pub when: Option<String>,
    /// After how many of them it is taken away.
    pub max_fires: u32,
    /// Least time between two that count, guest time in ns.
    pub min_interval_ns: u64,
}

impl WatchOrder {
    /// After how many fires a watch is taken away if nobody says.
    pub const MAX_FIRES: u32 = 64;

    /// Every store to `target`, up to [`WatchOrder::MAX_FIRES`] of them.
    pub fn of(target: impl Into<String>) -> Self {
        Self { target: target.into(), when: None, max_fires: Self::MAX_FIRES, min_interval_ns: 0 }
    }
}

/// What a worker did; see `WorkerReportV1` of `ktstr-replay` for the fields.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct WorkerReport {
    pub index: u32,
    pub pid: u32,
    pub cgroup: String,
    pub work: String,
    pub work_units: u64,
    pub iterations: u64,
    pub cpu_ns: u64,
    pub wall_ns: u64,
    pub max_gap_ns: u64,
    pub max_gap_at_ns: u64,
    pub run_delay_ns: u64,
    pub migrations: u64,
    pub cpus_used: Vec<u32>,
    pub fault: Option<String>,
    pub detail: WorkerDetail,
}

/// What else a worker measured; see `WorkerDetailV1` of `ktstr-replay` for the fields.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct WorkerDetail {
    pub policy: String,
    pub is_thread: bool,
    pub max_off_cpu_ns: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    pub wakes: Latencies,
    pub timers: Latencies,
    pub node_pages: Vec<(u32, u64)>,
    pub cross_node_migrations: Option<u64>,
}

/// Measured latencies; see `LatenciesV1` of `ktstr-replay` for the fields.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Latencies {
    pub total: u64,
    pub sum_ns: u64,
    pub max_ns: u64,
    pub samples_ns: Vec<u64>,
}

/// Environment variable of the test binary with the process id of the scheduler, where there is one.
pub const SCHEDULER_PID: &str = "KTSTR_SCHEDULER_PID";

/// Environment variable of the test binary with the seed of this run: one that is made to see a failure again has another than its test.
pub const SEED: &str = "KTSTR_SEED";

/// Environment variable of the test binary with [`TestJob::restart_timeout_ms`], where there is a scheduler.
pub const RESTART_MS: &str = "KTSTR_RESTART_MS";

/// The file descriptor of the test binary's socket to init.
pub const TEST_SOCKET_FD: i32 = 3;

/// Environment variable of a test binary that is to run a shell in the place of the body: [`SHELL_PIPE`] or [`SHELL_TERMINAL`].
pub const SHELL: &str = "KTSTR_SHELL";
/// Its input is a pipe or a file.
pub const SHELL_PIPE: &str = "pipe";
/// Its input is a terminal.
pub const SHELL_TERMINAL: &str = "terminal";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_of_a_shell_crosses_whole() {
        let size = ShellInput::Size { rows: 300, columns: 80 };
        for input in
            [ShellInput::Bytes(b"ls\n".to_vec()), ShellInput::Bytes(Vec::new()), ShellInput::End, size]
        {
            assert_eq!(ShellInput::of_packet(&input.to_packet()), Some(input));
        }
        assert_eq!(ShellInput::of_packet(&[]), None);
        assert_eq!(ShellInput::of_packet(&[1]), None);
    }
}
