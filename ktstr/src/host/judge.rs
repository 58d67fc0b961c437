//! From a recording to a verdict: all of it by reading the trace that was just written.

use anyhow::{Context, Result, bail};
use ktstr_record::recorder::Recording;
use ktstr_replay::judge::{CheckSource, LabelledCheck};
use ktstr_replay::report;
use ktstr_replay::run::Run;
use ktstr_replay::trace::Trace;
use ktstr_replay::verdict::Verdict;

use super::shell::for_shell;
use crate::test_def::TestDef;

/// Judge a recording, append the verdict to its trace, close it, and print the report.
///
/// # Errors
/// A test that did not pass; a trace that cannot be read or closed.
pub fn judge(def: &TestDef, recording: Recording) -> Result<()> {
    let Recording { path, mut writer, write_error, .. } = recording;
    let (verdict, text) =
        judged(def, &path).with_context(|| format!("could not judge {}", path.display()))?;
    println!("{text}{}", report::provenance(&path));
    if let Some(error) = write_error {
        let lost =
            anyhow::Error::new(error).context("the trace is incomplete: the recorder stopped writing it");
        return Err(lost);
    }
    writer.verdict(&verdict).context("could not add the verdict to the trace")?;
    writer.finish().context("could not close the trace")?;
    if verdict.exit_code() == 0 {
        return Ok(());
    }
    let title = text.lines().next().unwrap_or_default();
    bail!("{title}\nthe report is above; to see it again: ktstr replay {} --assert", for_shell(&path))
}

/// Whether the guest of a recording died of a fault of the emulator.
pub fn emulator_failed(recording: &Recording) -> bool {
    Trace::open(&recording.path).is_ok_and(|trace| Run::load(&trace).emulator_failed())
}

/// The verdict on a trace with the test's own check run anew, and the report.
fn judged(def: &TestDef, path: &std::path::Path) -> Result<(Verdict, String)> {
    let trace = Trace::open(path)?;
    let run = Run::load(&trace);
    let closure = def.check.map(|check| {
        move |trace: &Trace, verdict: &mut Verdict| (check.run)(trace, verdict).map_err(Into::into)
    });
    let checks: Vec<LabelledCheck<'_>> = def
        .check
        .iter()
        .zip(&closure)
        .map(|(check, closure)| LabelledCheck { label: check.label, run: closure })
        .collect();
    let verdict = run.judge(None, CheckSource::Fresh(&checks));
    let text = report::render(&run, &verdict);
    Ok((verdict, text))
}
