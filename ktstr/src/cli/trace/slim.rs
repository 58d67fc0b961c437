//! `ktstr trace slim`: a smaller file of a trace.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use ktstr_replay::slim::{Dropped, KeepCheckpoints, KeepPages, SlimOptions, slim};
use ktstr_replay::text::printable;
use serde::Serialize;

use super::print;
use crate::cli::commands::CommandArgs;

/// Write a smaller file: compressed well, and without what is not wanted. The old one is only read.
#[derive(Args, Debug)]
pub(super) struct SlimArgs {
    /// The trace; it is only read.
    trace: PathBuf,
    /// The new file; it must not exist.
    to: PathBuf,
    /// Level of zstd.
    #[arg(long, default_value_t = SlimOptions::default().level, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
    /// What is not carried over: console, kmsg, output, checkpoints. May be given several times.
    #[arg(long, value_name = "WHAT")]
    drop: Vec<Dropped>,
    /// Keep the last N checkpoints only, or that of the capture with this tag.
    #[arg(long, value_name = "N|TAG")]
    keep_checkpoints: Option<KeepCheckpoints>,
    /// Pages that are kept: all that are there; lean, all but the kernel's symbol and type tables, which a trace has
    /// twice; kernel, which is what decoders read; or read, which is only what the report, `ktstr why` and the views read of
    /// these checkpoints.
    #[arg(long, value_name = "WHICH", default_value_t = SlimOptions::default().pages)]
    pages: KeepPages,
    /// Leave out user memory, page cache and free pages, and forget command lines.
    #[arg(long)]
    redact: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl CommandArgs for SlimArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        print(&SlimmedTrace::make(&self)?, self.json, SlimmedTrace::text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What became of it.
#[derive(Serialize)]
struct SlimmedTrace {
    from: PathBuf,
    to: PathBuf,
    from_bytes: u64,
    to_bytes: u64,
    checkpoints: usize,
    dropped: BTreeMap<String, u64>,
    faults: Vec<String>,
}

impl SlimmedTrace {
    fn make(args: &SlimArgs) -> anyhow::Result<Self> {
        let options = SlimOptions {
            level: args.level,
            drop: args.drop.clone(),
            keep: args.keep_checkpoints.clone().unwrap_or(KeepCheckpoints::All),
            pages: args.pages,
            redact: args.redact,
        };
        let slimmed = slim(&args.trace, &args.to, &options)?;
        Ok(Self {
            from: args.trace.clone(),
            to: args.to.clone(),
            from_bytes: slimmed.from_bytes,
            to_bytes: slimmed.to_bytes,
            checkpoints: slimmed.checkpoints,
            dropped: slimmed.dropped.into_iter().map(|(sort, count)| (sort.to_string(), count)).collect(),
            faults: slimmed.faults.iter().map(ToString::to_string).collect(),
        })
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for fault in &self.faults {
            let _ = writeln!(out, "not carried over: {}", printable(fault));
        }
        for (sort, count) in &self.dropped {
            let _ = writeln!(out, "dropped: {count} of {sort}");
        }
        let percent = self.to_bytes.saturating_mul(100).checked_div(self.from_bytes).unwrap_or(100);
        let _ = writeln!(
            out,
            "{}: {} bytes, {percent} % of {}; {} checkpoints",
            self.to.display(),
            self.to_bytes,
            self.from_bytes,
            self.checkpoints
        );
        out
    }
}
