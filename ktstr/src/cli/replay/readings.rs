//! What `ktstr replay` prints of a whole run: the report, of the recorded verdict or of a new one, or variables of each
//! capture.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use ktstr_replay::claim::Claim;
use ktstr_replay::judge::CheckSource;
use ktstr_replay::path::Projection;
use ktstr_replay::report;
use ktstr_replay::repro::Chain;
use ktstr_replay::run::Run;
use ktstr_replay::series::{Absent, Column, Point};
use ktstr_replay::text::printable;
use ktstr_replay::verdict::Verdict;
use serde_json::{Value, json};

use crate::cli::out;

/// What to judge by.
pub(super) enum By {
    /// Nothing: the verdict that was recorded, if there is one.
    Recorded,
    /// The recorded claims.
    RecordedClaims,
    /// These claims.
    Claims(Vec<Claim>),
}

impl By {
    /// The verdict of a run, and whether there was none to go by.
    pub(super) fn verdict(&self, run: &Run<'_>) -> (Verdict, bool) {
        match (self, run.recorded_verdict()) {
            (Self::Recorded, Some(recorded)) => (recorded, false),
            (Self::Recorded, None) => (run.judge(None, CheckSource::Recorded), true),
            (Self::RecordedClaims, _) => (run.judge(None, CheckSource::Recorded), false),
            (Self::Claims(claims), _) => (run.judge(Some(claims), CheckSource::Recorded), false),
        }
    }
}

/// Print the report, and exit as the verdict says.
///
/// # Errors
/// When it cannot be written.
pub(super) fn print_report(
    trace: &Path,
    run: &Run<'_>,
    by: &By,
    full: bool,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let (verdict, none_recorded) = by.verdict(run);
    if none_recorded {
        out::note("note: no verdict is recorded in the trace; it is judged now");
    }
    if as_json {
        let trace = out::path(trace);
        out::write_json(&json!({ "trace": trace, "verdict": verdict, "manifest": run.manifest() }))?;
    } else {
        let render = if full { report::render_full } else { report::render };
        out::write(&format!("{}{}", render(run, &verdict), report::provenance(trace)))?;
    }
    Ok(ExitCode::from(verdict.exit_code()))
}

/// Print what a second machine is to look at.
///
/// # Errors
/// A run without a failure that could happen again; memory that cannot be read.
pub(super) fn print_chain(trace: &Path, run: &Run<'_>, as_json: bool) -> anyhow::Result<ExitCode> {
    let chain = Chain::of(run)?;
    if as_json {
        out::write_json(&json!({ "trace": out::path(trace), "chain": chain }))?;
    } else {
        out::write(&chain.render())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Print the values that `paths` have in each capture.
///
/// # Errors
/// A path that no capture has; a trace without captures.
pub(super) fn print_columns(
    trace: &Path,
    run: &Run<'_>,
    paths: &[Projection],
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let captures = run.captures();
    let columns = run.columns(paths);
    for column in &columns {
        let missed = || column.points.iter().rev().find_map(|p| p.value.as_ref().err());
        if let (None, Some(why)) = (column.usable().next(), column.why_never().or_else(missed)) {
            // Names out of the trace are in it.
            let is_there = matches!(why, Absent::NotANumber(_));
            let why = printable(&why.to_string());
            if is_there {
                bail!("`{}` cannot be printed as a number: {why}", column.projection);
            }
            bail!("`{}` is in none of the {} captures: {why}", column.projection, column.points.len());
        }
    }
    if captures.is_empty() {
        bail!("the trace has no captures");
    }
    if as_json {
        let columns: Vec<_> = columns.iter().map(column_json).collect();
        out::write_json(&json!({ "trace": out::path(trace), "columns": columns }))?;
    } else {
        let columns: Vec<_> = columns.iter().collect();
        out::write(&report::columns(&columns))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn column_json(column: &Column) -> Value {
    let point = |p: &Point| {
        let mut point = json!({
            "sample": p.sample,
            "tag": p.tag,
            "guest_ns": p.at_ns,
            "since_start_ns": column.since_start_ns(p),
            "phase": p.phase,
        });
        match &p.value {
            Ok(value) => point["value"] = value.to_json(),
            Err(why) => point["error"] = why.to_string().into(),
        }
        point
    };
    let points: Vec<_> = column.points.iter().map(point).collect();
    json!({ "path": column.projection.to_string(), "points": points })
}
