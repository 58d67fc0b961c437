//! From a function and its attributes to a `#[test]`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Attribute, Error, Ident, LitStr, Result, ReturnType, Safety, Signature, Visibility};

use crate::args::Args;
use crate::key::Place;
use crate::presets::PRESETS;
use crate::shape::Value;
use crate::test_keys::{self, KEYS};

/// The `#[test]` for `item`; with `variants` also those of it on the machines of the gauntlet.
///
/// What it expands to is compiled for each test of a file, so that it is little: one static, whose checks are part of its own
/// evaluation, with the fields that differ from those of a test without attributes. What needs nothing but the scheduler is one call:
/// each costs the compiler as much as ten fields.
///
/// # Errors
/// A bad attribute, or a function that cannot be a test's body.
pub fn expand(attr: TokenStream, item: TokenStream, variants: bool) -> Result<TokenStream> {
    let args = Args::parse2(attr, KEYS)?;
    test_keys::check(&args)?;
    let Function { attrs, vis, sig, block } = syn::parse2(item)?;
    check_signature(&attrs, &sig)?;
    let name = sig.ident.clone();
    let label = name.unraw().to_string();
    let Split { docs, cfgs, rest } = Split::of(attrs);
    let is_ignored = args.is_set("ignore");
    let ignored = is_ignored.then(|| quote!(ignored: true,));
    let ignore = is_ignored.then(|| quote!(#[ignore = "marked `ignore` in #[ktstr_test]"]));
    let holder = format_ident!("__KTSTR_TEST_{label}");
    let topology = topology_field(&args)?;
    let fields = args.given_fields()?;
    let staged_check = staged_check(&args);
    let (limits, constraints) = (setters(&args, Place::Limit), setters(&args, Place::Constraint));
    let inherited_check = inherited_check(&args, &constraints);
    let assert = (!limits.is_empty()).then(|| quote!(assert: ::ktstr::__private::Assert::NONE #limits,));
    let bounds = (!constraints.is_empty())
        .then(|| quote!(constraints: ::ktstr::__private::Constraints::NONE #constraints,));
    let may_vary = !is_ignored && !args.is_set("host_only");
    let gauntlet = (may_vary && variants).then(|| gauntlet(&label, &holder, &cfgs));
    // Names the variable to the compiler, and so to cargo, which compiles the file again where its value is another one.
    let depends = may_vary.then(|| quote!(let _ = ::core::option_env!(#VARIANTS);));
    let payloads = payloads(&args);
    let [package, manifest_dir] = ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR"].map(of_cargo);
    // The static stands outside of the test, so that a body is checked in builds without tests, too.
    Ok(quote! {
        #(#cfgs)*
        #[doc(hidden)]
        #[allow(dead_code, non_upper_case_globals)]
        static #holder: ::ktstr::__private::TestDef = {
            #(#rest)*
            #sig #block
            #depends
            #inherited_check
            #staged_check
            ::ktstr::__private::TestDef {
                path: ::core::concat!(::core::module_path!(), "::", #label),
                // By which the test is found in the binary.
                mark: ::core::concat!("\u{1}ktstr::test\u{1}", ::core::module_path!(), "::", #label, "\u{1}"),
                package: #package,
                manifest_dir: #manifest_dir,
                body: #name,
                #topology
                #assert
                #bounds
                #ignored
                #payloads
                #fields
                ..::ktstr::__private::TestDef::NEW
            }
        };
        #(#cfgs)*
        #(#docs)*
        #[::core::prelude::v1::test]
        #ignore
        #vis fn #name() -> ::core::result::Result<(), ::ktstr::__private::TestFailure> {
            ::ktstr::__private::run(&#holder)
        }
        #gauntlet
    })
}

/// What cargo says of the package in this variable: it says it to the compiler, and so to this macro.
fn of_cargo(variable: &str) -> TokenStream {
    std::env::var(variable).map_or_else(|_| quote!(::core::env!(#variable)), |text| quote!(#text))
}

/// Variable with which the variants of tests are compiled.
const VARIANTS: &str = "KTSTR_GAUNTLET";

/// Whether the variants of tests are to be compiled. They are sixteen functions for each test, which few builds run.
pub fn wants_variants() -> bool {
    std::env::var_os(VARIANTS).is_some_and(|value| !value.is_empty() && value != "0")
}

/// The description of a test without attributes: each field with the default of its row.
///
/// # Errors
/// A default that its own shape does not take.
pub fn defaults() -> Result<TokenStream> {
    let none = Args::parse2(TokenStream::new(), KEYS)?;
    let (topology, fields) = (topology(&none)?, none.fields()?);
    Ok(quote! {
        ::ktstr::__private::TestDef {
            path: "",
            mark: "",
            package: "",
            manifest_dir: "",
            body: |_| ::anyhow::bail!("a test without a body"),
            topology: #topology,
            assert: ::ktstr::__private::Assert::NONE,
            constraints: ::ktstr::__private::Constraints::NONE,
            ignored: false,
            payloads: &[],
            #fields
        }
    })
}

/// A function, with its body as it is written: the compiler reads that anyway.
struct Function {
    attrs: Vec<Attribute>,
    vis: Visibility,
    sig: Signature,
    block: TokenStream,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        Ok(Self { attrs, vis: input.parse()?, sig: input.parse()?, block: input.parse()? })
    }
}

/// A call of the method of its name for each key with this place that is given.
fn setters(args: &Args, place: Place) -> TokenStream {
    let rows = args.at(|of| of == place);
    rows.filter_map(|key| Some((key, args.value(key.name)?)))
        .map(|(key, value)| {
            let (name, value) = (format_ident!("{}", key.name), key.shape.expression(value));
            quote!(.#name(#value))
        })
        .collect()
}

/// There is a machine between the bounds, where test or scheduler set any, and the test gives a configuration exactly where the scheduler
/// wants one. A fault is one of the key that was given, or else of the scheduler.
fn inherited_check(args: &Args, setters: &TokenStream) -> TokenStream {
    let bounds = args.at(|place| place == Place::Constraint).find_map(|key| args.span(key.name));
    let config = args.span("config");
    let of_test = |scheduler: TokenStream| {
        bounds.map(|span| {
            quote_spanned! {span=>
                ::ktstr::__private::check_constraints(
                    #scheduler, ::ktstr::__private::Constraints::NONE #setters
                );
            }
        })
    };
    let (Some(Value::Path(scheduler)), Some(span)) = (args.value("scheduler"), args.span("scheduler")) else {
        return of_test(quote!(::core::option::Option::None)).unwrap_or_default();
    };
    if bounds.is_none() && config.is_none() {
        return quote_spanned!(span=> ::ktstr::__private::check_inherited(&#scheduler););
    }
    let (is_given, config) = (config.is_some(), config.unwrap_or(span));
    let config = quote_spanned!(config=> ::ktstr::__private::check_config(&#scheduler, #is_given););
    let bounds = of_test(quote!(#scheduler.constraints));
    let bounds = bounds.unwrap_or_else(|| {
        quote_spanned!(span=> ::ktstr::__private::check_constraints(#scheduler.constraints, ::ktstr::__private::Constraints::NONE);)
    });
    quote!(#config #bounds)
}

/// The variants of a test, one for each machine: ignored tests in a module that is named after the test.
fn gauntlet(label: &str, holder: &Ident, cfgs: &[Attribute]) -> TokenStream {
    let module = format_ident!("gauntlet_{label}");
    let variants = PRESETS.iter().enumerate().map(|(index, (name, _))| {
        let function = format_ident!("{name}");
        quote! {
            #[::core::prelude::v1::test]
            #[ignore = "of the gauntlet: cargo ktstr test --gauntlet"]
            fn #function() -> ::core::result::Result<(), ::ktstr::__private::TestFailure> {
                let path = ::core::concat!(::core::module_path!(), "::", #name);
                ::ktstr::__private::run_variant(&super::#holder, path, #index)
            }
        }
    });
    quote! {
        #[cfg(test)]
        #(#cfgs)*
        #[doc(hidden)]
        #[allow(non_snake_case)]
        mod #module {
            #(#variants)*
        }
    }
}

/// The field of the topology, where it is not that of all tests.
fn topology_field(args: &Args) -> Result<Option<TokenStream>> {
    let given = args.at(|place| place == Place::Topology).any(|key| args.span(key.name).is_some());
    if !given {
        let Some(Value::Path(scheduler)) = args.value("scheduler") else { return Ok(None) };
        return Ok(Some(quote!(topology: ::ktstr::__private::inherit_topology(&#scheduler),)));
    }
    let topology = topology(args)?;
    // In the static itself, so that a part inherited from the scheduler that does not fit is a compile error too.
    Ok(Some(quote!(topology: #topology,)))
}

/// The machine's topology: each part from the test, else from the scheduler, else the row's default.
fn topology(args: &Args) -> Result<TokenStream> {
    let inherited = match args.value("scheduler") {
        Some(Value::Path(scheduler)) => quote!(#scheduler.topology),
        _ => quote!(::core::option::Option::None),
    };
    let rows = || args.at(|place| place == Place::Topology);
    let given = rows().map(|key| match args.value(key.name) {
        Some(value) => {
            let value = key.shape.expression(value);
            quote!(::core::option::Option::Some(#value))
        }
        None => quote!(::core::option::Option::None),
    });
    let defaults = rows().map(|key| key.default_expression()).collect::<Result<Vec<_>>>()?;
    // The key to blame when the parts do not fit together.
    let span = args.span("llcs").or_else(|| args.span("numa_nodes")).unwrap_or_else(Span::call_site);
    Ok(quote_spanned! {span=>
        ::ktstr::__private::resolve_topology(#inherited, [#(#given),*], [#(#defaults),*])
    })
}

/// All that the schedulers that may take the place of the first one declare is had by them: of themselves, or as the first one or the test
/// has it, too.
fn staged_check(args: &Args) -> TokenStream {
    let (Some(Value::Path(scheduler)), Some(Value::Paths(staged)), Some(span)) =
        (args.value("scheduler"), args.value("staged_schedulers"), args.span("staged_schedulers"))
    else {
        return TokenStream::new();
    };
    let (kargs, sysctls) = (texts(args, "kargs"), texts(args, "sysctls"));
    quote_spanned! {span=>
        ::ktstr::__private::check_staged(&#scheduler, &[#(&#staged),*], &[#(#kargs),*], &[#(#sysctls),*]);
    }
}

/// The texts of a list, if it was given.
fn texts<'a>(args: &'a Args, key: &str) -> &'a [LitStr] {
    match args.value(key) {
        Some(Value::Texts(texts)) => texts.as_slice(),
        _ => &[],
    }
}

/// The field with the payloads of the test, which are checked while it is compiled.
fn payloads(args: &Args) -> Option<TokenStream> {
    let paths = test_keys::payloads(args);
    if paths.is_empty() {
        return None;
    }
    let definitions =
        paths.into_iter().map(|path| quote_spanned!(path.span()=> ::ktstr::__private::definition_of(&#path)));
    let span = args.span("workloads").unwrap_or_else(Span::call_site);
    Some(quote_spanned! {span=>
        payloads: {
            const PAYLOADS: &[&::ktstr::__private::PayloadDef] = &[#(#definitions),*];
            const _: () = ::ktstr::__private::check_payloads(PAYLOADS);
            PAYLOADS
        },
    })
}

/// A function's attributes by where they belong.
struct Split {
    /// To the test that the harness sees.
    docs: Vec<Attribute>,
    /// To everything.
    cfgs: Vec<Attribute>,
    /// To the body.
    rest: Vec<Attribute>,
}

impl Split {
    fn of(attrs: Vec<Attribute>) -> Self {
        let (docs, others): (Vec<_>, Vec<_>) =
            attrs.into_iter().partition(|attr| attr.path().is_ident("doc"));
        let (cfgs, rest) = others.into_iter().partition(|attr| attr.path().is_ident("cfg"));
        Self { docs, cfgs, rest }
    }
}

fn check_signature(attrs: &[Attribute], sig: &Signature) -> Result<()> {
    let fault = |span: Span, message: &str| Err(Error::new(span, message));
    if let Some(attr) = attrs.iter().find(|attr| attr.path().is_ident("test")) {
        return fault(attr.span(), "#[ktstr_test] makes the `#[test]` itself: remove this one");
    }
    if let Some(attr) = attrs.iter().find(|attr| attr.path().is_ident("ignore")) {
        return fault(attr.span(), "write `ignore` among the keys of #[ktstr_test]");
    }
    if let Some(attr) = attrs.iter().find(|attr| attr.path().is_ident("should_panic")) {
        return fault(attr.span(), "a test that must fail says `expect_err` among the keys of #[ktstr_test]");
    }
    let Signature { constness, asyncness, safety, abi, generics, inputs, output, ident, .. } = sig;
    if let Some(token) = constness {
        return fault(token.span(), "the body of a test cannot be `const`");
    }
    if let Some(token) = asyncness {
        return fault(token.span(), "the body of a test cannot be `async`");
    }
    if !matches!(safety, Safety::Default) || abi.is_some() {
        return fault(ident.span(), "the body of a test is a plain safe Rust function");
    }
    if !generics.params.is_empty() {
        return fault(generics.span(), "the body of a test cannot be generic");
    }
    if inputs.len() != 1 || sig.receiver().is_some() {
        let span = if inputs.is_empty() { ident.span() } else { inputs.span() };
        return fault(span, "the body of a test takes one argument, `ctx: &Ctx`");
    }
    if matches!(output, ReturnType::Default) {
        return fault(ident.span(), "the body of a test returns `Result<AssertResult>`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(attr: &str, item: &str) -> Result<String> {
        of(attr, item, true)
    }

    fn of(attr: &str, item: &str, variants: bool) -> Result<String> {
        let (attr, item) = (attr.parse().expect("tokens"), item.parse().expect("tokens"));
        expand(attr, item, variants).map(|tokens| tokens.to_string())
    }

    #[test]
    fn docs_go_to_the_test_cfg_to_all_and_the_rest_to_the_body() -> Result<()> {
        let text = expanded("", "/// Doc.\n#[cfg(unix)] #[inline] fn t(ctx: &Ctx) -> R { x() }")?;
        let (holder, test) = text.split_once("# [:: core :: prelude").expect("the test");
        let (held, docs) = holder.rsplit_once("} ;").expect("the end of the static");
        assert!(held.contains("cfg (unix)") && held.contains("inline") && !held.contains("Doc."), "{held}");
        assert!(docs.contains("cfg (unix)") && docs.contains("Doc."), "{docs}");
        assert!(!test.contains("inline"), "{test}");
        Ok(())
    }

    #[test]
    fn only_limits_that_are_given_are_set() -> Result<()> {
        let item = "fn t(ctx: &Ctx) -> R { x() }";
        let text =
            expanded("not_starved = false, max_imbalance_ratio = 2, scheduler = S, max_gap_ms = 5", item)?;
        assert!(
            text.contains("NONE . not_starved (false) . max_gap_ms (5) . max_imbalance_ratio (2.0) ,"),
            "{text}"
        );
        assert!(!expanded("", item)?.contains("Assert"));
        Ok(())
    }

    #[test]
    fn what_staged_schedulers_declare_is_compared_with_what_the_test_gives() -> Result<()> {
        let item = "fn t(ctx: &Ctx) -> R { x() }";
        let keys = r#"scheduler = A, staged_schedulers = [B, C], kargs = ["quiet"]"#;
        let text = expanded(keys, item)?.replace(' ', "");
        assert!(text.contains(r#"check_staged(&A,&[&B,&C],&["quiet"],&[]);"#), "{text}");
        Ok(())
    }

    #[test]
    fn what_test_and_scheduler_say_together_is_checked_once() -> Result<()> {
        for (keys, checks) in [
            ("", [0, 0, 0]),
            ("scheduler = S", [1, 0, 0]),
            ("scheduler = S, min_llcs = 2", [0, 1, 1]),
            ("scheduler = S, config = \"x\"", [0, 1, 1]),
            ("scheduler = S, config = \"x\", max_cpus = 2", [0, 1, 1]),
            ("min_llcs = 2", [0, 0, 1]),
        ] {
            let text = of(keys, "fn t(ctx: &Ctx) -> R { x() }", false)?;
            let said = ["inherited", "config", "constraints"]
                .map(|check| text.matches(&format!("check_{check} (")).count());
            assert_eq!(said, checks, "{keys}: {text}");
        }
        Ok(())
    }

    #[test]
    fn ignore_is_emitted_only_when_asked_for() -> Result<()> {
        let item = "fn t(ctx: &Ctx) -> R { x() }";
        assert!(expanded("ignore", item)?.contains("# [ignore = \"marked"));
        assert!(!expanded("ignore = false", item)?.contains("# [ignore = \"marked"));
        Ok(())
    }

    #[test]
    fn a_test_has_an_ignored_variant_for_each_machine_and_one_that_is_ignored_has_none() -> Result<()> {
        let item = "#[cfg(unix)] fn t(ctx: &Ctx) -> R { x() }";
        let text = expanded("", item)?;
        let (_, gauntlet) = text.split_once("mod gauntlet_t {").expect("the module");
        assert_eq!(gauntlet.matches("# [ignore = \"of the gauntlet").count(), PRESETS.len());
        assert!(gauntlet.contains("fn llcs1_cpus4 ()"), "{gauntlet}");
        assert_eq!(text.matches("cfg (unix)").count(), 3, "{text}");
        assert!(!expanded("ignore", item)?.contains("gauntlet_t"));
        assert!(!expanded("host_only", item)?.contains("gauntlet_t"));
        // Without them it still says what decides of them.
        let without = of("", item, false)?;
        assert!(
            !without.contains("gauntlet_t") && without.contains("option_env ! (\"KTSTR_GAUNTLET\")"),
            "{without}"
        );
        Ok(())
    }

    #[test]
    fn what_is_as_in_every_test_is_not_said_again() -> Result<()> {
        let item = "fn t(ctx: &Ctx) -> R { x() }";
        let text = of("seed = 7", item, false)?;
        assert!(
            text.contains("seed : 7 ,") && text.contains(".. :: ktstr :: __private :: TestDef :: NEW"),
            "{text}"
        );
        let said = ["duration_s", "topology", "constraints", "payloads", "ignored", "check_"];
        assert!(said.iter().all(|field| !text.contains(field)), "{text}");
        let under = of("scheduler = S", item, false)?;
        assert_eq!(under.matches("check_").count(), 1, "{under}");
        let all = defaults()?.to_string();
        assert!(
            ["duration_s : 12 ,", "seed : 1 ,", "payloads : & [] ,"].iter().all(|field| all.contains(field)),
            "{all}"
        );
        Ok(())
    }

    #[test]
    fn functions_that_cannot_be_bodies_are_refused() {
        for (item, why) in [
            ("fn t() -> R {}", "takes one argument"),
            ("fn t(a: &Ctx, b: u8) -> R {}", "takes one argument"),
            ("fn t(ctx: &Ctx) {}", "returns `Result<AssertResult>`"),
            ("async fn t(ctx: &Ctx) -> R {}", "cannot be `async`"),
            ("unsafe fn t(ctx: &Ctx) -> R {}", "plain safe"),
            ("fn t<T>(ctx: &Ctx) -> R {}", "cannot be generic"),
            ("#[test] fn t(ctx: &Ctx) -> R {}", "remove this one"),
            ("#[ignore] fn t(ctx: &Ctx) -> R {}", "write `ignore`"),
            ("#[should_panic] fn t(ctx: &Ctx) -> R {}", "expect_err"),
        ] {
            let error = expanded("", item).expect_err(item).to_string();
            assert!(error.contains(why), "{item}: {error}");
        }
    }
}
