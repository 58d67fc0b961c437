//! `ktstr trace diff`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use ktstr_replay::diff::{Part, diff};
use ktstr_replay::judge::Run;
use ktstr_replay::trace::Trace;
use serde_json::json;

use crate::cli::out;

/// A trace could not be read: `git bisect run` takes this for a commit that cannot be tested.
const SKIP: u8 = 125;

/// Which traces, and what of them.
#[derive(Args, Clone, Debug)]
pub(super) struct DiffArgs {
    /// One trace.
    a: PathBuf,
    /// The other one.
    b: PathBuf,
    /// Compare this alone: manifest, verdict, variables or maps. May be given several times.
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Print what differs. The exit code is 0 for nothing, 1 for something, 125 for a trace that cannot be read.
pub(super) fn run(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    let opened = open(&args.a).and_then(|a| Ok((a, open(&args.b)?)));
    let (a, b) = match opened {
        Ok(traces) => traces,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(ExitCode::from(SKIP));
        }
    };
    let parts = if args.only.is_empty() { Part::ALL.to_vec() } else { args.only.clone() };
    let found = diff(&Run::load(&a), &Run::load(&b), &parts);
    if args.json {
        out::write_json(&json!({
            "a": args.a,
            "b": args.b,
            "compared": parts,
            "captures": found.captures,
            "changes": found.changes,
        }))?;
    } else {
        out::write(&found.text())?;
    }
    Ok(ExitCode::from(u8::from(!found.changes.is_empty())))
}

fn open(path: &Path) -> anyhow::Result<Trace> {
    Trace::open(path).with_context(|| format!("could not compare {}", path.display()))
}
