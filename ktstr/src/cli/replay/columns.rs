//! `--var`: variables of each capture.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use ktstr_replay::path::Projection;
use ktstr_replay::report;
use ktstr_replay::run::Run;
use ktstr_replay::series::{Column, Point};
use serde_json::{Value, json};

use crate::cli::out;

/// Print the values that `paths` have in each capture.
///
/// # Errors
/// A path that no capture has; a trace without captures.
pub(super) fn print(
    trace: &Path,
    run: &Run<'_>,
    paths: &[Projection],
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let captures = run.captures();
    let columns = run.columns(paths);
    for column in &columns {
        let why = column.points.iter().rev().find_map(|p| p.value.as_ref().err());
        if let (None, Some(why)) = (column.usable().next(), why) {
            bail!("`{}` is in none of the {} captures: {why}", column.projection, column.points.len());
        }
    }
    if captures.is_empty() {
        bail!("the trace has no captures");
    }
    if as_json {
        let columns: Vec<_> = columns.iter().map(column_json).collect();
        out::write_json(&json!({ "trace": trace, "columns": columns }))?;
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
