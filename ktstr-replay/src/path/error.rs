//! What can be wrong with the text of a claim, and where.

use std::fmt;
use std::ops::Range;

/// A claim's text could not be understood. Points at the fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The whole text.
    pub text: String,
    /// The bytes of `text` that are at fault; empty and at the end when something is missing there.
    pub span: Range<usize>,
    /// What is wrong with them.
    pub fault: Box<SyntaxFault>,
}

/// What is wrong with a claim's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxFault {
    /// No such pattern exists.
    #[error("no claim pattern is called `{name}`{}", did_you_mean(.meant))]
    UnknownPattern {
        /// What was written.
        name: String,
        /// The nearest name that exists, if one is near.
        meant: Option<String>,
        /// All names.
        known: Vec<&'static str>,
    },
    /// No such field or function exists.
    #[error("no {what} is called `{name}`{}", did_you_mean(.meant))]
    UnknownName {
        /// What kind of name it is.
        what: &'static str,
        /// What was written.
        name: String,
        /// The nearest name that exists, if one is near.
        meant: Option<String>,
        /// All names.
        known: Vec<&'static str>,
    },
    /// Something else should be there.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What may stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// The pattern has no such argument.
    #[error("`{pattern}` takes no argument `{name}`{}", did_you_mean(.meant))]
    UnknownArgument {
        /// The pattern.
        pattern: &'static str,
        /// What was written.
        name: String,
        /// The nearest argument that exists, if one is near.
        meant: Option<String>,
        /// All arguments.
        known: Vec<&'static str>,
    },
    /// An argument was given twice.
    #[error("`{name}` is given twice")]
    Twice {
        /// The argument.
        name: String,
    },
    /// An argument that the pattern needs is not there.
    #[error("`{pattern}` needs `{name}=`, as in `{example}`")]
    Missing {
        /// The pattern.
        pattern: &'static str,
        /// The argument.
        name: &'static str,
        /// A whole claim of that pattern.
        example: &'static str,
    },
    /// A number that cannot be read or is too large.
    #[error("`{text}` is not a number that fits: {why}")]
    Number {
        /// What was written.
        text: String,
        /// Why not.
        why: String,
    },
    /// A number with a unit that is not one.
    #[error("`{unit}` is not a unit of time; there are ns, us, ms, s and min")]
    Unit {
        /// What was written.
        unit: String,
    },
    /// A range without a number in it.
    #[error("the range {text} is empty; ranges are as in Rust: `a..b` excludes b, `a..=b` includes it")]
    EmptyRange {
        /// The range.
        text: String,
    },
    /// A character that has no meaning here.
    #[error("unexpected `{found}` in a claim")]
    Character {
        /// The character.
        found: char,
    },
    /// Parentheses within parentheses without end.
    #[error("parentheses are nested more than {max} deep")]
    TooDeep {
        /// The limit.
        max: usize,
    },
    /// A string without its closing quote.
    #[error("the string is not closed")]
    OpenString,
    /// The text is longer than any claim.
    #[error("a claim has at most {max} bytes, this has {len}")]
    TooLong {
        /// The limit in bytes.
        max: usize,
        /// Length of the text in bytes.
        len: usize,
    },
}

impl SyntaxFault {
    /// What could be written instead, if that is a list of names.
    fn help(&self) -> Option<String> {
        match self {
            Self::UnknownPattern { known, .. } => Some(format!("patterns: {}", known.join(", "))),
            Self::UnknownName { what, known, .. } => Some(format!("{what}s: {}", known.join(", "))),
            Self::UnknownArgument { pattern, known, .. } if known.is_empty() => {
                Some(format!("`{pattern}` takes only what it is about"))
            }
            Self::UnknownArgument { known, .. } => Some(format!("arguments: {}", known.join(", "))),
            _ => None,
        }
    }
}

impl SyntaxError {
    pub(crate) fn new(text: &str, span: Range<usize>, fault: SyntaxFault) -> Self {
        Self { text: text.to_owned(), span, fault: Box::new(fault) }
    }

    /// The character at which the fault begins, from 1.
    pub fn column(&self) -> usize {
        self.text[..self.text.floor_char_boundary(self.span.start)].chars().count() + 1
    }

    /// Several lines: the fault, the text, a caret under the fault, the names that exist.
    pub fn render(&self) -> String {
        let start = self.text.floor_char_boundary(self.span.start);
        let end = self.text.floor_char_boundary(self.span.end).max(start);
        let before = self.text[..start].chars().count();
        let under = self.text[start..end].chars().count().max(1);
        // A newline or a tab would shift the caret; each is shown as one space.
        let shown: String = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut out = format!("{}\n  | {shown}\n  | {}{}", self.fault, " ".repeat(before), "^".repeat(under));
        if let Some(help) = self.fault.help() {
            out.push_str("\n  = ");
            out.push_str(&help);
        }
        out
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "claim `{}`, column {}: {}", self.text.escape_debug(), self.column(), self.fault)
    }
}

impl std::error::Error for SyntaxError {}

fn did_you_mean(meant: &Option<String>) -> String {
    meant.as_ref().map_or_else(String::new, |m| format!("; did you mean `{m}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_counts_characters_and_survives_a_span_inside_of_one() {
        let error = SyntaxError::new("\u{e4}\u{e4} x", 5..6, SyntaxFault::Character { found: 'x' });
        assert!(error.render().contains("\n  |    ^"), "{}", error.render());
        let inside = SyntaxError { span: 1..3, ..error };
        assert!(inside.render().contains("\n  | ^"));
    }
}
