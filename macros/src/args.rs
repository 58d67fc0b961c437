//! `key = value` lists, read against a table of keys.

use std::collections::BTreeMap;

use proc_macro2::{Span, TokenTree};
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Error, Ident, LitBool, LitInt, LitStr, Path, Result, Token, bracketed, parenthesized};

/// Largest number of a [`Shape::Four`].
const FOUR_MAX: u32 = 1024;

/// A key that a macro accepts.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its value looks like.
    pub shape: Shape,
}

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `true`, `false`, or the key alone.
    Flag,
    /// An integer in this range.
    Number {
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
        /// What is counted, for errors.
        of: &'static str,
    },
    /// A string.
    Text,
    /// A list of strings.
    Texts,
    /// A path to an item.
    Path,
    /// One of these words, bare or as a string.
    Word(&'static [&'static str]),
    /// `(a, b, c, d)`, each at least 1.
    Four,
}

/// A value that was given.
#[derive(Clone)]
pub enum Value {
    /// Of [`Shape::Flag`].
    Flag(bool),
    /// Of [`Shape::Number`].
    Number(u64),
    /// Of [`Shape::Text`] or [`Shape::Word`].
    Text(LitStr),
    /// Of [`Shape::Texts`].
    Texts(Vec<LitStr>),
    /// Of [`Shape::Path`].
    Path(Path),
    /// Of [`Shape::Four`].
    Four([u32; 4]),
}

/// The keys that were given, by name.
pub struct Args {
    given: BTreeMap<&'static str, (Ident, Value)>,
}

impl Args {
    /// Read a comma separated list; a trailing comma may follow.
    ///
    /// # Errors
    /// The first key that is unknown or repeated, or whose value does not fit its shape; the error's span is the
    /// key's or the value's.
    pub fn parse(input: ParseStream<'_>, keys: &'static [Key]) -> Result<Self> {
        let mut given: BTreeMap<&'static str, (Ident, Value)> = BTreeMap::new();
        while !input.is_empty() {
            let ident = input.call(Ident::parse_any)?;
            let Some(key) = keys.iter().find(|key| ident == key.name) else {
                let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
                return Err(Error::new(
                    ident.span(),
                    format!("unknown key `{ident}`; the keys are {}", names.join(", ")),
                ));
            };
            let value = key.value(&ident, input)?;
            if given.contains_key(key.name) {
                return Err(Error::new(ident.span(), format!("key `{ident}` is given twice")));
            }
            given.insert(key.name, (ident, value));
            if input.is_empty() {
                break;
            }
            input.parse::<Token![,]>()?;
        }
        Ok(Self { given })
    }

    /// As [`Args::parse`], of tokens that hold nothing else.
    pub fn parse2(tokens: proc_macro2::TokenStream, keys: &'static [Key]) -> Result<Self> {
        (|input: ParseStream<'_>| Self::parse(input, keys)).parse2(tokens)
    }

    /// Where a key was given.
    pub fn span(&self, name: &str) -> Option<Span> {
        self.given.get(name).map(|(ident, _)| ident.span())
    }

    /// A flag, false when it was not given.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.value(name) {
            Some(Value::Flag(flag)) => Some(*flag),
            _ => None,
        }
    }

    /// A number.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.value(name) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// A string or a word.
    pub fn text(&self, name: &str) -> Option<&LitStr> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A list of strings, empty when it was not given.
    pub fn texts(&self, name: &str) -> &[LitStr] {
        match self.value(name) {
            Some(Value::Texts(texts)) => texts,
            _ => &[],
        }
    }

    /// A path.
    pub fn path(&self, name: &str) -> Option<&Path> {
        match self.value(name) {
            Some(Value::Path(path)) => Some(path),
            _ => None,
        }
    }

    /// Four numbers.
    pub fn four(&self, name: &str) -> Option<[u32; 4]> {
        match self.value(name) {
            Some(Value::Four(four)) => Some(*four),
            _ => None,
        }
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.given.get(name).map(|(_, value)| value)
    }
}

