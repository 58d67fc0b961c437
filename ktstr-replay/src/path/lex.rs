//! Words of a claim's text.

use std::fmt;
use std::ops::Range;

use super::error::{SyntaxError, SyntaxFault};
use super::number::Number;
use crate::text::SpanNs;

/// Longest text that is looked at, in bytes.
const MAX_BYTES: usize = 4096;

/// A word with its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub kind: TokenKind,
    pub span: Range<usize>,
}

/// What a word is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    Ident(String),
    Quoted(String),
    Number(Number),
    Time(SpanNs),
    Percent(f64),
    /// Anything made of punctuation.
    Sign(&'static str),
    End,
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ident(name) => write!(f, "`{name}`"),
            Self::Quoted(text) => write!(f, "{text:?}"),
            Self::Number(n) => write!(f, "the number {n}"),
            Self::Time(t) => write!(f, "the time {t}"),
            Self::Percent(p) => write!(f, "{p}%"),
            Self::Sign(s) => write!(f, "`{s}`"),
            Self::End => f.write_str("the end"),
        }
    }
}

/// Signs, longer ones before their prefixes.
const SIGNS: [&str; 21] = [
    "..=", "..", ">=", "<=", "==", "!=", "->", "(", ")", "[", "]", ",", ".", "=", ">", "<", "-", ":", "*",
    "/", "~",
];

/// Cut `text` into words; the last one is always `End`.
pub(crate) fn lex(text: &str) -> Result<Vec<Token>, SyntaxError> {
    let mut lexer = Lexer { text, at: 0 };
    if text.len() > MAX_BYTES {
        return Err(lexer.fault(0..0, SyntaxFault::TooLong { max: MAX_BYTES, len: text.len() }));
    }
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next(tokens.last())?;
        let end = token.kind == TokenKind::End;
        tokens.push(token);
        if end {
            return Ok(tokens);
        }
    }
}

/// A character of a name. C has fewer, but programs in other languages have types and variables too.
fn in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

/// A name, which may be a number: it has to follow a point or an arrow.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(in_name)
}

/// A name that can stand anywhere.
pub(super) fn is_word(text: &str) -> bool {
    is_name(text) && text.starts_with(begins_word)
}

