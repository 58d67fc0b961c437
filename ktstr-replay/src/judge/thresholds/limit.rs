//! A limit, what was measured for it, and the finding that both make.

use crate::run::Run;
use crate::text::{counted, listed, seconds};
use crate::trace::record::WorkerReport;
use crate::verdict::{Finding, Origin, Outcome};

/// Where a limit is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    /// No value may be above it.
    AtMost(f64),
    /// No value may be below it.
    AtLeast(f64),
}

impl Bound {
    fn is_broken(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value > limit,
            Self::AtLeast(limit) => value < limit,
        }
    }

    /// The worse value first.
    fn order(self, a: f64, b: f64) -> std::cmp::Ordering {
        match self {
            Self::AtMost(_) => b.total_cmp(&a),
            Self::AtLeast(_) => a.total_cmp(&b),
        }
    }
}

/// A limit of the test.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// The attribute that sets it.
    pub what: &'static str,
    /// Where it is.
    pub bound: Bound,
    /// How a value of it is shown, with its unit.
    pub show: fn(f64) -> String,
    /// Said of a failure, where the clock that it is by says less than a real one.
    pub clock: Option<Clock>,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub value: f64,
    /// Of whom or what it is.
    pub who: String,
}

/// All that was looked at for a limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Measures {
    pub values: Vec<Measured>,
    /// What could not be measured, and why.
    pub unknown: Vec<String>,
}

impl Measures {
    /// A value, or why there is none. What is no number was not measured.
    pub fn add(&mut self, who: String, value: Result<f64, String>) {
        match value {
            Ok(value) if value.is_finite() => self.values.push(Measured { value, who }),
            Ok(value) => self.unknown.push(format!("{who}: {value} is no measurement")),
            Err(why) => self.unknown.push(format!("{who}: {why}")),
        }
    }
}

impl Limit {
    /// `at most 5.000s allowed`.
    pub fn text(&self) -> String {
        match self.bound {
            Bound::AtMost(limit) => format!("at most {} allowed", (self.show)(limit)),
            Bound::AtLeast(limit) => format!("at least {} needed", (self.show)(limit)),
        }
    }

    pub(crate) fn is_broken(&self, value: f64) -> bool {
        self.bound.is_broken(value)
    }

    pub fn finding(&self, outcome: Outcome, found: String) -> Finding {
        Finding::new(Origin::Threshold, self.what, outcome, found)
    }

    /// The finding. A breach beats doubt. `nothing`: why there would be nothing to measure.
    pub fn judge(&self, measures: Measures, nothing: &str) -> Finding {
        let Measures { mut values, unknown } = measures;
        values.sort_by(|a, b| self.bound.order(a.value, b.value));
        let line = |one: &Measured| format!("{} {}", one.who, (self.show)(one.value));
        let broken: Vec<String> = values.iter().filter(|one| self.is_broken(one.value)).map(line).collect();
        let worst = values.first().map(|one| format!("{}; {}", line(one), self.text()));
        match worst {
            Some(worst) if !broken.is_empty() => {
                let count = broken.len();
                let mut lines = if count > 1 { listed(broken) } else { Vec::new() };
                lines.extend(self.clock.map(|clock| clock.said()));
                lines.extend(listed(unknown));
                let found = match count {
                    1 => worst,
                    _ => format!("{count} of {} break the limit, the worst: {worst}", values.len()),
                };
                self.finding(Outcome::Fail, found).with_lines(lines)
            }
            worst if !unknown.is_empty() => {
                let found = format!("{} could not be judged", counted(unknown.len(), "measurement"));
                let worst = worst.map(|worst| format!("the worst of the others: {worst}"));
                self.finding(Outcome::Inconclusive, found)
                    .with_lines(listed(unknown).into_iter().chain(worst).collect())
            }
            None => self.finding(Outcome::Inconclusive, nothing.to_owned()),
            Some(worst) => self.finding(Outcome::Pass, format!("worst of {}: {worst}", values.len())),
        }
    }
}

/// The clock of a machine that is not a real one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    vcpus: u32,
    /// CPUs of the host; 0: not known.
    host_cpus: u32,
}

