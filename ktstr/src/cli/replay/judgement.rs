//! The report, of the recorded verdict or of a new one.

use std::path::Path;
use std::process::ExitCode;

use ktstr_replay::claim::Claim;
use ktstr_replay::judge::CheckSource;
use ktstr_replay::report;
use ktstr_replay::run::Run;
use serde_json::json;

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

/// Print the report, and exit as the verdict says.
///
/// # Errors
/// When it cannot be written.
pub(super) fn print(trace: &Path, run: &Run<'_>, by: &By, as_json: bool) -> anyhow::Result<ExitCode> {
    let verdict = match (by, run.recorded_verdict()) {
        (By::Recorded, Some(recorded)) => recorded,
        (By::Recorded, None) => {
            out::note("note: no verdict is recorded in the trace; it is judged now");
            run.judge(None, CheckSource::Recorded)
        }
        (By::RecordedClaims, _) => run.judge(None, CheckSource::Recorded),
        (By::Claims(claims), _) => run.judge(Some(claims), CheckSource::Recorded),
    };
    if as_json {
        out::write_json(&json!({ "trace": trace, "verdict": verdict, "manifest": run.manifest() }))?;
    } else {
        out::write(&format!("{}{}", report::render(run, &verdict), report::provenance(trace)))?;
    }
    Ok(ExitCode::from(verdict.exit_code()))
}
