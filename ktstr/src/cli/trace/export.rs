//! `ktstr trace export`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use ktstr_replay::export::{events_csv, json_lines, series_csv};
use ktstr_replay::run::Run;
use ktstr_replay::trace::Trace;

use super::vmcore;
use crate::cli::out::{self, Form};

/// Which trace, in which form.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("form").required(true))]
pub(super) struct ExportArgs {
    /// The trace.
    trace: PathBuf,
    /// JSON lines on stdout: each event and each capture with the scheduler's variables, in order of time.
    #[arg(long, group = "form")]
    json: bool,
    /// CSV on stdout: the captures with a column for each variable, or the events.
    #[arg(long, group = "form", value_name = "WHAT", num_args = 0..=1, default_missing_value = "series")]
    csv: Option<Table>,
    /// The memory of one checkpoint as an ELF core, as drgn and crash open it; the file must not exist.
    #[arg(long, group = "form", value_name = "OUT")]
    vmcore: Option<PathBuf>,
    /// For --vmcore, which checkpoint: a capture's tag, or the last one at or before a time (2.5s, -300ms); default:
    /// that of the scheduler's exit, or the last.
    #[arg(long, value_name = "T|TAG", allow_hyphen_values = true, requires = "vmcore")]
    at: Option<String>,
}

/// What a table is of.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Table {
    /// The captures.
    Series,
    /// The events.
    Events,
}

/// Write it.
pub(super) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let trace =
        Trace::open(&args.trace).with_context(|| format!("could not export {}", args.trace.display()))?;
    let run = Run::load(&trace);
    if let Some(to) = &args.vmcore {
        return vmcore::write(&run, args.at.as_deref(), to);
    }
    let mut out = out::stream(if args.csv.is_some() { Form::Text } else { Form::Json });
    let written = match args.csv {
        None => json_lines(&run, &mut out),
        Some(Table::Series) => series_csv(&run, &mut out).map_err(io::Error::other),
        Some(Table::Events) => events_csv(&run, &mut out).map_err(io::Error::other),
    };
    match written.and_then(|()| out.flush()) {
        // A reader that has seen enough is no error.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        other => other.context("could not write to stdout"),
    }
}

/// Whether the reader has gone, which the writer of CSV wraps in an error of its own.
fn is_broken_pipe(error: &io::Error) -> bool {
    let inner =
        error.get_ref().and_then(|inner| std::error::Error::source(inner)?.downcast_ref::<io::Error>());
    error.kind() == io::ErrorKind::BrokenPipe || inner.is_some_and(is_broken_pipe)
}