impl Clock {
    /// That of a run, if its machine is emulated.
    pub fn of(run: &Run<'_>) -> Option<Self> {
        let machine = &run.manifest.machine;
        let clock = Self { vcpus: machine.cpus, host_cpus: machine.host_cpus };
        run.manifest.is_emulated().then_some(clock)
    }

    pub fn said(self) -> String {
        let Self { vcpus, host_cpus } = self;
        let mut said = "note: times are of the wall clock of an emulated machine".to_owned();
        if host_cpus > 0 && vcpus > host_cpus {
            said.push_str(&format!(
                ", whose {vcpus} vCPUs share {} of the host",
                counted(host_cpus as usize, "CPU")
            ));
        }
        said
    }
}

/// A worker, for people.
pub(in crate::judge) fn name(worker: &WorkerReport) -> String {
    format!("worker {}/{} (pid {})", worker.cgroup, worker.index, worker.pid)
}

/// A time, for people.
pub(super) fn time(ns: u64) -> String {
    seconds(i64::try_from(ns).unwrap_or(i64::MAX))
}

/// A plain number, with as many digits as it needs.
pub(super) fn number(value: f64) -> String {
    let text = if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Standard deviation over mean, of values that each count for their weight; `None` where the mean is not above zero.
pub(super) fn coefficient_of_variation(values: &[(f64, f64)]) -> Option<f64> {
    let total: f64 = values.iter().map(|(_, weight)| weight).sum();
    let mean = values.iter().map(|(value, weight)| value * weight).sum::<f64>() / total;
    let variance = values.iter().map(|(value, weight)| weight * (value - mean).powi(2)).sum::<f64>() / total;
    (mean > 0.0).then(|| variance.sqrt() / mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(values: &[f64], unknown: &[&str]) -> Finding {
        let limit = Limit { what: "max_x", bound: Bound::AtMost(2.0), show: number, clock: None };
        let mut measures = Measures::default();
        values.iter().for_each(|value| measures.add(format!("w{value}"), Ok(*value)));
        unknown.iter().for_each(|why| measures.add("w".to_owned(), Err((*why).to_owned())));
        limit.judge(measures, "nobody ran")
    }

    #[test]
    fn a_breach_beats_doubt_and_doubt_beats_a_pass() {
        use Outcome::{Fail, Inconclusive, Pass};
        for (values, unknown, outcome, found) in [
            (&[1.0, 2.0][..], &[][..], Pass, "worst of 2: w2 2; at most 2 allowed"),
            (&[1.0, 2.5], &["lost"], Fail, "w2.5 2.5; at most 2 allowed"),
            (&[3.0, 2.5], &[], Fail, "2 of 2 break the limit, the worst: w3 3; at most 2 allowed"),
            (&[1.0], &["lost"], Inconclusive, "1 measurement could not be judged"),
            (&[1.0, f64::NAN], &[], Inconclusive, "1 measurement could not be judged"),
            (&[], &[], Inconclusive, "nobody ran"),
        ] {
            let finding = judged(values, unknown);
            assert_eq!((finding.outcome, finding.summary.as_str()), (outcome, found));
        }
    }

    #[test]
    fn variation_counts_values_by_their_weight() {
        assert_eq!(coefficient_of_variation(&[(1.0, 1.0), (3.0, 1.0)]), Some(0.5));
        assert_eq!(coefficient_of_variation(&[(1.0, 5.0)]), Some(0.0));
        let heavy = coefficient_of_variation(&[(1.0, 99.0), (3.0, 1.0)]).expect("a mean");
        assert!(heavy < 0.2, "{heavy}");
        assert_eq!(coefficient_of_variation(&[(0.0, 1.0)]), None);
        assert_eq!(coefficient_of_variation(&[]), None);
    }

    #[test]
    fn numbers_have_the_digits_that_they_need() {
        let shown = [0.5, 2.0, 0.0314159, 1234.5, 0.0].map(number);
        assert_eq!(shown, ["0.5", "2", "0.031", "1234", "0"]);
    }
}
