//! `#[derive(Payload)]`.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Expr, ExprCall, Fields, LitStr, Result, Token};

use crate::args::{Args, Faults};
use crate::key::{Key, key};
use crate::shape::{Shape, Value, include_fault};

/// The keys of `#[payload(..)]`, in the order in which errors list them.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("binary", Shape::Text,
        "the program: a name on `PATH` or in `package`, or a path relative to the folder of the Rust package, where it has a `/`")
        .required().not_empty(", which is the name of no program"),
    key("package", Shape::Text,
        "package of the distribution that has the program, for hosts on whose `PATH` it is not"),
    key("output", Shape::Word { of: "PayloadOutput", words: &["Json", "ExitCode"] },
        "what is made of its output: the numbers of the JSON that it writes are metrics, or only its exit code counts")
        .default("ExitCode"),
    key("name", Shape::Text,
        "what reports and claims call it; without it, the struct's name in snake case"),
];

/// The keys of `#[metric(..)]`.
#[rustfmt::skip]
pub const METRIC_KEYS: &[Key] = &[
    key("name", Shape::Text,
        "its path in the JSON, with dots between: `jobs.0.read.iops`").required().not_empty(", which is the path of no number"),
    key("polarity", Shape::Word { of: "Polarity", words: &["Neutral", "HigherBetter", "LowerBetter"] },
        "which of two values is the better one, for reports").default("Neutral"),
    key("unit", Shape::Text,
        "its unit, for reports").default("\"\""),
];

/// Each check with the number of its arguments.
const CHECKS: [(&str, usize); 5] = [("min", 2), ("max", 2), ("range", 3), ("exists", 1), ("exit_code_eq", 1)];

/// Longest name of a payload, in bytes.
const MAX_NAME: usize = 64;

