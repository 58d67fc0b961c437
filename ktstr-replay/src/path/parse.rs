//! Reading a claim's text: what the patterns' own readers are made of.

use std::ops::Range;

use super::error::{SyntaxError, SyntaxFault};
pub(crate) use super::lex::TokenKind;
use super::lex::{Token, lex};
use super::number::{Band, Bound, Cmp, Number};
use super::rows::Aggregate;
use crate::text::{SpanNs, nearest};

/// An enum without data whose values have names in claims, from one list of them.
macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// All of them, by name.
            pub const ALL: &'static [(&'static str, Self)] = &[$(($text, Self::$variant)),*];

            /// Its name in a claim.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
    };
}
pub(crate) use names;

/// A cursor over the words of a claim.
pub(crate) struct Parser<'t> {
    text: &'t str,
    /// What the whole text is, for messages.
    is: &'static str,
    tokens: Vec<Token>,
    at: usize,
    /// How many groups in parentheses are open.
    depth: usize,
}

/// Deepest nesting of groups in parentheses: each takes room on the stack.
const MAX_GROUPS: usize = 64;

impl<'t> Parser<'t> {
    /// For the text of a claim.
    pub(crate) fn claim(text: &'t str) -> Result<Self, SyntaxError> {
        Ok(Self { text, is: "claim", tokens: lex(text)?, at: 0, depth: 0 })
    }

    /// For the text of a path.
    pub(crate) fn path(text: &'t str) -> Result<Self, SyntaxError> {
        Ok(Self { is: "path", ..Self::claim(text)? })
    }

    /// All of the text of a path, as `parse` reads it.
    pub(crate) fn whole<R>(
        text: &'t str,
        parse: impl FnOnce(&mut Self) -> Result<R, SyntaxError>,
    ) -> Result<R, SyntaxError> {
        let mut p = Self::path(text)?;
        let read = parse(&mut p)?;
        p.end()?;
        Ok(read)
    }

    /// For the text of a condition.
    pub(crate) fn condition(text: &'t str) -> Result<Self, SyntaxError> {
        Ok(Self { is: "condition", ..Self::claim(text)? })
    }

    pub(crate) fn peek(&self) -> &TokenKind {
        self.tokens.get(self.at).map_or(&TokenKind::End, |t| &t.kind)
    }

    /// The word behind the current one.
    pub(crate) fn peek_next(&self) -> &TokenKind {
        self.tokens.get(self.at + 1).map_or(&TokenKind::End, |t| &t.kind)
    }

    /// The word so many behind the current one.
    pub(crate) fn peek_at(&self, ahead: usize) -> &TokenKind {
        self.tokens.get(self.at.saturating_add(ahead)).map_or(&TokenKind::End, |t| &t.kind)
    }

    /// Whether the current word touches the one before it.
    pub(crate) fn touches(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        before.is_some_and(|before| before.span.end == self.span().start)
    }

    /// Whether `(TYPE)` begins here: a type is a word, and a group begins with a cast or another group.
    pub(crate) fn cast_follows(&self) -> bool {
        *self.peek() == TokenKind::Sign("(") && matches!(self.peek_next(), TokenKind::Ident(_))
    }

    /// Whether `max(..)` or another aggregate of rows begins here.
    pub(crate) fn aggregate_follows(&self) -> bool {
        let named = |name: &str| Aggregate::ALL.iter().any(|(known, _)| *known == name);
        matches!(self.peek(), TokenKind::Ident(name) if named(name))
            && *self.peek_next() == TokenKind::Sign("(")
    }

    /// Take the parenthesis of a group, if one begins here.
    pub(crate) fn enter_group(&mut self) -> Result<bool, SyntaxError> {
        let begins = *self.peek() == TokenKind::Sign("(") && *self.peek_next() == TokenKind::Sign("(");
        if begins {
            self.deeper(self.span())?;
            self.advance();
        }
        Ok(begins)
    }

    /// What begins at `span` is read by a call within a call: there is an end to that.
    pub(crate) fn deeper(&mut self, span: Range<usize>) -> Result<(), SyntaxError> {
        if self.depth >= MAX_GROUPS {
            return Err(self.fault(span, SyntaxFault::TooDeep { max: MAX_GROUPS }));
        }
        self.depth += 1;
        Ok(())
    }

