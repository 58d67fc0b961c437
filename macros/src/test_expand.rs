//! From a function and its attributes to a `#[test]`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Error, ItemFn, Result, ReturnType, Safety, Signature};

use crate::test_attr::TestAttr;

/// The `#[test]` for `item`.
///
/// # Errors
/// A bad attribute, or a function that cannot be a test's body.
pub fn expand(attr: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let attr = TestAttr::parse(attr)?;
    let mut body: ItemFn = syn::parse2(item)?;
    check_signature(&body)?;
    let name = body.sig.ident.clone();
    let label = name.unraw().to_string();
    let Split { docs, cfgs, rest } = Split::of(std::mem::take(&mut body.attrs));
    body.attrs = rest;
    let vis = std::mem::replace(&mut body.vis, syn::Visibility::Inherited);
    let ignore = attr.ignore.then(|| quote!(#[ignore = "marked `ignore` in #[ktstr_test]"]));
    let holder = format_ident!("__KTSTR_TEST_{label}");
    let topology = topology(&attr);
    let def = definition(&attr, &name, &label);
    // The static stands outside of the test, so that a body is checked in builds without tests, too.
    Ok(quote! {
        #(#cfgs)*
        #[doc(hidden)]
        #[allow(dead_code, non_upper_case_globals)]
        static #holder: ::ktstr::__private::TestDef = {
            #body
            #topology
            #def
        };
        #(#cfgs)*
        #(#docs)*
        #[::core::prelude::v1::test]
        #ignore
        #vis fn #name() -> ::core::result::Result<(), ::ktstr::__private::TestFailure> {
            ::ktstr::__private::run(&#holder)
        }
    })
}

/// The machine's topology, put together while compiling, so that a part inherited from the scheduler that does
/// not fit is a compile error too.
fn topology(attr: &TestAttr) -> TokenStream {
    let inherited = match &attr.scheduler {
        Some(path) => quote!(#path.topology),
        None => quote!(::core::option::Option::None),
    };
    let [numa_nodes, llcs, cores, threads] = attr.topology.map(option);
    let span = attr.topology_span.unwrap_or_else(Span::call_site);
    let resolved = quote_spanned! {span=>
        ::ktstr::__private::resolve_topology(#inherited, #numa_nodes, #llcs, #cores, #threads)
    };
    quote!(const __KTSTR_TOPOLOGY: ::ktstr::__private::Topology = #resolved;)
}

fn definition(attr: &TestAttr, name: &syn::Ident, label: &str) -> TokenStream {
    let TestAttr { memory_mib, duration_s, watchdog_timeout_s, num_snapshots, seed, claims, .. } = attr;
    let TestAttr { not_starved, expect_err, allow_inconclusive, kaslr, kargs, extra_sched_args, .. } = attr;
    let scheduler = option(attr.scheduler.as_ref().map(|path| quote!(&#path)));
    let checkpoint = match attr.checkpoint.as_str() {
        "ends" => quote!(Ends),
        "never" => quote!(Never),
        _ => quote!(Every),
    };
    let pages = match attr.pages.as_str() {
        "all" => quote!(All),
        _ => quote!(Kernel),
    };
    let check = option(attr.check.as_ref().map(|path| {
        let label = path.to_token_stream().to_string().replace(' ', "");
        quote!(::ktstr::__private::Check { label: #label, run: #path })
    }));
    let include_files = option(attr.include_files.as_ref());
    let error_text = option(attr.expect_scx_error_contains.as_ref());
    quote! {
        ::ktstr::__private::TestDef {
            path: ::core::concat!(::core::module_path!(), "::", #label),
            package: ::core::env!("CARGO_PKG_NAME"),
            body: #name,
            scheduler: #scheduler,
            topology: __KTSTR_TOPOLOGY,
            memory_mib: #memory_mib,
            duration_s: #duration_s,
            watchdog_timeout_s: #watchdog_timeout_s,
            num_snapshots: #num_snapshots,
            checkpoint: ::ktstr::__private::Checkpoint::#checkpoint,
            pages: ::ktstr::__private::Pages::#pages,
            seed: #seed,
            claims: &[#(#claims),*],
            check: #check,
            not_starved: #not_starved,
            expect_err: #expect_err,
            expect_scx_error_contains: #error_text,
            allow_inconclusive: #allow_inconclusive,
            kaslr: #kaslr,
            kargs: &[#(#kargs),*],
            extra_sched_args: &[#(#extra_sched_args),*],
            include_files: #include_files,
        }
    }
}

fn option<T: ToTokens>(value: Option<T>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
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

fn check_signature(item: &ItemFn) -> Result<()> {
    let fault = |span: Span, message: &str| Err(Error::new(span, message));
    if let Some(attr) = item.attrs.iter().find(|attr| attr.path().is_ident("test")) {
        return fault(attr.span(), "#[ktstr_test] makes the `#[test]` itself: remove this one");
    }
    if let Some(attr) = item.attrs.iter().find(|attr| attr.path().is_ident("ignore")) {
        return fault(attr.span(), "write `ignore` among the keys of #[ktstr_test]");
    }
    if let Some(attr) = item.attrs.iter().find(|attr| attr.path().is_ident("should_panic")) {
        return fault(attr.span(), "a test that must fail says `expect_err` among the keys of #[ktstr_test]");
    }
    let Signature { constness, asyncness, safety, abi, generics, inputs, output, .. } = &item.sig;
    if let Some(token) = constness {
        return fault(token.span(), "the body of a test cannot be `const`");
    }
    if let Some(token) = asyncness {
        return fault(token.span(), "the body of a test cannot be `async`");
    }
    if !matches!(safety, Safety::Default) || abi.is_some() {
        return fault(item.sig.ident.span(), "the body of a test is a plain safe Rust function");
    }
    if !generics.params.is_empty() {
        return fault(generics.span(), "the body of a test cannot be generic");
    }
    if inputs.len() != 1 || item.sig.receiver().is_some() {
        let span = if inputs.is_empty() { item.sig.ident.span() } else { inputs.span() };
        return fault(span, "the body of a test takes one argument, `ctx: &Ctx`");
    }
    if matches!(output, ReturnType::Default) {
        return fault(item.sig.ident.span(), "the body of a test returns `Result<AssertResult>`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(attr: &str, item: &str) -> Result<String> {
        expand(attr.parse().expect("tokens"), item.parse().expect("tokens")).map(|tokens| tokens.to_string())
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
    fn ignore_is_emitted_only_when_asked_for() -> Result<()> {
        let item = "fn t(ctx: &Ctx) -> R { x() }";
        assert!(expanded("ignore", item)?.contains("# [ignore"));
        assert!(!expanded("ignore = false", item)?.contains("# [ignore"));
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
