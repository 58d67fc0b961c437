//! Which stores count: `new > 100 and old != new`.

use std::fmt;
use std::str::FromStr;

use crate::path::parse::{Parser, TokenKind};
use crate::path::{Bound, Cmp, Number, SyntaxError};

/// What is asked of a store. All of it has to hold.
///
/// ```
/// use ktstr_replay::watch::WatchCondition;
///
/// let condition: WatchCondition = "new > 100 and old in 0..5".parse()?;
/// assert!(condition.holds(4, 101) && !condition.holds(5, 101));
/// assert_eq!(condition.to_string(), "new > 100 and old in 0..5");
/// # Ok::<(), ktstr_replay::path::SyntaxError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct WatchCondition(Vec<Clause>);

#[derive(Clone, Debug, PartialEq)]
struct Clause {
    of: Side,
    is: Is,
}

#[derive(Clone, Debug, PartialEq)]
enum Is {
    Bound(Bound),
    /// Compared with the other value.
    Other(Cmp, Side),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Old,
    New,
}

impl Side {
    fn read(p: &mut Parser<'_>) -> Option<Self> {
        match () {
            () if p.eat_word("old") => Some(Self::Old),
            () if p.eat_word("new") => Some(Self::New),
            () => None,
        }
    }

    fn of(self, old: i128, new: i128) -> Number {
        Number::Int(match self {
            Self::Old => old,
            Self::New => new,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }
}

impl WatchCondition {
    /// Whether it holds for a store that made `new` of `old`.
    #[must_use]
    pub fn holds(&self, old: i128, new: i128) -> bool {
        self.0.iter().all(|clause| {
            let value = clause.of.of(old, new);
            match &clause.is {
                Is::Bound(bound) => bound.holds(value),
                Is::Other(cmp, other) => Bound::Cmp(*cmp, other.of(old, new)).holds(value),
            }
        })
    }
}

impl FromStr for WatchCondition {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let mut p = Parser::condition(text)?;
        let mut clauses = Vec::new();
        loop {
            let of = Side::read(&mut p).ok_or_else(|| p.expected("`old` or `new`"))?;
            clauses.push(Clause { of, is: read_bound(&mut p)? });
            if !p.eat_word("and") {
                p.end()?;
                return Ok(Self(clauses));
            }
        }
    }
}

fn read_bound(p: &mut Parser<'_>) -> Result<Is, SyntaxError> {
    let cmp = match p.peek() {
        TokenKind::Sign(sign) => Cmp::ALL.iter().find(|(name, _)| name == sign).map(|(_, cmp)| *cmp),
        _ => None,
    };
    if let (Some(cmp), TokenKind::Ident(_)) = (cmp, p.peek_next()) {
        p.advance();
        let other = Side::read(p).ok_or_else(|| p.expected("`old`, `new` or a number"))?;
        return Ok(Is::Other(cmp, other));
    }
    p.bound().map(Is::Bound)
}

impl fmt::Display for WatchCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, clause) in self.0.iter().enumerate() {
            let and = if nth == 0 { "" } else { " and " };
            write!(f, "{and}{} ", clause.of.name())?;
            match &clause.is {
                Is::Bound(bound) => write!(f, "{bound}")?,
                Is::Other(cmp, other) => write!(f, "{} {}", cmp.name(), other.name())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_printed_and_decided() {
        for (text, yes, no) in [
            ("new > 100", (0, 101), (101, 100)),
            ("new != old", (1, 2), (2, 2)),
            ("old == 0 and new in 1..=3", (0, 3), (0, 4)),
            ("new < -1", (0, -2), (0, -1)),
            ("new >= old and old >= 0x10", (16, 16), (15, 16)),
        ] {
            let condition: WatchCondition =
                text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
            assert!(condition.holds(yes.0, yes.1), "{text}");
            assert!(!condition.holds(no.0, no.1), "{text}");
            let printed = condition.to_string();
            assert_eq!(printed.parse(), Ok(condition), "{text}: {printed}");
        }
    }

    #[test]
    fn faults_are_pointed_at() {
        for (text, at) in
            [("", 0..0), ("now > 1", 0..3), ("new", 3..3), ("new > x", 6..7), ("new > 1 or old", 8..10)]
        {
            let error = text.parse::<WatchCondition>().expect_err(text);
            assert_eq!(error.span, at, "{}", error.render());
        }
    }
}
