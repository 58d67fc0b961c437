//! Findings: those that do not hold with their evidence, those that do in a line.

use crate::verdict::{Finding, Origin, Outcome, Verdict};

use crate::text::{clean, wrapped};

/// Width of the mark before a finding.
const MARK: usize = 6;
/// Width of a line of evidence, in characters.
const WIDTH: usize = 130;

pub(super) fn lines(verdict: &Verdict) -> Vec<String> {
    let mut out = Vec::new();
    let (bad, good): (Vec<_>, Vec<_>) = verdict.findings.iter().partition(|f| f.outcome > Outcome::Pass);
    for finding in bad {
        out.extend(broken(finding));
    }
    for finding in good {
        out.push(clean(&format!("{}{}: {}", mark(finding), named(finding), finding.summary)));
    }
    out
}

fn mark(finding: &Finding) -> String {
    let mark = match finding.outcome {
        Outcome::Fail if finding.expected => "xfail",
        Outcome::Fail => "FAIL",
        Outcome::Inconclusive => "????",
        Outcome::Pass => "ok",
        Outcome::Skip => "skip",
    };
    format!("{mark:<MARK$}")
}

fn named(finding: &Finding) -> String {
    match &finding.origin {
        Origin::Check(label) if *label != finding.what => format!("check {label}: {}", finding.what),
        Origin::Check(label) => format!("check {label}"),
        _ => finding.what.clone(),
    }
}

fn broken(finding: &Finding) -> Vec<String> {
    let indent = " ".repeat(MARK);
    let mut out = vec![clean(&format!("{}{}", mark(finding), named(finding)))];
    let mut add = |line: &str, deeper: &str| {
        // What does not fit goes on below, deeper by two.
        let mut hang = "";
        for piece in wrapped(line, WIDTH) {
            out.push(format!("{indent}{deeper}{hang}{piece}").trim_end().to_owned());
            hang = "  ";
        }
    };
    add(&finding.summary, "");
    finding.lines.iter().for_each(|line| add(line, "  "));
    out
}
