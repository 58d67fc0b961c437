//! The layers of each crate: a module uses only modules that stand above it in the list of its crate's `lib.rs`.
//!
//! The list is the declaration; this reads it, and every path that begins with `crate::` or climbs out of its module by
//! `super::`. Tests and the test support are free to use anything, and so are links in doc comments.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// The crates that have layers.
const CRATES: [&str; 3] = ["ktstr-replay", "ktstr-record", "ktstr"];

/// Modules that everything may use and that may use everything: the support of tests.
const TEST_SUPPORT: &str = "testing";

#[test]
fn no_module_uses_one_of_a_higher_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut wrong = Vec::new();
    for name in CRATES {
        wrong.extend(Crate::read(&root.join(name)).wrong());
    }
    assert!(wrong.is_empty(), "imports that go up:\n{}", wrong.join("\n"));
}

#[test]
fn the_map_of_the_code_lists_the_layers_as_they_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let map = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("the map");
    for name in CRATES {
        let head = format!("| module of `{name}` |");
        let rows = map.lines().skip_while(|line| !line.starts_with(&head)).skip(2);
        let rows = rows.take_while(|line| line.starts_with('|'));
        let listed: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap_or(row)).collect();
        assert_eq!(listed, Crate::read(&root.join(name)).order, "ARCHITECTURE.md, modules of {name}");
    }
}

#[test]
fn an_import_that_goes_up_is_found_in_whatever_form_it_is_written() {
    let order = ["low", "high"].map(str::to_owned).to_vec();
    for (text, found) in [
        ("use crate::high::Thing;", true),
        ("use crate::{high::Thing, low};", true),
        ("use super::super::high::Thing;", true),
        ("fn f() -> crate::high::Thing { todo() }", true),
        ("fn f() { crate::high::run(); }", true),
        ("fn f() { let x = vec![crate::high::NAME]; }", true),
        ("#[cfg(test)] mod tests { use crate::high::Thing; }", false),
        ("#[test] fn f() { crate::high::run(); }", false),
        ("/// See [`crate::high`].\nfn f() {}", false),
        ("use crate::low::other; use std::high::x;", false),
    ] {
        let file = SourceFile { path: "low/part.rs".into(), text: text.to_owned() };
        let crate_ = Crate { name: "c".into(), order: order.clone(), files: vec![file] };
        assert_eq!(!crate_.wrong().is_empty(), found, "{text}");
    }
}

#[test]
fn a_module_that_is_not_in_the_list_is_found() {
    let file = SourceFile { path: "stray.rs".into(), text: String::new() };
    let crate_ = Crate { name: "c".into(), order: vec!["low".to_owned()], files: vec![file] };
    assert_eq!(crate_.wrong(), ["c: stray.rs is of no module that lib.rs lists"]);
}

/// A crate's sources.
struct Crate {
    name: String,
    /// Its modules, bottom to top.
    order: Vec<String>,
    files: Vec<SourceFile>,
}

struct SourceFile {
    /// From the crate's `src` on.
    path: PathBuf,
    text: String,
}

impl Crate {
    fn read(folder: &Path) -> Self {
        let src = folder.join("src");
        let lib = std::fs::read_to_string(src.join("lib.rs")).expect("a lib.rs");
        let order = modules(&syn::parse_file(&lib).expect("Rust").items);
        assert!(order.len() > 5, "{}: {order:?}", folder.display());
        let mut files = Vec::new();
        let mut folders = vec![src.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let below = path.strip_prefix(&src).expect("below src").to_owned();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") && !is_entry(&below) {
                    let text = std::fs::read_to_string(&path).expect("text");
                    files.push(SourceFile { path: below, text });
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        Self { name, order, files }
    }

    /// A line for each import that goes up, and for each file of no listed module.
    fn wrong(&self) -> Vec<String> {
        let layer = |module: &str| self.order.iter().position(|m| m == module);
        let of_tests: Vec<_> = self.files.iter().flat_map(SourceFile::modules_of_tests).collect();
        let mut wrong = Vec::new();
        for file in &self.files {
            let parts = file.module();
            let own = parts.first().map_or("", String::as_str);
            if own == TEST_SUPPORT || of_tests.iter().any(|module| parts.starts_with(module)) {
                continue;
            }
            let Some(at) = layer(own) else {
                wrong.push(format!(
                    "{}: {} is of no module that lib.rs lists",
                    self.name,
                    file.path.display()
                ));
                continue;
            };
            for used in file.uses(&parts) {
                if layer(&used).is_some_and(|other| other > at) {
                    wrong.push(format!("{}: {} ({own}) uses {used}", self.name, file.path.display()));
                }
            }
        }
        wrong
    }
}

/// `lib.rs` itself, and programs, which stand above the library.
fn is_entry(below: &Path) -> bool {
    below == Path::new("lib.rs") || below.starts_with("bin")
}

/// The modules that are declared, in their order, those of tests aside.
fn modules(items: &[Item]) -> Vec<String> {
    let module = |item: &Item| match item {
        Item::Mod(module) if module.content.is_none() && !is_of_tests(&module.attrs) => {
            Some(module.ident.to_string())
        }
        _ => None,
    };
    items.iter().filter_map(module).filter(|module| module != TEST_SUPPORT).collect()
}

/// Whether an item is there for tests alone: `#[cfg(test)]`, `#[cfg(any(test, ...))]` or `#[test]`.
fn is_of_tests(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        attr.path().is_ident("test")
            || attr.path().is_ident("cfg")
                && attr.meta.require_list().is_ok_and(|list| {
                    list.tokens.to_string().split(|c: char| !c.is_alphanumeric()).any(|word| word == "test")
                })
    })
}

