//! `ktstr trace export --vmcore`: guest memory for drgn and crash.

use std::path::Path;

use ktstr_replay::export::vmcore::{VmcoreWritten, write_vmcore};
use ktstr_replay::run::Checkpoints;
use ktstr_replay::run::Run;

use crate::cli::out;

/// Write the memory of the checkpoint `at`, and say what was written.
pub(super) fn write(run: &Run<'_>, at: Option<&str>, to: &Path) -> anyhow::Result<()> {
    let checkpoints = Checkpoints::of(run)?;
    let checkpoint = checkpoints.at(at)?;
    let written = write_vmcore(&checkpoint, to)?;
    let VmcoreWritten { memory_bytes, stored_bytes, left_out_bytes, damaged_bytes, vcpus } = written;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut text = format!(
        "vmcore       {}\nof           {}, kernel {}\nmemory       {:.1} MiB, {:.1} MiB of it not zero; {vcpus} vCPUs\n\
         not there    {:.1} MiB that the checkpoint left out\n",
        to.display(),
        checkpoint.title(),
        checkpoint.kernel().profile().release(),
        mib(memory_bytes),
        mib(stored_bytes),
        mib(left_out_bytes),
    );
    if damaged_bytes > 0 {
        text.push_str(&format!("             {:.1} MiB that are damaged in the trace\n", mib(damaged_bytes)));
    }
    out::write(&text)
}