    /// A group has ended.
    pub(crate) fn leave_group(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    pub(crate) fn span(&self) -> Range<usize> {
        self.tokens.get(self.at).map_or(self.text.len()..self.text.len(), |t| t.span.clone())
    }

    pub(crate) fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len().saturating_sub(1));
    }

    pub(crate) fn fault(&self, span: Range<usize>, fault: SyntaxFault) -> SyntaxError {
        SyntaxError::new(self.text, span, fault)
    }

    /// The current word is not what may stand there.
    pub(crate) fn expected(&self, expected: impl Into<String>) -> SyntaxError {
        let found = match self.peek() {
            TokenKind::End => format!("the end of the {}", self.is),
            other => other.to_string(),
        };
        self.fault(self.span(), SyntaxFault::Expected { expected: expected.into(), found })
    }

    /// Nothing may follow.
    pub(crate) fn end(&self) -> Result<(), SyntaxError> {
        match self.peek() {
            TokenKind::End => Ok(()),
            _ => Err(self.expected(format!("the end of the {}", self.is))),
        }
    }

    pub(crate) fn eat(&mut self, sign: &str) -> bool {
        let there = matches!(self.peek(), TokenKind::Sign(s) if *s == sign);
        if there {
            self.advance();
        }
        there
    }

    pub(crate) fn expect(&mut self, sign: &str) -> Result<(), SyntaxError> {
        if self.eat(sign) { Ok(()) } else { Err(self.expected(format!("`{sign}`"))) }
    }

    pub(crate) fn eat_word(&mut self, word: &str) -> bool {
        let there = matches!(self.peek(), TokenKind::Ident(w) if w == word);
        if there {
            self.advance();
        }
        there
    }

    pub(crate) fn ident(&mut self, what: &str) -> Result<(String, Range<usize>), SyntaxError> {
        match self.peek() {
            TokenKind::Ident(name) => {
                let found = (name.clone(), self.span());
                self.advance();
                Ok(found)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A name, in quotes or not.
    pub(crate) fn name(&mut self, what: &str) -> Result<String, SyntaxError> {
        let (TokenKind::Ident(name) | TokenKind::Quoted(name)) = self.peek() else {
            return Err(self.expected(what));
        };
        let name = name.clone();
        self.advance();
        Ok(name)
    }

    /// The text up to the next `sign`, without blanks at its ends; the cursor is then on its last word. Empty, and the
    /// cursor where it was, when the sign is here or nowhere.
    pub(crate) fn raw_until(&mut self, sign: &str) -> String {
        let ahead = self.tokens.get(self.at..).unwrap_or_default();
        let len = ahead.iter().position(|t| matches!(t.kind, TokenKind::Sign(s) if s == sign)).unwrap_or(0);
        let Some(last) = len.checked_sub(1).and_then(|last| ahead.get(last)) else { return String::new() };
        let text = self.text.get(self.span().start..last.span.end).unwrap_or_default().to_owned();
        self.at += len - 1;
        text
    }

    /// A name out of a list.
    pub(crate) fn name_of<T: Copy>(
        &mut self,
        what: &'static str,
        known: &[(&'static str, T)],
    ) -> Result<T, SyntaxError> {
        let (name, span) = self.ident(what)?;
        if let Some((_, value)) = known.iter().find(|(k, _)| *k == name) {
            return Ok(*value);
        }
        let known: Vec<_> = known.iter().map(|(k, _)| *k).collect();
        let meant = nearest(&name, &known);
        Err(self.fault(span, SyntaxFault::UnknownName { what, name, meant, known }))
    }

    pub(crate) fn number(&mut self) -> Result<Number, SyntaxError> {
        match *self.peek() {
            TokenKind::Number(n) => {
                self.advance();
                Ok(n)
            }
            _ => Err(self.expected("a number")),
        }
    }

    /// A whole number from 0 that fits `T`.
    pub(crate) fn index<T: TryFrom<i128>>(&mut self, what: &str) -> Result<T, SyntaxError> {
        let span = self.span();
        if let TokenKind::Number(Number::Int(n)) = *self.peek()
            && n >= 0
        {
            self.advance();
            return T::try_from(n).map_err(|_| {
                let fault = SyntaxFault::Number { text: n.to_string(), why: format!("too large for {what}") };
                self.fault(span, fault)
            });
        }
        Err(self.expected(what))
    }

    pub(crate) fn time(&mut self) -> Result<SpanNs, SyntaxError> {
        match *self.peek() {
            TokenKind::Time(t) => {
                self.advance();
                Ok(t)
            }
            _ => Err(self.expected("a time such as `3s` or `500ms`")),
        }
    }

    pub(crate) fn percent(&mut self) -> Result<f64, SyntaxError> {
        match *self.peek() {
            TokenKind::Percent(p) if p >= 0.0 => {
                self.advance();
                Ok(p)
            }
            _ => Err(self.expected("a percentage such as `10%`")),
        }
    }

    /// `>= 1` or `in 0..100`, if either follows.
    pub(crate) fn bound_if_any(&mut self) -> Result<Option<Bound>, SyntaxError> {
        if self.eat_word("in") {
            return self.band().map(|b| Some(Bound::In(b)));
        }
        let found = match self.peek() {
            TokenKind::Sign(s) => Cmp::ALL.iter().find(|(sign, _)| sign == s),
            _ => None,
        };
        let Some((_, cmp)) = found else { return Ok(None) };
        self.advance();
        Ok(Some(Bound::Cmp(*cmp, self.number()?)))
    }

    pub(crate) fn bound(&mut self) -> Result<Bound, SyntaxError> {
        let what = "a bound such as `>= 1` or `in 0..100`";
        self.bound_if_any()?.ok_or_else(|| self.expected(what))
    }

    fn band(&mut self) -> Result<Band, SyntaxError> {
        let begin = self.span().start;
        let start = match self.peek() {
            TokenKind::Number(_) => Some(self.number()?),
            _ => None,
        };
        let closed = self.eat("..=");
        if !closed && !self.eat("..") {
            return Err(self.expected("a range such as `0..100`"));
        }
        let end = match self.peek() {
            TokenKind::Number(_) => Some((self.number()?, closed)),
            _ if closed => return Err(self.expected("a number")),
            _ => None,
        };
        let band = Band { start, end };
        let finish = self.tokens[..self.at].last().map_or(begin, |t| t.span.end);
        if band.is_empty() {
            return Err(self.fault(begin..finish, SyntaxFault::EmptyRange { text: band.to_string() }));
        }
        if start.is_none() && end.is_none() {
            return Err(self.expected("a number at an end of the range"));
        }
        Ok(band)
    }

    /// Named arguments, `, name=value` each, up to and with the closing parenthesis. `set` takes the value of
    /// the argument at its position in `known`.
    pub(crate) fn named_args(
        &mut self,
        pattern: &'static str,
        known: &[&'static str],
        mut set: impl FnMut(&mut Self, usize) -> Result<(), SyntaxError>,
    ) -> Result<(), SyntaxError> {
        let mut seen = vec![false; known.len()];
        while self.eat(",") {
            let (name, span) = self.ident("the name of an argument")?;
            let Some(i) = known.iter().position(|k| *k == name) else {
                let meant = nearest(&name, known);
                let known = known.to_vec();
                return Err(self.fault(span, SyntaxFault::UnknownArgument { pattern, name, meant, known }));
            };
            if std::mem::replace(&mut seen[i], true) {
                return Err(self.fault(span, SyntaxFault::Twice { name }));
            }
            self.expect("=")?;
            set(self, i)?;
        }
        if self.eat(")") {
            return Ok(());
        }
        Err(self.expected(if known.is_empty() { "`)`" } else { "`,` or `)`" }))
    }

    /// An argument was never given: the fault is where it could have stood.
    pub(crate) fn missing(
        &self,
        pattern: &'static str,
        name: &'static str,
        example: &'static str,
    ) -> SyntaxError {
        let close = self.tokens[..self.at].last().map_or(0, |t| t.span.start);
        self.fault(close..close, SyntaxFault::Missing { pattern, name, example })
    }
}
