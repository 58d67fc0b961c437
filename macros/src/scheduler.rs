//! `declare_scheduler!`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, Ident, LitStr, Result, Token, Visibility, braced};

use crate::args::Args;
use crate::scheduler_keys::KEYS;

/// The keys of which exactly one says where the program comes from.
const SOURCES: [&str; 3] = ["binary", "binary_path", "source"];

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
    let Some(name) = args.text("name") else {
        return Err(Error::new(ident.span(), "key `name` is missing: what reports call the scheduler"));
    };
    check_name(name)?;
    let source = source(&ident, &args)?;
    let topology = match args.four("topology") {
        Some([numa_nodes, llcs, cores, threads]) => {
            if !llcs.is_multiple_of(numa_nodes) {
                let message = format!(
                    "`topology` has {llcs} LLCs in all, which is not a multiple of its {numa_nodes} NUMA nodes"
                );
                return Err(Error::new(args.span("topology").unwrap_or_else(|| ident.span()), message));
            }
            quote!(::core::option::Option::Some(::ktstr::__private::Topology {
                numa_nodes: #numa_nodes, llcs: #llcs, cores_per_llc: #cores, threads_per_core: #threads,
            }))
        }
        None => quote!(::core::option::Option::None),
    };
    let (sched_args, kargs) = (args.texts("sched_args"), args.texts("kargs"));
    let doc = format!("The scheduler `{}`.", name.value());
    let doc = (!attrs.iter().any(|attr| attr.path().is_ident("doc"))).then(|| quote!(#[doc = #doc]));
    Ok(quote! {
        #doc
        #(#attrs)*
        #vis const #ident: ::ktstr::__private::Scheduler = ::ktstr::__private::Scheduler {
            name: #name,
            source: #source,
            args: &[#(#sched_args),*],
            topology: #topology,
            kargs: &[#(#kargs),*],
            manifest_dir: ::core::env!("CARGO_MANIFEST_DIR"),
        };
    })
}

fn source(ident: &Ident, args: &Args) -> Result<TokenStream> {
    let given: Vec<&str> = SOURCES.into_iter().filter(|key| args.span(key).is_some()).collect();
    let [key] = given[..] else {
        let list = SOURCES.map(|key| format!("`{key}`")).join(", ");
        let (span, message) = match given.last() {
            None => (ident.span(), format!("no program: give one of {list}")),
            Some(last) => (
                args.span(last).unwrap_or_else(|| ident.span()),
                format!("key `{last}` contradicts `{}`: give one of {list}", given[0]),
            ),
        };
        return Err(Error::new(span, message));
    };
    let Some(value) = args.text(key) else {
        return Err(Error::new(ident.span(), format!("`{key}` takes a string")));
    };
    if value.value().is_empty() {
        return Err(Error::new(value.span(), format!("`{key}` is empty")));
    }
    Ok(match key {
        "binary" => quote!(::ktstr::__private::SchedulerSource::Binary(#value)),
        "binary_path" => quote!(::ktstr::__private::SchedulerSource::Path(#value)),
        _ => quote!(::ktstr::__private::SchedulerSource::CSource(#value)),
    })
}

fn check_name(name: &LitStr) -> Result<()> {
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
    Ok(())
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