/// The definition of a payload.
///
/// # Errors
/// Everything that cannot be right: what is no struct without fields, keys that are unknown or given twice, a check that does not
/// exist, metrics without JSON. All that can be found independently of each other at once.
pub fn expand(input: TokenStream) -> Result<TokenStream> {
    let input: DeriveInput = syn::parse2(input)?;
    check_shape(&input)?;
    let of_name = |name: &'static str| input.attrs.iter().filter(move |attr| attr.path().is_ident(name));
    let mut payloads = of_name("payload");
    let Some(attr) = payloads.next() else {
        let message = "a payload says what program it is: add `#[payload(binary = \"..\")]`";
        return Err(Error::new(input.ident.span(), message));
    };
    if let Some(again) = payloads.next() {
        return Err(Error::new(
            again.path().span(),
            "`#[payload(..)]` is given twice: put all keys into one",
        ));
    }
    let args = keys_of(attr, KEYS)?;
    let mut faults = Faults::default();
    args.check_rows(attr.path().span(), &mut faults);
    let name = name(&args, &input, &mut faults);
    check_package(&args, &mut faults);

    let mut arguments: Vec<LitStr> = Vec::new();
    for attr in of_name("default_args") {
        arguments.extend(texts(attr)?);
    }
    let mut files: Vec<LitStr> = Vec::new();
    for attr in of_name("include_files") {
        files.extend(texts(attr)?);
    }
    for file in &files {
        if let Some(fault) = include_fault("include_files", &file.value()) {
            faults.add(file.span(), fault);
        }
    }
    let metrics = metrics(of_name("metric"), &mut faults)?;
    let checks = checks(of_name("default_check"), &mut faults)?;
    let is_json = matches!(args.value("output"), Some(Value::Text(word)) if word.value() == "Json");
    if !is_json {
        for metric in &metrics {
            faults.add(
                metric.name.span(),
                "a metric is a number of JSON: add `output = Json` to `#[payload(..)]`",
            );
        }
        for check in checks.iter().filter(|check| check.name != "exit_code_eq") {
            faults.add(check.span, "a check of a metric needs JSON: add `output = Json` to `#[payload(..)]`");
        }
    }
    faults.into_result()?;

    let ident = &input.ident;
    let expression = |key: &str, otherwise: TokenStream| match (
        args.value(key),
        KEYS.iter().find(|row| row.name == key),
    ) {
        (Some(value), Some(row)) => row.shape.expression(value),
        _ => otherwise,
    };
    let binary = expression("binary", quote!(""));
    let output = expression("output", quote!(::ktstr::__private::PayloadOutput::ExitCode));
    let package = match args.value("package") {
        Some(Value::Text(package)) => quote!(::core::option::Option::Some(#package)),
        _ => quote!(::core::option::Option::None),
    };
    let metrics = metrics.iter().map(|metric| &metric.tokens);
    let checks = checks.iter().map(|check| &check.tokens);
    Ok(quote! {
        impl ::ktstr::prelude::Payload for #ident {
            const DEFINITION: &'static ::ktstr::__private::PayloadDef = &::ktstr::__private::PayloadDef {
                name: #name,
                binary: #binary,
                package: #package,
                output: #output,
                args: &[#(#arguments),*],
                metrics: &[#(#metrics),*],
                checks: &[#(#checks),*],
                include_files: &[#(#files),*],
                manifest_dir: ::core::env!("CARGO_MANIFEST_DIR"),
            };
        }
    })
}

fn check_shape(input: &DeriveInput) -> Result<()> {
    let is_unit = matches!(&input.data, Data::Struct(data) if matches!(data.fields, Fields::Unit));
    if is_unit && input.generics.params.is_empty() {
        return Ok(());
    }
    let message = format!("a payload is a struct without fields and parameters: `struct {};`", input.ident);
    Err(Error::new(input.ident.span(), message))
}

fn keys_of(attr: &Attribute, keys: &'static [Key]) -> Result<Args> {
    match &attr.meta {
        syn::Meta::List(list) => Args::parse2(list.tokens.clone(), keys),
        _ => Args::parse2(TokenStream::new(), keys),
    }
}

/// The strings of `#[default_args("..", "..")]`.
fn texts(attr: &Attribute) -> Result<Vec<LitStr>> {
    let name = attr.path().get_ident().map(ToString::to_string).unwrap_or_default();
    let wrong =
        || Error::new(attr.path().span(), format!("`{name}` takes strings: `#[{name}(\"..\", \"..\")]`"));
    let list = attr.meta.require_list().map_err(|_| wrong())?;
    let texts =
        Punctuated::<LitStr, Token![,]>::parse_terminated.parse2(list.tokens.clone()).map_err(|_| wrong())?;
    if texts.is_empty() { Err(wrong()) } else { Ok(texts.into_iter().collect()) }
}

fn name(args: &Args, input: &DeriveInput, faults: &mut Faults) -> String {
    let Some(Value::Text(given)) = args.value("name") else { return snake_case(&input.ident.to_string()) };
    let name = given.value();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(plain);
    if !good || name.len() > MAX_NAME {
        let message = format!(
            "`{name}` cannot be a payload's name: it begins with a letter and is made of ASCII letters, digits, `_` and `-`, at most \
             {MAX_NAME}"
        );
        faults.add(given.span(), message);
    }
    name
}

/// The form of a package's name: what has another one could be an option of apt.
fn check_package(args: &Args, faults: &mut Faults) {
    let Some(Value::Text(package)) = args.value("package") else { return };
    let name = package.value();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if name.len() < 2 || !begins || !name.bytes().all(plain) {
        let message = format!(
            "`{name}` is no name of a package: it is made of at least two lower-case letters, digits, `+`, `-` and `.`"
        );
        faults.add(package.span(), message);
    }
    if matches!(args.value("binary"), Some(Value::Text(binary)) if binary.value().contains('/')) {
        faults.add(
            package.span(),
            "`binary` is a path, and a program of a package has a name: leave one of them out",
        );
    }
}

/// `StressNg` is `stress_ng`.
fn snake_case(ident: &str) -> String {
    let mut name = String::new();
    for (i, c) in ident.trim_start_matches("r#").chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 && !name.ends_with('_') {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

struct Metric {
    name: LitStr,
    tokens: TokenStream,
}

fn metrics<'a>(attrs: impl Iterator<Item = &'a Attribute>, faults: &mut Faults) -> Result<Vec<Metric>> {
    let mut metrics: Vec<Metric> = Vec::new();
    for attr in attrs {
        let args = keys_of(attr, METRIC_KEYS)?;
        args.check_rows(attr.path().span(), faults);
        let fields = args.fields()?;
        let Some(Value::Text(name)) = args.value("name") else { continue };
        if metrics.iter().any(|other| other.name.value() == name.value()) {
            faults.add(name.span(), format!("the metric `{}` is given twice", name.value()));
        }
        let tokens = quote!(::ktstr::__private::MetricDef { #fields });
        metrics.push(Metric { name: name.clone(), tokens });
    }
    Ok(metrics)
}

struct Check {
    name: String,
    span: Span,
    tokens: TokenStream,
}

fn checks<'a>(attrs: impl Iterator<Item = &'a Attribute>, faults: &mut Faults) -> Result<Vec<Check>> {
    let mut checks: Vec<Check> = Vec::new();
    for attr in attrs {
        let example = "`default_check` takes checks: `#[default_check(min(\"path.of.metric\", 1.0))]`";
        let wrong = || Error::new(attr.path().span(), example);
        let list = attr.meta.require_list().map_err(|_| wrong())?;
        let calls = Punctuated::<ExprCall, Token![,]>::parse_terminated.parse2(list.tokens.clone());
        let calls = calls.map_err(|_| wrong())?;
        if calls.is_empty() {
            return Err(wrong());
        }
        for call in calls {
            let check = check(&call)?;
            if check.name == "exit_code_eq" && checks.iter().any(|other| other.name == check.name) {
                faults.add(check.span, "`exit_code_eq` is given twice: a program exits with one code");
            }
            checks.push(check);
        }
    }
    Ok(checks)
}

/// `min("a.b", 1.0)`, or the same behind `MetricCheck::`.
fn check(call: &ExprCall) -> Result<Check> {
    let names = CHECKS.map(|(name, _)| name).join(", ");
    let span = call.func.span();
    let Expr::Path(path) = &*call.func else {
        return Err(Error::new(span, format!("a check is one of {names}")));
    };
    let name = path.path.segments.last().map(|segment| segment.ident.clone());
    let Some(name) = name else { return Err(Error::new(span, format!("a check is one of {names}"))) };
    let known = CHECKS.iter().find(|(known, _)| name == known);
    let Some((_, count)) = known else {
        return Err(Error::new(name.span(), format!("`{name}` is no check; the checks are {names}")));
    };
    if call.args.len() != *count {
        let message = format!("`{name}` takes {count} argument{}", if *count == 1 { "" } else { "s" });
        return Err(Error::new(span, message));
    }
    let args = &call.args;
    let tokens = quote!(::ktstr::prelude::MetricCheck::#name(#args));
    Ok(Check { name: name.to_string(), span, tokens })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::doc_table;

    fn expanded(text: &str) -> Result<String> {
        Ok(expand(text.parse().expect("tokens"))?.to_string())
    }

    fn errors(text: &str) -> Vec<String> {
        let error = expanded(text).err();
        error.into_iter().flatten().map(|error| error.to_string()).collect()
    }

    #[test]
    fn the_documentation_has_a_row_for_each_key() {
        let page = include_str!("../../docs/payloads.md");
        for keys in [KEYS, METRIC_KEYS] {
            let table = doc_table(keys);
            assert!(include_str!("lib.rs").contains(&table), "the docs of `Payload` must have:\n{table}");
            let table = table.replace("/// ", "");
            assert!(page.contains(&table), "docs/payloads.md must have:\n{table}");
        }
    }

    #[test]
    fn everything_that_is_given_is_in_the_definition() -> Result<()> {
        let text = expanded(
            "#[payload(binary = \"fio\", package = \"fio\", output = Json)]
             #[default_args(\"-a\", \"-b\")] #[default_args(\"-c\")]
             #[metric(name = \"x.y\", polarity = LowerBetter, unit = \"ns\")]
             #[default_check(min(\"x.y\", 1.0), MetricCheck::exit_code_eq(0))]
             #[include_files(\"jobs\")]
             struct RandReads;",
        )?;
        for part in [
            "for RandReads",
            "name : \"rand_reads\"",
            "binary : \"fio\"",
            "Some (\"fio\")",
            "PayloadOutput :: Json",
            "args : & [\"-a\" , \"-b\" , \"-c\"]",
            "MetricDef { name : \"x.y\" , polarity : :: ktstr :: __private :: Polarity :: LowerBetter , unit : \"ns\"",
            "MetricCheck :: min (\"x.y\" , 1.0)",
            "MetricCheck :: exit_code_eq (0)",
            "include_files : & [\"jobs\"]",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        Ok(())
    }

    #[test]
    fn names_are_snake_case_unless_given() {
        assert_eq!(
            ["Fio", "StressNg", "HTTPLoad", "a_b"].map(snake_case),
            ["fio", "stress_ng", "h_t_t_p_load", "a_b"]
        );
        let text = expanded("#[payload(binary = \"a\", name = \"b-2\")] struct A;").expect("a payload");
        assert!(text.contains("name : \"b-2\""), "{text}");
    }

    #[test]
    fn what_cannot_be_right_is_told_all_at_once() {
        let found = errors(
            "#[payload(binary = \"a/b\", package = \"-x\", name = \"1\")]
             #[metric(name = \"m\")] #[metric(name = \"m\")]
             #[default_check(exists(\"m\"))] #[default_check(exit_code_eq(0), exit_code_eq(1))]
             #[include_files(\"../x\")]
             struct A;",
        );
        assert_eq!(found.len(), 9, "{found:#?}");
    }

    #[test]
    fn each_fault_of_its_own_is_told() {
        for (text, words) in [
            ("struct A;", "#[payload(binary"),
            ("#[payload(binary = \"a\")] struct A { x: u8 }", "`struct A;`"),
            ("#[payload(binary = \"a\")] struct A<T>;", "`struct A;`"),
            ("#[payload(binary = \"a\")] enum A {}", "`struct A;`"),
            ("#[payload(binary = \"a\")] #[payload(name = \"b\")] struct A;", "given twice"),
            ("#[payload(name = \"a\")] struct A;", "`binary` is missing"),
            ("#[payload] struct A;", "`binary` is missing"),
            ("#[payload(binary = \"\")] struct A;", "`binary` is empty"),
            ("#[payload(binry = \"a\")] struct A;", "unknown key `binry`"),
            ("#[payload(binary = \"a\", output = Text)] struct A;", "one of Json, ExitCode"),
            ("#[payload(binary = \"a\")] #[default_args(1)] struct A;", "`default_args` takes strings"),
            ("#[payload(binary = \"a\")] #[default_args] struct A;", "`default_args` takes strings"),
            ("#[payload(binary = \"a\")] #[default_check(mn(\"a\", 1.0))] struct A;", "`mn` is no check"),
            ("#[payload(binary = \"a\")] #[default_check(min(\"a\"))] struct A;", "`min` takes 2 arguments"),
            ("#[payload(binary = \"a\")] #[default_check(1)] struct A;", "`default_check` takes checks"),
        ] {
            let found = errors(text);
            assert!(found.iter().any(|error| error.contains(words)), "{text}: {found:?}");
        }
    }
}
