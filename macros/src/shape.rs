//! What the value of a key looks like: how it is read, checked, described, and written into the expansion.

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, format_ident, quote};
use regex_lite::Regex;
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::{Expr, Ident, LitBool, LitFloat, LitInt, LitStr, Path, Result, Token, bracketed, parenthesized};

/// Largest number of a [`Shape::Four`].
const FOUR_MAX: u32 = 1024;

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// An integer or a decimal fraction in this range.
    Decimal {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
        /// What is measured, for errors.
        of: &'static str,
    },
    /// A constant expression of a type of the prelude.
    Expression {
        /// The type.
        of: &'static str,
    },
    /// A string.
    Text,
    /// A regular expression, which some text does not match.
    Pattern,
    /// A list of strings.
    Texts,
    /// A path to a const, which becomes a reference.
    Const,
    /// A list of strings of the form `NAME=VALUE`.
    Settings,
    /// Two strings, `("..", "..")`.
    Pair,
    /// A list of paths to consts, which become references.
    Consts,
    /// A list of paths of files, or a path to a function that names files.
    Files,
    /// A path to a function that judges on the host; the path is its label.
    HostCheck,
    /// One of these words, bare or as a string; each is a variant of an enum.
    Word {
        /// The enum, by its name in `ktstr::__private`.
        of: &'static str,
        /// The variants' names in lower case.
        words: &'static [&'static str],
    },
    /// `(a, b, c, d)`, each at least 1: the counts of a topology.
    Four,
}

/// A value that was given.
#[derive(Clone)]
pub enum Value {
    /// Of [`Shape::Flag`].
    Flag(bool),
    /// Of [`Shape::Number`].
    Number(u64),
    /// Of [`Shape::Decimal`].
    Decimal(f64),
    /// Of [`Shape::Expression`].
    Expression(Box<Expr>),
    /// Of [`Shape::Text`], [`Shape::Pattern`] or [`Shape::Word`].
    Text(LitStr),
    /// Of [`Shape::Texts`], [`Shape::Settings`] and [`Shape::Files`].
    Texts(Vec<LitStr>),
    /// Of [`Shape::Pair`].
    Pair(LitStr, LitStr),
    /// Of [`Shape::Consts`].
    Paths(Vec<Path>),
    /// Of [`Shape::Const`], [`Shape::Files`] and [`Shape::HostCheck`].
    Path(Path),
    /// Of [`Shape::Four`].
    Four([u32; 4]),
}

impl Shape {
    /// Its value is a list, which is empty when it is not given.
    pub fn is_list(self) -> bool {
        matches!(self, Self::Texts | Self::Settings | Self::Consts)
    }

