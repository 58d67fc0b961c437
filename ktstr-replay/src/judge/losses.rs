//! Runs whose memory was lost.

use crate::run::Run;
use crate::trace::record::{Loss, LossKind, Stage};
use crate::verdict::{Finding, Origin, Outcome};

/// A run that was to keep guest memory and has none of it: what was to be seen there is not known.
pub(super) fn judge(run: &Run<'_>) -> Option<Finding> {
    let began = run.stage(Stage::BodyStarted).is_some();
    if !began || run.manifest.test.checkpoint == "never" || !run.trace.checkpoints().is_empty() {
        return None;
    }
    let of_memory = |loss: &&Loss| matches!(loss.kind, LossKind::Pages | LossKind::Write);
    let lost: Vec<&Loss> = run.losses.iter().filter(of_memory).filter(|loss| !loss.is_on_purpose()).collect();
    let first = lost.first()?;
    let found = format!("all checkpoints of guest memory were lost: {}", first.detail);
    Some(Finding::new(Origin::Run, "memory", Outcome::Inconclusive, found))
}
