//! `ktstr trace diff`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use ktstr_replay::diff::{Part, diff};
use ktstr_replay::run::Run;
use ktstr_replay::text::printable;
use ktstr_replay::trace::Trace;
use serde_json::json;

use super::verify::missing;
use crate::cli::commands::CommandArgs;
use crate::cli::{opened, out};

/// It cannot be told: `git bisect run` takes this for a commit that cannot be tested.
const SKIP: u8 = 125;

/// What differs between two traces: what was run, the verdicts, the scheduler's variables and maps at captures of
/// the same name. For `git bisect run` it exits with 0 for nothing, 1 for something, and 125 where that cannot be told:
/// a trace that cannot be read or is not whole, or no capture of the same name.
#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    /// One trace.
    a: PathBuf,
    /// The other one.
    b: PathBuf,
    /// Compare this alone: manifest, verdict, variables or maps. May be given several times.
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Compare this machine of the second run, and of the first, unless --segment-a says otherwise: 1 is the second machine.
    #[arg(long, value_name = "N", default_value_t = 0)]
    segment: u16,
    /// The machine of the first run that is compared; with `--segment-a 0 --segment 1` both may be of one file.
    #[arg(long, value_name = "N")]
    segment_a: Option<u16>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl CommandArgs for DiffArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        Ok(match compare(&self) {
            Ok(Outcome::Same) => ExitCode::SUCCESS,
            Ok(Outcome::Different) => ExitCode::FAILURE,
            Ok(Outcome::Unclear(why)) => {
                for why in why {
                    out::note(&format!("cannot tell: {why}"));
                }
                ExitCode::from(SKIP)
            }
            Err(error) => {
                out::error(&error);
                ExitCode::from(SKIP)
            }
        })
    }
}

/// What a comparison came to.
enum Outcome {
    Same,
    Different,
    /// Neither, for these reasons.
    Unclear(Vec<String>),
}

fn compare(args: &DiffArgs) -> anyhow::Result<Outcome> {
    let a = open(&args.a, args.segment_a.unwrap_or(args.segment))?;
    let b = open(&args.b, args.segment)?;
    let parts = if args.only.is_empty() { Part::ALL.to_vec() } else { args.only.clone() };
    let found = diff(&Run::load(&a), &Run::load(&b), &parts);
    if args.json {
        out::write_json(&json!({
            "a": out::path(&args.a),
            "b": out::path(&args.b),
            "compared": parts,
            "captures": found.captures,
            "changes": found.changes,
        }))?;
    } else {
        out::write(&found.text())?;
    }
    let mut unclear: Vec<String> = [&a, &b].into_iter().filter_map(not_whole).collect();
    let of_captures = |part: &Part| matches!(part, Part::Variables | Part::Maps);
    if found.captures == 0 && parts.iter().all(of_captures) {
        unclear.push("the traces have no capture of the same name".to_owned());
    }
    Ok(match (unclear.is_empty(), found.changes.is_empty()) {
        (false, _) => Outcome::Unclear(unclear),
        (true, true) => Outcome::Same,
        (true, false) => Outcome::Different,
    })
}

fn open(path: &Path, segment: u16) -> anyhow::Result<Trace> {
    let what = || format!("could not compare {}", path.display());
    let trace = opened::open(path).with_context(what)?;
    opened::segment(trace, segment).with_context(what)
}

/// Why a difference may be no more than what a trace has lost; `None` if it has lost nothing that was read.
fn not_whole(trace: &Trace) -> Option<String> {
    let mut lost = missing(&trace.completeness());
    lost.extend(trace.faults().iter().map(ToString::to_string));
    let named = || format!("{} is not whole: {}", trace.path().display(), printable(&lost.join("; ")));
    (!lost.is_empty()).then(named)
}
