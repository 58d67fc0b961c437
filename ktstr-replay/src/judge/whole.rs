//! Whether the trace is all there.

use crate::verdict::{Finding, Origin, Outcome};

use crate::run::Run;

/// Lines of damage that are listed.
const LISTED: usize = 8;

/// Damage makes a verdict inconclusive: what is damaged could have been the evidence.
pub(super) fn judge(run: &Run<'_>) -> Option<Finding> {
    let damage = &run.damage;
    if damage.is_empty() {
        return None;
    }
    let found =
        format!("the trace is damaged in {} place{}", damage.len(), if damage.len() == 1 { "" } else { "s" });
    let mut lines: Vec<_> = damage.iter().take(LISTED).cloned().collect();
    if damage.len() > LISTED {
        lines.push(format!("and {} more", damage.len() - LISTED));
    }
    Some(Finding::new(Origin::Run, "trace", Outcome::Inconclusive, found).with_lines(lines))
}
