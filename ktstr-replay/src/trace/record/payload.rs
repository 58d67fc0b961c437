//! What a payload did: a program of a test's own choosing, run in the guest.

#![expect(missing_docs, reason = "rkyv's derive makes undocumented resolvers for enums with fields")]

use rkyv::{Archive, Deserialize, Serialize};

/// One run of a payload. Times are in ns and of the guest.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct PayloadRunV1 {
    /// The payload's name.
    pub name: String,
    /// The program, by its path in the guest.
    pub program: String,
    /// The file of the package that it is from, which names its version; empty: it is none of a package.
    pub package: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// The cgroup that it was started in, by name; empty: that of the test.
    pub cgroup: String,
    /// Process id in the guest; 0: it was not started.
    pub pid: u32,
    /// Guest `CLOCK_MONOTONIC` when it was started.
    pub began_ns: u64,
    /// From its start to its end.
    pub wall_ns: u64,
    /// CPU time of it and of the processes of it that it has waited for.
    pub cpu_ns: u64,
    /// What it was allowed to take.
    pub timeout_ns: u64,
    /// How it came to its end.
    pub end: PayloadEndV1,
    /// Its exit code, where it exited.
    pub exit_code: Option<i32>,
    /// The signal that killed it, where one did.
    pub signal: Option<i32>,
    /// Why it was not started, or is not known to have ended.
    pub fault: Option<String>,
    /// What is made of its output.
    pub output: PayloadOutputV1,
    /// Bytes that it wrote to standard output.
    pub stdout_bytes: u64,
    /// Bytes that it wrote to standard error.
    pub stderr_bytes: u64,
    /// The end of what it wrote to standard output, at most 4 KiB.
    pub stdout_tail: String,
    /// The end of what it wrote to standard error, at most 4 KiB.
    pub stderr_tail: String,
    /// The numbers of its output, by path.
    pub metrics: Vec<MetricV1>,
    /// How many more numbers there were.
    pub metrics_left_out: u64,
    /// Why there are no numbers, where there should be some.
    pub metrics_fault: Option<String>,
    /// The metrics that its definition names. They must be there when it has ended by itself.
    pub declared: Vec<DeclaredMetricV1>,
    /// What it is judged by: the checks of its definition, then those of the test.
    pub checks: Vec<MetricCheckV1>,
}

/// How a run of a payload came to its end.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PayloadEndV1 {
    /// It could not be started.
    #[default]
    NotStarted,
    /// By itself.
    Ended,
    /// It took longer than it was allowed to, and was ended.
    TimedOut,
    /// The test ended it, or the step that it belonged to did.
    Stopped,
    /// It was started, and nothing is known of its end.
    Lost,
}

/// What is made of a payload's output.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PayloadOutputV1 {
    /// Nothing: only its exit code counts.
    #[default]
    ExitCode,
    /// The numbers of the JSON that it writes are metrics.
    Json,
}

/// A number that a payload wrote.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct MetricV1 {
    /// The names and positions that lead to it, with dots between: `jobs.0.read.iops`.
    pub path: String,
    /// It.
    pub value: f64,
}

/// A metric that a payload's definition names.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct DeclaredMetricV1 {
    /// Its path.
    pub path: String,
    /// Which of two values is the better one.
    pub polarity: PolarityV1,
    /// Its unit; may be empty.
    pub unit: String,
}

/// Which of two values of a metric is the better one.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PolarityV1 {
    /// Neither.
    #[default]
    Neutral,
    /// The higher.
    HigherBetter,
    /// The lower.
    LowerBetter,
}

/// What must hold of a payload's metric, or of its exit.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum MetricCheckV1 {
    /// The metric is at least this.
    Min {
        /// The metric.
        path: String,
        /// The limit.
        limit: f64,
    },
    /// The metric is at most this.
    Max {
        /// The metric.
        path: String,
        /// The limit.
        limit: f64,
    },
    /// The metric is from one to the other, both included.
    Range {
        /// The metric.
        path: String,
        /// The lower limit.
        low: f64,
        /// The upper limit.
        high: f64,
    },
    /// The metric is there, and is a number.
    Exists {
        /// The metric.
        path: String,
    },
    /// The exit code is this. Without such a check it must be 0.
    ExitCode {
        /// The code.
        code: i32,
    },
}

/// The current run of a payload.
pub type PayloadRun = PayloadRunV1;
/// The current end of a payload.
pub type PayloadEnd = PayloadEndV1;
/// The current output of a payload.
pub type PayloadOutput = PayloadOutputV1;
/// The current metric.
pub type Metric = MetricV1;
/// The current metric of a definition.
pub type DeclaredMetric = DeclaredMetricV1;
/// The current polarity.
pub type Polarity = PolarityV1;
/// The current check.
pub type MetricCheck = MetricCheckV1;
