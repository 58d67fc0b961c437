//! Everything in the prelude is documented with an example: its own, or one that it is used in. Nothing is compiled for that; the examples
//! are the doc tests of their crates.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ktstr_tests::files_below;
use syn::{Item, UseTree};

/// The crates whose items the prelude has, as paths name them, and their folders.
const CRATES: [(&str, &str); 5] = [
    ("crate", "ktstr"),
    ("ktstr_replay", "ktstr-replay"),
    ("guest_init", "guest-init"),
    ("ktstr_macros", "macros"),
    // What the library itself exports of it.
    ("ktstr_record", "ktstr-record"),
];
/// The list of the kinds of work, from which a macro makes what the prelude has of them.
const KINDS: &str = "ktstr/src/worker/work/mod.rs";

#[test]
fn everything_in_the_prelude_has_a_docstring_with_an_example_or_is_in_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let prelude = read(&root.join("ktstr/src/prelude.rs"));
    let sources: Vec<(PathBuf, String)> = CRATES
        .iter()
        .flat_map(|(_, folder)| files_below(&root.join(folder).join("src"), ".rs"))
        .map(|path| (path.clone(), read(&path)))
        .collect();
    let examples: BTreeSet<String> = sources.iter().flat_map(|(_, text)| words(&examples(text))).collect();
    let mut lacking = Vec::new();
    let mut looked_at = 0;
    for item in exported(&prelude).into_iter().chain(kinds(&read(&root.join(KINDS)))) {
        let Some((_, folder)) = CRATES.iter().find(|(name, _)| *name == item.path[0]) else { continue };
        looked_at += 1;
        let within = root.join(folder).join("src").join(item.path.get(1).map_or("", String::as_str));
        let is_within = |path: &Path| path.starts_with(&within) || path.with_extension("") == within;
        let of = |(path, text): &(PathBuf, String)| docs_of(&item.name, path, text);
        let here = sources.iter().filter(|(path, _)| is_within(path)).find_map(of);
        // A module may have it from below.
        let docs = here.or_else(|| sources.iter().find_map(of));
        match docs {
            None => lacking.push(format!(
                "{}: no definition with a docstring below {}",
                item.name,
                within.display()
            )),
            Some(docs) if docs.contains("```") || examples.contains(&item.known_as) => {}
            Some(_) => lacking.push(format!("{}: no example", item.name)),
        }
    }
    assert!(looked_at > 80, "only {looked_at} items were found in the prelude");
    assert!(lacking.is_empty(), "in the prelude:\n{}", lacking.join("\n"));
}

/// Methods of its types, besides: an author looks for how one is called.
#[test]
fn every_method_of_what_the_prelude_has_is_in_an_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources = CRATES.iter().flat_map(|(_, folder)| files_below(&root.join(folder).join("src"), ".rs"));
    let sources: Vec<(PathBuf, String)> = sources.map(|path| (path.clone(), read(&path))).collect();
    let shown: BTreeSet<String> = sources.iter().flat_map(|(_, text)| words(&examples(text))).collect();
    let known: BTreeSet<String> = exported(&read(&root.join("ktstr/src/prelude.rs")))
        .into_iter()
        .chain(kinds(&read(&root.join(KINDS))))
        .map(|item| item.name)
        .collect();
    let (mut lacking, mut looked_at) = (Vec::new(), 0);
    for (path, text) in &sources {
        // What reads the file itself is for other programs: docs/trace-format.md has it.
        if path.components().any(|part| part.as_os_str() == "trace") {
            continue;
        }
        for (of, method) in methods(text).into_iter().filter(|(of, _)| known.contains(of)) {
            looked_at += 1;
            if !shown.contains(&method) {
                lacking.push(format!("{of}::{method} of {}", path.display()));
            }
        }
    }
    assert!(looked_at > 200, "only {looked_at} methods were found");
    assert!(lacking.is_empty(), "in no example:\n{}", lacking.join("\n"));
}

/// The public methods of a file's own `impl`s, each with the type that it is of.
fn methods(text: &str) -> Vec<(String, String)> {
    let file = syn::parse_file(text).expect("Rust");
    let mut found = Vec::new();
    for item in file.items {
        let Item::Impl(item) = item else { continue };
        let (None, syn::Type::Path(of)) = (&item.trait_, &*item.self_ty) else { continue };
        let Some(of) = of.path.segments.last() else { continue };
        for part in &item.items {
            if let syn::ImplItem::Fn(method) = part
                && matches!(method.vis, syn::Visibility::Public(_))
            {
                found.push((of.ident.to_string(), method.sig.ident.to_string()));
            }
        }
    }
    found
}

