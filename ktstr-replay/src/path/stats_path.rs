//! Members of the statistics that a scheduler serves: `stats(top).nr_migrations`, `stats(top).nodes.0.cpus[1]`.

use std::fmt;

use super::error::SyntaxError;
use super::field::{FieldPath, Step, write_cast};
use super::parse::Parser;
use super::rows::word;

/// A member of the statistics that a scheduler serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatsPath {
    /// What the scheduler is asked for: `top`.
    pub target: String,
    /// The member of its answer: names, and indices of arrays.
    pub member: FieldPath,
}

impl StatsPath {
    /// What follows of `stats(top).a[1]` behind the first word.
    pub(super) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        p.expect("(")?;
        let target = p.name("what the scheduler is asked for: `top`")?;
        p.expect(")")?;
        let mut steps = Vec::new();
        loop {
            if p.eat(".") {
                steps.push(Step::Field(p.name("a member of the statistics")?));
            } else if p.eat("[") {
                steps.push(Step::Index(p.index("an index")?));
                p.expect("]")?;
            } else {
                return Ok(Self { target, member: steps.into_iter().collect() });
            }
        }
    }

    /// The path of an accessor, which begins with the target: `top.nr_migrations`.
    pub(crate) fn of_steps(steps: &[Step]) -> Option<Self> {
        let (Step::Field(target), member) = steps.split_first()? else { return None };
        Some(Self { target: target.clone(), member: member.iter().cloned().collect() })
    }

    /// The text without the member.
    pub(crate) fn head(&self) -> String {
        format!("stats({})", word(&self.target))
    }
}

impl fmt::Display for StatsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_cast(f, &self.head(), self.member.steps())
    }
}

#[cfg(test)]
mod tests {
    use crate::path::{Projection, SyntaxError};

    #[test]
    fn members_are_named_by_names_and_indices() {
        for text in [
            "stats(top).nr_migrations",
            "stats(top).nodes.0.doms.1.load",
            "stats(top).cpus[3][0x10].busy",
            "stats(top).\"a b\".c",
            "stats(\"a-b\").x",
            "stats(top)",
            "(u32)stats(top).nr",
        ] {
            let parsed: Projection = text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
            assert_eq!(parsed.to_string(), text.replace("0x10", "16"));
        }
        // A variable of that name is one.
        for text in ["stats.nr[2]", "stats", "stats->x"] {
            assert!(matches!(text.parse(), Ok(Projection::Var(_))), "{text}");
        }
    }

    #[test]
    fn faults_are_pointed_at() {
        for (text, at) in [
            ("stats()", 6..7),
            ("stats(top", 9..9),
            ("stats(top).", 11..11),
            ("stats(top)[x]", 11..12),
            ("stats(top)->x", 10..12),
            ("stats(top).a b", 13..14),
        ] {
            let error = text.parse::<Projection>().expect_err(text);
            assert_eq!(error.span, at, "{}", error.render());
        }
    }
}
