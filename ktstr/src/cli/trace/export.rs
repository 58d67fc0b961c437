//! `ktstr trace export`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use ktstr_replay::export::vmcore::{VmcoreWritten, write_vmcore};
use ktstr_replay::export::{events_csv, json_lines, series_csv};
use ktstr_replay::run::{Checkpoints, Run};

use crate::cli::commands::CommandArgs;
use crate::cli::opened;
use crate::cli::out::{self, Form};

/// For other tools: events and variables as JSON lines or CSV on stdout, or a checkpoint's memory as an ELF core.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("form").required(true))]
pub(super) struct ExportArgs {
    /// The trace.
    #[arg(required_unless_present = "csv")]
    trace: Option<PathBuf>,
    /// JSON lines on stdout: each event and each capture with the scheduler's variables, in order of time.
    #[arg(long, group = "form")]
    json: bool,
    /// CSV on stdout: the captures with a column for each variable (series, the default), or the events.
    #[arg(long, group = "form", value_name = "series|events", num_args = 0..=1, default_missing_value = "series")]
    csv: Option<OsString>,
    /// The memory of one checkpoint as an ELF core, as drgn and crash open it; the file must not exist.
    #[arg(long, group = "form", value_name = "OUT")]
    vmcore: Option<PathBuf>,
    /// For --vmcore, which checkpoint: a capture's tag, or the last one at or before a time (2.5s, -300ms); default:
    /// that of the scheduler's exit, or the last.
    #[arg(long, value_name = "T|TAG", allow_hyphen_values = true, requires = "vmcore")]
    at: Option<String>,
    /// Of this machine of the run, in place of the first: 1 is the second machine.
    #[arg(long, value_name = "N", default_value_t = 0)]
    segment: u16,
}

/// What a table is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    /// The captures.
    Series,
    /// The events.
    Events,
}

impl CommandArgs for ExportArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let (path, table) = self.wanted()?;
        let what = || format!("could not export {}", path.display());
        let trace = opened::open(&path).with_context(what)?;
        let trace = opened::segment(trace, self.segment).with_context(what)?;
        let run = Run::load(&trace);
        if let Some(to) = &self.vmcore {
            write_core(&run, self.at.as_deref(), to)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut out = out::stream(if table.is_some() { Form::Text } else { Form::Json });
        let written = match table {
            None => json_lines(&run, &mut out),
            Some(Table::Series) => series_csv(&run, &mut out).map_err(io::Error::other),
            Some(Table::Events) => events_csv(&run, &mut out).map_err(io::Error::other),
        };
        match written.and_then(|()| out.flush()) {
            // A reader that closed the pipe is not an error.
            Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
            other => other.map(|()| ExitCode::SUCCESS).context("could not write to stdout"),
        }
    }
}

impl ExportArgs {
    /// The trace, and the table if one is asked for. In `--csv TRACE` the trace is what follows `--csv`.
    fn wanted(&self) -> anyhow::Result<(PathBuf, Option<Table>)> {
        let named = |word: &OsString| match word.to_str() {
            Some("series") => Some(Table::Series),
            Some("events") => Some(Table::Events),
            _ => None,
        };
        match (&self.trace, &self.csv) {
            (Some(trace), None) => Ok((trace.clone(), None)),
            (Some(trace), Some(word)) => match named(word) {
                Some(table) => Ok((trace.clone(), Some(table))),
                None => bail!("--csv is of series or of events, not of `{}`", word.display()),
            },
            (None, Some(word)) if named(word).is_none() => Ok((PathBuf::from(word), Some(Table::Series))),
            (None, _) => bail!("no trace is given"),
        }
    }
}

/// Whether the reader has gone, which the writer of CSV wraps in an error of its own.
fn is_broken_pipe(error: &io::Error) -> bool {
    let inner =
        error.get_ref().and_then(|inner| std::error::Error::source(inner)?.downcast_ref::<io::Error>());
    error.kind() == io::ErrorKind::BrokenPipe || inner.is_some_and(is_broken_pipe)
}

/// Write the memory of the checkpoint `at`, and say what was written.
fn write_core(run: &Run<'_>, at: Option<&str>, to: &Path) -> anyhow::Result<()> {
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
