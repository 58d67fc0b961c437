//! Claims: judgements over series that are data.
//!
//! A [`Claim`] is a pattern, what it is about, and its parameters. It has one text form, which parses and
//! prints, and one evaluator; builder methods of [`Column`], the `claims` attribute
//! and `ktstr replay --assert` all make the same value. Each pattern is one file in `pattern/`, with its text,
//! its rules for missing and degenerate samples, and their tests.
//!
//! ```
//! use ktstr_replay::claim::Claim;
//! use ktstr_replay::trace::Trace;
//! use ktstr_replay::verdict::Outcome;
//!
//! let claim: Claim = "never(nr_enqueued == 0 while alive)".parse()?;
//! let trace = Trace::open("../traces/steady.trace.zst".as_ref())?;
//! let columns = trace.periodic().columns_with(&trace, &claim.projections());
//! let judgement = claim.judge(&columns.iter().collect::<Vec<_>>());
//! assert_eq!(judgement.outcome, Outcome::Pass, "{}", judgement.summary);
//!
//! let typo = "nondecresing(nr_enqueued)".parse::<Claim>().unwrap_err();
//! assert!(typo.render().contains("did you mean `nondecreasing`?"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod builder;
mod event_builder;
mod judgement;
pub mod pattern;
mod predicate;

use std::fmt;
use std::str::FromStr;

use crate::path::parse::{Parser, TokenKind};
use crate::path::{EventPath, Projection, SyntaxError, SyntaxFault};
use crate::series::Column;
use crate::text::{counted, nearest};
use crate::timeline::Timeline;
use crate::verdict::Outcome;

pub use judgement::{Judgement, Offender};
pub use predicate::Predicate;

/// What a pattern is, for lists and help.
#[derive(Clone, Copy, Debug)]
pub struct PatternInfo {
    /// Its name.
    pub name: &'static str,
    /// A claim of that pattern.
    pub example: &'static str,
    /// When it holds, as a half sentence.
    pub holds: &'static str,
}

/// The claim, its table and its dispatch, from one list of patterns: those over columns, and those over events.
macro_rules! patterns {
    ($($(#[$doc:meta])* $name:ident),* $(,)?; $($(#[$event_doc:meta])* $event:ident),* $(,)?) => {
        /// A judgement over series, as data.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Claim {
            $($(#[$doc])* $name(pattern::$name),)*
            $($(#[$event_doc])* $event(pattern::$event),)*
        }

        /// All patterns.
        pub const PATTERNS: &[PatternInfo] = &[$(pattern::$name::INFO,)* $(pattern::$event::INFO,)*];

        impl Claim {
            fn parse_pattern(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
                if let Some(claim) = Self::parse_of_events(p)? {
                    return Ok(claim);
                }
                // A bound on rows of a table alone is a claim about every sample.
                if p.aggregate_follows() {
                    return Predicate::parse_bounded(p).map(|predicate| pattern::Each { predicate }.into());
                }
                let (name, span) = p.ident("a claim pattern, such as `nondecreasing(x)`")?;
                $(if name == pattern::$name::INFO.name {
                    p.expect("(")?;
                    return pattern::$name::parse(p).map(Self::$name);
                })*
                let mut known: Vec<_> = PATTERNS.iter().map(|i| i.name).collect();
                // Some are both of samples and of events.
                let mut seen = std::collections::HashSet::new();
                known.retain(|name| seen.insert(*name));
                let meant = nearest(&name, &known);
                Err(p.fault(span, SyntaxFault::UnknownPattern { name, meant, known }))
            }

            /// What the claim reads from each sample, in the order in which [`Claim::judge`] wants the columns.
            pub fn projections(&self) -> Vec<&Projection> {
                match self {
                    $(Self::$name(c) => c.projections(),)*
                    $(Self::$event(c) => c.projections(),)*
                }
            }

            /// Whether it is about events, and so judged by a [`Timeline`].
            pub fn is_of_events(&self) -> bool {
                matches!(self, $(Self::$event(_))|*)
            }

            fn judge_pattern(&self, columns: &[&Column]) -> Judgement {
                match self {
                    $(Self::$name(c) => c.judge(columns),)*
                    $(Self::$event(_) => Judgement::new(Outcome::Fail, "it is about events, and there are none to judge it by"),)*
                }
            }

            fn judge_events(&self, columns: &[&Column], timeline: &Timeline) -> Judgement {
                match self {
                    $(Self::$name(c) => c.judge(columns),)*
                    $(Self::$event(c) => c.judge(columns, timeline),)*
                }
            }
        }

        impl fmt::Display for Claim {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name(c) => write!(f, "{c}"),)*
                    $(Self::$event(c) => write!(f, "{c}"),)*
                }
            }
        }

        $(impl From<pattern::$name> for Claim {
            fn from(claim: pattern::$name) -> Self {
                Self::$name(claim)
            }
        })*

        $(impl From<pattern::$event> for Claim {
            fn from(claim: pattern::$event) -> Self {
                Self::$event(claim)
            }
        })*
    };
}

patterns! {
    /// Neighbours never fall.
    Nondecreasing,
    /// Neighbours always rise.
    StrictlyIncreasing,
    /// The slope between neighbours is in bounds.
    Rate,
    /// Values stay near their mean.
    Steady,
    /// Values come near a target and stay for three samples.
    Converges,
    /// True at every sample.
    Always,
    /// True at some sample.
    Eventually,
    /// A bound at every sample.
    Each,
    /// A bound at the last sample.
    Final,
    /// One column over another.
    Ratio,
    /// The end of one phase over the end of another.
    PhaseRatio,
    /// Two conditions are true at no sample.
    Never,
    /// Another pattern, of a counter that wraps.
    Wrapping,
    ;
    /// No such event.
    NeverHappens,
    /// Such an event, by a deadline.
    Happens,
    /// Something is true, or happens, within a time after each of some events.
    Within,
    /// How many events there are.
    CountOf,
    /// A percentile of a time that is measured between events.
    Percentile,
}

impl Claim {
    /// Whether a claim that fails stays so, whatever samples come after those that it was judged by.
    pub(crate) fn fails_for_good(&self) -> bool {
        match self {
            Self::Nondecreasing(_)
            | Self::StrictlyIncreasing(_)
            | Self::Rate(_)
            | Self::Always(_)
            | Self::Each(_)
            | Self::Ratio(_)
            | Self::Never(_) => true,
            Self::Wrapping(wrapping) => wrapping.inner.fails_for_good(),
            // Later samples move the mean, come in time, or are the last ones.
            Self::Steady(_)
            | Self::Converges(_)
            | Self::Eventually(_)
            | Self::Final(_)
            | Self::PhaseRatio(_) => false,
            // What happened is known by the history of the last capture, in the order of captures: they are judged at the end.
            Self::NeverHappens(_)
            | Self::Happens(_)
            | Self::Within(_)
            | Self::CountOf(_)
            | Self::Percentile(_) => false,
        }
    }
}

impl Claim {
    /// A claim about events, if one begins here: its first words tell.
    fn parse_of_events(p: &mut Parser<'_>) -> Result<Option<Self>, SyntaxError> {
        let TokenKind::Ident(name) = p.peek() else { return Ok(None) };
        let name = name.clone();
        let enter = |p: &mut Parser<'_>| {
            p.advance();
            p.expect("(")
        };
        if pattern::Percentile::begins(&name) {
            return pattern::Percentile::parse(p).map(|claim| Some(claim.into()));
        }
        let names_events = |alone_too| EventPath::follows(p, 2, alone_too);
        let claim = match name.as_str() {
            _ if *p.peek_next() != TokenKind::Sign("(") => return Ok(None),
            "never" if names_events(true) => {
                enter(p)?;
                pattern::NeverHappens::parse(p)?.into()
            }
            "eventually" if names_events(false) => {
                enter(p)?;
                pattern::Happens::parse(p)?.into()
            }
            "count" if names_events(true) => {
                enter(p)?;
                pattern::CountOf::parse(p)?.into()
            }
            "within" => {
                enter(p)?;
                pattern::Within::parse(p)?.into()
            }
            _ => return Ok(None),
        };
        Ok(Some(claim))
    }
}

impl FromStr for Claim {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut p = Parser::claim(text)?;
        let claim = Self::parse_pattern(&mut p)?;
        p.end()?;
        Ok(claim)
    }
}

