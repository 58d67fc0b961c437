//! The kernel log, as `dmesg` prints it with callers.

use super::{OpenCheckpoint, Shown};
use crate::kernel::KernelError;
use crate::kernel::log::{LogRecord, read_log};
use crate::text::clean;

pub(super) fn show(checkpoint: &OpenCheckpoint<'_>) -> Result<Shown, KernelError> {
    let log = read_log(&checkpoint.kernel())?;
    let mut lines: Vec<_> = log.records.iter().flat_map(lines).collect();
    if let Some(failed) = log.failed.filter(|failed| *failed > 0) {
        lines.push(format!("{failed} records found no room"));
    }
    Ok(Shown::new(lines, &log.gaps, &log))
}

/// The lines of a record.
pub(crate) fn lines(record: &LogRecord) -> Vec<String> {
    let text = record.text.lines();
    let (seconds, micros) = (record.at_ns / 1_000_000_000, record.at_ns / 1000 % 1_000_000);
    let line =
        |line| clean(&format!("<{}>[{seconds:>5}.{micros:06}][{:>5}] {line}", record.level, record.caller));
    text.map(line).collect()
}
