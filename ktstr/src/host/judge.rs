//! From a recording to a verdict: all of it by reading the trace that was just written.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use ktstr_record::recorder::Recording;
use ktstr_replay::judge::{CheckSource, LabelledCheck};
use ktstr_replay::report;
use ktstr_replay::run::Run;
use ktstr_replay::trace::Trace;
use ktstr_replay::verdict::Verdict;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::checking;
use super::shell::for_shell;
use crate::test_def::TestDef;

/// A run that was judged. Its trace is closed.
pub struct Judged {
    /// Its trace.
    pub path: PathBuf,
    /// What it was judged to be.
    pub verdict: Verdict,
    /// The report.
    text: String,
    /// It was ended by a signal, or because its runner is gone.
    pub interrupted: bool,
}

/// Judge a recording, append the verdict to its trace, and close it.
///
/// # Errors
/// A trace that cannot be read or closed. One that is incomplete: its report is printed then.
pub fn judge(def: &TestDef, recording: Recording) -> Result<Judged> {
    let Recording { path, mut writer, write_error, interrupted, .. } = recording;
    let (verdict, text) =
        judged(def, &path).with_context(|| format!("could not judge {}", path.display()))?;
    let judged = Judged { path, verdict, text, interrupted };
    if let Some(error) = write_error {
        print(&judged.text, &judged.path);
        let lost =
            anyhow::Error::new(error).context("the trace is incomplete: the recorder stopped writing it");
        return Err(lost);
    }
    writer.verdict(&judged.verdict).context("could not add the verdict to the trace")?;
    writer.finish().context("could not close the trace")?;
    Ok(judged)
}

impl Judged {
    /// Report what is in the trace by now, of which there is more than when it was judged.
    ///
    /// # Errors
    /// A trace that cannot be read any more.
    pub fn report_anew(&mut self) -> Result<()> {
        let trace =
            Trace::open(&self.path).with_context(|| format!("could not report {}", self.path.display()))?;
        self.text = report::render(&Run::load(&trace), &self.verdict);
        Ok(())
    }

    /// Print the report.
    ///
    /// # Errors
    /// A test that did not pass.
    pub fn print(self) -> Result<()> {
        // Last, as nobody may be there to read it.
        print(&self.text, &self.path);
        if self.verdict.exit_code() == 0 {
            return Ok(());
        }
        let title = self.text.lines().next().unwrap_or_default();
        bail!(
            "{title}\nthe report is above; to see it again: ktstr replay {} --assert",
            for_shell(&self.path)
        )
    }
}

/// Print the report, unless the runner that was to read it is gone: printing into its pipe would be a panic.
fn print(text: &str, path: &Path) {
    if !is_broken_pipe(&io::stdout()) {
        println!("{text}{}", report::provenance(path));
    }
}

/// Whether nobody reads the pipe any more. See poll(2).
fn is_broken_pipe(pipe: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(pipe, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::ERR)
}

/// Whether the guest of a recording died of a fault of the emulator.
pub fn emulator_failed(recording: &Recording) -> bool {
    Trace::open(&recording.path).is_ok_and(|trace| Run::load(&trace).emulator_failed())
}

/// The verdict on a trace with the test's own check run anew, and the report.
fn judged(def: &TestDef, path: &Path) -> Result<(Verdict, String)> {
    let trace = Arc::new(Trace::open(path)?);
    let run = Run::load(&trace);
    let closure = def.check.map(|check| {
        let trace = Arc::clone(&trace);
        move |_: &Trace, verdict: &mut Verdict| checking::check(check, &trace, verdict).map_err(Into::into)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_broken_when_its_reader_is_gone() {
        let (reader, writer) = io::pipe().expect("a pipe");
        assert!(!is_broken_pipe(&writer));
        drop(reader);
        assert!(is_broken_pipe(&writer));
    }
}
