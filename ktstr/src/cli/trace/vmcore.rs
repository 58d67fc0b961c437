//! `ktstr trace export --vmcore`: guest memory for drgn and crash.

use std::path::{Path, PathBuf};

use clap::Args;
use ktstr_replay::export::vmcore::{VmcoreWritten, write_vmcore};
use ktstr_replay::judge::Run;
use ktstr_replay::trace::Trace;
use ktstr_replay::view::Stops;
use serde::Serialize;

/// What to write, and of when.
#[derive(Args, Clone, Debug)]
pub(super) struct VmcoreArgs {
    /// Write the guest's memory as an ELF core that drgn and crash open; the file must not exist.
    #[arg(long, value_name = "OUT")]
    vmcore: PathBuf,
    /// Of which checkpoint: a capture's tag, or the last one at or before a time (2.5s, -300ms); default: that of the
    /// scheduler's exit, or the last.
    #[arg(long, value_name = "T|TAG", allow_hyphen_values = true)]
    at: Option<String>,
}

/// What was written.
#[derive(Serialize)]
pub(super) struct Exported {
    vmcore: PathBuf,
    checkpoint: String,
    kernel: String,
    #[serde(flatten)]
    written: VmcoreWritten,
}

impl Exported {
    /// Write it.
    pub(super) fn make(trace: &Path, args: &VmcoreArgs) -> anyhow::Result<Self> {
        let trace = Trace::open(trace)?;
        let run = Run::load(&trace);
        let stops = Stops::of(&run)?;
        let stop = stops.at(args.at.as_deref())?;
        let written = write_vmcore(&stop, &args.vmcore)?;
        let kernel = stop.kernel().profile().release().to_owned();
        Ok(Self { vmcore: args.vmcore.clone(), checkpoint: stop.title(), kernel, written })
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let VmcoreWritten { memory_bytes, stored_bytes, left_out_bytes, damaged_bytes, vcpus } = self.written;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let mut text = format!(
            "vmcore       {}\nof           {}, kernel {}\nmemory       {:.1} MiB, of which {:.1} MiB are not zero; {vcpus} vCPUs\n\
             not there    {:.1} MiB that the checkpoint left out\n",
            self.vmcore.display(),
            self.checkpoint,
            self.kernel,
            mib(memory_bytes),
            mib(stored_bytes),
            mib(left_out_bytes),
        );
        if damaged_bytes > 0 {
            text.push_str(&format!(
                "             {:.1} MiB that are damaged in the trace\n",
                mib(damaged_bytes)
            ));
        }
        text
    }
}
