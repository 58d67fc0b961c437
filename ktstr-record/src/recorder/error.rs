//! Why there is no recording.

use std::io;
use std::path::PathBuf;

use ktstr_replay::trace::WriteError;

use crate::job::JobError;
use crate::machine::StartError;

/// Why a run could not be recorded. What goes wrong in the guest is not an error: it is in the trace.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The machine could not be started for a reason that lies with the host.
    #[error("could not start the machine")]
    Start(#[from] StartError),
    /// What the guest is to run is not there.
    #[error("could not put together what the guest is to run")]
    Job(#[from] JobError),
    /// The trace could not be begun.
    #[error("could not begin the trace {}", .path.display())]
    Trace {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: WriteError,
    },
    /// A thread or a signal handler could not be had.
    #[error("could not {what}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The process was told to end before the run began.
    #[error("interrupted before the run began")]
    Interrupted,
}
