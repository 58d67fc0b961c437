//! Limits over the captures that were taken while the body ran: runqueues and local dispatch queues.

use super::limit::{Bound, Clock, Limit, number};
use crate::run::Run;
use crate::series::{Measure, Measured, imbalance, local_dsq, of_sample};
use crate::text::{counted, listed, seconds};
use crate::trace::record::{CaptureKind, Sample, Thresholds};
use crate::verdict::{Finding, Outcome};

/// What one capture, or what lies between two, has for a limit.
pub(super) struct Point {
    /// The capture.
    pub at: String,
    /// What it has.
    pub value: Measured,
}

pub(super) fn judge(run: &Run<'_>, limits: &Thresholds) -> Vec<Finding> {
    let of_each = |measure: Measure| -> Vec<Point> {
        let captures = run
            .samples
            .iter()
            .filter(|s| !s.kind.is_of_an_end() && s.kind != CaptureKind::Watch && !run.is_after_body(s));
        captures.map(|sample| Point { at: place(run, sample), value: of_sample(sample, measure) }).collect()
    };
    let (clock, row) = (Clock::of(run), limits.sustained_samples);
    let mut findings = Vec::new();
    if let Some(ratio) = limits.max_imbalance_ratio {
        let limit = Limit { what: "max_imbalance_ratio", bound: Bound::AtMost(ratio), show: number, clock };
        findings.push(sustained(limit, row, &of_each(imbalance), NO_CAPTURES));
    }
    if let Some(depth) = limits.max_local_dsq_depth {
        let limit =
            Limit { what: "max_local_dsq_depth", bound: Bound::AtMost(depth as f64), show: tasks, clock };
        findings.push(sustained(limit, row, &of_each(local_dsq), NO_CAPTURES));
    }
    findings
}

/// Why there is nothing to judge.
const NO_CAPTURES: &str = "no capture was taken while the body ran (`num_snapshots` asks for some)";

fn tasks(count: f64) -> String {
    counted(count as usize, "task")
}

/// A capture and its time, for people.
pub(super) fn place(run: &Run<'_>, sample: &Sample) -> String {
    format!("{} at {}", sample.tag, seconds(run.since_start_ns(sample.guest_ns)))
}

/// The finding of a limit that must be broken by `row` points in a row. A point without a value ends a row that breaks it; where
/// it could have gone on through that point, whether the limit held is not known.
pub(super) fn sustained(limit: Limit, row: Option<u32>, points: &[Point], nothing: &str) -> Finding {
    let row = row.unwrap_or(1).max(1) as usize;
    if points.is_empty() {
        return limit.finding(Outcome::Inconclusive, nothing.to_owned());
    }
    let breaks = |point: &Point| point.value.as_ref().map(|(value, _)| limit.is_broken(*value)).ok();
    let line = |point: &Point| match &point.value {
        Ok((value, who)) => format!("{}: {who} {}", point.at, (limit.show)(*value)),
        Err(why) => format!("{}: {why}", point.at),
    };
    let asked =
        if row > 1 { format!(", unless for fewer than {row} captures in a row") } else { String::new() };
    let values = points.iter().filter_map(|point| Some((point, point.value.as_ref().ok()?.0)));
    let measured = values.clone().count();
    let worst = values.max_by(|a, b| a.1.total_cmp(&b.1));
    let worst =
        worst.map(|(point, _)| format!("worst of {measured}: {}; {}{asked}", line(point), limit.text()));
    if let Some(broken) =
        longest(points, |point| breaks(point) == Some(true)).filter(|broken| broken.len() >= row)
    {
        let mut lines = listed(broken.iter().map(line).collect());
        lines.extend(limit.clock.map(Clock::said));
        let found = worst.unwrap_or_default();
        return limit.finding(Outcome::Fail, found).with_lines(lines);
    }
    let unknown: Vec<String> = points.iter().filter(|point| point.value.is_err()).map(line).collect();
    let doubt = longest(points, |point| breaks(point) != Some(false)).is_some_and(|run| run.len() >= row);
    if doubt && !unknown.is_empty() {
        let found = format!("{} of {} could not be judged", unknown.len(), counted(points.len(), "capture"));
        return limit
            .finding(Outcome::Inconclusive, found)
            .with_lines(listed(unknown).into_iter().chain(worst).collect());
    }
    if points.len() < row {
        let found = format!("{} cannot break it for {row} in a row", counted(points.len(), "capture"));
        return limit.finding(Outcome::Inconclusive, found);
    }
    limit.finding(Outcome::Pass, worst.unwrap_or_default())
}

/// The longest run of points for which it is so.
fn longest(points: &[Point], is_so: impl Fn(&Point) -> bool) -> Option<&[Point]> {
    points.split(|point| !is_so(point)).max_by_key(|run| run.len()).filter(|run| !run.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `None`: without a value.
    fn judged(values: &[Option<f64>], row: u32) -> Outcome {
        let limit = Limit { what: "max_x", bound: Bound::AtMost(2.0), show: number, clock: None };
        let point = |value: &Option<f64>| Point {
            at: "c".to_owned(),
            value: value.map(|value| (value, "CPU 0".to_owned())).ok_or_else(|| "was not taken".to_owned()),
        };
        sustained(limit, Some(row), &values.iter().map(point).collect::<Vec<_>>(), "no captures").outcome
    }

    #[test]
    fn a_limit_must_be_broken_by_so_many_in_a_row() {
        use Outcome::{Fail, Inconclusive, Pass};
        let (ok, high, lost) = (Some(1.0), Some(3.0), None);
        for (values, row, outcome) in [
            (&[][..], 1, Inconclusive),
            (&[ok, ok], 1, Pass),
            (&[ok, high], 1, Fail),
            (&[high, ok, high], 2, Pass),
            (&[ok, high, high], 2, Fail),
            (&[high, lost, high], 2, Inconclusive),
            (&[high, lost, ok], 3, Pass),
            (&[ok, lost, ok], 1, Inconclusive),
            (&[lost, high], 1, Fail),
            (&[lost, lost], 3, Inconclusive),
            (&[high], 2, Inconclusive),
        ] {
            assert_eq!(judged(values, row), outcome, "{values:?} {row}");
        }
    }
}