impl SourceFile {
    /// The path of its module within the crate: `kernel/maps/hash.rs` is `kernel`, `maps`, `hash`.
    fn module(&self) -> Vec<String> {
        let without = self.path.with_extension("");
        let mut parts: Vec<String> =
            without.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        if parts.last().is_some_and(|last| last == "mod") {
            parts.pop();
        }
        parts
    }

    fn parse(&self) -> syn::File {
        syn::parse_file(&self.text).unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    /// The modules with files of their own that it declares for tests alone.
    fn modules_of_tests(&self) -> Vec<Vec<String>> {
        let module = |item: &Item| match item {
            Item::Mod(module) if module.content.is_none() && is_of_tests(&module.attrs) => {
                Some([self.module(), vec![module.ident.to_string()]].concat())
            }
            _ => None,
        };
        self.parse().items.iter().filter_map(module).collect()
    }

    /// The crate's modules that it names outside of tests.
    fn uses(&self, module: &[String]) -> BTreeSet<String> {
        let mut uses = Uses { depth: module.len(), found: BTreeSet::new() };
        uses.visit_file(&self.parse());
        uses.found
    }
}

/// Collects the crate's own modules out of paths.
struct Uses {
    /// Modules that stand around the one that is looked at, itself included.
    depth: usize,
    found: BTreeSet<String>,
}

impl Uses {
    /// Note the module that a path of names begins in, if it is one of this crate.
    fn note(&mut self, names: &[String]) {
        let climbs = names.iter().take_while(|name| *name == "super").count();
        let module = match names {
            [first, module, ..] if first == "crate" => Some(module),
            // All the way up to the crate.
            _ if climbs > 0 && climbs >= self.depth => names.get(climbs),
            _ => None,
        };
        self.found.extend(module.cloned());
    }

    fn tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) => self.note(&with(&name.ident)),
            UseTree::Rename(rename) => self.note(&with(&rename.ident)),
            UseTree::Glob(_) => self.note(before),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree)),
        }
    }

    /// Paths in the arguments of a macro, which are no syntax yet.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        let mut after_crate = None;
        for token in tokens {
            match (&token, after_crate) {
                (proc_macro2::TokenTree::Group(group), _) => {
                    self.tokens(group.stream());
                    after_crate = None;
                }
                (proc_macro2::TokenTree::Ident(name), Some(2)) => {
                    self.found.insert(name.to_string());
                    after_crate = None;
                }
                (proc_macro2::TokenTree::Ident(name), _) => {
                    after_crate = (name == "crate").then_some(0);
                }
                (proc_macro2::TokenTree::Punct(sign), Some(colons)) if sign.as_char() == ':' => {
                    after_crate = Some(colons + 1);
                }
                _ => after_crate = None,
            }
        }
    }
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item(&mut self, item: &'ast Item) {
        let attrs = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if is_of_tests(attrs) {
            return;
        }
        match item {
            Item::Use(item) => self.tree(&[], &item.tree),
            Item::Mod(module) if module.content.is_some() => {
                self.depth += 1;
                visit::visit_item(self, item);
                self.depth -= 1;
            }
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&names);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.tokens(mac.tokens.clone());
        visit::visit_macro(self, mac);
    }
}
