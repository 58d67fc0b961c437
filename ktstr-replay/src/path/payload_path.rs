//! Metrics of payloads: `payload(fio).jobs.0.read.iops`.

use std::fmt;

use super::error::SyntaxError;
use super::field::{FieldPath, Step, write_cast};
use super::parse::Parser;
use super::rows::word;

/// A metric of a payload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PayloadPath {
    /// The payload's name.
    pub name: String,
    /// What leads to the number in its JSON.
    pub field: FieldPath,
}

impl PayloadPath {
    /// What stands behind `payload`.
    pub(super) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        p.expect("(")?;
        let name = p.name("the name of a payload")?;
        p.expect(")")?;
        let mut field = FieldPath::default();
        field.parse_more(p)?;
        let is_plain = |step: &Step| matches!(step, Step::Field(_) | Step::Index(_));
        if field.steps().is_empty() || !field.steps().iter().all(is_plain) {
            return Err(p.expected("a metric before this, as `.jobs.0.read.iops`"));
        }
        Ok(Self { name, field })
    }

    /// The metric's path as the trace has it, positions between dots: `jobs.0.read.iops`.
    pub fn dotted(&self) -> String {
        let parts = self.field.steps().iter().filter_map(|step| match step {
            Step::Field(name) => Some(name.clone()),
            Step::Index(index) => Some(index.to_string()),
            Step::Named(_) | Step::Cast(_) | Step::Deref => None,
        });
        parts.collect::<Vec<_>>().join(".")
    }
}

impl fmt::Display for PayloadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_cast(f, &format!("payload({})", word(&self.name)), self.field.steps())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Projection;

    #[test]
    fn a_metric_is_named_as_in_the_trace_or_with_indices() {
        for (text, dotted) in [
            ("payload(fio).jobs.0.read.iops", "jobs.0.read.iops"),
            ("payload(fio).jobs[0].read.iops", "jobs.0.read.iops"),
            ("payload(fio).x", "x"),
            ("payload(fio)[2]", "2"),
            ("payload(\"stress-ng\").\"a b\".\"99.0\"", "a b.99.0"),
        ] {
            let parsed: Projection = text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
            assert_eq!(parsed.to_string(), text);
            let Projection::Payload(path) = parsed else { panic!("{text}") };
            assert_eq!(path.dotted(), dotted);
        }
        for text in ["payload(fio)", "payload(fio)->x", "payload().x", "payload(fio).x[NAME]", "payload(fio"]
        {
            assert!(text.parse::<Projection>().is_err(), "{text}");
        }
        assert!(matches!("payload.x".parse(), Ok(Projection::Var(_))), "a variable may have the name");
    }
}