impl Claim {
    /// Hold the claim against columns, one for each of [`Claim::projections`], all of the same samples.
    ///
    /// Rules that are the same for every pattern: no samples at all is inconclusive; a column that has no value
    /// in any sample, because it is not there rather than because captures were missed, is a failure that names
    /// the reason.
    pub fn judge(&self, columns: &[&Column]) -> Judgement {
        let wanted = self.projections().len();
        let Some(first) = columns.first().filter(|_| columns.len() == wanted) else {
            return Judgement::new(Outcome::Fail, format!("needs {wanted} columns, has {}", columns.len()));
        };
        if columns
            .iter()
            .any(|c| !c.points.iter().map(|p| p.sample).eq(first.points.iter().map(|p| p.sample)))
        {
            return Judgement::new(Outcome::Fail, "its columns are not of the same samples");
        }
        if first.points.is_empty() {
            return Judgement::inconclusive("there are no samples");
        }
        columns.iter().find_map(|c| never_readable(c)).unwrap_or_else(|| self.judge_pattern(columns))
    }

    /// The same by what happened in the run, for a claim about events; others are judged by the columns alone. The columns of a claim about
    /// events are of all captures of the run.
    pub fn judge_by(&self, columns: &[&Column], timeline: &Timeline) -> Judgement {
        if !self.is_of_events() {
            return self.judge(columns);
        }
        let wanted = self.projections().len();
        if columns.len() != wanted {
            return Judgement::new(Outcome::Fail, format!("needs {wanted} columns, has {}", columns.len()));
        }
        columns.iter().find_map(|c| never_readable(c)).unwrap_or_else(|| self.judge_events(columns, timeline))
    }
}

/// Fails for a column without any value, although there are captures: what it reads does not exist.
fn never_readable(column: &Column) -> Option<Judgement> {
    if column.usable().next().is_some() {
        return None;
    }
    let why = column.why_never()?;
    let count = column.points.len();
    let summary = format!("error: `{}` could not be read in any of {}", column.projection, samples(count));
    Some(Judgement::new(Outcome::Fail, summary).noting(vec![why.reason().to_owned()]))
}

/// `1 sample`, `2 samples`.
fn samples(n: usize) -> String {
    counted(n, "sample")
}

#[cfg(test)]
mod tests;
