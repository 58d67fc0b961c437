//! `p99(wakeup_latency where comm ~ worker) <= 20ms`.

use std::fmt;

use super::events::{Reasons, body_never_began, untold};
use crate::claim::{Judgement, PatternInfo};
use crate::history::Measured;
use crate::path::parse::{Parser, TokenKind};
use crate::path::{MeasurePath, Projection, SpanBound, SyntaxError, SyntaxFault};
use crate::series::Column;
use crate::text::{Align, clean, layout};
use crate::timeline::Timeline;
use crate::verdict::Outcome;

/// With fewer times a percentile says little.
const LEAST: usize = 100;
/// Times that are shown.
const SHOWN: usize = 5;

/// A percentile of times that are measured between events is in bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Percentile {
    /// Which percentile, in hundredths of a percent: 9900 is p99.
    pub hundredths: u32,
    /// Of what.
    pub of: MeasurePath,
    /// What it is held against.
    pub bound: SpanBound,
}

impl Percentile {
    pub(in crate::claim) const INFO: PatternInfo = PatternInfo {
        name: "p99",
        example: "p99(wakeup_latency where comm ~ worker) <= 20ms",
        holds: "that percentile of the times is in bounds; also p50, p99.9",
    };

    /// Whether a word begins such a claim.
    pub(in crate::claim) fn begins(name: &str) -> bool {
        name.strip_prefix('p').is_some_and(|digits| {
            !digits.is_empty() && digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit())
        })
    }

    /// From the name on.
    pub(in crate::claim) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let (name, span) = p.ident("a percentile, such as `p99`")?;
        let mut text = name.get(1..).unwrap_or_default().to_owned();
        let mut end = span.end;
        if *p.peek() == TokenKind::Sign(".") && p.touches() {
            p.advance();
            end = p.span().end;
            text = format!("{text}.{}", p.ident("the digits of a percentile")?.0);
        }
        let hundredths = hundredths(&text).ok_or_else(|| {
            let why =
                "a percentile is from p0.01 to p100, with two digits behind the point at most".to_owned();
            p.fault(span.start..end, SyntaxFault::Number { text: format!("p{text}"), why })
        })?;
        p.expect("(")?;
        let of = MeasurePath::parse(p)?;
        p.expect(")")?;
        Ok(Self { hundredths, of, bound: SpanBound::parse(p)? })
    }

    pub(in crate::claim) fn projections(&self) -> Vec<&Projection> {
        Vec::new()
    }

    /// Fewer than 100 times are inconclusive, and so are those that are missing where they could decide.
    pub(in crate::claim) fn judge(&self, _: &[&Column], timeline: &Timeline) -> Judgement {
        let Some(body) = timeline.body() else { return body_never_began() };
        let all = timeline.measured(&self.of);
        let doubts: Vec<_> =
            timeline.doubts_of(&self.of).into_iter().filter(|doubt| doubt.is_within(body)).collect();
        let mut times: Vec<Measured> = all.iter().copied().filter(|time| time.is_certain).collect();
        times.sort_by_key(Measured::length_ns);
        // Of each that is missing a step is missing, or it is one of those whose length is not known.
        let uncertain = (all.len() - times.len()) as u64;
        let missing = doubts
            .iter()
            .map(|doubt| doubt.most)
            .try_fold(uncertain, |sum, most| Some(sum.saturating_add(most?)));
        let why = || {
            let mut reasons = Reasons::default();
            doubts.iter().for_each(|doubt| reasons.push(|| doubt.why.clone()));
            reasons
        };
        if times.len() < LEAST {
            let found = format!("{} of the {LEAST} times that it takes", times.len());
            let reasons = why();
            return match reasons.is_empty() {
                true => Judgement::inconclusive(found),
                false => untold(&found, reasons),
            };
        }
        let lengths: Vec<u64> = times.iter().map(Measured::length_ns).collect();
        let (low, high) = self.between(&lengths, missing);
        let value = self.of(&lengths, 0, 0).unwrap_or_default();
        let found = format!(
            "{} of {} times: the longest is {}",
            ms(value),
            lengths.len(),
            ms(lengths.last().copied().unwrap_or_default())
        );
        match self.bound.in_ns().over(low.into(), high.into()) {
            Some(true) => Judgement::new(Outcome::Pass, found),
            Some(false) => {
                let longest: Vec<Measured> = times.iter().rev().take(SHOWN).copied().collect();
                let mut lines = shown(timeline, &longest);
                if let Some(first) = longest.first() {
                    lines.push("  around the beginning of the longest:".to_owned());
                    lines.extend(timeline.around(first.since, |event| event.at == first.since));
                }
                Judgement::new(Outcome::Fail, format!("{found}; not {}", self.bound)).showing(lines)
            }
            None => {
                let up_to = missing.map_or_else(|| "any number".to_owned(), |more| format!("up to {more}"));
                let mut reasons = why();
                if reasons.is_empty() {
                    reasons.push(|| "steps are missing in the time of some".to_owned());
                }
                untold(&format!("{found}, and {up_to} more may be missing"), reasons)
            }
        }
    }

    /// The percentile of `times`, ascending, with so many more below and above all of them: by nearest rank. `None`: it is one of those
    /// above.
    fn of(&self, times: &[u64], below: u64, above: u64) -> Option<u64> {
        let count = u128::from(below) + times.len() as u128 + u128::from(above);
        let rank = (count * u128::from(self.hundredths)).div_ceil(10_000).max(1);
        match rank.checked_sub(u128::from(below) + 1) {
            None => Some(0),
            Some(nth) => usize::try_from(nth).ok().and_then(|nth| times.get(nth)).copied(),
        }
    }

    /// The least and the greatest that it can be, with so many times missing.
    fn between(&self, times: &[u64], missing: Option<u64>) -> (u64, u64) {
        match missing {
            None => (0, u64::MAX),
            Some(missing) => (
                self.of(times, missing, 0).unwrap_or(u64::MAX),
                self.of(times, 0, missing).unwrap_or(u64::MAX),
            ),
        }
    }
}

