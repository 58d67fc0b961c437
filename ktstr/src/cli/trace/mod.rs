//! `ktstr trace`: what a trace file is made of, whether it is whole, and making it so.

mod diff;
mod export;
mod fault;
mod info;
mod records;
mod repair;
mod slim;
#[cfg(test)]
mod tests;
mod verify;
mod vmcore;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ktstr_replay::trace::Trace;
use serde::Serialize;

use super::out;
use diff::DiffArgs;
use export::ExportArgs;
use info::Info;
use repair::RepairedTrace;
use slim::{SlimArgs, SlimmedTrace};
use verify::Verified;

/// Look at a trace file, verify it, repair it, or make it smaller.
#[derive(Args, Clone, Debug)]
pub struct TraceArgs {
    #[command(subcommand)]
    command: TraceCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum TraceCommand {
    /// What was recorded, on what, at the cost of which pauses, and what the file is made of. Reads no page.
    Info {
        /// The trace.
        trace: PathBuf,
        /// List every record too, with its offset, sizes and times.
        #[arg(long)]
        records: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read every record and name each fault with its offset. Exits with 1 if there is one, or if the trace is
    /// unfinished.
    Verify {
        /// The trace.
        trace: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write what is intact of a damaged or unfinished trace to a new file. The old one is only read.
    Repair {
        /// The trace.
        trace: PathBuf,
        /// The new file; it must not exist.
        to: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write a smaller file: compressed well, and without what is not wanted. The old one is only read.
    Slim(SlimArgs),
    /// What differs between two traces: what was run, the verdicts, the scheduler's variables and maps at captures of
    /// the same name. Exits with 0 for nothing, 1 for something, 125 for a trace that cannot be read.
    Diff(DiffArgs),
    /// For other tools: events and variables as JSON lines or CSV on stdout, or a checkpoint's memory as an ELF core.
    Export(ExportArgs),
}

/// Run `ktstr trace`.
///
/// # Errors
/// When the trace cannot be opened, or the new one not be written.
pub fn run(args: &TraceArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        TraceCommand::Info { trace, records, json } => {
            let trace = Trace::open(trace)?;
            let info = if *records { Info::with_records(&trace) } else { Info::of(&trace) };
            print(&info, *json, Info::text)?;
            Ok(ExitCode::SUCCESS)
        }
        TraceCommand::Verify { trace, json } => {
            let result = Verified::of(&Trace::open(trace)?);
            print(&result, *json, Verified::text)?;
            Ok(ExitCode::from(u8::from(!result.clean)))
        }
        TraceCommand::Repair { trace, to, json } => {
            let result = RepairedTrace::make(trace, to)?;
            print(&result, *json, RepairedTrace::text)?;
            Ok(ExitCode::SUCCESS)
        }
        TraceCommand::Slim(args) => {
            let result = SlimmedTrace::make(args)?;
            print(&result, args.json, SlimmedTrace::text)?;
            Ok(ExitCode::SUCCESS)
        }
        TraceCommand::Diff(args) => diff::run(args),
        TraceCommand::Export(args) => export::run(args).map(|()| ExitCode::SUCCESS),
    }
}

fn print<T: Serialize>(value: &T, json: bool, text: impl Fn(&T) -> String) -> anyhow::Result<()> {
    if json { out::write_json(&serde_json::to_value(value)?) } else { out::write(&text(value)) }
}
