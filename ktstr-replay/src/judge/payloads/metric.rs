//! The checks of a payload's metrics and exit code.

use crate::text::Candidates;
use crate::trace::record::{Metric, MetricCheck, PayloadEnd, PayloadRun};
use crate::verdict::{Finding, Origin, Outcome};

/// The finding of one check. `None`: the run's own finding says it, since there was no run.
///
/// What was measured is judged as a threshold, which a test can expect to fail and the host's gaps can excuse. A payload that did not
/// measure it, or exited in another way, is at fault itself.
pub(super) fn judge(run: &PayloadRun, check: &MetricCheck, who: &str) -> Option<Finding> {
    if run.end == PayloadEnd::NotStarted {
        return None;
    }
    let (path, limit) = match check {
        MetricCheck::ExitCode { code } => return Some(exit_code(run, *code, who)),
        MetricCheck::Min { path, limit } => {
            (path, format!("at least {} needed", with_unit(run, path, *limit)))
        }
        MetricCheck::Max { path, limit } => {
            (path, format!("at most {} allowed", with_unit(run, path, *limit)))
        }
        MetricCheck::Range { path, low, high } => {
            (path, format!("from {} to {} allowed", number(*low), with_unit(run, path, *high)))
        }
        MetricCheck::Exists { path } => (path, "it must be there".to_owned()),
    };
    let finding = |origin, outcome, found: String| {
        Finding::new(origin, format!("{who}: {path}"), outcome, format!("{found}; {limit}"))
    };
    let Some(metric) = run.metrics.iter().find(|metric| metric.path == *path) else {
        return Some(finding(Origin::Run, Outcome::Fail, missing(run, path)));
    };
    let value = metric.value;
    if !value.is_finite() {
        let found = format!("its value is {value}, which is no measurement");
        return Some(finding(Origin::Run, Outcome::Fail, found));
    }
    let holds = match check {
        MetricCheck::Min { limit, .. } => value >= *limit,
        MetricCheck::Max { limit, .. } => value <= *limit,
        MetricCheck::Range { low, high, .. } => (*low..=*high).contains(&value),
        MetricCheck::Exists { .. } | MetricCheck::ExitCode { .. } => true,
    };
    let outcome = if holds { Outcome::Pass } else { Outcome::Fail };
    Some(finding(Origin::Threshold, outcome, shown(run, metric)))
}

fn exit_code(run: &PayloadRun, wanted: i32, who: &str) -> Finding {
    let (outcome, found) = match (run.end, run.exit_code) {
        (PayloadEnd::Ended, Some(code)) if code == wanted => (Outcome::Pass, code.to_string()),
        (PayloadEnd::Ended, Some(code)) => (Outcome::Fail, code.to_string()),
        // How a program takes to being ended says nothing.
        (PayloadEnd::Stopped, _) => (Outcome::Skip, "the test ended it".to_owned()),
        _ => (Outcome::Fail, "it did not exit".to_owned()),
    };
    let found = format!("{found}; {wanted} needed");
    Finding::new(Origin::Run, format!("{who}: exit code"), outcome, found)
}

/// Why there is no such metric, with those whose names are close.
fn missing(run: &PayloadRun, path: &str) -> String {
    if run.metrics.is_empty() {
        let why = run.metrics_fault.clone().unwrap_or_else(|| "it wrote no numbers".to_owned());
        return format!("the metric is not there: {why}");
    }
    let names = run.metrics.iter().map(|metric| metric.path.as_str());
    format!("the metric is not there{}", Candidates::new(path, names))
}

/// A metric's value with its unit.
pub(super) fn shown(run: &PayloadRun, metric: &Metric) -> String {
    with_unit(run, &metric.path, metric.value)
}

fn with_unit(run: &PayloadRun, path: &str, value: f64) -> String {
    let unit = run.declared.iter().find(|metric| metric.path == path).map_or("", |metric| &metric.unit);
    format!("{} {unit}", number(value)).trim_end().to_owned()
}

/// As many digits as tell it from its neighbours, up to six behind the point.
fn number(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e15).contains(&value.abs()) {
        return format!("{value:e}");
    }
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
