//! `declare_scheduler!`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, Ident, LitStr, Result, Token, Visibility, braced};

use crate::args::{Args, Faults};
use crate::key::Place::Source;
use crate::key::{Key, Place, count, key};
use crate::shape::{Shape, Value};
use crate::test_keys::MAX_ENABLE_S;

/// Every key, in the order in which errors list them. To add one: a row here, and the field of `Scheduler` that it
/// fills; the test below then prints the row of the documentation.
#[rustfmt::skip]
const KEYS: &[Key] = &[
    key("name", Shape::Text,
        "what reports call the scheduler").required(),
    key("binary", Shape::Text,
        "a package of the workspace, or a program beside the test binary or on `PATH`; `KTSTR_SCHEDULER` overrides")
        .place(Source("Binary")).not_empty(""),
    key("binary_path", Shape::Text,
        "path of the program, relative to the package's folder")
        .place(Source("Path")).not_empty(""),
    key("source", Shape::Text,
        "folder with C sources that ktstr builds, relative to the package's folder")
        .place(Source("CSource")).not_empty(""),
    key("crates", Shape::Text,
        "a version of a package of the registry, as `scx_lavd@1.1.4`, which ktstr builds once")
        .place(Source("Crate")).not_empty(""),
    key("enable", Shape::Texts,
        "lines `echo VALUE > /path` that are run in the guest before it is started; without a program they are what switches on a \
         scheduler that is part of the kernel")
        .needs(&[("disable", "`disable`, with the lines that undo it")]),
    key("disable", Shape::Texts,
        "the same for its end: they are run however the run ends")
        .needs(&[("enable", "`enable`: without it there is nothing to undo")]),
    key("sched_args", Shape::Texts,
        "its arguments"),
    key("topology", Shape::Four,
        "the topology of tests that give none"),
    key("kargs", Shape::Texts,
        "words for the kernel's command line"),
    key("sysctls", Shape::Settings,
        "kernel parameters that are set before it is started, as `kernel.sched_rt_runtime_us=-1`"),
    key("config_file", Shape::Text,
        "its configuration, a path relative to the package's folder: in the guest it is where `{file}` in `sched_args` says, or \
         behind `--config`")
        .not_empty(""),
    key("config_file_def", Shape::Pair,
        "how it takes a configuration that each test gives as `config`: its arguments, with `{file}` for the path, and the path in \
         the guest: `(\"--config {file}\", \"/etc/mine.json\")`"),
    key("cgroup_parent", Shape::Text,
        "the cgroup that its tests make theirs in, as `workload.slice/tests`, for a scheduler that goes by their paths")
        .not_empty(", which is where cgroups are anyway"),
    key("enable_timeout_s", count(1, MAX_ENABLE_S, "s until it is enabled"),
        "how long it may take to become enabled, for tests that do not say"),
    key("assert", Shape::Expression { of: "Assert" },
        "limits for all tests of it, where a test does not set its own"),
    key("constraints", Shape::Expression { of: "Constraints" },
        "machines of the gauntlet for all tests of it, where a test does not set its own bounds"),
    key("kernels", Shape::Text,
        "the kernels that it is for, as `7.1..` or `6.16..7.2` with both ends in it: on another one its tests are skipped"),
];

struct Declaration {
    attrs: Vec<Attribute>,
    vis: Visibility,
    ident: Ident,
    args: Args,
}

impl Parse for Declaration {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let ident = input.parse()?;
        input.parse::<Token![,]>()?;
        let inner;
        braced!(inner in input);
        let args = Args::parse(&inner, KEYS)?;
        if input.peek(Token![,]) {
            input.parse::<Token![,]>()?;
        }
        Ok(Self { attrs, vis, ident, args })
    }
}

