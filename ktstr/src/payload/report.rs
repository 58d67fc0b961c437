//! What a body is given of a payload's run.

use ktstr_replay::trace::record::{PayloadEnd, PayloadRun};

/// What a run of a payload came to. The trace has it, too, and the host judges it by that: a body need not look at it.
///
/// ```
/// use ktstr::prelude::*;
///
/// fn is_fast(report: &PayloadReport) -> bool {
///     report.exit_code() == Some(0) && report.metric("jobs.0.read.iops").is_some_and(|iops| iops > 100.0)
/// }
///
/// fn has_complained(report: &PayloadReport) -> bool {
///     report.stderr().contains("warning") || report.stdout().is_empty()
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PayloadReport {
    pub(crate) run: PayloadRun,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl PayloadReport {
    /// How it came to its end.
    #[must_use]
    pub fn end(&self) -> PayloadEnd {
        self.run.end
    }

    /// Its exit code; `None`: it did not exit.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        self.run.exit_code
    }

    /// A number of its output, by path; `None`: there is none.
    #[must_use]
    pub fn metric(&self, path: &str) -> Option<f64> {
        self.run.metrics.iter().find(|metric| metric.path == path).map(|metric| metric.value)
    }

    /// What it wrote to standard output, at most the first 4 MiB.
    #[must_use]
    pub fn stdout(&self) -> &str {
        &self.stdout
    }

    /// What it wrote to standard error, at most the first 4 MiB.
    #[must_use]
    pub fn stderr(&self) -> &str {
        &self.stderr
    }

    /// All that the trace has of it.
    #[must_use]
    pub fn recorded(&self) -> &PayloadRun {
        &self.run
    }
}
