//! The layers of each crate: a module uses only modules that stand above it in the list of its crate's `lib.rs`.
//!
//! The list is the declaration; this reads it, and every path that begins with `crate::` or climbs out of its module by
//! `super::`. Tests and the test support are free to use anything, and so are links in doc comments.
//!
//! And what else ARCHITECTURE.md says of the crates: on which of ours each depends, what the recorder knows of judgements, that each page
//! of the documentation is named, and how long a file may be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// The crates that have layers.
const CRATES: [&str; 3] = ["ktstr-replay", "ktstr-record", "ktstr"];

/// Folders with sources of ours.
const SOURCES: [&str; 7] = ["ktstr-replay", "ktstr-record", "guest-init", "macros", "ktstr", "tests", "fuzz"];

/// Most lines of a source file.
const MOST_LINES: usize = 600;

/// Modules of `ktstr-replay` with which runs are judged and explained.
const JUDGEMENT: [&str; 11] =
    ["series", "verdict", "claim", "judge", "view", "why", "repro", "report", "diff", "export", "slim"];

/// What of `ktstr-record` uses them: `fail_fast` asks whether a claim is broken for good, the self-test reads its own traces.
const JUDGING: [&str; 2] = ["recorder/fail_fast.rs", "selftest"];

/// Modules that everything may use and that may use everything: the support of tests.
const TEST_SUPPORT: &str = "testing";

#[test]
fn no_module_uses_one_of_a_higher_layer() {
    let mut wrong = Vec::new();
    for name in CRATES {
        wrong.extend(Crate::read(&root().join(name)).wrong());
    }
    assert!(wrong.is_empty(), "imports that go up:\n{}", wrong.join("\n"));
}

#[test]
fn no_source_file_is_longer_than_a_thought() {
    let files: Vec<_> = SOURCES.iter().flat_map(|folder| rust_files(&root().join(folder))).collect();
    assert!(files.len() > 700, "{}", files.len());
    let lines = |path: &PathBuf| std::fs::read_to_string(path).expect("text").lines().count();
    let long: Vec<_> =
        files.iter().map(|path| (path, lines(path))).filter(|(_, n)| *n > MOST_LINES).collect();
    assert!(long.is_empty(), "more than {MOST_LINES} lines; split them by thought: {long:#?}");
}

#[test]
fn the_map_of_the_code_says_what_each_crate_depends_on() {
    let map = map();
    let mut above: BTreeSet<String> = BTreeSet::new();
    for row in rows(&map, "| folder |") {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (folder, says) = (cells[1].trim_matches(['`', '/']), cells[3]);
        let Ok(manifest) = std::fs::read_to_string(root().join(folder).join("Cargo.toml")) else { continue };
        let names = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let listed = match says {
            "nothing of ours" => BTreeSet::new(),
            "all of the above" => above.clone(),
            says => names(says),
        };
        let mut of_table = "";
        let names = manifest.lines().filter_map(|line| {
            of_table = if line.starts_with('[') { line } else { of_table };
            let name = line.split(['.', ' ', '=']).next();
            name.filter(|_| of_table.ends_with("dependencies]"))
        });
        let ours: BTreeSet<String> = names
            .filter_map(|name| SOURCES.iter().find(|f| folder_of(name) == **f))
            .map(ToString::to_string)
            .collect();
        assert_eq!(listed, ours, "ARCHITECTURE.md, what {folder} depends on");
        above.insert(folder.to_owned());
    }
    assert!(above.len() >= SOURCES.len(), "{above:?}");
}

#[test]
fn the_recorder_knows_nothing_of_judgements() {
    let record = Crate::read(&root().join("ktstr-record"));
    let mut judging: BTreeSet<&str> = BTreeSet::new();
    for file in &record.files {
        let uses = file.uses_of("ktstr_replay", &file.module());
        let judges = uses.iter().any(|module| JUDGEMENT.contains(&module.as_str()));
        let may = JUDGING.iter().find(|of| file.path.starts_with(of));
        assert!(!judges || may.is_some(), "{} uses one of {uses:?}", file.path.display());
        judging.extend(may.filter(|_| judges));
    }
    assert_eq!(judging.len(), JUDGING.len(), "{judging:?}");
}

#[test]
fn the_map_names_every_page_of_the_documentation() {
    let map = map();
    let pages = std::fs::read_dir(root().join("docs"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path());
    let pages: Vec<_> = pages.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    assert!(pages.len() > 20, "{pages:?}");
    let name = |path: &PathBuf| format!("(docs/{})", path.file_name().expect("a name").to_string_lossy());
    let missing: Vec<_> = pages.iter().map(name).filter(|link| !map.contains(link)).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md does not name {missing:?}");
}

#[test]
fn the_map_of_the_code_lists_the_layers_as_they_are() {
    let (root, map) = (root(), map());
    for name in CRATES {
        let rows = rows(&map, &format!("| module of `{name}` |"));
        let listed: Vec<&str> = rows.iter().map(|row| row.split('`').nth(1).unwrap_or(row)).collect();
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

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn map() -> String {
    std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the map")
}

/// The rows of the map's table whose head begins so.
fn rows<'m>(map: &'m str, head: &str) -> Vec<&'m str> {
    let rows = map.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    rows.take_while(|line| line.starts_with('|')).collect()
}

/// The folder of a crate of ours.
fn folder_of(name: &str) -> &str {
    if name == "ktstr-macros" { "macros" } else { name }
}

/// All Rust files below a folder, without what was built there.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true if path.file_name().is_some_and(|name| name != "target") => folders.push(path),
                false if path.extension().is_some_and(|e| e == "rs") => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    files
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
        let below = |path: &PathBuf| path.strip_prefix(&src).expect("below src").to_owned();
        let modules = rust_files(&src).into_iter().filter(|path| !is_entry(&below(path)));
        let text = |path: &PathBuf| std::fs::read_to_string(path).expect("text");
        let files = modules.map(|path| SourceFile { path: below(&path), text: text(&path) }).collect();
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
        self.uses_of("crate", module)
    }

    /// The modules of the crate `root` that it names outside of tests.
    fn uses_of(&self, root: &'static str, module: &[String]) -> BTreeSet<String> {
        let mut uses = Uses { root, depth: module.len(), found: BTreeSet::new() };
        uses.visit_file(&self.parse());
        uses.found
    }
}

/// Collects the crate's own modules out of paths.
struct Uses {
    /// How paths begin that are of the crate.
    root: &'static str,
    /// Modules that stand around the one that is looked at, itself included.
    depth: usize,
    found: BTreeSet<String>,
}

impl Uses {
    /// Note the module that a path of names begins in, if it is one of this crate.
    fn note(&mut self, names: &[String]) {
        let climbs = names.iter().take_while(|name| *name == "super").count();
        let module = match names {
            [first, module, ..] if first == self.root => Some(module),
            // All the way up to the crate.
            _ if self.root == "crate" && climbs > 0 && climbs >= self.depth => names.get(climbs),
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
                    after_crate = (name == self.root).then_some(0);
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