/// The const of a scheduler.
///
/// # Errors
/// What [`Args::parse`] refuses, a missing or reserved name, none or several of the keys that say where the
/// program comes from, a topology whose LLCs do not divide among its nodes.
pub fn expand(input: TokenStream) -> Result<TokenStream> {
    let Declaration { attrs, vis, ident, args } = syn::parse2(input)?;
    let mut faults = Faults::default();
    args.check_rows(ident.span(), &mut faults);
    faults.into_result()?;
    let name = match args.value("name") {
        Some(Value::Text(name)) => check_name(name)?,
        _ => String::new(),
    };
    if let Some(Value::Four([numa_nodes, llcs, ..])) = args.value("topology")
        && !llcs.is_multiple_of(*numa_nodes)
    {
        let message = format!(
            "`topology` has {llcs} LLCs in all, which is not a multiple of its {numa_nodes} NUMA nodes"
        );
        return Err(Error::new(args.span("topology").unwrap_or_else(|| ident.span()), message));
    }
    if let Some(Value::Text(package)) = args.value("crates") {
        check_crate(package)?;
    }
    if let Some(Value::Text(range)) = args.value("kernels") {
        check_kernels(range)?;
    }
    check_lines(&args)?;
    check_config(&args)?;
    check_cgroup_parent(&args)?;
    let (source, fields) = (source(&ident, &args)?, args.fields()?);
    let doc = format!("The scheduler `{name}`.");
    let doc = (!attrs.iter().any(|attr| attr.path().is_ident("doc"))).then(|| quote!(#[doc = #doc]));
    Ok(quote! {
        #doc
        #(#attrs)*
        #vis const #ident: ::ktstr::__private::Scheduler = ::ktstr::__private::Scheduler {
            source: #source,
            manifest_dir: ::core::env!("CARGO_MANIFEST_DIR"),
            #fields
        };
    })
}

/// Where the program comes from, by the one key that says it.
fn source(ident: &Ident, args: &Args) -> Result<TokenStream> {
    let rows: Vec<&Key> = args.at(|place| matches!(place, Place::Source(_))).collect();
    let mut given = rows.iter().filter_map(|key| Some((key, args.span(key.name)?)));
    let list = || rows.iter().map(|key| format!("`{}`", key.name)).collect::<Vec<_>>().join(", ");
    let Some((first, _)) = given.next() else {
        if !args.is_set("enable") {
            let or = "or `enable` and `disable` for a scheduler that is part of the kernel";
            return Err(Error::new(ident.span(), format!("no program: give one of {}, {or}", list())));
        }
        if let Some(key) = OF_PROGRAM.iter().find(|key| args.is_set(key)) {
            let message = format!("`{key}` needs a program: give one of {}", list());
            return Err(Error::new(args.span(key).unwrap_or_else(|| ident.span()), message));
        }
        return Ok(quote!(::ktstr::__private::SchedulerSource::BuiltIn));
    };
    if let Some((last, span)) = given.next_back() {
        let message = format!("key `{}` contradicts `{}`: give one of {}", last.name, first.name, list());
        return Err(Error::new(span, message));
    }
    let (Place::Source(variant), Some(value)) = (first.place, args.value(first.name)) else {
        return Err(Error::new(ident.span(), "the key of the program has no value"));
    };
    let (variant, value) = (format_ident!("{variant}"), first.shape.expression(value));
    Ok(quote!(::ktstr::__private::SchedulerSource::#variant(#value)))
}

/// Keys that say something of a scheduler's program.
const OF_PROGRAM: [&str; 4] = ["sched_args", "config_file", "config_file_def", "enable_timeout_s"];

/// Refuse lines that do something else than what they look like: no shell runs them.
fn check_lines(args: &Args) -> Result<()> {
    for key in ["enable", "disable"] {
        let Some(Value::Texts(lines)) = args.value(key) else { continue };
        for line in lines {
            if let Some(why) = line_fault(&line.value()) {
                let text = line.value();
                let message = format!("`{key}` has {text:?}: {why}; write it as \"echo VALUE > /path\"");
                return Err(Error::new(line.span(), message));
            }
        }
    }
    Ok(())
}

/// What shells do not take as it is outside of quotes, besides what is refused everywhere.
const UNQUOTED: [char; 11] = ['*', '?', '[', ']', '~', '#', '<', '(', ')', '{', '}'];

/// What is wrong with a line, if anything is.
fn line_fault(text: &str) -> Option<&'static str> {
    let Some((value, path)) = text.trim().strip_prefix("echo ").and_then(|rest| rest.rsplit_once('>')) else {
        return Some("it is no `echo` into a file");
    };
    let is_stream = value
        .split(' ')
        .next_back()
        .is_some_and(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()));
    let (value, path) = (value.trim(), path.trim());
    let is_quoted = |quote: char| {
        let inner = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        inner.is_some_and(|inner| !inner.contains(quote))
    };
    let is_special = |c: char| "$`\\;|&".contains(c) || c.is_control();
    if value.is_empty() || value.ends_with('>') {
        return Some("it has no value, or appends, which the kernel's files do not know");
    }
    if value.starts_with('-') {
        return Some("`echo` has no options here");
    }
    if text.contains(is_special) {
        return Some("no shell runs it, so that nothing is expanded and nothing follows");
    }
    if !is_quoted('"') && !is_quoted('\'') {
        if value.contains(['"', '\'', '>']) {
            return Some("its quotes do not go around the whole value");
        }
        if value.contains("  ") || value.contains(UNQUOTED) {
            return Some("a shell would change its blanks or signs: put quotes around the value");
        }
        if is_stream {
            return Some("a number directly before the `>` is a stream in a shell; put a blank between them");
        }
    }
    let is_path = path.starts_with('/') && !path.ends_with('/') && !path.contains([' ', '"', '\'']);
    (!is_path).then_some("it has no absolute path behind the `>`")
}

/// Refuse a configuration that would reach nobody.
fn check_config(args: &Args) -> Result<()> {
    let Some((Value::Pair(arguments, path), span)) =
        args.value("config_file_def").zip(args.span("config_file_def"))
    else {
        return Ok(());
    };
    let fault = |message: &str| Err(Error::new(span, format!("`config_file_def` {message}")));
    if args.span("config_file").is_some() {
        return fault(
            "contradicts `config_file`: the one is the same for all tests, the other is given by each",
        );
    }
    if !arguments.value().contains("{file}") {
        return fault(
            "has no `{file}` in its arguments, for the path: write it as (\"--config {file}\", \"/etc/mine.json\")",
        );
    }
    if !path.value().starts_with('/') || path.value().ends_with('/') {
        return fault("has a path in the guest that is no absolute path of a file");
    }
    Ok(())
}

/// Refuse what is no path of a cgroup.
fn check_cgroup_parent(args: &Args) -> Result<()> {
    let Some(Value::Text(path)) = args.value("cgroup_parent") else { return Ok(()) };
    let text = path.value();
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    if text.trim_matches('/').split('/').all(is_part) {
        return Ok(());
    }
    let message =
        format!("`cgroup_parent` = {text:?} is no path of a cgroup; write it as \"workload.slice/tests\"");
    Err(Error::new(path.span(), message))
}

/// Refuse what is no package with its whole version: a test is to run the same program tomorrow.
fn check_crate(package: &LitStr) -> Result<()> {
    let text = package.value();
    let version = text.split_once('@').map(|(_, version)| semver::Version::parse(version));
    let why = match version {
        Some(Ok(_)) => return Ok(()),
        Some(Err(error)) => error.to_string(),
        None => "it has no `@`".to_owned(),
    };
    let message =
        format!("`crates` = {text:?} names no version of a package: {why}; write it as \"scx_lavd@1.1.4\"");
    Err(Error::new(package.span(), message))
}

/// Refuse what is no range of kernels, `KernelRange` of `ktstr-record`: a test that is skipped everywhere checks nothing.
fn check_kernels(range: &LitStr) -> Result<()> {
    let text = range.value();
    let fault = |why: &str| {
        let message = format!(
            "`kernels` = {text:?} is no range of kernels: {why}; write it as \"7.1..\", \"..7.2\" or \"7.0..7.2\""
        );
        Err(Error::new(range.span(), message))
    };
    let Some((from, to)) = text.split_once("..") else { return fault("it has no `..`") };
    let numbers = |end: &str| -> Option<Vec<u32>> {
        let digits =
            end.split('.').all(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
        let numbers: Vec<u32> = end.split('.').filter_map(|number| number.parse().ok()).collect();
        (digits && numbers.len() == end.split('.').count() && numbers.len() <= 3).then_some(numbers)
    };
    match (from, to, numbers(from), numbers(to)) {
        ("", "", ..) => fault("it has neither end"),
        ("", _, _, Some(_)) | (_, "", Some(_), _) => Ok(()),
        (_, _, Some(first), Some(last)) => {
            let common = first.len().min(last.len());
            if first[..common] > last[..common] { fault("it is the wrong way round") } else { Ok(()) }
        }
        _ => fault("an end of it is no version of one to three numbers"),
    }
}

/// The name, if it is one that a scheduler may have.
fn check_name(name: &LitStr) -> Result<String> {
    let text = name.value();
    if text == "eevdf" {
        return Err(Error::new(
            name.span(),
            "`name` = \"eevdf\" is reserved: a test without `scheduler` runs under the kernel's own",
        ));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if text.is_empty() || !text.chars().all(plain) {
        let message = format!("`name` = {text:?} must be made of ASCII letters, digits, `_`, `-` and `.`");
        return Err(Error::new(name.span(), message));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        match expand(text.parse().expect("tokens")) {
            Ok(tokens) => panic!("`{text}` was accepted: {tokens}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_documentation_has_a_row_for_each_key() {
        let table = crate::key::doc_table(KEYS);
        assert!(
            include_str!("lib.rs").contains(&table),
            "the docs of `declare_scheduler` must have:\n{table}"
        );
    }

    #[test]
    fn what_each_key_needs_has_a_case_that_does_not_compile() {
        let cases = include_str!("../../ktstr/tests/compile_fail/scheduler_keys.rs");
        assert_eq!(crate::key::without_case(KEYS, cases), Vec::<String>::new());
    }

    #[test]
    fn visibility_and_docs_are_kept() -> Result<()> {
        let input = r#"/** Mine. */ pub(crate) S, { name = "s", binary = "scx_s" }"#;
        let text = expand(input.parse().expect("tokens"))?.to_string();
        assert!(text.contains("Mine.") && text.contains("pub (crate) const S"), "{text}");
        assert!(!text.contains("The scheduler"), "{text}");
        Ok(())
    }

    #[test]
    fn exactly_one_source_is_needed() {
        assert!(error(r#"S, { name = "s" }"#).starts_with("no program"));
        let both = error(r#"S, { name = "s", source = "a", binary = "b" }"#);
        assert!(both.starts_with("key `source` contradicts `binary`"), "{both}");
        assert_eq!(error(r#"S, { name = "s", binary = "" }"#), "`binary` is empty");
    }

    #[test]
    fn lines_switch_on_what_has_no_program() {
        let of = |keys: &str| format!(r#"S, {{ name = "s", {keys} }}"#);
        let both = r#"enable = ["echo 1 > /a"], disable = ["echo 0 > /a"]"#;
        let text = expand(of(both).parse().expect("tokens")).expect("a scheduler").to_string();
        assert!(text.contains("SchedulerSource :: BuiltIn"), "{text}");
        assert!(expand(of(&format!(r#"binary = "b", {both}"#)).parse().expect("tokens")).is_ok());
        assert!(error(&of(r#"enable = ["echo 1 > /a"]"#)).contains("`enable` needs `disable`"));
        assert!(
            error(&of(r#"binary = "b", disable = ["echo 1 > /a"]"#)).contains("`disable` needs `enable`")
        );
        assert!(
            error(&of(&format!(r#"{both}, sched_args = ["-v"]"#))).contains("`sched_args` needs a program")
        );
    }

    #[test]
    fn lines_do_what_they_look_like_or_are_refused() {
        for fine in [
            "echo 1 > /a/b",
            "echo '*  2'>/a",
            "echo +cpu a2>/a",
            "echo \"a > b\" >/a",
            "echo 'a b' > /a",
            "echo a b > /a",
        ] {
            assert_eq!(line_fault(fine), None, "{fine}");
        }
        for (odd, why) in [
            ("rm /a", "no `echo`"),
            ("echo > /a", "no value"),
            ("echo  > /a", "no value"),
            ("echo 1 >> /a", "appends"),
            ("echo -n 1 > /a", "options"),
            ("echo $X > /a", "expanded"),
            ("echo 1 > /a; true", "nothing follows"),
            ("echo \"a\"b > /a", "quotes"),
            ("echo 'a' 'b' > /a", "quotes"),
            ("echo \"a\" > \"b\" > /a", "quotes"),
            ("echo * > /a", "would change"),
            ("echo a  b > /a", "would change"),
            ("echo 2>/a", "stream"),
            ("echo 1 > a", "absolute path"),
            ("echo 1 > /a b", "absolute path"),
        ] {
            assert!(line_fault(odd).is_some_and(|fault| fault.contains(why)), "{odd}: {:?}", line_fault(odd));
        }
    }

    #[test]
    fn a_package_is_given_with_its_whole_version() {
        assert!(expand(r#"S, { name = "s", crates = "scx_s@1.2.3" }"#.parse().expect("tokens")).is_ok());
        for odd in ["scx_s", "scx_s@1.2", "scx_s@^1.2.3"] {
            let found = error(&format!(r#"S, {{ name = "s", crates = "{odd}" }}"#));
            assert!(found.contains(odd) && found.contains("scx_lavd@1.1.4"), "{found}");
        }
    }

    #[test]
    fn kernels_are_a_range() {
        let of = |range: &str| format!(r#"S, {{ name = "s", binary = "b", kernels = "{range}" }}"#);
        for range in ["7.1..", "..7.2", "6.16..7.2.4", "7.3..7"] {
            let text = expand(of(range).parse().expect("tokens")).expect("a range").to_string();
            assert!(
                text.contains(&format!("kernels : :: core :: option :: Option :: Some (\"{range}\")")),
                "{text}"
            );
        }
        for (odd, why) in [
            ("7.1", "no `..`"),
            ("..", "neither end"),
            ("7.3..7.1", "the wrong way round"),
            ("v7..", "no version"),
            ("7.1...7.2", "no version"),
            ("7.1.2.3..", "no version"),
        ] {
            let found = error(&of(odd));
            assert!(found.contains(why) && found.contains("7.1.."), "{found}");
        }
    }

    #[test]
    fn a_configuration_has_to_reach_the_scheduler() {
        let of = |keys: &str| error(&format!(r#"S, {{ name = "s", binary = "b", {keys} }}"#));
        assert!(of(r#"config_file_def = ("-c", "/etc/c")"#).contains("no `{file}`"));
        assert!(of(r#"config_file_def = ("-c {file}", "etc/c")"#).contains("no absolute path"));
        let both = of(r#"config_file = "c", config_file_def = ("-c {file}", "/etc/c")"#);
        assert!(both.contains("contradicts `config_file`"), "{both}");
        assert!(of(r#"config_file_def = ("-c {file}")"#).contains("takes two strings"));
        assert!(of(r#"sysctls = ["kernel.pid_max"]"#).contains("not of the form"));
    }

    #[test]
    fn a_cgroup_is_named_by_its_path() {
        for odd in ["/", "a//b", "../a", "a/./b"] {
            let found = error(&format!(r#"S, {{ name = "s", binary = "b", cgroup_parent = "{odd}" }}"#));
            assert!(found.contains("no path of a cgroup"), "{odd}: {found}");
        }
        let fine = r#"S, { name = "s", binary = "b", cgroup_parent = "/a.slice/b" }"#;
        assert!(expand(fine.parse().expect("tokens")).is_ok());
    }

    #[test]
    fn names_are_needed_and_plain() {
        assert!(error(r#"S, { binary = "b" }"#).starts_with("key `name` is missing"));
        assert!(error(r#"S, { name = "eevdf", binary = "b" }"#).contains("reserved"));
        assert!(error(r#"S, { name = "a b", binary = "b" }"#).contains("ASCII letters"));
    }

    #[test]
    fn llcs_must_divide_among_nodes() {
        let found = error(r#"S, { name = "s", binary = "b", topology = (2, 3, 1, 1) }"#);
        assert!(found.contains("not a multiple of its 2 NUMA nodes"), "{found}");
    }
}