    /// Read a value of this shape, whatever it is.
    pub fn parse(self, input: ParseStream<'_>) -> Result<Value> {
        match self {
            Self::Flag => Ok(Value::Flag(input.parse::<LitBool>()?.value)),
            Self::Number { .. } => Ok(Value::Number(input.parse::<LitInt>()?.base10_parse()?)),
            Self::Decimal { .. } if input.peek(LitFloat) => {
                Ok(Value::Decimal(input.parse::<LitFloat>()?.base10_parse()?))
            }
            Self::Decimal { .. } => Ok(Value::Decimal(input.parse::<LitInt>()?.base10_parse()?)),
            Self::Expression { .. } => Ok(Value::Expression(Box::new(input.parse()?))),
            Self::Text | Self::Pattern => Ok(Value::Text(input.parse()?)),
            Self::Pair => {
                let inner;
                parenthesized!(inner in input);
                let first = inner.parse()?;
                inner.parse::<Token![,]>()?;
                let second = inner.parse()?;
                inner.parse::<Option<Token![,]>>()?;
                if inner.is_empty() {
                    Ok(Value::Pair(first, second))
                } else {
                    Err(inner.error("more than two"))
                }
            }
            Self::Files if !input.peek(syn::token::Bracket) => Ok(Value::Path(input.parse()?)),
            Self::Texts | Self::Settings | Self::Files => {
                let inner;
                bracketed!(inner in input);
                let list = Punctuated::<LitStr, Token![,]>::parse_terminated(&inner)?;
                Ok(Value::Texts(list.into_iter().collect()))
            }
            Self::Consts => {
                let inner;
                bracketed!(inner in input);
                let list = Punctuated::<Path, Token![,]>::parse_terminated(&inner)?;
                Ok(Value::Paths(list.into_iter().collect()))
            }
            Self::Const | Self::HostCheck => Ok(Value::Path(input.parse()?)),
            Self::Word { .. } if input.peek(LitStr) => Ok(Value::Text(input.parse()?)),
            Self::Word { .. } => {
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

    /// Why a value of this shape is not one that the key `name` takes.
    pub fn fault(self, name: &str, value: &Value) -> Option<String> {
        match (self, value) {
            (Self::Number { min, of, .. }, Value::Number(0)) if min > 0 => {
                Some(format!("`{name}` is 0; it must be at least {min} {of}"))
            }
            (Self::Number { min, max, of }, Value::Number(number)) if !(min..=max).contains(number) => {
                Some(format!("`{name}` is {number}; it must be from {min} to {max} {of}"))
            }
            (Self::Decimal { min, max, of }, Value::Decimal(number)) if !(min..=max).contains(number) => {
                Some(format!("`{name}` is {number}; it must be from {min} to {max} {of}"))
            }
            (Self::Word { words, .. }, Value::Text(word)) if !words.contains(&word.value().as_str()) => {
                Some(format!("`{name}` is one of {}, not `{}`", words.join(", "), word.value()))
            }
            (Self::Pattern, Value::Text(text)) => match Regex::new(&text.value()) {
                Err(error) => Some(format!("`{name}` is no regular expression: {error}")),
                Ok(pattern) if pattern.is_match("") => {
                    Some(format!("`{name}` matches the empty text, and so every one"))
                }
                Ok(_) => None,
            },
            (Self::Settings, Value::Texts(texts)) => {
                let is_setting = |text: &str| {
                    text.split_once('=')
                        .is_some_and(|(name, value)| !name.trim().is_empty() && !value.trim().is_empty())
                };
                let odd = texts.iter().map(LitStr::value).find(|text| !is_setting(text))?;
                Some(format!("`{name}` has {odd:?}, which is not of the form \"NAME=VALUE\""))
            }
            (Self::Files, Value::Texts(texts)) => {
                texts.iter().find_map(|text| include_fault(name, &text.value()))
            }
            (Self::Four, Value::Four(four)) if four.contains(&0) => {
                Some(format!("`{name}` has a 0; each of {} must be at least 1", self.describe()))
            }
            (Self::Four, Value::Four(four)) if four.iter().any(|&number| number > FOUR_MAX) => {
                Some(format!("`{name}` has a number above {FOUR_MAX}"))
            }
            _ => None,
        }
    }

    /// What is taken, for errors and the documentation.
    pub fn describe(self) -> String {
        match self {
            Self::Flag => "`true` or `false`".to_owned(),
            Self::Number { min, max: u64::MAX, .. } => format!("an integer from {min}"),
            Self::Number { min, max, .. } => format!("an integer from {min} to {max}"),
            Self::Decimal { min, max, .. } => format!("a number from {min} to {max}"),
            Self::Expression { of } => format!("a constant expression of type `{of}`"),
            Self::Text => "a string".to_owned(),
            Self::Pattern => "a regular expression, `r\"..\"`".to_owned(),
            Self::Texts => "a list of strings, `[\"..\", \"..\"]`".to_owned(),
            Self::Settings => "a list of settings, `[\"NAME=VALUE\", \"..\"]`".to_owned(),
            Self::Pair => "two strings, `(\"..\", \"..\")`".to_owned(),
            Self::Const => "the path of a const".to_owned(),
            Self::Consts => "a list of paths of consts, `[A, B]`".to_owned(),
            Self::Files => "a list of paths, `[\"..\", \"..\"]`, or the path of a function".to_owned(),
            Self::HostCheck => "the path of a function".to_owned(),
            Self::Word { words, .. } => format!("one of {}", words.join(", ")),
            Self::Four => "(numa_nodes, llcs, cores, threads)".to_owned(),
        }
    }

    /// A value, for the error of a key without one.
    pub fn example(self) -> String {
        match self {
            Self::Flag => "true".to_owned(),
            Self::Number { min, .. } => min.to_string(),
            Self::Decimal { min, .. } => min.to_string(),
            Self::Expression { .. } => "NAME".to_owned(),
            Self::Text => "\"..\"".to_owned(),
            Self::Pattern => "r\"..\"".to_owned(),
            Self::Texts => "[\"..\"]".to_owned(),
            Self::Settings => "[\"NAME=VALUE\"]".to_owned(),
            Self::Pair => "(\"..\", \"..\")".to_owned(),
            Self::Consts => "[NAME]".to_owned(),
            Self::Files => "[\"..\"]".to_owned(),
            Self::Const | Self::HostCheck => "NAME".to_owned(),
            Self::Word { words, .. } => words.first().copied().unwrap_or_default().to_owned(),
            Self::Four => "(1, 1, 2, 1)".to_owned(),
        }
    }

    /// The expression that a value becomes.
    pub fn expression(self, value: &Value) -> TokenStream {
        match value {
            Value::Flag(flag) => quote!(#flag),
            Value::Number(number) => Literal::u64_unsuffixed(*number).into_token_stream(),
            Value::Decimal(number) => Literal::f64_unsuffixed(*number).into_token_stream(),
            Value::Expression(expression) => expression.to_token_stream(),
            Value::Text(word) => match self {
                Self::Word { of, .. } => {
                    let (of, variant) = (format_ident!("{of}"), variant(&word.value(), word.span()));
                    quote!(::ktstr::__private::#of::#variant)
                }
                _ => quote!(#word),
            },
            Value::Texts(texts) => match self {
                Self::Files => quote!(::ktstr::__private::IncludeFiles::Paths(&[#(#texts),*])),
                _ => quote!(&[#(#texts),*]),
            },
            Value::Pair(first, second) => quote!((#first, #second)),
            Value::Paths(paths) => quote!(&[#(&#paths),*]),
            Value::Path(path) => match self {
                Self::Const => quote!(&#path),
                Self::HostCheck => {
                    let label = path.to_token_stream().to_string().replace(' ', "");
                    quote!(::ktstr::__private::HostCheck { label: #label, run: #path })
                }
                _ => quote!(::ktstr::__private::IncludeFiles::By(#path)),
            },
            Value::Four([numa_nodes, llcs, cores, threads]) => quote!(::ktstr::__private::Topology {
                numa_nodes: #numa_nodes, llcs: #llcs, cores_per_llc: #cores, threads_per_core: #threads,
            }),
        }
    }
}

/// Why a text of the key `name` names no file to include: `PATH`, or `PATH:/PATH/IN/GUEST`.
pub fn include_fault(name: &str, text: &str) -> Option<String> {
    let (host, guest) = text.rsplit_once(":/").map_or((text, None), |(host, guest)| (host, Some(guest)));
    let climbs = |path: &str| path.split('/').any(|part| part == "..");
    if host.is_empty() || guest.is_some_and(str::is_empty) {
        return Some(format!(
            "`{name}` has {text:?}, which names no file: write \"PATH\" or \"PATH:/PATH/IN/GUEST\""
        ));
    }
    if guest.is_some_and(climbs) || (guest.is_none() && climbs(host)) {
        return Some(format!(
            "`{name}` has {text:?}, and a path in the guest cannot have `..`: say where it is to be, as \"PATH:/PATH/IN/GUEST\""
        ));
    }
    None
}

/// The variant that a word means: `every` is `Every`.
fn variant(word: &str, span: proc_macro2::Span) -> Ident {
    let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
    Ident::new(&format!("{}{rest}", first.to_ascii_uppercase()), span)
}