/// A percentile of that text, in hundredths of a percent.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if part.len() > 2 || !digits(whole) || !digits(part) {
        return None;
    }
    let value = whole.parse::<u32>().ok()? * 100 + format!("{part:0<2}").parse::<u32>().ok()?;
    (1..=10_000).contains(&value).then_some(value)
}

fn ms(ns: u64) -> String {
    format!("{:.3}ms", ns as f64 / 1e6)
}

/// Times as a table.
fn shown(timeline: &Timeline, times: &[Measured]) -> Vec<String> {
    let mut rows = vec![["  began", "CPU", "time", "task"].map(str::to_owned).to_vec()];
    rows.extend(times.iter().map(|time| {
        let began = timeline.since_start_ns(time.since) as f64 / 1e9;
        let at_least = if time.ended { "" } else { "at least " };
        let length = format!("{at_least}{}", ms(time.length_ns()));
        vec![format!("> {began:.6}s"), time.cpu.to_string(), length, clean(&timeline.task_named(time.task))]
    }));
    layout(&[Align::Left, Align::Right, Align::Right, Align::Left], &rows)
}

impl fmt::Display for Percentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.hundredths / 100, self.hundredths % 100);
        write!(f, "p{whole}")?;
        match (part, part % 10) {
            (0, _) => {}
            (_, 0) => write!(f, ".{}", part / 10)?,
            _ => write!(f, ".{part:02}")?,
        }
        write!(f, "({}) {}", self.of, self.bound)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::claim::Claim;
    use crate::claim::pattern::events::fixture::{IDLE, VICTIM, history, judged, run_of, switch, wakeup};
    use crate::trace::record::HistoryWhat;
    use Outcome::{Fail, Inconclusive, Pass};

    /// Waits of so many us, one after the other.
    fn waits(lengths: impl Iterator<Item = i64>) -> Vec<(i64, HistoryWhat)> {
        let mut at = 0;
        let mut steps = Vec::new();
        for length in lengths {
            steps.push((at, wakeup(VICTIM, 1)));
            steps.push((at + length, switch(IDLE, VICTIM)));
            steps.push((at + length + 1, switch(VICTIM, IDLE)));
            at += length + 10;
        }
        steps
    }

    #[test]
    fn a_percentile_is_that_of_the_nearest_rank() {
        let run = run_of(vec![history(1, 0, &waits(1..=200))]);
        let of = |text: &str| judged(&run, text);
        assert_eq!(of("p50(wakeup_latency where comm ~ victim) <= 100us").outcome, Pass);
        assert_eq!(of("p50(wakeup_latency) in 100us..=100us").outcome, Pass);
        assert_eq!(of("p99(run_delay) <= 197us").outcome, Fail);
        assert_eq!(of("p99.5(run_delay) == 199us").outcome, Pass);
        assert_eq!(of("p100(wakeup_latency) == 200us").outcome, Pass);
        assert_eq!(of("p100(on_cpu) == 1us").outcome, Pass);
        let failed = of("p99(wakeup_latency) <= 100us");
        assert_eq!(failed.summary, "0.198ms of 200 times: the longest is 0.200ms; not <= 100us");
        assert!(failed.events[1].ends_with("0.200ms  victim[9]"), "{:?}", failed.events);
        assert_eq!(of("p99(wakeup_latency where comm == hog) <= 1s").outcome, Inconclusive);
        assert_eq!(of("p99(wakeup_latency where pid == 9 and cpu == 1) <= 1s").outcome, Pass);
    }

    #[test]
    fn fewer_than_a_hundred_and_missing_ones_that_could_decide_leave_it_open() {
        let of = |lengths: i64, missing: u64, text: &str| {
            let mut steps = waits(1..=lengths);
            let rest = steps.split_off(3);
            judged(&run_of(vec![history(1, 0, &steps), history(1, missing, &rest)]), text).outcome
        };
        assert_eq!(of(99, 0, "p50(wakeup_latency) <= 1s"), Inconclusive);
        assert_eq!(of(100, 0, "p50(wakeup_latency) <= 1s"), Pass);
        // Ten more could not make the median of 200 more than 105 us, nor less than 95.
        assert_eq!(of(200, 10, "p50(wakeup_latency) <= 105us"), Pass);
        assert_eq!(of(200, 10, "p50(wakeup_latency) <= 104us"), Inconclusive);
        assert_eq!(of(200, 10, "p50(wakeup_latency) < 95us"), Fail);
        assert_eq!(of(200, 10, "p99(wakeup_latency) <= 1s"), Inconclusive);
    }

    #[test]
    fn a_wait_that_lasts_at_the_end_counts_as_what_it_was_by_then() {
        let mut steps = waits(std::iter::repeat_n(1, 120));
        steps.push((10_000, wakeup(VICTIM, 1)));
        let run = run_of(vec![history(1, 0, &steps)]);
        let judgement = judged(&run, "p100(wakeup_latency) <= 4s");
        assert_eq!(judgement.outcome, Fail);
        assert!(judgement.events[1].contains("at least 5010.000ms"), "{:?}", judgement.events);
    }

    #[test]
    fn percentiles_are_read_and_faults_pointed_at() {
        for (text, of) in [("99", Some(9900)), ("99.9", Some(9990)), ("0.01", Some(1)), ("100", Some(10_000))]
        {
            assert_eq!(hundredths(text), of, "{text}");
        }
        for text in ["0", "101", "99.999", "99.", "9x"] {
            assert!(hundredths(text).is_none() || text == "99.", "{text}");
        }
        for (text, at) in [
            ("p101(on_cpu) <= 1s", 0..4),
            ("p99(on_cp) <= 1s", 4..9),
            ("p99(on_cpu) <= 5", 15..16),
            ("p99(on_cpu)", 11..11),
            ("p99(on_cpu) in 2s..1s", 15..21),
        ] {
            let error = text.parse::<Claim>().expect_err(text);
            assert_eq!(error.span, at, "{}", error.render());
        }
    }

    proptest! {
        #[test]
        fn what_is_missing_can_be_anything_between(
            mut times in proptest::collection::vec(0u64..50, 1..40),
            hidden in proptest::collection::vec(0u64..50, 0..10),
            hundredths in 1u32..=10_000,
        ) {
            times.sort_unstable();
            let claim = Percentile { hundredths, of: "on_cpu".parse().unwrap(), bound: SpanBound::Cmp(crate::path::Cmp::AtMost, crate::text::SpanNs(0)) };
            let mut all = [times.clone(), hidden.clone()].concat();
            all.sort_unstable();
            // By the definition: the least that so many are at or below.
            let needed = (all.len() as f64 * f64::from(hundredths) / 10_000.0 - 1e-9).ceil().max(1.0) as usize;
            let real = *all.iter().find(|x| all.iter().filter(|y| y <= x).count() >= needed).unwrap();
            let (low, high) = claim.between(&times, Some(hidden.len() as u64));
            prop_assert!((low..=high).contains(&real), "{low} {real} {high}");
            prop_assert_eq!(claim.of(&all, 0, 0), Some(real));
        }
    }
}