impl Key {
    /// The value behind the key `ident`. Errors point at both.
    fn value(&self, ident: &Ident, input: ParseStream<'_>) -> Result<Value> {
        let name = self.name;
        if self.shape == Shape::Flag && (input.is_empty() || input.peek(Token![,])) {
            return Ok(Value::Flag(true));
        }
        if !input.peek(Token![=]) {
            let message = format!("`{name}` needs a value: `{name} = {}`", self.shape.example());
            return Err(Error::new(ident.span(), message));
        }
        input.parse::<Token![=]>()?;
        let begin = input.fork();
        let parsed = self.shape.parse(input);
        let value = match parsed {
            Ok(value) => value,
            Err(_) => return Err(fault(ident, &begin, format!("`{name}` takes {}", self.shape.describe()))),
        };
        let checked = self.shape.check(name, value);
        checked.map_err(|message| fault(ident, &begin, message))
    }
}

/// An error that points at the key and the first token of its value.
fn fault(ident: &Ident, value: ParseStream<'_>, message: String) -> Error {
    match value.parse::<TokenTree>() {
        Ok(first) => Error::new_spanned(quote!(#ident = #first), message),
        Err(_) => Error::new(ident.span(), message),
    }
}

impl Shape {
    /// Read a value of this shape, whatever it is.
    fn parse(self, input: ParseStream<'_>) -> Result<Value> {
        match self {
            Self::Flag => Ok(Value::Flag(input.parse::<LitBool>()?.value)),
            Self::Number { .. } => Ok(Value::Number(input.parse::<LitInt>()?.base10_parse()?)),
            Self::Text => Ok(Value::Text(input.parse()?)),
            Self::Texts => {
                let inner;
                bracketed!(inner in input);
                let list = Punctuated::<LitStr, Token![,]>::parse_terminated(&inner)?;
                Ok(Value::Texts(list.into_iter().collect()))
            }
            Self::Path => Ok(Value::Path(input.parse()?)),
            Self::Word(_) if input.peek(LitStr) => Ok(Value::Text(input.parse()?)),
            Self::Word(_) => {
                let ident = input.call(Ident::parse_any)?;
                Ok(Value::Text(LitStr::new(&ident.to_string(), ident.span())))
            }
            Self::Four => {
                let inner;
                parenthesized!(inner in input);
                let list = Punctuated::<LitInt, Token![,]>::parse_terminated(&inner)?;
                let numbers = list.iter().map(LitInt::base10_parse).collect::<Result<Vec<u32>>>()?;
                match <[u32; 4]>::try_from(numbers) {
                    Ok(four) => Ok(Value::Four(four)),
                    Err(_) => Err(inner.error("not four numbers")),
                }
            }
        }
    }

    /// Whether a value of this shape is one that the key takes; if not, why.
    fn check(self, name: &str, value: Value) -> std::result::Result<Value, String> {
        match (self, &value) {
            (Self::Number { min, of, .. }, Value::Number(0)) if min > 0 => {
                Err(format!("`{name}` is 0; it must be at least {min} {of}"))
            }
            (Self::Number { min, max, of }, Value::Number(number)) if !(min..=max).contains(number) => {
                Err(format!("`{name}` is {number}; it must be from {min} to {max} {of}"))
            }
            (Self::Word(words), Value::Text(word)) if !words.contains(&word.value().as_str()) => {
                Err(format!("`{name}` is one of {}, not `{}`", words.join(", "), word.value()))
            }
            (Self::Four, Value::Four(four)) if four.contains(&0) => {
                Err(format!("`{name}` has a 0; each of {} must be at least 1", self.describe()))
            }
            (Self::Four, Value::Four(four)) if four.iter().any(|&number| number > FOUR_MAX) => {
                Err(format!("`{name}` has a number above {FOUR_MAX}"))
            }
            _ => Ok(value),
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Flag => "`true` or `false`".to_owned(),
            Self::Number { min, max, .. } => format!("an integer from {min} to {max}"),
            Self::Text => "a string".to_owned(),
            Self::Texts => "a list of strings, `[\"..\", \"..\"]`".to_owned(),
            Self::Path => "the path of an item".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Four => "(numa_nodes, llcs, cores, threads)".to_owned(),
        }
    }

    fn example(self) -> String {
        match self {
            Self::Flag => "true".to_owned(),
            Self::Number { min, .. } => min.to_string(),
            Self::Text => "\"..\"".to_owned(),
            Self::Texts => "[\"..\"]".to_owned(),
            Self::Path => "NAME".to_owned(),
            Self::Word(words) => words.first().copied().unwrap_or_default().to_owned(),
            Self::Four => "(1, 1, 2, 1)".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[Key] = &[
        Key { name: "on", shape: Shape::Flag },
        Key { name: "count", shape: Shape::Number { min: 1, max: 9, of: "things" } },
        Key { name: "words", shape: Shape::Texts },
        Key { name: "pick", shape: Shape::Word(&["a", "b"]) },
        Key { name: "four", shape: Shape::Four },
    ];

    fn parse(text: &str) -> Result<Args> {
        (|input: ParseStream<'_>| Args::parse(input, KEYS)).parse_str(text)
    }

    fn error(text: &str) -> String {
        match parse(text) {
            Ok(_) => panic!("`{text}` was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn values_of_every_shape_are_read() -> Result<()> {
        let args = parse(r#"on, count = 3, words = ["x", "y"], pick = b, four = (1, 2, 3, 4),"#)?;
        assert_eq!(args.flag("on"), Some(true));
        assert_eq!(args.number("count"), Some(3));
        assert_eq!(args.texts("words").iter().map(LitStr::value).collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(args.text("pick").map(LitStr::value), Some("b".to_owned()));
        assert_eq!(args.four("four"), Some([1, 2, 3, 4]));
        Ok(())
    }

    #[test]
    fn absent_keys_are_none() -> Result<()> {
        let args = parse("")?;
        assert!(
            args.flag("on").is_none() && args.number("count").is_none() && args.texts("words").is_empty()
        );
        Ok(())
    }

    #[test]
    fn an_unknown_key_lists_the_keys() {
        assert_eq!(error("off"), "unknown key `off`; the keys are on, count, words, pick, four");
    }

    #[test]
    fn a_repeated_key_is_refused_even_with_the_same_value() {
        assert_eq!(error("on, on = true"), "key `on` is given twice");
    }

    #[test]
    fn numbers_outside_of_their_range_are_refused() {
        assert_eq!(error("count = 0"), "`count` is 0; it must be at least 1 things");
        assert_eq!(error("count = 10"), "`count` is 10; it must be from 1 to 9 things");
        assert_eq!(error("count = 99999999999999999999999"), "`count` takes an integer from 1 to 9");
    }

    #[test]
    fn a_value_of_the_wrong_shape_says_what_is_taken() {
        assert_eq!(error("count = \"3\""), "`count` takes an integer from 1 to 9");
        assert_eq!(error("on = 1"), "`on` takes `true` or `false`");
        assert_eq!(error("count"), "`count` needs a value: `count = 1`");
        assert_eq!(error("words = \"x\""), "`words` takes a list of strings, `[\"..\", \"..\"]`");
        assert_eq!(
            error("four = (1, 0, 1, 1)"),
            "`four` has a 0; each of (numa_nodes, llcs, cores, threads) must be at least 1"
        );
        assert_eq!(error("pick = c"), "`pick` is one of a, b, not `c`");
        assert_eq!(error("four = (1, 2)"), "`four` takes (numa_nodes, llcs, cores, threads)");
    }
}
