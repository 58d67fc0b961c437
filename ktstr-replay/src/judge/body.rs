//! What the test's body said.

use crate::trace::record::{EventBody, Stage};
use crate::verdict::{Finding, Origin, Outcome};

use crate::run::Run;

/// `so_far`: the outcome of scheduler and machine. A body that did not begin or end because of them is not itself
/// at fault.
pub(super) fn judge(run: &Run<'_>, so_far: Outcome) -> Finding {
    let finding = |outcome, found: String| Finding::new(Origin::Run, "body", outcome, found);
    let said = run.events.iter().rev().find_map(|e| match &e.body {
        EventBody::Body { error, failures } => Some((error, failures)),
        _ => None,
    });
    match said {
        Some((None, failures)) if failures.is_empty() => finding(Outcome::Pass, "returned Ok".to_owned()),
        Some((None, failures)) => {
            let found = match failures.as_slice() {
                [one] => one.clone(),
                many => format!("{} assertions failed", many.len()),
            };
            let lines = if failures.len() > 1 { failures.clone() } else { Vec::new() };
            finding(Outcome::Fail, found).with_lines(lines)
        }
        Some((Some(error), failures)) => {
            finding(Outcome::Fail, format!("returned an error: {error}")).with_lines(failures.clone())
        }
        None => {
            let began = run.stage(Stage::BodyStarted).is_some();
            let how = if began { "began and did not end" } else { "never began" };
            let exited = run.stage(Stage::TestExited).map(|(_, _, d)| d).filter(|d| !d.is_empty());
            let found =
                exited.map_or_else(|| how.to_owned(), |d| format!("{how}; how the test binary ended: {d}"));
            let outcome = match so_far {
                Outcome::Skip | Outcome::Pass if run.is_partial() => Outcome::Inconclusive,
                Outcome::Skip | Outcome::Pass => Outcome::Fail,
                Outcome::Inconclusive | Outcome::Fail => Outcome::Skip,
            };
            finding(outcome, found)
        }
    }
}
