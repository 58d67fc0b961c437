//! `ktstr replay`: what a recorded run was judged to be, a new judgement of it, or what it recorded.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use ktstr_replay::claim::{Claim, ClaimError, PATTERNS, Projection};
use ktstr_replay::judge::{Checks, Run};
use ktstr_replay::report;
use ktstr_replay::series::Column;
use ktstr_replay::trace::Trace;
use ktstr_replay::value::Scalar;
use ktstr_replay::verdict::Verdict;
use serde_json::{Value, json};

use super::out;

/// Explain a recorded run, judge it again, or print what it recorded
///
/// Exits with 0 when the run passed or was skipped, 1 when it failed, 2 when that could not be told, 3 when the
/// trace cannot be read or a claim not be understood.
#[derive(Args, Debug)]
#[command(after_help = claims_help(), override_usage = "ktstr replay <TRACE> [--assert [CLAIM]...] [--json]\n       ktstr replay <TRACE> --var <PATH> [--json]")]
pub struct ReplayArgs {
    /// The trace; before the options
    #[arg(required = true)]
    trace: PathBuf,
    /// Judge the run anew: by the claims that were recorded, or by these instead
    #[arg(long, value_name = "CLAIM", num_args = 0.., conflicts_with = "var")]
    assert: Option<Vec<String>>,
    /// Print a variable of each capture, by the path that a claim would have; may be given several times
    #[arg(long, value_name = "PATH")]
    var: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The patterns, for the end of `--help`.
fn claims_help() -> String {
    let width = PATTERNS.iter().map(|p| p.example.len()).max().unwrap_or(0);
    let line = |p: &ktstr_replay::claim::PatternInfo| format!("  {:<width$}  {}\n", p.example, p.holds);
    let list: String = PATTERNS.iter().map(line).collect();
    format!(
        "Claims:\n{list}\nA PATH is a variable (nr_dispatched, stats.nr[2], bss.x), map(NAME).at(I).FIELD, \
         map(NAME).key(K).FIELD, cpu_sum(map(NAME).at(I).FIELD), rq[CPU].FIELD, scx.FIELD or alive; see \
         docs/claims.md."
    )
}

impl ReplayArgs {
    /// Do it.
    ///
    /// # Errors
    /// A trace that cannot be read; a claim or path that cannot be understood; a path that no capture has.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        // What was written is looked at before the trace is: a slip in it needs no file to be found.
        let claims =
            self.assert.as_deref().filter(|texts| !texts.is_empty()).map(parse_all::<Claim>).transpose()?;
        let paths = parse_all::<Projection>(&self.var)?;
        let trace =
            Trace::open(&self.trace).with_context(|| format!("could not replay {}", self.trace.display()))?;
        let run = Run::load(&trace);
        if !paths.is_empty() {
            return self.print_columns(&run, &paths);
        }
        let verdict = match (&self.assert, run.recorded_verdict()) {
            (None, Some(recorded)) => recorded,
            (None, None) => {
                eprintln!("note: no verdict is recorded in the trace; it is judged now");
                run.judge(None, Checks::Recorded)
            }
            (Some(_), _) => run.judge(claims.as_deref(), Checks::Recorded),
        };
        self.print_report(&run, &verdict)?;
        Ok(ExitCode::from(verdict.exit_code()))
    }

    fn print_report(&self, run: &Run<'_>, verdict: &Verdict) -> anyhow::Result<()> {
        if self.json {
            let manifest = run.manifest();
            return out::write_json(
                &json!({ "trace": self.trace, "verdict": verdict, "manifest": manifest }),
            );
        }
        out::write(&format!("{}{}", report::render(run, verdict), report::provenance(&self.trace)))
    }

    fn print_columns(&self, run: &Run<'_>, paths: &[Projection]) -> anyhow::Result<ExitCode> {
        let captures = run.captures();
        let columns: Vec<_> = paths.iter().map(|path| captures.column(path)).collect();
        for column in &columns {
            let why = column.points.iter().rev().find_map(|p| p.value.as_ref().err());
            if let (None, Some(why)) = (column.usable().next(), why) {
                bail!("`{}` is in none of the {} captures: {why}", column.projection, column.points.len());
            }
        }
        if captures.is_empty() {
            bail!("the trace has no captures");
        }
        if self.json {
            let columns: Vec<_> = columns.iter().map(column_json).collect();
            out::write_json(&json!({ "trace": self.trace, "columns": columns }))?;
        } else {
            let columns: Vec<_> = columns.iter().collect();
            out::write(&report::columns(&columns))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Parse texts that people wrote; each that is wrong is shown with a caret under its fault.
fn parse_all<T: std::str::FromStr<Err = ClaimError>>(texts: &[String]) -> anyhow::Result<Vec<T>> {
    let (good, bad): (Vec<_>, Vec<_>) = texts.iter().map(|text| text.parse()).partition(Result::is_ok);
    let bad: Vec<_> = bad.into_iter().filter_map(Result::err).map(|e: ClaimError| e.render()).collect();
    if !bad.is_empty() {
        bail!("{}", bad.join("\n"));
    }
    Ok(good.into_iter().flatten().collect())
}

fn column_json(column: &Column) -> Value {
    let point = |p: &ktstr_replay::series::Point| {
        let mut point = json!({
            "sample": p.sample,
            "tag": p.tag,
            "guest_ns": p.at_ns,
            "since_start_ns": column.since_start_ns(p),
            "phase": p.phase,
        });
        match &p.value {
            Ok(value) => point["value"] = scalar_json(*value),
            Err(why) => point["error"] = why.to_string().into(),
        }
        point
    };
    let points: Vec<_> = column.points.iter().map(point).collect();
    json!({ "path": column.projection.to_string(), "points": points })
}

/// A number, or a string where JSON has no such number.
fn scalar_json(value: Scalar) -> Value {
    match value {
        Scalar::Bool(b) => b.into(),
        Scalar::Int(i) => u64::try_from(i)
            .map(Value::from)
            .or_else(|_| i64::try_from(i).map(Value::from))
            .unwrap_or_else(|_| i.to_string().into()),
        Scalar::Float(x) if x.is_finite() => x.into(),
        other => other.to_string().into(),
    }
}
