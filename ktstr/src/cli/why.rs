//! `ktstr why`: why a run ended as it did.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use ktstr_replay::judge::CheckSource;
use ktstr_replay::run::Run;
use ktstr_replay::why;
use serde_json::json;

use super::commands::CommandArgs;
use super::{opened, out};

/// Tell why a recorded run ended as it did, from the verdict back
///
/// Each sentence has the capture and the guest time (since the test's body began) that it is seen at. What is concluded
/// and not seen says "may".
#[derive(Args, Debug)]
pub struct WhyArgs {
    /// The trace
    trace: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl CommandArgs for WhyArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let what = || format!("could not explain {}", self.trace.display());
        let trace = opened::open(&self.trace).with_context(what)?;
        let run = Run::load(&trace);
        let verdict = run.recorded_verdict().unwrap_or_else(|| run.judge(None, CheckSource::Recorded));
        let explanation = why::explain(&run, &verdict).with_context(what)?;
        if self.json {
            out::write_json(&json!({ "trace": out::path(&self.trace), "why": explanation }))?;
        } else {
            out::write(&explanation.render())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
