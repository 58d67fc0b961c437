//! The explanation: the verdict, and the sentences that lead to it.

use std::iter::repeat;

use serde::Serialize;

use crate::run::{CheckpointError, Run};
use crate::text::seconds;
use crate::text::{Align, layout};
use crate::text::{clean, wrapped};
use crate::verdict::{Finding, Origin, Outcome, Verdict};

use super::{
    Evidence, SchedulerEnd, Sentence, antagonists, cpus, exit, maps, raised, stalled, variables, waits,
};

/// Checkpoints before the end that are looked at.
const CHECKPOINTS: usize = 8;
/// Width of a sentence's lines, in characters.
const WIDTH: usize = 110;
/// The indentation of the further lines under `not told:`.
const REST: &str = "            ";

/// Why a run ended as it did, from the verdict back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The verdict and its first cause.
    pub verdict: String,
    /// What led to it: the cause first, what followed from it last.
    pub sentences: Vec<Sentence>,
    /// What cannot be told, and what would have recorded it. Empty for a trace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_told: Vec<String>,
}

/// Explain a run that was judged.
///
/// # Errors
/// [`CheckpointError`] when the trace has memory that cannot be read.
pub fn explain(run: &Run<'_>, verdict: &Verdict) -> Result<Explanation, CheckpointError> {
    let name = Some(run.manifest.test.name.as_str()).filter(|name| !name.is_empty());
    let mut explanation = Explanation {
        verdict: format!("{} {}", verdict.outcome(), name.unwrap_or("(unnamed test)")),
        sentences: Vec::new(),
        not_told: Vec::new(),
    };
    let exit = run.scheduler_exit();
    let imported = run.manifest.imported.is_some();
    if imported {
        let one = "what ran before, and for how long: a core is of one moment (a recorded run has captures and events)";
        explanation.not_told.push(one.to_owned());
    }
    if verdict.outcome() <= Outcome::Pass && exit.is_none() && !imported {
        return Ok(explanation);
    }
    let end = SchedulerEnd::of(run, CHECKPOINTS)?;
    let all = &mut explanation.sentences;
    // The scheduler's exit, or that of one below it, is the cause of what else failed; without one the findings are all there is.
    let told = match (&end.exit, &end.below) {
        (None, _) => None,
        (Some(_), None) => Some("scheduler"),
        (Some(_), Some(_)) => Some("sub-scheduler"),
    };
    if told.is_none() {
        all.extend(findings(verdict, None));
    }
    all.extend(exit::exit(&end));
    all.extend(raised(&end));
    all.extend(exit::below(run, &end));
    all.extend(cpus::hogs(&end));
    all.extend(exit::dump(&end));
    all.extend(waits::waits(run, &end));
    all.extend(stalled::stalled(Some(run), &end));
    all.extend(antagonists::antagonists(run, &end));
    all.extend(cpus::cpus(&end));
    all.extend(maps::full(run));
    all.extend(variables::variables(run));
    if told.is_some() {
        all.extend(findings(verdict, told));
    }
    Ok(explanation)
}

/// The findings that are as bad as the verdict, but for the one of this name, whose exit has sentences of its own.
fn findings(verdict: &Verdict, told: Option<&str>) -> Vec<Sentence> {
    let said_above = |finding: &Finding| told == Some(finding.what.as_str());
    let bad = verdict.findings.iter().filter(|f| f.outcome > Outcome::Pass && !said_above(f));
    bad.map(|finding| Sentence {
        since_start_ns: None,
        evidence: Evidence::Seen(vec![match finding.origin {
            Origin::Run => finding.what.clone(),
            Origin::Claim => "claim".to_owned(),
            Origin::Threshold => "threshold".to_owned(),
            Origin::Check(_) => "check".to_owned(),
        }]),
        text: match finding.origin {
            Origin::Run => finding.summary.clone(),
            _ => format!("{}: {}", finding.what, finding.summary),
        },
    })
    .collect()
}

impl Explanation {
    /// The explanation as text: the verdict, then a sentence a line with its time and whether it was seen, and in what, or
    /// inferred, and from what.
    #[must_use]
    pub fn render(&self) -> String {
        let mut rows = Vec::new();
        for sentence in &self.sentences {
            let label = clean(&sentence.evidence.label());
            let mut place = [sentence.since_start_ns.map_or_else(String::new, seconds), label];
            let premises = sentence.evidence.premises();
            for text in std::iter::once(&sentence.text).chain(&premises) {
                for piece in wrapped(text, WIDTH) {
                    rows.push([place[0].clone(), place[1].clone(), piece].to_vec());
                    place = [String::new(), String::new()];
                }
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
        for text in &self.not_told {
            for (piece, margin) in
                wrapped(text, WIDTH).iter().zip(["  not told: "].into_iter().chain(repeat(REST)))
            {
                out.push_str(&format!("{margin}{piece}\n"));
            }
        }
        out
    }
}
