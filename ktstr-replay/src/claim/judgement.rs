//! What a pattern found out about its columns, and the samples that show it, as a small table with their neighbours.

use super::samples;
use crate::series::{Column, Point};
use crate::text::seconds;
use crate::text::{Align, layout};
use crate::verdict::{Finding, Origin, Outcome};

/// Offending samples that are shown; the others are counted.
const SHOWN: usize = 5;
/// Longest reason for a missing value, in characters.
const REASON_CHARS: usize = 110;

/// The result of holding a claim against columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Pass, fail or inconclusive.
    pub outcome: Outcome,
    /// One line: what was found.
    pub summary: String,
    /// The points that broke it, ascending.
    pub offenders: Vec<Offender>,
    /// What was left out of the judgement, and why.
    pub notes: Vec<String>,
    /// The events that show it, as a table: of claims about events.
    pub events: Vec<String>,
}

/// A point that broke a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offender {
    /// Its position in the column.
    pub at: usize,
    /// What is wrong with it.
    pub why: String,
}

impl Judgement {
    pub(super) fn new(outcome: Outcome, summary: impl Into<String>) -> Self {
        Self {
            outcome,
            summary: summary.into(),
            offenders: Vec::new(),
            notes: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(super) fn inconclusive(summary: impl Into<String>) -> Self {
        Self::new(Outcome::Inconclusive, summary)
    }

    pub(super) fn noting(mut self, notes: Vec<String>) -> Self {
        self.notes = notes;
        self
    }

    pub(super) fn noting_more(mut self, notes: Vec<String>) -> Self {
        self.notes.extend(notes);
        self
    }

    pub(super) fn showing(mut self, events: Vec<String>) -> Self {
        self.events = events;
        self
    }

    /// Fail for these points.
    pub(super) fn broken(offenders: Vec<Offender>, summary: impl Into<String>) -> Self {
        Self { offenders, ..Self::new(Outcome::Fail, summary) }
    }
}

impl Offender {
    pub(super) fn new(at: usize, why: impl Into<String>) -> Self {
        Self { at, why: why.into() }
    }
}

impl Finding {
    /// What a claim came to over `columns`.
    pub(crate) fn of_claim(
        claim: impl std::fmt::Display,
        judgement: &Judgement,
        columns: &[&Column],
    ) -> Self {
        let finding =
            Self::new(Origin::Claim, claim.to_string(), judgement.outcome, judgement.summary.clone());
        finding.with_lines(evidence(judgement, columns))
    }
}

/// Lines that show the offenders of `judgement`, each with the sample before and after it, and its notes.
fn evidence(judgement: &Judgement, columns: &[&Column]) -> Vec<String> {
    let mut lines = Vec::new();
    let shown = &judgement.offenders[..judgement.offenders.len().min(SHOWN)];
    if let Some(first) = columns.first().filter(|_| !shown.is_empty()) {
        let mut head = vec!["  sample".to_owned(), "time".to_owned()];
        head.extend(columns.iter().map(|c| c.projection.to_string()));
        let mut rows = vec![head];
        let mut next = 0;
        for offender in shown {
            let from = offender.at.saturating_sub(1).max(next);
            if from > next && next > 0 {
                rows.push(vec!["  ...".to_owned()]);
            }
            for at in from..=offender.at + 1 {
                // The neighbour after may itself offend; then it is shown as an offender, in its turn.
                let due = at == offender.at || !shown.iter().any(|o| o.at == at);
                if due && at >= next && at < first.points.len() {
                    rows.push(row(columns, at, (at == offender.at).then_some(offender.why.as_str())));
                    next = at + 1;
                }
            }
        }
        // The tag to the left, time and values to the right, the reason behind them.
        let mut align = vec![Align::Right; columns.len() + 3];
        if let [tag, .., why] = align.as_mut_slice() {
            (*tag, *why) = (Align::Left, Align::Left);
        }
        lines = layout(&align, &rows);
    }
    if judgement.offenders.len() > SHOWN {
        lines.push(format!("  and {} more", samples(judgement.offenders.len() - SHOWN)));
    }
    lines.extend(judgement.events.iter().cloned());
    lines.extend(judgement.notes.iter().map(|note| format!("note: {note}")));
    if !judgement.notes.is_empty() && judgement.offenders.is_empty() {
        // No row of a table has said why.
        lines.extend(columns.iter().filter(|c| c.usable().next().is_some()).filter_map(|c| first_absent(c)));
    }
    lines
}

fn first_absent(column: &Column) -> Option<String> {
    let (tag, why) = column.points.iter().find_map(|p| Some((&p.tag, p.value.as_ref().err()?)))?;
    Some(format!("note: `{}` in {tag}: {why}", column.projection))
}

/// Mark and tag, time, a value for each column, and why the sample is shown.
fn row(columns: &[&Column], at: usize, why: Option<&str>) -> Vec<String> {
    let mut cells = Vec::new();
    let mut reasons: Vec<String> = why.map(str::to_owned).into_iter().collect();
    for column in columns {
        let Some(point) = column.points.get(at) else { continue };
        if cells.is_empty() {
            cells.push(format!("{} {}", if why.is_some() { ">" } else { " " }, point.tag));
            cells.push(seconds(column.since_start_ns(point)));
        }
        cells.push(cell(point, &mut reasons));
    }
    cells.push(reasons.join("; "));
    cells
}

fn cell(point: &Point, reasons: &mut Vec<String>) -> String {
    match &point.value {
        Ok(value) => value.to_string(),
        Err(absent) => {
            let reason: String = absent.to_string().chars().take(REASON_CHARS).collect();
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
            "-".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::claim::Claim;
    use crate::claim::pattern::fixture::{column, ints, missed};
    use crate::series::Column;

    fn shown(text: &str, columns: &[&Column]) -> String {
        let claim: Claim = text.parse().unwrap();
        super::evidence(&claim.judge(columns), columns).join("\n")
    }

    #[test]
    fn an_offender_stands_between_its_neighbours() {
        let shown = shown("nondecreasing(x)", &[&ints(&[1, 2, 30, 4, 5, 6])]);
        let expected = [
            "  sample          time   x",
            "  periodic_002  3.000s  30",
            "> periodic_003  4.000s   4  fell by 26",
            "  periodic_004  5.000s   5",
        ];
        assert_eq!(shown, expected.join("\n"));
    }

    #[test]
    fn neighbouring_offenders_share_their_neighbours_and_gaps_are_marked() {
        let shown = shown("each(x >= 1)", &[&ints(&[0, 0, 1, 1, 1, 1, 0, 1])]);
        let tags: Vec<_> =
            shown.lines().skip(1).map(|l| l.split_whitespace().take(2).collect::<String>()).collect();
        assert_eq!(
            tags,
            [
                ">periodic_000",
                ">periodic_001",
                "periodic_0023.000s",
                "...",
                "periodic_0056.000s",
                ">periodic_006",
                "periodic_0078.000s",
            ]
        );
    }

    #[test]
    fn a_missing_value_says_why_and_many_offenders_are_counted() {
        let shown = shown("each(x >= 1)", &[&column([Ok(1.into()), missed()])]);
        assert!(
            shown.contains("> periodic_001  2.000s  -  no value; missed: the machine did not stop"),
            "{shown}"
        );
        let many = super::tests::shown("each(x >= 1)", &[&ints(&[0; 12])]);
        assert!(many.ends_with("and 7 samples more"), "{many}");
    }

    #[test]
    fn without_an_offender_a_note_says_why_the_first_value_is_missing() {
        let shown = shown("nondecreasing(x)", &[&column([missed(), Ok(1.into()), missed()])]);
        assert!(
            shown.ends_with("note: `x` in periodic_000: missed: the machine did not stop in time"),
            "{shown}"
        );
    }
}
