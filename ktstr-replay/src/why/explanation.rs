//! The explanation: sentences, each with the capture and the time that it is seen at.

use serde::Serialize;

use crate::run::{CheckpointError, Run};
use crate::text::seconds;
use crate::text::table::{Align, layout};
use crate::text::{clean, wrapped};
use crate::trace::record::Sample;
use crate::verdict::{Finding, Origin, Outcome, Verdict};

use super::{SchedulerEnd, sentences};

/// Checkpoints before the end that are looked at.
const CHECKPOINTS: usize = 4;
/// Width of a sentence's lines, in characters.
const WIDTH: usize = 110;

/// One sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sentence {
    /// Guest time since the body began, in ns; `None` for what is of the whole run.
    pub since_start_ns: Option<i64>,
    /// The capture, or other record, that shows it.
    pub seen_in: String,
    /// The sentence.
    pub text: String,
}

/// Why a run ended as it did, from the verdict back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The verdict and its first cause.
    pub verdict: String,
    /// What led to it, the latest first.
    pub sentences: Vec<Sentence>,
}

impl Sentence {
    pub(super) fn at(run: &Run<'_>, sample: &Sample, text: impl Into<String>) -> Self {
        Self {
            since_start_ns: Some(run.since_start_ns(sample.guest_ns)),
            seen_in: sample.tag.clone(),
            text: text.into(),
        }
    }
}

/// Explain a run that was judged.
///
/// # Errors
/// [`CheckpointError`] when the trace has memory that cannot be read.
pub fn explain(run: &Run<'_>, verdict: &Verdict) -> Result<Explanation, CheckpointError> {
    let end = SchedulerEnd::of(run, CHECKPOINTS)?;
    let name = Some(run.manifest.test.name.as_str()).filter(|name| !name.is_empty());
    let mut explanation = Explanation {
        verdict: format!("{} {}", verdict.outcome(), name.unwrap_or("(unnamed test)")),
        sentences: Vec::new(),
    };
    if verdict.outcome() <= Outcome::Pass && run.scheduler_exit().is_none() {
        return Ok(explanation);
    }
    let all = &mut explanation.sentences;
    // The scheduler's exit is the cause of what else failed; without one the findings are all there is.
    let exited = run.scheduler_exit().is_some();
    if !exited {
        all.extend(findings(run, verdict));
    }
    all.extend(sentences::exit(run, &end));
    all.extend(sentences::queues(run, &end));
    all.extend(sentences::cpus(&end));
    all.extend(sentences::variables(run));
    if exited {
        all.extend(findings(run, verdict));
    }
    Ok(explanation)
}

/// The findings that are as bad as the verdict; the scheduler's exit has sentences of its own.
fn findings(run: &Run<'_>, verdict: &Verdict) -> Vec<Sentence> {
    let said_below = |finding: &Finding| finding.what == "scheduler" && run.scheduler_exit().is_some();
    let bad = verdict.findings.iter().filter(|f| f.outcome > Outcome::Pass && !said_below(f));
    bad.map(|finding| Sentence {
        since_start_ns: None,
        seen_in: match finding.origin {
            Origin::Run => finding.what.clone(),
            Origin::Claim => "claim".to_owned(),
            Origin::Threshold => "threshold".to_owned(),
            Origin::Check(_) => "check".to_owned(),
        },
        text: match finding.origin {
            Origin::Run => finding.summary.clone(),
            _ => format!("{}: {}", finding.what, finding.summary),
        },
    })
    .collect()
}

impl Explanation {
    /// The explanation as text: the verdict, then a sentence a line with its time and where it is seen.
    #[must_use]
    pub fn render(&self) -> String {
        let mut rows = Vec::new();
        for sentence in &self.sentences {
            let mut place =
                [sentence.since_start_ns.map_or_else(String::new, seconds), clean(&sentence.seen_in)];
            for piece in wrapped(&sentence.text, WIDTH) {
                rows.push([place[0].clone(), place[1].clone(), piece].to_vec());
                place = [String::new(), String::new()];
            }
        }
        let mut out = format!("{}\n", clean(&self.verdict));
        for line in layout(&[Align::Right, Align::Left, Align::Left], &rows) {
            out.push_str(format!("  {line}").trim_end());
            out.push('\n');
        }
        if self.sentences.is_empty() {
            out.push_str("  nothing went wrong that is recorded\n");
        }
        out
    }
}
