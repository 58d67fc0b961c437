//! A key that a macro accepts: one row with its shape, its default, its documentation and where it goes.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::{ParseStream, Parser};
use syn::{Error, Ident, Result, Token};

use crate::shape::{Shape, Value};

/// A key. A table of them is all that a macro's parser, defaults, errors and documentation know.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// What it means, for the documentation and for the error when it is missing.
    pub doc: &'static str,
    /// Where its value goes.
    pub place: Place,
    /// What is taken when it is not given, as one would write it. Without one, the field is an `Option` (a list: an
    /// empty one).
    pub default: Option<&'static str>,
    /// It must be given.
    pub required: bool,
    /// Keys without which it makes no sense, each with the rest of the sentence "`KEY` needs".
    pub needs: &'static [(&'static str, &'static str)],
    /// It may not be the empty string: the rest of the sentence "`KEY` is empty".
    pub not_empty: Option<&'static str>,
}

/// Where the value of a key goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Into the field of the same name.
    Field,
    /// Into the topology, where the scheduler's part comes before the default. The rows' order is that of
    /// `resolve_topology`.
    Topology,
    /// Into this variant of `SchedulerSource`. Exactly one such key is given.
    Source(&'static str),
    /// Into the attributes of the `#[test]`.
    TestAttribute,
    /// Into the test's `Assert`, by the method of its name, if it is given; else the scheduler's is taken.
    Limit,
    /// Into the test's `Constraints`, in the same way.
    Constraint,
    /// Among the payloads of the test.
    Payload,
}

/// A key that goes into the field of its name and may be left out.
pub const fn key(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    let place = Place::Field;
    Key { name, shape, doc, place, default: None, required: false, needs: &[], not_empty: None }
}

/// A key that is `false` unless it is given.
pub const fn flag(name: &'static str, doc: &'static str) -> Key {
    key(name, Shape::Flag, doc).default("false")
}

/// The shape of an integer from `min` to `max`; `of` says what is counted.
pub const fn count(min: u64, max: u64, of: &'static str) -> Shape {
    Shape::Number { min, max, of }
}

/// The shape of a number from `min` to `max`; `of` says what is measured.
pub const fn decimal(min: f64, max: f64, of: &'static str) -> Shape {
    Shape::Decimal { min, max, of }
}

impl Key {
    /// With this value when it is not given.
    pub const fn default(self, text: &'static str) -> Self {
        Self { default: Some(text), ..self }
    }

    /// With another place than the field of its name.
    pub const fn place(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// Never left out.
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// Only together with these other keys.
    pub const fn needs(self, needs: &'static [(&'static str, &'static str)]) -> Self {
        Self { needs, ..self }
    }

    /// Never the empty string; `why` ends the error.
    pub const fn not_empty(self, why: &'static str) -> Self {
        Self { not_empty: Some(why), ..self }
    }

    /// Read what stands behind the key `ident`. Errors point at both.
    pub fn read(&self, ident: &Ident, input: ParseStream<'_>) -> Result<Value> {
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
        let fault = match self.shape.parse(input) {
            Ok(value) => match self.shape.fault(name, &value) {
                None => return Ok(value),
                Some(fault) => fault,
            },
            Err(_) => format!("`{name}` takes {}", self.shape.describe()),
        };
        Err(match begin.parse::<proc_macro2::TokenTree>() {
            Ok(first) => Error::new_spanned(quote!(#ident = #first), fault),
            Err(_) => Error::new(ident.span(), fault),
        })
    }

    /// The expression of the default; that of an `Option` where there is none.
    pub fn default_expression(&self) -> Result<TokenStream> {
        let Some(text) = self.default else {
            return Ok(quote!(::core::option::Option::None));
        };
        let value = (|input: ParseStream<'_>| self.shape.parse(input)).parse_str(text)?;
        Ok(self.shape.expression(&value))
    }

    /// The field of this key's name, with the value that was given or its default.
    pub fn field(&self, given: Option<&Value>) -> Result<TokenStream> {
        let name = format_ident!("{}", self.name);
        let expression = match (given, self.default) {
            (None, None) if self.shape.is_list() => quote!(&[]),
            (None, _) => self.default_expression()?,
            (Some(value), None) if !self.shape.is_list() && !self.required => {
                let value = self.shape.expression(value);
                quote!(::core::option::Option::Some(#value))
            }
            (Some(value), _) => self.shape.expression(value),
        };
        Ok(quote!(#name: #expression,))
    }
}

/// What of the keys' rows none of `cases` breaks, by the beginning of the error: each is what somebody will do.
#[cfg(test)]
pub fn without_case(keys: &[Key], cases: &str) -> Vec<String> {
    let needs =
        keys.iter().flat_map(|key| key.needs.iter().map(|(_, why)| format!("`{}` needs {why}", key.name)));
    let empty = keys.iter().filter_map(|key| Some(format!("`{}` is empty{}", key.name, key.not_empty?)));
    needs.chain(empty).filter(|said| !cases.contains(said.as_str())).collect()
}

/// The documentation of the keys, as a Markdown table in a doc comment of Rust.
#[cfg(test)]
pub fn doc_table(keys: &[Key]) -> String {
    let mut table = "/// | key | takes | default | meaning |\n/// |---|---|---|---|\n".to_owned();
    for key in keys {
        let default = match (key.place, key.default, key.required) {
            (Place::Source(_), ..) => "one of these is needed".to_owned(),
            (Place::Topology | Place::Limit | Place::Constraint, Some(text), _) => {
                format!("the scheduler's, else {text}")
            }
            (Place::Limit, None, _) => "the scheduler's, else none".to_owned(),
            (_, Some(text), _) => text.to_owned(),
            (_, None, true) => "required".to_owned(),
            (_, None, false) => "none".to_owned(),
        };
        table.push_str(&format!(
            "/// | `{}` | {} | {default} | {} |\n",
            key.name,
            key.shape.describe(),
            key.doc
        ));
    }
    table
}
