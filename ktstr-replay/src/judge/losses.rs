//! Memory that was lost: runs that have none of it, and claims that would have read it.

use std::collections::HashSet;

use crate::claim::Judgement;
use crate::run::Run;
use crate::series::{Absent, Column};
use crate::text::counted;
use crate::trace::record::{CaptureKind, Loss, LossKind, Sample, Stage};
use crate::verdict::{Finding, Origin, Outcome};

/// A run that was to keep guest memory and has none of it: what was to be seen there is not known.
pub(super) fn judge(run: &Run<'_>) -> Option<Finding> {
    let began = run.stage(Stage::BodyStarted).is_some();
    if !began || run.manifest.test.checkpoint == "never" || !run.trace.checkpoints().is_empty() {
        return None;
    }
    let first = first_loss(run)?;
    let found = format!("all checkpoints of guest memory were lost: {}", first.detail);
    Some(Finding::new(Origin::Run, "memory", Outcome::Inconclusive, found))
}

/// The first loss of memory that nobody wanted.
fn first_loss<'r>(run: &'r Run<'_>) -> Option<&'r Loss> {
    let of_memory = |loss: &&Loss| matches!(loss.kind, LossKind::Pages | LossKind::Write);
    run.losses.iter().filter(of_memory).find(|loss| !loss.is_on_purpose())
}

/// The captures whose memory was to be kept and was lost.
pub(super) struct LostMemory {
    /// Numbers of their samples.
    samples: HashSet<u32>,
    /// What the recorder said of the first loss.
    because: String,
}

impl LostMemory {
    /// Those of a run; `None` where no memory was lost.
    pub(super) fn of(run: &Run<'_>) -> Option<Self> {
        let because = first_loss(run)?.detail.clone();
        let due = |sample: &&Sample| match run.manifest.test.checkpoint.as_str() {
            "every" => true,
            "ends" => matches!(
                sample.kind,
                CaptureKind::Attach | CaptureKind::End | CaptureKind::SchedulerExit | CaptureKind::GuestDeath
            ),
            _ => false,
        };
        let samples = run.taken().filter(due).map(|sample| sample.index).collect();
        Some(Self { samples, because })
    }

    /// The finding of a claim, which is inconclusive where it fails for want of lost memory alone: without the samples that
    /// lack it, the claim would not fail, as `judge` has it.
    pub(super) fn excuse(
        &self,
        columns: &[&Column],
        finding: Finding,
        judge: impl Fn(&[&Column]) -> Judgement,
    ) -> Finding {
        let lost: HashSet<u32> = columns
            .iter()
            .flat_map(|column| &column.points)
            .filter(|point| matches!(point.value, Err(Absent::NoMemory(_))))
            .map(|point| point.sample)
            .filter(|sample| self.samples.contains(sample))
            .collect();
        if finding.outcome != Outcome::Fail || lost.is_empty() {
            return finding;
        }
        let without = |column: &&Column| {
            let mut column = (*column).clone();
            column.points.retain(|point| !lost.contains(&point.sample));
            column
        };
        let rest: Vec<Column> = columns.iter().map(without).collect();
        if judge(&rest.iter().collect::<Vec<_>>()).outcome == Outcome::Fail {
            return finding;
        }
        let found = format!("the memory that it reads was lost with {}", counted(lost.len(), "capture"));
        let mut lines = finding.lines;
        lines.push(format!("lost: {}", self.because));
        Finding::new(Origin::Claim, finding.what, Outcome::Inconclusive, found).with_lines(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::Claim;
    use crate::claim::pattern::fixture::{column, missed};
    use crate::judge::CheckSource;
    use crate::testing::TraceBuilder;
    use crate::units::HostNs;
    use crate::value::Scalar;
    use Outcome::{Fail, Inconclusive, Pass};

    fn no_memory() -> Result<Scalar, Absent> {
        Err(Absent::NoMemory("no checkpoint was taken with this capture".to_owned()))
    }

    #[test]
    fn a_claim_fails_by_what_is_there_and_not_by_lost_memory() {
        let lost = LostMemory { samples: [1].into(), because: "the writer was behind".to_owned() };
        let judged = |text: &str, values: [Result<Scalar, Absent>; 3]| {
            let claim: Claim = text.parse().unwrap();
            let column = column(values);
            let finding = Finding::of_claim(&claim, &claim.judge(&[&column]), &[&column]);
            lost.excuse(&[&column], finding, |columns| claim.judge(columns))
        };
        let ok = |value: i64| Ok(Scalar::from(value));
        for (values, outcome) in [
            ([ok(1), no_memory(), ok(2)], Inconclusive),
            // A breach beats doubt.
            ([ok(0), no_memory(), ok(2)], Fail),
            // No memory was due with the last.
            ([ok(1), ok(2), no_memory()], Fail),
            ([ok(1), no_memory(), missed()], Fail),
            ([ok(1), ok(2), ok(3)], Pass),
        ] {
            let finding = judged("each(x >= 1)", values.clone());
            assert_eq!(finding.outcome, outcome, "{values:?}");
        }
        let finding = judged("each(x >= 1)", [ok(1), no_memory(), ok(2)]);
        assert_eq!(finding.summary, "the memory that it reads was lost with 1 capture");
        assert!(finding.lines.iter().any(|line| line == "lost: the writer was behind"), "{finding:?}");
    }

    #[test]
    fn a_claim_about_events_is_excused_as_others_are() {
        let judged = |is_lost: bool| {
            let claim = "never(event(op) while kernel.(u64)jiffies_64 > 0)";
            let mut run = TraceBuilder::begun().periodic(&[1, 2]).op(700, "offline", "CPU 1").claim(claim);
            run.manifest.test.checkpoint = "every".to_owned();
            if is_lost {
                let (host_ns, detail) = (HostNs(1), "the disk is full".to_owned());
                run = run.loss(Loss { host_ns, kind: LossKind::Pages, count: 1, detail });
            }
            let trace = run.ended().trace();
            let verdict = Run::load(&trace).judge(None, CheckSource::Recorded);
            verdict.findings.iter().find(|finding| finding.origin == Origin::Claim).unwrap().outcome
        };
        assert_eq!((judged(true), judged(false)), (Inconclusive, Fail));
    }

    #[test]
    fn memory_that_was_never_wanted_or_left_out_on_purpose_is_not_lost() {
        let judged = |checkpoint: &str, detail: Option<&str>| {
            let mut run = TraceBuilder::begun().periodic(&[1, 2]).claim("always(kernel.(u64)jiffies_64 > 0)");
            run.manifest.test.checkpoint = checkpoint.to_owned();
            if let Some(detail) = detail {
                let (host_ns, detail) = (HostNs(1), detail.to_owned());
                run = run.loss(Loss { host_ns, kind: LossKind::Pages, count: 1, detail });
            }
            let trace = run.ended().trace();
            let verdict = Run::load(&trace).judge(None, CheckSource::Recorded);
            verdict.findings.iter().find(|finding| finding.origin == Origin::Claim).unwrap().outcome
        };
        assert_eq!(judged("every", Some("the disk is full")), Inconclusive);
        assert_eq!(judged("every", None), Fail);
        assert_eq!(judged("ends", Some("the disk is full")), Fail);
        assert_eq!(judged("never", Some("the disk is full")), Fail);
        assert_eq!(judged("every", Some("dropped on purpose by slim")), Fail);
    }
}
