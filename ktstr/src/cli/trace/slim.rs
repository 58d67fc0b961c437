//! `ktstr trace slim`: a smaller file of a trace, also one for a forge.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use ktstr_replay::slim::{
    CHANNELS, Dropped, KeepCheckpoints, KeepPages, MAX_UPLOAD_BYTES, SlimError, SlimOptions, Slimmed, Upload,
    slim_for_upload, slim_trace,
};
use ktstr_replay::text::printable;
use serde::Serialize;

use super::print;
use super::unfinished::remove_at_signals;
use crate::cli::commands::CommandArgs;
use crate::cli::{opened, out};

/// What forges know a trace by.
const UPLOAD_SUFFIX: &str = "gz";

/// Write a smaller file: compressed well, and without what is not wanted. The old one is only read.
#[derive(Args, Debug)]
pub(super) struct SlimArgs {
    /// The trace; it is only read.
    trace: PathBuf,
    /// The new file; it must not exist. With --for-upload it may be left out: then it is in this folder, and called as the
    /// trace is, with `.gz` after it.
    #[arg(required_unless_present = "for_upload")]
    to: Option<PathBuf>,
    /// Level of zstd.
    #[arg(long, default_value_t = SlimOptions::default().level, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
    /// What is not carried over: console, kmsg, output, checkpoints, segments (the machines on which a failure was to happen again).
    /// May be given several times.
    #[arg(long, value_name = "WHAT")]
    drop: Vec<Dropped>,
    /// Keep the last N checkpoints only, or that of the capture with this tag.
    #[arg(long, value_name = "N|TAG")]
    keep_checkpoints: Option<KeepCheckpoints>,
    /// Pages that are kept: all that are there; lean, all but the kernel's symbol and type tables, which a trace has
    /// twice; kernel, which is what decoders read; or read, which is only what the report, `ktstr why` and the views read of
    /// these checkpoints. Default: lean; with --for-upload the first of lean, kernel and read that is small enough.
    #[arg(long, value_name = "WHICH")]
    pages: Option<KeepPages>,
    /// Leave out whatever may tell of the host, its user or arguments: user memory, page cache, free pages, and all text that
    /// is not a name. What may still be there is printed.
    #[arg(long)]
    redact: bool,
    /// For an attachment to a report in a forge: a gzip file of at most 25 MB, which `ktstr replay` opens as it is. Where nothing else makes it
    /// small enough, the segments are dropped, and it is said.
    #[arg(long)]
    for_upload: bool,
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
    #[serde(serialize_with = "crate::cli::out::path_as_text")]
    from: PathBuf,
    #[serde(serialize_with = "crate::cli::out::path_as_text")]
    to: PathBuf,
    from_bytes: u64,
    to_bytes: u64,
    checkpoints: usize,
    dropped: BTreeMap<String, u64>,
    faults: Vec<String>,
    /// Of a trace for a forge, the pages that were kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<String>,
    /// Of a redacted trace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    may_still_hold: Vec<&'static str>,
}

impl SlimmedTrace {
    fn make(args: &SlimArgs) -> anyhow::Result<Self> {
        let options = SlimOptions {
            level: args.level,
            drop: args.drop.clone(),
            keep: args.keep_checkpoints.clone().unwrap_or(KeepCheckpoints::All),
            pages: args.pages.unwrap_or(SlimOptions::default().pages),
            redact: args.redact,
        };
        let trace = opened::open(&args.trace)?;
        let (to, slimmed, pages) = match (&args.to, args.for_upload) {
            (Some(to), false) => {
                remove_at_signals(to).context("could not handle signals")?;
                (to.clone(), slim_trace(&trace, to, &options)?, None)
            }
            (to, true) => {
                let to = upload_name(&args.trace, to.as_deref())?;
                remove_at_signals(&to).context("could not handle signals")?;
                let choices = match args.pages {
                    Some(pages) => vec![pages],
                    None => vec![KeepPages::Lean, KeepPages::Kernel, KeepPages::Read],
                };
                let made = slim_for_upload(&trace, &to, &options, &choices, MAX_UPLOAD_BYTES);
                let Upload { slimmed, pages } = made.map_err(|error| told_what_to_drop(error, args))?;
                (to, slimmed, Some(pages.to_string()))
            }
            (None, false) => bail!("the new file has no name"),
        };
        let Slimmed { from_bytes, to_bytes, checkpoints, dropped, faults } = slimmed;
        let may_still_hold = CHANNELS.iter().filter_map(|channel| channel.may_still_hold);
        Ok(Self {
            from: args.trace.clone(),
            to,
            from_bytes,
            to_bytes,
            checkpoints,
            dropped: dropped.into_iter().map(|(sort, count)| (sort.to_string(), count)).collect(),
            faults: faults.iter().map(ToString::to_string).collect(),
            pages,
            may_still_hold: if args.redact { may_still_hold.collect() } else { Vec::new() },
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
        if let Some(pages) = &self.pages {
            let _ = writeln!(out, "pages: {pages}");
        }
        for what in &self.may_still_hold {
            let _ = writeln!(out, "may still hold: {what}");
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

/// The name of a file for a forge.
fn upload_name(trace: &Path, to: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(to) = to {
        if to.extension().is_none_or(|suffix| suffix != UPLOAD_SUFFIX) {
            out::note(&format!(
                "note: forges know this sort of file by a name that ends in .{UPLOAD_SUFFIX}"
            ));
        }
        return Ok(to.to_owned());
    }
    let name = match trace.file_name() {
        Some(name) if name != "-" => name.to_owned(),
        Some(_) => "trace.zst".into(),
        None => return Err(anyhow::anyhow!("{} has no name", trace.display())).context("name the new file"),
    };
    let mut name = name;
    if Path::new(&name).extension().is_none_or(|suffix| suffix != UPLOAD_SUFFIX) {
        name.push(format!(".{UPLOAD_SUFFIX}"));
    }
    Ok(PathBuf::from(name))
}

/// The error of a trace that is too large, with what is left to do.
fn told_what_to_drop(error: SlimError, args: &SlimArgs) -> anyhow::Error {
    if !matches!(error, SlimError::TooLarge { .. }) {
        return error.into();
    }
    let mut ways = Vec::new();
    if args.pages.is_some_and(|pages| pages != KeepPages::Read) {
        ways.push("--pages read");
    }
    if args.keep_checkpoints.is_none() && !args.drop.contains(&Dropped::Checkpoints) {
        ways.push("--keep-checkpoints 1");
    }
    if !args.drop.contains(&Dropped::Checkpoints) {
        ways.push("--drop checkpoints");
    }
    if !args.drop.contains(&Dropped::Output) && !args.redact {
        ways.push("--drop output --drop console --drop kmsg");
    }
    let ways = if ways.is_empty() {
        "attach it elsewhere".to_owned()
    } else {
        format!("add {}", ways.join(", or "))
    };
    anyhow::Error::new(error).context(format!("the trace stays too large for a forge; {ways}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_for_a_forge_is_called_as_the_trace_is_and_ends_as_forges_know_it() {
        let name = |trace: &str, to: Option<&str>| upload_name(Path::new(trace), to.map(Path::new)).unwrap();
        assert_eq!(name("/x/a.trace.zst", None), Path::new("a.trace.zst.gz"));
        assert_eq!(name("a.trace.zst.gz", None), Path::new("a.trace.zst.gz"));
        assert_eq!(name("-", None), Path::new("trace.zst.gz"));
        assert_eq!(name("a.trace.zst", Some("b.gz")), Path::new("b.gz"));
    }
}
