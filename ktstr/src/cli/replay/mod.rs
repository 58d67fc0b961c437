//! `ktstr replay`: what a recorded run was judged to be, a new judgement of it, or what it recorded.

mod readings;
mod several;
mod views;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use ktstr_replay::claim::{PATTERNS, PatternInfo};
use ktstr_replay::path::{Projection, SyntaxError};
use ktstr_replay::run::Run;

use super::commands::CommandArgs;
use super::opened;
use readings::By;
use views::ViewArgs;

/// Explain a recorded run, judge it again, or print what it recorded
///
/// Exits with 0 when the run passed or was skipped, 1 when it failed, 2 when that could not be told, 3 when the
/// trace cannot be read or a claim not be understood. Of several traces the worst counts: 3, 1, 2, 0. Views exit with 0.
#[derive(Args, Debug)]
#[command(after_help = claims_help(), override_usage = "ktstr replay <TRACE>... [--assert [CLAIM]...] [--json]\n       ktstr replay <TRACE> --var <PATH> [--json]\n       ktstr replay <TRACE> --tasks ... [--at <T|TAG>] [--json]\n       ktstr replay <TRACE> --stats [--at <T|TAG>] [--json]\n       ktstr replay <TRACE> --watches --probes --dump [--json]\n       ktstr replay <TRACE> --events [--task <PID>] [--cpu <N>] [--from <T>] [--to <T>] [--json]\n       ktstr replay <TRACE> --repro-chain [--json]")]
pub struct ReplayArgs {
    /// The trace, before the options; `-` is standard input. A gzip file or a zip archive of a trace will do. Of several
    /// traces each is judged: a line for each, and the worst exit code
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// Judge the run anew: by the claims that were recorded, or by these instead
    #[arg(long, value_name = "CLAIM", num_args = 0.., conflicts_with_all = ["var", "views"])]
    assert: Option<Vec<String>>,
    /// Print all of the report: workers, timeline and logs of a run that passed, too, and no list cut
    #[arg(long, conflicts_with_all = ["var", "views", "repro_chain", "json"])]
    full: bool,
    /// Print a variable of each capture, by the path that a claim would have; may be given several times
    #[arg(long, value_name = "PATH", conflicts_with = "views")]
    var: Vec<String>,
    /// Look at this machine of the run, in place of the first: 1 is the second machine, on which a failure was to happen again
    #[arg(long, value_name = "N", default_value_t = 0)]
    segment: u16,
    /// Print what is worth a look when the scheduler's failure happens again, by this trace alone
    #[arg(long, conflicts_with_all = ["assert", "var", "views"])]
    repro_chain: bool,
    #[command(flatten)]
    views: ViewArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The patterns, for the end of `--help`.
fn claims_help() -> String {
    let width = PATTERNS.iter().map(|p| p.example.len()).max().unwrap_or(0);
    let line = |p: &PatternInfo| format!("  {:<width$}  {}\n", p.example, p.holds);
    let list: String = PATTERNS.iter().map(line).collect();
    format!(
        "Claims:\n{list}\nA PATH is a variable (nr_dispatched, stats.nr[2], bss.x), map(NAME).at(I).FIELD, \
         map(NAME).key(K).FIELD, cpu_sum(map(NAME).at(I).FIELD), rq[CPU].FIELD, scx.FIELD, stats(top).MEMBER or alive; see \
         docs/claims.md."
    )
}

impl CommandArgs for ReplayArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        // Claims and paths are parsed before the trace is opened: a typing error in them is reported without it.
        let by = match self.assert.as_deref() {
            None => By::Recorded,
            Some([]) => By::RecordedClaims,
            Some(texts) => By::Claims(parse_all(texts)?),
        };
        let paths = parse_all::<Projection>(&self.var)?;
        if self.views.only_when() {
            bail!("--at says of which checkpoint a view is; add one, such as --tasks, --dsqs or --stats");
        }
        let [path] = self.traces.as_slice() else {
            if !paths.is_empty()
                || !self.views.is_empty()
                || self.segment != 0
                || self.repro_chain
                || self.full
            {
                bail!(
                    "--var, --segment, --repro-chain, --full and views are of one trace; {} are given",
                    self.traces.len()
                );
            }
            return several::print_all(&self.traces, &by, self.json);
        };
        let what = || format!("could not replay {}", path.display());
        let trace = opened::open(path).with_context(what)?;
        let trace = opened::segment(trace, self.segment).with_context(what)?;
        let run = Run::load(&trace);
        if self.repro_chain {
            readings::print_chain(path, &run, self.json)
        } else if !paths.is_empty() {
            readings::print_columns(path, &run, &paths, self.json)
        } else if !self.views.is_empty() {
            self.views.print(path, &run, self.json)
        } else {
            readings::print_report(path, &run, &by, self.full, self.json)
        }
    }
}

/// Parse texts that people wrote; each that is wrong is shown with a caret under its fault.
fn parse_all<T: std::str::FromStr<Err = SyntaxError>>(texts: &[String]) -> anyhow::Result<Vec<T>> {
    let (good, bad): (Vec<_>, Vec<_>) = texts.iter().map(|text| text.parse()).partition(Result::is_ok);
    let bad: Vec<_> = bad.into_iter().filter_map(Result::err).map(|e: SyntaxError| e.render()).collect();
    if !bad.is_empty() {
        bail!("{}", bad.join("\n"));
    }
    Ok(good.into_iter().flatten().collect())
}