fn begins_word(c: char) -> bool {
    in_name(c) && !c.is_numeric()
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn fault(&self, span: Range<usize>, fault: SyntaxFault) -> SyntaxError {
        SyntaxError::new(self.text, span, fault)
    }

    /// Take the characters for which `keep` holds.
    fn take(&mut self, keep: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let len = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn next(&mut self, last: Option<&Token>) -> Result<Token, SyntaxError> {
        self.take(char::is_whitespace);
        let start = self.at;
        // What touches a point or an arrow is a name, also where it looks like a number: `count.1`.
        let named =
            last.is_some_and(|t| t.span.end == start && matches!(t.kind, TokenKind::Sign("." | "->")));
        let Some(first) = self.rest().chars().next() else {
            return Ok(Token { kind: TokenKind::End, span: start..start });
        };
        let second = self.rest().chars().nth(1);
        let kind = if begins_word(first) || (named && in_name(first)) {
            TokenKind::Ident(self.take(in_name).to_owned())
        } else if first.is_ascii_digit() || (first == '-' && second.is_some_and(|c| c.is_ascii_digit())) {
            self.number()?
        } else if first == '"' {
            self.quoted()?
        } else if let Some(sign) = SIGNS.iter().find(|s| self.rest().starts_with(**s)) {
            self.at += sign.len();
            TokenKind::Sign(sign)
        } else {
            let span = start..start + first.len_utf8();
            return Err(self.fault(span, SyntaxFault::Character { found: first }));
        };
        Ok(Token { kind, span: start..self.at })
    }

    /// A name in double quotes, for names that are not made of words. There are no escapes.
    fn quoted(&mut self) -> Result<TokenKind, SyntaxError> {
        let start = self.at;
        self.at += 1;
        let name = self.take(|c| c != '"');
        if self.rest().is_empty() {
            return Err(self.fault(start..self.at, SyntaxFault::OpenString));
        }
        self.at += 1;
        Ok(TokenKind::Quoted(name.to_owned()))
    }

    /// A number, with the unit that touches it if there is one.
    fn number(&mut self) -> Result<TokenKind, SyntaxError> {
        let start = self.at;
        let negative = self.rest().starts_with('-');
        if negative {
            self.at += 1;
        }
        let number = if self.rest().starts_with("0x") {
            self.at += 2;
            let digits = self.take(|c| c.is_ascii_alphanumeric() || c == '_').replace('_', "");
            let parsed = i128::from_str_radix(&digits, 16);
            let value = parsed.map_err(|e| self.bad_number(start, e.to_string()))?;
            Number::Int(if negative { -value } else { value })
        } else {
            self.decimal(start)?
        };
        if self.rest().starts_with('%') {
            self.at += 1;
            return Ok(TokenKind::Percent(number.as_f64()));
        }
        let unit_at = self.at;
        let unit = self.take(|c| c.is_ascii_alphanumeric() || c == '_');
        if unit.is_empty() {
            return Ok(TokenKind::Number(number));
        }
        let Some((_, unit_ns)) = SpanNs::UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(self.fault(unit_at..self.at, SyntaxFault::Unit { unit: unit.to_owned() }));
        };
        let time = match number {
            Number::Int(n) => u64::try_from(n).ok().and_then(|n| n.checked_mul(*unit_ns)),
            Number::Float(x) => Some(x * *unit_ns as f64)
                .filter(|ns| ns.is_finite() && (0.0..u64::MAX as f64).contains(ns))
                .map(|ns| ns.round() as u64),
        };
        let time = time.ok_or_else(|| self.bad_number(start, "a time is from 0 to 584 years".to_owned()))?;
        Ok(TokenKind::Time(SpanNs(time)))
    }

    fn decimal(&mut self, start: usize) -> Result<Number, SyntaxError> {
        let digit = |c: char| c.is_ascii_digit() || c == '_';
        self.take(digit);
        let mut whole = true;
        let follows = |text: &str, n: usize| text.chars().nth(n).is_some_and(|c| c.is_ascii_digit());
        // The point of `0..100` belongs to the range, and that of `1.5` to the number.
        if self.rest().starts_with('.') && follows(self.rest(), 1) {
            whole = false;
            self.at += 1;
            self.take(digit);
        }
        if self.rest().starts_with(['e', 'E']) {
            let signed = usize::from(self.rest()[1..].starts_with(['+', '-']));
            if follows(self.rest(), 1 + signed) {
                whole = false;
                self.at += 1 + signed;
                self.take(digit);
            }
        }
        let text = self.text[start..self.at].replace('_', "");
        if whole {
            return text.parse().map(Number::Int).map_err(|e| self.bad_number(start, e.to_string()));
        }
        let value: f64 = text.parse().map_err(|e| self.bad_number(start, format!("{e}")))?;
        if value.is_finite() {
            Ok(Number::Float(value))
        } else {
            Err(self.bad_number(start, "it is beyond the largest float".to_owned()))
        }
    }

    fn bad_number(&self, start: usize, why: String) -> SyntaxError {
        let text = self.text[start..self.at].to_owned();
        self.fault(start..self.at, SyntaxFault::Number { text, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        let mut kinds: Vec<_> = lex(text).unwrap().into_iter().map(|t| t.kind).collect();
        assert_eq!(kinds.pop(), Some(TokenKind::End));
        kinds
    }

    #[test]
    fn a_range_of_whole_numbers_is_not_two_floats() {
        let n = |i| TokenKind::Number(Number::Int(i));
        assert_eq!(kinds("0..100"), [n(0), TokenKind::Sign(".."), n(100)]);
        assert_eq!(kinds("-5..=1_000"), [n(-5), TokenKind::Sign("..="), n(1000)]);
        let f = |x| TokenKind::Number(Number::Float(x));
        assert_eq!(kinds("0.5..2.0"), [f(0.5), TokenKind::Sign(".."), f(2.0)]);
        assert_eq!(kinds("1e3 0x1f"), [f(1000.0), n(31)]);
    }

    #[test]
    fn units_belong_to_the_number_that_they_touch() {
        assert_eq!(kinds("1.5s"), [TokenKind::Time(SpanNs(1_500_000_000))]);
        assert_eq!(kinds("500ms 12.5%"), [TokenKind::Time(SpanNs(500_000_000)), TokenKind::Percent(12.5)]);
    }

    #[test]
    fn faults_name_their_place() {
        let span = |text: &str| lex(text).unwrap_err().span;
        assert_eq!(span("each(x >= 3parsecs)"), 11..18);
        assert_eq!(span("each(x ; 3)"), 7..8);
        assert_eq!(span("map(\"open)"), 4..10);
        assert_eq!(span(&"9".repeat(60)), 0..60);
        assert!(matches!(lex(&"x".repeat(5000)).unwrap_err().fault.as_ref(), SyntaxFault::TooLong { .. }));
    }
}
