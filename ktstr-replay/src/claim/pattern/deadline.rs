//! The deadline of `eventually(.., by=3s)`, which samples and events have alike.

use std::fmt;

use crate::path::SyntaxError;
use crate::path::parse::Parser;
use crate::text::SpanNs;

/// What follows the operand.
pub(super) fn parse_deadline(p: &mut Parser<'_>) -> Result<Option<SpanNs>, SyntaxError> {
    let mut by = None;
    p.named_args("eventually", &["by"], |p, _| {
        by = Some(p.time()?);
        Ok(())
    })?;
    Ok(by)
}

/// The claim as text.
pub(super) fn write_eventually(
    f: &mut fmt::Formatter<'_>,
    operand: &impl fmt::Display,
    by: Option<SpanNs>,
) -> fmt::Result {
    write!(f, "eventually({operand}")?;
    if let Some(by) = by {
        write!(f, ", by={by}")?;
    }
    f.write_str(")")
}

/// As the end of a sentence about what came or did not.
pub(super) fn in_words(by: Option<SpanNs>) -> String {
    by.map_or_else(String::new, |by| format!(" by {by}"))
}
