//! Running a test's check, which may not return after its run was ended. The signals have been heeded by the recording, and nothing else
//! looks at them while code of the test's author runs.
//!
//! The check has a thread of its own, which is left to itself where it goes on for too long: other tests of the process close and judge
//! their traces meanwhile, and the process ends with the last of them.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ktstr_record::recorder::is_interrupted;
use ktstr_replay::trace::Trace;
use ktstr_replay::verdict::{Finding, Origin, Outcome, Verdict};

use super::say::say;
use crate::test_def::HostCheck;

/// How long a check may go on after its run was ended. nextest kills tests after 10 s.
const TO_RETURN: Duration = Duration::from_secs(5);
/// How often it is asked whether the run was ended.
const POLL: Duration = Duration::from_millis(50);

/// Run `check` on a trace, and add what it finds to `verdict`: of one that does not return after the run was ended, that.
///
/// # Errors
/// Those of the check; a thread that cannot be started.
///
/// # Panics
/// When the check does.
pub fn check(check: HostCheck, trace: &Arc<Trace>, verdict: &mut Verdict) -> Result<()> {
    check_while(check, trace, verdict, is_interrupted)
}

fn check_while(
    check: HostCheck,
    trace: &Arc<Trace>,
    verdict: &mut Verdict,
    is_ended: impl Fn() -> bool,
) -> Result<()> {
    let (sender, returned) = mpsc::channel();
    let trace = Arc::clone(trace);
    // Its name is that of the test, which a panic is told with.
    let name = thread::current().name().unwrap_or(check.label).to_owned();
    let run = move || {
        let mut found = Verdict::new();
        let result = (check.run)(&trace, &mut found);
        // Nobody waits for one that was given up.
        let _ = sender.send((found, result));
    };
    let thread = thread::Builder::new().name(name).spawn(run).context("could not start a thread for it")?;
    let mut ended: Option<Instant> = None;
    loop {
        match returned.recv_timeout(POLL) {
            Ok((found, result)) => {
                verdict.merge(found);
                return result;
            }
            // It sends before it ends, unless it panics.
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => resume_unwind(panic),
                Ok(()) => bail!("its thread ended without an answer"),
            },
            Err(RecvTimeoutError::Timeout) => {}
        }
        if is_ended() && ended.get_or_insert_with(Instant::now).elapsed() >= TO_RETURN {
            let waited = TO_RETURN.as_secs();
            let why = format!("it has not returned in {waited} s since the run was ended");
            say(&format!(
                "the run was ended, and the check {} has not returned for {waited} s since",
                check.label
            ));
            let origin = Origin::Check(check.label.to_owned());
            verdict.add(Finding::new(origin, check.label, Outcome::Inconclusive, why));
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anyhow::anyhow;

    use super::*;

    fn trace() -> Arc<Trace> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces/steady.trace.zst");
        Arc::new(Trace::open(&path).expect("a golden trace"))
    }

    fn checked(run: fn(&Trace, &mut Verdict) -> Result<()>, is_ended: bool) -> (Verdict, Result<()>) {
        let mut verdict = Verdict::new();
        let result = check_while(HostCheck { label: "looks", run }, &trace(), &mut verdict, || is_ended);
        (verdict, result)
    }

    #[test]
    fn what_a_check_finds_and_its_error_are_taken_over() {
        let (verdict, result) = checked(
            |trace, verdict| {
                verdict.check("samples", trace.sample_count()).at_least(1);
                Err(anyhow!("and then it fails"))
            },
            // It has returned in time.
            true,
        );
        assert_eq!((verdict.findings.len(), verdict.outcome()), (1, Outcome::Pass));
        assert_eq!(result.expect_err("its error").to_string(), "and then it fails");
    }

    #[test]
    fn a_panic_of_a_check_is_one_of_the_test() {
        let panic = std::panic::catch_unwind(|| checked(|_, _| panic!("the check fell over"), false));
        let panic = panic.err().and_then(|panic| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        assert_eq!(panic.as_deref(), Some("the check fell over"));
    }

    #[test]
    fn a_check_that_does_not_return_after_the_end_is_left_to_itself_and_named() {
        let for_ever: fn(&Trace, &mut Verdict) -> Result<()> = |_, _| {
            loop {
                thread::park();
            }
        };
        let (verdict, result) = checked(for_ever, true);
        assert!(result.is_ok() && verdict.outcome() == Outcome::Inconclusive, "{result:?} {verdict:?}");
        let finding = &verdict.findings[0];
        assert!(finding.what == "looks" && finding.summary.contains("has not returned"), "{finding:?}");
    }
}
