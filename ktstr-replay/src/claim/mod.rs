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
mod judgement;
pub mod pattern;
mod predicate;

use std::fmt;
use std::str::FromStr;

use crate::path::parse::Parser;
use crate::path::{Projection, SyntaxError, SyntaxFault};
use crate::series::Column;
use crate::text::{counted, nearest};
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

/// The claim, its table and its dispatch, from one list of patterns.
macro_rules! patterns {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// A judgement over series, as data.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Claim {
            $($(#[$doc])* $name(pattern::$name)),*
        }

        /// All patterns.
        pub const PATTERNS: &[PatternInfo] = &[$(pattern::$name::INFO),*];

        impl Claim {
            fn parse_pattern(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
                // A bound on rows of a table alone is a claim about every sample.
                if p.aggregate_follows() {
                    return Predicate::parse_bounded(p).map(|predicate| pattern::Each { predicate }.into());
                }
                let (name, span) = p.ident("a claim pattern, such as `nondecreasing(x)`")?;
                $(if name == pattern::$name::INFO.name {
                    p.expect("(")?;
                    return pattern::$name::parse(p).map(Self::$name);
                })*
                let known: Vec<_> = PATTERNS.iter().map(|i| i.name).collect();
                let meant = nearest(&name, &known);
                Err(p.fault(span, SyntaxFault::UnknownPattern { name, meant, known }))
            }

            /// What the claim reads from each sample, in the order in which [`Claim::judge`] wants the columns.
            pub fn projections(&self) -> Vec<&Projection> {
                match self { $(Self::$name(c) => c.projections()),* }
            }

            fn judge_pattern(&self, columns: &[&Column]) -> Judgement {
                match self { $(Self::$name(c) => c.judge(columns)),* }
            }
        }

        impl fmt::Display for Claim {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$name(c) => write!(f, "{c}")),* }
            }
        }

        $(impl From<pattern::$name> for Claim {
            fn from(claim: pattern::$name) -> Self {
                Self::$name(claim)
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
        }
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