#[test]
fn what_lacks_a_docstring_or_an_example_is_found() {
    let path = Path::new("src/a.rs");
    let documented = "/// Says what.\n#[derive(Debug)]\npub struct A {\n}\n";
    assert_eq!(docs_of("A", path, documented).as_deref(), Some("Says what."));
    assert_eq!(docs_of("A", path, "pub struct A;\n"), None);
    assert_eq!(docs_of("A", path, "/// Of another.\npub struct Another;\npub struct A;\n"), None);
    assert_eq!(docs_of("A", path, "names! {\n    /// Says what.\n    A {\n").as_deref(), Some("Says what."));
    assert_eq!(docs_of("a", path, "//! A module.\n").as_deref(), Some("A module."));
    assert_eq!(examples("/// A.\n/// ```\n/// use b::B;\n/// ```\n/// C.\n"), " use b::B;\n");
    let of = |text| {
        exported(text)
            .into_iter()
            .map(|item| (item.path.join("::"), item.name, item.known_as))
            .collect::<Vec<_>>()
    };
    let text = "impl<'a> A<'a> {\n    pub fn b(&self) {}\n    pub(crate) fn c() {}\n    fn d() {}\n}\nimpl E for A<'_> {}\n";
    assert_eq!(methods(text), [("A".to_owned(), "b".to_owned())]);
    let strings = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(
        of("pub use a::{b::C, d as e};\nuse f::G;\npub use h::*;"),
        [strings("a::b", "C", "C"), strings("a", "d", "e")]
    );
}

/// Something that the prelude has.
struct Exported {
    /// Where it is from, its name excepted.
    path: Vec<String>,
    name: String,
    /// What the prelude calls it.
    known_as: String,
}

/// What is exported by name.
fn exported(text: &str) -> Vec<Exported> {
    let file = syn::parse_file(text).expect("Rust");
    let mut found = Vec::new();
    for item in file.items {
        if let Item::Use(item) = item
            && matches!(item.vis, syn::Visibility::Public(_))
        {
            leaves(&item.tree, &[], &mut found);
        }
    }
    found
}

fn leaves(tree: &UseTree, path: &[String], found: &mut Vec<Exported>) {
    let mut push = |name: &syn::Ident, known_as: &syn::Ident| {
        found.push(Exported { path: path.to_vec(), name: name.to_string(), known_as: known_as.to_string() });
    };
    match tree {
        UseTree::Path(next) => {
            let path = [path, &[next.ident.to_string()]].concat();
            leaves(&next.tree, &path, found);
        }
        UseTree::Name(leaf) => push(&leaf.ident, &leaf.ident),
        UseTree::Rename(leaf) => push(&leaf.ident, &leaf.rename),
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, path, found)),
        // Of the kinds of work, which have a list.
        UseTree::Glob(_) => {}
    }
}

/// The kinds of work: `SpinWait in spin_wait;`.
fn kinds(text: &str) -> Vec<Exported> {
    let rows =
        text.lines().filter_map(|line| line.strip_prefix("    ")?.strip_suffix(';')?.split_once(" in "));
    let found: Vec<Exported> = rows
        .map(|(name, _)| Exported {
            path: vec!["crate".to_owned(), "worker".to_owned()],
            name: name.to_owned(),
            known_as: name.to_owned(),
        })
        .collect();
    assert!(found.len() > 20, "the list of the kinds of work was not found");
    found
}

/// The docstring of an item, by its name: of a definition, of one that a macro makes of a list, or of a module.
fn docs_of(name: &str, path: &Path, text: &str) -> Option<String> {
    if path.file_stem().is_some_and(|stem| stem == name) {
        let module: Vec<&str> =
            text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
        return Some(module.join("\n")).filter(|docs| !docs.is_empty());
    }
    let mut docs: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim());
        } else if defines(line, name) && !docs.is_empty() {
            return Some(docs.join("\n"));
        } else if !line.starts_with('#') && !line.starts_with("//") {
            docs.clear();
        }
    }
    None
}

fn defines(line: &str, name: &str) -> bool {
    let words = [
        "pub struct ",
        "pub enum ",
        "pub fn ",
        "pub trait ",
        "pub type ",
        "macro_rules! ",
        "#[proc_macro_derive(",
        "",
    ];
    words.iter().any(|before| {
        let rest = line.strip_prefix(before).and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| match before.is_empty() {
            // Of a macro that makes it: `Cpu, u32`, `RqField {`.
            true => rest == " {" || rest.starts_with(", "),
            false => !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'),
        })
    })
}

/// The code of all examples of a file.
fn examples(text: &str) -> String {
    let (mut code, mut inside) = (String::new(), false);
    for line in text.lines().map(str::trim) {
        let Some(doc) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            inside = false;
            continue;
        };
        if doc.trim().starts_with("```") {
            inside = !inside;
        } else if inside {
            code.push_str(doc);
            code.push('\n');
        }
    }
    code
}

fn words(code: &str) -> Vec<String> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.split(|letter| !is_part(letter)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
